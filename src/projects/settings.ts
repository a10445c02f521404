/** Settings of projects. */
import { z } from 'zod';
import { setting } from '../config.ts';
import type { Core } from '../core.ts';
import { Places } from './places.ts';

export const projectSettings = {
  PROJECT_CREATION: setting(
    'Callers',
    z.enum(['anyone', 'admin'], { error: 'must be anyone or admin' }),
    'anyone',
    'Who may make a project, by `POST /v1/projects` or by naming it in an upload: `anyone` with a token, or only who has the scope of administrators.',
  ),
} as const;

export function placesOf(core: Pick<Core, 'database' | 'settings'>): Places {
  return new Places({
    database: core.database.database,
    creation: core.settings(projectSettings).PROJECT_CREATION,
  });
}
