/**
 * Intake: the one way in. Whatever door the bytes came through, here a stream becomes an asset, or leaves nothing.
 *
 *   1. a place among the running uploads, and a first part buffer
 *   2. the bytes: counted, hashed, copied into part buffers; at 64 KiB (or the end) their type is judged
 *   3. quota is reserved before anything is sent to the store; the record `uploading` is the witness of what is sent
 *   4. size, type, structure and digest are judged before the object is made whole, and the record is sealed with them
 *   5. one statement turns the record into a `ready` asset and the reservation into use
 *
 * A file that fits one buffer and is refused has touched neither database nor store. When a larger size is known from the
 * beginning, the quota is asked before the first byte is read.
 *
 * Until the last byte is here, a client that goes away ends the upload. From then on it is finished whatever the client
 * does. What a failure leaves is undone only where the outcome is known; see `#undo`.
 */
import { createHash } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import type { Asset } from '../assets/asset.ts';
import { contentDisposition } from '../assets/content-disposition.ts';
import { dispositionOf } from '../assets/serving.ts';
import type { BackgroundTasks } from '../background-tasks.ts';
import { type Actor, recordEvent } from '../database/audit.ts';
import { type Database, isDatabaseUnavailable } from '../database/client.ts';
import type { Admission } from '../http/admission.ts';
import { ClientGone, Problem, RETRY_SOON, unavailable } from '../problems.ts';
import type { QuotasRepository } from '../quotas/repository.ts';
import { objectKey } from '../storage/object-key.ts';
import { MAX_PARTS, type ObjectAttributes, type ObjectStore, ObjectStoreUnavailable } from '../storage/object-store.ts';
import { ObjectWriter, OutcomeUnknown } from '../storage/object-writer.ts';
import { NoBufferFree, type PartBuffers } from '../storage/part-buffers.ts';
import { checkFileName } from '../validation/file-name.ts';
import { type StructureCheck, structureCheck } from '../validation/structure.ts';
import type { UploadPolicies, UploadPolicy } from '../validation/upload-policies.ts';
import {
  damaged,
  digestMismatch,
  emptyFile,
  HEAD_SIZE,
  judgeType,
  limitFor,
  policyNamed,
  quotaExceeded,
  refuseBeyond,
} from '../validation/validate.ts';
import { metered } from './metered-source.ts';
import type { Also, EndedUpload, StoredBytes, UploadsRepository } from './repository.ts';

/** While uploads wait for memory, those that hold it must move at least this fast. Bytes per second. */
const CONTENDED_RATE = 64 * 1024;

/** One file on its way in. */
export interface Arrival {
  actor: Actor;
  ownerId: string;
  fileName: string;
  /** As the client named it; absent when it said nothing. */
  declaredType?: string;
  assetType?: string;
  projectId?: string;
  metadata: Record<string, string>;
  /** Bytes, exactly, when the client said so. */
  size?: number;
  /** Bytes at most, when only that is known. */
  atMost?: number;
  /** Declared digest of the bytes. */
  sha256?: Buffer;
  source: AsyncIterable<Buffer>;
  /** What belongs into the transactions that begin and settle the upload: the answer to a request that may be repeated. */
  also?: { begun: Also<string>; settled: Also<Asset> };
  /** Aborted when the client has gone or the service stops. */
  signal: AbortSignal;
}

export interface IntakeOptions {
  database: Database;
  uploads: UploadsRepository;
  quotas: QuotasRepository;
  store: ObjectStore;
  buffers: PartBuffers;
  admission: Admission;
  policies: UploadPolicies;
  keyPrefix: string;
  partsInFlight: number;
  /** Milliseconds to wait for a place and a buffer. */
  wait: number;
  /** Milliseconds between signs of life of an upload, far less than its lease. */
  leaseRenewal: number;
  /** Bytes per second, and the milliseconds over which they are measured. */
  minimumRate: number;
  rateWindow: number;
  /** Told of everything that must be looked at again but does not concern the client. */
  onError: (message: string, error: unknown) => void;
  /** Undoes what cannot be undone at once. */
  tasks: BackgroundTasks;
  onOutcome?: (outcome: 'stored' | 'refused' | 'aborted' | 'failed', bytes: number) => void;
  now?: () => Date;
}

