/** The statements of upload sessions; session-repository.ts says when each is run. */
import { and, desc, eq, gte, lt, ne, type SQL, sql } from 'drizzle-orm';
import { type AccessParameter, isFor, isUploader } from '../access/conditions.ts';
import { assetColumns } from '../assets/asset.ts';
import { build, compile, excluded, inSeconds, type Parameter, typed, writtenOut } from '../database/statements.ts';
import { assets, inState, isVisible } from '../database/tables/assets.ts';
import { uploadParts, uploadSessions, uploadTails } from '../database/tables/uploads.ts';
import { replacements } from '../database/tables/versions.ts';
import { chargedAccount } from '../quotas/accounts.ts';

export const insertSession = compile(
  'insert-session',
  (
    p: Parameter<
      | 'id'
      | 'kind'
      | 'partSize'
      | 'size'
      | 'declaredType'
      | 'assetType'
      | 'sha256'
      | 'expiresAt'
      | 'uploadMetadata'
      | 'policies'
    >,
  ) =>
    build.insert(uploadSessions).values({
      assetId: p('id'),
      kind: p('kind'),
      partSize: p('partSize'),
      size: p('size'),
      declaredType: p('declaredType'),
      assetType: p('assetType'),
      sha256: p('sha256'),
      expiresAt: p('expiresAt'),
      uploadMetadata: p('uploadMetadata'),
      policies: p('policies'),
    }),
);

/** The record `uploading` of the parameter `id`, locked so that nobody ends it before the statement does. */
function lockedRecord(p: Parameter<'id'>) {
  return build.$with('live').as(
    build
      .select({ id: assets.id })
      .from(assets)
      .where(and(eq(assets.id, p('id')), inState('uploading')))
      .for('share'),
  );
}

export const noteBegun = compile('note-session-begun', (p: Parameter<'id' | 'storeUploadId'>) => {
  const live = lockedRecord(p);
  return build
    .with(live)
    .update(uploadSessions)
    .set({ storeUploadId: typed(p('storeUploadId'), uploadSessions.storeUploadId) })
    .from(live)
    .where(eq(uploadSessions.assetId, live.id));
});

export const noteValidated = compile(
  'note-session-validated',
  (p: Parameter<'id' | 'holder' | 'storeUploadId' | 'mediaType' | 'policy' | 'policies'>) =>
    build
      .update(uploadSessions)
      .set({
        storeUploadId: typed(p('storeUploadId'), uploadSessions.storeUploadId),
        validatedType: typed(p('mediaType'), uploadSessions.validatedType),
        validatedPolicy: typed(p('policy'), uploadSessions.validatedPolicy),
        policies: typed(p('policies'), uploadSessions.policies),
      })
      .where(and(eq(uploadSessions.assetId, p('id')), eq(uploadSessions.holder, p('holder')))),
);

export const findStoreUploadId = compile('find-store-upload-id', (p: Parameter<'id'>) =>
  build
    .select({ storeUploadId: uploadSessions.storeUploadId })
    .from(uploadSessions)
    .where(eq(uploadSessions.assetId, p('id'))),
);

/** Bytes that are in parts. */
const inParts = sql<number>`coalesce(${uploadSessions.tailBegin},
  ${uploadSessions.position} - coalesce(length(${uploadSessions.tail}), 0))`.mapWith(uploadSessions.position);

export const findSession = compile('find-session', (p: Parameter<'id' | 'kind' | AccessParameter>) =>
  build
    .select({
      ...assetColumns,
      account: chargedAccount.as('account'),
      kind: uploadSessions.kind,
      storeUploadId: uploadSessions.storeUploadId,
      partSize: uploadSessions.partSize,
      agreedSize: uploadSessions.size,
      declaredType: uploadSessions.declaredType,
      agreedType: uploadSessions.assetType,
      declaredSha256: uploadSessions.sha256,
      expiresAt: uploadSessions.expiresAt,
      position: uploadSessions.position,
      inParts: inParts.as('in_parts'),
      takes: uploadSessions.takes,
      holder: uploadSessions.holder,
      validatedType: uploadSessions.validatedType,
      validatedPolicy: uploadSessions.validatedPolicy,
      policies: uploadSessions.policies,
      uploadMetadata: uploadSessions.uploadMetadata,
      isReplacing: sql<boolean>`${replacements.uploadId} is not null`.as('is_replacing'),
    })
    .from(assets)
    .innerJoin(uploadSessions, eq(uploadSessions.assetId, assets.id))
    .leftJoin(replacements, eq(replacements.uploadId, assets.id))
    .where(
      and(eq(assets.id, p('id')), isUploader(p), eq(uploadSessions.kind, p('kind')), ne(assets.state, 'deleting')),
    ),
);

