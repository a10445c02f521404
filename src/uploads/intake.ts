/**
 * Uploads of one request: a stream becomes an asset, or leaves nothing.
 *
 *   1. a place among the running uploads, and a first part buffer
 *   2. the bytes: counted, hashed, copied into part buffers; at 64 KiB (or the end) their type is validated
 *   3. quota is reserved before anything is sent to the store; the record `uploading` is the witness of what is sent
 *   4. size, type, structure and digest are validated before the object is made whole, and the record is sealed with them
 *   5. one statement turns the record into a `ready` asset and the reservation into use
 *
 * A file that fits one buffer and is refused has touched neither database nor store. When a larger size is known from the
 * beginning, the quota is asked before the first byte is read.
 *
 * Until the last byte is here, a client that goes away ends the upload. From then on it is finished whatever the client
 * does. What a failure leaves is undone only where the outcome is known; see `#undo`.
 */
import { createHash } from 'node:crypto';
import type { Asset } from '../assets/asset.ts';
import { asProblem } from '../http/error-handler.ts';
import { Problem, unavailable } from '../problems.ts';
import { quotaExceeded } from '../quotas/quota-exceeded.ts';
import { OutcomeUnknown, PartWriter } from '../storage/part-writer.ts';
import { digestMismatch, emptyFile, FileValidation, limitFor, refuseBeyond } from '../validation/file-validation.ts';
import { HEAD_SIZE } from '../validation/media-types.ts';
import { leaseRenewalOf, meteredBody, partsInFlightOf, throughProcess, type UploadContext } from './context.ts';
import { endUpload, recordRefusal } from './ending.ts';
import { incompleteBody } from './metered-source.ts';
import { type NewFile, newUpload, objectAttributes } from './new-upload.ts';
import type { EndedUpload, InTransaction, NewUpload, StoredBytes } from './repository.ts';

/** One file on its way in. */
export interface Arrival extends NewFile {
  /** Bytes, exactly, when the client said so. */
  size?: number;
  /** Bytes at most, when only that is known. */
  atMost?: number;
  source: AsyncIterable<Buffer>;
  /** What belongs into the transactions that begin and settle the upload: the answer to a request that may be repeated. */
  inTransaction?: { begun: InTransaction<string>; settled: InTransaction<Asset> };
  /** Aborted when the client has gone or the service stops. */
  signal: AbortSignal;
}

export class Intake {
  readonly #context: UploadContext;

  constructor(context: UploadContext) {
    this.#context = context;
  }

  /**
   * Takes a file in.
   * @returns the `ready` asset, after the record and the object are safe
   * @throws Problem; ClientGone
   */
  async receive(arrival: Arrival): Promise<Asset> {
    const { onOutcome } = this.#context;
    const upload = await this.#begin(arrival);
    try {
      const asset = await upload.run();
      onOutcome('stored', asset.size);
      return asset;
    } catch (error) {
      const problem = asProblem(error);
      const outcome = problem instanceof Problem ? (problem.status < 500 ? 'refused' : 'failed') : 'aborted';
      onOutcome(outcome, upload.received);
      await this.#undo(upload, arrival, problem, outcome === 'refused');
      throw problem;
    }
  }

