/** The statements by which shares are made, shown, changed and ended by those who may; reach.ts has those of strangers. */
import { and, count, desc, eq, exists, isNull, lt, or, type SQL, sql } from 'drizzle-orm';
import { type AccessParameter, type AccessSource, memberRank, roleOn } from '../access/conditions.ts';
import { rankOf, rules } from '../access/rules.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import {
  build,
  compile,
  inSeconds,
  jsonObject,
  now,
  nowhere,
  type Parameter,
  typed,
  writtenOut,
} from '../database/statements.ts';
import { assets, inState, isVisible } from '../database/tables/assets.ts';
import { projectMembers } from '../database/tables/projects.ts';
import { shareAssets, shareMarks, shares } from '../database/tables/shares.ts';

/** Days for which a share that has ended is shown to whoever made it. */
const KEPT_DAYS = 7;
/** Locks that all assets share; a power of two. */
const LOCKS_OF_ASSETS = 64;
/** Marks of one share that are looked at where it is shown: of one that is used more often, the rest is told a minute later. */
const MAX_MARKS = 10_000;
const managerRank = sql.raw(String(rankOf('manager')));
const adminRank = sql.raw(String(rankOf('admin')));
const readerRank = sql.raw(String(rankOf(rules['asset.download'].least)));

/** What whoever made a share was allowed, as its row tells: never more than what he may now. */
export const makerOf: AccessSource = (name) =>
  ({
    subject: sql`${shares.createdBy}`,
    claims: sql`${shares.claims}`,
    only: sql`${shares.onlyProjects}`,
    ticket: sql`null`,
    anywhere: sql`false`,
  })[name];

const membership = (p: AccessSource) =>
  build
    .select({ rank: memberRank })
    .from(projectMembers)
    .where(and(eq(projectMembers.projectId, shares.projectId), eq(projectMembers.subject, p('subject'))));
/** What somebody is to the project of a share: the place of the role, null where he is nothing to it. */
const rankInProject = (p: AccessSource) => sql`case
    when ${p('anywhere')}::boolean then ${adminRank}
    when ${p('only')}::text[] is not null and ${shares.projectId} <> all (${p('only')}::text[]) then null
    else greatest((${p('claims')}::jsonb ->> ${shares.projectId})::integer, (${membership(p)})) end`;

export const itsAssets = (condition: SQL | undefined) =>
  exists(
    build
      .select({ id: assets.id })
      .from(shareAssets)
      .innerJoin(assets, eq(assets.id, shareAssets.assetId))
      .where(and(eq(shareAssets.shareId, shares.id), condition)),
  );
export const isServed = and(inState('ready'), isNull(assets.trashedAt));

/** That something is left of what a share leads to, and that whoever made it may still read it. */
export const isReachable = sql<boolean>`case when ${shares.target} = 'project'
    then coalesce(${rankInProject(makerOf)} >= ${readerRank}, false)
    else ${itsAssets(and(isServed, sql`${roleOn(makerOf)} >= ${readerRank}`))} end`;
/** All but that it is reachable. */
export const isLive = and(isNull(shares.revokedAt), sql`(${shares.expiresAt} is null or ${shares.expiresAt} > now())`);
export const isUsedUp = sql`(${shares.maxDownloads} is not null and ${shares.downloads} >= ${shares.maxDownloads})`;

const marks = build
  .select({ at: shareMarks.at })
  .from(shareMarks)
  .where(eq(shareMarks.shareId, shares.id))
  .limit(writtenOut(MAX_MARKS))
  .as('marks');
const recent = build
  .select({ downloads: count().as('recent_downloads'), lastAt: sql`max(${marks.at})`.as('recent_at') })
  .from(marks)
  .as('recent');

const isMine = (p: AccessSource) =>
  and(
    eq(shares.createdBy, p('subject')),
    sql`(${p('only')}::text[] is null or ${shares.onlyProjects} <@ ${p('only')}::text[])`,
  );
/** Whoever manages what is shared sees and ends shares of others: he answers for it. */
const isOverseen = (p: AccessSource) =>
  sql`case when ${shares.target} = 'project' then coalesce(${rankInProject(p)} >= ${managerRank}, false)
    else ${itsAssets(sql`${roleOn(p)} >= ${managerRank}`)} end`;
const maySee = (p: AccessSource) => or(isMine(p), isOverseen(p));

const assetIds = sql<string[]>`array(select ${shareAssets.assetId} from ${shareAssets}
  where ${shareAssets.shareId} = ${shares.id} order by ${shareAssets.position})`;