export class Intake {
  readonly #options: IntakeOptions;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  get policies(): UploadPolicies {
    return this.#options.policies;
  }

  /** Bytes a file may have, by what the client says of it. @throws Problem when no policy would allow it */
  limitFor(assetType: string | undefined, declaredType: string | undefined): number {
    return atMost(this.#options, limitFor(this.policies, assetType, declaredType));
  }

  /**
   * Takes a file in.
   * @returns the `ready` asset, after the record and the object are safe
   * @throws Problem; ClientGone
   */
  async receive(arrival: Arrival): Promise<Asset> {
    const upload = await this.#begin(arrival);
    try {
      const asset = await upload.run();
      this.#options.onOutcome?.('stored', asset.size);
      return asset;
    } catch (error) {
      const problem = asProblem(error);
      const outcome = problem instanceof Problem ? (problem.status < 500 ? 'refused' : 'failed') : 'aborted';
      this.#options.onOutcome?.(outcome, upload.received);
      await this.#undo(upload, arrival, problem, outcome === 'refused');
      throw problem;
    }
  }

  /** Judges what is known before any byte is read. */
  async #begin(arrival: Arrival): Promise<Upload> {
    try {
      return new Upload(arrival, this.#options);
    } catch (error) {
      this.#options.onOutcome?.('refused', 0);
      if (error instanceof Problem) await this.recordRefusal(arrival.actor, arrival.ownerId, error, arrival.fileName);
      throw error;
    }
  }

  /** Records that a door refused a file before it came to `receive`. Never throws. */
  async recordRefusal(actor: Actor, ownerId: string, problem: Problem, name?: string): Promise<void> {
    try {
      await recordEvent(this.#options.database, {
        action: 'upload.refused',
        actor,
        ownerId,
        detail: {
          reason: problem.type,
          ...(name?.isWellFormed() && !name.includes('\0') && { name: name.slice(0, 255) }),
        },
      });
    } catch (error) {
      this.#options.onError('a refused upload could not be written to the audit trail', error);
    }
  }

  /**
   * Leaves nothing behind, as far as it is known what there is. An outcome nobody knows is left as it is: the record
   * `uploading` names the key, and its lease ends.
   */
  async #undo(upload: Upload, arrival: Arrival, problem: unknown, refused: boolean): Promise<void> {
    const reason = problem instanceof Problem ? problem.type : 'client-gone';
    if (upload.stored || (problem instanceof Error && problem.cause instanceof OutcomeUnknown)) {
      upload.release();
      this.#options.onError('the outcome of an upload is unknown; its record is kept', problem);
      this.#options.tasks.persist(
        () => this.#resolve(upload, { action: 'upload.aborted', reason, actor: arrival.actor }),
        'ending an upload',
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
        await this.recordRefusal(arrival.actor, arrival.ownerId, problem, arrival.fileName);
      return;
    }
    const { uploads } = this.#options;
    const outcome = {
      action: refused ? ('upload.refused' as const) : ('upload.aborted' as const),
      reason,
      actor: arrival.actor,
    };
    const end = () => (touchedStore ? this.#markForDeletion(upload, outcome) : uploads.remove(upload.id, outcome));
    try {
      await end();
    } catch (error) {
      this.#options.onError('an upload could not be undone at once; trying on', error);
      this.#options.tasks.persist(end, 'ending an upload');
    }
  }

  /** Looks whether the object was made after all, and finishes or ends the upload accordingly. */
  async #resolve(upload: Upload, outcome: EndedUpload): Promise<void> {
    if (upload.stored || (await upload.isWhole())) await upload.settleAgain();
    else await this.#markForDeletion(upload, outcome);
  }

  /**
   * First the record, then the bytes: until the record says `deleting`, the reaper may still finish the upload. A job
   * stands behind what is done here at once.
   */
  async #markForDeletion(upload: Upload, outcome: EndedUpload): Promise<void> {
    const { uploads } = this.#options;
    if ((await uploads.markForDeletion(upload.id, outcome)) && (await upload.abandon()) === 'nothing-left')
      await uploads.forget(upload.id);
  }
}

/** One file from its arrival to its end. */
class Upload {
  readonly id: string;
  readonly #arrival: Arrival;
  readonly #options: IntakeOptions;
  readonly #writer: ObjectWriter;
  readonly #key: string;
  readonly #createdAt: Date;
  readonly #hash = createHash('sha256');
  #structure: StructureCheck | undefined;
  #mediaType: string | undefined;
  #policy: UploadPolicy | undefined;
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

