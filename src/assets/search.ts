/**
 * Pages of lists with filters that no index answers in the order of the list: parts of names, tags, metadata, ranges. Such a
 * filter may match nearly all of a million assets, or none, and nobody knows before. So a page is looked for in steps, each
 * of which has an end:
 *
 *   1. a short scan in order: where many match, the page is full after some dozen rows
 *   2. a lookup: where few match, the search index (GIN) knows them, and they are sorted. It has LOOKUP_TIME, and a place
 *      among LOOKUPS_AT_ONCE, of which a caller has one
 *   3. a long scan in order, where the lookup has not ended: its matches are the page, full or not, and the next page goes on
 *      behind the last row that was read
 *
 * So a page may have fewer assets than its limit, even none, and yet others follow; that is what `hasMore` is for. It is
 * never refused, and holds a connection for a fraction of a second.
 */
import { sql } from 'drizzle-orm';
import { type DatabaseHandle, sqlState } from '../database/client.ts';
import { build, compile, nowhere, type Parameter } from '../database/statements.ts';
import { Admission } from '../http/admission.ts';
import { Problem } from '../problems.ts';
import {
  type FilledStatement,
  isInOrder,
  type ListQuery,
  type ListRow,
  listStatement,
  lookupStatement,
  pageOf,
  scanStatement,
} from './list.ts';

/** Rows; some milliseconds, in which one in a hundred fills a page of 50. */
export const SHORT_SCAN = 5000;
/** Rows; so a million takes 50 pages. */
export const LONG_SCAN = 20_000;
/** Milliseconds. */
export const LOOKUP_TIME = 250;
const LONG_SCAN_TIME = 500;
const SORT_TIME = 1000;
/** Connections are 10 by default, and others need some. */
const LOOKUPS_AT_ONCE = 3;
/** Milliseconds that others are waited for. */
const LOOKUP_WAIT = 1000;
/** SQLSTATE query_canceled, PostgreSQL appendix A. */
const CANCELED = '57014';

export interface Position {
  value: string;
  id: string;
  /** The lookup has not ended: what follows is scanned. */
  scans?: boolean;
}
export interface FoundPage {
  rows: ListRow[];
  next?: Position;
}

const limitTime = compile('limit-statement-time', (p: Parameter<'time'>) =>
  build.select({ time: sql`set_config('statement_timeout', ${p('time')}::text, true)` }).from(nowhere),
);

export class AssetSearch {
  readonly #handle: DatabaseHandle;
  readonly #places = new Admission({ total: LOOKUPS_AT_ONCE, perCaller: 1, wait: LOOKUP_WAIT, what: 'variants' });

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /**
   * One page of at most `limit` assets.
   * @param callerId who waits for his own lookups first
   */
  async page(query: ListQuery, callerId: string): Promise<FoundPage> {
    const { limit, scans = false, trashed, sort } = query;
    const oneMore = { ...query, limit: limit + 1 };
    if (trashed && sort !== 'createdAt') return pageFrom(await this.#sortTrash(oneMore), limit);
    if (isInOrder(query)) return pageFrom(await this.#run(listStatement(oneMore)), limit);
    if (!scans) {
      const short = scanned(await this.#run(scanStatement(oneMore, SHORT_SCAN)), limit, SHORT_SCAN);
      if (!short.isCut) return short;
      const found = await this.#lookUp(oneMore, callerId);
      if (found) return pageFrom(found, limit);
    }
    const long = await this.#within(LONG_SCAN_TIME, scanStatement(oneMore, LONG_SCAN));
    if (long) return scanned(long, limit, LONG_SCAN);
    return scanned(await this.#run(scanStatement(oneMore, SHORT_SCAN)), limit, SHORT_SCAN);
  }

  /** No index has the trash in these orders: a large one is not sorted. @throws Problem invalid-parameter */
  async #sortTrash(query: ListQuery): Promise<ListRow[]> {
    const rows = await this.#within(SORT_TIME, listStatement(query));
    if (rows) return rows;
    const detail = 'must be createdAt: there is too much in the trash for another order';
    throw new Problem('invalid-parameter', { detail: `sort ${detail}.`, errors: [{ parameter: 'sort', detail }] });
  }

  async #run({ statement, values }: FilledStatement): Promise<ListRow[]> {
    return (await this.#handle.database.run(statement, values)).rows;
  }

  /** @returns undefined when there was no place, or not enough time */
  async #lookUp(query: ListQuery, callerId: string): Promise<ListRow[] | undefined> {
    const leave = await this.#places.enter(callerId, NEVER).catch((error: unknown) => {
      if (error instanceof Problem) return undefined;
      throw error;
    });
    if (!leave) return undefined;
    try {
      return await this.#within(LOOKUP_TIME, lookupStatement(query));
    } finally {
      leave();
    }
  }

  /** @param time milliseconds @returns undefined when they were not enough */
  async #within(time: number, { statement, values }: FilledStatement): Promise<ListRow[] | undefined> {
    return this.#handle.transact(async (transaction) => {
      await transaction.run(limitTime, { time: String(time) });
      try {
        return (await transaction.run(statement, values)).rows;
      } catch (error) {
        // The transaction has failed, and what ends it is a rollback whatever it is called.
        if (sqlState(error) === CANCELED) return undefined;
        throw error;
      }
    });
  }
}

const NEVER = new AbortController().signal;

function pageFrom(rows: ListRow[], limit: number): FoundPage {
  const { page, hasMore } = pageOf(rows, limit);
  const last = page.at(-1);
  return { rows: page, ...(hasMore && last && { next: positionOf(last) }) };
}

/** @param most rows that were to be read; the last of them is there too when the page is not full, and others may follow */
function scanned(rows: ListRow[], limit: number, most: number): FoundPage & { isCut: boolean } {
  const found = pageFrom(
    rows.filter(({ isLast }) => !isLast),
    limit,
  );
  const last = rows.find(({ isLast }) => isLast);
  const isCut = !found.next && last !== undefined;
  const next = found.next ?? (last && positionOf(last));
  return { rows: found.rows, isCut, ...(next && { next: { ...next, scans: most === LONG_SCAN } }) };
}

function positionOf({ sortValue, id }: ListRow): Position {
  return { value: sortValue, id };
}
