/** Assets that several people have together: projects, their members, and what each member may do. */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { projectActions } from './audit.ts';
import { memberRoutes } from './member-routes.ts';
import {
  addedTooMany,
  lastManager,
  projectExists,
  projectNotEmpty,
  tooManyMembers,
  tooManyProjects,
} from './problems.ts';
import { ProjectsRepository } from './repository.ts';
import { projectRoutes } from './routes.ts';
import { placesOf, projectSettings } from './settings.ts';

export const projects: Feature<Core> = {
  name: 'projects',
  tags: [{ name: 'Projects', description: 'Assets that several people have together, and who those are' }],
  settings: projectSettings,
  problems: [projectExists, projectNotEmpty, lastManager, tooManyProjects, tooManyMembers, addedTooMany],
  auditActions: projectActions,
  routes: (app, core) => {
    const repository = new ProjectsRepository(core.database);
    const settings = core.settings(projectSettings);
    const { MEMBERS_PER_PROJECT: maxMembers, PUBLIC_GALLERIES: allowsGalleries } = settings;
    projectRoutes(app, {
      projects: repository,
      places: placesOf(core),
      allowsGalleries,
      hasArchive: core.store.archive !== undefined,
      outbox: core.outbox,
    });
    memberRoutes(app, { projects: repository, maxMembers, perCaller: settings.MEMBERS_PER_CALLER });
  },
};
