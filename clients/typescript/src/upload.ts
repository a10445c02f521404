/**
 * One function for all upload methods. Small files go in one request, large ones straight to the bucket, several parts at a
 * time. Where that is not possible, because the server has no direct uploads or the browser may not reach the bucket, they
 * go by tus. In browsers and in Node 20 or newer.
 *
 * Nothing is sent twice that has arrived, and nothing is stored twice: what broke off goes on where it was, also after a
 * reload of the page, for the upload is remembered until it has ended (previous-uploads.ts).
 */
import { DirectUploadImpossible, uploadDirect } from './direct.ts';
import { UploadFailed } from './failure.ts';
import { uploadForm } from './form.ts';
import type { Asset } from './generated/index.ts';
import { type Backoff, Patience, type PatienceOptions } from './patience.ts';
import {
  defaultStorage,
  fingerprint,
  type PreviousUpload,
  UploadMemory,
  type UploadStorage,
  withKey,
} from './previous-uploads.ts';
import { uploadResumable } from './resumable.ts';
import { ServiceClient } from './service-client.ts';
import { sha256 } from './sha256.ts';
import { sourceOf, type UploadSource } from './source.ts';

/** `form`: one request through the service. `direct`: parts to the bucket. `resumable`: tus. */
export type UploadMethod = 'form' | 'direct' | 'resumable';

type Headers = Record<string, string> | (() => Record<string, string>);

export interface UploadOptions {
  /** Of the service, such as https://files.example.com */
  baseUrl: string;
  /** Sent with every request to the service, such as `authorization`; never to the bucket. A function is asked each time. */
  headers?: Headers;
  /**
   * Upload ticket that a backend gave to the page, instead of a token; or a function that fetches one, which is asked when the
   * upload begins. An upload goes on only with the ticket that it began with.
   */
  ticket?: string | (() => Promise<string>);
  /** Of the file; by default `name` and `type` of a File. */
  fileName?: string;
  contentType?: string;
  projectId?: string;
  assetType?: string;
  metadata?: Record<string, string>;
  /** SHA-256 of the file, hexadecimal, which the server must find as well; `compute` reads the file for it first. */
  sha256?: string;
  /** Instead of the choice by size. */
  method?: UploadMethod;
  /** Files up to so many bytes go in one request. By default 8 MiB. */
  smallUpTo?: number;
  /** Parts on their way at once. By default 4. */
  parallel?: number;
  /** Milliseconds to go on trying while nothing gets through. By default 15 minutes. */
  patience?: number;
  /** Milliseconds of the first pause between tries, and of the longest. By default half a second and 10 seconds. */
  backoff?: Partial<Backoff>;
  /** Milliseconds without a byte sent or answered after which a request is tried again. By default a minute. */
  stallTimeout?: number;
  /** Where unfinished uploads are remembered: `localStorage` where there is one. `false`: nowhere. */
  storage?: UploadStorage | false;
  /** Told of bytes that were sent, never fewer than before. */
  onProgress?: (sent: number, total: number) => void;
  /** Ends the upload, and leaves nothing on the server. */
  signal?: AbortSignal;
  /** When `signal` is aborted, leaves the upload as it is, so that it can go on later. */
  keepWhenAborted?: boolean;
}

const MiB = 1024 * 1024;
const SMALL = 8 * MiB;
const PARALLEL = 4;
/** Milliseconds. */
const PATIENCE = 15 * 60_000;
const BACKOFF: Backoff = { first: 500, longest: 10_000 };
const STALL_TIMEOUT = 60_000;
/** How long the server keeps idempotency keys. Milliseconds. */
const KEY_LIFE = 24 * 3_600_000;

/** What an upload is made of, whichever way it goes. */
export interface UploadJob {
  readonly source: UploadSource;
  readonly fileName: string;
  readonly type: string;
  readonly projectId: string | undefined;
  readonly assetType: string | undefined;
  readonly metadata: Record<string, string> | undefined;
  readonly sha256: string | undefined;
  readonly parallel: number;
  readonly signal: AbortSignal;
  readonly stallTimeout: number;
  readonly patience: Patience;
  readonly service: ServiceClient;
  /** Tells the progress, where it is one. */
  report(sent: number): void;
  /** What is remembered of this upload. */
  readonly previous: PreviousUpload;
  /** Remembers more of it. */
  remember(more: { uploadId?: string; expiresAt?: string }): Promise<void>;
}

