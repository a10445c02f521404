/**
 * Direct uploads: the bytes go from the client to the object store, by links that are signed for one part each.
 *
 *   1. name, type and size are validated, quota is reserved and the record `uploading` inserted, before anything is signed
 *   2. the store's multipart upload is begun with what we say of the object; clients can only add parts, of signed sizes
 *   3. `complete` lists the parts, makes the object whole, and reads back its first bytes, or all where a digest was declared
 *   4. the same statement as for every upload turns the record into an asset, or the object is deleted and the quota free
 *
 * Always multipart, one part for a small file: so there is no object before we complete it, and a link that is used again
 * afterwards changes nothing. A digest of a large file is compared by a job; the asset is `processing` until then.
 *
 * `complete` may be repeated, at the same time too: whoever finds the store's upload gone looks for the object, and whoever
 * finds the record settled has the answer. What is neither completed nor cancelled ends with its lease.
 */
import type { Caller } from '../access/caller.ts';
import type { Asset } from '../assets/asset.ts';
import { MAX_LINK } from '../config.ts';
import type { Actor } from '../database/audit.ts';
import type { ProcessingRecord } from '../database/tables/processing-record.ts';
import { Problem, unavailable } from '../problems.ts';

import { NoSuchUpload, ObjectStoreUnavailable, PartsChanged, type UploadedPart } from '../storage/object-store.ts';
import { completeObject, isWhole } from '../storage/whole-object.ts';

import {
  emptyFile,
  FileValidation,
  limitFor,
  policyNamed,
  refuseBeyond,
  type ValidatedType,
} from '../validation/file-validation.ts';
import { claimedType, findNameFault, HEAD_SIZE, normaliseMediaType } from '../validation/media-types.ts';
import { needsWholeFile } from '../validation/structure.ts';
import { UploadPolicies } from '../validation/upload-policies.ts';
import { contextOf, leaseOf, lookAgainAt, throughProcess, type UploadContext } from './context.ts';
import { endFailedUpload, eraseEnded } from './ending.ts';
import { type NewFile, newUpload, objectAttributes } from './new-upload.ts';
import { BeginningUnknown, noteBegun } from './note-begun.ts';
import type { NewSession, UploadSession } from './session-repository.ts';
import {
  beginSession,
  cancelSession,
  endIfRefused,
  findSession,
  policiesOf,
  requireLive,
  requirePlace,
  settleSession,
  uploadComplete,
  uploadNotFound,
} from './sessions.ts';
import { seeWhetherClean } from './strip-arrival.ts';
import type { InTransaction, NewUpload } from './upload.ts';
import { verifyBytes } from './verify.ts';

const MiB = 1024 * 1024;
/** Parts signed with the first answer. */
const FIRST_LINKS = 20;
/** Seconds. Links live for as long as a slow client needs for the whole file, but at least this long. */
const MIN_LINK = 15 * 60;
/** Bytes per second of a slow client. */
const SLOW_CLIENT = 256 * 1024;
/** Files up to this size are compared with a declared digest at once; larger ones by a job. Bytes. */
const MAX_VERIFIED_AT_ONCE = 64 * MiB;

export interface NewDirectUpload extends NewFile {
  size: number;
  declaredType: string;
}

export interface PartLink {
  partNumber: number;
  url: string;
  /** Bytes, exactly. */
  size: number;
}

/** A session that has just begun, and the links of its first parts. */
export interface SignedUpload {
  session: DirectSession;
  partCount: number;
  links: PartLink[];
}

/** A session of which size and policy are known from the beginning. */
export type DirectSession = UploadSession & { size: number; assetType: string };

export class DirectUploads {
  readonly #context: UploadContext;

  constructor(context: UploadContext) {
    this.#context = context;
  }

