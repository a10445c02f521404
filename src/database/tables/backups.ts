import { sql } from 'drizzle-orm';
import { bigint, boolean, index, integer, jsonb, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/** Backups that were completed, a row each; see src/backups/. Written after the snapshot, so no backup knows of itself. */
export const backups = pgTable(
  'backups',
  {
    id: uuid('id').primaryKey(),
    /** Of its snapshot: what was acknowledged before is in it. */
    takenAt: moment('taken_at').notNull(),
    finishedAt: moment('finished_at').notNull(),
    /** The directory, or `s3://bucket/prefix`. */
    place: text('place').notNull(),
    /** As it lies there. */
    bytes: bigint('bytes', { mode: 'number' }).notNull(),
    /** Objects that its manifest names. */
    objects: bigint('objects', { mode: 'number' }).notNull(),
    isEncrypted: boolean('is_encrypted').notNull(),
  },
  () => [index('backups_by_time').using('btree', sql`taken_at`)],
);

/** Backups that this database was rebuilt from. Until each is confirmed, no job runs that could delete bytes. */
export const restores = pgTable('restores', {
  backupId: uuid('backup_id').primaryKey(),
  /** Of the backup. */
  takenAt: moment('taken_at').notNull(),
  restoredAt: moment('restored_at').notNull(),
  confirmedAt: moment('confirmed_at'),
  /** What the comparison with the object store has found; absent until there was one. */
  report: jsonb('report').$type<Record<string, number>>(),
});

/** Jobs of a backup that are not enqueued yet: empty but for moments of a restore. */
export const restoredJobs = pgTable('restored_jobs', {
  id: uuid('id').primaryKey(),
  queue: text('queue').notNull(),
  data: jsonb('data').$type<Record<string, unknown>>(),
  priority: integer('priority').notNull().default(0),
  startAfter: moment('start_after').notNull(),
});
