/**
 * Uploads of one request: a stream becomes an asset, or leaves nothing.
 *
 *   1. a place among the running uploads, and a first part buffer
 *   2. the bytes: counted, hashed, copied into part buffers; at 64 KiB (or the end) their type is validated
 *   3. quota is reserved before anything is sent to the store; the record `uploading` is the witness of what is sent
 *   4. size, type, structure and digest are validated before the object is made whole; what fits one buffer loses its
 *      metadata, where its policy says so; and the record is sealed with what is stored
 *   5. one statement turns the record into a `ready` asset and the reservation into use
 *
 * A form may describe a file after its bytes. Then what it says counts from step 4 on; a file among several is held after
 * step 4, not sealed, until the form has ended, so that a form is taken as a whole or not at all.
 *
 * A file that fits one buffer and is refused has touched neither database nor store. When a larger size is known from the
 * beginning, the quota is asked before the first byte is read.
 *
 * Until the last byte is here, a client that goes away ends the upload. From then on it is finished whatever the client
 * does. What a failure leaves is undone only where the outcome is known; see `#undo`.
 */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Asset } from '../assets/asset.ts';
import { asProblem } from '../http/error-handler.ts';
import { type ClientGone, Problem, unavailable } from '../problems.ts';
import { nextStep, plan } from '../processing/pipeline.ts';
import { quotaExceeded } from '../quotas/quota-exceeded.ts';
import { OutcomeUnknown, PartWriter } from '../storage/part-writer.ts';
import {
  digestMismatch,
  emptyFile,
  FileValidation,
  limitFor,
  refuseBeyond,
  type ValidatedType,
} from '../validation/file-validation.ts';
import { HEAD_SIZE } from '../validation/media-types.ts';
import {
  contextOf,
  leaseRenewalOf,
  lookAgainAt,
  meteredBody,
  partsInFlightOf,
  throughProcess,
  type UploadContext,
} from './context.ts';
import { endUpload, recordRefusal } from './ending.ts';
import { scanBeforeStoring } from './inline-scan.ts';
import { incompleteBody } from './metered-source.ts';
import { type FileDescription, type NewFile, newUpload, objectAttributes } from './new-upload.ts';
import type { EndedUpload, InTransaction, LearnedOnTheWay, NewUpload, StoredBytes } from './repository.ts';
import { stripArrival } from './strip-arrival.ts';

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

