/** The process that reads models. */
import { modelFacts } from '../../models/facts.ts';
import { drawModel } from '../../models/picture.ts';
import type { ModelTask } from '../../models/tasks.ts';
import { serve } from './serve.ts';

serve((task: ModelTask, { file }) => (task.kind === 'facts' ? modelFacts(file) : drawModel(file, task.frame)));
