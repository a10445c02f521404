/**
 * Upload sessions in the database. Every change of a resumable upload is made by the one request that holds it, and says
 * so: a request from which another one took over changes nothing any more, wherever it runs. No lock is held in between.
 */

import { z } from 'zod';
import type { Caller } from '../access/caller.ts';
import { type AccessValues, accessOf } from '../access/conditions.ts';
import { type Asset, toAsset } from '../assets/asset.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { sessionKinds } from '../database/tables/uploads.ts';
import type { UploadedPart } from '../storage/object-store.ts';
import { UploadPolicies, type UploadPolicy } from '../validation/upload-policies.ts';
import * as statements from './session-statements.ts';

/** Rows of a tail that begin within so many bytes are read by one statement. */
const TAIL_PAGE = 1024 * 1024;

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
  /** The policies that may allow the file, as they are now. */
  policies: UploadPolicies;
  /** What the client says of the file, to be told as it was sent. */
  uploadMetadata?: string;
}

export interface UploadSession extends Omit<NewSession, 'policies'> {
  /** As they were agreed on; absent where the session began in a version that did not keep them. */
  policies?: UploadPolicies;
  id: string;
  ownerId: string;
  /** Where it goes. */
  projectId?: string;
  /** Whose quota it takes of. */
  account: string;
  /** By whom it was found. */
  caller: Caller;
  fileName: string;
  objectKey: string;
  createdAt: Date;
  /** Absent while the store has not begun the upload. */
  storeUploadId?: string;
  /** Of a resumable upload: bytes that are safe. */
  position: number;
  /** Of a resumable upload: bytes that are in parts. What lies between them and `position` is the tail. */
  inParts: number;
  /** How often the upload was taken over; who takes it over next must have seen the last time. */
  takes: number;
  /** Its bytes are to take the place of those of an asset. */
  isReplacing: boolean;
  /** Whether a request is at it, or was when its process ended. */
  isHeld: boolean;
  /** Of a resumable upload, from the first part on: what the bytes are, and the name of the policy that allows it. */
  validated?: { mediaType: string; policy: string };
}

/** A session, or the asset that it has become. */
export type FoundSession = { session: UploadSession } | { asset: Asset; uploadMetadata?: string };

/** What a request has brought into safety. */
export interface Progress {
  position: number;
  /** Bytes that are in parts. */
  inParts: number;
  /** Parts that are new. */
  parts: UploadedPart[];
  /** What is new of the tail: a row, or more of the row that begins there. */
  tail?: { begin: number; bytes: Buffer } | undefined;
  /** It was the last thing that the request writes. */
  isLast: boolean;
}

/** The last row of a tail. */
export interface LastRow {
  begin: number;
  length: number;
}

export class UploadSessionsRepository {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /** In the transaction that begins the upload. */
  async insert(transaction: Executor, id: string, session: NewSession): Promise<void> {
    const { policies, ...given } = session;
    const absent = { size: null, declaredType: null, assetType: null, sha256: null, uploadMetadata: null };
    await transaction.run(statements.insertSession, { ...absent, ...given, id, policies: policies.all });
  }

