/** The statements by which assets are deleted for good: by their owner, out of the trash, and when they expire. */
import {
  and,
  count,
  eq,
  inArray,
  isNotNull,
  lt,
  lte,
  ne,
  not,
  type SQL,
  sql,
  sum,
  type WithSubquery,
} from 'drizzle-orm';
import type { PgColumn } from 'drizzle-orm/pg-core';
import { type AccessParameter, isFor } from '../access/conditions.ts';
import { type Actor, type AuditAction, auditFrom } from '../database/audit.ts';
import { build, compile, isAnyOf, jsonObject, now, nowhere, type Parameter, unnested } from '../database/statements.ts';
import { assets, inState, isFree, isVisible } from '../database/tables/assets.ts';
import { auditEvents } from '../database/tables/audit.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { lifeCycleLooks } from '../database/tables/life-cycle.ts';
import { projects } from '../database/tables/projects.ts';
import { quotas } from '../database/tables/quotas.ts';
import { assetVersions } from '../database/tables/versions.ts';
import { hasCopies } from '../mirrors/copy-statements.ts';
import { chargedAccount } from '../quotas/accounts.ts';
import { nextVersion } from './conditions.ts';
import { forgetDownloads } from './download-counts.ts';
import { isDue, nextStep, ofLook, ofProject, type StepParameter } from './life-cycle-step.ts';

/** Assets that are to be deleted, each with who wants that: what `deletion` needs of a common table expression. */
type Chosen = WithSubquery & Record<'id' | keyof Actor, PgColumn | SQL.Aliased>;

/** Who acts, where that is the same for all of them. */
export const actorColumns = (p: Parameter<keyof Actor>) => ({
  callerId: sql<string>`${p('callerId')}::text`.as('caller_id'),
  requestId: sql<string>`${p('requestId')}::text`.as('request_id'),
  via: sql<string | null>`${p('via')}::text`.as('via'),
  because: sql<string | null>`${p('because')}::text`.as('because'),
});

/** Marks those of them for deletion that are visible and free, frees their quota, and writes an audit row for each. */
export function deletion(chosen: Chosen, action: AuditAction, ...before: WithSubquery[]) {
  const changed = build.$with('changed').as(
    build
      .update(assets)
      .set({ ...nextVersion, state: 'deleting' })
      .from(chosen)
      .where(and(eq(assets.id, chosen.id), isVisible, isFree))
      .returning({
        id: assets.id,
        ownerId: assets.ownerId,
        projectId: assets.projectId,
        account: chargedAccount.as('account'),
        name: assets.name,
        size: assets.size,
        bytes: sql<number>`${assets.size} + ${assets.versionBytes}`.as('bytes'),
        callerId: sql<string>`${chosen.callerId}`.as('caller_id'),
        requestId: sql<string>`${chosen.requestId}`.as('request_id'),
        via: sql<string | null>`${chosen.via}`.as('via'),
        because: sql<string | null>`${chosen.because}`.as('because'),
      }),
  );
  const freed = build
    .select({ account: changed.account, bytes: sum(changed.bytes).as('bytes'), files: count().as('files') })
    .from(changed)
    .groupBy(changed.account);
  const freedAccounts = build.$with('freed').as(freed);
  // In one order, so that two deletions over the same accounts do not wait for each other; see quotas/moving.ts.
  const locked = build.$with('locked').as(
    build
      .select({ account: quotas.account })
      .from(quotas)
      .where(inArray(quotas.account, build.select({ account: freedAccounts.account }).from(freedAccounts)))
      .orderBy(quotas.account)
      .for('update'),
  );
  const uncounted = build.$with('uncounted', {}).as(
    build
      .update(quotas)
      .set({
        usedBytes: sql`${quotas.usedBytes} - ${freedAccounts.bytes}`,
        fileCount: sql`${quotas.fileCount} - ${freedAccounts.files}`,
      })
      .from(sql`${freedAccounts} join ${locked} on ${eq(locked.account, freedAccounts.account)}`)
      .where(eq(quotas.account, freedAccounts.account))
      .getSQL(),
  );
  const detail = jsonObject({ name: changed.name, size: changed.size });
  const audit = auditFrom((name) => changed[name], changed, { action, detail });
  return build
    .with(...before, chosen, changed, freedAccounts, locked, uncounted, audit)
    .select({ id: changed.id })
    .from(changed);
}

