/**
 * Resumable uploads: bytes that come in several requests, and lose nothing that was acknowledged when one breaks off.
 *
 * Each request fills part buffers of the shared budget and sends them as parts; what is left at its end, less than a
 * part, is kept in Postgres as rows, which are the tail. So all parts have one size, and no object but the file's own is
 * ever made. The offset moves only after what lies before it is safe. A request writes what it brings, and never again
 * what others have brought before: the tail is read when a part is made of it, and then dropped.
 *
 * One request holds an upload. A newer one takes it over at once, on any instance: from then on the older one can write
 * nothing down, and ends. Parts are completed by the entity tags that were written down, so what an older request may
 * still send to the store cannot slip in. Between two writes nothing is held but memory. Whoever asks how far an upload
 * is ends the request that is at it, so that the answer stays true.
 *
 * When one request brought all bytes that are in parts, digest and structure are known at its end, and the asset is
 * `ready`. Otherwise a job reads the object back, and it is `processing` until then: the state of Node's SHA-256 cannot
 * be kept between requests. How one request goes is in append-request.ts.
 */

import { setTimeout } from 'node:timers/promises';
import type { Caller } from '../access/caller.ts';
import { type Asset, sentSize } from '../assets/asset.ts';
import type { Actor } from '../database/audit.ts';
import { Problem } from '../problems.ts';
import { quotaExceeded } from '../quotas/quota-exceeded.ts';
import { emptyFile, limitFor, policyNamed, refuseBeyond } from '../validation/file-validation.ts';
import { UploadPolicies } from '../validation/upload-policies.ts';
import type { Append, UploadProgress } from './append.ts';
import { AppendRequest } from './append-request.ts';
import { contextOf, throughProcess, type UploadContext } from './context.ts';
import { type NewFile, newUpload } from './new-upload.ts';
import type { NewSession, UploadSession } from './session-repository.ts';
import {
  beginSession,
  cancelSession,
  endIfRefused,
  findSession,
  policiesOf,
  requireLive,
  uploadComplete,
  uploadNotFound,
} from './sessions.ts';
import { Interrupted, offsetMismatch, type RunningRequest, RunningRequests, Superseded } from './takeover.ts';

/**
 * How long an answer about the offset waits for the request that is at the upload to write down what came: in this process,
 * and in another one, which learns of it when its connection ends. Milliseconds.
 */
const SETTLE_HERE = 10_000;
const SETTLE_ELSEWHERE = 2000;
const LOOK_AGAIN = 100;

export interface NewResumableUpload extends NewFile {
  /** Bytes; absent when it is left open. */
  size?: number;
  /** The header field, to be told as it was sent. */
  uploadMetadata: string;
}

/** One request of a client, with bytes that follow `offset`. */
export interface ResumeRequest extends Append {
  /** Bytes of the whole file, declared with this request. */
  size?: number;
}

export class ResumableUploads {
  readonly #context: UploadContext;
  readonly #running = new RunningRequests();

  constructor(context: UploadContext) {
    this.#context = context;
  }

