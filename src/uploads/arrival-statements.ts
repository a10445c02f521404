/**
 * The two statements of every upload: by the first it begins, by the second it becomes an asset. Each takes one upload or
 * many, as those of one account come together; see arrivals.ts.
 */
import { and, eq, not, sql } from 'drizzle-orm';
import { isBeingErased } from '../access/erasing.ts';
import { assetColumns } from '../assets/asset.ts';
import { lookAfterUpload, temporaryUntil } from '../assets/life-cycle-looks.ts';
import { auditFrom } from '../database/audit.ts';
import { build, compile, inSeconds, jsonObject, jsonRows, now, type Parameter } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { quotas } from '../database/tables/quotas.ts';
import { chargedAccount } from '../quotas/accounts.ts';
import type { LimitParameter } from '../quotas/limit.ts';
import { reserve } from '../quotas/repository.ts';

const isUploading = inState('uploading');

/** An upload that begins, as a row of the statement. */
const beginning = jsonRows('beginning', {
  id: assets.id,
  ownerId: assets.ownerId,
  projectId: assets.projectId,
  name: assets.name,
  assetType: assets.assetType,
  mediaType: assets.mediaType,
  storedSize: assets.size,
  sha256: assets.sha256,
  metadata: assets.metadata,
  objectKey: assets.objectKey,
  cacheControl: assets.cacheControl,
  createdAt: assets.createdAt,
  reservedBytes: assets.reservedBytes,
  original: assets.original,
  ticketId: assets.ticketId,
  path: assets.path,
  tags: assets.tags,
  retention: assets.retention,
});
export type BeginningRow = Record<Parameters<typeof beginning.column>[0], unknown>;

/**
 * Quota, record and lease by one statement, so that there is never a reservation without an upload. All of them are of one
 * owner and one account: nothing is written where there is no room for all, and for an owner who is being erased.
 */
export const beginUploads = compile(
  'begin-uploads',
  (p: Parameter<'uploads' | 'ownerId' | 'account' | 'size' | 'lease' | LimitParameter>) => {
    const reserved = build.$with('reserved').as(reserve(p, not(isBeingErased(p('ownerId')))));
    const of = beginning.column;
    // Every column in the order of the table: drizzle-orm names them all.
    const record = build
      .select({
        id: sql`${of('id')}`.as('id'),
        ownerId: sql`${of('ownerId')}`.as('owner_id'),
        projectId: sql`${of('projectId')}`.as('project_id'),
        name: sql`${of('name')}`.as('name'),
        state: sql`'uploading'`.as('state'),
        assetType: sql`${of('assetType')}`.as('asset_type'),
        mediaType: sql`${of('mediaType')}`.as('media_type'),
        size: sql`${of('storedSize')}`.as('size'),
        sha256: sql`${of('sha256')}`.as('sha256'),
        reason: sql`null`.as('reason'),
        metadata: sql`${of('metadata')}`.as('metadata'),
        objectKey: sql`${of('objectKey')}`.as('object_key'),
        cacheControl: sql`${of('cacheControl')}`.as('cache_control'),
        // What is known of bytes before any was sent is sent by one request.
        storedWhole: sql`case when ${of('sha256')} is not null then true end`.as('stored_whole'),
        version: sql`1`.as('version'),
        createdAt: sql`${of('createdAt')}`.as('created_at'),
        updatedAt: sql`${of('createdAt')}`.as('updated_at'),
        trashedAt: sql`null::timestamptz`.as('trashed_at'),
        reservedBytes: sql`${of('reservedBytes')}`.as('reserved_bytes'),
        leaseExpiresAt: inSeconds(p('lease')).as('lease_expires_at'),
        verifiedBytes: sql`null::bigint`.as('verified_bytes'),
        scan: sql`null::jsonb`.as('scan'),
        facts: sql`null::jsonb`.as('facts'),
        original: sql`${of('original')}`.as('original'),
        thumbHash: sql`null`.as('thumb_hash'),
        processing: sql`null::jsonb`.as('processing'),
        account: sql`nullif(${reserved.account}, ${of('ownerId')})`.as('account'),
        ticketId: sql`${of('ticketId')}`.as('ticket_id'),
        contentVersion: sql`1`.as('content_version'),
        contentAt: sql`null::timestamptz`.as('content_at'),
        versionBytes: sql`0::bigint`.as('version_bytes'),
        crc32: sql`null::bigint`.as('crc32'),
        publishedIn: sql`null`.as('published_in'),
        publishedAt: sql`null::timestamptz`.as('published_at'),
        unpublishedAt: sql`null::timestamptz`.as('unpublished_at'),
        path: sql`${of('path')}`.as('path'),
        tags: sql`${of('tags')}`.as('tags'),
        holds: sql`null::jsonb`.as('holds'),
        retainUntil: sql`null::timestamptz`.as('retain_until'),
        retentionMode: sql`null`.as('retention_mode'),
        retention: sql`${of('retention')}`.as('retention'),
        temporaryUntil: sql`null::timestamptz`.as('temporary_until'),
        tier: sql`null`.as('tier'),
        archivedAt: sql`null::timestamptz`.as('archived_at'),
        restore: sql`null::jsonb`.as('restore'),
        restoredUntil: sql`null::timestamptz`.as('restored_until'),
      })
      .from(reserved)
      .innerJoin(beginning.from(p('uploads')), sql`true`);
    return build.with(reserved).insert(assets).select(record);
  },
);

