/** The process that reads models. */
import { modelFacts } from '../../models/facts.ts';
import { drawModel } from '../../models/picture.ts';
import type { ModelTask } from '../../models/tasks.ts';
import { serve } from './serve.ts';

serve((task: ModelTask) => (task.kind === 'facts' ? modelFacts(task.path) : drawModel(task.path, task.frame)));
