/** One request of a resumable upload, from taking the upload over to what it has brought into safety. */
import { createHash, type Hash, randomUUID } from 'node:crypto';
import { sentSize } from '../assets/asset.ts';
import type { ProcessingRecord } from '../database/tables/processing-record.ts';
import { Problem } from '../problems.ts';
import { quotaExceeded } from '../quotas/quota-exceeded.ts';

import { ObjectStoreUnavailable, type UploadedPart } from '../storage/object-store.ts';
import { PartWriter } from '../storage/part-writer.ts';
import { isWhole } from '../storage/whole-object.ts';

import {
  FileValidation,
  limitFor,
  policyNamed,
  refuseBeyond,
  type ValidatedType,
} from '../validation/file-validation.ts';
import { HEAD_SIZE } from '../validation/media-types.ts';
import type { Append, UploadProgress } from './append.ts';
import { leaseOf, leaseRenewalOf, lookAgainAt, meteredBody, partsInFlightOf, type UploadContext } from './context.ts';
import { inSlices } from './in-slices.ts';
import { endIfLost, mayBeLost, partsLost } from './lost-parts.ts';
import { objectAttributes } from './new-upload.ts';
import type { LastRow, Progress, UploadSession } from './session-repository.ts';
import { policiesOf, requirePlace, settleSession, uploadNotFound } from './sessions.ts';
import { ENOUGH } from './short-requests.ts';
import { seeWhetherClean } from './strip-arrival.ts';
import { Interrupted, offsetMismatch, Superseded } from './takeover.ts';

/** Bytes of a row of the tail at most; one is written and read at once. */
const MAX_ROW = 1024 * 1024;
/** Bytes up to which few bytes join the row before: less than what Postgres would keep out of line (TOAST). */
const SMALL_ROW = 1500;

export class AppendRequest {
  readonly #context: UploadContext;
  readonly #session: UploadSession;
  readonly #request: Append;
  readonly #superseded: AbortController;
  /** Ends the reading: the client has gone, the service stops, or another request has taken over. */
  readonly #signal: AbortSignal;
  readonly #holder = randomUUID();
  #expiresAt: Date;
  readonly #writer: PartWriter;
  /** Of the body of this request, where a checksum of it was sent. */
  readonly #body: Hash | undefined;
  /** With a checksum nothing counts before all of it is verified. */
  readonly #unverified: UploadedPart[] = [];
  /** From here on another request may take the upload away; before, it is not ours. */
  #isTaken = false;
  /** Bytes that are written down, by this request or earlier ones. */
  #kept: number;
  #lastRow: LastRow | undefined;
  /** Nothing that this request brings fills a part or ends the file: it needs none of the bytes before. */
  readonly #endsWithinPart: boolean;
  /** No byte was in a part when this request came: it sees all of them. */
  readonly #seesAll: boolean;
  /** Of all bytes, where they are all seen. */
  readonly #whole: Hash | undefined;
  readonly #validation: FileValidation;
  /** Steps that need not be done. */
  #ended: ProcessingRecord = {};

