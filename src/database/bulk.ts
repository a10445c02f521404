/**
 * A connection of its own through which whole tables travel (PostgreSQL documentation, COPY), as streams: memory does not
 * grow with them. For commands; the service has no statement that takes so long.
 */
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { sql } from 'drizzle-orm';
import { Client } from 'pg';
import { from, to } from 'pg-copy-streams';
import { type Executor, executorOn } from './client.ts';
import { build, compile } from './statements.ts';

const CONNECT_TIME = 10_000;

/** A table with the columns that are meant, in their order. */
export interface Columns {
  table: string;
  columns: readonly string[];
}

export interface BulkConnection {
  readonly executor: Executor;
  /**
   * Rows as `COPY ... TO` writes them in its text format, a line each.
   * @param query without parameters
   */
  copyOut(query: string): { stream: Readable; rows: () => number };
  /** Rows in the same format, into a table. @returns how many */
  copyIn(target: Columns, source: Readable): Promise<number>;
  /** One transaction, which commits when `work` resolves. When it rejects, the connection is of no use any more. */
  transact<Result>(kind: 'snapshot' | 'changes', work: () => Promise<Result>): Promise<Result>;
}

/**
 * Connects, and disconnects when `work` has ended. Its statements may take as long as they need.
 */
export async function withBulkConnection<Result>(
  url: string,
  work: (connection: BulkConnection) => Promise<Result>,
): Promise<Result> {
  const socket = new Socket();
  const client = new Client({
    connectionString: url,
    stream: () => socket,
    connectionTimeoutMillis: CONNECT_TIME,
    keepAlive: true,
    application_name: 'stowage-backup',
  });
  // The statement that is under way tells.
  client.on('error', () => {});
  await client.connect();
  let isBroken = true;
  try {
    const executor = executorOn(client);
    for (const unlimited of withoutLimits) await executor.run(unlimited, {});
    const result = await work(bulkOn(client, executor));
    isBroken = false;
    return result;
  } finally {
    // In the middle of a COPY the server takes nothing else: it undoes the transaction when the connection is gone.
    if (isBroken) socket.destroy();
    await client.end().catch(() => {});
  }
}

/** Limits of the server or of the role are meant for the service. A backup that waits for its bucket is idle in its transaction. */
const withoutLimits = ['statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'].map((name) =>
  compile(
    `without ${name}`,
    () =>
      build
        .select({ set: sql`set_config(name, '0', false)` })
        // Older servers do not have all of them.
        .from(sql`pg_settings where name = ${sql.raw(`'${name}'`)}`),
    { named: false },
  ),
);

const begin = {
  /** All statements see one moment (PostgreSQL documentation, Transaction Isolation). */
  snapshot: 'begin isolation level repeatable read, read only',
  changes: 'begin',
};

function bulkOn(client: Client, executor: Executor): BulkConnection {
  return {
    executor,
    copyOut: (query) => {
      const stream = client.query(to(`copy (${query}) to stdout`));
      return { stream, rows: () => stream.rowCount };
    },
    copyIn: async ({ table, columns }, source) => {
      const names = columns.map((name) => client.escapeIdentifier(name)).join(', ');
      const target = client.query(from(`copy ${client.escapeIdentifier(table)} (${names}) from stdin`));
      await pipeline(source, target);
      return target.rowCount;
    },
    transact: async (kind, work) => {
      await client.query(begin[kind]);
      const result = await work();
      await client.query('commit');
      return result;
    },
  };
}
