/**
 * What is written about somebody beside his assets: what he may do by credentials, projects and shares is deleted, what
 * belongs to others has a pseudonym instead of his name. Each statement may be repeated; those that read whole tables go
 * through them page by page.
 */
import { and, eq, ne, or, type SQL, sql } from 'drizzle-orm';
import type { PgColumn, PgTable } from 'drizzle-orm/pg-core';
import { ownerAccount } from '../database/accounts.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, nowhere, type Parameter, type Statement, writtenOut } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';
import { apiKeys, tickets } from '../database/tables/credentials.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { type ErasureCounts, erasures } from '../database/tables/erasures.ts';
import { idempotencyKeys } from '../database/tables/idempotency.ts';
import { jobs } from '../database/tables/jobs.ts';
import { callerCounts, uploadCounts } from '../database/tables/limits.ts';
import { projectMembers, projects } from '../database/tables/projects.ts';
import { quotas } from '../database/tables/quotas.ts';
import { scans } from '../database/tables/scans.ts';
import { shareMarks, shares, shareTries, shareVisits } from '../database/tables/shares.ts';
import { assetStatistics } from '../database/tables/statistics.ts';
import { trashEmptyings } from '../database/tables/trash.ts';
import { replacements } from '../database/tables/versions.ts';
import type { RunningErasure } from './repository.ts';

type Name = 'ownerId' | 'pseudonym' | 'account';
type P = Parameter<Name>;
const seldom = { named: false };

/** A statement that says how many rows it has changed. */
const counting = (name: string, make: (p: P) => { getSQL(): SQL }) => {
  const statement = compile(
    name,
    (p: P) => {
      const done = build.$with('done', {}).as(sql`${make(p).getSQL()} returning 1 as one`);
      return build
        .with(done)
        .select({ rows: sql<number>`(select count(*) from ${done})`.mapWith(Number).as('rows') })
        .from(nowhere);
    },
    seldom,
  );
  return statement;
};

const replaceIn = (name: string, table: PgTable, column: PgColumn, value: (p: P) => SQL) =>
  counting(name, (p) =>
    build
      .update(table)
      .set({ [columnName(table, column)]: value(p) })
      .where(eq(column, p('ownerId'))),
  );
const pseudonym = (p: P) => sql`${p('pseudonym')}`;

function columnName(table: PgTable, column: PgColumn): string {
  const found = Object.entries(table).find(([, each]) => each === column);
  if (!found) throw new TypeError('the column is of another table');
  return found[0];
}

/** By which he, or somebody who speaks for him, can do or reach anything. */
const credentials: Record<string, Statement<Name, { rows: number }>> = {
  keys: counting('erase-keys', (p) => build.delete(apiKeys).where(eq(apiKeys.ownerId, p('ownerId')))),
  tickets: counting('erase-tickets', (p) =>
    build.delete(tickets).where(or(eq(tickets.issuedBy, p('ownerId')), eq(tickets.subject, p('ownerId')))),
  ),
  shareMarks: counting('erase-share-marks', (p) => build.delete(shareMarks).where(isOfShare(p, shareMarks.shareId))),
  shareVisits: counting('erase-share-visits', (p) =>
    build.delete(shareVisits).where(isOfShare(p, shareVisits.shareId)),
  ),
  shareTries: counting('erase-share-tries', (p) => build.delete(shareTries).where(isOfShare(p, shareTries.shareId))),
  shares: counting('erase-shares', (p) => build.delete(shares).where(eq(shares.createdBy, p('ownerId')))),
};

function isOfShare(p: P, shareId: PgColumn): SQL {
  const his = build
    .select({ id: shares.id })
    .from(shares)
    .where(eq(shares.createdBy, p('ownerId')));
  return sql`${shareId} in (${his})`;
}

const isEmpty = sql`not exists (${build
  .select({ id: assets.id })
  .from(assets)
  .where(eq(assets.projectId, projects.id))})`;
const hasMembers = sql`exists (${build
  .select({ role: projectMembers.role })
  .from(projectMembers)
  .where(eq(projectMembers.projectId, projects.id))})`;