/** What is told of a share to whoever made it. */
const shown = {
  id: shares.id,
  createdBy: shares.createdBy,
  keySince: shares.keySince,
  target: shares.target,
  projectId: shares.projectId,
  allow: shares.allow,
  label: shares.label,
  note: shares.note,
  maxDownloads: shares.maxDownloads,
  permanent: shares.permanent,
  createdAt: shares.createdAt,
  updatedAt: shares.updatedAt,
  expiresAt: shares.expiresAt,
  revokedAt: shares.revokedAt,
  hasPassword: sql<boolean>`(${shares.password} is not null)`.as('has_password'),
};
const found = (p: AccessSource, ids: SQL) => ({
  ...shown,
  assetCount: sql`(select count(*) from ${shareAssets} where ${shareAssets.shareId} = ${shares.id})`
    .mapWith(Number)
    .as('asset_count'),
  assetIds: sql`${ids}`.mapWith((ids: string[]) => ids).as('asset_ids'),
  downloads: sql`${shares.downloads} + ${recent.downloads}`.mapWith(Number).as('all_downloads'),
  lastUsedAt: sql`greatest(${shares.lastUsedAt}, ${recent.lastAt})`.mapWith(shares.lastUsedAt).as('used_at'),
  isExpired: sql<boolean>`(${shares.expiresAt} is not null and ${shares.expiresAt} <= now())`.as('is_expired'),
  isReachable: sql<boolean>`(${isReachable})`.as('is_reachable'),
  isMine: sql<boolean>`(${isMine(p)})`.as('is_mine'),
});

/** What somebody is to assets that he wants to share. */
export const findToShare = compile('find-assets-to-share', (p: Parameter<'ids' | AccessParameter>) =>
  build
    .select({
      id: assets.id,
      projectId: assets.projectId,
      rank: roleOn(p).as('rank'),
      isTrashed: sql<boolean>`(${assets.trashedAt} is not null)`.as('is_trashed'),
    })
    .from(assets)
    .where(and(sql`${assets.id} = any(${p('ids')}::uuid[])`, isVisible, sql`${roleOn(p)} >= ${readerRank}`)),
);

/** Those of one maker are made one after the other, so that no two are the last that he may have. */
export const lockMaker = compile('lock-share-maker', (p: Parameter<'createdBy'>) =>
  build
    .select({ locked: sql`pg_advisory_xact_lock(hashtextextended(${p('createdBy')}, 13))`.as('locked') })
    .from(nowhere),
);
export const countOfMaker = compile('count-shares', (p: Parameter<'createdBy'>) =>
  build
    .select({ shares: count() })
    .from(shares)
    .where(eq(shares.createdBy, p('createdBy'))),
);

/**
 * The same for each of these assets: makers wait for each other where they name one of the same. A share names a thousand
 * assets, and Postgres has room for few locks of a transaction (max_locks_per_transaction), so assets share a lock.
 */
export const lockShared = compile('lock-shared-assets', (p: Parameter<'ids'>) => {
  const places = build
    .selectDistinct({ place: sql<number>`hashtext(id::text) & ${sql.raw(String(LOCKS_OF_ASSETS - 1))}`.as('place') })
    .from(sql`unnest(${p('ids')}::uuid[]) as shared (id)`)
    // In one order, so that no two wait for each other.
    .orderBy(sql`place`)
    .as('places');
  return build.select({ locked: sql`pg_advisory_xact_lock(14, ${places.place})`.as('locked') }).from(places);
});
/** One of these assets that is in as many shares as there may be. */
export const findFull = compile('find-asset-in-many-shares', (p: Parameter<'ids' | 'limit'>) =>
  build
    .select({ id: shareAssets.assetId })
    .from(shareAssets)
    .where(sql`${shareAssets.assetId} = any(${p('ids')}::uuid[])`)
    .groupBy(shareAssets.assetId)
    .having(sql`count(*) >= ${p('limit')}::integer`)
    .limit(writtenOut(1)),
);

type Column = Exclude<
  keyof typeof shares.$inferSelect,
  'downloads' | 'lastUsedAt' | 'createdAt' | 'updatedAt' | 'expiresAt' | 'revokedAt'
>;

/** What the audit trail says of a share: never its token, and of the password only whether there is one. */
const told = (
  share: Record<'id' | 'target' | 'allow' | 'maxDownloads' | 'expiresAt' | 'hasPassword' | 'permanent', SQL>,
) =>
  sql`jsonb_strip_nulls(${jsonObject({
    shareId: share.id,
    target: share.target,
    allow: share.allow,
    maxDownloads: share.maxDownloads,
    expiresAt: share.expiresAt,
    password: sql`nullif(${share.hasPassword}, false)`,
    permanent: sql`nullif(${share.permanent}, false)`,
  })})`;
