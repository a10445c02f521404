/**
 * Resumable uploads: bytes that come in several requests, and lose nothing that was acknowledged when one breaks off.
 *
 * Each request fills part buffers of the shared budget and sends them as parts; what is left at its end, less than a
 * part, is kept in Postgres as the tail. So all parts have one size, and no object but the file's own is ever made. The
 * position moves only after what lies before it is safe.
 *
 * One request holds an upload. A newer one takes it over at once, on any instance: from then on the older one can write
 * nothing down, and ends. Parts are completed by the entity tags that were written down, so what an older request may
 * still send to the store cannot slip in. Between two writes nothing is held but memory.
 *
 * When all bytes came in one request, digest and structure are known at its end, and the asset is `ready`. Otherwise a job
 * reads the object back, and it is `processing` until then: the state of Node's SHA-256 cannot be kept between requests.
 */
import { createHash, type Hash, randomUUID } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import type { Asset } from '../assets/asset.ts';
import { contentDisposition } from '../assets/content-disposition.ts';
import { dispositionOf } from '../assets/serving.ts';
import type { Actor } from '../database/audit.ts';
import { isDatabaseUnavailable } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import type { Admission } from '../http/admission.ts';
import { Problem, RETRY_SOON, unavailable } from '../problems.ts';
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
import { NoBufferFree, type PartBuffer, type PartBuffers } from '../storage/part-buffers.ts';
import { checkFileName } from '../validation/file-name.ts';
import { type StructureCheck, structureCheck } from '../validation/structure.ts';
import type { UploadPolicies } from '../validation/upload-policies.ts';
import {
  damaged,
  emptyFile,
  HEAD_SIZE,
  judgeType,
  limitFor,
  policyNamed,
  quotaExceeded,
  refuseBeyond,
} from '../validation/validate.ts';
import { verifyAssetJob } from './jobs/verify-asset.ts';
import { metered } from './metered-source.ts';
import type { UploadsRepository } from './repository.ts';
import type { ResumableUpload, ResumableUploadsRepository } from './resumable-uploads-repository.ts';

export interface ResumableArrival {
  actor: Actor;
  ownerId: string;
  fileName: string;
  /** Absent when it is left open. */
  size?: number;
  declaredType?: string;
  assetType?: string;
  projectId?: string;
  metadata: Record<string, string>;
}

/** A digest of the body of one request. */
export interface BodyChecksum {
  algorithm: 'sha1' | 'sha256';
  digest: Buffer;
}

export interface Continuation {
  actor: Actor;
  /** Where the client says the upload stands. */
  position: number;
  /** Declared with this request. */
  size?: number;
  checksum?: BodyChecksum;
  source: AsyncIterable<Buffer>;
  signal: AbortSignal;
}

/** How the upload stands after a request. */
export type Standing =
  | { id: string; position: number; size?: number; expiresAt: Date; asset?: undefined }
  | { id: string; position: number; size: number; asset: Asset };

export interface ResumableIntakeOptions {
  uploads: UploadsRepository;
  agreements: ResumableUploadsRepository;
  quotas: QuotasRepository;
  store: ObjectStore;
  outbox: Outbox;
  buffers: PartBuffers;
  admission: Admission;
  policies: UploadPolicies;
  keyPrefix: string;
  partsInFlight: number;
  /** Milliseconds to wait for a place and a buffer. */
  wait: number;
  /** Milliseconds for which an upload is kept after its last request. */
  expiry: number;
  /** Seconds beyond that until it is reaped. */
  lease: number;
  /** Milliseconds between looks whether the upload is still held. */
  renewal: number;
  minimumRate: number;
  rateWindow: number;
  onError: (message: string, error: unknown) => void;
  onOutcome?: (outcome: 'stored' | 'refused', bytes: number) => void;
}

/** Another request has taken the upload over. */
class Superseded extends Error {}

export class ResumableIntake {
  readonly #options: ResumableIntakeOptions;
  /** Requests of this process that hold an upload, to be ended when another one takes over. */
  readonly #holders = new Map<string, AbortController>();

