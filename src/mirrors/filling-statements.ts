/** The statements by which the copies of a mirror are compared with what is stored, and filled up; filling.ts says when. */
import { and, asc, eq, gt, lt, notExists, sql } from 'drizzle-orm';
import { build, compile, isAnyOf, namesOf, type Parameter, typed } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { copies, mirrors } from '../database/tables/mirrors.ts';
import { assetVersions } from '../database/tables/versions.ts';

const seldom = { named: false };

/** Everything that the next assets have in the store and that a mirror has no row for, be it a copy or one that is to be made. */
function lacking(p: Parameter<'mirror' | 'after' | 'limit'>) {
  const page = build.$with('page').as(
    build
      .select({
        id: assets.id,
        objectKey: assets.objectKey,
        size: assets.size,
        sha256: assets.sha256,
        hasObject: sql<boolean>`${inState('processing', 'ready')}`.as('has_object'),
      })
      .from(assets)
      .where(gt(assets.id, p('after')))
      .orderBy(assets.id)
      .limit(p('limit')),
  );
  const assetId = sql<string>`${page.id}`.as('asset_id');
  const object = { objectKey: page.objectKey, assetId, size: page.size, sha256: page.sha256 };
  const originals = build.select(object).from(page).where(sql`${page.hasObject}`);
  const former = build
    .select({
      objectKey: assetVersions.objectKey,
      assetId: assetVersions.assetId,
      size: assetVersions.size,
      sha256: assetVersions.sha256,
    })
    .from(page)
    .innerJoin(assetVersions, eq(assetVersions.assetId, page.id))
    .where(sql`${page.hasObject}`);
  const made = build
    .select({
      objectKey: derivatives.objectKey,
      assetId: derivatives.assetId,
      size: derivatives.size,
      sha256: derivatives.sha256,
    })
    .from(page)
    .innerJoin(derivatives, and(eq(derivatives.assetId, page.id), eq(derivatives.state, 'ready')))
    .where(sql`${page.hasObject}`);
  const all = build.$with('stored').as(originals.unionAll(former).unionAll(made));
  const missing = build.$with('lacking').as(
    build
      .select()
      .from(all)
      .where(
        notExists(
          build
            .select({ key: copies.objectKey })
            .from(copies)
            .where(and(eq(copies.mirror, p('mirror')), eq(copies.objectKey, all.objectKey))),
        ),
      ),
  );
  return { page, all, missing };
}

const summary = {
  objects: sql<number>`count(*)`.mapWith(Number).as('objects'),
  bytes: sql<number>`coalesce(sum(size), 0)`.mapWith(Number).as('bytes'),
};

export const countLacking = compile(
  'count-lacking-copies',
  (p: Parameter<'mirror' | 'after' | 'limit'>) => {
    const { page, all, missing } = lacking(p);
    return build
      .with(page, all, missing)
      .select({
        ...summary,
        last: sql<string | null>`(select max(id::text) from ${page})`.as('last'),
        looked: sql<number>`(select count(*) from ${page})`.mapWith(Number).as('looked'),
      })
      .from(missing);
  },
  seldom,
);
/** Columns of a copy that are known of what is stored. */
const found = [copies.objectKey, copies.assetId, copies.size, copies.sha256];
export const fillUp = compile(
  'fill-up-copies',
  (p: Parameter<'mirror' | 'after' | 'limit'>) => {
    const { page, all, missing } = lacking(p);
    const added = build.$with('added', {}).as(
      sql`insert into ${copies} (${namesOf(copies.mirror, ...found)})
        select ${typed(p('mirror'), copies.mirror)}, ${namesOf(...found)} from ${missing}
        on conflict do nothing`,
    );
    return build
      .with(page, all, missing, added)
      .select({
        ...summary,
        last: sql<string | null>`(select max(id::text) from ${page})`.as('last'),
        looked: sql<number>`(select count(*) from ${page})`.mapWith(Number).as('looked'),
      })
      .from(missing);
  },
  seldom,
);

/** Copies that are there, in the order of the keys. */
export const listStored = compile(
  'list-stored-copies',
  (p: Parameter<'mirror' | 'after' | 'limit'>) =>
    build
      .select({
        objectKey: copies.objectKey,
        assetId: copies.assetId,
        size: copies.size,
        sha256: copies.sha256,
        state: copies.state,
        at: copies.at,
      })
      .from(copies)
      .where(
        and(
          eq(copies.mirror, p('mirror')),
          gt(copies.objectKey, p('after')),
          sql`${copies.state} in ('copied', 'verified')`,
        ),
      )
      .orderBy(asc(copies.objectKey))
      .limit(p('limit')),
  seldom,
);

/** Copies of objects that belong to nothing any more, among the next ones, and where to go on. */
export const findOfNobody = compile(
  'find-copies-of-nobody',
  (p: Parameter<'mirror' | 'after' | 'before' | 'limit'>) =>
    build
      .select({
        objectKey: copies.objectKey,
        assetId: copies.assetId,
        isOfNobody: sql<boolean>`${and(
          sql`${copies.state} <> 'deleting'`,
          lt(copies.at, p('before')),
          notExists(
            build
              .select({ id: assets.id })
              .from(assets)
              .where(and(eq(assets.id, copies.assetId), eq(assets.objectKey, copies.objectKey))),
          ),
          notExists(
            build
              .select({ id: assetVersions.assetId })
              .from(assetVersions)
              .where(and(eq(assetVersions.assetId, copies.assetId), eq(assetVersions.objectKey, copies.objectKey))),
          ),
          notExists(
            build
              .select({ id: derivatives.id })
              .from(derivatives)
              .where(and(eq(derivatives.assetId, copies.assetId), eq(derivatives.objectKey, copies.objectKey))),
          ),
        )}`.as('is_of_nobody'),
      })
      .from(copies)
      .where(and(eq(copies.mirror, p('mirror')), gt(copies.objectKey, p('after'))))
      .orderBy(copies.objectKey)
      .limit(p('limit')),
  seldom,
);

/** Mirrors of which there are copies and which nobody knows: what was written while one was forgotten. */
export const findUnknownMirrors = compile(
  'find-unknown-mirrors',
  () =>
    build
      .selectDistinct({ mirror: copies.mirror })
      .from(copies)
      .where(notExists(build.select({ name: mirrors.name }).from(mirrors).where(eq(mirrors.name, copies.mirror)))),
  seldom,
);
export const dropCopies = compile(
  'drop-copies',
  (p: Parameter<'mirror' | 'keys'>) =>
    build.delete(copies).where(and(eq(copies.mirror, p('mirror')), isAnyOf(copies.objectKey, p('keys')))),
  seldom,
);
