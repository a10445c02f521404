/** What a reconciliation asks of the database: the listing of the object store against the records, and the quotas. */

import { and, count, desc, eq, gt, inArray, isNotNull, lt, ne, not, notExists, sql, sum } from 'drizzle-orm';
import { deleteObjectJob } from '../assets/jobs/delete-object.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import {
  build,
  compile,
  daysAgo,
  jsonObject,
  now,
  nowhere,
  type Parameter,
  type Statement,
  typed,
  unnested,
  type Values,
} from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { jobs } from '../database/tables/jobs.ts';
import { reconcileObjects as objects, reconcileRuns as runs } from '../database/tables/reconciliation.ts';
import { awaitsCopies } from '../mirrors/copy-statements.ts';
import type { ListedObject } from '../storage/object-store.ts';
import { reconcileStatistics, type StatisticsDrift } from '../usage/drift.ts';
import { hasNoRecord, keyHasRecord, uploading } from './accounted.ts';
import { correctQuota, findDrifted } from './drift.ts';

/** Days for which the outcome of a run is kept. */
const KEPT_DAYS = 90;
/** Deletions that are sent again by one run, at most. */
const MAX_RESUMED = 10_000;
/** Each is run once or a few times a day, and over very different amounts: planned for its values. */
const seldom = { named: false };

const emptyListing = compile('empty-reconcile-objects', () => sql`truncate ${objects}`, seldom);
const analyzeListing = compile('analyze-reconcile-objects', () => sql`analyze ${objects}`, seldom);

const insertRun = compile(
  'insert-reconcile-run',
  (p: Parameter<'id' | 'dryRun'>) =>
    build.insert(runs).values({ id: p('id'), startedAt: now, dryRun: p('dryRun'), outcome: 'running' }),
  seldom,
);
const endRun = compile(
  'end-reconcile-run',
  (p: Parameter<'id' | 'outcome' | 'report'>) =>
    build
      .update(runs)
      .set({ finishedAt: now, outcome: typed(p('outcome'), runs.outcome), report: typed(p('report'), runs.report) })
      .where(eq(runs.id, p('id'))),
  seldom,
);
const deleteListing = compile(
  'delete-reconcile-objects',
  (p: Parameter<'runId'>) => build.delete(objects).where(eq(objects.runId, p('runId'))),
  seldom,
);
const deleteOldRuns = compile(
  'delete-old-reconcile-runs',
  () => build.delete(runs).where(lt(runs.startedAt, daysAgo(KEPT_DAYS))),
  seldom,
);
const findLastRun = compile(
  'find-last-reconcile-run',
  () =>
    build
      .select({ finishedAt: runs.finishedAt, outcome: runs.outcome, report: runs.report })
      .from(runs)
      .where(and(isNotNull(runs.finishedAt), ne(runs.outcome, 'failed')))
      .orderBy(desc(runs.finishedAt))
      .limit(1),
  seldom,
);

const insertObjects = compile(
  'insert-reconcile-objects',
  (p: Parameter<'runId' | 'keys' | 'assetIds' | 'sizes' | 'lastModified'>) =>
    build
      .insert(objects)
      .select(
        build
          .select({
            runId: typed(p('runId'), objects.runId).as('run_id'),
            key: unnested(p('keys'), objects.key).as('key'),
            assetId: unnested(p('assetIds'), objects.assetId).as('asset_id'),
            size: unnested(p('sizes'), objects.size).as('size'),
            lastModified: unnested(p('lastModified'), objects.lastModified).as('last_modified'),
          })
          .from(nowhere),
      )
      .onConflictDoNothing(),
  seldom,
);

const findUnaccounted = compile(
  'find-unaccounted-objects',
  (p: Parameter<'runId' | 'cutoff' | 'after' | 'limit'>) =>
    build
      .select({ key: objects.key, size: objects.size, lastModified: objects.lastModified })
      .from(objects)
      .where(
        and(
          eq(objects.runId, p('runId')),
          gt(objects.key, p('after')),
          lt(objects.lastModified, p('cutoff')),
          hasNoRecord,
        ),
      )
      .orderBy(objects.key)
      .limit(p('limit')),
  seldom,
);

const countUnaccounted = compile(
  'count-unaccounted-objects',
  (p: Parameter<'runId' | 'cutoff'>) => {
    const listed = build
      .select({
        size: objects.size,
        isOld: sql`${lt(objects.lastModified, p('cutoff'))}`.as('is_old'),
        isMissing: sql`${hasNoRecord}`.as('is_missing'),
      })
      .from(objects)
      .where(eq(objects.runId, p('runId')))
      .as('listed');
    const isFound = sql`${listed.isMissing} and ${listed.isOld}`;
    return build
      .select({
        objects: sql`count(*) filter (where ${isFound})`.mapWith(Number),
        bytes: sql`coalesce(${sum(listed.size)} filter (where ${isFound}), 0)`.mapWith(Number),
        accounted: sql`count(*) filter (where not ${listed.isMissing})`.mapWith(Number),
      })
      .from(listed);
  },
  seldom,
);

