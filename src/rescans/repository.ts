/** Scans of what is stored, in SQL. Whatever a scan writes it writes while it is running: one that was cancelled changes nothing. */
import { and, desc, eq, gt, isNull, type Placeholder, type SQLWrapper, sql } from 'drizzle-orm';
import { type Actor, type AuditAction, auditFrom } from '../database/audit.ts';
import { type DatabaseHandle, type Executor, sqlState } from '../database/client.ts';
import type { JobReference, Outbox } from '../database/outbox.ts';
import { build, compile, jsonObject, now, type Parameter, typed } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import type { Scan } from '../database/tables/processing-record.ts';
import { scans } from '../database/tables/scans.ts';

export const rescanJob: JobReference<{ scanId: string }> = { name: 'rescan' };

/** SQLSTATE, PostgreSQL appendix A. */
const UNIQUE_VIOLATION = '23505';
/** Of the list; there is one now and then. */
const LISTED = 100;

export type ScanRow = typeof scans.$inferSelect;

/** Somebody has cancelled the scan. */
export class ScanCancelled extends Error {
  override name = 'ScanCancelled';
}

/** An asset among those that are looked at. */
export interface LookedAt {
  id: string;
  ownerId: string;
  objectKey: string;
  /** Bytes. */
  size: number;
  isDue: boolean;
}

export interface Counted {
  scanned?: number;
  infected?: number;
  notScanned?: number;
}

const seldom = { named: false };
const isRunning = (p: Parameter<'id'>) => and(eq(scans.id, p('id')), sql`${scans.state} = 'running'`);
/** The audit row of a scan is the administrator's, and of no asset. */
const changedScan = {
  scanId: scans.id,
  before: scans.before,
  assetType: scans.assetType,
  ownerId: scans.requestedBy,
  id: sql<null>`null::uuid`.as('asset'),
};

type Changed = Parameters<typeof auditFrom>[1] & Record<'scanId' | 'before' | 'assetType', SQLWrapper>;

function auditOf(p: Parameter<keyof Actor>, changed: Changed, action: AuditAction | Placeholder) {
  const { scanId: scan, before, assetType } = changed;
  return auditFrom(p, changed, { action, detail: sql`jsonb_strip_nulls(${jsonObject({ scan, before, assetType })})` });
}

const insertScan = compile(
  'insert-scan',
  (p: Parameter<'id' | 'before' | 'assetType' | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .insert(scans)
        .values({
          id: p('id'),
          state: 'running',
          before: p('before'),
          assetType: p('assetType'),
          requestedBy: p('callerId'),
        })
        .returning(changedScan),
    );
    return build
      .with(changed, auditOf(p, changed, 'scan.started'))
      .select({ scanId: changed.scanId })
      .from(changed);
  },
  seldom,
);
const endScan = compile(
  'end-scan',
  (p: Parameter<'id' | 'state' | 'action' | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .update(scans)
        .set({ state: typed(p('state'), scans.state), finishedAt: now })
        .where(isRunning(p))
        .returning(changedScan),
    );
    return build
      .with(changed, auditOf(p, changed, p('action')))
      .select({ scanId: changed.scanId })
      .from(changed);
  },
  seldom,
);

const findScan = compile('find-scan', (p: Parameter<'id'>) =>
  build
    .select()
    .from(scans)
    .where(eq(scans.id, p('id'))),
);
const listScans = compile(
  'list-scans',
  () => build.select().from(scans).orderBy(desc(scans.createdAt), desc(scans.id)).limit(LISTED),
  seldom,
);

/** It was scanned before the time, or was there then and never scanned; where its type is scanned at all. */
function isDue(p: Parameter<'before' | 'assetType' | 'unscannedTypes'>) {
  const scannedAt = sql`coalesce((${assets.scan} ->> 'at')::timestamptz, ${assets.createdAt})`;
  return and(
    inState('ready'),
    // What is archived cannot be read; it is scanned by the next one after it was brought back.
    isNull(assets.tier),
    sql`${scannedAt} < ${p('before')}::timestamptz`,
    sql`${assets.assetType} = coalesce(${p('assetType')}::text, ${assets.assetType})`,
    sql`${assets.assetType} <> all(${p('unscannedTypes')}::text[])`,
  );
}