/** In this order: a project is his own where nobody is a member of it any more, and nothing is in it. */
const records: Record<string, Statement<Name, { rows: number }>> = {
  memberships: counting('erase-memberships', (p) =>
    build.delete(projectMembers).where(eq(projectMembers.subject, p('ownerId'))),
  ),
  addedMembers: replaceIn('erase-member-adders', projectMembers, projectMembers.addedBy, () => sql`null`),
  projects: counting('erase-projects', (p) =>
    build.delete(projects).where(and(eq(projects.createdBy, p('ownerId')), isEmpty, sql`not ${hasMembers}`)),
  ),
  madeProjects: replaceIn('erase-project-makers', projects, projects.createdBy, pseudonym),
  uploadCounts: counting('erase-upload-counts', (p) =>
    build.delete(uploadCounts).where(eq(uploadCounts.callerId, p('ownerId'))),
  ),
  callerCounts: counting('erase-caller-counts', (p) =>
    build.delete(callerCounts).where(eq(callerCounts.callerId, p('ownerId'))),
  ),
  trashEmptyings: counting('erase-trash-emptyings', (p) =>
    build
      .delete(trashEmptyings)
      .where(or(eq(trashEmptyings.ownerId, p('ownerId')), eq(trashEmptyings.account, p('account')))),
  ),
  requestedEmptyings: replaceIn('erase-trash-requesters', trashEmptyings, trashEmptyings.requestedBy, pseudonym),
  requestedScans: replaceIn('erase-scan-requesters', scans, scans.requestedBy, pseudonym),
  requestedErasures: counting('erase-erasure-requesters', (p) =>
    build
      .update(erasures)
      .set({ requestedBy: pseudonym(p) })
      .where(and(eq(erasures.requestedBy, p('ownerId')), ne(erasures.state, 'running'))),
  ),
  // What is held counts on.
  quotas: counting('erase-quota', (p) =>
    build
      .delete(quotas)
      .where(and(eq(quotas.account, p('account')), sql`${quotas.fileCount} = 0 and ${quotas.reservedBytes} = 0`)),
  ),
  statistics: counting('erase-statistics', (p) =>
    build.delete(assetStatistics).where(and(eq(assetStatistics.ownerId, p('ownerId')), eq(assetStatistics.files, 0))),
  ),
  // Of those that wait or run, whoever has sent them needs what they say.
  endedJobs: counting('erase-ended-jobs', (p) =>
    build.delete(jobs).where(
      and(
        sql`${jobs.state} in ('completed', 'cancelled', 'failed')`,
        sql`(position(to_json(${p('ownerId')}::text)::text in ${jobs.data}::text) > 0
            or position(to_json(${p('account')}::text)::text in ${jobs.data}::text) > 0)`,
      ),
    ),
  ),
};

/** Rows that are looked at by one statement. */
const PAGE = 5000;

interface SweptPage {
  looked: number;
  changed: number;
  /** The last key. */
  last: string | null;
}
type Swept = Statement<Name | 'after', SweptPage>;

/** Rows of a page by their key, and what is done with those of them that name him. */
const sweeping = (
  name: string,
  { key, type, change }: { key: PgColumn; type: 'uuid'; change: (p: P, isOfPage: SQL) => { getSQL(): SQL } },
): Swept =>
  compile(
    name,
    (p: Parameter<Name | 'after'>) => {
      const page = build.$with('page').as(
        build
          .select({ key: sql<string>`${key}`.as('page_key') })
          .from(key.table)
          .where(sql`${key} > ${p('after')}::${sql.raw(type)}`)
          .orderBy(key)
          .limit(writtenOut(PAGE)),
      );
      const isOfPage = sql`${key} in (${build.select({ key: page.key }).from(page)})`;
      const done = build.$with('done', {}).as(sql`${change(p, isOfPage).getSQL()} returning 1 as one`);
      return build
        .with(page, done)
        .select({
          looked: sql<number>`count(*)`.mapWith(Number).as('looked'),
          changed: sql<number>`(select count(*) from ${done})`.mapWith(Number).as('changed'),
          last: sql<string | null>`(array_agg(${page.key} order by ${page.key} desc))[1]::text`.as('last_key'),
        })
        .from(page);
    },
    seldom,
  );

const sweeps: Record<string, Swept> = {
  requestedDerivatives: sweeping('sweep-derivatives', {
    key: derivatives.id,
    type: 'uuid',
    change: (p, isOfPage) =>
      build
        .update(derivatives)
        .set({ requestedBy: pseudonym(p) })
        .where(and(isOfPage, eq(derivatives.requestedBy, p('ownerId')))),
  }),
  madeHolds: sweeping('sweep-holds', {
    key: assets.id,
    type: 'uuid',
    change: (p, isOfPage) =>
      build
        .update(assets)
        .set({
          holds: sql`(select jsonb_object_agg(key, case value ->> 'by' when ${p('ownerId')}
            then value || jsonb_build_object('by', ${p('pseudonym')}::text) else value end) from jsonb_each(${assets.holds}))`,
        })
        .where(
          and(
            isOfPage,
            sql`exists (select from jsonb_each(coalesce(${assets.holds}, '{}')) as hold where hold.value ->> 'by' = ${p('ownerId')})`,
          ),
        ),
  }),
  replacements: sweeping('sweep-replacements', {
    key: replacements.uploadId,
    type: 'uuid',
    change: (p, isOfPage) =>
      build
        .update(replacements)
        .set({ uploaderId: pseudonym(p) })
        .where(and(isOfPage, eq(replacements.uploaderId, p('ownerId')))),
  }),
};

