/** The process that reads pictures. */
import { factsOf } from '../../pictures/decode.ts';
import { previews, reencode, understand, variant } from '../../pictures/encode.ts';
import type { PictureTask } from '../../pictures/tasks.ts';
import { serve } from './serve.ts';

serve((task: PictureTask, directory) => {
  switch (task.kind) {
    case 'facts':
      return factsOf(task.source);
    case 'previews':
      return previews(task.source, task.sizes);
    case 'understand':
      return understand(task.source, task.sizes);
    case 'variant':
      return variant(task.source, task.variant);
    case 'reencode':
      return reencode(task.source, task.reencoding, directory);
  }
});
