/** Facts and pictures of models. They are read in a process that can be killed. */
import type { Facts } from '../../database/tables/processing-record.ts';
import type { Maker, MakerWork } from '../maker.ts';
import type { Frame, ModelTask, Picture } from './tasks.ts';

/** Seconds. The JSON alone is read; two million triangles are drawn. */
const LOOK = 15;
const DRAW = 45;
/**
 * Pixels of a picture: 800 x 600. A model has no size of its own, so nothing is lost when a larger one is asked for.
 */
const MAX_PIXELS = 480_000;
const QUALITY = 82;

export const modelMaker: Maker = {
  accepts: (mediaType) => mediaType === 'model/gltf-binary',

  readFacts: async (work) => ({ facts: await ask<Facts>(work, { kind: 'facts' }, LOOK) }),

  defaults: () => ({ thumbnail: {} }),

  make: async (wanted, work) => {
    const made = new Map();
    const options = { signal: work.signal, callerId: work.asset.ownerId };
    for (const [name, { format = 'webp', ...size }] of wanted) {
      if (name !== 'thumbnail') continue;
      const task: ModelTask = { kind: 'picture', frame: frameWithin(size) };
      const { pixels, width, height } = await ask<Picture>(work, task, DRAW);
      const source = { pixels, width, height, channels: 3 as const };
      const look = { width, height, fit: 'inside' as const, quality: QUALITY, format };
      const { bytes, ...picture } = await work.tools.pictures.variant(source, look, options);
      made.set(name, { ...picture, content: bytes });
    }
    return { made };
  },
};

function ask<T>({ tools, asset, file, signal }: MakerWork, input: ModelTask, seconds: number): Promise<T> {
  return tools.pool.run<T>({ module: 'models', input, file: file.path }, { seconds, signal, callerId: asset.ownerId });
}

/** As large as a picture may be, in the shape that is asked for. */
export function frameWithin({ width, height }: Frame): Frame {
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (width * height)));
  return { width: Math.max(1, Math.floor(width * scale)), height: Math.max(1, Math.floor(height * scale)) };
}