  constructor(context: UploadContext, session: UploadSession, request: Append, superseded: AbortController) {
    const { config, store, buffers } = context;
    const { position, inParts, partSize, size } = session;
    const { length } = request;
    if (partSize > buffers.budget)
      throw new Problem('upload-expired', {
        detail: 'The parts of this upload are larger than the memory that the service has now. Begin a new one.',
      });
    this.#context = context;
    this.#session = session;
    this.#request = request;
    this.#superseded = superseded;
    this.#signal = AbortSignal.any([request.signal, superseded.signal]);
    this.#expiresAt = new Date(Date.now() + config.RESUMABLE_EXPIRY);
    this.#validation = new FileValidation(policiesOf(context, session), session);
    this.#kept = position;
    const end = length === undefined ? Number.POSITIVE_INFINITY : position + length;
    this.#endsWithinPart = end <= inParts + partSize && (size === undefined || end < size);
    this.#seesAll = inParts === 0;
    if (this.#seesAll && !this.#endsWithinPart) this.#whole = createHash('sha256');
    if (request.checksum) this.#body = createHash(request.checksum.algorithm);
    this.#writer = new PartWriter({
      store,
      buffers: buffers.of(request.actor.callerId),
      key: session.objectKey,
      partSize,
      partsInFlight: partsInFlightOf(context),
      // What a client that breaks off has sent is kept, so its parts go on.
      signal: superseded.signal,
      attributes: () => this.#attributes(),
      beforeSending: (bytes) => this.#reserve(bytes),
      onBegun: (uploadId) => this.#noteBegun(uploadId),
      // The session tells with which one the upload goes on: it may be one that a later request begins.
      onDoubt: () => lookAgainAt(context, session),
      onPart: (part, end) => this.#advance(part, end),
    });
  }

  async run(): Promise<UploadProgress> {
    const watch = setInterval(() => this.#watch(), leaseRenewalOf(this.#context));
    try {
      await this.#open();
      await this.#take();
      return await this.#bring();
    } catch (error) {
      if (error instanceof Superseded || this.#signal.reason instanceof Superseded) throw new Interrupted();
      throw error;
    } finally {
      clearInterval(watch);
      await this.#writer.close();
      await this.#release();
    }
  }

  async #bring(): Promise<UploadProgress> {
    try {
      await this.#receive();
      return await this.#finish();
    } catch (error) {
      if (!mayBeLost(error) || this.#signal.reason instanceof Superseded) throw error;
      return this.#withoutParts(error);
    }
  }

  /** Waits for memory: for a part, or for what comes, where that is less. */
  async #open(): Promise<void> {
    const { config, sessions } = this.#context;
    const { id, size, position, partSize, storeUploadId, inParts: bytes } = this.#session;
    const { length = 0 } = this.#request;
    const tail = { size: position - bytes, read: () => sessions.tail(id, { from: bytes, to: position }) };
    this.#writer.resume({ uploadId: storeUploadId, parts: Math.floor(bytes / partSize), bytes, tail });
    const withoutTail = this.#endsWithinPart;
    const atMost = withoutTail ? position + length : (size ?? Number.POSITIVE_INFINITY);
    await this.#writer.open(atMost, config.UPLOAD_WAIT, this.#signal, { withoutTail });
  }

  /** From here on nobody else writes. */
  async #take(): Promise<void> {
    const { size, position } = this.#session;
    const taken = await this.#context.sessions.take(this.#session, this.#holder, {
      // An upload that looks complete would be taken for an asset; so a length that ends it is not written down before.
      size: size !== undefined && size > position ? size : undefined,
      lease: leaseOf(this.#context),
      expiresAt: this.#expiresAt,
    });
    if (!taken) throw offsetMismatch(await this.#offsetNow());
    this.#isTaken = true;
    this.#expiresAt = taken.expiresAt;
    this.#lastRow = taken.lastRow;
  }

  async #receive(): Promise<void> {
    const { source, checksum } = this.#request;
    try {
      for await (const chunk of meteredBody(this.#context, source, this.#signal, this.#request.actor.callerId)) {
        this.#refuseBeyond(this.#writer.length + chunk.length);
        this.#body?.update(chunk);
        if (this.#writer.wouldSend(chunk.length)) await this.#readTail();
        await this.#look(chunk);
        await this.#writer.write(chunk);
      }
    } catch (error) {
      if (this.#isBreak(error) && !checksum) await this.#keep().catch(() => {});
      throw error;
    }
    if (checksum && !this.#body?.digest().equals(checksum.digest))
      throw new Problem('checksum-mismatch', { detail: 'The bytes of this request are damaged. Send them again.' });
  }

  /** What came before a break is kept, unless somebody else is at it already, or it cannot be trusted. */
  #isBreak(error: unknown): boolean {
    if (error instanceof Superseded || this.#signal.reason instanceof Superseded) return false;
    if (error instanceof Interrupted) return true;
    return !(error instanceof Problem && error.status < 500 && error.status !== 408 && error.status !== 400);
  }

  /** A part is about to be made of what earlier requests have left: so it is read, and seen with what came since. */
  async #readTail(): Promise<void> {
    if (!this.#writer.hasUnreadTail) return;
    await this.#writer.readTail();
    if (!this.#seesAll) return;
    const { head } = this.#writer;
    await inSlices(head, (slice) => this.#whole?.update(slice));
    if (head.length >= HEAD_SIZE) await this.#validateHead(head);
  }

  /** Until the type is validated, the first bytes wait in the first buffer; from then on each chunk is checked as it comes. */
  async #look(chunk: Buffer): Promise<void> {
    if (!this.#seesAll || this.#writer.hasUnreadTail) return;
    this.#whole?.update(chunk);
    if (this.#validation.validated) this.#validation.update(chunk);
    else if (this.#writer.length + chunk.length >= HEAD_SIZE)
      await this.#validateHead(Buffer.concat([this.#writer.head, chunk]));
  }

  /** @param head all bytes so far */
  async #validateHead(head: Buffer): Promise<void> {
    const { policy } = await this.#validation.begin(head);
    const { bound } = policiesOf(this.#context, this.#session);
    refuseBeyond(policy.maxBytes, this.#session.size ?? head.length, bound);
    await inSlices(head, (slice) => this.#validation.update(slice));
  }

  /** All bytes of this request are here. */
  async #finish(): Promise<UploadProgress> {
    const { id, size } = this.#session;
    if (size === undefined || this.#writer.length < size) {
      await this.#keep();
      return {
        id,
        offset: this.#writer.length,
        ...(size !== undefined && { size }),
        expiresAt: this.#expiresAt,
      };
    }
    await this.#readTail();
    if (this.#whole && !this.#validation.validated) await this.#validateHead(this.#writer.head);
    if (this.#whole) this.#validation.end();
    if (this.#whole && this.#writer.isInMemory)
      this.#ended = await seeWhetherClean(this.#writer.head, this.#validatedType());
    const sha256 = this.#whole?.digest();
    await requirePlace(this.#context, this.#session);
    await this.#writer.finish(sha256, (own) => this.#allParts(own));
    return this.#settle(size, sha256);
  }

  /**
   * The store has no such upload any more, or other parts. The process that completed it may have died before that was
   * written down. Or they are lost: then the upload ends, since nobody can go on with it.
   */
  async #withoutParts(error: unknown): Promise<UploadProgress> {
    const { objectKey, size } = this.#session;
    await requirePlace(this.#context, this.#session);
    if (size !== undefined && (await isWhole(this.#context.store, objectKey, size)))
      return this.#settle(size, undefined);
    if (await endIfLost(this.#context, this.#session, this.#holder, this.#request.actor)) throw partsLost();
    throw new ObjectStoreUnavailable('the object was not made', { cause: error });
  }

  /** Those of earlier requests, as they were acknowledged, and the own ones. */
  async #allParts(own: UploadedPart[]): Promise<UploadedPart[]> {
    const { sessions } = this.#context;
    const { id, size, partSize } = this.#session;
    const numbers = new Set(own.map(({ partNumber }) => partNumber));
    const earlier = (await sessions.parts(id)).filter(({ partNumber }) => !numbers.has(partNumber));
    const parts = [...earlier, ...own].sort((a, b) => a.partNumber - b.partNumber);
    const total = parts.reduce((sum, part) => sum + part.size, 0);
    if (total !== size || parts.length !== Math.ceil(size / partSize))
      throw new Error('the parts of a resumable upload are not the file');
    if (!(await sessions.isHeldBy(id, this.#holder))) throw new Superseded();
    return parts;
  }

  async #settle(size: number, sha256: Buffer | undefined): Promise<UploadProgress> {
    const { id } = this.#session;
    const { mediaType, policy } = this.#validatedType();
    const { assetType, cacheControl } = policy;
    const stored = { size, sha256, mediaType, assetType, cacheControl };
    const verified = sha256 !== undefined;
    const { sessions } = this.#context;
    const asset = await settleSession(this.#context, this.#session, stored, this.#request.actor, {
      verified,
      ended: this.#ended,
      // Whoever was overtaken while its bytes were stored makes no asset of them: somebody was told another offset.
      held: async (transaction) => {
        if (!(await sessions.finish(transaction, id, this.#holder))) throw new Superseded();
      },
    });
    if (!asset) throw uploadNotFound();
    this.#isTaken = false;
    return { id, offset: size, size, asset };
  }

  /** Writes down all that came: parts and tail. */
  async #keep(): Promise<void> {
    await this.#writer.flush();
    const { length, inParts } = this.#writer;
    await this.#reserve(length);
    let parts = this.#unverified;
    do {
      const begin = Math.max(this.#kept, inParts);
      const bytes = this.#writer.bytesFrom(begin).subarray(0, MAX_ROW);
      const position = begin + bytes.length;
      const tail = bytes.length > 0 ? { begin: this.#rowFor(begin, bytes.length, inParts), bytes } : undefined;
      const progress = { position, inParts, parts, tail, isLast: position === length };
      const isShort = length - this.#session.position < ENOUGH;
      await (isShort
        ? this.#context.shortTurns.run(this.#request.actor.callerId, () => this.#write(progress))
        : this.#write(progress));
      if (tail) this.#lastRow = { begin: tail.begin, length: position - tail.begin };
      parts = [];
    } while (this.#kept < length);
  }

  /** Few bytes join the last row, so that a tail has no more rows than small rows fit into a part. */
  #rowFor(begin: number, length: number, inParts: number): number {
    const last = this.#lastRow;
    const joins = last && last.begin >= inParts && last.begin + last.length === begin;
    return joins && last.length + length <= SMALL_ROW ? last.begin : begin;
  }

  async #advance(part: UploadedPart, end: number): Promise<void> {
    if (this.#request.checksum) this.#unverified.push(part);
    else await this.#write({ position: end, inParts: end, parts: [part], isLast: false });
  }

  async #write(progress: Progress): Promise<void> {
    if (!(await this.#context.sessions.advance(this.#session.id, this.#holder, progress))) throw new Superseded();
    this.#kept = progress.position;
    if (progress.isLast) this.#isTaken = false;
  }

  /** Nobody has to wait for this request any more. */
  async #release(): Promise<void> {
    if (!this.#isTaken) return;
    this.#isTaken = false;
    const { sessions, onError } = this.#context;
    await sessions
      .release(this.#session.id, this.#holder)
      .catch((error) => onError('a resumable upload still looks as if a request held it', error));
  }

  /** Room in the quota, where the size was left open. */
  async #reserve(total: number): Promise<void> {
    const { uploads, quotas } = this.#context;
    const { account, size, caller } = this.#session;
    if (size !== undefined) return;
    const outcome = await uploads.extend(this.#session, total);
    if (outcome === 'no-room') throw await quotaExceeded(quotas, account, total, caller);
    if (outcome === 'ended') throw uploadNotFound();
  }

  /** The store has begun the upload, whose type is known by then. */
  async #noteBegun(storeUploadId: string): Promise<void> {
    const { id, objectKey } = this.#session;
    const { sessions, store } = this.#context;
    const lookAgain = () => lookAgainAt(this.#context, this.#session);
    const { mediaType, policy } = this.#validatedType();
    let isNoted: boolean;
    try {
      isNoted = await sessions.noteValidated(id, this.#holder, { storeUploadId, mediaType, policy });
    } catch (error) {
      // It may be written down all the same; then the next request goes on with it.
      await lookAgain();
      throw error;
    }
    if (isNoted) return;
    await store.abortMultipartUpload(objectKey, storeUploadId, {}).catch(lookAgain);
    throw new Superseded();
  }

  #refuseBeyond(bytes: number): void {
    const { size, validated, partSize } = this.#session;
    if (size !== undefined && bytes > size)
      throw new Problem('too-large', { detail: `The file has ${size} bytes, and this is more.` });
    const policies = policiesOf(this.#context, this.#session);
    const policy = this.#validation.validated?.policy ?? (validated && policyNamed(policies, validated.policy));
    const limit = Math.min(
      policy?.maxBytes ?? limitFor(policies, this.#session),
      partSize * this.#context.store.maxParts,
    );
    refuseBeyond(limit, bytes, policies.bound);
  }

  /** Told by this request, or by the one that sent the first part. */
  #validatedType(): ValidatedType {
    const now = this.#validation.validated;
    if (now) return now;
    const { validated } = this.#session;
    if (!validated) throw new Error('the type of an upload with parts was not validated');
    const policy = policyNamed(policiesOf(this.#context, this.#session), validated.policy);
    return { mediaType: validated.mediaType, policy };
  }

  #attributes() {
    const { fileName, createdAt } = this.#session;
    const described = { name: fileName, createdAt };
    const { mediaType, policy } = this.#validatedType();
    const { cacheControl } = policy;
    const uploader = this.#context.objectKeys.nameOf(this.#request.actor.callerId);
    return objectAttributes(described, uploader, { mediaType, cacheControl }, undefined);
  }

  async #offsetNow(): Promise<number> {
    const { caller, id } = this.#session;
    const found = await this.#context.sessions.find('resumable', caller, id);
    if (!found) throw uploadNotFound();
    return 'asset' in found ? sentSize(found.asset) : found.session.position;
  }

  /** Another instance may have taken over while nothing is written. */
  #watch(): void {
    if (!this.#isTaken) return;
    this.#context.sessions.isHeldBy(this.#session.id, this.#holder).then(
      (isHeld) => {
        if (!isHeld) this.#superseded.abort(new Superseded());
      },
      (error) => this.#context.onError('it could not be seen who holds an upload', error),
    );
  }
}
