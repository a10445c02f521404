/** The statements by which an upload lives and ends; repository.ts says when each is run. */
import { and, eq, exists, ne, or, sql } from 'drizzle-orm';
import { assetColumns } from '../assets/asset.ts';
import { type Actor as AuditActor, auditFrom } from '../database/audit.ts';
import { build, compile, inSeconds, jsonObject, now, type Parameter, typed } from '../database/statements.ts';
import { assets, inState, isInProcessing, isVisible } from '../database/tables/assets.ts';
import { quotas } from '../database/tables/quotas.ts';
import { replacements } from '../database/tables/versions.ts';
import { chargedAccount } from '../quotas/accounts.ts';
import { type LimitParameter, limitOf } from '../quotas/limit.ts';
import { givenBack } from '../tickets/counting.ts';

type Actor = keyof AuditActor;
type Seal = 'storedSize' | 'sha256' | 'mediaType' | 'assetType' | 'cacheControl' | 'original';

const isUploading = inState('uploading');

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
