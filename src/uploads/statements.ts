/** The statements by which an upload lives and ends; repository.ts says when each is run. */
import { and, eq, exists, ne, not, or, sql } from 'drizzle-orm';
import { isBeingErased } from '../access/erasing.ts';
import { assetColumns } from '../assets/asset.ts';
import { type LifeCycleParameter, lookAfterUpload, temporaryUntil } from '../assets/life-cycle-looks.ts';
import { type Actor as AuditActor, auditFrom } from '../database/audit.ts';
import { build, compile, inSeconds, jsonObject, now, type Parameter, typed } from '../database/statements.ts';
import { assets, inState, isInProcessing, isVisible } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { quotas } from '../database/tables/quotas.ts';
import { replacements } from '../database/tables/versions.ts';
import { chargedAccount } from '../quotas/accounts.ts';
import { type LimitParameter, limitOf } from '../quotas/limit.ts';
import { reserve } from '../quotas/repository.ts';
import { givenBack } from '../tickets/counting.ts';

type Actor = keyof AuditActor;
type Seal = 'storedSize' | 'sha256' | 'mediaType' | 'assetType' | 'cacheControl' | 'original';

const isUploading = inState('uploading');

/**
 * Quota, record and lease by one statement, so that there is never a reservation without an upload; nothing for an owner who
 * is being erased.
 */
export const beginUpload = compile(
  'begin-upload',
  (
    p: Parameter<
      | Seal
      | 'id'
      | 'ownerId'
      | 'account'
      | 'ticketId'
      | 'projectId'
      | 'name'
      | 'metadata'
      | 'path'
      | 'tags'
      | 'retention'
      | 'objectKey'
      | 'createdAt'
      | 'size'
      | 'lease'
      | LimitParameter
    >,
  ) => {
    const reserved = build.$with('reserved').as(reserve(p, not(isBeingErased(p('ownerId')))));
    // Every column in the order of the table: drizzle-orm names them all.
    const record = build
      .select({
        id: typed(p('id'), assets.id).as('id'),
        ownerId: typed(p('ownerId'), assets.ownerId).as('owner_id'),
        projectId: typed(p('projectId'), assets.projectId).as('project_id'),
        name: typed(p('name'), assets.name).as('name'),
        state: sql`'uploading'`.as('state'),
        assetType: typed(p('assetType'), assets.assetType).as('asset_type'),
        mediaType: typed(p('mediaType'), assets.mediaType).as('media_type'),
        size: typed(p('storedSize'), assets.size).as('size'),
        sha256: typed(p('sha256'), assets.sha256).as('sha256'),
        reason: sql`null`.as('reason'),
        metadata: typed(p('metadata'), assets.metadata).as('metadata'),
        objectKey: typed(p('objectKey'), assets.objectKey).as('object_key'),
        cacheControl: typed(p('cacheControl'), assets.cacheControl).as('cache_control'),
        // What is known of bytes before any was sent is sent by one request.
        storedWhole: sql`case when ${typed(p('sha256'), assets.sha256)} is not null then true end`.as('stored_whole'),
        version: sql`1`.as('version'),
        createdAt: typed(p('createdAt'), assets.createdAt).as('created_at'),
        updatedAt: typed(p('createdAt'), assets.updatedAt).as('updated_at'),
        trashedAt: sql`null::timestamptz`.as('trashed_at'),
        reservedBytes: typed(p('size'), assets.reservedBytes).as('reserved_bytes'),
        leaseExpiresAt: inSeconds(p('lease')).as('lease_expires_at'),
        verifiedBytes: sql`null::bigint`.as('verified_bytes'),
        scan: sql`null::jsonb`.as('scan'),
        facts: sql`null::jsonb`.as('facts'),
        original: typed(p('original'), assets.original).as('original'),
        thumbHash: sql`null`.as('thumb_hash'),
        processing: sql`null::jsonb`.as('processing'),
        account: sql`nullif(${reserved.account}, ${p('ownerId')})`.as('account'),
        ticketId: typed(p('ticketId'), assets.ticketId).as('ticket_id'),
        contentVersion: sql`1`.as('content_version'),
        contentAt: sql`null::timestamptz`.as('content_at'),
        versionBytes: sql`0::bigint`.as('version_bytes'),
        crc32: sql`null::bigint`.as('crc32'),
        publishedIn: sql`null`.as('published_in'),
        publishedAt: sql`null::timestamptz`.as('published_at'),
        unpublishedAt: sql`null::timestamptz`.as('unpublished_at'),
        path: typed(p('path'), assets.path).as('path'),
        tags: typed(p('tags'), assets.tags).as('tags'),
        holds: sql`null::jsonb`.as('holds'),
        retainUntil: sql`null::timestamptz`.as('retain_until'),
        retentionMode: sql`null`.as('retention_mode'),
        retention: typed(p('retention'), assets.retention).as('retention'),
        temporaryUntil: sql`null::timestamptz`.as('temporary_until'),
        tier: sql`null`.as('tier'),
        archivedAt: sql`null::timestamptz`.as('archived_at'),
        restore: sql`null::jsonb`.as('restore'),
        restoredUntil: sql`null::timestamptz`.as('restored_until'),
      })
      .from(reserved);
    return build.with(reserved).insert(assets).select(record);
  },
);

