/** The statements by which many assets are changed at once. */
import { and, eq, isNotNull, isNull, type SQL, sql } from 'drizzle-orm';
import { type AccessParameter, isFor } from '../access/conditions.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import {
  build,
  compile,
  isAnyOf,
  jsonObject,
  now,
  nowhere,
  type Parameter,
  unnested,
  writtenOut,
} from '../database/statements.ts';
import { assets, isFree, isHeld, isVisible } from '../database/tables/assets.ts';
import { auditEvents } from '../database/tables/audit.ts';
import { chargedAccount } from '../quotas/accounts.ts';
import { MAX_TAGS, MAX_TAGS_BYTES } from '../validation/label-types.ts';
import { labelChanges, nextVersion } from './conditions.ts';
import { lookAfterMove } from './life-cycle-looks.ts';

type BulkParameter = 'ids' | AccessParameter | keyof Actor;

/** So that one statement takes a fraction of a second. */
export const MAX_CHANGES = 1000;

/** How long a database that is away is borne where the outcome of a commit may be unknown. Milliseconds. */
export const CHANGE_PATIENCE = 2000;

/** `forbidden`: the caller's role does not allow it; the others: how the asset is, or the quota where it was to go. */
export type BulkResult = 'done' | 'forbidden' | 'held' | 'in-trash' | 'not-in-trash' | 'too-many-tags' | 'no-room';

/**
 * The visible assets, among those that are named, that the caller may change. Locked in one order, so that two requests for the same
 * assets do not wait for each other.
 */
const named = (p: Parameter<BulkParameter>) =>
  build
    .select({
      id: assets.id,
      trashedAt: assets.trashedAt,
      tags: assets.tags,
      path: assets.path,
      isHeld: isHeld.as('is_held'),
    })
    .from(assets)
    .where(and(isAnyOf(assets.id, p('ids')), isFor(p, 'asset.write'), isVisible))
    .orderBy(assets.id)
    .for('update');

const outcome = (text: SQL) => sql<BulkResult>`(${text})::text`.as('outcome_of');
const ofAudit = { id: assets.id, ownerId: assets.ownerId, projectId: assets.projectId, name: assets.name };

export const trashAssets = compile('trash-assets', (p: Parameter<BulkParameter>) => {
  const own = build.$with('own').as(named(p));
  const changed = build.$with('changed').as(
    build
      .update(assets)
      .set({ ...nextVersion, trashedAt: now })
      .from(own)
      .where(and(eq(assets.id, own.id), isNull(own.trashedAt), isFree))
      .returning({ id: assets.id, ownerId: assets.ownerId, projectId: assets.projectId }),
  );
  return build
    .with(own, changed, auditFrom(p, changed, { action: 'asset.trashed' }))
    .select({
      id: own.id,
      outcome: outcome(sql`case when ${isNull(own.trashedAt)} and ${own.isHeld} then 'held' else 'done' end`),
    })
    .from(own);
});

export const restoreAssets = compile('restore-assets', (p: Parameter<BulkParameter>) => {
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
    .select({
      id: own.id,
      outcome: outcome(sql`case when ${isNotNull(own.trashedAt)} then 'done' else 'not-in-trash' end`),
    })
    .from(own);
});

/** Tags that are added to what there is, or taken away; what has neither to gain nor to lose stays as it is. */
export const tagAssets = compile('tag-assets', (p: Parameter<BulkParameter | 'add' | 'remove'>) => {
  const own = build.$with('own').as(named(p));
  const tags = sql`array(select distinct tag from unnest(${own.tags} || ${p('add')}::text[]) as tag
    where tag <> all(${p('remove')}::text[]) order by tag)`;
  const labelled = build.$with('labelled').as(
    build
      .select({
        id: own.id,
        previousTags: sql`${own.tags}`.as('previous_tags'),
        tags: tags.as('new_tags'),
        outcome: sql`case when ${isNotNull(own.trashedAt)} then 'in-trash'
          when cardinality(${tags}) > ${writtenOut(MAX_TAGS)} or octet_length(to_json(${tags})::text) > ${writtenOut(MAX_TAGS_BYTES)}
          then 'too-many-tags' else 'done' end`.as('outcome'),
      })
      .from(own),
  );
  const isChanged = sql`${labelled.outcome} = 'done' and ${labelled.tags} <> ${assets.tags}`;
  const changed = build.$with('changed').as(
    build
      .update(assets)
      .set({ ...nextVersion, tags: sql`${labelled.tags}` })
      .from(labelled)
      .where(and(eq(assets.id, labelled.id), isChanged))
      .returning({
        ...ofAudit,
        tags: assets.tags,
        previousTags: sql`${labelled.previousTags}`.as('previous_tags'),
        path: assets.path,
        previousPath: sql`${assets.path}`.as('previous_path'),
      }),
  );
  const detail = sql`jsonb_strip_nulls(${jsonObject({ name: changed.name, ...labelChanges(changed) })})`;
  return build
    .with(own, labelled, changed, auditFrom(p, changed, { action: 'asset.updated', detail }))
    .select({ id: labelled.id, outcome: outcome(sql`${labelled.outcome}`) })
    .from(labelled);
});