  constructor(options: ResumableIntakeOptions) {
    this.#options = options;
  }

  /** Reserves the quota, as far as the size is known. @throws Problem */
  async create({ actor, ownerId, size, ...arrival }: ResumableArrival): Promise<Standing> {
    const { uploads, agreements, quotas, policies, keyPrefix, buffers, lease } = this.#options;
    const { declaredType, assetType, projectId, metadata } = arrival;
    const checked = checkFileName(arrival.fileName);
    if (!checked.ok)
      throw new Problem('invalid-name', {
        detail: checked.detail,
        errors: [{ parameter: 'Upload-Metadata', detail: `filename: ${checked.detail}` }],
      });
    if (size === 0) throw emptyFile();
    refuseBeyond(Math.min(limitFor(policies, assetType, declaredType), buffers.partSize * MAX_PARTS), size ?? 1);
    const createdAt = new Date();
    const id = uuidv7({ msecs: createdAt.getTime() });
    const key = { prefix: keyPrefix, ownerId, assetId: id, ...(projectId !== undefined && { projectId }) };
    const agreement = {
      partSize: buffers.partSize,
      expiresAt: this.#expiry(),
      ...(size !== undefined && { size }),
      ...(declaredType !== undefined && { declaredType }),
      ...(assetType !== undefined && { assetType }),
    };
    const record = {
      id,
      ownerId,
      name: checked.name,
      objectKey: objectKey(key),
      metadata,
      createdAt,
      ...(projectId !== undefined && { projectId }),
    };
    const begun = await asProblems(() =>
      uploads.begin(record, size ?? 0, {
        lease: this.#options.expiry / 1000 + lease,
        also: (transaction) => agreements.agree(transaction, id, agreement),
      }),
    );
    if (!begun) throw await quotaExceeded(quotas, ownerId, size ?? 0);
    return { id, position: 0, ...(size !== undefined && { size }), expiresAt: agreement.expiresAt };
  }

  /** How the upload stands. @throws Problem */
  async look(ownerId: string, id: string): Promise<Standing> {
    const found = await this.#find(ownerId, id);
    if ('asset' in found) return complete(found.asset);
    const { position, size, expiresAt } = requireLive(found.upload);
    return { id, position, ...(size !== undefined && { size }), expiresAt };
  }