export const extendUpload = compile('extend-upload', (p: Parameter<'id' | 'total' | 'lease' | LimitParameter>) =>
  extension(p, {}),
);

export const sealUpload = compile('seal-upload', (p: Parameter<'id' | 'total' | 'lease' | LimitParameter | Seal>) =>
  extension(p, {
    size: typed(p('storedSize'), assets.size),
    sha256: typed(p('sha256'), assets.sha256),
    mediaType: typed(p('mediaType'), assets.mediaType),
    assetType: typed(p('assetType'), assets.assetType),
    cacheControl: typed(p('cacheControl'), assets.cacheControl),
    original: typed(p('original'), assets.original),
  }),
);

/** @param seal what is set beside the reservation and the lease */
function extension(p: Parameter<'id' | 'total' | 'lease' | LimitParameter>, seal: object) {
  const live = build.$with('live').as(
    build
      .select({
        id: assets.id,
        account: chargedAccount.as('account'),
        step: sql<number>`greatest(${p('total')}::bigint - ${assets.reservedBytes}, 0)`.as('step'),
      })
      .from(assets)
      .where(and(eq(assets.id, p('id')), isUploading))
      .for('update'),
  );
  const room = sql`${quotas.usedBytes} + ${quotas.reservedBytes} + ${live.step}
    <= ${limitOf(p)}`;
  const granted = build.$with('granted').as(
    build
      .update(quotas)
      .set({ reservedBytes: sql`${quotas.reservedBytes} + ${live.step}` })
      .from(live)
      .where(and(eq(quotas.account, live.account), or(sql`${live.step} = 0`, room)))
      .returning({ id: live.id, step: live.step }),
  );
  const extended = build.$with('extended').as(
    build
      .update(assets)
      .set({
        reservedBytes: sql`${assets.reservedBytes} + ${granted.step}`,
        // That of a session is longer.
        leaseExpiresAt: sql`greatest(${assets.leaseExpiresAt}, ${inSeconds(p('lease'))})`,
        ...seal,
      })
      .from(granted)
      .where(eq(assets.id, granted.id))
      .returning({ id: assets.id }),
  );
  return build
    .with(live, granted, extended)
    .select({
      isLive: sql<boolean>`${exists(build.select({ id: live.id }).from(live))}`.as('is_live'),
      isExtended: sql<boolean>`${exists(build.select({ id: extended.id }).from(extended))}`.as('is_extended'),
      // Bytes that are new.
      step: sql<number>`coalesce((${build.select({ step: granted.step }).from(granted)}), 0)`
        .mapWith(Number)
        .as('step'),
    })
    .from(sql`(select) as one`);
}

export const renewUpload = compile('renew-upload', (p: Parameter<'id' | 'lease'>) =>
  build
    .update(assets)
    .set({ leaseExpiresAt: inSeconds(p('lease')) })
    .where(and(eq(assets.id, p('id')), isUploading)),
);

export const describeUpload = compile(
  'describe-upload',
  (p: Parameter<'id' | 'projectId' | 'account' | 'metadata' | 'path' | 'tags' | 'retention'>) =>
    build
      .update(assets)
      .set({
        projectId: typed(p('projectId'), assets.projectId),
        account: typed(p('account'), assets.account),
        metadata: typed(p('metadata'), assets.metadata),
        path: typed(p('path'), assets.path),
        tags: typed(p('tags'), assets.tags),
        retention: typed(p('retention'), assets.retention),
      })
      .where(and(eq(assets.id, p('id')), isUploading))
      .returning({ id: assets.id }),
);