/** An upload of the caller whose bytes have taken the place of others; its own record is gone. */
export const findReplacedBy = compile('find-replaced-by', (p: Parameter<'id' | AccessParameter>) =>
  build
    .select(assetColumns)
    .from(replacements)
    .innerJoin(assets, eq(assets.id, replacements.assetId))
    .where(
      and(
        eq(replacements.uploadId, p('id')),
        eq(replacements.uploaderId, p('subject')),
        sql`${replacements.settledAt} is not null`,
        isFor(p, 'asset.read'),
        isVisible,
      ),
    ),
);

export const keepSession = compile('keep-session', (p: Parameter<'id' | 'lease' | 'until'>) => {
  const until = sql`${p('until')}::timestamptz`;
  const kept = build.$with('kept').as(
    build
      .update(assets)
      .set({
        leaseExpiresAt: sql`greatest(${assets.leaseExpiresAt}, ${inSeconds(p('lease'))},
          ${until} + make_interval(secs => ${p('lease')}))`,
      })
      .where(and(eq(assets.id, p('id')), inState('uploading')))
      .returning({ id: assets.id }),
  );
  return build
    .with(kept)
    .update(uploadSessions)
    .set({ expiresAt: sql`greatest(${uploadSessions.expiresAt}, ${until})` })
    .from(kept)
    .where(eq(uploadSessions.assetId, kept.id));
});

/** The lease is put off by so much more than it need be, so that it is not written again for each of many short requests. */
const AHEAD = sql`interval '1 minute'`;

export const takeSession = compile(
  'take-session',
  (
    p: Parameter<'id' | 'holder' | 'position' | 'inParts' | 'takes' | 'storeUploadId' | 'size' | 'lease' | 'expiresAt'>,
  ) => {
    const expiresAt = typed(p('expiresAt'), uploadSessions.expiresAt);
    const lease = sql`${expiresAt} + make_interval(secs => ${p('lease')})`;
    const live = lockedRecord(p);
    const renewed = build.$with('renewed', {}).as(
      build
        .update(assets)
        .set({ leaseExpiresAt: sql`${lease} + ${AHEAD}` })
        .from(live)
        .where(and(eq(assets.id, live.id), sql`${assets.leaseExpiresAt} < ${lease}`))
        .getSQL(),
    );
    const isAsSeen = and(
      eq(uploadSessions.position, p('position')),
      eq(inParts, p('inParts')),
      eq(uploadSessions.takes, p('takes')),
      // Whoever held it may have begun it in the store since, and written nothing else: it is not begun there twice.
      sql`${uploadSessions.storeUploadId} is not distinct from ${p('storeUploadId')}::text`,
    );
    const moved = build.$with('moved', {}).as(
      build
        .insert(uploadTails)
        .select(
          build
            .select({
              assetId: uploadSessions.assetId,
              begin: inParts.as('begin'),
              bytes: sql<Buffer>`${uploadSessions.tail}`.as('bytes'),
            })
            .from(uploadSessions)
            .innerJoin(live, eq(live.id, uploadSessions.assetId))
            .where(and(isAsSeen, sql`length(${uploadSessions.tail}) > 0`)),
        )
        .onConflictDoNothing()
        .getSQL(),
    );
    const lastRow = (value: SQL<number>) =>
      sql<number | null>`(${build
        .select({ value })
        .from(uploadTails)
        .where(eq(uploadTails.assetId, uploadSessions.assetId))
        .orderBy(desc(uploadTails.begin))
        .limit(writtenOut(1))})`.mapWith(Number);
    return build
      .with(live, renewed, moved)
      .update(uploadSessions)
      .set({
        holder: typed(p('holder'), uploadSessions.holder),
        takes: sql`${uploadSessions.takes} + 1`,
        size: sql`coalesce(${uploadSessions.size}, ${p('size')}::bigint)`,
        expiresAt: sql`greatest(${uploadSessions.expiresAt}, ${expiresAt})`,
        tailBegin: sql`nullif(${inParts}, ${uploadSessions.position})`,
        tail: null,
      })
      .from(live)
      .where(and(eq(uploadSessions.assetId, live.id), isAsSeen))
      .returning({
        expiresAt: uploadSessions.expiresAt,
        lastBegin: lastRow(sql`${uploadTails.begin}`).as('last_begin'),
        lastLength: lastRow(sql`length(${uploadTails.bytes})`).as('last_length'),
      });
  },
);

/** Whoever holds the upload does not any more, and who is about to take it over must look again. */
export const fenceSession = compile('fence-session', (p: Parameter<'id'>) => {
  const live = lockedRecord(p);
  return build
    .with(live)
    .update(uploadSessions)
    .set({ holder: null, takes: sql`${uploadSessions.takes} + 1` })
    .from(live)
    .where(eq(uploadSessions.assetId, live.id));
});