/** What is sent of a file, and what the service is told that it is. */
export interface Contents {
  source: UploadSource;
  fileName: string;
  type: string;
  sealed?: PreviousUpload['sealed'];
}

/**
 * Makes what is sent.
 * @param earlier what was remembered of an upload that is to go on: the same bytes are to be made
 * @returns undefined when that cannot be done
 */
export type Prepare = (earlier?: PreviousUpload) => Promise<Contents | undefined>;

/**
 * Uploads a file. Goes on with an earlier upload of the same file that has not ended.
 * @returns the asset, when it is ready
 * @throws UploadFailed; the reason of `signal` when it is aborted
 */
export function upload(file: Blob, options: UploadOptions): Promise<Asset> {
  const { fileName, type } = describe(file, options);
  return uploadContents(file, options, async () => ({ source: sourceOf(file), fileName, type }));
}

/** What a file is called by those who know it. */
export function describe(file: Blob, options: Pick<UploadOptions, 'fileName' | 'contentType'>) {
  const fileName = options.fileName ?? ('name' in file ? String(file.name) : 'file');
  return { fileName, type: options.contentType ?? file.type };
}

/** As `upload` does it, of what is made of the file. */
export async function uploadContents(
  file: Blob,
  options: UploadOptions,
  prepare: Prepare,
  isEncrypted = false,
): Promise<Asset> {
  const baseUrl = options.baseUrl.replace(/\/+$/, '');
  const identity = {
    baseUrl,
    ...describe(file, options),
    projectId: options.projectId,
    assetType: options.assetType,
    metadata: options.metadata,
    ...(isEncrypted && { isEncrypted }),
  };
  options.signal?.throwIfAborted();
  const headers = await headersOf(options);
  options.signal?.throwIfAborted();
  const key = await fingerprint(file, identity);
  return withKey(key, (isAlone) => {
    const storage = options.storage === undefined ? defaultStorage() : options.storage || undefined;
    const memory = new UploadMemory(isAlone ? storage : undefined);
    return new Upload(file.size, prepare, { ...options, baseUrl, headers }, identity, key, memory).run();
  });
}

/** With the ticket, where there is one. */
async function headersOf({ headers = {}, ticket }: UploadOptions): Promise<Headers> {
  if (ticket === undefined) return headers;
  const authorization = `Bearer ${typeof ticket === 'function' ? await ticket() : ticket}`;
  return () => ({ ...(typeof headers === 'function' ? headers() : headers), authorization });
}

type Patient = { [Name in 'patience' | 'backoff' | 'stallTimeout' | 'signal']?: UploadOptions[Name] | undefined };

/** With the defaults for what is not said. */
export function patientDefaults({ patience, backoff, stallTimeout, signal }: Patient): PatienceOptions {
  return {
    backoff: { ...BACKOFF, ...backoff },
    patience: patience ?? PATIENCE,
    stallTimeout: stallTimeout ?? STALL_TIMEOUT,
    signal: signal ?? new AbortController().signal,
  };
}

class Upload {
  /** Bytes of the file. */
  readonly #size: number;
  readonly #prepare: Prepare;
  readonly #options: UploadOptions;
  readonly #identity: Parameters<typeof fingerprint>[1];
  readonly #key: string;
  readonly #memory: UploadMemory;
  readonly #signal: AbortSignal;
  readonly #patience: Patience;
  readonly #service: ServiceClient;
  #reported = 0;

  constructor(
    size: number,
    prepare: Prepare,
    options: UploadOptions,
    identity: Parameters<typeof fingerprint>[1],
    key: string,
    memory: UploadMemory,
  ) {
    this.#size = size;
    this.#prepare = prepare;
    this.#options = options;
    this.#identity = identity;
    this.#key = key;
    this.#memory = memory;
    this.#patience = new Patience(patientDefaults(options));
    this.#signal = this.#patience.options.signal;
    this.#service = new ServiceClient(identity.baseUrl, options.headers ?? {}, this.#patience);
  }

  async run(): Promise<Asset> {
    const { method } = this.#options;
    const earlier = await this.#memory.recall(this.#key);
    if (earlier && (method === undefined || method === earlier.method)) {
      const asset = await this.#goOn(earlier);
      if (asset) return asset;
    }
    const contents = await this.#prepare();
    if (!contents) throw new Error('an upload that is new can always be prepared');
    const digest = await this.#digest(contents);
    const begun = this.#fresh(method ?? this.#suitable(contents), contents);
    const asset = await this.#attempt(begun, contents, digest, false);
    if (asset) return asset;
    throw new UploadFailed(410, undefined, { message: 'the server has forgotten the upload' });
  }