  /**
   * Reserves the quota and begins the upload.
   * @param inTransaction in the last transaction
   * @throws Problem
   */
  async create(file: NewDirectUpload, inTransaction?: InTransaction<SignedUpload>): Promise<SignedUpload> {
    const { config, objectKeys, store } = this.#context;
    const record = newUpload(file, objectKeys, (detail) => ({ pointer: '/fileName', detail }));
    const validated = this.#validateDeclared(file, record.name);
    const life = await this.#linkLife(file.size);
    const session: NewSession & { size: number; assetType: string } = {
      kind: 'direct',
      policies: new UploadPolicies([validated.policy]),
      size: file.size,
      partSize: partSizeFor(file.size, config.PART_SIZE, store.maxParts),
      declaredType: validated.mediaType,
      assetType: validated.policy.assetType,
      ...(file.sha256 && { sha256: file.sha256 }),
      expiresAt: new Date(record.createdAt.getTime() + life * 1000),
    };
    // Until it has begun in the store, nobody has heard of it, so it lives no longer than that may take.
    const beginning = (config.S3_DEADLINE + config.UPLOAD_LEASE) / 1000;
    await beginSession(this.#context, record, session, file.size, beginning);
    try {
      return await this.#beginInStore(file, record, session, validated, life, inTransaction);
    } catch (error) {
      if (error instanceof BeginningUnknown) throw error.cause;
      const reason = error instanceof Problem ? error.type : 'failed';
      const inDoubt = error instanceof ObjectStoreUnavailable;
      await endFailedUpload(this.#context, record, { action: 'upload.aborted', reason, actor: file.actor, inDoubt });
      throw error;
    }
  }

  /** Signs parts again, or for the first time; the upload lives on accordingly. @throws Problem */
  async sign(caller: Caller, id: string, partNumbers: number[]): Promise<{ links: PartLink[]; expiresAt: Date }> {
    const session = await this.#open(caller, id);
    const partCount = partCountOf(session);
    const wrong = partNumbers.findIndex((partNumber) => partNumber > partCount);
    if (wrong >= 0) {
      const detail = `must be at most ${partCount}, the number of parts of this upload`;
      throw new Problem('invalid-parameter', { detail, errors: [{ pointer: `/partNumbers/${wrong}`, detail }] });
    }
    const life = await this.#linkLife(session.size);
    const expiresAt = new Date(Date.now() + life * 1000);
    if (!(await this.#context.sessions.keep(id, leaseOf(this.#context), expiresAt))) throw uploadNotFound();
    return { links: await this.#signed(session, session.storeUploadId, partNumbers, life), expiresAt };
  }

  /** The upload and what has arrived of it. @throws Problem */
  async find(
    caller: Caller,
    id: string,
  ): Promise<{ session: DirectSession; parts: UploadedPart[] } | { asset: Asset }> {
    const found = await this.#find(caller, id);
    return 'asset' in found ? found : { session: found.session, parts: await this.#arrived(found.session) };
  }

  /**
   * Makes the parts an asset. @returns the asset, also when it is one already
   * @param inTransaction in the transaction that settles it
   * @throws Problem; a refusal for what the bytes are has ended the upload
   */
  async complete(actor: Actor, caller: Caller, id: string, inTransaction?: InTransaction<Asset>): Promise<Asset> {
    const found = await this.#find(caller, id);
    if ('asset' in found) return found.asset;
    const session = direct(requireLive(found.session));
    const { onOutcome } = this.#context;
    try {
      const asset = await this.#complete(session, actor, inTransaction);
      onOutcome('stored', asset.size);
      return asset;
    } catch (error) {
      if (await endIfRefused(this.#context, session, actor, error)) {
        onOutcome('refused', session.size);
        throw error;
      }
      // Somebody else may have completed or ended it meanwhile; then that is the answer.
      const now = await this.#find(caller, id);
      if ('asset' in now) return now.asset;
      throw error;
    }
  }

  /** Ends the upload and leaves nothing. @throws Problem wrong-state when it is an asset by now */
  async cancel(actor: Actor, caller: Caller, id: string): Promise<void> {
    const found = await this.#find(caller, id);
    if ('asset' in found) throw uploadComplete();
    if (await cancelSession(this.#context, found.session, actor)) return;
    // Somebody was faster: it is gone, or an asset by now.
    await this.#find(caller, id);
    throw uploadComplete();
  }

  // --------------------------------------------------------------------------------------------------------- validating

  #validateDeclared({ size, declaredType, assetType, caller }: NewDirectUpload, fileName: string): ValidatedType {
    const { policies, store } = contextOf(this.#context, caller);
    const mediaType = normaliseMediaType(declaredType) && claimedType(fileName, declaredType);
    if (mediaType === undefined) {
      const detail = 'must be the media type of the file, such as image/png';
      throw new Problem('invalid-parameter', { detail, errors: [{ pointer: '/contentType', detail }] });
    }
    if (size === 0) throw emptyFile();
    const limit = limitFor(policies, { fileName, assetType, declaredType: mediaType });
    refuseBeyond(store.kind === 'disk' ? throughProcess(this.#context, limit) : limit, size, policies.bound);
    const fault = findNameFault(fileName, mediaType);
    if (fault !== undefined) throw new Problem('extension-mismatch', { detail: fault });
    const policy = assetType === undefined ? policies.allowing(mediaType) : policyNamed(policies, assetType);
    if (!policy) throw new Error('no policy, though one has told the limit');
    return { mediaType, policy };
  }

  /**
   * Type and structure by the first bytes; everything, when a digest was declared and the file is not too large.
   * @returns with it the steps that need not be done
   */
  async #validateBytes(session: DirectSession): Promise<ValidatedType & { ended: ProcessingRecord }> {
    const { store } = this.#context;
    const { objectKey, size, sha256 } = session;
    const last = Math.min(HEAD_SIZE, size) - 1;
    const body = await store.get(objectKey, { range: { first: 0, last } });
    if (!body) throw new ObjectStoreUnavailable('the object is not there though it was made');
    const head = Buffer.concat(await body.stream.toArray());
    const validation = new FileValidation(policiesOf(this.#context, session), session);
    const validated = await validation.begin(head);
    if ((sha256 || needsWholeFile(validated.mediaType)) && size <= MAX_VERIFIED_AT_ONCE) {
      await verifyBytes(store, objectKey, { sha256, mediaType: validated.mediaType });
    } else {
      validation.update(head);
      validation.fits(head, size);
      if (head.length === size) validation.end();
    }
    return { ...validated, ended: head.length === size ? await seeWhetherClean(head, validated) : {} };
  }

  // ---------------------------------------------------------------------------------------------------------- the store

  async #beginInStore(
    { actor, sha256 }: NewDirectUpload,
    record: NewUpload,
    agreed: NewSession & { size: number; assetType: string },
    { mediaType, policy }: ValidatedType,
    life: number,
    inTransaction: InTransaction<SignedUpload> | undefined,
  ): Promise<SignedUpload> {
    const { store, sessions, objectKeys } = this.#context;
    const { id, ownerId, caller, name, objectKey, createdAt } = record;
    const uploader = objectKeys.nameOf(actor.callerId);
    const attributes = objectAttributes(record, uploader, { mediaType, cacheControl: policy.cacheControl }, sha256);
    let isOnly = true;
    const storeUploadId = await store.createMultipartUpload(objectKey, attributes, {
      partSize: agreed.partSize,
      onDoubt: () => {
        isOnly = false;
      },
    });
    if (!isOnly) await lookAgainAt(this.#context, record, storeUploadId);
    const session: DirectSession = {
      ...agreed,
      id,
      ownerId,
      account: record.place.account,
      caller,
      fileName: name,
      objectKey,
      createdAt,
      storeUploadId,
      ...{ position: 0, inParts: 0, takes: 0, isHeld: false, isReplacing: record.replacement !== undefined },
    };
    const partCount = partCountOf(session);
    const numbers = Array.from({ length: Math.min(partCount, FIRST_LINKS) }, (_, index) => index + 1);
    const links = await this.#signed(session, storeUploadId, numbers, life);
    const signed: SignedUpload = { session, partCount, links };
    const begun = { id, storeUploadId, expiresAt: session.expiresAt, lease: leaseOf(this.#context) };
    const noted = await noteBegun(sessions, begun, async (transaction) => inTransaction?.(transaction, signed));
    if (!noted) throw unavailable('database', new Error('the upload was ended while it began'));
    return signed;
  }

  async #complete(
    session: DirectSession,
    actor: Actor,
    inTransaction: InTransaction<Asset> | undefined,
  ): Promise<Asset> {
    const { sessions, store } = this.#context;
    const { id, objectKey, size, sha256 } = session;
    if (!(await sessions.keep(id, leaseOf(this.#context)))) throw uploadNotFound();
    await requirePlace(this.#context, session);
    if (!(await isWhole(store, objectKey, size))) await this.#makeWhole(session);
    const { mediaType, policy, ended } = await this.#validateBytes(session);
    const { assetType, cacheControl } = policy;
    const verified = sha256 === undefined || size <= MAX_VERIFIED_AT_ONCE;
    const stored = { size, sha256, mediaType, assetType, cacheControl };
    const asset = await settleSession(this.#context, session, stored, actor, { verified, inTransaction, ended });
    if (asset) return asset;
    // Cancelled or reaped meanwhile; the object may have been made after its bytes were looked for.
    await eraseEnded(this.#context, session);
    throw uploadNotFound();
  }

  async #makeWhole(session: DirectSession): Promise<void> {
    const { store } = this.#context;
    const { objectKey: key, size, storeUploadId: uploadId } = session;
    if (uploadId === undefined) throw incomplete(session, []);
    const parts = await this.#arrived(session);
    const total = parts.reduce((sum, part) => sum + part.size, 0);
    const isContiguous = parts.every(({ partNumber }, index) => partNumber === index + 1);
    if (total === size && isContiguous) await this.#completeParts({ key, uploadId, parts, size });
    // Another one may have completed it in between.
    else if (!(await isWhole(store, key, size))) throw incomplete(session, parts);
  }

  async #completeParts(object: { key: string; uploadId: string; parts: UploadedPart[]; size: number }): Promise<void> {
    try {
      await completeObject(this.#context.store, object);
    } catch (error) {
      if (!(error instanceof Error && error.cause instanceof PartsChanged)) throw error;
      throw new Problem('upload-incomplete', {
        detail: 'A part was sent again while the upload was completed. Complete it again.',
        cause: error,
      });
    }
  }

  async #arrived({ objectKey, storeUploadId }: UploadSession): Promise<UploadedPart[]> {
    if (storeUploadId === undefined) return [];
    try {
      return await this.#context.store.listParts(objectKey, storeUploadId, {});
    } catch (error) {
      if (error instanceof NoSuchUpload) return [];
      throw error;
    }
  }

  #signed(
    { objectKey: key, size, partSize }: DirectSession,
    uploadId: string,
    partNumbers: number[],
    expiresIn: number,
  ): Promise<PartLink[]> {
    const { store } = this.#context;
    return Promise.all(
      partNumbers.map(async (partNumber) => {
        const bytes = Math.min(partSize, size - (partNumber - 1) * partSize);
        const url = await store.presignUploadPart({ key, uploadId, partNumber }, { size: bytes, expiresIn });
        return { partNumber, url, size: bytes };
      }),
    );
  }

  async #linkLife(size: number): Promise<number> {
    const wanted = Math.min(MAX_LINK, Math.max(MIN_LINK, Math.ceil(size / SLOW_CLIENT)));
    return Math.min(wanted, await this.#context.store.longestLink());
  }

  // --------------------------------------------------------------------------------------------------------- the record

  async #find(caller: Caller, id: string): Promise<{ session: DirectSession } | { asset: Asset }> {
    const found = await findSession(this.#context, 'direct', caller, id);
    return 'asset' in found ? found : { session: direct(found.session) };
  }

  async #open(caller: Caller, id: string): Promise<DirectSession & { storeUploadId: string }> {
    const found = await this.#find(caller, id);
    if ('asset' in found) throw new Problem('wrong-state', { detail: 'The upload is complete.' });
    const { storeUploadId } = requireLive(found.session);
    if (storeUploadId === undefined) throw uploadNotFound();
    return { ...found.session, storeUploadId };
  }
}

/** Equal parts but the last; at most as many as the store takes. Bytes. */
export function partSizeFor(size: number, least: number, maxParts: number): number {
  return Math.max(least, Math.ceil(size / maxParts / MiB) * MiB);
}

function partCountOf({ size, partSize }: DirectSession): number {
  return Math.ceil(size / partSize);
}

function direct(session: UploadSession): DirectSession {
  const { size, assetType } = session;
  if (size === undefined || assetType === undefined) throw new Error(`the session ${session.id} is not a direct one`);
  return { ...session, size, assetType };
}

function incomplete(session: DirectSession, parts: UploadedPart[]): Problem {
  const arrived = new Set(parts.map(({ partNumber }) => partNumber));
  const missing = [];
  for (let partNumber = 1; partNumber <= partCountOf(session) && missing.length < 10; partNumber++)
    if (!arrived.has(partNumber)) missing.push(partNumber);
  const which =
    missing.length > 0
      ? ` Missing parts: ${missing.join(', ')}${missing.length === 10 ? ' and perhaps more' : ''}.`
      : '';
  return new Problem('upload-incomplete', {
    detail: `The parts do not make up the file yet.${which} Send them, then complete.`,
  });
}