export const releaseSession = compile('release-session', (p: Parameter<'id' | 'holder'>) =>
  build
    .update(uploadSessions)
    .set({ holder: null })
    .where(and(eq(uploadSessions.assetId, p('id')), eq(uploadSessions.holder, p('holder')))),
);

export const findHeld = compile('find-held-session', (p: Parameter<'id' | 'holder'>) =>
  build
    .select({ id: assets.id })
    .from(uploadSessions)
    .innerJoin(assets, eq(assets.id, uploadSessions.assetId))
    .where(and(eq(uploadSessions.assetId, p('id')), eq(uploadSessions.holder, p('holder')), inState('uploading'))),
);

/** Position, tail and parts by one statement: bytes count as soon as the position has passed them, and not before. */
export const advanceSession = compile(
  'advance-session',
  (
    p: Parameter<
      'id' | 'holder' | 'position' | 'inParts' | 'isLast' | 'begin' | 'bytes' | 'partNumbers' | 'etags' | 'sizes'
    >,
  ) => {
    const live = lockedRecord(p);
    const advanced = build.$with('advanced').as(
      build
        .update(uploadSessions)
        .set({
          position: typed(p('position'), uploadSessions.position),
          tailBegin: sql`nullif(${typed(p('inParts'), uploadSessions.position)}, ${typed(p('position'), uploadSessions.position)})`,
          holder: sql`case when ${p('isLast')}::boolean then null else ${uploadSessions.holder} end`,
        })
        .from(live)
        .where(and(eq(uploadSessions.assetId, live.id), eq(uploadSessions.holder, p('holder'))))
        .returning({ assetId: uploadSessions.assetId }),
    );
    const part = sql`unnest(${p('partNumbers')}::integer[], ${p('etags')}::text[], ${p('sizes')}::bigint[])
      as part (number, etag, size)`;
    const rows = build
      .select({
        assetId: advanced.assetId,
        partNumber: sql<number>`part.number`.as('part_number'),
        etag: sql<string>`part.etag`.as('etag'),
        size: sql<number>`part.size`.as('size'),
      })
      .from(advanced)
      .crossJoin(part);
    const noted = build.$with('noted', {}).as(
      build
        .insert(uploadParts)
        .select(rows)
        .onConflictDoUpdate({
          target: [uploadParts.assetId, uploadParts.partNumber],
          set: { etag: excluded(uploadParts.etag), size: excluded(uploadParts.size) },
        })
        .getSQL(),
    );
    // What is in a part by now is no tail any more.
    const dropped = build.$with('dropped', {}).as(
      build
        .delete(uploadTails)
        .where(
          and(
            sql`${uploadTails.assetId} = (select ${advanced.assetId} from ${advanced})`,
            lt(uploadTails.begin, p('inParts')),
          ),
        )
        .getSQL(),
    );
    const bytes = typed(p('bytes'), uploadTails.bytes);
    const kept = build.$with('kept', {}).as(
      build
        .insert(uploadTails)
        .select(
          build
            .select({
              assetId: advanced.assetId,
              begin: typed(p('begin'), uploadTails.begin).as('begin'),
              bytes: bytes.as('bytes'),
            })
            .from(advanced)
            .where(sql`${bytes} is not null`),
        )
        .onConflictDoUpdate({
          target: [uploadTails.assetId, uploadTails.begin],
          set: { bytes: sql`${uploadTails.bytes} || ${excluded(uploadTails.bytes)}` },
        })
        .getSQL(),
    );
    return build.with(live, advanced, noted, dropped, kept).select({ id: advanced.assetId }).from(advanced);
  },
);

export const finishSession = compile('finish-session', (p: Parameter<'id' | 'holder'>) => {
  const dropped = build.$with('dropped', {}).as(
    build
      .delete(uploadTails)
      .where(eq(uploadTails.assetId, p('id')))
      .getSQL(),
  );
  return build
    .with(dropped)
    .update(uploadSessions)
    .set({ holder: null, tailBegin: null })
    .where(and(eq(uploadSessions.assetId, p('id')), eq(uploadSessions.holder, p('holder'))));
});

export const readTail = compile('read-tail', (p: Parameter<'id' | 'from' | 'to'>) =>
  build
    .select({ begin: uploadTails.begin, bytes: uploadTails.bytes })
    .from(uploadTails)
    .where(and(eq(uploadTails.assetId, p('id')), gte(uploadTails.begin, p('from')), lt(uploadTails.begin, p('to'))))
    .orderBy(uploadTails.begin),
);

export const listParts = compile('list-session-parts', (p: Parameter<'id'>) =>
  build
    .select({ partNumber: uploadParts.partNumber, etag: uploadParts.etag, size: uploadParts.size })
    .from(uploadParts)
    .where(eq(uploadParts.assetId, p('id')))
    .orderBy(uploadParts.partNumber),
);
