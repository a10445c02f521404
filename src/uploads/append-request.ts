/** One request of a resumable upload, from taking the upload over to what it has brought into safety. */
import { createHash, type Hash, randomUUID } from 'node:crypto';
import type { Asset } from '../assets/asset.ts';
import type { Actor } from '../database/audit.ts';
import { Problem } from '../problems.ts';
import { quotaExceeded } from '../quotas/quota-exceeded.ts';
import { NoSuchUpload, type UploadedPart } from '../storage/object-store.ts';
import { PartWriter, requireWhole } from '../storage/part-writer.ts';
import { FileValidation, limitFor, policyNamed, refuseBeyond } from '../validation/file-validation.ts';
import { HEAD_SIZE } from '../validation/media-types.ts';
import {
  leaseOf,
  leaseRenewalOf,
  meteredBody,
  partsInFlightOf,
  throughProcess,
  type UploadContext,
} from './context.ts';
import { objectAttributes } from './new-upload.ts';
import type { UploadSession } from './session-repository.ts';
import { settleSession, uploadNotFound } from './sessions.ts';

/** A digest of the body of one request. */
export interface BodyChecksum {
  algorithm: 'sha1' | 'sha256';
  digest: Buffer;
}

/** Bytes that follow those that are safe. */
export interface Append {
  actor: Actor;
  /** Bytes that are safe, as the client knows it. */
  offset: number;
  checksum?: BodyChecksum;
  source: AsyncIterable<Buffer>;
  signal: AbortSignal;
}

/** How far the upload is after a request. */
export type UploadProgress =
  | { id: string; offset: number; size?: number; expiresAt: Date; asset?: undefined }
  | { id: string; offset: number; size: number; asset: Asset };

/** Another request has taken the upload over. */
export class Superseded extends Error {
  override name = 'Superseded';
}

export class AppendRequest {
  readonly #context: UploadContext;
  readonly #session: UploadSession;
  readonly #request: Append;
  readonly #superseded: AbortController;
  /** Ends the reading: the client has gone, the service stops, or another request has taken over. */
  readonly #signal: AbortSignal;
  readonly #holder = randomUUID();
  readonly #expiresAt: Date;
  readonly #writer: PartWriter;
  /** Of the body of this request, where a checksum of it was sent. */
  readonly #body: Hash | undefined;
  /** With a checksum nothing counts before all of it is verified. */
  readonly #unverified: UploadedPart[] = [];
  /** From here on another request may take the upload away; before, it is not ours. */
  #isTaken = false;
  /** Of all bytes, while this request has seen all that are in parts. */
  #whole: Hash | undefined;
  #validation: FileValidation;

