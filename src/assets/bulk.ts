/** The statements by which many assets are changed at once. */
import { and, eq, inArray, isNotNull, isNull, sql } from 'drizzle-orm';
import { type AccessParameter, isFor } from '../access/conditions.ts';
import type { Action } from '../access/rules.ts';
import { type Actor, type AuditAction, auditFrom } from '../database/audit.ts';
import { build, compile, isAnyOf, now, type Parameter, type Statement } from '../database/statements.ts';
import { assets, isVisible } from '../database/tables/assets.ts';
import { auditEvents } from '../database/tables/audit.ts';
import { nextVersion } from './conditions.ts';
import { deletion } from './deletion.ts';

type BulkParameter = 'ids' | AccessParameter | keyof Actor;

/** What is done with each of them; `delete` is for good. */
export type BulkAction = 'trash' | 'restore' | 'delete';

/** `wrong-state`: its state does not allow it. `forbidden`: the caller's role does not. */
export type BulkResult = 'done' | 'wrong-state' | 'forbidden';

/** An asset that there is; `isDone` unless its state does not allow the change. */
interface Found {
  id: string;
  isDone: boolean;
}

/**
 * The visible assets, among those that are named, to which the caller may do this. Locked in one order, so that two requests for the same
 * assets do not wait for each other.
 */
const named = (p: Parameter<BulkParameter>, action: Action) =>
  build
    .select({ id: assets.id, trashedAt: assets.trashedAt })
    .from(assets)
    .where(and(isAnyOf(assets.id, p('ids')), isFor(p, action), isVisible))
    .orderBy(assets.id)
    .for('update');

const trashAssets = compile('trash-assets', (p: Parameter<BulkParameter>) => {
  const own = build.$with('own').as(named(p, 'asset.write'));
  const changed = build.$with('changed').as(
    build
      .update(assets)
      .set({ ...nextVersion, trashedAt: now })
      .from(own)
      .where(and(eq(assets.id, own.id), isNull(own.trashedAt)))
      .returning({ id: assets.id, ownerId: assets.ownerId, projectId: assets.projectId }),
  );
  return build
    .with(own, changed, auditFrom(p, changed, { action: 'asset.trashed' }))
    .select({ id: own.id, isDone: sql<boolean>`true` })
    .from(own);
});

const restoreAssets = compile('restore-assets', (p: Parameter<BulkParameter>) => {
  const own = build.$with('own').as(named(p, 'asset.write'));
  const changed = build.$with('changed').as(
    build
      .update(assets)
      .set({ ...nextVersion, trashedAt: null })
      .from(own)
      .where(and(eq(assets.id, own.id), isNotNull(own.trashedAt)))
      .returning({ id: assets.id, ownerId: assets.ownerId, projectId: assets.projectId }),
  );
  return build
    .with(own, changed, auditFrom(p, changed, { action: 'asset.restored' }))
    .select({ id: own.id, isDone: sql<boolean>`${isNotNull(own.trashedAt)}` })
    .from(own);
});

const deleteAssets = compile('delete-assets', (p: Parameter<BulkParameter>) => {
  const own = build.$with('own').as(named(p, 'asset.delete'));
  const ids = build.select({ id: own.id }).from(own);
  return deletion(p, inArray(assets.id, ids), 'asset.deleted', own);
});

export const bulkChanges: Record<BulkAction, { statement: Statement<BulkParameter, Found>; action: AuditAction }> = {
  trash: { statement: trashAssets, action: 'asset.trashed' },
  restore: { statement: restoreAssets, action: 'asset.restored' },
  delete: { statement: deleteAssets, action: 'asset.deleted' },
};

/** Which of them the caller may see, whatever else he may do to them. */
export const findReadable = compile(
  'find-readable-assets',
  (p: Parameter<'ids' | AccessParameter>) =>
    build
      .select({ id: assets.id })
      .from(assets)
      .where(and(isAnyOf(assets.id, p('ids')), isFor(p, 'asset.read'), isVisible)),
  { named: false },
);

/** Which of them a request has changed, as its audit rows tell: for one that does not know whether it was committed. */
export const findChangedBy = compile(
  'find-assets-changed-by',
  (p: Parameter<'ids' | 'callerId' | 'requestId' | 'action'>) =>
    build
      .select({ id: auditEvents.assetId })
      .from(auditEvents)
      .where(
        and(
          isAnyOf(auditEvents.assetId, p('ids')),
          eq(auditEvents.actorId, p('callerId')),
          eq(auditEvents.requestId, p('requestId')),
          eq(auditEvents.action, p('action')),
        ),
      ),
  { named: false },
);
