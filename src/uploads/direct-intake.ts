/**
 * Direct uploads: the bytes go from the client to the object store, by links that are signed for one part each.
 *
 *   1. name, type and size are judged, quota is reserved and the record `uploading` inserted, before anything is signed
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
import { createHash } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import type { Asset } from '../assets/asset.ts';
import { contentDisposition } from '../assets/content-disposition.ts';
import { dispositionOf } from '../assets/serving.ts';
import type { Actor } from '../database/audit.ts';
import { type Executor, isDatabaseUnavailable } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import { Problem, unavailable } from '../problems.ts';
import type { QuotasRepository } from '../quotas/repository.ts';
import { erase } from '../storage/erase.ts';
import { objectKey } from '../storage/object-key.ts';
import {
  MAX_PARTS,
  NoSuchUpload,
  type ObjectStore,
  ObjectStoreUnavailable,
  type UploadedPart,
} from '../storage/object-store.ts';
import { checkFileName } from '../validation/file-name.ts';
import { extensionFits, normaliseMediaType } from '../validation/media-types.ts';
import { structureCheck } from '../validation/structure.ts';
import type { UploadPolicies } from '../validation/upload-policies.ts';
import {
  damaged,
  digestMismatch,
  emptyFile,
  HEAD_SIZE,
  type Judgement,
  judgeType,
  limitFor,
  policyNamed,
  quotaExceeded,
  refuseBeyond,
} from '../validation/validate.ts';
import type { DirectUpload, DirectUploadsRepository } from './direct-uploads-repository.ts';
import { verifyAssetJob } from './jobs/verify-asset.ts';
import type { Also, UploadsRepository } from './repository.ts';

const MiB = 1024 * 1024;
/** Parts signed with the first answer. */
const FIRST_LINKS = 20;
/** Seconds. Links live for as long as a slow client needs for the whole file, within these. */
const MIN_LINK = 15 * 60;
const MAX_LINK = 7 * 24 * 3600;
/** Bytes per second of a slow client. */
const SLOW_CLIENT = 256 * 1024;
/** Files up to this size are compared with a declared digest at once; larger ones by a job. Bytes. */
const VERIFIED_AT_ONCE = 64 * MiB;

export interface DirectArrival {
  actor: Actor;
  ownerId: string;
  fileName: string;
  size: number;
  contentType: string;
  assetType?: string;
  projectId?: string;
  sha256?: Buffer;
  metadata: Record<string, string>;
}

export interface PartLink {
  partNumber: number;
  url: string;
  /** Bytes, exactly. */
  size: number;
}

export interface Offer {
  upload: DirectUpload;
  partCount: number;
  links: PartLink[];
}

export interface DirectIntakeOptions {
  uploads: UploadsRepository;
  agreements: DirectUploadsRepository;
  quotas: QuotasRepository;
  store: ObjectStore;
  outbox: Outbox;
  policies: UploadPolicies;
  keyPrefix: string;
  /** Bytes; larger only where a file would have too many parts. */
  partSize: number;
  /** Seconds for which an upload is kept after its links have expired, or while it is being completed. */
  lease: number;
  onError: (message: string, error: unknown) => void;
  onOutcome?: (outcome: 'stored' | 'refused', bytes: number) => void;
  now?: () => Date;
}

export class DirectIntake {
  readonly #options: DirectIntakeOptions;

  constructor(options: DirectIntakeOptions) {
    this.#options = options;
  }

