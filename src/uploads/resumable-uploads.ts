/**
 * Resumable uploads: bytes that come in several requests, and lose nothing that was acknowledged when one breaks off.
 *
 * Each request fills part buffers of the shared budget and sends them as parts; what is left at its end, less than a
 * part, is kept in Postgres as the tail. So all parts have one size, and no object but the file's own is ever made. The
 * offset moves only after what lies before it is safe.
 *
 * One request holds an upload. A newer one takes it over at once, on any instance: from then on the older one can write
 * nothing down, and ends. Parts are completed by the entity tags that were written down, so what an older request may
 * still send to the store cannot slip in. Between two writes nothing is held but memory.
 *
 * When one request brought all bytes that are in parts, digest and structure are known at its end, and the asset is
 * `ready`. Otherwise a job reads the object back, and it is `processing` until then: the state of Node's SHA-256 cannot
 * be kept between requests. How one request goes is in append-request.ts.
 */
import type { Asset } from '../assets/asset.ts';
import type { Actor } from '../database/audit.ts';
import { Problem } from '../problems.ts';
import { quotaExceeded } from '../quotas/quota-exceeded.ts';
import { emptyFile, limitFor, refuseBeyond } from '../validation/file-validation.ts';
import { type Append, AppendRequest, offsetMismatch, Superseded, type UploadProgress } from './append-request.ts';
import { throughProcess, type UploadContext } from './context.ts';
import { type NewFile, newUpload } from './new-upload.ts';
import type { NewSession, UploadSession } from './session-repository.ts';
import {
  beginSession,
  cancelSession,
  endIfRefused,
  findSession,
  requireLive,
  uploadComplete,
  uploadNotFound,
} from './sessions.ts';

export interface NewResumableUpload extends NewFile {
  /** Bytes; absent when it is left open. */
  size?: number;
}

/** One request of a client, with bytes that follow `offset`. */
export interface ResumeRequest extends Append {
  /** Bytes of the whole file, declared with this request. */
  size?: number;
}

export class ResumableUploads {
  readonly #context: UploadContext;
  /** Requests of this process that hold an upload, to be ended when another one takes over. */
  readonly #holders = new Map<string, AbortController>();

  constructor(context: UploadContext) {
    this.#context = context;
  }

  /** Reserves the quota, as far as the size is known. @throws Problem */
  async create(file: NewResumableUpload): Promise<UploadProgress> {
    const { config, policies, buffers, objectKeys } = this.#context;
    const { size, declaredType, assetType } = file;
    const record = newUpload(file, objectKeys, (fault) => ({
      parameter: 'Upload-Metadata',
      detail: `filename: ${fault}`,
    }));
    if (size === 0) throw emptyFile();
    refuseBeyond(throughProcess(this.#context, limitFor(policies, file)), size ?? 1);
    const session: NewSession = {
      kind: 'resumable',
      partSize: buffers.partSize,
      expiresAt: new Date(record.createdAt.getTime() + config.RESUMABLE_EXPIRY),
      ...(size !== undefined && { size }),
      ...(declaredType !== undefined && { declaredType }),
      ...(assetType !== undefined && { assetType }),
    };
    await beginSession(this.#context, record, session, size ?? 0);
    return { id: record.id, offset: 0, ...(size !== undefined && { size }), expiresAt: session.expiresAt };
  }

  /** How far the upload is. @throws Problem */
  async find(ownerId: string, id: string): Promise<UploadProgress> {
    const found = await findSession(this.#context, 'resumable', ownerId, id);
    if ('asset' in found) return complete(found.asset);
    const { position, size, expiresAt } = requireLive(found.session);
    return { id, offset: position, ...(size !== undefined && { size }), expiresAt };
  }

  /**
   * Takes the bytes of one request.
   * @throws Problem, also when the request broke off; then what came is safe all the same, as far as it could be kept
   */
  async append(ownerId: string, id: string, request: ResumeRequest): Promise<UploadProgress> {
    const found = await findSession(this.#context, 'resumable', ownerId, id);
    if ('asset' in found) {
      if (request.offset === found.asset.size) return complete(found.asset);
      throw offsetMismatch(found.asset.size);
    }
    const session = this.#withSize(requireLive(found.session), request.size);
    if (request.offset !== session.position) throw offsetMismatch(session.position);
    if (request.size !== undefined) await this.#reserve(session, request.size);
    const { admission, onOutcome } = this.#context;
    const leave = await admission.enter(request.actor.callerId, request.signal);
    try {
      const progress = await this.#hold(session, request);
      if (progress.asset) onOutcome('stored', progress.size);
      return progress;
    } catch (error) {
      if (await endIfRefused(this.#context, session, request.actor, error)) onOutcome('refused', session.position);
      throw error;
    } finally {
      leave();
    }
  }

  /** Ends the upload and leaves nothing. @throws Problem */
  async terminate(actor: Actor, ownerId: string, id: string): Promise<void> {
    const found = await findSession(this.#context, 'resumable', ownerId, id);
    if ('asset' in found) throw uploadComplete();
    this.#holders.get(id)?.abort(new Superseded());
    if (!(await cancelSession(this.#context, found.session, actor))) throw uploadNotFound();
  }

  /** The request of this process that holds the upload need not wait to find out that another one does. */
  async #hold(session: UploadSession, request: Append): Promise<UploadProgress> {
    const superseded = new AbortController();
    this.#holders.get(session.id)?.abort(new Superseded());
    this.#holders.set(session.id, superseded);
    try {
      return await new AppendRequest(this.#context, session, request, superseded).run();
    } finally {
      if (this.#holders.get(session.id) === superseded) this.#holders.delete(session.id);
    }
  }

  /** @throws Problem when it was declared to be another one */
  #withSize(session: UploadSession, declared: number | undefined): UploadSession {
    if (declared === undefined) return session;
    if (session.size !== undefined && session.size !== declared)
      throw wrongLength(`was declared to be ${session.size}`);
    if (declared < session.position) throw wrongLength(`is less than the ${session.position} bytes that are there`);
    if (declared === 0) throw emptyFile();
    refuseBeyond(throughProcess(this.#context, limitFor(this.#context.policies, session)), declared);
    return { ...session, size: declared };
  }

  async #reserve({ id, ownerId }: UploadSession, total: number): Promise<void> {
    const { uploads, quotas } = this.#context;
    const outcome = await uploads.extend(id, total);
    if (outcome === 'no-room') throw await quotaExceeded(quotas, ownerId, total);
    if (outcome === 'ended') throw uploadNotFound();
  }
}

function complete(asset: Asset): UploadProgress {
  return { id: asset.id, offset: asset.size, size: asset.size, asset };
}

function wrongLength(detail: string): Problem {
  return new Problem('invalid-parameter', { detail, errors: [{ parameter: 'Upload-Length', detail }] });
}
