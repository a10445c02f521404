/** The statements by which an asset is given other bytes; contents.ts says in which order they are run. */
import { and, count, desc, eq, inArray, ne, or, type SQLWrapper, sql, sum } from 'drizzle-orm';
import { type AccessParameter, isFor } from '../access/conditions.ts';
import { assetColumns } from '../assets/asset.ts';
import { nextVersion } from '../assets/conditions.ts';
import { lookSoon } from '../assets/life-cycle-looks.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import { build, compile, jsonObject, now, type Parameter, typed } from '../database/statements.ts';
import { assets, inState, isFree, isHeld, isVisible } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { quotas } from '../database/tables/quotas.ts';
import { assetVersions, replacements } from '../database/tables/versions.ts';
import { chargedAccount } from '../quotas/accounts.ts';
import { type LimitParameter, limitOf } from '../quotas/limit.ts';

/** An upload that replaces, held until the transaction ends. */
export const lockReplacing = compile('lock-replacing-upload', (p: Parameter<'id'>) =>
  build
    .select({
      ...assetColumns,
      account: chargedAccount.as('account'),
      reservedBytes: assets.reservedBytes,
      assetId: replacements.assetId,
      uploaderId: replacements.uploaderId,
      expectedVersion: replacements.expectedVersion,
      newName: replacements.name,
      acceptedAt: replacements.acceptedAt,
      seenVersion: sql<number | null>`${replacements.contentVersion}`.as('seen_version'),
    })
    .from(assets)
    .innerJoin(replacements, eq(replacements.uploadId, assets.id))
    .where(and(eq(assets.id, p('id')), inState('uploading')))
    .for('update', { of: assets }),
);

/** The asset that is given other bytes, held until the transaction ends: whoever comes meanwhile waits, and sees it then. */
export const lockContent = compile('lock-content', (p: Parameter<'id'>) =>
  build
    .select({ ...assetColumns, account: chargedAccount.as('account'), isHeld: isHeld.as('is_held') })
    .from(assets)
    .where(and(eq(assets.id, p('id')), isVisible))
    .for('update'),
);

/** The same where the caller may do this to it. */
export const lockContentFor = compile('lock-content-for', (p: Parameter<'id' | AccessParameter>) =>
  build
    .select({ ...assetColumns, account: chargedAccount.as('account'), isHeld: isHeld.as('is_held') })
    .from(assets)
    .where(and(eq(assets.id, p('id')), isFor(p, 'asset.write'), isVisible))
    .for('update'),
);

/** That the bytes which the asset has came by an upload that was accepted before this one. */
export const findEarlier = compile(
  'find-earlier-replacement',
  (p: Parameter<'assetId' | 'contentVersion' | 'acceptedAt'>) =>
    build
      .select({ id: replacements.uploadId })
      .from(replacements)
      .where(
        and(
          eq(replacements.assetId, p('assetId')),
          eq(replacements.contentVersion, p('contentVersion')),
          sql`${replacements.settledAt} is not null`,
          sql`${replacements.acceptedAt} <= ${p('acceptedAt')}::timestamptz`,
        ),
      ),
);

export const keepVersion = compile('keep-version', (p: Parameter<'id'>) =>
  build.insert(assetVersions).select(
    build
      .select({
        assetId: assets.id,
        number: sql<number>`${assets.contentVersion}`.as('number'),
        name: assets.name,
        mediaType: sql<string>`${assets.mediaType}`.as('media_type'),
        size: sql<number>`${assets.size}`.as('size'),
        sha256: assets.sha256,
        objectKey: assets.objectKey,
        cacheControl: assets.cacheControl,
        scan: assets.scan,
        facts: assets.facts,
        original: assets.original,
        thumbHash: assets.thumbHash,
        processing: assets.processing,
        storedAt: sql<Date>`coalesce(${assets.contentAt}, ${assets.createdAt})`.as('stored_at'),
        replacedAt: sql<Date>`now()`.as('replaced_at'),
      })
      .from(assets)
      .where(eq(assets.id, p('id'))),
  ),
);

/** The versions of an asset are held with it. */
const isOfFree = inArray(assetVersions.assetId, build.select({ id: assets.id }).from(assets).where(isFree));

/** All but the latest. */
export const dropSurplus = compile('drop-surplus-versions', (p: Parameter<'assetId' | 'keep'>) => {
  const surplus = build
    .select({ number: assetVersions.number })
    .from(assetVersions)
    .where(eq(assetVersions.assetId, p('assetId')))
    .orderBy(desc(assetVersions.number))
    .offset(p('keep'));
  return build
    .delete(assetVersions)
    .where(and(eq(assetVersions.assetId, p('assetId')), sql`${assetVersions.number} in ${surplus}`, isOfFree))
    .returning({ objectKey: assetVersions.objectKey });
});

