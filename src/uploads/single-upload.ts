/** One file that comes by one request, from its first byte to its asset or its end; intake.ts says in which order. */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { crc32 } from 'node:zlib';
import type { Asset } from '../assets/asset.ts';
import { Problem, unavailable } from '../problems.ts';
import type { Place } from '../projects/places.ts';
import { quotaExceeded } from '../quotas/quota-exceeded.ts';
import { PartWriter } from '../storage/part-writer.ts';
import {
  digestMismatch,
  emptyFile,
  FileValidation,
  limitFor,
  refuseBeyond,
  type ValidatedType,
} from '../validation/file-validation.ts';
import { HEAD_SIZE } from '../validation/media-types.ts';
import { ReplacementRefused } from '../versions/refusal.ts';
import {
  leaseRenewalOf,
  lookAgainAt,
  meteredBody,
  partsInFlightOf,
  throughProcess,
  type UploadContext,
} from './context.ts';
import { scanBeforeStoring } from './inline-scan.ts';
import { LookedInto } from './looked-into.ts';
import { incompleteBody } from './metered-source.ts';
import { type FileDescription, type NewFile, newUpload, objectAttributes } from './new-upload.ts';
import { stripArrival } from './strip-arrival.ts';
import type { InTransaction, LearnedOnTheWay, NewUpload, StoredBytes } from './upload.ts';

/**
 * Milliseconds for which what the caller is to the project counts, as long as other rights do that are taken away: so an
 * upload of one short request asks once.
 */
const PLACE_TTL = 1000;

/** One file on its way in. */
export interface Arrival extends NewFile {
  /** Bytes, exactly, when the client said so. */
  size?: number;
  /** Bytes at most, when only that is known. */
  atMost?: number;
  source: AsyncIterable<Buffer>;
  /**
   * All that the client says of the file, where it may say it after the bytes: asked for when `source` has ended. What it
   * said before is in the arrival, and stays as it is.
   */
  described?: () => FileDescription;
  /** What belongs into the transactions that begin and settle the upload: the answer to a request that may be repeated. */
  inTransaction?: { begun: InTransaction<string>; settled: InTransaction<Asset> };
  /** Aborted when the client has gone or the service stops. */
  signal: AbortSignal;
}

/** One file from its arrival to its end. */
export class SingleUpload {
  record: NewUpload;
  readonly isHeld: boolean;
  readonly #arrival: Arrival;
  readonly #context: UploadContext;
  readonly #writer: PartWriter;
  readonly #validation: FileValidation;
  readonly #hash = createHash('sha256');
  #limit: number;
  #reserved = 0;
  #leaseRenewedAt = 0;
  #placedAt = performance.now();
  /** Of what was sent, and of what is stored. */
  #sent: { size: number; sha256: Buffer } | undefined;
  #sha256: Buffer | undefined;
  #crc32 = 0;
  /** By steps of processing that were done while it came in. */
  #learned: LearnedOnTheWay = {};
  /** What is found out, and made, while it is stored. */
  #looked: LookedInto | undefined;
  #renewal: NodeJS.Timeout | undefined;
  /** All is known of it: whoever finds it abandoned may finish it. */
  #isSealable = false;
  #isSettling = false;
  /** The record `uploading` exists, or may exist. */
  begun = false;
  /** The object is whole; only the record is missing. */
  stored = false;
  /** Somebody else ended the record, and may have removed the bytes before the last of them came. */
  disowned = false;