/**
 * Assets that one caller may delete, each for a request of its own (an id may be there once), and with the version that its record must
 * have, or null. They are locked in one order, so that two statements for the same assets do not wait for each other.
 */
export const deleteAssets = compile(
  'delete-assets',
  (p: Parameter<'ids' | 'versions' | 'callerIds' | 'requestIds' | 'vias' | 'reasons' | AccessParameter>) => {
    const wanted = build.$with('wanted').as(
      build
        .select({
          id: unnested(p('ids'), assets.id).as('wanted_id'),
          version: unnested(p('versions'), assets.version).as('wanted_version'),
          callerId: unnested(p('callerIds'), auditEvents.actorId).as('caller_id'),
          requestId: unnested(p('requestIds'), auditEvents.requestId).as('request_id'),
          via: unnested(p('vias'), auditEvents.via).as('via'),
          because: unnested(p('reasons'), auditEvents.reason).as('because'),
        })
        .from(nowhere),
    );
    const chosen = build.$with('chosen').as(
      build
        .select({
          id: assets.id,
          callerId: sql<string>`${wanted.callerId}`.as('caller_id'),
          requestId: sql<string>`${wanted.requestId}`.as('request_id'),
          via: sql<string | null>`${wanted.via}`.as('via'),
          because: sql<string | null>`${wanted.because}`.as('because'),
        })
        .from(assets)
        .innerJoin(wanted, eq(wanted.id, assets.id))
        .where(
          and(
            isFor(p, 'asset.delete'),
            isVisible,
            sql`(${wanted.version} is null or ${wanted.version} = ${assets.version})`,
          ),
        )
        .orderBy(assets.id)
        .for('update', { of: assets }),
    );
    return deletion(chosen, 'asset.deleted', wanted);
  },
);

export const purgeTrash = compile(
  'purge-trash',
  (p: Parameter<'cutoff' | 'limit' | keyof Actor>) => {
    const expired = build.$with('expired').as(
      build
        .select({ id: assets.id, ...actorColumns(p) })
        .from(assets)
        // What is held would be found first, again and again, and keep the others from being found.
        .where(and(isVisible, isFree, lt(assets.trashedAt, p('cutoff'))))
        .orderBy(assets.trashedAt)
        .limit(p('limit'))
        .for('update', { skipLocked: true }),
    );
    return deletion(expired, 'asset.purged');
  },
  { named: false },
);

type TrashParameter = 'ownerId' | 'projectId' | 'afterTime' | 'afterId' | 'limit';
/** What lies in a trash, in the order of its index, whether it may be deleted or not. */
const findTrash = (name: string, isThere: (p: Parameter<TrashParameter>) => SQL) =>
  compile(
    name,
    (p: Parameter<TrashParameter>) =>
      build
        .select({ id: assets.id, createdAt: assets.createdAt })
        .from(assets)
        .where(
          and(
            isThere(p),
            isVisible,
            isNotNull(assets.trashedAt),
            sql`(${assets.createdAt}, ${assets.id}) > (${p('afterTime')}::timestamptz, ${p('afterId')}::uuid)`,
          ),
        )
        .orderBy(assets.createdAt, assets.id)
        .limit(p('limit')),
    { named: false },
  );
export const findTrashOfOwner = findTrash('find-trash-of-owner', (p) => eq(assets.ownerId, p('ownerId')));
export const findTrashOfProject = findTrash('find-trash-of-project', (p) => eq(assets.projectId, p('projectId')));