/** Ready derivatives that the listing of a run does not hold with their size, with the assets that they are made again for. */
const findMissingDerivatives = compile(
  'find-derivatives-without-object',
  (p: Parameter<'runId' | 'before'>) =>
    build
      .select({
        id: derivatives.id,
        assetId: derivatives.assetId,
        objectKey: derivatives.objectKey,
        size: derivatives.size,
        kind: derivatives.kind,
      })
      .from(derivatives)
      .where(
        and(
          eq(derivatives.state, 'ready'),
          lt(derivatives.updatedAt, p('before')),
          notExists(
            build
              .select({ key: objects.key })
              .from(objects)
              .where(
                and(
                  eq(objects.runId, p('runId')),
                  eq(objects.key, derivatives.objectKey),
                  eq(objects.size, derivatives.size),
                ),
              ),
          ),
        ),
      )
      .limit(MAX_RESUMED),
  seldom,
);
/** What was made of assets that are not there any more: an earlier version of the service does not know of it. */
const findDerivativesOfNobody = compile(
  'find-derivatives-of-nobody',
  (p: Parameter<'cutoff'>) =>
    build
      .select({ id: derivatives.id })
      .from(derivatives)
      .where(
        and(
          lt(derivatives.updatedAt, p('cutoff')),
          ne(derivatives.state, 'discarded'),
          notExists(build.select({ id: assets.id }).from(assets).where(eq(assets.id, derivatives.assetId))),
        ),
      )
      .limit(MAX_RESUMED),
  seldom,
);
const storedRecord = { id: assets.id, objectKey: assets.objectKey, size: assets.size, sha256: assets.sha256 };
/** The object of an asset in the listing of a run, of the same size. */
const isListed = (p: Parameter<'runId'>) =>
  and(eq(objects.runId, p('runId')), eq(objects.key, assets.objectKey), eq(objects.size, assets.size));

const findMissing = compile(
  'find-assets-without-object',
  (p: Parameter<'runId' | 'before' | 'after' | 'limit'>) =>
    build
      .select(storedRecord)
      .from(assets)
      .where(
        and(
          inState('ready'),
          lt(assets.createdAt, p('before')),
          gt(assets.id, p('after')),
          notExists(build.select({ key: objects.key }).from(objects).where(isListed(p))),
        ),
      )
      .orderBy(assets.id)
      .limit(p('limit')),
  seldom,
);
const findReappeared = compile(
  'find-lost-assets-with-object',
  (p: Parameter<'runId'>) =>
    build.select(storedRecord).from(assets).innerJoin(objects, isListed(p)).where(inState('lost')),
  seldom,
);
const markAsset = compile(
  'mark-asset',
  (p: Parameter<'id' | 'objectKey' | 'from' | 'to' | 'action' | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({ state: typed(p('to'), assets.state), updatedAt: now, version: sql`${assets.version} + 1` })
        // Other bytes than those that were looked for are another finding.
        .where(and(eq(assets.id, p('id')), eq(assets.objectKey, p('objectKey')), eq(assets.state, p('from'))))
        .returning({
          id: assets.id,
          ownerId: assets.ownerId,
          projectId: assets.projectId,
          name: assets.name,
          size: assets.size,
        }),
    );
    const detail = jsonObject({ name: changed.name, size: changed.size });
    return build
      .with(changed, auditFrom(p, changed, { action: p('action'), detail }))
      .select({ id: changed.id })
      .from(changed);
  },
  seldom,
);
const countLost = compile(
  'count-lost-assets',
  () => build.select({ count: count() }).from(assets).where(inState('lost')),
  seldom,
);

const findStalledDeletions = compile(
  'find-stalled-deletions',
  (p: Parameter<'cutoff' | 'queue'>) => {
    const job = build
      .select({ id: jobs.id })
      .from(jobs)
      .where(
        and(
          eq(jobs.name, p('queue')),
          inArray(jobs.state, ['created', 'retry', 'active']),
          sql`${jobs.data} ->> 'assetId' = ${assets.id}::text`,
        ),
      );
    return build
      .select({ id: assets.id })
      .from(assets)
      .where(and(inState('deleting'), lt(assets.updatedAt, p('cutoff')), notExists(job), not(awaitsCopies)))
      .limit(MAX_RESUMED);
  },
  seldom,
);

export interface StoredRecord {
  id: string;
  objectKey: string;
  size: number;
  sha256?: Buffer;
}

export interface LastRun {
  finishedAt: Date;
  outcome: string;
  report: Record<string, number>;
}

export class ReconciliationRepository {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Pick<Outbox, 'sendAll'>;

  constructor(handle: DatabaseHandle, outbox: Pick<Outbox, 'sendAll'>) {
    this.#handle = handle;
    this.#outbox = outbox;
  }

  /** Begins a run; what a run that died has left of its listing goes. */
  async begin(runId: string, dryRun: boolean): Promise<void> {
    await this.#run(emptyListing, {});
    await this.#run(insertRun, { id: runId, dryRun });
  }