  /** Reserves the quota, as far as the size is known. @throws Problem */
  async create(file: NewResumableUpload): Promise<UploadProgress> {
    const { config, buffers, objectKeys } = this.#context;
    const { policies } = contextOf(this.#context, file.caller);
    const { size, declaredType, assetType, uploadMetadata } = file;
    const record = newUpload(file, objectKeys, (fault) => ({
      parameter: 'Upload-Metadata',
      detail: `filename: ${fault}`,
    }));
    if (size === 0) throw emptyFile();
    refuseBeyond(throughProcess(this.#context, limitFor(policies, file)), size ?? 1, policies.bound);
    const session: NewSession = {
      kind: 'resumable',
      partSize: buffers.partSize,
      expiresAt: new Date(record.createdAt.getTime() + config.RESUMABLE_EXPIRY),
      policies: assetType === undefined ? policies : new UploadPolicies([policyNamed(policies, assetType)]),
      uploadMetadata,
      ...(size !== undefined && { size }),
      ...(declaredType !== undefined && { declaredType }),
      ...(assetType !== undefined && { assetType }),
    };
    await beginSession(this.#context, record, session, size ?? 0);
    return {
      ...{ id: record.id, offset: 0, uploadMetadata, expiresAt: session.expiresAt },
      ...(size !== undefined && { size }),
    };
  }

  /**
   * How far the upload is. A request that is at it writes down what came and ends, or can write nothing any more: so whoever
   * goes on at this offset finds the upload there.
   * @throws Problem
   */
  async find(caller: Caller, id: string): Promise<UploadProgress> {
    const found = await this.#find(caller, id);
    if ('asset' in found) return completed(found);
    requireLive(found.session);
    await this.#settled(caller, id);
    const { sessions, shortTurns } = this.#context;
    if (await shortTurns.run(caller.id, () => sessions.fence(id)))
      for (const each of this.#running.of(id)) each.superseded.abort(new Superseded());
    const now = await this.#find(caller, id);
    if ('asset' in now) return completed(now);
    const { position, size, expiresAt, uploadMetadata } = now.session;
    return {
      ...{ id, offset: position, expiresAt },
      ...(size !== undefined && { size }),
      ...(uploadMetadata !== undefined && { uploadMetadata }),
    };
  }

  /**
   * Takes the bytes of one request.
   * @throws Problem, also when the request broke off; then what came is safe all the same, as far as it could be kept
   */
  async append(caller: Caller, id: string, request: ResumeRequest): Promise<UploadProgress> {
    const running = this.#running.begin(id);
    try {
      const signal = AbortSignal.any([request.signal, running.interrupted.signal]);
      return await this.#append(caller, id, { ...request, signal }, running);
    } finally {
      running.end();
    }
  }

  /** Ends the upload and leaves nothing. @throws Problem */
  async terminate(actor: Actor, caller: Caller, id: string): Promise<void> {
    const found = await findSession(this.#context, 'resumable', caller, id);
    if ('asset' in found) throw uploadComplete();
    for (const each of this.#running.of(id)) each.superseded.abort(new Superseded());
    if (!(await cancelSession(this.#context, found.session, actor))) throw uploadNotFound();
  }

  #find(caller: Caller, id: string) {
    return findSession(this.#context, 'resumable', caller, id);
  }

  async #append(caller: Caller, id: string, request: ResumeRequest, running: RunningRequest): Promise<UploadProgress> {
    const found = await this.#find(caller, id);
    if ('asset' in found) return this.#afterTheEnd(found.asset, request);
    const session = this.#withSize(requireLive(found.session), request.size);
    const { position, size } = session;
    if (request.offset !== position) throw offsetMismatch(position);
    if (size !== undefined && position + (request.length ?? 0) > size) throw beyondTheEnd(size);
    if (request.size !== undefined) await this.#reserve(session, request.size);
    const { admission, onOutcome } = this.#context;
    const leave = await admission.enter(request.actor.callerId, request.signal);
    try {
      // Those of this process need not find out by themselves that another one goes on.
      for (const each of this.#running.of(id, running)) each.superseded.abort(new Superseded());
      const progress = await new AppendRequest(this.#context, session, request, running.superseded).run();
      if (progress.asset) onOutcome('stored', progress.size);
      return progress;
    } catch (error) {
      if (await endIfRefused(this.#context, session, request.actor, error)) onOutcome('refused', session.position);
      throw error;
    } finally {
      leave();
    }
  }

  /** A request without bytes is told that the upload is complete, as is one that was sent again. */
  async #afterTheEnd(asset: Asset, { offset, length, source }: ResumeRequest): Promise<UploadProgress> {
    if (offset !== sentSize(asset)) throw offsetMismatch(sentSize(asset));
    if (length === undefined)
      for await (const chunk of source) if (chunk.length > 0) throw beyondTheEnd(sentSize(asset));
    if (length) throw beyondTheEnd(sentSize(asset));
    return completed({ asset });
  }

  /** Waits until no request is at the upload, as long as it makes sense. */
  async #settled(caller: Caller, id: string): Promise<void> {
    const here = this.#running.of(id);
    for (const each of here) each.interrupted.abort(new Interrupted());
    const ended = Promise.all(here.map((each) => each.ended));
    if (here.length > 0) await Promise.race([ended, setTimeout(SETTLE_HERE, undefined, { ref: false })]);
    for (const until = Date.now() + SETTLE_ELSEWHERE; Date.now() < until; await setTimeout(LOOK_AGAIN)) {
      const found = await this.#find(caller, id);
      if ('asset' in found || !found.session.isHeld) return;
    }
  }

  /** @throws Problem when it was declared to be another one */
  #withSize(session: UploadSession, declared: number | undefined): UploadSession {
    if (declared === undefined) return session;
    if (session.size !== undefined && session.size !== declared)
      throw wrongLength(`was declared to be ${session.size}`);
    if (declared < session.position) throw wrongLength(`is less than the ${session.position} bytes that are there`);
    if (declared === 0) throw emptyFile();
    const policies = policiesOf(this.#context, session);
    refuseBeyond(
      Math.min(limitFor(policies, session), session.partSize * this.#context.store.maxParts),
      declared,
      policies.bound,
    );
    return { ...session, size: declared };
  }

  async #reserve(session: UploadSession, total: number): Promise<void> {
    const { uploads, quotas } = this.#context;
    const { account, caller } = session;
    const outcome = await uploads.extend(session, total);
    if (outcome === 'no-room') throw await quotaExceeded(quotas, account, total, caller);
    if (outcome === 'ended') throw uploadNotFound();
  }
}

function completed({ asset, ...rest }: { asset: Asset; uploadMetadata?: string }): UploadProgress {
  return { ...rest, id: asset.id, offset: sentSize(asset), size: sentSize(asset), asset };
}

function beyondTheEnd(size: number): Problem {
  return new Problem('too-large', { detail: `The file has ${size} bytes, and this is more.` });
}

function wrongLength(detail: string): Problem {
  return new Problem('invalid-parameter', { detail, errors: [{ parameter: 'Upload-Length', detail }] });
}
