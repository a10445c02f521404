/** Whether pictures can be read here: one is, as files are. sharp comes in a form for each system, which npm may have left out. */
import { type Check, Fault } from '../../doctor/check.ts';
import { ChildPool } from '../tools/child-pool.ts';
import { Scratch } from '../tools/scratch.ts';
import { Pictures } from './pictures.ts';

const MiB = 2 ** 20;

export const pictureCheck: Check = {
  name: 'pictures',
  needed: false,
  run: async () => {
    const scratch = new Scratch({ bytes: MiB });
    await scratch.prepare();
    const limits = { memory: 256 * MiB, cpuSeconds: 20 };
    const pool = new ChildPool({ ...limits, size: 1, recycleAfter: 1, scratch: scratch.directory });
    try {
      const pixel = { pixels: new Uint8Array(3), width: 1, height: 1, channels: 3 } as const;
      await new Pictures(pool).previews(pixel, [{ width: 1, height: 1 }]);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new Fault(`no facts, thumbnails and variants of pictures (${why}): run npm ci on this machine`);
    } finally {
      await pool.close();
      await scratch.close();
    }
    return 'one was read';
  },
};