  /** Validates what is known before any byte is read. */
  async #begin(arrival: Arrival): Promise<SingleUpload> {
    try {
      return new SingleUpload(arrival, this.#context);
    } catch (error) {
      this.#context.onOutcome('refused', 0);
      if (error instanceof Problem)
        await recordRefusal(this.#context, arrival.actor, arrival.ownerId, error, arrival.fileName);
      throw error;
    }
  }

  /**
   * Leaves nothing behind, as far as it is known what there is. An outcome nobody knows is left as it is: the record
   * `uploading` names the key, and its lease ends.
   */
  async #undo(upload: SingleUpload, arrival: Arrival, problem: unknown, refused: boolean): Promise<void> {
    const { uploads, tasks, onError } = this.#context;
    const { actor } = arrival;
    const reason = problem instanceof Problem ? problem.type : 'client-gone';
    if (upload.stored || (problem instanceof Error && problem.cause instanceof OutcomeUnknown)) {
      await upload.close();
      onError('the outcome of an upload is unknown; its record is kept', problem);
      tasks.persist(
        () => this.#resolve(upload, { action: 'upload.aborted', reason, actor }),
        'settling an upload of unknown outcome',
      );
      return;
    }
    const touchedStore = await upload.stop();
    if (upload.disowned) {
      await upload.abandon();
      return;
    }
    if (!upload.begun) {
      if (refused && problem instanceof Problem)
        await recordRefusal(this.#context, actor, arrival.ownerId, problem, arrival.fileName);
      return;
    }
    const outcome: EndedUpload = { action: refused ? 'upload.refused' : 'upload.aborted', reason, actor };
    const end = () => (touchedStore ? this.#end(upload, outcome) : uploads.remove(upload.record.id, outcome));
    try {
      await end();
    } catch (error) {
      onError('an upload could not be undone at once; trying on', error);
      tasks.persist(end, 'ending an upload');
    }
  }

  /** Looks whether the object was made after all, and finishes or ends the upload accordingly. */
  async #resolve(upload: SingleUpload, outcome: EndedUpload): Promise<void> {
    if (upload.stored || (await upload.isWhole())) await upload.settleAgain();
    else await this.#end(upload, outcome);
  }

  async #end(upload: SingleUpload, outcome: EndedUpload): Promise<void> {
    await endUpload(this.#context, upload.record, outcome, () => upload.abandon());
  }
}

/** One file from its arrival to its end. */
class SingleUpload {
  readonly record: NewUpload;
  readonly #arrival: Arrival;
  readonly #context: UploadContext;
  readonly #writer: PartWriter;
  readonly #validation: FileValidation;
  readonly #hash = createHash('sha256');
  #limit: number;
  #reserved = 0;
  #leaseRenewedAt = 0;
  #sha256: Buffer | undefined;
  /** The record `uploading` exists, or may exist. */
  begun = false;
  /** The object is whole; only the record is missing. */
  stored = false;
  /** Somebody else ended the record, and may have removed the bytes before the last of them came. */
  disowned = false;

  constructor(arrival: Arrival, context: UploadContext) {
    const { objectKeys, policies, store, buffers } = context;
    this.#arrival = arrival;
    this.#context = context;
    this.record = newUpload(arrival, objectKeys, (detail) => ({ parameter: 'fileName', detail }));
    this.#limit = throughProcess(context, limitFor(policies, arrival));
    this.#validation = new FileValidation(policies, { ...arrival, fileName: this.record.name });
    this.#writer = new PartWriter({
      store,
      buffers,
      key: this.record.objectKey,
      partsInFlight: partsInFlightOf(context),
      signal: arrival.signal,
      attributes: () => {
        const uploader = objectKeys.nameOf(arrival.actor.callerId);
        return objectAttributes(this.record, uploader, this.#stored(), this.#sha256 ?? this.#arrival.sha256);
      },
      beforeSending: (bytes) => this.#reserve(bytes),
    });
  }

  get received(): number {
    return this.#writer.length;
  }