  constructor(context: UploadContext, session: UploadSession, request: Append, superseded: AbortController) {
    const { config, policies, store, buffers } = context;
    this.#context = context;
    this.#session = session;
    this.#request = request;
    this.#superseded = superseded;
    this.#signal = AbortSignal.any([request.signal, superseded.signal]);
    this.#expiresAt = new Date(Date.now() + config.RESUMABLE_EXPIRY);
    this.#validation = new FileValidation(policies, session);
    if (request.checksum) this.#body = createHash(request.checksum.algorithm);
    if (session.partSize > buffers.partSize)
      throw new Problem('upload-expired', {
        detail: 'The parts of this upload are larger than the service takes now. Begin a new one.',
      });
    this.#writer = new PartWriter({
      store,
      buffers,
      key: session.objectKey,
      partSize: session.partSize,
      partsInFlight: partsInFlightOf(context),
      // What a client that breaks off has sent is kept, so its parts go on.
      signal: superseded.signal,
      attributes: () => this.#attributes(),
      beforeSending: (bytes) => this.#reserve(bytes),
      onBegun: (uploadId) => this.#noteBegun(uploadId),
      onPart: (part, end) => this.#advance(part, end),
    });
  }

  async run(): Promise<UploadProgress> {
    const { config } = this.#context;
    const { size } = this.#session;
    const watch = setInterval(() => this.#watch(), leaseRenewalOf(this.#context));
    try {
      await this.#writer.open(size ?? Number.POSITIVE_INFINITY, config.UPLOAD_WAIT, this.#signal);
      await this.#take();
      await this.#receive();
      return await this.#finish();
    } catch (error) {
      if (error instanceof Superseded || this.#signal.reason instanceof Superseded) throw takenOver();
      if (error instanceof NoSuchUpload) return await this.#afterCompletion();
      throw error;
    } finally {
      clearInterval(watch);
      await this.#writer.close();
    }
  }

  /** From here on nobody else writes; what earlier requests have left is taken up. */
  async #take(): Promise<void> {
    const { sessions } = this.#context;
    const { id, size, position, partSize, storeUploadId } = this.#session;
    const taken = await sessions.take(id, this.#holder, {
      position,
      // An upload that looks complete would be taken for an asset; so a length that ends it is not written down before.
      size: size !== undefined && size > position ? size : undefined,
      lease: leaseOf(this.#context),
      expiresAt: this.#expiresAt,
    });
    if (!taken) throw offsetMismatch(await this.#offsetNow());
    this.#isTaken = true;
    const { tail } = taken;
    const bytes = position - tail.length;
    this.#writer.resume({ uploadId: storeUploadId, parts: Math.floor(bytes / partSize), bytes, tail });
    if (bytes === 0) this.#whole = createHash('sha256').update(tail);
  }

  async #receive(): Promise<void> {
    const { source, checksum } = this.#request;
    try {
      for await (const chunk of meteredBody(this.#context, source, this.#signal)) {
        this.#refuseBeyond(this.#writer.length + chunk.length);
        this.#body?.update(chunk);
        if (this.#whole) await this.#look(this.#whole, chunk);
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
    return !(error instanceof Problem && error.status < 500 && error.status !== 408 && error.status !== 400);
  }

  /** Until the type is validated, the first bytes wait in the first buffer; from then on each chunk is checked as it comes. */
  async #look(hash: Hash, chunk: Buffer): Promise<void> {
    hash.update(chunk);
    if (this.#validation.validated) this.#validation.update(chunk);
    else if (this.#writer.length + chunk.length >= HEAD_SIZE) await this.#validateHead(chunk);
  }

  async #validateHead(next: Buffer): Promise<void> {
    const { head } = this.#writer;
    const bytes = next.length === 0 ? head : Buffer.concat([head, next]);
    const { policy } = await this.#validation.begin(bytes);
    refuseBeyond(policy.maxBytes, this.#session.size ?? bytes.length);
    this.#validation.update(bytes);
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
    if (this.#whole && !this.#validation.validated) await this.#validateHead(Buffer.alloc(0));
    if (this.#whole) this.#validation.end();
    const sha256 = this.#whole?.digest();
    await this.#writer.finish(sha256, (own) => this.#allParts(own));
    return this.#settle(size, sha256);
  }

  /** The store has no such upload any more: the process that completed it died before it was written down. */
  async #afterCompletion(): Promise<UploadProgress> {
    const { objectKey, size } = this.#session;
    if (size === undefined) throw new Error('an upload of unknown size cannot be complete');
    await requireWhole(this.#context.store, objectKey, size, undefined);
    return this.#settle(size, undefined);
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
    const { mediaType, assetType, cacheControl } = this.#validatedType();
    const stored = { size, sha256, mediaType, assetType, cacheControl };
    const verified = sha256 !== undefined;
    const asset = await settleSession(this.#context, id, stored, this.#request.actor, { verified });
    if (!asset) throw uploadNotFound();
    return { id, offset: asset.size, size: asset.size, asset };
  }

  /** Writes down all that came: parts and tail. */
  async #keep(): Promise<void> {
    await this.#writer.flush();
    const { length, tail } = this.#writer;
    await this.#reserve(length);
    await this.#write({ position: length, parts: this.#unverified, tail: tail.length > 0 ? tail : undefined });
  }

  async #advance(part: UploadedPart, end: number): Promise<void> {
    if (this.#request.checksum) this.#unverified.push(part);
    else await this.#write({ position: end, parts: [part], tail: undefined });
  }

  async #write(progress: { position: number; parts: UploadedPart[]; tail: Buffer | undefined }): Promise<void> {
    if (!(await this.#context.sessions.advance(this.#session.id, this.#holder, progress))) throw new Superseded();
  }

  /** Room in the quota, where the size was left open. */
  async #reserve(total: number): Promise<void> {
    const { uploads, quotas } = this.#context;
    const { id, ownerId, size } = this.#session;
    if (size !== undefined) return;
    const outcome = await uploads.extend(id, total);
    if (outcome === 'no-room') throw await quotaExceeded(quotas, ownerId, total);
    if (outcome === 'ended') throw uploadNotFound();
  }

  /** The store has begun the upload, whose type is known by then. */
  async #noteBegun(storeUploadId: string): Promise<void> {
    const { id } = this.#session;
    const { mediaType, assetType } = this.#validatedType();
    const noted = { storeUploadId, mediaType, policy: assetType };
    if (!(await this.#context.sessions.noteValidated(id, this.#holder, noted))) throw new Superseded();
  }

  #refuseBeyond(bytes: number): void {
    const { policies } = this.#context;
    const { size, validated } = this.#session;
    if (size !== undefined && bytes > size)
      throw new Problem('too-large', { detail: `The file has ${size} bytes, and this is more.` });
    const policy = this.#validation.validated?.policy ?? (validated && policyNamed(policies, validated.policy));
    refuseBeyond(throughProcess(this.#context, policy?.maxBytes ?? limitFor(policies, this.#session)), bytes);
  }

  /** Told by this request, or by the one that sent the first part. */
  #validatedType(): { mediaType: string; assetType: string; cacheControl: string } {
    const now = this.#validation.validated;
    if (now) {
      const { assetType, cacheControl } = now.policy;
      return { mediaType: now.mediaType, assetType, cacheControl };
    }
    const { validated } = this.#session;
    if (!validated) throw new Error('the type of an upload with parts was not validated');
    const { assetType, cacheControl } = policyNamed(this.#context.policies, validated.policy);
    return { mediaType: validated.mediaType, assetType, cacheControl };
  }

  #attributes() {
    const { fileName, createdAt } = this.#session;
    const described = { name: fileName, createdAt };
    const uploader = this.#context.objectKeys.nameOf(this.#request.actor.callerId);
    return objectAttributes(described, uploader, this.#validatedType(), undefined);
  }

  async #offsetNow(): Promise<number> {
    const { ownerId, id } = this.#session;
    const found = await this.#context.sessions.find('resumable', ownerId, id);
    if (!found) throw uploadNotFound();
    return 'asset' in found ? found.asset.size : found.session.position;
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

export function offsetMismatch(offset: number): Problem {
  return new Problem('offset-mismatch', {
    detail: `The upload is at offset ${offset}. Ask for it, and go on from there.`,
    headers: { 'upload-offset': String(offset) },
  });
}

function takenOver(): Problem {
  return new Problem('offset-mismatch', { detail: 'Another request goes on with this upload.' });
}
