/**
 * QR codes that lead to a page of the application, or to a download. The service does not know what the application's
 * pages are called, so two settings tell.
 */
import { AssetsRepository } from '../assets/repository.ts';
import { optional, setting } from '../config.ts';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { noProjectPage, tooLongForCode } from './problems.ts';
import { qrRoutes } from './routes.ts';
import { pageTemplate } from './templates.ts';

const settings = {
  APP_URL_TEMPLATE: setting(
    'Links',
    optional(pageTemplate(['assetId', 'projectId'])),
    undefined,
    'Page of an asset in the application, for QR codes, with {assetId} and {projectId}; when absent, the codes are those of download links.',
  ),
  PROJECT_URL_TEMPLATE: setting(
    'Links',
    optional(pageTemplate(['projectId'])),
    undefined,
    'Page of a project in the application, for QR codes, such as https://app.example.com/#/app/project/{projectId}.',
  ),
};

export const qr: Feature<Core> = {
  name: 'qr',
  tags: [{ name: 'QR codes', description: 'Codes that lead to the page of an asset or a project' }],
  settings,
  problems: [noProjectPage, tooLongForCode],
  routes: (app, core) => {
    const { APP_URL_TEMPLATE: assetPage, PROJECT_URL_TEMPLATE: projectPage } = core.settings(settings);
    qrRoutes(app, {
      database: core.database.database,
      assets: new AssetsRepository(core.database),
      linkLife: core.config.LINK_TTL / 1000,
      links: core.links,
      assetPage,
      projectPage,
    });
  },
};