  /** @returns undefined when it has to begin again */
  async #goOn(earlier: PreviousUpload): Promise<Asset | undefined> {
    const contents = await this.#prepare(earlier);
    if (contents) return this.#attempt(earlier, contents, await this.#digest(contents), true);
    const { method, uploadId } = earlier;
    await this.#memory.forget(this.#key);
    if (uploadId !== undefined && method !== 'form') await this.#service.cancel(method, uploadId);
    return undefined;
  }

  /** By size; a direct upload is validated by its type before there are bytes, so it needs one. */
  #suitable({ source, type }: Contents): UploadMethod {
    if (source.size <= (this.#options.smallUpTo ?? SMALL)) return 'form';
    return type === '' ? 'resumable' : 'direct';
  }

  /** @returns undefined when the server knows nothing of it any more */
  async #attempt(
    begun: PreviousUpload,
    contents: Contents,
    digest: string | undefined,
    isResumed: boolean,
  ): Promise<Asset | undefined> {
    let current = begun;
    const job = this.#job(
      contents,
      digest,
      () => current,
      (next) => {
        current = next;
      },
    );
    try {
      const asset = await this.#service.ready(await this.#send(job));
      if (digest !== undefined && asset.sha256 !== undefined && asset.sha256 !== digest.toLowerCase())
        throw new UploadFailed(422, undefined, { message: 'the server has stored other bytes than were meant' });
      await this.#memory.forget(this.#key);
      return asset;
    } catch (error) {
      const isForgotten = error instanceof UploadFailed && (error.status === 404 || error.status === 410);
      await this.#settle(current, error);
      if (isForgotten && current.uploadId !== undefined && isResumed) return undefined;
      if (error instanceof DirectUploadImpossible && this.#options.method === undefined)
        return this.#attempt(this.#fresh('resumable', contents), contents, digest, false);
      throw error instanceof DirectUploadImpossible ? error.failure : error;
    }
  }

  #send(job: UploadJob): Promise<Asset> {
    if (job.previous.method === 'form') return uploadForm(job);
    return job.previous.method === 'resumable'
      ? uploadResumable(job)
      : uploadDirect(job, this.#options.method === undefined);
  }

  /** What can go on is kept; everything else ends here and on the server. */
  async #settle({ method, uploadId }: PreviousUpload, error: unknown): Promise<void> {
    if (error instanceof UploadFailed ? error.resumable : this.#signal.aborted && this.#options.keepWhenAborted) return;
    await this.#memory.forget(this.#key);
    if (uploadId !== undefined && method !== 'form') await this.#service.cancel(method, uploadId);
  }

  #fresh(method: UploadMethod, { sealed }: Contents): PreviousUpload {
    const { baseUrl, fileName } = this.#identity;
    const now = Date.now();
    return {
      key: this.#key,
      method,
      baseUrl,
      fileName,
      size: this.#size,
      idempotencyKey: randomKey(),
      startedAt: new Date(now).toISOString(),
      expiresAt: new Date(now + KEY_LIFE).toISOString(),
      ...(sealed && { sealed }),
    };
  }

  #job(
    { source, fileName, type }: Contents,
    digest: string | undefined,
    current: () => PreviousUpload,
    change: (next: PreviousUpload) => void,
  ): UploadJob {
    const { stallTimeout = STALL_TIMEOUT, parallel = PARALLEL } = this.#options;
    const { projectId, assetType, metadata } = this.#identity;
    return {
      source,
      fileName,
      type,
      projectId,
      assetType,
      metadata,
      sha256: digest,
      parallel: Math.max(1, parallel),
      signal: this.#signal,
      stallTimeout,
      patience: this.#patience,
      service: this.#service,
      report: (sent) => this.#report(sent, source.size),
      get previous() {
        return current();
      },
      remember: async (more) => {
        change({ ...current(), ...more });
        await this.#memory.keep(current());
      },
    };
  }

  async #digest({ source }: Contents): Promise<string | undefined> {
    const { sha256: digest } = this.#options;
    return digest === 'compute' ? sha256(source, this.#signal) : digest;
  }

  #report(sent: number, total: number): void {
    if (sent <= this.#reported) return;
    this.#reported = sent;
    this.#options.onProgress?.(Math.min(sent, total), total);
  }
}

/** `crypto.randomUUID` is for secure contexts only. */
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