  /** @param isHeld it is not settled before all of its form is known, so nobody else may do that either */
  constructor(arrival: Arrival, context: UploadContext, isHeld: boolean) {
    const { objectKeys, policies, store, buffers } = context;
    this.#arrival = arrival;
    this.#context = context;
    this.isHeld = isHeld;
    this.record = newUpload(arrival, objectKeys, (detail) => ({ parameter: 'fileName', detail }));
    const assetTypeMayFollow = arrival.assetType === undefined && (isHeld || arrival.described !== undefined);
    const declared = { ...arrival, assetTypeMayFollow, fileName: this.record.name };
    this.#limit = throughProcess(context, limitFor(policies, declared));
    this.#validation = new FileValidation(policies, declared);
    this.#writer = new PartWriter({
      store,
      buffers: buffers.of(arrival.actor.callerId),
      key: this.record.objectKey,
      partsInFlight: partsInFlightOf(context),
      signal: arrival.signal,
      attributes: () => {
        const uploader = objectKeys.nameOf(arrival.actor.callerId);
        return objectAttributes(this.record, uploader, this.#stored(), this.#sha256 ?? this.#arrival.sha256);
      },
      beforeSending: (bytes) => this.#reserve(bytes),
      // When it does not go on, it ends in doubt, and that is written down with its end.
      onDoubt: async (uploadId) => {
        if (uploadId !== undefined) await lookAgainAt(context, this.record, uploadId);
      },
    });
  }

  get received(): number {
    return this.#sent?.size ?? this.#writer.length;
  }

  /** Whether somebody may see it as an asset already. */
  get mayBeAsset(): boolean {
    return this.stored && (!this.isHeld || this.#isSettling);
  }

  /** Steps 1 to 4, and the object is made whole. From here on, the lease is renewed until `release`. */
  async store(): Promise<void> {
    const { actor, signal, size } = this.#arrival;
    if (size === 0) throw emptyFile();
    if (size !== undefined) this.#refuseBeyond(size);
    const waitingSince = performance.now();
    const leave = await this.#context.admission.enter(actor.callerId, signal);
    this.#renewal = setInterval(() => this.#renewLease(), leaseRenewalOf(this.#context) / 2);
    try {
      await this.#openWriter(waitingSince);
      // A file that fits one buffer is validated before anything is written down.
      if (size !== undefined && size > this.#context.buffers.partSize) await this.#reserve(size);
      await this.#receive();
      await this.#finish();
    } finally {
      leave();
    }
  }

  /** What the client has said by now. @throws Problem when the bytes are not what is said */
  async describe(said: FileDescription): Promise<void> {
    const { projectId, assetType, metadata, path = '', tags = [], retention = null, sha256 } = said;
    if (this.#arrival.assetType === undefined) this.#validation.choose(assetType, this.received);
    const place = await this.#placeIn(projectId);
    if (sha256 && this.#sent && !sha256.equals(this.#sent.sha256)) throw digestMismatch(this.#sent.sha256);
    const labels = { metadata, path, tags, retention };
    const { record } = this;
    const { metadata: before, path: pathBefore, tags: tagsBefore, retention: kept = null } = record;
    const isSame = isDeepStrictEqual(labels, { metadata: before, path: pathBefore, tags: tagsBefore, retention: kept });
    if (place === record.place && isSame) return;
    this.record = { ...record, ...labels, place, ...(projectId !== undefined && { projectId }) };
    if (!this.begun) return;
    const outcome = await this.#context.uploads.describe(this.record);
    if (outcome === 'no-room') throw await this.#quotaExceeded(this.#reserved);
    if (outcome === 'ended') throw this.#disown();
  }

  /**
   * Where it goes. Who uploads for long may have lost his place in the project meanwhile: so it is asked again.
   * @throws Problem not-found; forbidden
   */
  async #placeIn(projectId: string | undefined): Promise<Place> {
    const { place } = this.record;
    const isSame = projectId === this.record.projectId;
    if (isSame && (projectId === undefined || performance.now() - this.#placedAt < PLACE_TTL)) return place;
    const now = await this.#context.places.of(this.#arrival.caller, projectId);
    this.#placedAt = performance.now();
    return isSame ? place : now;
  }

  /** The upload needs no sign of life any more. */
  release(): void {
    clearInterval(this.#renewal);
  }

  stop(): Promise<boolean> {
    return this.#writer.stop();
  }

  abandon() {
    return this.#writer.abandon();
  }

  get isInDoubt(): boolean {
    return this.#writer.isInDoubt;
  }

  close(): Promise<void> {
    return this.#writer.close();
  }

  isWhole(): Promise<boolean> {
    return this.#writer.isWhole();
  }

  async #openWriter(waitingSince: number): Promise<void> {
    const { size, atMost, signal } = this.#arrival;
    const bytes = Math.min(size ?? atMost ?? Number.POSITIVE_INFINITY, this.#limit + 1);
    const wait = this.#context.config.UPLOAD_WAIT - (performance.now() - waitingSince);
    await this.#writer.open(bytes, Math.max(0, wait), signal);
  }

  /** Step 2: every byte, once. */
  async #receive(): Promise<void> {
    const { source, signal, size } = this.#arrival;
    for await (const chunk of meteredBody(this.#context, source, signal, this.#arrival.actor.callerId)) {
      this.#refuseBeyond(this.#writer.length + chunk.length);
      this.#hash.update(chunk);
      this.#crc32 = crc32(chunk, this.#crc32);
      // Until the type is validated, the first bytes wait in the first buffer; from then on each chunk is checked as it comes.
      if (this.#validation.validated) this.#validation.update(chunk);
      else if (this.#writer.length + chunk.length >= HEAD_SIZE) await this.#validateHead(chunk);
      await this.#writer.write(chunk);
    }
    if (size !== undefined && this.#writer.length !== size) throw incompleteBody();
  }

  #refuseBeyond(bytes: number): void {
    refuseBeyond(this.#limit, bytes, this.#context.policies.bound);
  }

  async #validateHead(next: Buffer): Promise<void> {
    const { head } = this.#writer;
    const bytes = next.length === 0 ? head : Buffer.concat([head, next]);
    await this.#validation.begin(bytes);
    this.#limit = throughProcess(this.#context, this.#validation.maxBytes);
    this.#refuseBeyond(this.#arrival.size ?? bytes.length);
    this.#validation.update(bytes);
  }

  /** Step 4, and the object is made whole. */
  async #finish(): Promise<void> {
    if (this.#writer.length === 0) throw emptyFile();
    if (!this.#validation.validated) await this.#validateHead(Buffer.alloc(0));
    this.#validation.end();
    this.#sha256 = this.#hash.digest();
    this.#sent = { size: this.#writer.length, sha256: this.#sha256 };
    if (!this.isHeld) await this.describe(this.#arrival.described?.() ?? this.#arrival);
    const { validated } = this.#validation;
    if (validated)
      this.#learned = await scanBeforeStoring(this.#context, validated.policy, this.#writer.head, this.#writer.length);
    await this.#strip();
    this.#isSealable = !this.isHeld;
    this.#looked = await LookedInto.begin(this.#context, this.#writer, {
      ...{ ownerId: this.#arrival.caller.id, objectKey: this.record.objectKey, type: this.#validated },
      ...{ ended: this.#learned.ended, assetTypeMayFollow: this.#assetTypeMayFollow, signal: this.#arrival.signal },
    });
    try {
      await this.#writer.finish(this.#sha256);
    } catch (error) {
      this.#looked?.stop();
      throw error;
    }
    this.stored = true;
    await this.#looked?.end();
  }

  async #strip(): Promise<void> {
    const { policies } = this.#context;
    const stripped = await stripArrival(this.#writer, policies, this.#validated, this.#assetTypeMayFollow);
    if (stripped?.isChanged) {
      this.#sha256 = createHash('sha256').update(this.#writer.head).digest();
      this.#crc32 = crc32(this.#writer.head);
    }
    this.#learned = { ...this.#learned, ended: { ...this.#learned.ended, ...stripped?.ended } };
  }

  /** Steps 5 and 6. */
  async settle(): Promise<Asset> {
    this.#isSettling = true;
    const { cacheControl } = this.#stored();
    const kept = await this.#looked?.keep(this.#context, { ...this.record, cacheControl });
    this.#learned = { ...this.#learned, ...kept, ended: { ...this.#learned.ended, ...kept?.ended } };
    return this.#becomeAsset();
  }

  /** Step 6 once more, where nobody knows whether it was done. */
  async settleAgain(): Promise<void> {
    if (this.#sha256) await this.#becomeAsset();
  }

  async #becomeAsset(): Promise<Asset> {
    const { actor, inTransaction } = this.#arrival;
    const { id, replacement, place } = this.record;
    const upload = { id, isReplacing: replacement !== undefined, account: place.account };
    const stored = { ...this.#stored(), crc32: this.#crc32 };
    const asset = await this.#context.uploads
      .settle(upload, stored, actor, inTransaction?.settled, this.#learned)
      .catch((error) => this.#refuse(error));
    if (asset) return asset;
    throw this.#disown();
  }

  /**
   * Step 3: room for `bytes` in the quota, before they are sent to the store. Also keeps the lease alive. Once the digest
   * is known, all is: the upload is sealed.
   */
  async #reserve(bytes: number): Promise<void> {
    const seal = this.#isSealable && this.#sha256 ? { ...this.#stored(), sha256: this.#sha256 } : undefined;
    if (!this.begun) await this.#beginRecord(bytes, seal);
    else if (bytes > this.#reserved || seal) await this.#extendRecord(bytes, seal);
    else return;
    this.#reserved = bytes;
    this.#leaseRenewedAt = performance.now();
  }

  async #beginRecord(bytes: number, seal: StoredBytes | undefined): Promise<void> {
    const inTransaction = this.#arrival.inTransaction?.begun;
    this.begun = true;
    try {
      if (await this.#context.uploads.begin(this.record, bytes, { seal, inTransaction })) return;
    } catch (error) {
      // Whatever else it is, it may have begun.
      if (error instanceof Problem) this.begun = false;
      throw error;
    }
    this.begun = false;
    throw await this.#quotaExceeded(bytes);
  }

  async #extendRecord(bytes: number, seal: StoredBytes | undefined): Promise<void> {
    const outcome = await this.#context.uploads.extend(this.record, bytes, seal);
    if (outcome === 'no-room') throw await this.#quotaExceeded(bytes - this.#reserved);
    if (outcome === 'ended') throw this.#disown();
  }

  /** It does not take the place of other bytes, and that is certain: nobody refers to the object, nor to what was made of it. */
  async #refuse(error: unknown): Promise<never> {
    if (!(error instanceof ReplacementRefused)) throw error;
    this.stored = false;
    const { derivatives, onError } = this.#context;
    const ids = this.#learned.derivatives?.map(({ id }) => id) ?? [];
    await derivatives.discard(ids).catch((fault) => onError('derivatives are left to their lease', fault));
    throw error;
  }

  /** Somebody ended the upload meanwhile, so nobody refers to the object any more. */
  #disown(): Problem {
    this.stored = false;
    this.disowned = true;
    return unavailable('database', new Error('the upload was ended by somebody else'));
  }

  #renewLease(): void {
    const { uploads, onError } = this.#context;
    if (!this.begun || performance.now() - this.#leaseRenewedAt < leaseRenewalOf(this.#context) / 2) return;
    this.#leaseRenewedAt = performance.now();
    uploads.renew(this.record.id).catch((error) => onError('the lease of an upload could not be renewed', error));
  }

  #quotaExceeded(bytes: number): Promise<Problem> {
    return quotaExceeded(this.#context.quotas, this.record.place.account, bytes, this.#arrival.caller);
  }

  /** Another policy may still be chosen. */
  get #assetTypeMayFollow(): boolean {
    return this.isHeld && this.#arrival.assetType === undefined;
  }

  get #validated(): ValidatedType {
    const { validated } = this.#validation;
    if (!validated) throw new Error('the type has not been validated');
    return validated;
  }

  #stored() {
    const { mediaType, policy } = this.#validated;
    const { assetType, cacheControl } = policy;
    return { size: this.#writer.length, sha256: this.#sha256, mediaType, assetType, cacheControl, ...this.#original };
  }

  /** What was sent, where that is not what is stored. */
  get #original(): Pick<StoredBytes, 'original'> {
    if (!this.#sent || this.#sent.sha256 === this.#sha256) return {};
    return { original: { size: this.#sent.size, sha256: this.#sent.sha256.toString('hex') } };
  }
}
