/**
 * Erasing an owner: whoever has a right that everything of him is deleted gets it by one request, and a receipt that says
 * what was deleted and what remains where. See docs/durability.md, "Erasure and export".
 */
import { z } from 'zod';
import { auditSettings, retentionOf } from '../audit/settings.ts';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineJob, HOUR, MINUTE } from '../jobs/job.ts';
import { uploadsRepository } from '../uploads/context.ts';
import { erasureActions } from './audit.ts';
import { EmptyFolders } from './folders.ts';
import { type EraseOwnerOptions, eraseOwner } from './jobs/erase-owner.ts';
import { OwnedFiles } from './owned.ts';
import { Pseudonyms } from './pseudonyms.ts';
import { OwnedRecords } from './records.ts';
import { ErasuresRepository, eraseOwnerJob } from './repository.ts';
import { erasureRoutes } from './routes.ts';
import { erasureSettings } from './settings.ts';
import { ReceiptWriter } from './writing.ts';

export const erasures: Feature<Core> = {
  name: 'erasures',
  settings: erasureSettings,
  auditActions: erasureActions,
  routes: (app, { database, outbox }) =>
    erasureRoutes(app, {
      erasures: new ErasuresRepository(database, outbox),
      pseudonyms: new Pseudonyms(database.database),
      database: database.database,
    }),
  jobs: [
    defineJob({
      ...eraseOwnerJob,
      data: z.object({ erasureId: z.string() }),
      // It goes on with what is left: for days, if the store is away for days.
      retries: 1000,
      firstPause: 2,
      longestPause: 5 * MINUTE,
      limit: 12 * HOUR,
      run: ({ erasureId }, context, core: Core) => eraseOwner(erasing(core), erasureId, context),
    }),
  ],
};

function erasing(core: Core): EraseOwnerOptions {
  const { background: handle, outbox, config, log } = core;
  const stores = [{ name: 'primary', prefix: '', store: core.store }, ...core.mirrors];
  const repository = new ErasuresRepository(handle, outbox);
  const files = new OwnedFiles(handle, outbox, config.AUTH_PROJECTS_CLAIM !== undefined);
  return {
    handle,
    erasures: repository,
    files,
    records: new OwnedRecords(handle),
    folders: new EmptyFolders({ handle, erasures: repository, files, stores, prefix: config.S3_KEY_PREFIX }),
    uploads: uploadsRepository(core, handle),
    receipts: new ReceiptWriter({
      handle,
      erasures: repository,
      stores,
      backupRetention: core.settings(erasureSettings).BACKUP_RETENTION,
      publicMaxAge: config.PUBLIC_MAX_AGE,
      auditRetention: retentionOf(core.settings(auditSettings)),
    }),
    log: (fields, message) => log.info(fields, message),
  };
}
