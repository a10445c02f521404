/** `backup.json`: what a backup holds, and how to tell whether it is whole. Written last, so it makes the backup one. */
import { z } from 'zod';
import { encryptions } from './encryption.ts';

const FORMAT = 'stowage-backup';
/** Counted up when an earlier version of the service could not restore what a later one writes. */
const FORMAT_VERSION = 1;

const number = z.number().int().min(0);
/** A file of the backup as it lies there. */
const file = z.object({ file: z.string(), bytes: number, sha256: z.string().regex(/^[0-9a-f]{64}$/) });
const rows = file.extend({ columns: z.array(z.string()).min(1), rows: number });

export const backupSchema = z.object({
  format: z.literal(FORMAT),
  formatVersion: z.literal(FORMAT_VERSION),
  id: z.uuid(),
  /** Of the snapshot. */
  takenAt: z.iso.datetime(),
  /** Version of the service. */
  madeBy: z.string(),
  /** Generation time of the newest migration of the database; see Migrations. */
  newestMigration: number,
  encryption: z.enum(encryptions),
  /** Key prefix of the objects. */
  keyPrefix: z.string(),
  tables: z.array(rows.extend({ table: z.string() })),
  jobs: rows,
  /** The manifest of objects. */
  objects: rows.extend({
    /** Of the objects that must be there. */
    count: number,
    totalBytes: number,
  }),
  sequences: z.array(z.object({ name: z.string(), value: z.string().regex(/^-?\d+$/) })),
  auditPartitions: z.array(z.object({ name: z.string(), since: z.string(), until: z.string() })),
});

export type BackupDocument = z.output<typeof backupSchema>;
export type FileOfBackup = z.output<typeof file>;
export type RowsOfBackup = z.output<typeof rows>;

export const head = { format: FORMAT, formatVersion: FORMAT_VERSION } as const;
