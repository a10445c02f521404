/** Facts, posters and waveforms of films and sound. */
import type { MadeDerivatives, MadeFile, Maker, MakerWork, WantedDerivative } from '../maker.ts';
import { ToolError } from '../tools/tool-error.ts';
import type { MediaFacts } from './facts.ts';
import { isFilm, isMedia, type MediaFile } from './input.ts';
import { POSTER_SIZE, poster } from './poster.ts';
import { probe } from './probe.ts';
import { toFacts, toMediaFacts } from './record.ts';
import { waveform } from './waveform.ts';
import { PICTURE_HEIGHT, PICTURE_WIDTH, waveformPicture } from './waveform-picture.ts';

/** Seconds for what headers tell. */
const HEADERS = 30;

export const mediaMaker: Maker = {
  accepts: isMedia,
  readFacts: async (work) => ({ facts: toFacts(await mediaFacts(work)) }),
  defaults: (mediaType) =>
    isFilm(mediaType)
      ? { poster: { width: POSTER_SIZE, height: POSTER_SIZE }, thumbnail: {} }
      : { waveform: {}, 'waveform-picture': {} },
  make: async (wanted, work) => {
    const isOfSound = (name: string) => name === 'waveform' || name === 'waveform-picture';
    const [ofSound, pictures] = [
      [...wanted.keys()].filter(isOfSound),
      [...wanted].filter(([name]) => !isOfSound(name)),
    ];
    const facts = work.asset.facts ? toMediaFacts(work.asset.facts) : await mediaFacts(work);
    const heard = await orReason(ofSound, () => soundOf(ofSound, facts, work));
    const seen = await orReason(
      pictures.map(([name]) => name),
      () => picturesOf(new Map(pictures), facts, work),
    );
    return { ...seen, made: new Map([...heard.made, ...seen.made]) };
  },
};

/** By ffprobe; where it is not installed, by what headers tell. */
async function mediaFacts(work: MakerWork): Promise<MediaFacts> {
  const { tools, signal, asset } = work;
  const sandbox = await tools.sandbox;
  if (sandbox.has('ffprobe')) return probe(sandbox, fileOf(work), { signal });
  const { path, ...input } = fileOf(work);
  const task = { module: 'sound', input, file: path } as const;
  return tools.pool.run<MediaFacts>(task, { seconds: HEADERS, signal, callerId: asset.ownerId });
}

function fileOf({ asset: { mediaType, size }, file: { path } }: MakerWork): MediaFile {
  return { path, mediaType, size };
}

/** A film without sound has a poster all the same: what the tools refuse is the reason for these names alone. */
async function orReason(names: string[], make: () => Promise<MadeDerivatives>): Promise<MadeDerivatives> {
  if (names.length === 0) return { made: new Map() };
  try {
    return await make();
  } catch (error) {
    if (!(error instanceof ToolError) || error.fault === 'aborted') throw error;
    return { made: new Map(names.map((name) => [name, error.fault])) };
  }
}

async function soundOf(names: string[], facts: MediaFacts, work: MakerWork): Promise<MadeDerivatives> {
  const found = await waveform(await work.tools.sandbox, fileOf(work), facts, { signal: work.signal });
  const drawn = (): MadeFile => ({
    ...{ content: Buffer.from(waveformPicture(found)), mediaType: 'image/svg+xml' },
    ...{ width: PICTURE_WIDTH, height: PICTURE_HEIGHT },
  });
  const told = (): MadeFile => ({ content: Buffer.from(JSON.stringify(found)), mediaType: 'application/json' });
  return { made: new Map(names.map((name) => [name, name === 'waveform' ? told() : drawn()])) };
}

/** All pictures are made of the poster, which is a picture of one frame; so is the placeholder. */
async function picturesOf(
  wanted: ReadonlyMap<string, WantedDerivative>,
  facts: MediaFacts,
  work: MakerWork,
): Promise<MadeDerivatives> {
  const { tools, signal, asset } = work;
  const { bytes, width, height } = await poster(await tools.sandbox, fileOf(work), facts, { signal });
  const isAsItIs = ([name, size]: [string, WantedDerivative]) =>
    name === 'poster' && (size.format ?? 'jpeg') === 'jpeg' && size.width >= width && size.height >= height;
  const others = [...wanted].filter((each) => !isAsItIs(each));
  const sizes = others.map(([name, size]) => (name === 'poster' ? { format: 'jpeg' as const, ...size } : size));
  const options = { signal, callerId: asset.ownerId };
  const { previews, thumbHash } = await tools.pictures.previews(bytes, sizes, options);
  const made = new Map<string, MadeFile>();
  for (const [index, { bytes: content, ...picture }] of previews.entries())
    made.set(others[index]?.[0] ?? '', { content, ...picture });
  for (const [name] of [...wanted].filter(isAsItIs))
    made.set(name, { content: bytes, mediaType: 'image/jpeg', width, height });
  return { made, thumbHash };
}