  constructor(arrival: Arrival, options: IntakeOptions) {
    const name = checkFileName(arrival.fileName);
    if (!name.ok)
      throw new Problem('invalid-name', {
        detail: name.detail,
        errors: [{ parameter: 'fileName', detail: name.detail }],
      });
    this.#arrival = { ...arrival, fileName: name.name };
    this.#options = options;
    this.#createdAt = (options.now ?? (() => new Date()))();
    this.id = uuidv7({ msecs: this.#createdAt.getTime() });
    this.#policy = arrival.assetType === undefined ? undefined : policyNamed(options.policies, arrival.assetType);
    this.#limit = atMost(options, limitFor(options.policies, arrival.assetType, arrival.declaredType));
    this.#key = objectKey({
      prefix: options.keyPrefix,
      ownerId: arrival.ownerId,
      assetId: this.id,
      ...(arrival.projectId !== undefined && { projectId: arrival.projectId }),
    });
    this.#writer = new ObjectWriter({
      store: options.store,
      buffers: options.buffers,
      key: this.#key,
      partsInFlight: options.partsInFlight,
      attributes: () => this.#attributes(),
      beforeSending: (bytes) => this.#reserve(bytes),
    });
  }

  get received(): number {
    return this.#writer.length;
  }

  async run(): Promise<Asset> {
    const { admission } = this.#options;
    const { actor, signal, size } = this.#arrival;
    if (size === 0) throw emptyFile();
    if (size !== undefined) this.#refuseBeyondLimit(size);
    const waitingSince = performance.now();
    const leave = await admission.enter(actor.callerId, signal);
    const renewal = setInterval(() => this.#renewLease(), this.#options.leaseRenewal / 2);
    try {
      await this.#openWriter(waitingSince);
      // A file that fits one buffer is judged before anything is written down.
      if (size !== undefined && size > this.#options.buffers.partSize) await this.#reserve(size);
      await this.#takeIn();
      return await this.#settle(await this.#finish());
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

  release(): void {
    this.#writer.close();
  }

  isWhole(): Promise<boolean> {
    return this.#writer.isWhole();
  }

  #facts(sha256: Buffer): StoredBytes {
    const { policy, mediaType } = this.#judged();
    const { assetType, cacheControl } = policy;
    return { size: this.#writer.length, sha256, mediaType, assetType, cacheControl };
  }

  async settleAgain(): Promise<void> {
    if (this.#sha256) await this.#settle(this.#sha256);
  }

  async #openWriter(waitingSince: number): Promise<void> {
    const { wait } = this.#options;
    const { size, atMost, signal } = this.#arrival;
    const bytes = Math.min(size ?? atMost ?? Number.POSITIVE_INFINITY, this.#limit + 1);
    try {
      await this.#writer.open(bytes, Math.max(0, wait - (performance.now() - waitingSince)), signal);
    } catch (error) {
      if (!(error instanceof NoBufferFree)) throw error;
      throw new Problem('overloaded', {
        detail: 'The memory for uploads is taken. Try again later.',
        retryAfter: RETRY_SOON,
        cause: error,
      });
    }
  }

  /** Step 2: every byte, once. */
  async #takeIn(): Promise<void> {
    const { buffers, minimumRate, rateWindow } = this.#options;
    const { source, signal, size } = this.#arrival;
    const bytes = metered(source, {
      minimumRate: () => (minimumRate > 0 && buffers.contended ? Math.max(minimumRate, CONTENDED_RATE) : minimumRate),
      window: rateWindow,
      signal,
    });
    for await (const chunk of bytes) {
      this.#refuseBeyondLimit(this.#writer.length + chunk.length);
      this.#hash.update(chunk);
      // Until the type is judged, the first bytes wait in the first buffer; from then on each chunk is checked as it comes.
      if (this.#structure) this.#checkStructure(chunk);
      else if (this.#writer.length + chunk.length >= HEAD_SIZE) await this.#judgeType(chunk);
      await this.#writer.write(chunk);
    }
    if (size !== undefined && this.#writer.length !== size) throw incompleteBody();
  }

  /** Step 4, and the object is made whole. */
  async #finish(): Promise<Buffer> {
    if (this.#writer.length === 0) throw emptyFile();
    if (!this.#structure) await this.#judgeType(Buffer.alloc(0));
    const fault = this.#structure?.end();
    if (fault !== undefined) throw damaged(fault);
    const sha256 = this.#hash.digest();
    const declared = this.#arrival.sha256;
    if (declared && !declared.equals(sha256)) throw digestMismatch(sha256);
    this.#sha256 = sha256;
    await this.#writer.finish(sha256);
    this.stored = true;
    return sha256;
  }

  /** Step 5. */
  async #settle(sha256: Buffer): Promise<Asset> {
    const { uploads } = this.#options;
    const { actor, also } = this.#arrival;
    const asset = await uploads.settle(this.id, this.#facts(sha256), actor, also?.settled);
    if (asset) return asset;
    // Somebody ended the upload meanwhile, so nobody refers to the object any more.
    this.stored = false;
    this.disowned = true;
    throw unavailable('database', new Error('the upload was ended while its bytes were stored'));
  }

  #refuseBeyondLimit(bytes: number): void {
    refuseBeyond(this.#limit, bytes);
  }

  async #judgeType(next: Buffer): Promise<void> {
    const { fileName, declaredType } = this.#arrival;
    const head = next.length === 0 ? this.#writer.head : Buffer.concat([this.#writer.head, next]);
    const claims = { fileName, declaredType, named: this.#policy };
    const { mediaType, policy } = await judgeType(this.#options.policies, claims, head);
    this.#mediaType = mediaType;
    this.#policy = policy;
    this.#limit = atMost(this.#options, policy.maxBytes);
    this.#refuseBeyondLimit(this.#arrival.size ?? head.length);
    this.#structure = structureCheck(mediaType);
    this.#checkStructure(head);
  }

  #checkStructure(chunk: Buffer): void {
    this.#structure?.update(chunk);
    const fault = this.#structure?.fault();
    if (fault !== undefined) throw damaged(fault);
  }

  /**
   * Step 3: room for `bytes` in the quota, before they are sent to the store. Also keeps the lease alive. Once the digest
   * is known, all is: the upload is sealed.
   */
  async #reserve(bytes: number): Promise<void> {
    const { uploads } = this.#options;
    const facts = this.#sha256 && this.#facts(this.#sha256);
    if (!this.begun) {
      const { ownerId, projectId, fileName, metadata } = this.#arrival;
      this.begun = true;
      const upload = {
        id: this.id,
        ownerId,
        name: fileName,
        objectKey: this.#key,
        metadata,
        createdAt: this.#createdAt,
        ...(projectId !== undefined && { projectId }),
      };
      if (!(await uploads.begin(upload, bytes, { stored: facts, also: this.#arrival.also?.begun }))) {
        this.begun = false;
        throw await this.#quotaExceeded(bytes);
      }
    } else if (bytes > this.#reserved || facts) {
      const outcome = await uploads.extend(this.id, bytes, facts);
      if (outcome === 'no-room') throw await this.#quotaExceeded(bytes - this.#reserved);
      if (outcome === 'ended') throw unavailable('database', new Error('the upload was ended by somebody else'));
    } else return;
    this.#reserved = bytes;
    this.#leaseRenewedAt = performance.now();
  }

  #renewLease(): void {
    if (!this.begun || performance.now() - this.#leaseRenewedAt < this.#options.leaseRenewal / 2) return;
    this.#leaseRenewedAt = performance.now();
    this.#options.uploads
      .renew(this.id)
      .catch((error) => this.#options.onError('the lease of an upload could not be renewed', error));
  }

  #quotaExceeded(bytes: number): Promise<Problem> {
    return quotaExceeded(this.#options.quotas, this.#arrival.ownerId, bytes);
  }

  #judged(): { policy: UploadPolicy; mediaType: string } {
    if (!this.#policy || this.#mediaType === undefined) throw new Error('the type has not been judged');
    return { policy: this.#policy, mediaType: this.#mediaType };
  }

  #attributes(): ObjectAttributes {
    const { policy, mediaType } = this.#judged();
    const sha256 = this.#sha256 ?? this.#arrival.sha256;
    return {
      contentType: mediaType,
      contentDisposition: contentDisposition(dispositionOf(mediaType), this.#arrival.fileName),
      cacheControl: policy.cacheControl,
      metadata: {
        'uploaded-by': encodeURIComponent(this.#arrival.actor.callerId),
        'uploaded-at': this.#createdAt.toISOString(),
        ...(sha256 && { sha256: sha256.toString('hex') }),
      },
    };
  }
}

/** What comes through this process comes in parts of the size of its buffers. */
function atMost({ buffers }: IntakeOptions, bytes: number): number {
  return Math.min(bytes, buffers.partSize * MAX_PARTS);
}

export function incompleteBody(): Problem {
  return new Problem('incomplete-body', { detail: 'The body ended before the file did. Send it again.' });
}

/** What went wrong, as the client is told: faults of the database and the object store are a 503. */
function asProblem(error: unknown): unknown {
  if (error instanceof Problem || error instanceof ClientGone) return error;
  if (error instanceof ObjectStoreUnavailable) return unavailable('object store', error);
  if (isDatabaseUnavailable(error)) return unavailable('database', error);
  return new Problem('internal-error', { cause: error });
}
