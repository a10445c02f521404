/**
 * Upload sessions in the database. Every change of a resumable upload is made by the one request that holds it, and says
 * so: a request from which another one took over changes nothing any more, wherever it runs. No lock is held in between.
 */
import { and, eq, ne, sql } from 'drizzle-orm';
import { type Asset, assetColumns, toAsset } from '../assets/asset.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, excluded, inSeconds, type Parameter, typed } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { type sessionKinds, uploadParts, uploadSessions } from '../database/tables/uploads.ts';
import type { UploadedPart } from '../storage/object-store.ts';

export type SessionKind = (typeof sessionKinds)[number];

/** What is agreed on when a session begins. */
export interface NewSession {
  kind: SessionKind;
  /** Bytes of every part but the last. */
  partSize: number;
  /** Bytes of the file; absent when it is left open, which only a resumable upload may. */
  size?: number;
  declaredType?: string;
  /** Name of the upload policy that was chosen. */
  assetType?: string;
  /** Declared digest of the file. */
  sha256?: Buffer;
  expiresAt: Date;
}

export interface UploadSession extends NewSession {
  id: string;
  ownerId: string;
  fileName: string;
  objectKey: string;
  createdAt: Date;
  /** Absent while the store has not begun the upload. */
  storeUploadId?: string;
  /** Of a resumable upload: bytes that are safe. */
  position: number;
  /** Of a resumable upload, from the first part on: what the bytes are, and the name of the policy that allows it. */
  validated?: { mediaType: string; policy: string };
}

/** What a request has brought into safety. */
export interface Progress {
  position: number;
  parts: UploadedPart[];
  /** What came after the last whole part; absent for nothing. */
  tail: Buffer | undefined;
}

