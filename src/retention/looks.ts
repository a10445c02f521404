/** Looks of the life cycle in SQL: which assets are looked at, what is to be done with them, and when they are looked at next. */
import { and, asc, eq, gt, isNotNull, isNull, lte, or, type SQL, sql } from 'drizzle-orm';
import {
  isBusy,
  type LifeCycleStep,
  nextStep,
  ofLook,
  ofProject,
  type StepParameter,
  type StepValues,
} from '../assets/life-cycle-step.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, excluded, nowhere, type Parameter, typed, unnested } from '../database/statements.ts';
import { type AssetState, assets, isVisible } from '../database/tables/assets.ts';
import { lifeCycleLooks, lifeCyclePolicies } from '../database/tables/life-cycle.ts';
import { projects } from '../database/tables/projects.ts';
import type { LifeCycleRules } from '../validation/life-cycle.ts';

const seldom = { named: false };

/** Rows whose time has come, each held until the transaction ends; who holds one already looks at it himself. */
const takeDue = compile(
  'take-life-cycle-looks',
  (p: Parameter<'now' | 'limit'>) =>
    build
      .select({ assetId: lifeCycleLooks.assetId })
      .from(lifeCycleLooks)
      .where(lte(lifeCycleLooks.lookAt, sql`${p('now')}::timestamptz`))
      .orderBy(lifeCycleLooks.lookAt, lifeCycleLooks.assetId)
      .limit(p('limit'))
      .for('update', { skipLocked: true }),
  seldom,
);

const stepColumns = (p: Parameter<StepParameter>) => {
  const step = nextStep(p);
  return {
    step,
    columns: {
      id: assets.id,
      state: assets.state,
      isTrashed: sql<boolean>`(${assets.trashedAt} is not null)`.as('is_trashed'),
      isBusy: isBusy.as('is_busy'),
      action: sql<LifeCycleStep['action'] | null>`${step.action}`.as('next_action'),
      rule: sql<LifeCycleStep['rule'] | null>`${step.rule}`.as('next_rule'),
      at: sql`${step.at}`.mapWith(assets.createdAt).as('next_at'),
    },
  };
};

const findSteps = compile(
  'find-life-cycle-steps',
  (p: Parameter<'ids' | StepParameter>) => {
    const { step, columns } = stepColumns(p);
    return build
      .select(columns)
      .from(assets)
      .leftJoin(projects, ofProject)
      .leftJoin(lifeCycleLooks, ofLook)
      .leftJoinLateral(step, sql`true`)
      .where(sql`${assets.id} = any (${p('ids')}::uuid[])`);
  },
  seldom,
);

const putLooks = compile(
  'put-life-cycle-looks',
  (p: Parameter<'ids' | 'times'>) => {
    const next = build
      .select({
        id: unnested(p('ids'), lifeCycleLooks.assetId).as('next_id'),
        at: unnested(p('times'), lifeCycleLooks.lookAt).as('next_at'),
      })
      .from(nowhere)
      .as('next');
    return build
      .update(lifeCycleLooks)
      .set({ lookAt: sql`${next.at}` })
      .from(next)
      .where(eq(lifeCycleLooks.assetId, next.id));
  },
  seldom,
);
const dropLooks = compile(
  'drop-life-cycle-looks',
  (p: Parameter<'ids'>) =>
    build.delete(lifeCycleLooks).where(sql`${lifeCycleLooks.assetId} = any (${p('ids')}::uuid[])`),
  seldom,
);

/** Assets of a project in the order of an index, in the trash or not. */
const notePage = (name: string, isThere: (p: Parameter<'projectId'>) => SQL | undefined) =>
  compile(
    name,
    (p: Parameter<'projectId' | 'afterTime' | 'afterId' | 'limit'>) => {
      const page = build.$with('page').as(
        build
          .select({ id: assets.id, createdAt: assets.createdAt })
          .from(assets)
          .where(
            and(
              isThere(p),
              isVisible,
              sql`(${assets.createdAt}, ${assets.id}) > (${p('afterTime')}::timestamptz, ${p('afterId')}::uuid)`,
            ),
          )
          .orderBy(assets.createdAt, assets.id)
          .limit(p('limit')),
      );
      const looked = build.$with('looked', {}).as(
        insertLooks(
          build
            .select({
              assetId: page.id,
              lookAt: sql<Date>`now()`.as('look_at'),
              linkedAt: sql<null>`null::timestamptz`.as('linked_at'),
            })
            .from(page),
        ),
      );
      return build
        .with(page, looked)
        .select({ id: page.id, createdAt: page.createdAt })
        .from(page)
        .orderBy(page.createdAt, page.id);
    },
    seldom,
  );
