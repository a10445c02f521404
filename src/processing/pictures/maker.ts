/** Facts, previews and the placeholder of pictures. */
import type { Maker } from '../maker.ts';
import { Pictures } from './pictures.ts';

export const pictureMaker: Maker = {
  accepts: (mediaType) => Pictures.canRead(mediaType),

  readFacts: async ({ asset, file, tools, signal }) => {
    const { format, ...facts } = await tools.pictures.facts(file.path, { signal, callerId: asset.ownerId });
    return { facts };
  },

  defaults: () => ({ thumbnail: {} }),

  make: async (wanted, { asset, file, tools, signal }) => {
    const names = [...wanted.keys()];
    const options = { signal, callerId: asset.ownerId };
    const { previews, thumbHash } = await tools.pictures.previews(file.path, [...wanted.values()], options);
    const made = previews.map(
      ({ bytes, ...picture }, index) => [names[index] ?? '', { ...picture, content: bytes }] as const,
    );
    return { made: new Map(made), thumbHash };
  },
};
