/**
 * The pool of connections and its faults. Every wait has an end: for a connection, for a statement, for an answer.
 * Nobody holds a connection while bytes flow: repositories run one statement, or one short transaction, and let go.
 */

import { Client, type ClientBase, Pool, type QueryResultRow, types } from 'pg';
import type { Statement, Values } from './statements.ts';

/** What runs statements: the pool, or one transaction. */
export interface Executor {
  /**
   * Runs a compiled statement.
   * @returns its rows, and how many rows it returned, or changed when it returns none
   */
  run<Name extends string, Row>(
    statement: Statement<Name, Row>,
    values: Values<Name>,
  ): Promise<{ rows: Row[]; rowCount: number }>;
  /** Text that comes from elsewhere: what pg-boss asks of a transaction. */
  executeSql(text: string, values?: unknown[]): Promise<{ rows: QueryResultRow[] }>;
}
export type Database = Executor;
/** Runs `work` in one transaction, which commits when it resolves. */
export type Transact = <Result>(work: (transaction: Executor) => Promise<Result>) => Promise<Result>;

export interface DatabaseOptions {
  url: string;
  /** Connections at most. */
  connections: number;
  /** Milliseconds for a connection and for a statement each. */
  timeout: number;
  /** Whether statements that are run often are prepared; some connection poolers cannot have that. */
  prepare?: boolean;
  onError: (error: Error) => void;
}

export interface DatabaseHandle {
  database: Database;
  pool: Pool;
  /** Short transactions only: a connection is held until `work` ends. */
  transact: Transact;
  /** On a connection of its own, whose statements may take hours: building an index. */
  alone<Result>(work: (executor: Executor) => Promise<Result>): Promise<Result>;
  close(): Promise<void>;
}

export function openDatabase({ url, connections, timeout, prepare = true, onError }: DatabaseOptions): DatabaseHandle {
  const pool = new Pool({
    connectionString: url,
    max: connections,
    connectionTimeoutMillis: timeout,
    statement_timeout: timeout,
    // A frozen server does not honour statement_timeout; this one is kept by the client.
    query_timeout: timeout + 1000,
    idle_in_transaction_session_timeout: 2 * timeout,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    application_name: 'stowage',
  });
  // An idle connection that breaks would otherwise end the process.
  let closing = false;
  pool.on('error', (error) => {
    if (!closing) onError(error);
  });
  return {
    database: executorOn(pool, { prepare }),
    pool,
    transact: (work) => transact(pool, prepare, work),
    alone: async (work) => {
      const client = new Client({ connectionString: url, keepAlive: true, application_name: 'stowage-maintenance' });
      client.on('error', () => {});
      await client.connect();
      try {
        return await work(executorOn(client));
      } finally {
        await client.end();
      }
    },
    close: () => {
      closing = true;
      return pool.end();
    },
  };
}

/** Types of PostgreSQL (pg_type.h) that are left as text: date, timestamp, timestamptz, interval. */
const leftAsText = new Set<number>([
  types.builtins.DATE,
  types.builtins.TIMESTAMP,
  types.builtins.TIMESTAMPTZ,
  types.builtins.INTERVAL,
]);
const asText = (text: string) => text;
const typeParsers = {
  getTypeParser: (id: number, format?: 'text' | 'binary') =>
    leftAsText.has(id) ? asText : types.getTypeParser(id, format as 'text'),
};

/** Runs statements on a pool or on one connection. @param prepare whether statements with a name are prepared */
export function executorOn(connection: Pool | ClientBase, { prepare = false }: { prepare?: boolean } = {}): Executor {
  return {
    run: async ({ name, text, bind, decode }, values) => {
      const { rows, rowCount } = await connection.query<unknown[]>({
        text,
        values: bind(values),
        types: typeParsers,
        rowMode: 'array',
        ...(prepare && name !== undefined && { name }),
      });
      return { rows: rows.map(decode), rowCount: rowCount ?? 0 };
    },
    executeSql: (text, values) => connection.query(text, values),
  };
}

/**
 * Runs `work` as a part of a transaction that may fail by itself: when it rejects, what it has written is undone, and the
 * transaction may go on and commit the rest.
 */
export async function within<Result>(transaction: Executor, work: () => Promise<Result>): Promise<Result> {
  await transaction.executeSql('savepoint part');
  try {
    const result = await work();
    await transaction.executeSql('release savepoint part');
    return result;
  } catch (error) {
    // Where that fails as well, the transaction is lost, and whoever goes on with it is told so.
    await transaction.executeSql('rollback to savepoint part').catch(() => {});
    throw error;
  }
}

async function transact<Result>(
  pool: Pool,
  prepare: boolean,
  work: (transaction: Executor) => Promise<Result>,
): Promise<Result> {
  const client = await pool.connect();
  // A connection that breaks between two statements would otherwise end the process; the next statement tells.
  const ignore = () => {};
  client.on('error', ignore);
  let unusable = false;
  try {
    await client.query('begin');
    const result = await work(executorOn(client, { prepare }));
    await client.query('commit');
    return result;
  } catch (error) {
    // After a lost answer the connection may still be busy: it must not go back to the pool.
    unusable =
      isDatabaseUnavailable(error) ||
      (await client.query('rollback').then(
        () => false,
        () => true,
      ));
    throw error;
  } finally {
    client.off('error', ignore);
    client.release(unusable);
  }
}

/**
 * SQLSTATE classes and codes (PostgreSQL, appendix A) after which the statement may or may not have happened, or was never
 * begun. 25P03, 25P04 and 57P05: the server ended the connection, because this process stood still within a transaction.
 */
const unavailableCodes =
  /^(08(00[0-7])|57P0[1-5]|53[0-9]{3}|58[0-9P][0-9]{2}|57014|25006|25P0[34]|E(CONN(REFUSED|RESET|ABORTED)|PIPE|TIMEDOUT|HOSTUNREACH|NETUNREACH|NOTFOUND|AI_AGAIN))$/;
const unavailableMessages =
  /^(Connection terminated|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error|Client was closed|Connection ended)/;

/** Whether the database is away or did not answer in time: a 503, and the outcome of the statement is unknown. */
export function isDatabaseUnavailable(error: unknown): boolean {
  for (let each = error; each instanceof Error; each = each.cause) {
    if (unavailableMessages.test(each.message)) return true;
    if ('code' in each && typeof each.code === 'string' && unavailableCodes.test(each.code)) return true;
    if (each instanceof AggregateError && each.errors.some(isDatabaseUnavailable)) return true;
  }
  return false;
}

/** Whether the database undid a transaction because of another one (SQLSTATE 40001, 40P01): it may be tried again. */
export function isConflict(error: unknown): boolean {
  return ['40001', '40P01'].includes(sqlState(error) ?? '');
}

/** The SQLSTATE of the innermost error, if there is one. */
export function sqlState(error: unknown): string | undefined {
  for (let each = error; each instanceof Error; each = each.cause) {
    if ('code' in each && typeof each.code === 'string') return each.code;
  }
  return undefined;
}

/** The constraint that a statement would have broken, if that is why it failed. */
export function sqlConstraint(error: unknown): string | undefined {
  for (let each = error; each instanceof Error; each = each.cause) {
    if ('constraint' in each && typeof each.constraint === 'string') return each.constraint;
  }
  return undefined;
}