/** The upload, held until the transaction ends. */
export const lockUpload = compile('lock-upload', (p: Parameter<'id'>) =>
  build
    .select({ account: chargedAccount.as('account'), reservedBytes: assets.reservedBytes })
    .from(assets)
    .where(and(eq(assets.id, p('id')), isUploading))
    .for('update'),
);

/** The record of an upload in progress, locked, as the statements that end it see it. */
function lockedUpload(p: Parameter<'id'>, ...conditions: Parameters<typeof and>) {
  return build.$with('upload').as(
    build
      .select({
        id: assets.id,
        ownerId: assets.ownerId,
        projectId: assets.projectId,
        account: chargedAccount.as('account'),
        name: assets.name,
        objectKey: assets.objectKey,
        reservedBytes: assets.reservedBytes,
        ticketId: assets.ticketId,
      })
      .from(assets)
      .where(and(eq(assets.id, p('id')), isUploading, ...conditions))
      .for('update'),
  );
}
type LockedUpload = ReturnType<typeof lockedUpload>;

type Settled =
  | 'id'
  | 'state'
  | 'size'
  | 'sha256'
  | 'crc32'
  | 'mediaType'
  | 'assetType'
  | 'cacheControl'
  | 'scan'
  | 'facts'
  | 'original'
  | 'thumbHash'
  | 'processing'
  | LifeCycleParameter
  | Actor;

function settling(p: Parameter<Settled>) {
  const upload = lockedUpload(p);
  const settled = build.$with('settled').as(
    build
      .update(assets)
      .set({
        state: typed(p('state'), assets.state),
        size: typed(p('size'), assets.size),
        sha256: typed(p('sha256'), assets.sha256),
        crc32: typed(p('crc32'), assets.crc32),
        mediaType: typed(p('mediaType'), assets.mediaType),
        assetType: typed(p('assetType'), assets.assetType),
        cacheControl: typed(p('cacheControl'), assets.cacheControl),
        scan: typed(p('scan'), assets.scan),
        facts: typed(p('facts'), assets.facts),
        // Whoever finishes an abandoned upload knows what was sealed.
        original: sql`coalesce(${typed(p('original'), assets.original)}, ${assets.original})`,
        thumbHash: typed(p('thumbHash'), assets.thumbHash),
        processing: typed(p('processing'), assets.processing),
        temporaryUntil: temporaryUntil(p),
        reservedBytes: 0,
        leaseExpiresAt: null,
        updatedAt: now,
      })
      .from(upload)
      .where(eq(assets.id, upload.id))
      .returning(assetColumns),
  );
  const counted = build.$with('counted', {}).as(
    build
      .update(quotas)
      .set({
        usedBytes: sql`${quotas.usedBytes} + ${typed(p('size'), assets.size)}`,
        reservedBytes: sql`${quotas.reservedBytes} - ${upload.reservedBytes}`,
        fileCount: sql`${quotas.fileCount} + 1`,
      })
      .from(upload)
      .where(eq(quotas.account, upload.account))
      .getSQL(),
  );
  const detail = jsonObject({ name: settled.name, size: settled.size, mediaType: settled.mediaType });
  const audit = auditFrom(p, settled, { action: 'asset.uploaded', detail });
  return { upload, settled, counted, audit, looked: lookAfterUpload(p, settled) };
}

export const settleUpload = compile('settle-upload', (p: Parameter<Settled>) => {
  const { upload, settled, counted, audit, looked } = settling(p);
  return build.with(upload, settled, counted, audit, looked).select().from(settled);
});

/** The same of a file whose derivatives are stored: they are there for everybody with the asset. */
export const settleUploadWithDerivatives = compile(
  'settle-upload-with-derivatives',
  (p: Parameter<Settled | 'derivatives'>) => {
    const { upload, settled, counted, audit, looked } = settling(p);
    const stored = sql`jsonb_to_recordset(${p('derivatives')}::jsonb)
      as stored (id uuid, "mediaType" text, size bigint, sha256 text, width integer, height integer)`;
    const finished = build.$with('finished', {}).as(
      build
        .update(derivatives)
        .set({
          state: 'ready',
          mediaType: sql`stored."mediaType"`,
          size: sql`stored.size`,
          sha256: sql`decode(stored.sha256, 'hex')`,
          width: sql`stored.width`,
          height: sql`stored.height`,
          leaseExpiresAt: null,
          updatedAt: now,
        })
        .from(settled)
        .innerJoin(stored, sql`true`)
        .where(
          and(sql`${derivatives.id} = stored.id`, eq(derivatives.assetId, settled.id), eq(derivatives.state, 'making')),
        )
        .getSQL(),
    );
    return build.with(upload, settled, counted, finished, audit, looked).select().from(settled);
  },
);

