/**
 * What tells how a track is played (ISO 14496-12, 8.4.4): where its samples lie and how they are coded. Beside that, programs
 * put here where a film lay on somebody's disk, the name of the encoder, and boxes that belong elsewhere.
 */
import { type Box, blankHandlerName, blankRange, eachBox, filterBoxes, freeBox, keepBoxes } from './boxes.ts';
import type { Changes } from './changes.ts';
import { bytes, Unstrippable, type Walk } from './walk.ts';

const words = (text: string) => new Set(text.split(' '));

const kept = words('vmhd smhd hmhd nmhd sthd gmhd hdlr dinf stbl');
const keptInData = words('dref');
const keptInTables = words(
  'stsd stts ctts cslg stsc stsz stz2 stco co64 stss stsh padb stdp sdtp sbgp sgpd subs saiz saio senc stps',
);
/** What stands among descriptions of samples and describes none. */
const foreign = words('udta uuid meta free skip');

/** Version and flags, and how many entries follow. */
const LIST_HEAD = 8;
const FULL_BOX = 4;
/** Of a description of pictures: where the name of the encoder stands, how long it is, where boxes begin. */
const ENCODER_AT = 42;
const ENCODER_LENGTH = 32;
const BOXES_OF_PICTURES = 78;
/** Of one of sound, in its first version. */
const BOXES_OF_SOUND = 28;

export function* freeInMediaInformation(information: Box, changes: Changes): Walk<void> {
  let media: 'pictures' | 'sound' | undefined;
  yield* keepBoxes(information, information.body, kept, changes, function* (box) {
    if (box.type === 'vmhd') media = 'pictures';
    else if (box.type === 'smhd') media = 'sound';
    else if (box.type === 'hdlr') yield* blankHandlerName(box, changes);
    else if (box.type === 'dinf') yield* keepBoxes(box, box.body, keptInData, changes, (list) => places(list, changes));
    else if (box.type === 'stbl')
      yield* keepBoxes(box, box.body, keptInTables, changes, (table) =>
        table.type === 'stsd' ? descriptions(table, media, changes) : undefined,
      );
  });
}

/** Where samples lie: in this file, in whatever words. What lies elsewhere is not served. */
function* places({ body, end }: Box, changes: Changes): Walk<void> {
  yield* filterBoxes(Math.min(body + LIST_HEAD, end), end, changes, (box) =>
    blankRange(Math.min(box.body + FULL_BOX, box.end), box.end, changes),
  );
}

function* descriptions({ body, end }: Box, media: 'pictures' | 'sound' | undefined, changes: Changes): Walk<void> {
  yield* filterBoxes(Math.min(body + LIST_HEAD, end), end, changes, function* (entry) {
    if (foreign.has(entry.type)) return yield* freeBox(entry, changes);
    if (media === 'pictures' && entry.end - entry.body >= BOXES_OF_PICTURES) {
      const encoder = entry.body + ENCODER_AT;
      yield* blankRange(encoder, encoder + ENCODER_LENGTH, changes);
      yield* freeForeign(entry, BOXES_OF_PICTURES, changes);
    } else if (media === 'sound' && entry.end - entry.body >= BOXES_OF_SOUND) {
      const version = (yield* bytes(entry.body + 8, 2)).readUInt16BE(0);
      if (version === 0) yield* freeForeign(entry, BOXES_OF_SOUND, changes);
    }
  });
}

/** QuickTime may have something else there than boxes, a table of colours, which stays. */
function* freeForeign({ body, end }: Box, boxesAt: number, changes: Changes): Walk<void> {
  try {
    yield* eachBox(body + boxesAt, end, (box) => (foreign.has(box.type) ? freeBox(box, changes) : undefined));
  } catch (error) {
    if (!(error instanceof Unstrippable)) throw error;
  }
}
