/** The statements by which derivatives are claimed, finished and discarded; derivatives.ts says when each is run. */
import { and, eq, inArray, lt, ne, notExists, or, type Placeholder, type SQL, type SQLWrapper, sql } from 'drizzle-orm';
import { build, compile, inSeconds, isAnyOf, now, type Parameter, typed } from '../database/statements.ts';
import { assets, inState, isHeld, isInProcessing } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { assetVersions } from '../database/tables/versions.ts';

const isCurrent = ne(derivatives.state, 'discarded');
/**
 * Who removes an asset lists the objects beside it first, and forgets the rows last. What is finished in between would be
 * forgotten with its object in the store; what stays `making` is not.
 */
const isOfLivingAsset = inArray(
  derivatives.assetId,
  build.select({ id: assets.id }).from(assets).where(ne(assets.state, 'deleting')),
);

export const findNamed = compile('find-derivative', (p: Parameter<'assetId' | 'name'>) =>
  build
    .select()
    .from(derivatives)
    .where(and(eq(derivatives.assetId, p('assetId')), eq(derivatives.name, p('name')), isCurrent)),
);
export const lockNamed = compile('lock-derivative', (p: Parameter<'assetId' | 'name'>) =>
  build
    .select({
      row: sql<string>`${derivatives.id}`.as('row'),
      isLive: sql<boolean>`coalesce(${derivatives.leaseExpiresAt} > now(), false)`.as('is_live'),
    })
    .from(derivatives)
    .where(and(eq(derivatives.assetId, p('assetId')), eq(derivatives.name, p('name')), isCurrent))
    .for('update'),
);
export const listOfAsset = compile('list-derivatives', (p: Parameter<'assetId'>) =>
  build
    .select()
    .from(derivatives)
    .where(
      and(eq(derivatives.assetId, p('assetId')), isCurrent, inArray(derivatives.kind, ['derivative', 'transcode'])),
    )
    .orderBy(derivatives.name),
);
/** A row that is claimed: every column in the order of the table, because drizzle-orm names them all. */
function making<AssetId extends SQLWrapper>(claim: {
  id: SQL;
  assetId: AssetId;
  kind: SQL;
  name: SQL;
  objectKey: SQL;
  sourceKey: SQL;
  options: SQL;
  requestedBy: SQL;
  lease: Placeholder;
}) {
  return {
    id: claim.id.as('id'),
    assetId: claim.assetId,
    kind: claim.kind.as('kind'),
    name: claim.name.as('name'),
    state: sql`'making'`.as('state'),
    reason: sql`null`.as('reason'),
    objectKey: claim.objectKey.as('object_key'),
    sourceKey: claim.sourceKey.as('source_key'),
    mediaType: sql`null`.as('media_type'),
    size: sql`null::bigint`.as('size'),
    sha256: sql`null::bytea`.as('sha256'),
    width: sql`null::integer`.as('width'),
    height: sql`null::integer`.as('height'),
    options: claim.options.as('options'),
    progress: sql`null::integer`.as('progress'),
    requestedBy: claim.requestedBy.as('requested_by'),
    leaseExpiresAt: inSeconds(claim.lease).as('lease_expires_at'),
    askedAt: sql`${now}`.as('asked_at'),
    createdAt: sql`${now}`.as('created_at'),
    updatedAt: sql`${now}`.as('updated_at'),
  };
}

