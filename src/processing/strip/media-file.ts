/**
 * Pictures and films in boxes: HEIC, HEIF, AVIF, MP4, QuickTime, M4A. Of each box that holds others, those stay that show or
 * play something; the rest, named or not, becomes free space: user data (the place of a film), keys, XMP, C2PA, previews,
 * appended films. What free space holds already goes too, and so do the times at which a film was made.
 *
 * A track of timed metadata (the places of an action camera, the sensors of a telephone) goes with its samples. What lies
 * within coded pictures and sound stays, and so do subtitles.
 */
import { type Box, blankHandlerName, blankRange, filterBoxes, findBox, freeBox, keepBoxes } from './boxes.ts';
import type { Changes } from './changes.ts';
import { freeItems, isOfPictures } from './items.ts';
import { blankRanges, type Range } from './media-data.ts';
import { freeInMediaInformation } from './media-information.ts';
import { samplesOf } from './samples.ts';
import { bytes, isBlank, Unstrippable, type Walk } from './walk.ts';

const words = (text: string) => new Set(text.split(' '));

/** What stays as it is, of the boxes that hold boxes. */
const keptInFile = words('ftyp styp mdat imda sidx ssix pdin');
const keptInMovie = words('iods mvex pssh ctab clip');
const keptInTrack = words('tref trgr clip matt load imap txas tapt ludt');
const keptInMedia = words('elng');
const keptInEdits = words('elst');
const keptInRandomAccess = words('tfra mfro');
const keptInFragment = words('mfhd');
const keptInTrackFragment = words('tfhd trun tfdt sbgp sgpd saiz saio senc subs');

/** Media of which a track may be. The others, `meta` above all, are about the film and no part of it. */
const keptMedia = words('vide soun subt sbtl text clcp auxv pict hint tmcd odsm sdsm');

/** What is known of the whole file at its end. */
interface Film {
  size: number;
  changes: Changes;
  mediaData: Range[];
  isFragmented: boolean;
  metadataTracks: Box[];
}

export function* mediaFile(size: number, changes: Changes): Walk<void> {
  const film: Film = { size, changes, mediaData: [], isFragmented: false, metadataTracks: [] };
  let pictures: Box | undefined;
  let hasMovie = false;
  yield* filterBoxes(0, size, changes, function* (box) {
    if (box.type === 'mdat' || box.type === 'imda') film.mediaData.push({ from: box.body, to: box.end });
    hasMovie ||= box.type === 'moov';
    if (box.type === 'moov') yield* movie(box, film);
    else if (box.type === 'moof') yield* fragment(box, film);
    else if (!pictures && box.type === 'meta' && (yield* isOfPictures(box))) pictures = box;
    else if (box.type === 'mfra') yield* keepBoxes(box, box.body, keptInRandomAccess, changes);
    else if (box.type === 'wide') yield* blankRange(box.body, box.end, changes);
    else if (!keptInFile.has(box.type)) yield* freeOrCut(box, film);
  });
  if (pictures) yield* freeItems(pictures, film.mediaData, !hasMovie && !film.isFragmented, changes);
  yield* freeTracks(film);
}

function* freeTracks({ metadataTracks, isFragmented, mediaData, changes }: Film): Walk<void> {
  if (isFragmented && metadataTracks.length > 0)
    throw new Unstrippable('The film has a track of metadata in fragments.');
  const samples: Range[] = [];
  for (const track of metadataTracks) {
    for (const range of yield* samplesOf(track)) samples.push(range);
    yield* freeBox(track, changes);
  }
  yield* blankRanges(samples, mediaData, changes);
}

/** At the end of the file nothing follows that would move. */
function* freeOrCut(box: Box, { size, changes }: Film): Walk<void> {
  const isFree = box.type === 'free' || box.type === 'skip';
  if (box.end === size && !(isFree && (yield* isBlank(box.body, box.end)))) changes.cut(box.at, size);
  else yield* freeBox(box, changes);
}

function* movie(movieBox: Box, film: Film): Walk<void> {
  yield* filterBoxes(movieBox.body, movieBox.end, film.changes, function* (box) {
    film.isFragmented ||= box.type === 'mvex';
    if (box.type === 'cmov') throw new Unstrippable('The film has a compressed index.');
    if (box.type === 'mvhd') yield* blankTimes(box, film.changes);
    else if (box.type === 'trak') yield* track(box, film);
    else if (!keptInMovie.has(box.type)) yield* freeBox(box, film.changes);
  });
}

function* track(trackBox: Box, film: Film): Walk<void> {
  if (!keptMedia.has(yield* mediaOf(trackBox))) {
    film.metadataTracks.push(trackBox);
    return;
  }
  yield* filterBoxes(trackBox.body, trackBox.end, film.changes, function* (box) {
    if (box.type === 'tkhd') yield* blankTimes(box, film.changes);
    else if (box.type === 'mdia') yield* media(box, film);
    else if (box.type === 'edts') yield* keepBoxes(box, box.body, keptInEdits, film.changes);
    else if (!keptInTrack.has(box.type)) yield* freeBox(box, film.changes);
  });
}

function* mediaOf(trackBox: Box): Walk<string> {
  const handler = yield* findBox(trackBox, 'mdia', 'hdlr');
  if (!handler || handler.end - handler.body < 12) throw new Unstrippable('The film has a track that cannot be read.');
  return (yield* bytes(handler.body + 8, 4)).toString('latin1');
}

function* media(mediaBox: Box, { changes }: Film): Walk<void> {
  yield* filterBoxes(mediaBox.body, mediaBox.end, changes, function* (box) {
    if (box.type === 'mdhd') yield* blankTimes(box, changes);
    else if (box.type === 'hdlr') yield* blankHandlerName(box, changes);
    else if (box.type === 'minf') yield* freeInMediaInformation(box, changes);
    else if (!keptInMedia.has(box.type)) yield* freeBox(box, changes);
  });
}

/** When something was made and changed, in seconds: two numbers of 32 bits, in version 1 of 64. Zero says that it is unknown. */
function* blankTimes({ body, end }: Box, changes: Changes): Walk<void> {
  const version = end - body < 4 ? 0 : (yield* bytes(body, 1)).readUInt8(0);
  yield* blankRange(Math.min(body + 4, end), Math.min(body + (version === 1 ? 20 : 12), end), changes);
}

function* fragment(fragmentBox: Box, film: Film): Walk<void> {
  const { changes } = film;
  film.isFragmented = true;
  yield* filterBoxes(fragmentBox.body, fragmentBox.end, changes, function* (box) {
    if (box.type !== 'traf') return keptInFragment.has(box.type) ? undefined : yield* freeBox(box, changes);
    yield* filterBoxes(box.body, box.end, changes, function* (inner) {
      if (!keptInTrackFragment.has(inner.type)) yield* freeBox(inner, changes);
    });
  });
}
