/** Assets that several people have together: projects, their members, and what each member may do. */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { projectActions } from './audit.ts';
import { projectSettings } from './settings.ts';

export const projects: Feature<Core> = {
  name: 'projects',
  settings: projectSettings,
  auditActions: projectActions,
};