export const dropVersion = compile('drop-version', (p: Parameter<'assetId' | 'number'>) =>
  build
    .delete(assetVersions)
    .where(and(eq(assetVersions.assetId, p('assetId')), eq(assetVersions.number, p('number')), isOfFree))
    .returning(),
);

/** What the versions of an asset come to. */
export const sumVersions = compile('sum-versions', (p: Parameter<'assetId'>) =>
  build
    .select({
      bytes: sql`coalesce(${sum(assetVersions.size)}, 0)::bigint`.mapWith(Number).as('bytes'),
      count: count().as('count'),
    })
    .from(assetVersions)
    .where(eq(assetVersions.assetId, p('assetId'))),
);

/** What was reserved for it is used now; room was asked for when it was reserved, and for what goes beyond that here. */
export const settleUse = compile('settle-use', (p: Parameter<'account' | 'more' | 'reserved' | LimitParameter>) => {
  const more = sql`${p('more')}::bigint`;
  const reserved = sql`${p('reserved')}::bigint`;
  return build
    .update(quotas)
    .set({ usedBytes: sql`${quotas.usedBytes} + ${more}`, reservedBytes: sql`${quotas.reservedBytes} - ${reserved}` })
    .where(
      and(
        eq(quotas.account, p('account')),
        or(
          sql`${more} <= ${reserved}`,
          sql`${quotas.usedBytes} + ${quotas.reservedBytes} + ${more} - ${reserved}
              <= ${limitOf(p)}`,
        ),
      ),
    )
    .returning({ account: quotas.account });
});

type Content =
  | 'name'
  | 'state'
  | 'size'
  | 'sha256'
  | 'mediaType'
  | 'objectKey'
  | 'cacheControl'
  | 'scan'
  | 'facts'
  | 'original'
  | 'thumbHash'
  | 'processing'
  | 'crc32'
  | 'versionBytes';

/**
 * The swap: all that the record says of its bytes is of the new ones from here on, and the record of their upload is gone.
 * The parameter `uploadId` is null where there is none.
 */
export const giveContent = compile(
  'give-content',
  (p: Parameter<Content | 'id' | 'uploadId' | 'action' | 'former' | 'by' | keyof Actor>) => {
    const before = build.$with('before').as(
      build
        .select({
          id: assets.id,
          name: assets.name,
          size: assets.size,
          mediaType: assets.mediaType,
          tier: assets.tier,
        })
        .from(assets)
        .where(eq(assets.id, p('id'))),
    );
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({
          ...nextVersion,
          name: typed(p('name'), assets.name),
          state: typed(p('state'), assets.state),
          reason: null,
          size: typed(p('size'), assets.size),
          sha256: typed(p('sha256'), assets.sha256),
          mediaType: typed(p('mediaType'), assets.mediaType),
          objectKey: typed(p('objectKey'), assets.objectKey),
          crc32: typed(p('crc32'), assets.crc32),
          cacheControl: typed(p('cacheControl'), assets.cacheControl),
          // Its former objects lie beside it.
          storedWhole: null,
          verifiedBytes: null,
          scan: typed(p('scan'), assets.scan),
          facts: typed(p('facts'), assets.facts),
          original: typed(p('original'), assets.original),
          thumbHash: typed(p('thumbHash'), assets.thumbHash),
          processing: typed(p('processing'), assets.processing),
          contentVersion: sql`${assets.contentVersion} + 1`,
          contentAt: now,
          tier: null,
          archivedAt: null,
          restore: null,
          restoredUntil: null,
          versionBytes: typed(p('versionBytes'), assets.versionBytes),
        })
        .from(before)
        .where(and(eq(assets.id, before.id), isFree))
        .returning({
          ...assetColumns,
          previousName: sql`${before.name}`.as('previous_name'),
          previousSize: sql`${before.size}`.as('previous_size'),
          previousMediaType: sql`${before.mediaType}`.as('previous_media_type'),
          wasArchived: sql`${before.tier} is not null`.as('was_archived'),
        }),
    );
    const uploadGone = build.$with('upload_gone', {}).as(
      build
        .delete(assets)
        .where(sql`${assets.id} = ${p('uploadId')}::uuid`)
        .getSQL(),
    );
    const settled = build.$with('settled', {}).as(
      build
        .update(replacements)
        .set({
          settledAt: now,
          acceptedAt: sql`coalesce(${replacements.acceptedAt}, clock_timestamp())`,
          contentVersion: sql`${changed.contentVersion}`,
        })
        .from(changed)
        .where(sql`${replacements.uploadId} = ${p('uploadId')}::uuid`)
        .getSQL(),
    );
    const unlessSame = (previous: SQLWrapper, value: SQLWrapper) => sql`nullif(${previous}, ${value})`;
    const detail = jsonObject({
      name: changed.name,
      size: changed.size,
      mediaType: changed.mediaType,
      contentVersion: changed.contentVersion,
      formerVersion: sql`${p('former')}::integer`,
      previousName: unlessSame(changed.previousName, changed.name),
      previousSize: changed.previousSize,
      previousMediaType: unlessSame(changed.previousMediaType, changed.mediaType),
      uploadedBy: sql`${p('by')}::text`,
    });
    const audit = auditFrom(p, changed, { action: p('action'), detail: sql`jsonb_strip_nulls(${detail})` });
    // Rules for its new bytes were of no use for the archived ones.
    const looked = lookSoon(changed, sql`${changed.wasArchived}`);
    return build.with(before, changed, uploadGone, settled, audit, looked).select().from(changed);
  },
);

