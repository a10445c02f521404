import { defineEvent } from '../database/outbox.ts';

/** What becomes of the assets of a project with time is another thing now. */
export const lifeCycleChanged = defineEvent<{ projectId: string }>('project.life-cycle-changed');