const countDue = compile(
  'count-assets-to-scan',
  (p: Parameter<'before' | 'assetType' | 'unscannedTypes'>) =>
    build
      .select({ due: sql<number>`count(*)`.mapWith(Number) })
      .from(assets)
      .where(isDue(p)),
  seldom,
);
const lookAt = compile(
  'look-at-assets-to-scan',
  (p: Parameter<'before' | 'assetType' | 'unscannedTypes' | 'after' | 'limit'>) =>
    build
      .select({
        id: assets.id,
        ownerId: assets.ownerId,
        objectKey: assets.objectKey,
        size: assets.size,
        isDue: sql<boolean>`coalesce(${isDue(p)}, false)`,
      })
      .from(assets)
      .where(gt(assets.id, p('after')))
      .orderBy(assets.id)
      .limit(p('limit')),
  seldom,
);
const setFound = compile('set-scan-found', (p: Parameter<'id' | 'found'>) =>
  build
    .update(scans)
    .set({ found: typed(p('found'), scans.found) })
    .where(isRunning(p)),
);
const addCounts = compile('add-scan-counts', (p: Parameter<'id' | 'scanned' | 'infected' | 'notScanned'>) =>
  build
    .update(scans)
    .set({
      scanned: sql`${scans.scanned} + ${p('scanned')}::bigint`,
      infected: sql`${scans.infected} + ${p('infected')}::bigint`,
      notScanned: sql`${scans.notScanned} + ${p('notScanned')}::bigint`,
    })
    .where(isRunning(p))
    .returning({ id: scans.id }),
);
const moveCursor = compile('move-scan-cursor', (p: Parameter<'id' | 'cursor'>) =>
  build
    .update(scans)
    .set({ cursor: typed(p('cursor'), scans.cursor) })
    .where(isRunning(p))
    .returning({ id: scans.id }),
);
const writeVerdict = compile('write-scan-verdict', (p: Parameter<'id' | 'objectKey' | 'scan'>) =>
  build
    .update(assets)
    .set({ scan: typed(p('scan'), assets.scan) })
    .where(and(eq(assets.id, p('id')), eq(assets.objectKey, p('objectKey')), inState('ready'))),
);

type Fence = (transaction: Executor) => Promise<void>;

export class RescansRepository {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Outbox;

  constructor(handle: DatabaseHandle, outbox: Outbox) {
    this.#handle = handle;
    this.#outbox = outbox;
  }

  /**
   * Begins a scan, with its job.
   * @param inTransaction what belongs into the same transaction
   * @returns false when one is running
   */
  async begin(
    scan: { id: string; before: Date; assetType: string | undefined },
    actor: Actor,
    inTransaction: (transaction: Executor, row: ScanRow) => Promise<void>,
  ): Promise<ScanRow | undefined> {
    const { id, before, assetType = null } = scan;
    try {
      return await this.#handle.transact(async (transaction) => {
        await transaction.run(insertScan, { id, before, assetType, ...actor });
        await this.#outbox.send(transaction, rescanJob, { scanId: id });
        const row = await this.find(id, transaction);
        if (row) await inTransaction(transaction, row);
        return row;
      });
    } catch (error) {
      if (sqlState(error) === UNIQUE_VIOLATION) return undefined;
      throw error;
    }
  }

  async find(id: string, executor: Executor = this.#handle.database): Promise<ScanRow | undefined> {
    return (await executor.run(findScan, { id })).rows[0];
  }

  /** The latest ones. */
  async list(): Promise<ScanRow[]> {
    return (await this.#handle.database.run(listScans, {})).rows;
  }

  /** @returns false when it is not running */
  async cancel(id: string, actor: Actor, inTransaction: (transaction: Executor) => Promise<void>): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(endScan, { id, state: 'cancelled', action: 'scan.cancelled', ...actor });
      if (rows.length > 0) await inTransaction(transaction);
      return rows.length > 0;
    });
  }

  async end(id: string, actor: Actor, fence: Fence): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      await transaction.run(endScan, { id, state: 'done', action: 'scan.ended', ...actor });
    });
  }

  /** Counts what is to be scanned. */
  async count(scan: ScanRow, unscannedTypes: readonly string[]): Promise<void> {
    const { id, before, assetType } = scan;
    const { rows } = await this.#handle.database.run(countDue, { before, assetType, unscannedTypes });
    await this.#handle.database.run(setFound, { id, found: rows[0]?.due ?? 0 });
  }

  /** Assets in the order of their ids, whether they are due or not. */
  async lookAt(
    { before, assetType }: ScanRow,
    unscannedTypes: readonly string[],
    after: string,
    limit: number,
  ): Promise<LookedAt[]> {
    const values = { before, assetType, unscannedTypes, after, limit };
    const { rows } = await this.#handle.database.run(lookAt, values);
    return rows.map(({ size, ...rest }) => ({ ...rest, size: size ?? 0 }));
  }

  /** All up to this asset were looked at. @throws ScanCancelled */
  async advance(id: string, cursor: string, fence: Fence): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      if ((await transaction.run(moveCursor, { id, cursor })).rows.length === 0) throw new ScanCancelled();
    });
  }

  /** An asset is clean: its record says so, where it is still the same. @throws ScanCancelled */
  async record(id: string, asset: LookedAt, scan: Scan, fence: Fence): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      await this.add(transaction, id, { scanned: 1 });
      await transaction.run(writeVerdict, { id: asset.id, objectKey: asset.objectKey, scan });
    });
  }

  /** An asset could not be scanned. @throws ScanCancelled */
  async skip(id: string, fence: Fence): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      await this.add(transaction, id, { notScanned: 1 });
    });
  }

  /** @throws ScanCancelled */
  async add(transaction: Executor, id: string, counted: Counted): Promise<void> {
    const { scanned = 0, infected = 0, notScanned = 0 } = counted;
    const { rows } = await transaction.run(addCounts, { id, scanned, infected, notScanned });
    if (rows.length === 0) throw new ScanCancelled();
  }
}
