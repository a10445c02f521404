/** The statements by which many assets are changed at once. */
import { and, eq, isNotNull, isNull, sql } from 'drizzle-orm';
import { type AccessParameter, isFor } from '../access/conditions.ts';
import { type Actor, type AuditAction, auditFrom } from '../database/audit.ts';
import { build, compile, isAnyOf, now, type Parameter, type Statement } from '../database/statements.ts';
import { assets, isVisible } from '../database/tables/assets.ts';
import { auditEvents } from '../database/tables/audit.ts';
import { nextVersion } from './conditions.ts';

type BulkParameter = 'ids' | AccessParameter | keyof Actor;

/** So that one statement takes a fraction of a second. */
export const MAX_CHANGES = 1000;

/** How long a database that is away is borne where the outcome of a commit may be unknown. Milliseconds. */
export const CHANGE_PATIENCE = 2000;

/** What is done with each of them; see deletions.ts for deleting them. */
export type BulkAction = 'trash' | 'restore';

/** `wrong-state`: its state does not allow it. `forbidden`: the caller's role does not. */
export type BulkResult = 'done' | 'wrong-state' | 'forbidden';

/** An asset that there is; `isDone` unless its state does not allow the change. */
interface Found {
  id: string;
  isDone: boolean;
}

/**
 * The visible assets, among those that are named, that the caller may change. Locked in one order, so that two requests for the same
 * assets do not wait for each other.
 */
const named = (p: Parameter<BulkParameter>) =>
  build
    .select({ id: assets.id, trashedAt: assets.trashedAt })
    .from(assets)
    .where(and(isAnyOf(assets.id, p('ids')), isFor(p, 'asset.write'), isVisible))
    .orderBy(assets.id)
    .for('update');

const trashAssets = compile('trash-assets', (p: Parameter<BulkParameter>) => {
  const own = build.$with('own').as(named(p));
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
  const own = build.$with('own').as(named(p));
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

export const bulkChanges: Record<BulkAction, { statement: Statement<BulkParameter, Found>; action: AuditAction }> = {
  trash: { statement: trashAssets, action: 'asset.trashed' },
  restore: { statement: restoreAssets, action: 'asset.restored' },
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

/** Which of them were changed by which of these requests, as audit rows tell: for who does not know whether it was committed. */
export const findChangedBy = compile(
  'find-assets-changed-by',
  (p: Parameter<'ids' | 'requestIds' | 'action'>) =>
    build
      .select({ id: sql<string>`${auditEvents.assetId}`, requestId: auditEvents.requestId })
      .from(auditEvents)
      .where(
        and(
          isAnyOf(auditEvents.assetId, p('ids')),
          isAnyOf(auditEvents.requestId, p('requestIds')),
          eq(auditEvents.action, p('action')),
        ),
      ),
  { named: false },
);
