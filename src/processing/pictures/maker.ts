/** Facts, previews and the placeholder of pictures. */
import type { MadeDerivatives, Maker, WantedDerivative } from '../maker.ts';
import { Pictures } from './pictures.ts';
import type { PictureFacts, Previews } from './tasks.ts';

export const pictureMaker: Maker = {
  accepts: (mediaType) => Pictures.canRead(mediaType),

  readFacts: async ({ asset, file, tools, signal }) => ({
    facts: factsIn(await tools.pictures.facts(file.path, { signal, callerId: asset.ownerId })),
  }),

  understand: async (wanted, { asset, file, tools, signal }, { quickly }) => {
    const sizes = [...wanted.values()];
    const options = { signal, callerId: asset.ownerId };
    if (!quickly) {
      const { facts, ...previews } = await tools.pictures.previews(file.path, sizes, options);
      return { facts: factsIn(facts), ...made(wanted, previews) };
    }
    const { facts, previews } = await tools.pictures.understand(file.path, sizes, options);
    return { facts: factsIn(facts), ...(previews && made(wanted, previews)) };
  },

  defaults: () => ({ thumbnail: {} }),

  make: async (wanted, { asset, file, tools, signal }) => {
    const options = { signal, callerId: asset.ownerId };
    return made(wanted, await tools.pictures.previews(file.path, [...wanted.values()], options));
  },
};

function factsIn({ format, ...facts }: PictureFacts): Omit<PictureFacts, 'format'> {
  return facts;
}

/** @param previews in the order of the names */
function made(
  wanted: ReadonlyMap<string, WantedDerivative>,
  { previews, thumbHash }: Omit<Previews, 'facts'>,
): MadeDerivatives {
  const names = [...wanted.keys()];
  const files = previews.map(
    ({ bytes, ...picture }, index) => [names[index] ?? '', { ...picture, content: bytes }] as const,
  );
  return { made: new Map(files), thumbHash };
}