const onlyAsset = sql`(case when ${shares.target} = 'asset' then (${assetIds})[1] end)`;
/** The audit row is of the asset where there is one, and of its project. */
const changedColumns = {
  id: sql<string | null>`${onlyAsset}`.as('only_asset_id'),
  ownerId: shares.createdBy,
  shareId: sql<string>`${shares.id}`.as('share_id'),
  projectId: sql<string | null>`coalesce(${shares.projectId}, (${build
    .select({ projectId: assets.projectId })
    .from(assets)
    .where(eq(assets.id, onlyAsset))}))`.as('its_project_id'),
};

export const insertShare = compile(
  'insert-share',
  (p: Parameter<Column | 'expiresIn' | 'assetIds' | 'auditAssetId' | 'auditProjectId' | keyof Actor>) => {
    const made = build.$with('made').as(
      build
        .insert(shares)
        .values({
          id: p('id'),
          createdBy: p('createdBy'),
          digest: p('digest'),
          keySince: p('keySince'),
          target: p('target'),
          projectId: p('projectId'),
          claims: p('claims'),
          onlyProjects: sql`${p('onlyProjects')}::text[]`,
          allow: p('allow'),
          label: p('label'),
          note: p('note'),
          password: p('password'),
          maxDownloads: p('maxDownloads'),
          permanent: p('permanent'),
          expiresAt: inSeconds(p('expiresIn')),
        })
        .returning(shown),
    );
    const named = build.$with('named', {}).as(
      build
        .insert(shareAssets)
        .select(
          sql`select ${made.id}, item.position, item.id from ${made},
            unnest(${p('assetIds')}::uuid[]) with ordinality as item (id, position)`,
        )
        .getSQL(),
    );
    const changed = build.$with('changed').as(
      build
        .select({
          id: sql<string | null>`${p('auditAssetId')}::uuid`.as('asset_id'),
          ownerId: made.createdBy,
          projectId: sql<string | null>`${p('auditProjectId')}::text`.as('audit_project_id'),
          detail: told({
            id: sql`${made.id}`,
            target: sql`${made.target}`,
            allow: sql`${made.allow}`,
            maxDownloads: sql`${made.maxDownloads}`,
            expiresAt: sql`${made.expiresAt}`,
            hasPassword: sql`${made.hasPassword}`,
            permanent: sql`${made.permanent}`,
          }).as('detail'),
        })
        .from(made),
    );
    const audit = auditFrom(p, changed, { action: 'share.created', detail: sql`${changed.detail}` });
    return build.with(made, named, changed, audit).select().from(made);
  },
);

const findFor = (p: AccessSource, condition: SQL | undefined, ids: SQL) =>
  build
    .select({ ...found(p, ids), value: sql<string>`${shares.createdAt}::text`.as('value') })
    .from(shares)
    .leftJoinLateral(recent, sql`true`)
    .where(condition);

export const findShare = compile('find-share', (p: Parameter<'id' | AccessParameter>) =>
  findFor(p, and(eq(shares.id, p('id')), maySee(p)), assetIds),
);

/** A page of shares of a thousand assets each would be large. */
const onlyId = sql`case when ${shares.target} = 'asset' then ${assetIds} else '{}' end`;
/** One statement for each way to ask: each has an index of its own. */
const listBy = (p: Parameter<'value' | 'id' | 'limit' | AccessParameter>, condition: SQL | undefined) =>
  findFor(
    p,
    and(
      condition,
      sql`(${p('id')}::uuid is null
          or (${shares.createdAt}, ${shares.id}) < (${p('value')}::timestamptz, ${p('id')}::uuid))`,
    ),
    onlyId,
  )
    .orderBy(desc(shares.createdAt), desc(shares.id))
    .limit(p('limit'));
type ListParameter = 'value' | 'id' | 'limit' | AccessParameter;
export const listMine = compile('list-shares', (p: Parameter<ListParameter>) => listBy(p, isMine(p)));
export const listOfAsset = compile('list-shares-of-asset', (p: Parameter<ListParameter | 'assetId'>) =>
  listBy(
    p,
    and(
      sql`${shares.id} in (${build
        .select({ id: shareAssets.shareId })
        .from(shareAssets)
        .where(eq(shareAssets.assetId, p('assetId')))})`,
      maySee(p),
    ),
  ),
);
export const listOfProject = compile('list-shares-of-project', (p: Parameter<ListParameter | 'projectId'>) =>
  listBy(p, and(eq(shares.projectId, p('projectId')), maySee(p))),
);