/** Under whose name an answer is kept; see `answersOf` in access/caller.ts. `via:{length}:{via}:{subject}`. */
const lengthOfVia = sql`split_part(${idempotencyKeys.callerId}, ':', 2)`;
const afterVia = sql`substring(${idempotencyKeys.callerId} from 7 + length(${lengthOfVia}) + ${lengthOfVia}::integer)`;
const sweepAnswers = compile(
  'sweep-answers',
  (p: Parameter<Name | 'afterCaller' | 'afterKey'>) => {
    const page = build.$with('page').as(
      build
        .select({ callerId: idempotencyKeys.callerId, key: idempotencyKeys.key })
        .from(idempotencyKeys)
        .where(
          sql`(${idempotencyKeys.callerId}, ${idempotencyKeys.key}) > (${p('afterCaller')}::text, ${p('afterKey')}::text)`,
        )
        .orderBy(idempotencyKeys.callerId, idempotencyKeys.key)
        .limit(writtenOut(PAGE)),
    );
    const quoted = sql`to_json(${p('ownerId')}::text)::text`;
    const names = sql`(${idempotencyKeys.callerId} in (${p('ownerId')}, 'user:' || ${p('ownerId')})
      or case when ${idempotencyKeys.callerId} ~ '^via:[0-9]{1,4}:' then ${afterVia} = ${p('ownerId')} else false end
      or position(${quoted} in coalesce(${idempotencyKeys.body}, '')) > 0
      or position(${quoted} in coalesce(${idempotencyKeys.headers}::text, '')) > 0)`;
    const done = build.$with('done').as(
      build
        .delete(idempotencyKeys)
        .where(
          and(
            sql`(${idempotencyKeys.callerId}, ${idempotencyKeys.key}) in (${build.select({ callerId: page.callerId, key: page.key }).from(page)})`,
            names,
          ),
        )
        .returning({ key: sql<string>`${idempotencyKeys.key}`.as('deleted_key') }),
    );
    return build
      .with(page, done)
      .select({
        callerId: page.callerId,
        key: page.key,
        changed: sql<number>`(select count(*) from ${done})`.mapWith(Number).as('changed'),
        looked: sql<number>`(select count(*) from ${page})`.mapWith(Number).as('looked'),
      })
      .from(page)
      .orderBy(sql`${page.callerId} desc`, sql`${page.key} desc`)
      .limit(writtenOut(1));
  },
  seldom,
);

const NIL = '00000000-0000-0000-0000-000000000000';

export class OwnedRecords {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /** Keys, tickets and shares. @returns how many of each were deleted */
  credentials(executor: Executor, erasure: RunningErasure): Promise<ErasureCounts> {
    return run(executor, credentials, erasure);
  }

  /** Everything that is found by an index, or lies in a small table. */
  records(executor: Executor, erasure: RunningErasure): Promise<ErasureCounts> {
    return run(executor, records, erasure);
  }

  /** What lies in large tables, page by page. */
  async sweep(erasure: RunningErasure, signal: AbortSignal): Promise<ErasureCounts> {
    const counts: ErasureCounts = {};
    const values = valuesOf(erasure);
    for (const [name, statement] of Object.entries(sweeps)) {
      let after: string | null = NIL;
      let changed = 0;
      while (after !== null) {
        signal.throwIfAborted();
        const { rows }: { rows: SweptPage[] } = await this.#handle.database.run(statement, { ...values, after });
        changed += rows[0]?.changed ?? 0;
        after = rows[0]?.looked === PAGE ? rows[0].last : null;
      }
      counts[name] = changed;
    }
    counts['answers'] = await this.#sweepAnswers(values, signal);
    return counts;
  }

  async #sweepAnswers(values: ReturnType<typeof valuesOf>, signal: AbortSignal): Promise<number> {
    let deleted = 0;
    let [afterCaller, afterKey] = ['', ''];
    for (let looked = PAGE; looked === PAGE; ) {
      signal.throwIfAborted();
      const { rows } = await this.#handle.database.run(sweepAnswers, { ...values, afterCaller, afterKey });
      const [row] = rows;
      deleted += row?.changed ?? 0;
      looked = row?.looked ?? 0;
      afterCaller = row?.callerId ?? '';
      afterKey = row?.key ?? '';
    }
    return deleted;
  }
}

function valuesOf({ ownerId, pseudonym }: RunningErasure) {
  return { ownerId, pseudonym, account: ownerAccount(ownerId) };
}

async function run(
  executor: Executor,
  statements: Record<string, Statement<Name, { rows: number }>>,
  erasure: RunningErasure,
): Promise<ErasureCounts> {
  const counts: ErasureCounts = {};
  for (const [name, statement] of Object.entries(statements))
    counts[name] = (await executor.run(statement, valuesOf(erasure))).rows[0]?.rows ?? 0;
  return counts;
}