/** An upload that becomes an asset, as a row of the statement. */
const settling = jsonRows('settling', {
  id: assets.id,
  state: assets.state,
  size: assets.size,
  sha256: assets.sha256,
  crc32: assets.crc32,
  mediaType: assets.mediaType,
  assetType: assets.assetType,
  cacheControl: assets.cacheControl,
  scan: assets.scan,
  facts: assets.facts,
  original: assets.original,
  thumbHash: assets.thumbHash,
  processing: assets.processing,
  usualRetention: 'text',
  temporaryDays: 'integer',
  isRuled: 'boolean',
  callerId: 'text',
  requestId: 'text',
  via: 'text',
  because: 'text',
});
export type SettlingRow = Record<Parameters<typeof settling.column>[0], unknown>;

/** A derivative whose object is stored; it is there for everybody with the asset. */
const stored = jsonRows('stored', {
  id: derivatives.id,
  mediaType: derivatives.mediaType,
  size: derivatives.size,
  sha256: derivatives.sha256,
  width: derivatives.width,
  height: derivatives.height,
});

/** Those of these uploads that are still in progress become assets, with their derivatives. @param ids of all of them */
export const settleUploads = compile('settle-uploads', (p: Parameter<'uploads' | 'ids' | 'derivatives'>) => {
  const of = settling.column;
  const isOne = sql`${assets.id} = any(${p('ids')}::uuid[])`;
  const upload = build.$with('upload').as(
    build
      .select({ id: assets.id, account: chargedAccount.as('account'), reservedBytes: assets.reservedBytes })
      .from(assets)
      .where(and(isOne, isUploading))
      .for('update'),
  );
  const settled = build.$with('settled').as(
    build
      .update(assets)
      .set({
        state: of('state'),
        size: of('size'),
        sha256: of('sha256'),
        crc32: of('crc32'),
        mediaType: of('mediaType'),
        assetType: of('assetType'),
        cacheControl: of('cacheControl'),
        scan: of('scan'),
        facts: of('facts'),
        // Whoever finishes an abandoned upload knows what was sealed.
        original: sql`coalesce(${of('original')}, ${assets.original})`,
        thumbHash: of('thumbHash'),
        processing: of('processing'),
        temporaryUntil: temporaryUntil(of),
        reservedBytes: 0,
        leaseExpiresAt: null,
        updatedAt: now,
      })
      .from(upload)
      .innerJoin(settling.from(p('uploads')), sql`${of('id')} = ${upload.id}`)
      // The ids again, so that the primary key is used however many uploads the planner expects.
      .where(and(isOne, eq(assets.id, upload.id)))
      .returning({
        ...assetColumns,
        callerId: sql`${of('callerId')}`.as('caller_id'),
        requestId: sql`${of('requestId')}`.as('request_id'),
        via: sql`${of('via')}`.as('via'),
        because: sql`${of('because')}`.as('because'),
        isRuled: sql`${of('isRuled')}`.as('is_ruled'),
      }),
  );
  const sums = build
    .select({
      account: upload.account,
      size: sql`sum(${of('size')})`.as('sum_size'),
      reservedBytes: sql`sum(${upload.reservedBytes})`.as('sum_reserved'),
      files: sql`count(*)`.as('files'),
    })
    .from(upload)
    .innerJoin(settling.from(p('uploads')), sql`${of('id')} = ${upload.id}`)
    .groupBy(upload.account)
    .as('sums');
  const counted = build.$with('counted', {}).as(
    build
      .update(quotas)
      .set({
        usedBytes: sql`${quotas.usedBytes} + ${sums.size}`,
        reservedBytes: sql`${quotas.reservedBytes} - ${sums.reservedBytes}`,
        fileCount: sql`${quotas.fileCount} + ${sums.files}`,
      })
      .from(sums)
      .where(eq(quotas.account, sums.account))
      .getSQL(),
  );
  const made = stored.column;
  const finished = build.$with('finished', {}).as(
    build
      .update(derivatives)
      .set({
        state: 'ready',
        mediaType: made('mediaType'),
        size: made('size'),
        sha256: made('sha256'),
        width: made('width'),
        height: made('height'),
        leaseExpiresAt: null,
        updatedAt: now,
      })
      .from(settled)
      .innerJoin(stored.from(p('derivatives')), sql`true`)
      .where(
        and(
          sql`${derivatives.id} = ${made('id')}`,
          eq(derivatives.assetId, settled.id),
          eq(derivatives.state, 'making'),
        ),
      )
      .getSQL(),
  );
  const detail = jsonObject({ name: settled.name, size: settled.size, mediaType: settled.mediaType });
  const audit = auditFrom((name) => settled[name], settled, { action: 'asset.uploaded', detail });
  return build.with(upload, settled, counted, finished, audit, lookAfterUpload(settled)).select().from(settled);
});