  async run(): Promise<Asset> {
    const { actor, signal, size } = this.#arrival;
    if (size === 0) throw emptyFile();
    if (size !== undefined) refuseBeyond(this.#limit, size);
    const waitingSince = performance.now();
    const leave = await this.#context.admission.enter(actor.callerId, signal);
    const renewal = setInterval(() => this.#renewLease(), leaseRenewalOf(this.#context) / 2);
    try {
      await this.#openWriter(waitingSince);
      // A file that fits one buffer is validated before anything is written down.
      if (size !== undefined && size > this.#context.buffers.partSize) await this.#reserve(size);
      await this.#receive();
      await this.#finish();
      return await this.#settle();
    } finally {
      clearInterval(renewal);
      leave();
    }
  }

  stop(): Promise<boolean> {
    return this.#writer.stop();
  }

  abandon() {
    return this.#writer.abandon();
  }

  close(): Promise<void> {
    return this.#writer.close();
  }

  isWhole(): Promise<boolean> {
    return this.#writer.isWhole();
  }

  async settleAgain(): Promise<void> {
    if (this.#sha256) await this.#settle();
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
    for await (const chunk of meteredBody(this.#context, source, signal)) {
      refuseBeyond(this.#limit, this.#writer.length + chunk.length);
      this.#hash.update(chunk);
      // Until the type is validated, the first bytes wait in the first buffer; from then on each chunk is checked as it comes.
      if (this.#validation.validated) this.#validation.update(chunk);
      else if (this.#writer.length + chunk.length >= HEAD_SIZE) await this.#validateHead(chunk);
      await this.#writer.write(chunk);
    }
    if (size !== undefined && this.#writer.length !== size) throw incompleteBody();
  }

  async #validateHead(next: Buffer): Promise<void> {
    const { head } = this.#writer;
    const bytes = next.length === 0 ? head : Buffer.concat([head, next]);
    const { policy } = await this.#validation.begin(bytes);
    this.#limit = throughProcess(this.#context, policy.maxBytes);
    refuseBeyond(this.#limit, this.#arrival.size ?? bytes.length);
    this.#validation.update(bytes);
  }

  /** Step 4, and the object is made whole. */
  async #finish(): Promise<void> {
    if (this.#writer.length === 0) throw emptyFile();
    if (!this.#validation.validated) await this.#validateHead(Buffer.alloc(0));
    this.#validation.end();
    const sha256 = this.#hash.digest();
    const declared = this.#arrival.sha256;
    if (declared && !declared.equals(sha256)) throw digestMismatch(sha256);
    this.#sha256 = sha256;
    await this.#writer.finish(sha256);
    this.stored = true;
  }

  /** Step 5. */
  async #settle(): Promise<Asset> {
    const { actor, inTransaction } = this.#arrival;
    const asset = await this.#context.uploads.settle(this.record.id, this.#stored(), actor, inTransaction?.settled);
    if (asset) return asset;
    // Somebody ended the upload meanwhile, so nobody refers to the object any more.
    this.stored = false;
    this.disowned = true;
    throw unavailable('database', new Error('the upload was ended while its bytes were stored'));
  }

  /**
   * Step 3: room for `bytes` in the quota, before they are sent to the store. Also keeps the lease alive. Once the digest
   * is known, all is: the upload is sealed.
   */
  async #reserve(bytes: number): Promise<void> {
    const seal = this.#sha256 && { ...this.#stored(), sha256: this.#sha256 };
    if (!this.begun) await this.#beginRecord(bytes, seal);
    else if (bytes > this.#reserved || seal) await this.#extendRecord(bytes, seal);
    else return;
    this.#reserved = bytes;
    this.#leaseRenewedAt = performance.now();
  }

  async #beginRecord(bytes: number, seal: StoredBytes | undefined): Promise<void> {
    const inTransaction = this.#arrival.inTransaction?.begun;
    this.begun = true;
    if (await this.#context.uploads.begin(this.record, bytes, { seal, inTransaction })) return;
    this.begun = false;
    throw await this.#quotaExceeded(bytes);
  }

  async #extendRecord(bytes: number, seal: StoredBytes | undefined): Promise<void> {
    const outcome = await this.#context.uploads.extend(this.record.id, bytes, seal);
    if (outcome === 'no-room') throw await this.#quotaExceeded(bytes - this.#reserved);
    if (outcome === 'ended') throw unavailable('database', new Error('the upload was ended by somebody else'));
  }

  #renewLease(): void {
    const { uploads, onError } = this.#context;
    if (!this.begun || performance.now() - this.#leaseRenewedAt < leaseRenewalOf(this.#context) / 2) return;
    this.#leaseRenewedAt = performance.now();
    uploads.renew(this.record.id).catch((error) => onError('the lease of an upload could not be renewed', error));
  }

  #quotaExceeded(bytes: number): Promise<Problem> {
    return quotaExceeded(this.#context.quotas, this.#arrival.ownerId, bytes);
  }

  #stored() {
    const { validated } = this.#validation;
    if (!validated) throw new Error('the type has not been validated');
    const { mediaType, policy } = validated;
    const { assetType, cacheControl } = policy;
    return { size: this.#writer.length, sha256: this.#sha256, mediaType, assetType, cacheControl };
  }
}