/** Of those that were found: what is still there, outside projects or in this one, since before somebody has asked. */
export const emptyTrash = compile(
  'empty-trash',
  (p: Parameter<'ids' | 'ownerId' | 'projectId' | 'cutoff' | keyof Actor>) => {
    const chosen = build.$with('chosen').as(
      build
        .select({ id: assets.id, ...actorColumns(p) })
        .from(assets)
        .where(
          and(
            isAnyOf(assets.id, p('ids')),
            isVisible,
            lte(assets.trashedAt, p('cutoff')),
            sql`${assets.projectId} is not distinct from ${p('projectId')}::text`,
            sql`${assets.ownerId} = coalesce(${p('ownerId')}::text, ${assets.ownerId})`,
          ),
        )
        .orderBy(assets.id)
        .for('update'),
    );
    return deletion(chosen, 'asset.deleted');
  },
  { named: false },
);

/** Of those that were looked at: what a rule wants deleted by now. Each audit row tells the rule. */
export const expireAssets = compile(
  'expire-assets',
  (p: Parameter<'ids' | 'now' | StepParameter | Exclude<keyof Actor, 'because'>>) => {
    const step = nextStep(p);
    const expired = build.$with('expired').as(
      build
        .select({
          id: assets.id,
          callerId: sql<string>`${p('callerId')}::text`.as('caller_id'),
          requestId: sql<string>`${p('requestId')}::text`.as('request_id'),
          via: sql<string | null>`${p('via')}::text`.as('via'),
          because: sql<string | null>`${step.rule}`.as('because'),
        })
        .from(assets)
        .leftJoin(projects, ofProject)
        .leftJoin(lifeCycleLooks, ofLook)
        .crossJoinLateral(step)
        .where(and(isAnyOf(assets.id, p('ids')), isDue(step, 'delete', p)))
        .for('update', { of: assets, skipLocked: true }),
    );
    return deletion(expired, 'asset.expired');
  },
  { named: false },
);

export const findDeleting = compile('find-deleting-assets', (p: Parameter<'ids'>) =>
  build
    .select({
      id: assets.id,
      objectKey: assets.objectKey,
      storedWhole: assets.storedWhole,
      others: sql<string[]>`array(${build
        .select({ key: derivatives.objectKey })
        .from(derivatives)
        .where(eq(derivatives.assetId, assets.id))
        .unionAll(
          build
            .select({ key: assetVersions.objectKey })
            .from(assetVersions)
            .where(eq(assetVersions.assetId, assets.id)),
        )})`.as('others'),
    })
    .from(assets)
    .where(and(isAnyOf(assets.id, p('ids')), inState('deleting'))),
);

/** Those that have no copies any more. The objects of its derivatives are gone too; what is in the making may be stored yet, and is discarded. */
export const forgetAssets = compile('forget-assets', (p: Parameter<'ids'>) => {
  const forgotten = build.$with('forgotten').as(
    build
      .delete(assets)
      .where(and(isAnyOf(assets.id, p('ids')), inState('deleting'), not(hasCopies)))
      .returning({ id: assets.id }),
  );
  const isOfForgotten = inArray(derivatives.assetId, build.select({ id: forgotten.id }).from(forgotten));
  const removed = build.$with('removed', {}).as(
    build
      .delete(derivatives)
      .where(and(isOfForgotten, ne(derivatives.state, 'making')))
      .getSQL(),
  );
  const left = build.$with('left_over').as(
    build
      .update(derivatives)
      .set({ state: 'discarded', updatedAt: now })
      .where(and(isOfForgotten, eq(derivatives.state, 'making')))
      .returning({ id: derivatives.id }),
  );
  return build
    .with(forgotten, removed, left, ...forgetDownloads(p))
    .select({ id: left.id })
    .from(left);
});
