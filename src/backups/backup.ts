/**
 * Takes a backup: the rows of all tables and a manifest of all objects, of one moment, while the service runs. The rows are
 * written by COPY within one snapshot. pg_dump is not used: the embedded Postgres comes without it, one of a lower version
 * than the server refuses (Debian 12 has 15), and what it writes needs programs of the server to be read. The bytes of the
 * objects are not in it: mirrors hold those. Whoever runs it sees when it is done; a crash leaves a folder without a manifest.
 *
 *   NAME/tables/*.copy.gz   the rows of a table, as COPY writes them
 *   NAME/jobs.copy.gz       jobs that wait
 *   NAME/objects.copy.gz    the manifest of objects: key, size, digest
 *   NAME/key.age            the identity that the passphrase opens; see encryption.ts
 *   NAME/backup.json        what there is, and digests of it; written last
 */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { v7 as uuidv7 } from 'uuid';
import { listAuditPartitions } from '../database/audit-partitions.ts';
import { type BulkConnection, type Columns, withBulkConnection } from '../database/bulk.ts';
import type { Executor } from '../database/client.ts';
import { listSequences, listTables, selectRows } from '../database/contents.ts';
import { applied } from '../database/migrations.ts';
import type { WrittenObject } from '../storage/object-store.ts';
import { readVersion } from '../version.ts';
import { type BackupDocument, type FileOfBackup, head, type RowsOfBackup } from './document.ts';
import { KEY_FILE, type Sealing } from './encryption.ts';
import { type BackupPlace, MANIFEST } from './place.ts';
import { noteBackup } from './repository.ts';
import {
  countExpected,
  jobColumns,
  objectColumns,
  selectJobs,
  selectObjects,
  timeOfSnapshot,
} from './snapshot-queries.ts';

export interface BackupRequest {
  /** Of the database. */
  url: string;
  place: BackupPlace;
  sealing: Sealing;
  keyPrefix: string;
}

export interface BackupOutcome {
  document: BackupDocument;
  /** Where it lies. */
  name: string;
  /** As it lies there. */
  bytes: number;
  /** Why the database could not be told of it. */
  unnoted?: unknown;
}

/** @throws what the database or the place says; then there is no backup, but perhaps a folder without a manifest */
export async function takeBackup({ url, place, sealing, keyPrefix }: BackupRequest): Promise<BackupOutcome> {
  return withBulkConnection(url, async (connection) => {
    const id = uuidv7();
    const { folder, document, bytes } = await connection.transact('snapshot', async () => {
      const takenAt = await timeOfSnapshot(connection.executor);
      const folder = place.in(`${takenAt.toISOString().replaceAll(/[-:]|\.\d+/g, '')}-${id.slice(-8)}`);
      const written = await new Writing(connection, folder, sealing).all();
      const { bytes, ...content } = written;
      const document: BackupDocument = {
        ...head,
        id,
        takenAt: takenAt.toISOString(),
        madeBy: readVersion(),
        newestMigration: (await applied(connection.executor)).newest,
        encryption: sealing.kind,
        keyPrefix,
        ...content,
        // Last of all: see there.
        sequences: await listSequences(connection.executor),
      };
      return { folder, document, bytes };
    });
    const { size } = await folder.write(MANIFEST, () =>
      Readable.from([Buffer.from(JSON.stringify(document, null, 1))]),
    );
    const outcome = { document, name: folder.name, bytes: bytes + size };
    return noted(connection.executor, outcome);
  });
}

/** A role that may only read takes backups too; then nobody sees by the metrics how old the last one is. */
async function noted(executor: Executor, outcome: BackupOutcome): Promise<BackupOutcome> {
  const { document, name, bytes } = outcome;
  const row = {
    id: document.id,
    takenAt: document.takenAt,
    place: name,
    bytes,
    objects: document.objects.count,
    isEncrypted: document.encryption !== 'none',
  };
  return noteBackup(executor, row).then(
    () => outcome,
    (unnoted: unknown) => ({ ...outcome, unnoted }),
  );
}

/** Writes the files of one backup. */
class Writing {
  readonly #connection: BulkConnection;
  readonly #folder: BackupPlace;
  readonly #sealing: Sealing;
  #bytes = 0;

  constructor(connection: BulkConnection, folder: BackupPlace, sealing: Sealing) {
    this.#connection = connection;
    this.#folder = folder;
    this.#sealing = sealing;
  }

  async all() {
    const { executor } = this.#connection;
    const { key } = this.#sealing;
    if (key !== undefined) await this.#write(KEY_FILE, Readable.from([Buffer.from(key)]));
    const tables: BackupDocument['tables'] = [];
    for (const table of await listTables(executor))
      tables.push({ table: table.table, ...(await this.#rows(`tables/${table.table}`, table, selectRows(table))) });
    const { count, bytes: totalBytes } = await countExpected(executor);
    const objects = { table: 'objects', columns: objectColumns };
    return {
      tables,
      jobs: await this.#rows('jobs', { table: 'jobs', columns: jobColumns }, selectJobs.text),
      objects: { ...(await this.#rows('objects', objects, selectObjects.text)), count, totalBytes },
      auditPartitions: await listAuditPartitions(executor),
      bytes: this.#bytes,
    };
  }

  async #rows(name: string, { columns }: Columns, query: string): Promise<RowsOfBackup> {
    const { stream, rows } = this.#connection.copyOut(query);
    const zip = createGzip();
    const zipping = pipeline(stream, zip);
    // Told by what reads from it.
    zipping.catch(() => {});
    const file = `${name}.copy.gz${this.#sealing.suffix}`;
    const written = await this.#write(file, await this.#sealing.seal(zip));
    await zipping;
    return { ...written, columns: [...columns], rows: rows() };
  }

  async #write(file: string, content: Readable): Promise<FileOfBackup> {
    let written: WrittenObject;
    try {
      written = await this.#folder.write(file, () => content);
    } finally {
      content.destroy();
    }
    this.#bytes += written.size;
    return { file, bytes: written.size, sha256: written.sha256.toString('hex') };
  }
}