const noteListed = notePage('note-listed-of-project', (p) =>
  and(eq(assets.projectId, p('projectId')), isNotNull(assets.projectId), isNull(assets.trashedAt)),
);
const noteTrashed = notePage('note-trashed-of-project', (p) =>
  and(eq(assets.projectId, p('projectId')), isNotNull(assets.projectId), isNotNull(assets.trashedAt)),
);

/** Assets in the order of their ids; those of some types are looked at soon. */
const noteTypes = compile(
  'note-assets-of-types',
  (p: Parameter<'assetTypes' | 'after' | 'limit'>) => {
    const page = build.$with('page').as(
      build
        .select({ id: assets.id, assetType: assets.assetType, state: assets.state })
        .from(assets)
        .where(gt(assets.id, p('after')))
        .orderBy(assets.id)
        .limit(p('limit')),
    );
    const looked = build.$with('looked', {}).as(
      insertLooks(
        build
          .select({
            assetId: page.id,
            lookAt: sql<Date>`now()`.as('look_at'),
            linkedAt: sql<null>`null::timestamptz`.as('linked_at'),
          })
          .from(page)
          .where(
            sql`${page.assetType} = any (${p('assetTypes')}::text[]) and ${page.state} not in ('uploading', 'deleting')`,
          ),
      ),
    );
    return build.with(page, looked).select({ id: page.id }).from(page).orderBy(page.id);
  },
  seldom,
);

function insertLooks(rows: SQL | { getSQL(): SQL }): SQL {
  return build
    .insert(lifeCycleLooks)
    .select(rows as never)
    .onConflictDoUpdate({
      target: lifeCycleLooks.assetId,
      set: { lookAt: sql`least(${lifeCycleLooks.lookAt}, ${excluded(lifeCycleLooks.lookAt)})` },
    })
    .getSQL();
}

const listPolicies = compile('list-life-cycle-policies', () => build.select().from(lifeCyclePolicies), seldom);
const putPolicy = compile(
  'put-life-cycle-policy',
  (p: Parameter<'assetType' | 'rules'>) =>
    build
      .insert(lifeCyclePolicies)
      .values({ assetType: p('assetType'), rules: typed(p('rules'), lifeCyclePolicies.rules), changedAt: sql`now()` })
      .onConflictDoUpdate({
        target: lifeCyclePolicies.assetType,
        set: { rules: excluded(lifeCyclePolicies.rules), changedAt: sql`now()` },
      }),
  seldom,
);