const insertSession = compile('insert-session', (p: Parameter<keyof NewSession | 'id'>) =>
  build.insert(uploadSessions).values({
    assetId: p('id'),
    kind: p('kind'),
    partSize: p('partSize'),
    size: p('size'),
    declaredType: p('declaredType'),
    assetType: p('assetType'),
    sha256: p('sha256'),
    expiresAt: p('expiresAt'),
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

const noteBegun = compile('note-session-begun', (p: Parameter<'id' | 'storeUploadId'>) => {
  const live = lockedRecord(p);
  return build
    .with(live)
    .update(uploadSessions)
    .set({ storeUploadId: typed(p('storeUploadId'), uploadSessions.storeUploadId) })
    .from(live)
    .where(eq(uploadSessions.assetId, live.id));
});

const noteValidated = compile(
  'note-session-validated',
  (p: Parameter<'id' | 'holder' | 'storeUploadId' | 'mediaType' | 'policy'>) =>
    build
      .update(uploadSessions)
      .set({
        storeUploadId: typed(p('storeUploadId'), uploadSessions.storeUploadId),
        validatedType: typed(p('mediaType'), uploadSessions.validatedType),
        validatedPolicy: typed(p('policy'), uploadSessions.validatedPolicy),
      })
      .where(and(eq(uploadSessions.assetId, p('id')), eq(uploadSessions.holder, p('holder')))),
);

const findSession = compile('find-session', (p: Parameter<'id' | 'ownerId' | 'kind'>) =>
  build
    .select({
      ...assetColumns,
      kind: uploadSessions.kind,
      storeUploadId: uploadSessions.storeUploadId,
      partSize: uploadSessions.partSize,
      agreedSize: uploadSessions.size,
      declaredType: uploadSessions.declaredType,
      agreedType: uploadSessions.assetType,
      declaredSha256: uploadSessions.sha256,
      expiresAt: uploadSessions.expiresAt,
      position: uploadSessions.position,
      validatedType: uploadSessions.validatedType,
      validatedPolicy: uploadSessions.validatedPolicy,
    })
    .from(assets)
    .innerJoin(uploadSessions, eq(uploadSessions.assetId, assets.id))
    .where(
      and(
        eq(assets.id, p('id')),
        eq(assets.ownerId, p('ownerId')),
        eq(uploadSessions.kind, p('kind')),
        ne(assets.state, 'deleting'),
      ),
    ),
);

const keepSession = compile('keep-session', (p: Parameter<'id' | 'lease' | 'until'>) => {
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

const takeSession = compile(
  'take-session',
  (p: Parameter<'id' | 'holder' | 'position' | 'size' | 'lease' | 'expiresAt'>) => {
    const expiresAt = typed(p('expiresAt'), uploadSessions.expiresAt);
    const live = build.$with('live').as(
      build
        .update(assets)
        .set({ leaseExpiresAt: sql`${expiresAt} + make_interval(secs => ${p('lease')})` })
        .where(and(eq(assets.id, p('id')), inState('uploading')))
        .returning({ id: assets.id }),
    );
    return build
      .with(live)
      .update(uploadSessions)
      .set({
        holder: typed(p('holder'), uploadSessions.holder),
        size: sql`coalesce(${uploadSessions.size}, ${p('size')}::bigint)`,
        expiresAt,
      })
      .from(live)
      .where(and(eq(uploadSessions.assetId, live.id), eq(uploadSessions.position, p('position'))))
      .returning({ tail: uploadSessions.tail });
  },
);

const findHeld = compile('find-held-session', (p: Parameter<'id' | 'holder'>) =>
  build
    .select({ id: assets.id })
    .from(uploadSessions)
    .innerJoin(assets, eq(assets.id, uploadSessions.assetId))
    .where(and(eq(uploadSessions.assetId, p('id')), eq(uploadSessions.holder, p('holder')), inState('uploading'))),
);

/** Position, tail and parts by one statement: a part counts as soon as the position has passed it, and not before. */
const advanceSession = compile(
  'advance-session',
  (p: Parameter<'id' | 'holder' | 'position' | 'tail' | 'partNumbers' | 'etags' | 'sizes'>) => {
    const live = lockedRecord(p);
    const advanced = build.$with('advanced').as(
      build
        .update(uploadSessions)
        .set({
          position: typed(p('position'), uploadSessions.position),
          tail: typed(p('tail'), uploadSessions.tail),
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
    return build.with(live, advanced, noted).select({ id: advanced.assetId }).from(advanced);
  },
);

const listParts = compile('list-session-parts', (p: Parameter<'id'>) =>
  build
    .select({ partNumber: uploadParts.partNumber, etag: uploadParts.etag, size: uploadParts.size })
    .from(uploadParts)
    .where(eq(uploadParts.assetId, p('id')))
    .orderBy(uploadParts.partNumber),
);

export class UploadSessionsRepository {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /** In the transaction that begins the upload. */
  async insert(transaction: Executor, id: string, session: NewSession): Promise<void> {
    const { size = null, declaredType = null, assetType = null, sha256 = null, ...rest } = session;
    await transaction.run(insertSession, { id, size, declaredType, assetType, sha256, ...rest });
  }

  /** The store has begun a direct upload. @returns false when the upload was ended meanwhile */
  async noteBegun(
    id: string,
    storeUploadId: string,
    inTransaction: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      const { rowCount } = await transaction.run(noteBegun, { id, storeUploadId });
      if (rowCount !== 1) return false;
      await inTransaction(transaction);
      return true;
    });
  }

  /** A session of this owner, or the asset it has become; undefined when there is neither. */
  async find(
    kind: SessionKind,
    ownerId: string,
    id: string,
  ): Promise<{ session: UploadSession } | { asset: Asset } | undefined> {
    const { rows } = await this.#handle.database.run(findSession, { id, ownerId, kind });
    const [row] = rows;
    if (!row) return undefined;
    return row.state === 'uploading' ? { session: toSession(row) } : { asset: toAsset(row) };
  }

  /**
   * Keeps the upload alive: until `expiresAt`, when that is named and later, and for `lease` seconds from now in any case.
   * @returns false when it was ended
   */
  async keep(
    id: string,
    lease: number,
    expiresAt?: Date,
    executor: Executor = this.#handle.database,
  ): Promise<boolean> {
    const until = expiresAt?.toISOString() ?? null;
    const { rowCount } = await executor.run(keepSession, { id, lease, until });
    return rowCount === 1;
  }

  /**
   * From now on only `holder` may write, and goes on at `position`. Also declares the size, where it was left open.
   * @param lease seconds beyond `expiresAt` until the upload is reaped
   * @returns the tail to go on with; undefined when the upload is at another position by now, or was ended
   */
  async take(
    id: string,
    holder: string,
    from: { position: number; size: number | undefined; lease: number; expiresAt: Date },
  ): Promise<{ tail: Buffer } | undefined> {
    const { rows } = await this.#handle.database.run(takeSession, { id, holder, ...from, size: from.size ?? null });
    const [row] = rows;
    return row && { tail: row.tail ?? Buffer.alloc(0) };
  }

  /** Whether this request may still write. */
  async isHeldBy(id: string, holder: string): Promise<boolean> {
    return (await this.#handle.database.run(findHeld, { id, holder })).rowCount === 1;
  }

  /** The store has begun a resumable upload, whose type is known. @returns false when another request has taken over */
  async noteValidated(
    id: string,
    holder: string,
    validated: { storeUploadId: string; mediaType: string; policy: string },
  ): Promise<boolean> {
    return (await this.#handle.database.run(noteValidated, { id, holder, ...validated })).rowCount === 1;
  }

  /** @returns false when another request has taken over, or the upload was ended */
  async advance(id: string, holder: string, { position, parts, tail = undefined }: Progress): Promise<boolean> {
    const { rowCount } = await this.#handle.database.run(advanceSession, {
      id,
      holder,
      position,
      tail: tail ?? null,
      partNumbers: parts.map(({ partNumber }) => partNumber),
      etags: parts.map(({ etag }) => etag),
      sizes: parts.map(({ size }) => size),
    });
    return rowCount === 1;
  }

  /** The parts as they were acknowledged, in order. */
  async parts(id: string): Promise<UploadedPart[]> {
    return (await this.#handle.database.run(listParts, { id })).rows;
  }
}

type SessionRow = NonNullable<ReturnType<typeof findSession.decode>>;

function toSession(row: SessionRow): UploadSession {
  const { agreedSize, agreedType, declaredType, declaredSha256, storeUploadId, validatedType, validatedPolicy } = row;
  return {
    id: row.id,
    ownerId: row.ownerId,
    fileName: row.name,
    objectKey: row.objectKey,
    createdAt: row.createdAt,
    kind: row.kind,
    partSize: row.partSize,
    expiresAt: row.expiresAt,
    position: row.position,
    ...(agreedSize !== null && { size: agreedSize }),
    ...(agreedType !== null && { assetType: agreedType }),
    ...(declaredType !== null && { declaredType }),
    ...(declaredSha256 !== null && { sha256: declaredSha256 }),
    ...(storeUploadId !== null && { storeUploadId }),
    ...(validatedType !== null &&
      validatedPolicy !== null && { validated: { mediaType: validatedType, policy: validatedPolicy } }),
  };
}