/** What was made of the upload belongs to the asset; the derivatives that are stored are there for everybody. */
export const adoptDerivatives = compile('adopt-derivatives', (p: Parameter<'uploadId' | 'assetId' | 'derivatives'>) => {
  const stored = sql`jsonb_to_recordset(${p('derivatives')}::jsonb)
    as stored (id uuid, "mediaType" text, size bigint, sha256 text, width integer, height integer)`;
  const isStored = sql`stored.id is not null and ${derivatives.state} = 'making'`;
  const orOwn = (value: SQLWrapper, own: SQLWrapper) => sql`case when ${isStored} then ${value} else ${own} end`;
  const rows = build.$with('rows').as(
    build
      .select({ id: derivatives.id })
      .from(derivatives)
      .where(eq(derivatives.assetId, p('uploadId'))),
  );
  return build
    .with(rows)
    .update(derivatives)
    .set({
      assetId: typed(p('assetId'), derivatives.assetId),
      state: orOwn(sql`'ready'`, derivatives.state),
      mediaType: orOwn(sql`stored."mediaType"`, derivatives.mediaType),
      size: orOwn(sql`stored.size`, derivatives.size),
      sha256: orOwn(sql`decode(stored.sha256, 'hex')`, derivatives.sha256),
      width: orOwn(sql`stored.width`, derivatives.width),
      height: orOwn(sql`stored.height`, derivatives.height),
      leaseExpiresAt: sql`case when ${isStored} then null else ${derivatives.leaseExpiresAt} end`,
      updatedAt: now,
    })
    .from(sql`${rows} left join ${stored} on stored.id = ${rows.id}`)
    .where(eq(derivatives.id, rows.id));
});

/** All its bytes are there and checked; steps of processing come before they take the place of the others. */
export const acceptReplacement = compile(
  'accept-replacement',
  (
    p: Parameter<
      | 'id'
      | 'size'
      | 'sha256'
      | 'mediaType'
      | 'assetType'
      | 'cacheControl'
      | 'scan'
      | 'facts'
      | 'original'
      | 'thumbHash'
      | 'processing'
      | 'lease'
      | 'seen'
    >,
  ) => {
    const accepted = build.$with('accepted').as(
      build
        .update(assets)
        .set({
          size: typed(p('size'), assets.size),
          sha256: typed(p('sha256'), assets.sha256),
          mediaType: typed(p('mediaType'), assets.mediaType),
          assetType: typed(p('assetType'), assets.assetType),
          cacheControl: typed(p('cacheControl'), assets.cacheControl),
          scan: typed(p('scan'), assets.scan),
          facts: typed(p('facts'), assets.facts),
          original: sql`coalesce(${typed(p('original'), assets.original)}, ${assets.original})`,
          thumbHash: typed(p('thumbHash'), assets.thumbHash),
          processing: typed(p('processing'), assets.processing),
          leaseExpiresAt: sql`now() + make_interval(secs => ${p('lease')})`,
          updatedAt: now,
        })
        .where(and(eq(assets.id, p('id')), ne(assets.state, 'deleting')))
        .returning({ id: assets.id }),
    );
    return (
      build
        .with(accepted)
        .update(replacements)
        // By the clock, not by the beginning of the transaction: the asset is locked, so this is their order.
        .set({ acceptedAt: sql`clock_timestamp()`, contentVersion: typed(p('seen'), replacements.contentVersion) })
        .from(accepted)
        .where(eq(replacements.uploadId, accepted.id))
    );
  },
);

export const insertReplacement = compile(
  'insert-replacement',
  (p: Parameter<'uploadId' | 'assetId' | 'uploaderId' | 'expectedVersion' | 'name'>) =>
    build.insert(replacements).values({
      uploadId: p('uploadId'),
      assetId: p('assetId'),
      uploaderId: p('uploaderId'),
      expectedVersion: p('expectedVersion'),
      name: p('name'),
      begunAt: now,
    }),
);

/** The asset that an upload has given its bytes, as it is now. */
export const findReplaced = compile('find-replaced-asset', (p: Parameter<'uploadId'>) =>
  build
    .select(assetColumns)
    .from(assets)
    .innerJoin(replacements, eq(replacements.assetId, assets.id))
    .where(and(eq(replacements.uploadId, p('uploadId')), sql`${replacements.settledAt} is not null`, isVisible)),
);
