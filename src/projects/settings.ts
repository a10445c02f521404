/** Settings of projects. */
import { z } from 'zod';
import { count, flag, setting } from '../config.ts';
import type { Core } from '../core.ts';
import { Places } from './places.ts';

export const projectSettings = {
  PROJECT_CREATION: setting(
    'Callers',
    z.enum(['anyone', 'admin'], { error: 'must be anyone or admin' }),
    'anyone',
    'Who may make a project, by `POST /v1/projects` or by naming it in an upload: `anyone` with a token, or only who has the scope of administrators.',
  ),
  PUBLIC_GALLERIES: setting(
    'Callers',
    flag,
    'false',
    'Whether managers may make a project a public gallery: everybody may then look at what is public in it.',
  ),
  // A record takes at most some 10 KiB with its metadata: what one caller can make us keep stays below 10 MiB.
  PROJECTS_PER_CALLER: setting(
    'Callers',
    count,
    '1000',
    'Projects that a caller may have made and that there still are; 0 for no limit. Administrators may make any number, and so may tokens whose claim names the project.',
  ),
  // Each change of a member counts those that there are.
  MEMBERS_PER_PROJECT: setting(
    'Callers',
    count.refine((members) => members >= 1 && members <= 100_000, 'must be 1 to 100000'),
    '10000',
    'Members of a project, 1 to 100000. Those that tokens name are not counted.',
  ),
  // A row takes at most some 700 bytes: what one caller can make us keep stays below 40 MiB, however many projects he has.
  MEMBERS_PER_CALLER: setting(
    'Callers',
    count.refine((members) => members <= 1_000_000, 'must be at most 1000000'),
    '50000',
    'Members that a caller may have added, of all projects together, and that there still are; 0 for no limit. Those that administrators have added are not counted.',
  ),
} as const;

export function placesOf(core: Pick<Core, 'database' | 'settings'>): Places {
  const { PROJECT_CREATION: creation, PROJECTS_PER_CALLER: perCaller } = core.settings(projectSettings);
  return new Places({ database: core.database.database, creation, perCaller });
}