/** What is done by `until`, page by page in the order of the looks: a look is never later than what it is for. */
const pageOfLooks = compile(
  'page-of-life-cycle-looks',
  (p: Parameter<'until' | 'afterTime' | 'afterId' | 'limit'>) =>
    build
      .select({ assetId: lifeCycleLooks.assetId, lookAt: lifeCycleLooks.lookAt })
      .from(lifeCycleLooks)
      .where(
        and(
          lte(lifeCycleLooks.lookAt, sql`${p('until')}::timestamptz`),
          sql`(${lifeCycleLooks.lookAt}, ${lifeCycleLooks.assetId}) > (${p('afterTime')}::timestamptz, ${p('afterId')}::uuid)`,
        ),
      )
      .orderBy(lifeCycleLooks.lookAt, lifeCycleLooks.assetId)
      .limit(p('limit')),
  seldom,
);
const pageOfProject = compile(
  'page-of-life-cycle-of-project',
  (p: Parameter<'projectId' | 'afterTime' | 'afterId' | 'limit'>) =>
    build
      .select({ assetId: assets.id, lookAt: assets.createdAt })
      .from(assets)
      .where(
        and(
          eq(assets.projectId, p('projectId')),
          isNotNull(assets.projectId),
          isVisible,
          isNull(assets.trashedAt),
          sql`(${assets.createdAt}, ${assets.id}) > (${p('afterTime')}::timestamptz, ${p('afterId')}::uuid)`,
        ),
      )
      .orderBy(asc(assets.createdAt), asc(assets.id))
      .limit(p('limit')),
  seldom,
);
const pageOfIds = compile(
  'page-of-asset-ids',
  (p: Parameter<'after' | 'limit'>) =>
    build
      .select({ assetId: assets.id })
      .from(assets)
      .where(gt(assets.id, p('after')))
      .orderBy(assets.id)
      .limit(p('limit')),
  seldom,
);
const findDue = compile(
  'find-life-cycle-due',
  (p: Parameter<'ids' | 'until' | StepParameter>) => {
    const step = nextStep(p);
    return build
      .select({
        id: assets.id,
        name: assets.name,
        ownerId: assets.ownerId,
        projectId: assets.projectId,
        assetType: assets.assetType,
        size: assets.size,
        action: sql<LifeCycleStep['action']>`${step.action}`.as('next_action'),
        rule: sql<LifeCycleStep['rule']>`${step.rule}`.as('next_rule'),
        at: sql`${step.at}`.mapWith(assets.createdAt).as('next_at'),
      })
      .from(assets)
      .leftJoin(projects, ofProject)
      .leftJoin(lifeCycleLooks, ofLook)
      .crossJoinLateral(step)
      .where(
        and(
          sql`${assets.id} = any (${p('ids')}::uuid[])`,
          isVisible,
          lte(step.at, sql`${p('until')}::timestamptz`),
          or(sql`${step.rule} <> 'trash'`),
        ),
      );
  },
  seldom,
);

/** What is known of an asset that is looked at. */
export interface Looked {
  id: string;
  /** Absent where the asset has gone. */
  state?: AssetState;
  isTrashed: boolean;
  isBusy: boolean;
  step?: LifeCycleStep;
}

/** What will be done with an asset by a time. */
export interface DueStep extends LifeCycleStep {
  id: string;
  name: string;
  ownerId: string;
  projectId: string | null;
  assetType: string | null;
  size: number | null;
}

/** Where a page ended. */
export interface LookPosition {
  at: Date;
  id: string;
}

const NIL = '00000000-0000-0000-0000-000000000000';
const START: LookPosition = { at: new Date(0), id: NIL };

export class LooksRepository {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  transact<Result>(work: (transaction: Executor) => Promise<Result>): Promise<Result> {
    return this.#handle.transact(work);
  }

  /** Takes at most `limit` assets whose time has come, and tells what the rules want of them. */
  async take(
    transaction: Executor,
    { now, limit, ...rules }: StepValues & { now: Date; limit: number },
  ): Promise<Looked[]> {
    const { rows: due } = await transaction.run(takeDue, { now: now.toISOString(), limit });
    if (due.length === 0) return [];
    const { rows } = await transaction.run(findSteps, { ids: due.map(({ assetId }) => assetId), ...rules });
    const found = new Map(rows.map((row) => [row.id, row]));
    return due.map(({ assetId }) => {
      const row = found.get(assetId);
      if (!row) return { id: assetId, isTrashed: false, isBusy: false };
      const { state, isTrashed, isBusy: busy, action, at, rule } = row;
      const step = action !== null && at !== null && rule !== null && { step: { action, at, rule } };
      return { id: assetId, state, isTrashed, isBusy: busy, ...step };
    });
  }

  /** When they are looked at next. */
  async put(transaction: Executor, next: ReadonlyMap<string, Date>): Promise<void> {
    if (next.size === 0) return;
    await transaction.run(putLooks, { ids: [...next.keys()], times: [...next.values()].map((at) => at.toISOString()) });
  }

  /** No rule has anything to do with them any more. */
  async drop(transaction: Executor, ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await transaction.run(dropLooks, { ids });
  }

