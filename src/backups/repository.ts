/** Backups and restores as the database knows them. */
import { desc, eq, exists, isNull, sql } from 'drizzle-orm';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import { build, compile, isAnyOf, jsonObject, now, nowhere, type Parameter, typed } from '../database/statements.ts';
import { backups, restoredJobs, restores } from '../database/tables/backups.ts';

const once = { named: false };
/** Jobs that are enqueued by one transaction. */
const BATCH = 500;
const nobody = { queue: '', priority: 0, startAfter: 0 };

const insertBackup = compile(
  'insert-backup',
  (p: Parameter<'id' | 'takenAt' | 'place' | 'bytes' | 'objects' | 'isEncrypted'>) =>
    build.insert(backups).values({
      id: p('id'),
      takenAt: sql`${p('takenAt')}::timestamptz`,
      finishedAt: now,
      place: p('place'),
      bytes: p('bytes'),
      objects: p('objects'),
      isEncrypted: p('isEncrypted'),
    }),
  once,
);
const lookAt = compile(
  'look-at-backups',
  () => {
    const takenAt = build.select({ takenAt: backups.takenAt }).from(backups).orderBy(desc(backups.takenAt)).limit(1);
    const unconfirmed = build.select({ id: restores.backupId }).from(restores).where(isNull(restores.confirmedAt));
    return build
      .select({
        takenAt: sql`(${takenAt})`.mapWith(backups.takenAt),
        isUnconfirmed: sql<boolean>`${exists(unconfirmed)}`,
      })
      .from(nowhere);
  },
  once,
);

/** The audit rows of a restore are of no asset. */
const changedRestore = {
  backupId: restores.backupId,
  takenAt: restores.takenAt,
  ownerId: sql<string>`'stowage:restore'::text`.as('owner_id'),
  id: sql<null>`null::uuid`.as('asset'),
};
const insertRestore = compile(
  'insert-restore',
  (p: Parameter<'id' | 'takenAt' | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .insert(restores)
        .values({ backupId: p('id'), takenAt: sql`${p('takenAt')}::timestamptz`, restoredAt: now })
        .returning(changedRestore),
    );
    const detail = jsonObject({ backup: changed.backupId, takenAt: changed.takenAt });
    return build
      .with(changed, auditFrom(p, changed, { action: 'backup.restored', detail }))
      .select({ backupId: changed.backupId })
      .from(changed);
  },
  once,
);
const confirmAll = compile(
  'confirm-restores',
  (p: Parameter<keyof Actor>) => {
    const changed = build
      .$with('changed')
      .as(
        build.update(restores).set({ confirmedAt: now }).where(isNull(restores.confirmedAt)).returning(changedRestore),
      );
    const detail = jsonObject({ backup: changed.backupId, takenAt: changed.takenAt });
    return build
      .with(changed, auditFrom(p, changed, { action: 'restore.confirmed', detail }))
      .select({ backupId: changed.backupId, takenAt: changed.takenAt })
      .from(changed);
  },
  once,
);
const findRestore = compile(
  'find-restore',
  (p: Parameter<'id'>) =>
    build
      .select()
      .from(restores)
      .where(eq(restores.backupId, p('id'))),
  once,
);
const writeReport = compile(
  'write-restore-report',
  (p: Parameter<'id' | 'report'>) =>
    build
      .update(restores)
      .set({ report: typed(p('report'), restores.report) })
      .where(eq(restores.backupId, p('id'))),
  once,
);

const takeJobs = compile(
  'take-restored-jobs',
  () =>
    build
      .select({
        id: restoredJobs.id,
        queue: restoredJobs.queue,
        data: restoredJobs.data,
        priority: restoredJobs.priority,
        startAfter: sql`greatest(0, ceil(extract(epoch from ${restoredJobs.startAfter} - now())))`.mapWith(Number),
      })
      .from(restoredJobs)
      .limit(BATCH)
      .for('update'),
  once,
);
const dropJobs = compile(
  'drop-restored-jobs',
  (p: Parameter<'ids'>) => build.delete(restoredJobs).where(isAnyOf(restoredJobs.id, p('ids'))),
  once,
);

export type RestoreRow = typeof restores.$inferSelect;

/** Writes down that a backup is complete. */
export async function noteBackup(
  executor: Executor,
  backup: { id: string; takenAt: string; place: string; bytes: number; objects: number; isEncrypted: boolean },
): Promise<void> {
  await executor.run(insertBackup, backup);
}

/** When the last backup was taken, if there was one; and whether a restore waits to be confirmed. */
export async function lookAtBackups(executor: Executor): Promise<{ takenAt?: Date; isUnconfirmed: boolean }> {
  const [found] = (await executor.run(lookAt, {})).rows;
  return { ...(found?.takenAt && { takenAt: found.takenAt }), isUnconfirmed: found?.isUnconfirmed ?? false };
}

/** The database has become what the backup holds; in the transaction that makes it so. */
export async function noteRestore(
  executor: Executor,
  { id, takenAt }: { id: string; takenAt: string },
  actor: Actor,
): Promise<void> {
  await executor.run(insertRestore, { id, takenAt, ...actor });
}

/** @returns undefined when the database was never rebuilt from this backup */
export async function findRestoreOf(executor: Executor, id: string): Promise<RestoreRow | undefined> {
  return (await executor.run(findRestore, { id })).rows[0];
}

export async function noteReport(executor: Executor, id: string, report: Record<string, number>): Promise<void> {
  await executor.run(writeReport, { id, report });
}

/** Confirms whatever waits for it. @returns the backups that the database was rebuilt from */
export async function confirmRestores(
  executor: Executor,
  actor: Actor,
): Promise<{ backupId: string; takenAt: Date }[]> {
  return (await executor.run(confirmAll, { ...actor })).rows;
}

/**
 * Enqueues the jobs of the backup, each once: what a crash leaves is gone on with.
 * @param queues those that take them; jobs of others were of an earlier version
 * @returns how many were enqueued, and how many were left out
 */
export async function enqueueRestoredJobs(
  database: DatabaseHandle,
  outbox: Outbox,
  queues: ReadonlySet<string>,
): Promise<{ enqueued: number; leftOut: number }> {
  const counts = { found: 0, enqueued: 0 };
  for (;;) {
    const taken = await database.transact(async (transaction) => {
      const { rows } = await transaction.run(takeJobs, {});
      const alike = Map.groupBy(rows, ({ queue, priority, startAfter }) => `${queue} ${priority} ${startAfter}`);
      for (const jobs of alike.values()) {
        const [{ queue, priority, startAfter } = nobody] = jobs;
        if (!queues.has(queue)) continue;
        const data = jobs.map((job) => job.data ?? {});
        await outbox.sendAll(transaction, { name: queue }, data, { priority, startAfter });
        counts.enqueued += jobs.length;
      }
      await transaction.run(dropJobs, { ids: rows.map(({ id }) => id) });
      return rows.length;
    });
    counts.found += taken;
    if (taken < BATCH) return { enqueued: counts.enqueued, leftOut: counts.found - counts.enqueued };
  }
}