  async end(runId: string, outcome: string, report: object): Promise<void> {
    await this.#run(endRun, { id: runId, outcome, report });
    await this.#run(deleteListing, { runId });
    await this.#run(deleteOldRuns, {});
  }

  async lastRun(): Promise<LastRun | undefined> {
    const [run] = await this.#run(findLastRun, {});
    return run?.finishedAt ? { ...run, finishedAt: run.finishedAt } : undefined;
  }

  /** Writes down a page of the listing. */
  async note(runId: string, page: (ListedObject & { assetId: string })[]): Promise<void> {
    if (page.length === 0) return;
    await this.#run(insertObjects, {
      runId,
      keys: page.map(({ key }) => key),
      assetIds: page.map(({ assetId }) => assetId),
      sizes: page.map(({ size }) => size),
      lastModified: page.map(({ lastModified }) => lastModified.toISOString()),
    });
  }

  async analyze(): Promise<void> {
    await this.#run(analyzeListing, {});
  }

  /** Objects without a record, last modified before `cutoff`, in the order of their keys. */
  async unaccounted(runId: string, cutoff: Date, after: string, limit: number): Promise<ListedObject[]> {
    return this.#run(findUnaccounted, { runId, cutoff, after, limit });
  }

  async countUnaccounted(runId: string, cutoff: Date): Promise<{ objects: number; bytes: number; accounted: number }> {
    const [counted = { objects: 0, bytes: 0, accounted: 0 }] = await this.#run(countUnaccounted, { runId, cutoff });
    return counted;
  }

  /** Of these ids, those of uploads in progress. */
  async uploading(ids: string[]): Promise<Set<string>> {
    const rows = await this.#run(uploading, { ids });
    return new Set(rows.map(({ id }) => id));
  }

  /** Whether an asset, in whatever state, or a derivative names this object. */
  async hasRecord(assetId: string, key: string): Promise<boolean> {
    return (await this.#run(keyHasRecord, { assetId, key })).length > 0;
  }

  /** Derivatives whose object the listing does not hold, of those that were there before it began. */
  async missingDerivatives(runId: string, before: Date) {
    return this.#run(findMissingDerivatives, { runId, before });
  }

  /** Derivatives of assets that are not there, which nobody has touched since `cutoff`. */
  async derivativesOfNobody(cutoff: Date): Promise<string[]> {
    return (await this.#run(findDerivativesOfNobody, { cutoff })).map(({ id }) => id);
  }

  /** Ready assets that the listing does not hold with their size, of those that were there before it began. */
  async missing(runId: string, before: Date, after: string, limit: number): Promise<StoredRecord[]> {
    return (await this.#run(findMissing, { runId, before, after, limit })).map(toRecord);
  }

  /** Lost assets whose object is in the listing again. */
  async reappeared(runId: string): Promise<StoredRecord[]> {
    return (await this.#run(findReappeared, { runId })).map(toRecord);
  }

  /** @returns false when the asset is no longer in state `from`, or has other bytes */
  async mark(
    { id, objectKey }: Pick<StoredRecord, 'id' | 'objectKey'>,
    from: 'ready' | 'lost',
    to: 'lost' | 'ready',
    actor: Actor,
  ): Promise<boolean> {
    const action = to === 'lost' ? 'asset.lost' : 'asset.found';
    return (await this.#run(markAsset, { id, objectKey, from, to, action, ...actor })).length === 1;
  }

  async countLost(): Promise<number> {
    const [lost] = await this.#run(countLost, {});
    return lost?.count ?? 0;
  }

  /** Deletions that stand still since before `cutoff`, whatever became of their jobs, get new ones. @returns how many */
  async resumeDeletions(cutoff: Date, dryRun: boolean): Promise<number> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(findStalledDeletions, { cutoff, queue: deleteObjectJob.name });
      if (!dryRun)
        await this.#outbox.sendAll(
          transaction,
          deleteObjectJob,
          rows.map(({ id }) => ({ assetId: id })),
        );
      return rows.length;
    });
  }

  /** See drift.ts. */
  async drifted(): Promise<{ account: string; bytes: number }[]> {
    return findDrifted(this.#handle.database);
  }

  /** See drift.ts. */
  async correctQuota(account: string, actor: Actor): Promise<void> {
    await correctQuota(this.#handle, account, actor);
  }

  /** See usage/drift.ts. */
  async reconcileStatistics(actor: Actor | undefined): Promise<StatisticsDrift> {
    return reconcileStatistics(this.#handle.database, actor);
  }

  async #run<Name extends string, Row>(statement: Statement<Name, Row>, values: Values<Name>): Promise<Row[]> {
    const { rows } = await this.#handle.database.run(statement, values);
    return rows;
  }
}

function toRecord({
  sha256,
  size,
  ...rest
}: {
  id: string;
  objectKey: string;
  size: number | null;
  sha256: Buffer | null;
}) {
  // Only assets are looked for, and an asset has a size.
  return { ...rest, size: size ?? 0, ...(sha256 && { sha256 }) };
}