  /**
   * Reserves the quota and begins the upload.
   * @param also told of the offer, in the last transaction
   * @throws Problem
   */
  async create(arrival: DirectArrival, also?: (transaction: Executor, offer: Offer) => Promise<void>): Promise<Offer> {
    const { store, uploads, agreements, quotas, lease } = this.#options;
    const { actor, ownerId, size, projectId, sha256, metadata } = arrival;
    const { fileName, mediaType, assetType, cacheControl } = this.#judgeClaims(arrival);
    const createdAt = (this.#options.now ?? (() => new Date()))();
    const id = uuidv7({ msecs: createdAt.getTime() });
    const life = await this.#linkLife(size);
    const key = objectKey({
      prefix: this.#options.keyPrefix,
      ownerId,
      assetId: id,
      ...(projectId !== undefined && { projectId }),
    });
    const agreement = {
      size,
      partSize: partSizeFor(size, this.#options.partSize),
      declaredType: mediaType,
      assetType,
      ...(sha256 && { sha256 }),
      expiresAt: new Date(createdAt.getTime() + life * 1000),
    };
    const record = {
      id,
      ownerId,
      name: fileName,
      objectKey: key,
      metadata,
      createdAt,
      ...(projectId !== undefined && { projectId }),
    };
    const begun = await asProblems(() =>
      uploads.begin(record, size, {
        lease: life + lease,
        also: (transaction) => agreements.agree(transaction, id, agreement),
      }),
    );
    if (!begun) throw await quotaExceeded(quotas, ownerId, size);
    try {
      return await asProblems(async () => {
        const storeUploadId = await store.createMultipartUpload(
          key,
          {
            contentType: mediaType,
            contentDisposition: contentDisposition(dispositionOf(mediaType), fileName),
            cacheControl,
            metadata: {
              'uploaded-by': encodeURIComponent(actor.callerId),
              'uploaded-at': createdAt.toISOString(),
              ...(sha256 && { sha256: sha256.toString('hex') }),
            },
          },
          { partSize: agreement.partSize },
        );
        const upload: DirectUpload = { id, ownerId, fileName, objectKey: key, storeUploadId, ...agreement };
        const partCount = Math.ceil(size / agreement.partSize);
        const numbers = Array.from({ length: Math.min(partCount, FIRST_LINKS) }, (_, index) => index + 1);
        const offer = { upload, partCount, links: await this.#signed(upload, numbers, life) };
        if (
          !(await agreements.begun(id, storeUploadId, (transaction) => also?.(transaction, offer) ?? Promise.resolve()))
        )
          throw unavailable('database', new Error('the upload was ended while it began'));
        return offer;
      });
    } catch (error) {
      await this.#end(id, key, actor, 'upload.aborted', error);
      throw error;
    }
  }

  /** Signs parts again, or for the first time; the upload lives on accordingly. @throws Problem */
  async sign(ownerId: string, id: string, partNumbers: number[]): Promise<{ links: PartLink[]; expiresAt: Date }> {
    const upload = await this.#open(ownerId, id);
    const partCount = Math.ceil(upload.size / upload.partSize);
    const wrong = partNumbers.findIndex((partNumber) => partNumber > partCount);
    if (wrong >= 0) {
      const detail = `must be at most ${partCount}, the number of parts of this upload`;
      throw new Problem('invalid-parameter', { detail, errors: [{ pointer: `/partNumbers/${wrong}`, detail }] });
    }
    const life = await this.#linkLife(upload.size);
    const expiresAt = new Date(Date.now() + life * 1000);
    if (!(await this.#options.agreements.keep(id, this.#options.lease, expiresAt))) throw uploadNotFound();
    return asProblems(async () => ({ links: await this.#signed(upload, partNumbers, life), expiresAt }));
  }

  /** The upload and what has arrived of it. @throws Problem */
  async look(ownerId: string, id: string): Promise<{ upload: DirectUpload; parts: UploadedPart[] } | { asset: Asset }> {
    const found = await this.#find(ownerId, id);
    if ('asset' in found) return found;
    return { upload: found.upload, parts: await asProblems(() => this.#arrived(found.upload)) };
  }

  /**
   * Makes the parts an asset. @returns the asset, also when it is one already
   * @param also in the transaction that settles it
   * @throws Problem; a refusal for what the bytes are has ended the upload
   */
  async complete(actor: Actor, ownerId: string, id: string, also?: Also<Asset>): Promise<Asset> {
    const found = await this.#find(ownerId, id);
    if ('asset' in found) return found.asset;
    const upload = requireLive(found.upload);
    const { agreements, lease } = this.#options;
    try {
      return await asProblems(async () => {
        if (!(await agreements.keep(id, lease))) throw uploadNotFound();
        if (!(await this.#isWhole(upload))) await this.#makeWhole(upload);
        const asset = await this.#settle(upload, await this.#judgeBytes(upload), actor, also);
        this.#options.onOutcome?.('stored', asset.size);
        return asset;
      });
    } catch (error) {
      const isRefusal = error instanceof Problem && refusals.has(error.type);
      if (isRefusal) {
        this.#options.onOutcome?.('refused', upload.size);
        await this.#end(id, upload.objectKey, actor, 'upload.refused', error);
      } else {
        // Somebody else may have completed or ended it meanwhile; then that is the answer.
        const now = await this.#find(ownerId, id);
        if ('asset' in now) return now.asset;
      }
      throw error;
    }
  }

  /** Ends the upload and leaves nothing. @throws Problem wrong-state when it is an asset by now */
  async cancel(actor: Actor, ownerId: string, id: string): Promise<void> {
    const found = await this.#find(ownerId, id);
    const ended =
      'upload' in found &&
      (await asProblems(() =>
        this.#options.uploads.markForDeletion(id, { action: 'upload.aborted', reason: 'cancelled', actor }),
      ));
    if (!ended) {
      if ('upload' in found && !(await this.#options.agreements.find(ownerId, id))) throw uploadNotFound();
      throw new Problem('wrong-state', { detail: 'The upload is complete. Delete the asset instead.' });
    }
    await this.#eraseNow(id, found.upload.objectKey);
  }

  // ---------------------------------------------------------------------------------------------------------- judging

  #judgeClaims({ fileName, size, contentType, assetType }: DirectArrival) {
    const { policies } = this.#options;
    const checked = checkFileName(fileName);
    if (!checked.ok)
      throw new Problem('invalid-name', {
        detail: checked.detail,
        errors: [{ pointer: '/fileName', detail: checked.detail }],
      });
    const mediaType = normaliseMediaType(contentType);
    if (mediaType === undefined) {
      const detail = 'must be the media type of the file, such as image/png';
      throw new Problem('invalid-parameter', { detail, errors: [{ pointer: '/contentType', detail }] });
    }
    if (size === 0) throw emptyFile();
    refuseBeyond(limitFor(policies, assetType, mediaType), size);
    // Parts that come through this process are no larger than its buffers.
    if (this.#options.store.kind === 'disk') refuseBeyond(this.#options.partSize * MAX_PARTS, size);
    if (!extensionFits(checked.name, mediaType))
      throw new Problem('extension-mismatch', {
        detail: `The extension of the name does not belong to ${mediaType}. Name the file by what it is.`,
      });
    const policy = assetType === undefined ? policies.allowing(mediaType) : policyNamed(policies, assetType);
    if (!policy) throw new Error('no policy, though one has told the limit');
    return { fileName: checked.name, mediaType, assetType: policy.assetType, cacheControl: policy.cacheControl };
  }

  /** Type and structure by the first bytes; everything, when a digest was declared and the file is not too large. */
  async #judgeBytes(upload: DirectUpload): Promise<Judgement> {
    const { store, policies } = this.#options;
    const last = Math.min(HEAD_SIZE, upload.size) - 1;
    const body = await store.get(upload.objectKey, { range: { first: 0, last } });
    if (!body) throw new ObjectStoreUnavailable('the object is not there though it was made');
    const head = Buffer.concat(await body.stream.toArray());
    const claims = {
      fileName: upload.fileName,
      declaredType: upload.declaredType,
      named: policyNamed(policies, upload.assetType),
    };
    const judgement = await judgeType(policies, claims, head);
    if (upload.sha256 && upload.size <= VERIFIED_AT_ONCE) {
      await verifyBytes(store, upload.objectKey, { ...upload, sha256: upload.sha256, mediaType: judgement.mediaType });
      return judgement;
    }
    const structure = structureCheck(judgement.mediaType);
    structure.update(head);
    const fault = head.length === upload.size ? structure.end() : structure.fault();
    if (fault !== undefined) throw damaged(fault);
    return judgement;
  }

  // ---------------------------------------------------------------------------------------------------------- the store

  async #makeWhole(upload: DirectUpload): Promise<void> {
    const { store } = this.#options;
    if (upload.storeUploadId === undefined) throw incomplete(upload, []);
    const parts = await this.#arrived(upload);
    const total = parts.reduce((sum, { size }) => sum + size, 0);
    const isContiguous = parts.every(({ partNumber }, index) => partNumber === index + 1);
    if (total !== upload.size || !isContiguous) {
      // Another one may have completed it in between.
      if (await this.#isWhole(upload)) return;
      throw incomplete(upload, parts);
    }
    try {
      await store.completeMultipartUpload(upload.objectKey, upload.storeUploadId, parts, {});
    } catch (error) {
      if (!(error instanceof NoSuchUpload || error instanceof ObjectStoreUnavailable)) throw error;
      if (!(await this.#isWhole(upload))) throw new ObjectStoreUnavailable('the object was not made', { cause: error });
    }
  }

  /** The key is ours alone, so an object of the right size is the one that was sent. */
  async #isWhole({ objectKey: key, size }: DirectUpload): Promise<boolean> {
    return (await this.#options.store.head(key, {}))?.size === size;
  }

  async #arrived({ objectKey: key, storeUploadId }: DirectUpload): Promise<UploadedPart[]> {
    if (storeUploadId === undefined) return [];
    try {
      return await this.#options.store.listParts(key, storeUploadId, {});
    } catch (error) {
      if (error instanceof NoSuchUpload) return [];
      throw error;
    }
  }

  #signed(upload: DirectUpload, partNumbers: number[], expiresIn: number): Promise<PartLink[]> {
    const { store } = this.#options;
    const { objectKey: key, storeUploadId: uploadId = '', size, partSize } = upload;
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
    return Math.min(wanted, await this.#options.store.longestLink());
  }

  // --------------------------------------------------------------------------------------------------------- the record

  async #settle(
    upload: DirectUpload,
    { mediaType, policy }: Judgement,
    actor: Actor,
    also: Also<Asset> | undefined,
  ): Promise<Asset> {
    const { uploads, outbox } = this.#options;
    const { id, size, sha256 } = upload;
    const isPending = sha256 !== undefined && size > VERIFIED_AT_ONCE;
    const stored = { size, sha256, mediaType, assetType: policy.assetType, cacheControl: policy.cacheControl };
    const settled: Also<Asset> = async (transaction, asset) => {
      if (isPending) await outbox.send(transaction, verifyAssetJob, { assetId: id });
      await also?.(transaction, asset);
    };
    const asset = await uploads.settle(id, stored, actor, settled, isPending ? 'processing' : 'ready');
    if (asset) return asset;
    // Cancelled or reaped meanwhile; the object may have been made after its bytes were looked for.
    await this.#eraseNow(id, upload.objectKey);
    throw uploadNotFound();
  }

  async #find(ownerId: string, id: string): Promise<{ upload: DirectUpload } | { asset: Asset }> {
    const found = await asProblems(() => this.#options.agreements.find(ownerId, id));
    if (!found) throw uploadNotFound();
    return found;
  }

  async #open(ownerId: string, id: string): Promise<DirectUpload & { storeUploadId: string }> {
    const found = await this.#find(ownerId, id);
    if ('asset' in found) throw new Problem('wrong-state', { detail: 'The upload is complete.' });
    const { storeUploadId } = requireLive(found.upload);
    if (storeUploadId === undefined) throw uploadNotFound();
    return { ...found.upload, storeUploadId };
  }

  /** First the record, then the bytes. Never throws: a job, or the end of the lease, stands behind it. */
  async #end(
    id: string,
    key: string,
    actor: Actor,
    action: 'upload.refused' | 'upload.aborted',
    cause: unknown,
  ): Promise<void> {
    try {
      const reason = cause instanceof Problem ? cause.type : 'failed';
      if (await this.#options.uploads.markForDeletion(id, { action, reason, actor })) await this.#eraseNow(id, key);
    } catch (error) {
      this.#options.onError('a direct upload was left to the end of its lease', error);
    }
  }

  /** The job that was enqueued would do it a little later. */
  async #eraseNow(id: string, key: string): Promise<void> {
    const { store, uploads, onError } = this.#options;
    try {
      await erase(store, key, {});
      await uploads.forget(id);
    } catch (error) {
      onError('the bytes of an ended upload are left to their job', error);
    }
  }
}

/** For which `complete` ends the upload: the bytes are not what they should be, and never will be. */
const refusals = new Set([
  'undetected-type',
  'declared-mismatch',
  'extension-mismatch',
  'type-not-allowed',
  'damaged-file',
  'digest-mismatch',
]);

/**
 * Reads an object once and judges all of it: digest, if one was declared, and structure.
 * @returns the digest
 * @throws Problem digest-mismatch, damaged-file
 */
export async function verifyBytes(
  store: ObjectStore,
  key: string,
  { sha256, mediaType }: { sha256?: Buffer | undefined; mediaType: string },
  signal?: AbortSignal,
): Promise<Buffer> {
  const body = await store.get(key, signal ? { signal } : {});
  if (!body) throw new ObjectStoreUnavailable('the object is not there');
  const hash = createHash('sha256');
  const structure = structureCheck(mediaType);
  for await (const chunk of body.stream as AsyncIterable<Buffer>) {
    hash.update(chunk);
    structure.update(chunk);
  }
  const found = hash.digest();
  if (sha256 && !found.equals(sha256)) throw digestMismatch(found);
  const fault = structure.end();
  if (fault !== undefined) throw damaged(fault);
  return found;
}

/** Equal parts but the last; at most as many as S3 takes. */
export function partSizeFor(size: number, least: number): number {
  return Math.max(least, Math.ceil(size / MAX_PARTS / MiB) * MiB);
}

function requireLive(upload: DirectUpload): DirectUpload {
  if (upload.expiresAt.getTime() > Date.now()) return upload;
  throw new Problem('upload-expired', { detail: 'The upload has expired. Begin a new one.' });
}

/** A foreign id and an unknown one get the same answer. */
function uploadNotFound(): Problem {
  return new Problem('not-found', { detail: 'There is no upload with this id.' });
}

function incomplete({ size, partSize }: DirectUpload, parts: UploadedPart[]): Problem {
  const arrived = new Set(parts.map(({ partNumber }) => partNumber));
  const missing = [];
  for (let partNumber = 1; partNumber <= Math.ceil(size / partSize) && missing.length < 10; partNumber++)
    if (!arrived.has(partNumber)) missing.push(partNumber);
  const which =
    missing.length > 0 ? ` Missing are ${missing.join(', ')}${missing.length === 10 ? ' and perhaps more' : ''}.` : '';
  return new Problem('upload-incomplete', {
    detail: `The parts do not make up the file yet.${which} Send them, then complete.`,
  });
}

/** Faults of the database and the object store are a 503. */
async function asProblems<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ObjectStoreUnavailable) throw unavailable('object store', error);
    if (isDatabaseUnavailable(error)) throw unavailable('database', error);
    throw error;
  }
}