/** Those that may be moved: who pays for them, and whether the caller may take them from where they are. */
export const lockMoved = compile('lock-moved-assets', (p: Parameter<'ids' | AccessParameter>) =>
  build
    .select({
      id: assets.id,
      ownerId: assets.ownerId,
      projectId: assets.projectId,
      account: chargedAccount.as('charged'),
      size: assets.size,
      isTrashed: sql<boolean>`${isNotNull(assets.trashedAt)}`.as('is_trashed'),
      mayMove: sql<boolean>`${isFor(p, 'asset.move')}`.as('may_move'),
      isHeld: isHeld.as('is_held'),
      mayHold: sql<boolean>`${isFor(p, 'asset.hold')}`.as('may_hold'),
    })
    .from(assets)
    .where(and(isAnyOf(assets.id, p('ids')), isFor(p, 'asset.write'), isVisible))
    .orderBy(assets.id)
    .for('update'),
);

/** Of those that were locked; what is there already stays as it is. */
export const moveAssets = compile(
  'move-assets',
  (p: Parameter<'ids' | 'accounts' | 'moves' | 'projectId' | 'path' | keyof Actor>) => {
    const wanted = build.$with('wanted').as(
      build
        .select({
          id: unnested(p('ids'), assets.id).as('wanted_id'),
          account: unnested(p('accounts'), assets.account).as('wanted_account'),
        })
        .from(nowhere),
    );
    const projectId = sql`case when ${p('moves')}::boolean then ${p('projectId')}::text else ${assets.projectId} end`;
    const path = sql`coalesce(${p('path')}::text, ${assets.path})`;
    const previous = build.$with('previous').as(
      build
        .select({
          id: assets.id,
          projectId: assets.projectId,
          path: assets.path,
          account: sql<string | null>`${wanted.account}`.as('new_account'),
        })
        .from(assets)
        .innerJoin(wanted, eq(wanted.id, assets.id))
        .where(sql`(${assets.projectId}, ${assets.path}) is distinct from (${projectId}, ${path})`),
    );
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({ ...nextVersion, projectId, account: sql`${previous.account}`, path })
        .from(previous)
        .where(eq(assets.id, previous.id))
        .returning({
          ...ofAudit,
          path: assets.path,
          previousPath: sql`${previous.path}`.as('previous_path'),
          previousProjectId: sql`${previous.projectId}`.as('previous_project_id'),
          tags: assets.tags,
          previousTags: sql`${assets.tags}`.as('previous_tags'),
        }),
    );
    const { name, projectId: newProject, previousProjectId } = changed;
    const detail = jsonObject({ name, projectId: newProject, previousProjectId, ...labelChanges(changed) });
    return build
      .with(
        wanted,
        previous,
        changed,
        auditFrom(p, changed, { action: 'asset.updated', detail: sql`jsonb_strip_nulls(${detail})` }),
        lookAfterMove(changed),
      )
      .select({ id: changed.id })
      .from(changed);
  },
);

/** Which of them the caller may see, whatever else he may do to them; and which he might delete, were they not held. */
export const findReadable = compile(
  'find-readable-assets',
  (p: Parameter<'ids' | AccessParameter>) =>
    build
      .select({
        id: assets.id,
        isKept: sql<boolean>`(${isHeld} and ${isFor(p, 'asset.delete')})`.as('is_kept'),
      })
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