  /** The store has begun a direct upload. @returns false when the upload was ended meanwhile */
  async noteBegun(
    id: string,
    storeUploadId: string,
    inTransaction: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      const { rowCount } = await transaction.run(statements.noteBegun, { id, storeUploadId });
      if (rowCount !== 1) return false;
      await inTransaction(transaction);
      return true;
    });
  }

  /** The multipart upload of the store that a session goes on with; undefined when none is written down. */
  async storeUploadId(id: string): Promise<string | undefined> {
    const { rows } = await this.#handle.database.run(statements.findStoreUploadId, { id });
    return rows[0]?.storeUploadId ?? undefined;
  }

  /** A session of this uploader, or the asset it has become; undefined when there is neither. */
  async find(kind: SessionKind, caller: Caller, id: string): Promise<FoundSession | undefined> {
    const access = accessOf(caller);
    const { rows } = await this.#handle.database.run(statements.findSession, { id, kind, ...access });
    const [row] = rows;
    if (!row) return this.#findReplaced(id, access);
    if (row.state === 'uploading') return { session: toSession(row, caller) };
    return { asset: toAsset(row), ...(row.uploadMetadata !== null && { uploadMetadata: row.uploadMetadata }) };
  }

  /** The asset to which the caller has given other bytes by this upload. */
  async #findReplaced(id: string, access: AccessValues): Promise<FoundSession | undefined> {
    const { rows } = await this.#handle.database.run(statements.findReplacedBy, { id, ...access });
    return rows[0] && { asset: toAsset(rows[0]) };
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
    const { rowCount } = await executor.run(statements.keepSession, { id, lease, until });
    return rowCount === 1;
  }

  /**
   * From now on only `holder` may write, and goes on where it has seen the upload. Also declares the size, where it was
   * left open.
   * @param lease seconds beyond `expiresAt` until the upload is reaped
   * @returns when it expires, and the last row of the tail; undefined when the upload is not as it was seen, or was ended
   */
  async take(
    seen: Pick<UploadSession, 'id' | 'position' | 'inParts' | 'takes' | 'storeUploadId'>,
    holder: string,
    { size, lease, expiresAt }: { size: number | undefined; lease: number; expiresAt: Date },
  ): Promise<{ expiresAt: Date; lastRow?: LastRow } | undefined> {
    const { rows } = await this.#handle.database.run(statements.takeSession, {
      ...{ id: seen.id, position: seen.position, inParts: seen.inParts, takes: seen.takes },
      ...{ storeUploadId: seen.storeUploadId ?? null, size: size ?? null },
      ...{ holder, lease, expiresAt },
    });
    const [row] = rows;
    if (!row) return undefined;
    const { lastBegin: begin, lastLength: length } = row;
    return { expiresAt: row.expiresAt, ...(begin !== null && length !== null && { lastRow: { begin, length } }) };
  }

  /**
   * Ends the hold of whoever holds the upload: its position stays as it is until somebody takes it over who has seen it.
   * @returns false when it was ended, or is an asset by now
   */
  async fence(id: string): Promise<boolean> {
    return (await this.#handle.database.run(statements.fenceSession, { id })).rowCount === 1;
  }

  /** The request has ended. */
  async release(id: string, holder: string): Promise<void> {
    await this.#handle.database.run(statements.releaseSession, { id, holder });
  }

  /** Whether this request may still write. */
  async isHeldBy(id: string, holder: string): Promise<boolean> {
    return (await this.#handle.database.run(statements.findHeld, { id, holder })).rowCount === 1;
  }

  /** The store has begun a resumable upload, whose type is known. @returns false when another request has taken over */
  async noteValidated(
    id: string,
    holder: string,
    { policy, ...validated }: { storeUploadId: string; mediaType: string; policy: UploadPolicy },
  ): Promise<boolean> {
    const values = { id, holder, ...validated, policy: policy.assetType, policies: [policy] };
    return (await this.#handle.database.run(statements.noteValidated, values)).rowCount === 1;
  }

  /** @returns false when another request has taken over, or the upload was ended */
  async advance(id: string, holder: string, progress: Progress): Promise<boolean> {
    const { position, inParts: sent, parts, tail, isLast } = progress;
    const { rowCount } = await this.#handle.database.run(statements.advanceSession, {
      ...{ id, holder, position, inParts: sent, isLast },
      begin: tail?.begin ?? null,
      bytes: tail?.bytes ?? null,
      partNumbers: parts.map(({ partNumber }) => partNumber),
      etags: parts.map(({ etag }) => etag),
      sizes: parts.map(({ size }) => size),
    });
    return rowCount === 1;
  }

  /**
   * The tail, in order, a few rows at a time.
   * @throws Error when bytes are missing
   */
  async *tail(id: string, { from, to }: { from: number; to: number }): AsyncGenerator<Buffer> {
    let position = from;
    while (position < to) {
      const { rows } = await this.#handle.database.run(statements.readTail, {
        id,
        from: position,
        to: position + TAIL_PAGE,
      });
      if (rows.length === 0) throw new Error('bytes of a tail are missing');
      for (const { begin, bytes } of rows) {
        if (begin !== position) throw new Error('the rows of a tail leave a gap');
        position += bytes.length;
        yield bytes;
      }
    }
  }

  /**
   * In the transaction that makes the upload an asset, whose object has the bytes of the tail.
   * @returns false when another request has taken over; the transaction must then end without effect
   */
  async finish(transaction: Executor, id: string, holder: string): Promise<boolean> {
    return (await transaction.run(statements.finishSession, { id, holder })).rowCount === 1;
  }

  /** The parts as they were acknowledged, in order. */
  async parts(id: string): Promise<UploadedPart[]> {
    return (await this.#handle.database.run(statements.listParts, { id })).rows;
  }
}

/** Those that this service has written. */
const agreedPolicies = z.array(
  z.object({
    assetType: z.string(),
    mediaTypes: z.array(z.string()),
    maxBytes: z.number(),
    cacheControl: z.string(),
    allowUndetected: z.boolean(),
    // Written by a version that knew none, it is asked of the policy of today.
    metadata: z.enum(['keep', 'strip']).default('keep'),
  }),
);

type SessionRow = NonNullable<ReturnType<typeof statements.findSession.decode>>;

function toSession(row: SessionRow, caller: Caller): UploadSession {
  const { agreedSize, agreedType, declaredType, declaredSha256, storeUploadId, validatedType, validatedPolicy } = row;
  return {
    id: row.id,
    ownerId: row.ownerId,
    account: row.account,
    caller,
    fileName: row.name,
    objectKey: row.objectKey,
    createdAt: row.createdAt,
    kind: row.kind,
    partSize: row.partSize,
    expiresAt: row.expiresAt,
    position: row.position,
    inParts: row.inParts,
    takes: row.takes,
    isReplacing: row.isReplacing,
    isHeld: row.holder !== null,
    ...(row.projectId !== null && { projectId: row.projectId }),
    ...(agreedSize !== null && { size: agreedSize }),
    ...(agreedType !== null && { assetType: agreedType }),
    ...(declaredType !== null && { declaredType }),
    ...(declaredSha256 !== null && { sha256: declaredSha256 }),
    ...(storeUploadId !== null && { storeUploadId }),
    ...(row.uploadMetadata !== null && { uploadMetadata: row.uploadMetadata }),
    ...(row.policies !== null && { policies: new UploadPolicies(agreedPolicies.parse(row.policies)) }),
    ...(validatedType !== null &&
      validatedPolicy !== null && { validated: { mediaType: validatedType, policy: validatedPolicy } }),
  };
}