export const insertMaking = compile(
  'insert-derivative',
  (
    p: Parameter<'id' | 'assetId' | 'kind' | 'name' | 'objectKey' | 'sourceKey' | 'options' | 'requestedBy' | 'lease'>,
  ) => {
    // Locked, so that who deletes the asset waits for this row, and sees it.
    const asset = build.$with('asset').as(
      build
        .select({ id: assets.id })
        .from(assets)
        .where(and(eq(assets.id, p('assetId')), isInProcessing, eq(assets.objectKey, p('sourceKey'))))
        .for('share'),
    );
    const row = build
      .select(
        making({
          id: typed(p('id'), derivatives.id),
          assetId: asset.id,
          kind: typed(p('kind'), derivatives.kind),
          name: typed(p('name'), derivatives.name),
          objectKey: typed(p('objectKey'), derivatives.objectKey),
          sourceKey: typed(p('sourceKey'), derivatives.sourceKey),
          options: typed(p('options'), derivatives.options),
          requestedBy: typed(p('requestedBy'), derivatives.requestedBy),
          lease: p('lease'),
        }),
      )
      .from(asset);
    return build.with(asset).insert(derivatives).select(row).returning();
  },
);
/** Of a file that is no asset yet: names are free as long as it has no object but its own. */
export const insertArriving = compile(
  'insert-arriving-derivatives',
  (p: Parameter<'assetId' | 'sourceKey' | 'claims' | 'lease'>) => {
    // Locked, so that who ends the upload waits for these rows, and sees them.
    const upload = build.$with('upload').as(
      build
        .select({ id: assets.id })
        .from(assets)
        .where(and(eq(assets.id, p('assetId')), inState('uploading'), eq(assets.objectKey, p('sourceKey'))))
        .for('share'),
    );
    const claims = sql`jsonb_to_recordset(${p('claims')}::jsonb) as claim (id uuid, name text, "objectKey" text)`;
    const rows = build
      .select(
        making({
          id: sql`claim.id`,
          assetId: upload.id,
          kind: sql`'derivative'`,
          name: sql`claim.name`,
          objectKey: sql`claim."objectKey"`,
          sourceKey: typed(p('sourceKey'), derivatives.sourceKey),
          options: sql`null::jsonb`,
          requestedBy: sql`'upload'`,
          lease: p('lease'),
        }),
      )
      .from(upload)
      .innerJoin(claims, sql`true`);
    return build.with(upload).insert(derivatives).select(rows).returning({ id: derivatives.id });
  },
);
export const finishMade = compile(
  'finish-derivative',
  (p: Parameter<'id' | 'mediaType' | 'size' | 'sha256' | 'width' | 'height'>) =>
    build
      .update(derivatives)
      .set({
        state: 'ready',
        mediaType: typed(p('mediaType'), derivatives.mediaType),
        size: typed(p('size'), derivatives.size),
        sha256: typed(p('sha256'), derivatives.sha256),
        width: typed(p('width'), derivatives.width),
        height: typed(p('height'), derivatives.height),
        progress: null,
        leaseExpiresAt: null,
        updatedAt: now,
      })
      .where(and(eq(derivatives.id, p('id')), eq(derivatives.state, 'making'), isOfLivingAsset))
      .returning(),
);
export const failMaking = compile('fail-derivative', (p: Parameter<'id' | 'reason'>) =>
  build
    .update(derivatives)
    .set({ state: 'failed', reason: typed(p('reason'), derivatives.reason), leaseExpiresAt: null, updatedAt: now })
    .where(and(eq(derivatives.id, p('id')), eq(derivatives.state, 'making')))
    .returning({ id: derivatives.id }),
);
export const renewMaking = compile('renew-derivative', (p: Parameter<'id' | 'lease' | 'progress'>) =>
  build
    .update(derivatives)
    .set({
      leaseExpiresAt: inSeconds(p('lease')),
      progress: sql`coalesce(${typed(p('progress'), derivatives.progress)}, ${derivatives.progress})`,
      updatedAt: now,
    })
    .where(and(eq(derivatives.id, p('id')), eq(derivatives.state, 'making')))
    .returning({ id: derivatives.id }),
);
export const discardRows = compile('discard-derivatives', (p: Parameter<'ids'>) =>
  build
    .update(derivatives)
    .set({ state: 'discarded', leaseExpiresAt: null, updatedAt: now })
    .where(and(isAnyOf(derivatives.id, p('ids')), isCurrent))
    .returning({ id: derivatives.id }),
);
export const discardRowsOf = compile('discard-derivatives-of', (p: Parameter<'assetId'>) =>
  build
    .update(derivatives)
    .set({ state: 'discarded', leaseExpiresAt: null, updatedAt: now })
    .where(and(eq(derivatives.assetId, p('assetId')), isCurrent))
    .returning({ id: derivatives.id }),
);
export const exchangeKey = compile('exchange-derivative', (p: Parameter<'id' | 'objectKey'>) =>
  build
    .update(derivatives)
    .set({
      state: 'discarded',
      objectKey: typed(p('objectKey'), derivatives.objectKey),
      leaseExpiresAt: null,
      updatedAt: now,
    })
    .where(and(eq(derivatives.id, p('id')), eq(derivatives.state, 'making')))
    .returning({ id: derivatives.id }),
);
export const insertDiscarded = compile('insert-discarded-object', (p: Parameter<'id' | 'assetId' | 'objectKey'>) =>
  build.insert(derivatives).values({
    id: p('id'),
    assetId: p('assetId'),
    kind: 'replacement',
    name: 'rejected',
    state: 'discarded',
    objectKey: p('objectKey'),
    sourceKey: p('objectKey'),
    askedAt: now,
    createdAt: now,
    updatedAt: now,
  }),
);
/** Bytes that a held asset has, or had: whoever has asked for their removal was mistaken, and it waits. */
const isNotHeld = notExists(
  build
    .select({ id: assets.id })
    .from(assets)
    .leftJoin(assetVersions, eq(assetVersions.assetId, assets.id))
    .where(
      and(
        eq(assets.id, derivatives.assetId),
        isHeld,
        or(eq(assets.objectKey, derivatives.objectKey), eq(assetVersions.objectKey, derivatives.objectKey)),
      ),
    ),
);
export const findDiscarded = compile('find-discarded-derivatives', (p: Parameter<'ids'>) =>
  build
    .select({ id: derivatives.id, objectKey: derivatives.objectKey, size: derivatives.size })
    .from(derivatives)
    .where(and(isAnyOf(derivatives.id, p('ids')), eq(derivatives.state, 'discarded'), isNotHeld)),
);
export const forgetRows = compile('forget-derivatives', (p: Parameter<'ids'>) =>
  build
    .delete(derivatives)
    .where(and(isAnyOf(derivatives.id, p('ids')), eq(derivatives.state, 'discarded')))
    .returning({ assetId: derivatives.assetId, objectKey: derivatives.objectKey }),
);
/** Discarded rows whose job has got lost; what was in the making when its maker died; and what has no asset any more. */
export const findStalled = compile(
  'find-stalled-derivatives',
  (p: Parameter<'cutoff'>) =>
    build
      .select({ id: derivatives.id })
      .from(derivatives)
      .where(
        and(
          inArray(derivatives.state, ['discarded', 'making']),
          lt(derivatives.updatedAt, p('cutoff')),
          or(eq(derivatives.state, 'discarded'), lt(derivatives.leaseExpiresAt, p('cutoff'))),
        ),
      )
      .limit(1000),
  { named: false },
);