  /**
   * Takes the bytes of one request.
   * @throws Problem, also when the request broke off; then what came is safe all the same, as far as it could be kept
   */
  async proceed(ownerId: string, id: string, continuation: Continuation): Promise<Standing> {
    const found = await this.#find(ownerId, id);
    if ('asset' in found) {
      if (continuation.position === found.asset.size) return complete(found.asset);
      throw elsewhere(found.asset.size);
    }
    const upload = this.#withSize(requireLive(found.upload), continuation.size);
    if (continuation.position !== upload.position) throw elsewhere(upload.position);
    if (continuation.size !== undefined) await this.#reserve(upload, continuation.size);
    const leave = await this.#options.admission.enter(continuation.actor.callerId, continuation.signal);
    const superseded = new AbortController();
    // The request of this process that holds the upload need not wait to find out.
    this.#holders.get(id)?.abort(new Superseded());
    this.#holders.set(id, superseded);
    try {
      const signal = AbortSignal.any([continuation.signal, superseded.signal]);
      const leg = new Leg(this.#options, upload, { ...continuation, signal }, superseded);
      const standing = await asProblems(() => leg.run());
      if (standing.asset) this.#options.onOutcome?.('stored', standing.size);
      return standing;
    } catch (error) {
      if (error instanceof Problem && refusals.has(error.type)) {
        this.#options.onOutcome?.('refused', upload.position);
        await this.#end(upload, continuation.actor, error);
      }
      throw error;
    } finally {
      if (this.#holders.get(id) === superseded) this.#holders.delete(id);
      leave();
    }
  }

  /** Ends the upload and leaves nothing. @throws Problem */
  async terminate(actor: Actor, ownerId: string, id: string): Promise<void> {
    const found = await this.#find(ownerId, id);
    if ('asset' in found)
      throw new Problem('wrong-state', { detail: 'The upload is complete. Delete the asset instead.' });
    this.#holders.get(id)?.abort(new Superseded());
    const outcome = { action: 'upload.aborted' as const, reason: 'cancelled', actor };
    if (!(await asProblems(() => this.#options.uploads.markForDeletion(id, outcome)))) throw uploadNotFound();
    await this.#eraseNow(found.upload);
  }

  #expiry(): Date {
    return new Date(Date.now() + this.#options.expiry);
  }

  /** @throws Problem when it was declared to be another one */
  #withSize(upload: ResumableUpload, declared: number | undefined): ResumableUpload {
    if (declared === undefined) return upload;
    if (upload.size !== undefined && upload.size !== declared) {
      const detail = `was declared to be ${upload.size}`;
      throw new Problem('invalid-parameter', { detail, errors: [{ parameter: 'Upload-Length', detail }] });
    }
    if (declared < upload.position) {
      const detail = `is less than the ${upload.position} bytes that are there`;
      throw new Problem('invalid-parameter', { detail, errors: [{ parameter: 'Upload-Length', detail }] });
    }
    if (declared === 0) throw emptyFile();
    const { policies, buffers } = this.#options;
    const limit = limitFor(policies, upload.assetType, upload.declaredType);
    refuseBeyond(Math.min(limit, buffers.partSize * MAX_PARTS), declared);
    return { ...upload, size: declared };
  }

  async #reserve({ id, ownerId }: ResumableUpload, total: number): Promise<void> {
    const outcome = await asProblems(() => this.#options.uploads.extend(id, total));
    if (outcome === 'no-room') throw await quotaExceeded(this.#options.quotas, ownerId, total);
    if (outcome === 'ended') throw uploadNotFound();
  }

  async #find(ownerId: string, id: string): Promise<{ upload: ResumableUpload } | { asset: Asset }> {
    const found = await asProblems(() => this.#options.agreements.find(ownerId, id));
    if (!found) throw uploadNotFound();
    return found;
  }

  /** First the record, then the bytes. Never throws: a job, or the end of the lease, stands behind it. */
  async #end(upload: ResumableUpload, actor: Actor, cause: Problem): Promise<void> {
    try {
      const outcome = { action: 'upload.refused' as const, reason: cause.type, actor };
      if (await this.#options.uploads.markForDeletion(upload.id, outcome)) await this.#eraseNow(upload);
    } catch (error) {
      this.#options.onError('a resumable upload was left to the end of its lease', error);
    }
  }

  async #eraseNow({ id, objectKey: key }: ResumableUpload): Promise<void> {
    const { store, uploads, onError } = this.#options;
    try {
      await erase(store, key, {});
      await uploads.forget(id);
    } catch (error) {
      onError('the bytes of an ended upload are left to their job', error);
    }
  }
}

/** One request of an upload. */
class Leg {
  readonly #options: ResumableIntakeOptions;
  readonly #upload: ResumableUpload;
  readonly #request: Continuation;
  readonly #superseded: AbortController;
  readonly #holder = randomUUID();
  /** Of all bytes, when this request brings all of them. */
  readonly #whole: { hash: Hash; structure?: StructureCheck } | undefined;
  readonly #body: Hash | undefined;
  #expiresAt: Date;
  #buffer: PartBuffer | undefined;
  #filled = 0;
  #partNumber: number;
  /** The part on its way, and the buffer it is in. */
  /** Parts on their way, in their order: sent when the store has it, done when the position has passed it. */
  readonly #underWay: { buffer: PartBuffer; sent: Promise<unknown>; done: Promise<void> }[] = [];
  #lastDone: Promise<void> = Promise.resolve();
  /** Takes over the buffer of the next part that is done. */
  #handOver: PromiseWithResolvers<PartBuffer> | undefined;
  /** With a checksum nothing counts before all of it is verified. */
  #unverified: UploadedPart[] = [];
  #position: number;

  constructor(
    options: ResumableIntakeOptions,
    upload: ResumableUpload,
    request: Continuation,
    superseded: AbortController,
  ) {
    this.#options = options;
    this.#upload = upload;
    this.#request = request;
    this.#superseded = superseded;
    this.#position = upload.position;
    this.#partNumber = Math.floor(upload.position / upload.partSize);
    this.#expiresAt = new Date(Date.now() + options.expiry);
    if (upload.position === 0) this.#whole = { hash: createHash('sha256') };
    if (request.checksum) this.#body = createHash(request.checksum.algorithm);
  }

  async run(): Promise<Standing> {
    const { agreements, buffers, wait, lease, renewal } = this.#options;
    const { id, size, partSize } = this.#upload;
    const { signal } = this.#request;
    const atMost = size === undefined ? partSize : Math.min(partSize, size);
    this.#buffer = await buffers.acquire(atMost, wait, signal).catch((error) => {
      if (!(error instanceof NoBufferFree)) throw error;
      throw new Problem('overloaded', {
        detail: 'The memory for uploads is taken. Try again later.',
        retryAfter: RETRY_SOON,
        cause: error,
      });
    });
    const watch = setInterval(() => this.#watch(), renewal);
    try {
      const taken = await agreements.take(id, this.#holder, {
        position: this.#position,
        // An upload that looks complete would be taken for an asset; so a length that ends it is not written down before.
        ...(size !== undefined && size > this.#position && { size }),
        lease,
        expiresAt: this.#expiresAt,
      });
      if (!taken) throw elsewhere((await this.#now()).position);
      this.#filled = taken.tail.copy(this.#buffer.memory);
      // The tail belongs to the next part, even where it is as long as one.
      this.#partNumber = Math.floor((this.#position - this.#filled) / partSize);
      await this.#takeIn();
      return await this.#finish();
    } catch (error) {
      if (error instanceof Superseded || signal.reason instanceof Superseded) throw takenOver();
      if (error instanceof NoSuchUpload) return await this.#afterCompletion();
      throw error;
    } finally {
      clearInterval(watch);
      await Promise.allSettled(this.#underWay.flatMap(({ sent, done }) => [sent, done]));
      for (const { buffer } of this.#underWay) buffer.release();
      this.#buffer?.release();
    }
  }

  async #takeIn(): Promise<void> {
    const { buffers, minimumRate, rateWindow: window } = this.#options;
    const { source, signal, checksum } = this.#request;
    const rate = () => (minimumRate > 0 && buffers.contended ? Math.max(minimumRate, HEAD_SIZE) : minimumRate);
    try {
      for await (const chunk of metered(source, { minimumRate: rate, window, signal })) {
        this.#refuseBeyond(this.#position + chunk.length);
        this.#body?.update(chunk);
        this.#whole?.hash.update(chunk);
        await this.#fill(chunk);
      }
    } catch (error) {
      // What came before the break is kept, unless somebody else is at it already, or it cannot be trusted.
      const isBreak =
        !(error instanceof Superseded) &&
        !(error instanceof Problem && error.status < 500 && error.status !== 408 && error.status !== 400);
      if (isBreak && !checksum && !(signal.reason instanceof Superseded)) await this.#keep().catch(() => {});
      throw error;
    }
    if (checksum && !this.#body?.digest().equals(checksum.digest))
      throw new Problem('checksum-mismatch', { detail: 'The bytes of this request are damaged. Send them again.' });
  }

  async #fill(chunk: Buffer): Promise<void> {
    for (let rest = chunk; rest.length > 0; ) {
      let buffer = this.#owned();
      const room = Math.min(buffer.memory.length, this.#upload.partSize);
      if (this.#filled === room) {
        await this.#send();
        buffer = this.#owned();
      }
      const copied = rest.copy(buffer.memory, this.#filled, 0, room - this.#filled);
      this.#whole?.structure?.update(rest.subarray(0, copied));
      this.#filled += copied;
      this.#position += copied;
      rest = rest.subarray(copied);
    }
  }

  /** Sends the full buffer as a part. Several are on their way at once; the position passes them in their order. */
  async #send(): Promise<void> {
    const { store } = this.#options;
    const { objectKey: key, partSize } = this.#upload;
    const buffer = this.#owned();
    const size = this.#filled;
    const uploadId = await this.#storeUpload();
    this.#superseded.signal.throwIfAborted();
    const partNumber = ++this.#partNumber;
    const position = (partNumber - 1) * partSize + size;
    await this.#extend(position);
    const address = { key, uploadId, partNumber };
    const sent = store.uploadPart(address, buffer.memory.subarray(0, size), { signal: this.#superseded.signal });
    const done = Promise.all([sent, this.#lastDone]).then(([part]) =>
      this.#advance({ position, parts: [part], tail: undefined }),
    );
    this.#lastDone = done;
    this.#underWay.push({ buffer, sent, done });
    done.then(
      () => this.#arrived(),
      (error) => this.#handOver?.reject(error),
    );
    this.#buffer = undefined;
    this.#filled = 0;
    this.#buffer = await this.#nextBuffer();
  }

  /** The first part on its way is done: its buffer goes to whoever waits for one, or back. */
  #arrived(): void {
    const first = this.#underWay.shift();
    const handOver = this.#handOver;
    this.#handOver = undefined;
    if (!first) return;
    if (handOver) handOver.resolve(first.buffer);
    else first.buffer.release();
  }

  /** A free one, else that of the first part on its way: who holds memory never waits for memory. */
  async #nextBuffer(): Promise<PartBuffer> {
    const { buffers, partsInFlight } = this.#options;
    const free = this.#underWay.length < partsInFlight ? buffers.tryAcquire(this.#upload.partSize) : undefined;
    if (free) return free;
    const handOver = Promise.withResolvers<PartBuffer>();
    this.#handOver = handOver;
    // A part that failed meanwhile will hand nothing over.
    this.#lastDone.catch(handOver.reject);
    return handOver.promise;
  }

  /** In their order, so the last one is the end of all. */
  async #allArrived(): Promise<void> {
    await this.#lastDone;
  }

  /** Of the store; begun with the first part, when the type is known. */
  async #storeUpload(): Promise<string> {
    const { store, agreements } = this.#options;
    const { id, objectKey: key, storeUploadId, partSize } = this.#upload;
    if (storeUploadId !== undefined) return storeUploadId;
    const { mediaType, policy } = await this.#judge();
    const begun = await store.createMultipartUpload(key, this.#attributes(mediaType, policy.cacheControl), {
      partSize,
    });
    if (!(await agreements.begun(id, this.#holder, { storeUploadId: begun, mediaType, policy: policy.assetType }))) {
      await store.abortMultipartUpload(key, begun, {}).catch(() => {});
      throw new Superseded();
    }
    this.#upload.storeUploadId = begun;
    this.#upload.judged = { mediaType, policy: policy.assetType };
    return begun;
  }

  /** By the bytes in the first buffer. */
  async #judge() {
    const { policies } = this.#options;
    const { fileName, declaredType, assetType, size } = this.#upload;
    const named = assetType === undefined ? undefined : policyNamed(policies, assetType);
    const head = this.#owned().memory.subarray(0, Math.min(this.#filled, HEAD_SIZE));
    const judgement = await judgeType(policies, { fileName, declaredType, named }, head);
    refuseBeyond(judgement.policy.maxBytes, size ?? this.#position);
    const structure = structureCheck(judgement.mediaType);
    structure.update(this.#owned().memory.subarray(0, this.#filled));
    const fault = structure.fault();
    if (fault !== undefined) throw damaged(fault);
    // From here on each chunk is checked as it comes.
    if (this.#whole) this.#whole.structure = structure;
    return judgement;
  }

  /** All bytes of this request are here. */
  async #finish(): Promise<Standing> {
    const { id, size } = this.#upload;
    if (size === undefined || this.#position < size) {
      await this.#keep();
      return { id, position: this.#position, ...(size !== undefined && { size }), expiresAt: this.#expiresAt };
    }
    const fault = this.#whole?.structure?.end();
    if (fault !== undefined) throw damaged(fault);
    const sha256 = this.#whole?.hash.digest();
    const stored =
      this.#upload.storeUploadId === undefined ? await this.#putWhole(sha256) : await this.#completeParts(sha256);
    return complete(await this.#settle(stored));
  }

  /** A file that fits one buffer is judged whole, and stored by one request. */
  async #putWhole(known: Buffer | undefined) {
    const { store } = this.#options;
    const { objectKey: key, size = 0 } = this.#upload;
    const bytes = this.#owned().memory.subarray(0, this.#filled);
    const { mediaType, policy } = await this.#judge();
    const structure = structureCheck(mediaType);
    structure.update(bytes);
    const fault = structure.end();
    if (fault !== undefined) throw damaged(fault);
    await this.#extend(size);
    const sha256 = known ?? createHash('sha256').update(bytes).digest();
    try {
      await store.put(key, bytes, this.#attributes(mediaType, policy.cacheControl), { sha256 });
    } catch (error) {
      await this.#requireWhole(error);
    }
    return { size, sha256, mediaType, assetType: policy.assetType, cacheControl: policy.cacheControl };
  }

  async #completeParts(sha256: Buffer | undefined) {
    const { store, agreements, policies } = this.#options;
    const { id, objectKey: key, storeUploadId: uploadId = '', size = 0, judged, partSize } = this.#upload;
    if (!judged) throw new Error('an upload with parts was not judged');
    await this.#allArrived();
    if (this.#filled > 0) {
      const address = { key, uploadId, partNumber: this.#partNumber + 1 };
      const bytes = this.#owned().memory.subarray(0, this.#filled);
      await this.#extend(size);
      const part = await store.uploadPart(address, bytes, {});
      // The position stays behind until the asset is there: so a client never takes the upload for complete before.
      this.#unverified.push(part);
    }
    const last = this.#unverified.map((part) => part.partNumber);
    const kept = (await agreements.parts(id)).filter(({ partNumber }) => !last.includes(partNumber));
    const parts = [...kept, ...this.#unverified].sort((a, b) => a.partNumber - b.partNumber);
    if (parts.reduce((sum, part) => sum + part.size, 0) !== size || parts.length !== Math.ceil(size / partSize))
      throw new Error('the parts of a resumable upload are not the file');
    if (!(await agreements.isHeldBy(id, this.#holder))) throw new Superseded();
    try {
      await store.completeMultipartUpload(key, uploadId, parts, {});
    } catch (error) {
      if (!(error instanceof NoSuchUpload || error instanceof ObjectStoreUnavailable)) throw error;
      await this.#requireWhole(error);
    }
    const policy = policyNamed(policies, judged.policy);
    const { mediaType } = judged;
    return { size, sha256, mediaType, assetType: policy.assetType, cacheControl: policy.cacheControl };
  }

  /** The store has no such upload any more: the process that completed it died before it was written down. */
  async #afterCompletion(): Promise<Standing> {
    const { size = 0, judged } = this.#upload;
    if (!judged) throw new Error('an upload with parts was not judged');
    await this.#requireWhole(undefined);
    const { assetType, cacheControl } = policyNamed(this.#options.policies, judged.policy);
    return complete(await this.#settle({ size, mediaType: judged.mediaType, assetType, cacheControl }));
  }

  /** Without a digest a job reads it back. */
  async #settle(stored: Parameters<UploadsRepository['settle']>[1]): Promise<Asset> {
    const { uploads, outbox } = this.#options;
    const { id } = this.#upload;
    const isKnown = stored.sha256 !== undefined;
    const asset = await uploads.settle(
      id,
      stored,
      this.#request.actor,
      async (transaction) => {
        if (!isKnown) await outbox.send(transaction, verifyAssetJob, { assetId: id });
      },
      isKnown ? 'ready' : 'processing',
    );
    if (asset) return asset;
    throw uploadNotFound();
  }

  /** Writes down all that came: parts and tail. */
  async #keep(): Promise<void> {
    await this.#allArrived();
    const parts = this.#unverified;
    const tail = Buffer.from(this.#owned().memory.subarray(0, this.#filled));
    await this.#extend(this.#position);
    await this.#commit({ position: this.#position, parts, tail: tail.length > 0 ? tail : undefined });
  }

  async #advance(progress: { position: number; parts: UploadedPart[]; tail: Buffer | undefined }): Promise<void> {
    if (this.#request.checksum) this.#unverified.push(...progress.parts);
    else await this.#commit(progress);
  }

  async #commit(progress: { position: number; parts: UploadedPart[]; tail: Buffer | undefined }): Promise<void> {
    if (!(await this.#options.agreements.advance(this.#upload.id, this.#holder, progress))) throw new Superseded();
  }

  /** Room in the quota, where the size was left open. */
  async #extend(total: number): Promise<void> {
    const { uploads, quotas } = this.#options;
    const { id, ownerId, size } = this.#upload;
    if (size !== undefined) return;
    const outcome = await uploads.extend(id, total);
    if (outcome === 'no-room') throw await quotaExceeded(quotas, ownerId, total);
    if (outcome === 'ended') throw uploadNotFound();
  }

  #refuseBeyond(position: number): void {
    const { policies, buffers } = this.#options;
    const { size, assetType, declaredType, judged } = this.#upload;
    refuseBeyond(buffers.partSize * MAX_PARTS, position);
    if (size !== undefined && position > size) {
      const detail = `The file has ${size} bytes, and this is more.`;
      throw new Problem('too-large', { detail });
    }
    refuseBeyond(
      judged ? policyNamed(policies, judged.policy).maxBytes : limitFor(policies, assetType, declaredType),
      position,
    );
  }

  #attributes(mediaType: string, cacheControl: string) {
    const { fileName, createdAt } = this.#upload;
    return {
      contentType: mediaType,
      contentDisposition: contentDisposition(dispositionOf(mediaType), fileName),
      cacheControl,
      metadata: {
        'uploaded-by': encodeURIComponent(this.#request.actor.callerId),
        'uploaded-at': createdAt.toISOString(),
      },
    };
  }

  async #requireWhole(cause: unknown): Promise<void> {
    const { objectKey: key, size } = this.#upload;
    if ((await this.#options.store.head(key, {}))?.size !== size)
      throw new ObjectStoreUnavailable('the object was not made', { cause });
  }

  #owned(): PartBuffer {
    if (!this.#buffer) throw new Error('the request has no buffer');
    return this.#buffer;
  }

  async #now(): Promise<{ position: number }> {
    const found = await this.#options.agreements.find(this.#upload.ownerId, this.#upload.id);
    if (!found) throw uploadNotFound();
    return 'asset' in found ? { position: found.asset.size } : found.upload;
  }

  /** Another instance may have taken over while nothing is written. */
  #watch(): void {
    this.#options.agreements.isHeldBy(this.#upload.id, this.#holder).then(
      (isOurs) => {
        if (!isOurs) this.#superseded.abort(new Superseded());
      },
      (error) => this.#options.onError('it could not be seen who holds an upload', error),
    );
  }
}

/** For which a request ends the upload: the bytes are not what they should be, and never will be. */
const refusals = new Set([
  'undetected-type',
  'declared-mismatch',
  'extension-mismatch',
  'type-not-allowed',
  'damaged-file',
]);

function complete(asset: Asset): Standing {
  return { id: asset.id, position: asset.size, size: asset.size, asset };
}

function requireLive(upload: ResumableUpload): ResumableUpload {
  if (upload.expiresAt.getTime() > Date.now()) return upload;
  throw new Problem('upload-expired', { detail: 'The upload has expired. Begin a new one.' });
}

function elsewhere(position: number): Problem {
  return new Problem('offset-mismatch', {
    detail: `The upload stands at ${position}. Ask for it, and go on from there.`,
    headers: { 'upload-offset': String(position) },
  });
}

function takenOver(): Problem {
  return new Problem('offset-mismatch', { detail: 'Another request goes on with this upload.' });
}

/** A foreign id and an unknown one get the same answer. */
function uploadNotFound(): Problem {
  return new Problem('not-found', { detail: 'There is no upload with this id.' });
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