/** For what is to be changed: locked, so that changes are made one after the other. */
export const lockShare = compile('lock-share', (p: Parameter<'id' | AccessParameter>) =>
  build
    .select({
      target: shares.target,
      hasPassword: shown.hasPassword,
      maxDownloads: shares.maxDownloads,
      expiresAt: shares.expiresAt,
      permanent: shares.permanent,
      allow: shares.allow,
      isRevoked: sql<boolean>`(${shares.revokedAt} is not null)`.as('is_revoked'),
    })
    .from(shares)
    .where(and(eq(shares.id, p('id')), isMine(p)))
    .for('update'),
);

/** Each field with whether it is changed: null is a value too. */
export const updateShare = compile(
  'update-share',
  (
    p: Parameter<
      | 'id'
      | 'allow'
      | 'permanent'
      | `${'label' | 'note' | 'password' | 'maxDownloads' | 'expiresIn'}${'' | 'Changes'}`
      | 'fields'
      | keyof Actor
    >,
  ) => {
    const either = (changes: SQL, value: SQL, column: SQL) =>
      sql`case when ${changes} then ${value} else ${column} end`;
    // What was counted until now is added up, so that a new limit begins from the whole count; but what the job adds up at
    // this moment, which waits for the row of the share.
    const counted = sql`(select ctid from ${shareMarks}
      where ${shareMarks.shareId} = ${p('id')} and ${p('maxDownloads')}::integer is not null for update skip locked)`;
    const taken = build
      .$with('taken')
      .as(build.delete(shareMarks).where(sql`ctid in ${counted}`).returning({ at: shareMarks.at }));
    const changed = build.$with('changed').as(
      build
        .update(shares)
        .set({
          updatedAt: now,
          allow: sql`coalesce(${p('allow')}, ${shares.allow})`,
          permanent: sql`coalesce(${p('permanent')}::boolean, ${shares.permanent})`,
          label: either(sql`${p('labelChanges')}::boolean`, sql`${p('label')}`, sql`${shares.label}`),
          note: either(sql`${p('noteChanges')}::boolean`, sql`${p('note')}`, sql`${shares.note}`),
          password: either(
            sql`${p('passwordChanges')}::boolean`,
            sql`${typed(p('password'), shares.password)}`,
            sql`${shares.password}`,
          ),
          maxDownloads: either(
            sql`${p('maxDownloadsChanges')}::boolean`,
            sql`${p('maxDownloads')}::integer`,
            sql`${shares.maxDownloads}`,
          ),
          expiresAt: either(
            sql`${p('expiresInChanges')}::boolean`,
            inSeconds(p('expiresIn')),
            sql`${shares.expiresAt}`,
          ),
          downloads: sql`${shares.downloads} + (select count(*) from ${taken})`,
          lastUsedAt: sql`greatest(${shares.lastUsedAt}, (select max(${taken.at}) from ${taken}))`,
        })
        .where(eq(shares.id, p('id')))
        .returning(changedColumns),
    );
    const detail = jsonObject({ shareId: changed.shareId, changed: sql`${p('fields')}::jsonb` });
    return build
      .with(taken, changed, auditFrom(p, changed, { action: 'share.updated', detail }))
      .select({ shareId: changed.shareId })
      .from(changed);
  },
);
export const revokeShare = compile('revoke-share', (p: Parameter<'id' | AccessParameter | keyof Actor>) => {
  const changed = build.$with('changed').as(
    build
      .update(shares)
      .set({ revokedAt: now, updatedAt: now })
      .where(and(eq(shares.id, p('id')), maySee(p), isNull(shares.revokedAt)))
      .returning(changedColumns),
  );
  return build
    .with(changed, auditFrom(p, changed, { action: 'share.revoked', detail: jsonObject({ shareId: changed.shareId }) }))
    .select({ id: shares.id })
    .from(shares)
    .where(and(eq(shares.id, p('id')), maySee(p)));
});

const ended = (by: SQL) => sql`(select ${shares.id} from ${shares} where ${by} limit 1000)`;
const longAgo = sql.raw(`now() - interval '${KEPT_DAYS} days'`);
/** What has ended a week ago; one statement for each index. */
export const removeRevoked = compile(
  'remove-revoked-shares',
  () => build.delete(shares).where(sql`${shares.id} in ${ended(lt(shares.revokedAt, longAgo))}`),
  { named: false },
);
export const removeExpired = compile(
  'remove-expired-shares',
  () => build.delete(shares).where(sql`${shares.id} in ${ended(lt(shares.expiresAt, longAgo))}`),
  { named: false },
);
/** Those of which every asset was deleted for good. */
export const removeEmpty = compile(
  'remove-empty-shares',
  () => {
    const isEmpty = sql`${shares.target} <> 'project' and not exists (select from ${shareAssets} where ${shareAssets.shareId} = ${shares.id})`;
    return build.delete(shares).where(sql`${shares.id} in ${ended(isEmpty)}`);
  },
  { named: false },
);
