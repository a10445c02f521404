/**
 * The catalogue: what was uploaded is listed, read, changed, moved to the trash, deleted and downloaded here. An asset is
 * a record and an object; whatever is done to it, the record is changed first, and the object follows by a job.
 */
import { z } from 'zod';
import type { Core } from '../core.ts';
import { buildIndexes, missingIndexes } from '../database/built-indexes.ts';
import { type Feature, subscribe } from '../feature.ts';
import { defineBatchJob, defineJob, HOUR, MINUTE, nothing } from '../jobs/job.ts';
import { copiesOf } from '../mirrors/copies-of.ts';
import { copiesGone } from '../mirrors/events.ts';
import { placesOf } from '../projects/settings.ts';
import { limitValues } from '../quotas/limit.ts';
import { assetActions } from './audit.ts';
import { BulkChanges } from './bulk-changes.ts';
import { bulkRoutes } from './bulk-routes.ts';
import { AssetDeletions } from './deletions.ts';
import { derivativeRoutes } from './derivative-routes.ts';
import { foldDownloads } from './download-counts.ts';
import { downloadRoutes } from './downloads.ts';
import { LinkIssuer } from './issued-links.ts';
import { deleteObjectJob, deleteObjects } from './jobs/delete-object.ts';
import { purgeAssets } from './jobs/purge-assets.ts';
import { linkRoutes } from './link-routes.ts';
import { manyLinksRoute } from './many-links.ts';
import { publicityOf } from './publicity.ts';
import { AssetsRepository } from './repository.ts';
import { assetRoutes } from './routes.ts';
import { ServedDerivatives } from './served-derivative.ts';

export const assets: Feature<Core> = {
  name: 'assets',
  tags: [
    { name: 'Assets', description: 'List, read, change and delete the records of stored files' },
    { name: 'Downloads', description: 'Download links and bytes' },
    { name: 'Derivatives', description: 'Thumbnails, posters, waveforms, transcodes' },
  ],
  auditActions: assetActions,
  routes: (app, core) => {
    const { database, outbox, store, downloads, config, metrics, links } = core;
    const repository = new AssetsRepository(database);
    const changes = { assets: repository, deletions: new AssetDeletions(database, outbox) };
    const places = placesOf(core);
    const limits = limitValues(core);
    const issuer = new LinkIssuer({
      assets: repository,
      derivatives: new ServedDerivatives(core),
      links,
      linkLife: config.LINK_TTL / 1000,
    });
    assetRoutes(app, {
      ...changes,
      issuer,
      places,
      limits,
      database: database.database,
      policies: core.policies,
      publicityOf: publicityOf(core),
      copiesOf: copiesOf(core),
    });
    bulkRoutes(app, { deletions: changes.deletions, changes: new BulkChanges(database), places, limits });
    derivativeRoutes(app, core, repository);
    downloadRoutes(app, {
      assets: repository,
      issuer,
      store,
      places: downloads,
      onSent: (bytes) => metrics.sent(bytes),
    });
    manyLinksRoute(app, issuer);
    linkRoutes(app, core, repository);
  },
  on: [
    subscribe(copiesGone, (transaction, { assetIds }, { outbox }: Core) =>
      outbox.sendAll(
        transaction,
        deleteObjectJob,
        assetIds.map((assetId) => ({ assetId })),
      ),
    ),
  ],
  gauges: ({ downloads }) => [
    { name: 'stowage_active_downloads', help: 'Downloads that have a place', read: () => downloads.active },
  ],
  jobs: [
    defineJob({
      name: 'fold-downloads',
      keepsObjects: true,
      data: nothing,
      retries: 3,
      firstPause: 10,
      limit: 10 * MINUTE,
      schedule: '* * * * *',
      run: async (_data, { signal }, { background }: Core) => {
        await foldDownloads(background, signal);
      },
    }),
    defineBatchJob({
      ...deleteObjectJob,
      data: z.object({ assetId: z.string() }),
      retries: 16,
      firstPause: 2,
      limit: 10 * MINUTE,
      // As many as one request deletes.
      concurrency: 1000,
      runBatch: (jobs, context, { background, outbox, store }: Core) =>
        deleteObjects({ deletions: new AssetDeletions(background, outbox), store }, jobs, context),
    }),
    defineJob({
      name: 'build-indexes',
      keepsObjects: true,
      data: nothing,
      retries: 0,
      firstPause: 60,
      limit: 12 * HOUR,
      schedule: '*/10 * * * *',
      run: async (_data, _context, { background, log }: Core) => {
        if ((await missingIndexes(background.database)).length === 0) return;
        const built = await background.alone((executor) =>
          buildIndexes(executor, { atMost: Number.POSITIVE_INFINITY }),
        );
        if (built.length > 0) log.info({ built }, 'indexes built');
      },
    }),
    defineJob({
      name: 'purge-assets',
      data: nothing,
      retries: 3,
      firstPause: 60,
      longestPause: 600,
      limit: 6 * HOUR,
      schedule: '17 * * * *',
      run: async (_data, context, { background, outbox, config, log }: Core) => {
        const purged = await purgeAssets(
          { deletions: new AssetDeletions(background, outbox), trashRetention: config.TRASH_RETENTION_DAYS },
          context,
        );
        if (purged > 0) log.info({ purged }, 'assets deleted that were long in the trash');
      },
    }),
  ],
};