/** A file whose bytes are in the store, and which is no asset before all that the client says of it is known. */
export interface HeldUpload {
  /** Makes it an asset. @throws Problem, when what is said does not allow it; then nothing is left of it */
  settle(description: FileDescription): Promise<Asset>;
  /** Leaves nothing of it. Never throws. */
  end(problem: Problem | ClientGone): Promise<void>;
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
    const upload = await this.#begin(arrival, false);
    return this.#ending(upload, arrival, async () => {
      await upload.store();
      return this.#settled(upload);
    });
  }

  /**
   * Takes the bytes of one file among several in. Its lease is renewed until it is settled or ended, one of which must follow.
   * @throws Problem; ClientGone
   */
  async hold(arrival: Arrival): Promise<HeldUpload> {
    const upload = await this.#begin(arrival, true);
    await this.#ending(upload, arrival, () => upload.store());
    return {
      settle: (description) =>
        this.#ending(upload, arrival, async () => {
          await upload.describe(description);
          return this.#settled(upload);
        }),
      end: (problem) => this.#end(upload, arrival, problem),
    };
  }

  async #settled(upload: SingleUpload): Promise<Asset> {
    const asset = await upload.settle();
    upload.release();
    this.#context.onOutcome('stored', asset.size);
    return asset;
  }

  /** When the work on an upload fails, the upload ends. */
  async #ending<Result>(upload: SingleUpload, arrival: Arrival, work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      const problem = asProblem(error);
      await this.#end(upload, arrival, problem);
      throw problem;
    }
  }

  async #end(upload: SingleUpload, arrival: Arrival, problem: Problem | ClientGone): Promise<void> {
    upload.release();
    const outcome = problem instanceof Problem ? (problem.status < 500 ? 'refused' : 'failed') : 'aborted';
    this.#context.onOutcome(outcome, upload.received);
    await this.#undo(upload, arrival, problem, outcome === 'refused');
  }

  /** Validates what is known before any byte is read. */
  async #begin(arrival: Arrival, isHeld: boolean): Promise<SingleUpload> {
    try {
      return new SingleUpload(arrival, contextOf(this.#context, arrival.caller), isHeld);
    } catch (error) {
      this.#context.onOutcome('refused', 0);
      if (error instanceof Problem)
        await recordRefusal(this.#context, arrival.actor, arrival.caller.id, error, arrival.fileName);
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
    if (upload.mayBeAsset || (!upload.isHeld && problem instanceof Error && problem.cause instanceof OutcomeUnknown)) {
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
      if ((await upload.abandon()) === 'unsure') await lookAgainAt(this.#context, upload.record);
      return;
    }
    if (!upload.begun) {
      if (refused && problem instanceof Problem)
        await recordRefusal(this.#context, actor, arrival.caller.id, problem, arrival.fileName);
      return;
    }
    const outcome: EndedUpload = { action: refused ? 'upload.refused' : 'upload.aborted', reason, actor };
    const end = () => (touchedStore ? this.#endRecord(upload, outcome) : uploads.remove(upload.record.id, outcome));
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
    else await this.#endRecord(upload, outcome);
  }

  async #endRecord(upload: SingleUpload, outcome: EndedUpload): Promise<void> {
    const { record, isInDoubt } = upload;
    await endUpload(this.#context, record, { ...outcome, inDoubt: isInDoubt }, () => upload.abandon());
  }
}

/** One file from its arrival to its end. */
class SingleUpload {
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
  /** Of what was sent, and of what is stored. */
  #sent: { size: number; sha256: Buffer } | undefined;
  #sha256: Buffer | undefined;
  /** By steps of processing that were done while it came in. */
  #learned: LearnedOnTheWay = {};
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
    if (size !== undefined) refuseBeyond(this.#limit, size);
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
  async describe({ projectId, assetType, metadata, sha256 }: FileDescription): Promise<void> {
    if (this.#arrival.assetType === undefined) this.#validation.choose(assetType, this.received);
    if (sha256 && this.#sent && !sha256.equals(this.#sent.sha256)) throw digestMismatch(this.#sent.sha256);
    if (projectId === this.record.projectId && isDeepStrictEqual(metadata, this.record.metadata)) return;
    if (projectId !== this.record.projectId) {
      const place = await this.#context.places.of(this.#arrival.caller, projectId);
      this.record = { ...this.record, place, ...(projectId !== undefined && { projectId }) };
    }
    this.record = { ...this.record, metadata };
    if (!this.begun) return;
    const outcome = await this.#context.uploads.describe(this.record);
    if (outcome === 'no-room') throw await this.#quotaExceeded(this.#reserved);
    if (outcome === 'ended') throw this.#disown();
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

  async settleAgain(): Promise<void> {
    if (this.#sha256) await this.settle();
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
    await this.#validation.begin(bytes);
    this.#limit = throughProcess(this.#context, this.#validation.maxBytes);
    refuseBeyond(this.#limit, this.#arrival.size ?? bytes.length);
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
    const facts = await this.#beginFacts();
    await this.#writer.finish(this.#sha256);
    this.stored = true;
    const found = await facts?.result;
    if (found) this.#learned = { ...this.#learned, ...found, ended: { ...this.#learned.ended, ...found.ended } };
  }

  /** Facts are read while the file is stored. Of what was not scanned, though it must be, none are. */
  async #beginFacts() {
    const { rules, readFacts } = this.#context;
    const { validated } = this.#validation;
    if (!readFacts || !validated || !this.#writer.isInMemory) return undefined;
    const { mediaType, policy } = validated;
    const file = { mediaType, assetType: policy.assetType, size: this.#writer.length };
    const before = nextStep(plan(rules, file, this.#learned.ended ?? {}, false));
    if (before !== 'facts') return undefined;
    const { signal, caller } = this.#arrival;
    const ownerId = caller.id;
    const { objectKey } = this.record;
    return readFacts({ objectKey, mediaType, ownerId, bytes: this.#writer.head, signal });
  }

  async #strip(): Promise<void> {
    const assetTypeMayFollow = this.isHeld && this.#arrival.assetType === undefined;
    const stripped = await stripArrival(this.#writer, this.#context.policies, this.#validated, assetTypeMayFollow);
    if (stripped?.isChanged) this.#sha256 = createHash('sha256').update(this.#writer.head).digest();
    this.#learned = { ...this.#learned, ended: { ...this.#learned.ended, ...stripped?.ended } };
  }

  /** Step 5. */
  async settle(): Promise<Asset> {
    const { actor, inTransaction } = this.#arrival;
    this.#isSettling = true;
    const asset = await this.#context.uploads.settle(
      this.record.id,
      this.#stored(),
      actor,
      inTransaction?.settled,
      this.#learned,
    );
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
    return quotaExceeded(this.#context.quotas, this.record.place.account, bytes);
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