  /** Has the next assets of a project looked at. @returns where it ended; undefined when there are no more */
  async noteProject(
    projectId: string,
    { isTrash, after = START, limit }: { isTrash: boolean; after?: LookPosition | undefined; limit: number },
  ): Promise<LookPosition | undefined> {
    const values = { projectId, afterTime: after.at.toISOString(), afterId: after.id, limit };
    const { rows } = await this.#handle.database.run(isTrash ? noteTrashed : noteListed, values);
    const last = rows.at(-1);
    return rows.length < limit || !last ? undefined : { at: last.createdAt, id: last.id };
  }

  /** Has those of these types looked at, among the next assets. @returns the same */
  async noteTypes(
    assetTypes: readonly string[],
    { after = NIL, limit }: { after?: string | undefined; limit: number },
  ): Promise<string | undefined> {
    const { rows } = await this.#handle.database.run(noteTypes, { assetTypes, after, limit });
    return rows.length < limit ? undefined : rows.at(-1)?.id;
  }

  /** What upload policies said when assets were last looked through for them. */
  async policies(): Promise<{ assetType: string; rules: LifeCycleRules; changedAt: Date }[]> {
    return (await this.#handle.database.run(listPolicies, {})).rows;
  }

  async putPolicy(transaction: Executor, assetType: string, rules: LifeCycleRules): Promise<void> {
    await transaction.run(putPolicy, { assetType, rules });
  }

  /** What will be done by `until` with the next `limit` assets that are looked at by then. */
  async dueOfAll(
    until: Date,
    rules: StepValues,
    { after = START, limit }: { after?: LookPosition | undefined; limit: number },
  ): Promise<{ due: DueStep[]; next?: LookPosition }> {
    const values = { until: until.toISOString(), afterTime: after.at.toISOString(), afterId: after.id, limit };
    const { rows } = await this.#handle.database.run(pageOfLooks, values);
    return this.#dueOf(rows, until, rules, limit);
  }

  /** The same of a project, in the order in which its assets were made. */
  async dueOfProject(
    projectId: string,
    until: Date,
    rules: StepValues,
    { after = START, limit }: { after?: LookPosition | undefined; limit: number },
  ): Promise<{ due: DueStep[]; next?: LookPosition }> {
    const values = { projectId, afterTime: after.at.toISOString(), afterId: after.id, limit };
    const { rows } = await this.#handle.database.run(pageOfProject, values);
    return this.#dueOf(rows, until, rules, limit);
  }

  /** The same of all assets, in the order of their ids, whether anything is to look at them or not. */
  async dueOfEach(
    until: Date,
    rules: StepValues,
    { after = NIL, limit }: { after?: string | undefined; limit: number },
  ): Promise<{ due: DueStep[]; next?: string }> {
    const { rows } = await this.#handle.database.run(pageOfIds, { after, limit });
    const due = await this.#find(
      rows.map(({ assetId }) => assetId),
      until,
      rules,
    );
    const last = rows.length < limit ? undefined : rows.at(-1);
    return { due, ...(last && { next: last.assetId }) };
  }

  async #dueOf(rows: { assetId: string; lookAt: Date }[], until: Date, rules: StepValues, limit: number) {
    const due = await this.#find(
      rows.map(({ assetId }) => assetId),
      until,
      rules,
    );
    const last = rows.length < limit ? undefined : rows.at(-1);
    return { due, ...(last && { next: { at: last.lookAt, id: last.assetId } }) };
  }

  /** In the order of the ids that are named. */
  async #find(ids: string[], until: Date, rules: StepValues): Promise<DueStep[]> {
    if (ids.length === 0) return [];
    const { rows } = await this.#handle.database.run(findDue, { ids, until: until.toISOString(), ...rules });
    const places = new Map(ids.map((id, place) => [id, place]));
    return rows
      .flatMap((row) => (row.at === null ? [] : [{ ...row, at: row.at }]))
      .sort((one, other) => (places.get(one.id) ?? 0) - (places.get(other.id) ?? 0));
  }
}