export const findSettled = compile('find-settled-upload', (p: Parameter<'id'>) =>
  build
    .select(assetColumns)
    .from(assets)
    .where(and(eq(assets.id, p('id')), isVisible)),
);

export const findProcessing = compile('find-processing-asset', (p: Parameter<'id'>) =>
  build
    .select(assetColumns)
    .from(assets)
    .where(and(eq(assets.id, p('id')), isInProcessing, ne(assets.state, 'ready'))),
);

export const noteVerified = compile('note-verified', (p: Parameter<'id' | 'bytes'>) =>
  build
    .update(assets)
    .set({ verifiedBytes: typed(p('bytes'), assets.verifiedBytes) })
    .where(and(eq(assets.id, p('id')), inState('processing'))),
);

/** What was reserved for the upload is free again, and its place and bytes are given back to its ticket. */
function released(upload: LockedUpload) {
  const released = build.$with('released').as(
    build
      .update(quotas)
      .set({ reservedBytes: sql`${quotas.reservedBytes} - ${upload.reservedBytes}` })
      .from(upload)
      .where(eq(quotas.account, upload.account))
      .returning({ account: quotas.account }),
  );
  return [released, givenBack(upload, released)];
}

/** One audit row that tells why an upload ended. */
function endedAudit(p: Parameter<'action' | 'reason' | Actor>, upload: LockedUpload) {
  const detail = jsonObject({ name: upload.name, reason: sql`${p('reason')}::text` });
  return auditFrom(p, upload, { action: p('action'), detail });
}

export const removeUpload = compile('remove-upload', (p: Parameter<'id' | 'action' | 'reason' | Actor>) => {
  const upload = lockedUpload(p);
  const ended = build
    .$with('ended', {})
    .as(build.delete(assets).where(sql`${assets.id} = (select ${upload.id} from ${upload})`).getSQL());
  return build
    .with(upload, ended, ...released(upload), endedAudit(p, upload))
    .select({ id: upload.id })
    .from(upload);
});

export const markUploadForDeletion = compile(
  'mark-upload-for-deletion',
  (p: Parameter<'id' | 'action' | 'reason' | 'onlyAbandoned' | Actor>) => {
    const upload = lockedUpload(p, sql`(not ${p('onlyAbandoned')}::boolean or ${assets.leaseExpiresAt} < ${now})`);
    const ended = build
      .$with('ended', {})
      .as(
        build
          .update(assets)
          .set({ state: 'deleting', reservedBytes: 0, leaseExpiresAt: null, updatedAt: now })
          .from(upload)
          .where(eq(assets.id, upload.id))
          .getSQL(),
      );
    return build
      .with(upload, ended, ...released(upload), endedAudit(p, upload))
      .select({ objectKey: upload.objectKey })
      .from(upload);
  },
);

export const forgetUpload = compile('forget-upload', (p: Parameter<'id'>) =>
  build.delete(assets).where(and(eq(assets.id, p('id')), inState('deleting'))),
);

export const listAbandoned = compile('list-abandoned-uploads', (p: Parameter<'limit'>) =>
  build
    .select({
      id: assets.id,
      ownerId: assets.ownerId,
      objectKey: assets.objectKey,
      size: assets.size,
      sha256: assets.sha256,
      mediaType: assets.mediaType,
      assetType: assets.assetType,
      cacheControl: assets.cacheControl,
      isReplacing: sql<boolean>`${replacements.uploadId} is not null`.as('is_replacing'),
      isAccepted: sql<boolean>`${replacements.acceptedAt} is not null`.as('is_accepted'),
    })
    .from(assets)
    .leftJoin(replacements, eq(replacements.uploadId, assets.id))
    .where(and(isUploading, sql`${assets.leaseExpiresAt} < ${now}`))
    .orderBy(assets.leaseExpiresAt)
    .limit(p('limit')),
);

export const findFate = compile('find-upload-fate', (p: Parameter<'id'>) =>
  build
    .select(assetColumns)
    .from(assets)
    .where(and(eq(assets.id, p('id')), sql`not ${inState('deleting')}`)),
);
