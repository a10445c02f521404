/** The process that reads pictures. */
import { factsOf } from '../../pictures/decode.ts';
import { previews, reencode, understand, variant } from '../../pictures/encode.ts';
import type { PictureTask } from '../../pictures/tasks.ts';
import { serve } from './serve.ts';

serve((task: PictureTask, { file, directory }) => {
  const source = typeof task.source === 'string' ? file : task.source;
  switch (task.kind) {
    case 'facts':
      return factsOf(source);
    case 'previews':
      return previews(source, task.sizes);
    case 'understand':
      return understand(source, task.sizes);
    case 'variant':
      return variant(source, task.variant);
    case 'reencode':
      return reencode(source, task.reencoding, directory);
  }
});
