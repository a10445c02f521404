/**
 * Rebuilds the database from a backup, in one transaction: the tables by the migrations that the backup knows, its rows, and
 * then the migrations that are newer. So the database is as empty as before or whole, wherever it is ended; run again, it
 * goes on from there. From its first moment the database says that it waits for confirmation; see database/unconfirmed-restore.ts.
 */
import { getTableName } from 'drizzle-orm';
import { systemActor } from '../database/audit.ts';
import { replaceAuditPartitions } from '../database/audit-partitions.ts';
import { type BulkConnection, withBulkConnection } from '../database/bulk.ts';
import { isEmptyDatabase, listTables, refill, setSequences } from '../database/contents.ts';
import { applyMigrationsWithin, holdMigrations, journal } from '../database/migrations.ts';
import { requireVersion } from '../database/probes.ts';
import { restoredJobs, restores } from '../database/tables/backups.ts';
import type { RowsOfBackup } from './document.ts';
import type { OpenedBackup } from './opened-backup.ts';
import { findRestoreOf, noteRestore } from './repository.ts';

/** `restored`: by this call. `resumed`: by an earlier one, which may have been ended before it had said so. */
export type RebuildOutcome = 'restored' | 'resumed';

/**
 * @param url of an empty database, whose user may create tables
 * @throws Error when it is not empty, or the backup is damaged; then nothing was changed
 */
export async function rebuildDatabase(url: string, backup: OpenedBackup): Promise<RebuildOutcome> {
  return withBulkConnection(url, async (connection) => {
    await requireVersion(connection.executor);
    return connection.transact('changes', async () => {
      await holdMigrations(connection.executor);
      if (await isEmptyDatabase(connection.executor)) {
        await load(connection, backup);
        return 'restored';
      }
      if (await wasRestored(connection, backup)) return 'resumed';
      throw new Error(
        'the database is not empty: a backup is only restored into an empty one. Make a new database (CREATE DATABASE) and name it by DATABASE_URL; for the embedded Postgres name a new DATA_DIR',
      );
    });
  });
}

async function load(connection: BulkConnection, { document, rows }: OpenedBackup): Promise<void> {
  const { executor, copyIn } = connection;
  const fill = async (table: string, file: RowsOfBackup) => {
    const count = await rows(file, (source) => copyIn({ table, columns: file.columns }, source));
    if (count !== file.rows) throw new Error(`${file.file} has ${count} rows instead of ${file.rows}`);
  };
  await applyMigrationsWithin(executor, { after: 0, upTo: document.newestMigration });
  await replaceAuditPartitions(executor, document.auditPartitions);
  const files = new Map(document.tables.map((file) => [file.table, file]));
  const tables = (await listTables(executor)).filter(({ table }) => files.has(table));
  if (tables.length < files.size) throw new Error('the backup has a table that its own version does not make');
  await refill(executor, tables, async () => {
    for (const { table } of tables) {
      const file = files.get(table);
      if (file) await fill(table, file);
    }
  });
  await setSequences(executor, document.sequences);
  await applyMigrationsWithin(executor, { after: document.newestMigration, upTo: journal().newest });
  await fill(getTableName(restoredJobs), document.jobs);
  await noteRestore(executor, document, systemActor('restore', document.id));
}

/** An earlier version of the service knows of no restores. */
async function wasRestored({ executor }: BulkConnection, { document }: OpenedBackup): Promise<boolean> {
  const isKnown = (await listTables(executor)).some(({ table }) => table === getTableName(restores));
  return isKnown && (await findRestoreOf(executor, document.id)) !== undefined;
}
