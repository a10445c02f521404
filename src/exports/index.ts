/**
 * Exports: everything of an owner as a ZIP archive that can be gone on with, or as pages of records with links. It is the
 * right to have one's data (GDPR article 20), and what an administrator keeps of somebody before he is erased.
 */
import { archiveSettings } from '../archives/limits.ts';
import { archivesOf } from '../archives/service.ts';
import { LinkIssuer } from '../assets/issued-links.ts';
import { AssetsRepository } from '../assets/repository.ts';
import { ServedDerivatives } from '../assets/served-derivative.ts';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { exportActions } from './audit.ts';
import { ExportsRepository } from './repository.ts';
import { exportRoutes } from './routes.ts';

export const exports: Feature<Core> = {
  name: 'exports',
  auditActions: exportActions,
  routes: (app, core) =>
    exportRoutes(app, {
      exports: new ExportsRepository(core.database.database),
      archives: archivesOf(core),
      issuer: new LinkIssuer({
        assets: new AssetsRepository(core.database),
        derivatives: new ServedDerivatives(core),
        links: core.links,
        linkLife: core.config.LINK_TTL / 1000,
      }),
      database: core.database.database,
      maxBytes: core.settings(archiveSettings).MAX_ARCHIVE_SIZE,
    }),
};
