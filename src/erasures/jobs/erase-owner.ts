/**
 * Erases an owner, step after step; each step is done in batches, each batch a short transaction that counts what it has done.
 * So a worker that dies loses nothing: the next one begins with the step that is written down and finds what is left of it.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { auditDays, pseudonymiseDay, pseudonymiseLate } from '../../audit/reseals.ts';
import { lastSealedDay, nextDay, takeSealTurn } from '../../audit/seals.ts';
import type { DatabaseHandle } from '../../database/client.ts';
import { type ErasureStep, erasureSteps } from '../../database/tables/erasures.ts';
import type { JobContext } from '../../jobs/job.ts';
import { inParallel } from '../../storage/in-parallel.ts';
import type { UploadsRepository } from '../../uploads/repository.ts';
import type { EmptyFolders } from '../folders.ts';
import type { OwnedFiles } from '../owned.ts';
import type { OwnedRecords } from '../records.ts';
import { actorOfErasure, type ErasuresRepository, type RunningErasure } from '../repository.ts';
import type { ReceiptWriter } from '../writing.ts';

/** Assets of one transaction, and uploads that are ended one by one. */
const ASSETS = 500;
const UPLOADS = 100;
const AT_ONCE = 8;
/** Seconds after which it is looked whether jobs have removed all bytes, and milliseconds between looks at transactions. */
const PAUSE = 2;
const LOOK_EVERY = 50;

export interface EraseOwnerOptions {
  handle: DatabaseHandle;
  erasures: ErasuresRepository;
  files: OwnedFiles;
  records: OwnedRecords;
  folders: EmptyFolders;
  uploads: UploadsRepository;
  receipts: ReceiptWriter;
  log: (fields: object, message: string) => void;
}

/** A step that has to wait for others, or to be done again. */
type Outcome = 'done' | 'wait' | ErasureStep;

export async function eraseOwner(options: EraseOwnerOptions, erasureId: string, context: JobContext): Promise<void> {
  const { erasures } = options;
  for (;;) {
    context.signal.throwIfAborted();
    const erasure = await erasures.running(erasureId);
    if (!erasure) return;
    const outcome = await steps[erasure.step](options, erasure, context);
    if (outcome === 'wait') return erasures.goOnLater(erasureId, PAUSE, context.fence);
    const next = outcome === 'done' ? erasureSteps[erasureSteps.indexOf(erasure.step) + 1] : outcome;
    if (next === undefined) return;
    await erasures.moveOn(erasureId, next, context.fence);
  }
}

type Step = (options: EraseOwnerOptions, erasure: RunningErasure, context: JobContext) => Promise<Outcome>;

const steps: Record<ErasureStep, Step> = {
  credentials: async ({ handle, erasures, records }, erasure, { signal, fence }) => {
    // Whatever began before the erasure was there to be seen has ended after this: no upload of his begins any more.
    const since = await erasures.now();
    while (await erasures.hasEarlier(since)) await sleep(LOOK_EVERY, undefined, { signal });
    await handle.transact(async (transaction) => {
      await fence(transaction);
      await erasures.add(transaction, erasure.id, await records.credentials(transaction, erasure));
    });
    return 'done';
  },

  uploads: async (options, erasure, context) => {
    for (;;) {
      const found = await options.files.uploading(erasure.ownerId, UPLOADS);
      if (found.length === 0) return 'done';
      context.signal.throwIfAborted();
      await inParallel(found, AT_ONCE, (upload) => endUpload(options, erasure, upload, context));
    }
  },

  assets: async ({ files, erasures }, erasure, { signal, fence }) => {
    const actor = actorOfErasure(erasure);
    for (const isTrashed of [false, true]) {
      let after: { createdAt: Date; id: string } | undefined;
      for (let looked = ASSETS; looked === ASSETS; ) {
        signal.throwIfAborted();
        ({ looked, last: after } = await files.next(
          erasure,
          actor,
          { isTrashed, after, limit: ASSETS },
          { fence, counted: (transaction, counts) => erasures.add(transaction, erasure.id, counts) },
        ));
      }
    }
    return 'done';
  },

  objects: async ({ files, folders }, erasure, context) => {
    if (await files.isInDeletion(erasure.ownerId)) return 'wait';
    return (await folders.empty(erasure, context)) ? 'done' : 'wait';
  },

  records: async ({ handle, erasures, records }, erasure, { signal, fence }) => {
    const swept = await records.sweep(erasure, signal);
    await handle.transact(async (transaction) => {
      await fence(transaction);
      await erasures.add(transaction, erasure.id, swept);
      await erasures.add(transaction, erasure.id, await records.records(transaction, erasure));
    });
    return 'done';
  },

  audit: async ({ handle, erasures, log }, erasure, { signal, fence }) => {
    const { first, today } = await auditDays(handle.database);
    for (let day = erasure.auditDay ?? first ?? today; day <= today; day = nextDay(day)) {
      signal.throwIfAborted();
      const which = { erasureId: erasure.id, ownerId: erasure.ownerId, day };
      const { resealed } = await pseudonymiseDay(handle, which, fence, async (transaction, outcome) => {
        const counts = { auditRows: outcome.rows, resealedDays: outcome.resealed ? 1 : 0 };
        await erasures.add(transaction, erasure.id, counts);
        // Of today there may come more.
        await erasures.setAuditDay(transaction, erasure.id, day < today ? nextDay(day) : today);
      });
      // The log lies elsewhere than the database: what it tells can be compared with.
      if (resealed) {
        const told = { former: resealed.former.toString('hex'), digest: resealed.renewed.toString('hex') };
        log(
          { day, ...told, wasIntact: resealed.wasIntact, erasureId: erasure.id },
          'a day of the audit trail was sealed anew',
        );
      }
    }
    return 'done';
  },

  end: async ({ handle, erasures, records, receipts }, erasure, { signal, fence }) => {
    const remaining = await receipts.remaining(erasure);
    if (remaining === 'more') return 'uploads';
    await records.sweep(erasure, signal);
    return handle.transact(async (transaction) => {
      await fence(transaction);
      await takeSealTurn(transaction);
      const sealed = await lastSealedDay(transaction);
      // A day has been sealed since: its names are replaced with its seal.
      if (sealed !== undefined && erasure.auditDay !== null && sealed >= erasure.auditDay) return 'audit';
      await records.credentials(transaction, erasure);
      await records.records(transaction, erasure);
      const auditRows = await pseudonymiseLate(transaction, erasure.id);
      await erasures.add(transaction, erasure.id, { auditRows });
      await receipts.write(transaction, erasure, remaining);
      return 'done';
    });
  },
};

/** Its record first, so that nobody can make it an asset any more; a job removes what is in the store. */
async function endUpload(
  { uploads, files, erasures }: EraseOwnerOptions,
  erasure: RunningErasure,
  { id, objectKey }: { id: string; objectKey: string },
  { fence }: JobContext,
): Promise<void> {
  const outcome = {
    action: 'upload.aborted' as const,
    reason: 'erased',
    actor: actorOfErasure(erasure),
    inDoubt: true,
  };
  await uploads.markForDeletion(id, outcome, {
    inTransaction: async (transaction) => {
      await fence(transaction);
      await files.noteFolder(transaction, erasure.id, objectKey);
      await erasures.add(transaction, erasure.id, { uploads: 1 });
    },
  });
}
