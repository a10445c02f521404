/** Facts and previews of pictures. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { MadeFile, Maker, MakerWork } from '../maker.ts';
import { Pictures } from './pictures.ts';

export const pictureMaker: Maker = {
  accepts: Pictures.canRead,
  readFacts: async (work) => {
    const { format: _, ...facts } = await new Pictures(work.tools.pool).facts(work.file.path, optionsOf(work));
    return { facts };
  },
  defaults: () => ({ thumbnail: {} }),
  make: async (wanted, work) => {
    const names = [...wanted.keys()];
    const { previews, thumbHash } = await new Pictures(work.tools.pool).previews(
      work.file.path,
      [...wanted.values()],
      optionsOf(work),
    );
    const made = new Map<string, MadeFile>();
    for (const [index, { bytes, ...picture }] of previews.entries()) {
      const name = names[index] ?? '';
      const path = join(work.file.directory, name);
      await writeFile(path, bytes);
      made.set(name, { path, ...picture });
    }
    return { made, thumbHash };
  },
};

const optionsOf = ({ asset, signal }: MakerWork) => ({ callerId: asset.ownerId, signal });
