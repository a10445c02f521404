/**
 * One function for all upload methods. Small files go in one request, large ones straight to the bucket, several parts at a
 * time. Where that is not possible, because the server has no direct uploads or the browser may not reach the bucket, they
 * go by tus. In browsers and in Node 20 or newer.
 */
import { Upload as TusUpload } from 'tus-js-client';
import { createClient, createConfig } from './generated/client/index.ts';
import type { Asset, PartLink, Problem, UploadSession } from './generated/index.ts';
import { completeUpload, createUpload, getAsset, signUploadParts, uploadAsset } from './generated/index.ts';

/** `form`: one request through the service. `direct`: parts to the bucket. `resumable`: tus. */
export type UploadMethod = 'form' | 'direct' | 'resumable';

export interface UploadOptions {
  /** Of the service, such as https://files.example.com */
  baseUrl: string;
  /** Sent with every request to the service, such as `authorization`; never to the bucket. */
  headers?: Record<string, string>;
  /** Of the file; by default `name` and `type` of a File. */
  fileName?: string;
  contentType?: string;
  projectId?: string;
  assetType?: string;
  metadata?: Record<string, string>;
  /** Instead of the choice by size. */
  method?: UploadMethod;
  /** Files up to so many bytes go in one request. */
  smallUpTo?: number;
  /** Parts on their way at once. */
  parallel?: number;
  /** Tries of each request after the first. */
  retries?: number;
  /** Told of bytes that were sent, never fewer than before. */
  onProgress?: (sent: number, total: number) => void;
  /** Ends the upload, and leaves nothing on the server. */
  signal?: AbortSignal;
}

/** The service refused the file, or could not be reached for too long. */
export class UploadFailed extends Error {
  override name = 'UploadFailed';
  /** 0 when there was no answer. */
  readonly status: number;
  readonly problem: Problem | undefined;

  constructor(
    status: number,
    problem: Problem | undefined,
    message = problem?.detail ?? problem?.title ?? 'no answer',
  ) {
    super(message);
    this.status = status;
    this.problem = problem;
  }
}

const MiB = 1024 * 1024;
const SMALL = 8 * MiB;
const PARALLEL = 4;
const RETRIES = 5;
/** Milliseconds. */
const FIRST_PAUSE = 300;
const LONGEST_PAUSE = 20_000;
const LOOK_AGAIN = 500;
/** Bytes. */
const NODE_CHUNK = 32 * MiB;

/**
 * Uploads a file.
 * @returns the asset, when it is ready
 * @throws UploadFailed; the reason of `signal` when it is aborted
 */
export async function upload(file: Blob, options: UploadOptions): Promise<Asset> {
  const job = new Job(file, options);
  const method = options.method ?? job.suitable;
  if (method === 'form') return job.form();
  if (method === 'resumable') return job.resumable();
  try {
    return await job.direct();
  } catch (error) {
    if (options.method === undefined && error instanceof DirectUploadImpossible) return job.resumable();
    throw error instanceof DirectUploadImpossible ? error.failure : error;
  }
}

/** The server has no direct uploads, or the bucket cannot be reached from here. */
class DirectUploadImpossible extends Error {
  readonly failure: UploadFailed;

  constructor(failure: UploadFailed) {
    super(failure.message);
    this.failure = failure;
  }
}

class Job {
  readonly #file: Blob;
  readonly #options: UploadOptions;
  readonly #client;
  readonly #signal: AbortSignal;
  #reported = 0;

  constructor(file: Blob, options: UploadOptions) {
    this.#file = file;
    this.#options = options;
    this.#signal = options.signal ?? new AbortController().signal;
    this.#client = createClient(createConfig({ baseUrl: options.baseUrl, headers: options.headers ?? {} }));
  }

  /** By size; a direct upload is validated by its type before there are bytes, so it needs one. */
  get suitable(): UploadMethod {
    if (this.#file.size <= (this.#options.smallUpTo ?? SMALL)) return 'form';
    return this.#type === '' ? 'resumable' : 'direct';
  }

  /** The same request under the same key: stored once, however often it is sent. */
  async form(): Promise<Asset> {
    const { projectId, assetType, metadata } = this.#options;
    const key = crypto.randomUUID();
    const asset = await this.#insist(() =>
      uploadAsset({
        client: this.#client,
        headers: { 'idempotency-key': key },
        // Fields are sent in this order, and the file must come last.
        body: {
          ...(projectId !== undefined && { projectId }),
          ...(assetType !== undefined && { assetType }),
          ...(metadata && { metadata: JSON.stringify(metadata) }),
          file: new File([this.#file], this.#name, { type: this.#type }),
        },
        signal: this.#signal,
      }),
    );
    this.#report(this.#file.size);
    return this.#ready(asset);
  }

  async direct(): Promise<Asset> {
    const { projectId, assetType, metadata, parallel = PARALLEL } = this.#options;
    const key = crypto.randomUUID();
    const session = await this.#insist(() =>
      createUpload({
        client: this.#client,
        headers: { 'idempotency-key': key },
        body: {
          fileName: this.#name,
          size: this.#file.size,
          contentType: this.#type,
          ...(projectId !== undefined && { projectId }),
          ...(assetType !== undefined && { assetType }),
          ...(metadata && { metadata }),
        },
        signal: this.#signal,
      }),
    ).catch((error) => {
      if (error instanceof UploadFailed && (error.status === 404 || error.status === 405))
        throw new DirectUploadImpossible(error);
      throw error;
    });
    try {
      await this.#sendParts(session, parallel);
      const { uploadId } = session;
      const asset = await this.#insist(() =>
        completeUpload({ client: this.#client, path: { id: uploadId }, signal: this.#signal }),
      );
      return await this.#ready(asset);
    } catch (error) {
      await this.#cancel(`/v1/uploads/${session.uploadId}`);
      throw error;
    }
  }

  async resumable(): Promise<Asset> {
    this.#signal.throwIfAborted();
    const id = await new Promise<string>((resolve, reject) => this.#tus(resolve, reject));
    return this.#ready(
      await this.#insist(() => getAsset({ client: this.#client, path: { id }, signal: this.#signal })),
    );
  }

  #tus(resolve: (assetId: string) => void, reject: (reason: unknown) => void): void {
    const { baseUrl, headers = {}, projectId, assetType, metadata, retries = RETRIES } = this.#options;
    const signal = this.#signal;
    const tus = new TusUpload(this.#file, {
      ...(inNode && nodeReader(this.#file)),
      endpoint: `${baseUrl}/v1/resumable`,
      headers,
      metadata: {
        filename: this.#name,
        ...(this.#type !== '' && { filetype: this.#type }),
        ...(projectId !== undefined && { projectId }),
        ...(assetType !== undefined && { assetType }),
        ...(metadata && { metadata: JSON.stringify(metadata) }),
      },
      retryDelays: Array.from({ length: retries }, (_, attempt) => pauseBefore(attempt)),
      onProgress: (sent) => this.#report(sent),
      onSuccess: ({ lastResponse }) => {
        signal.removeEventListener('abort', stop);
        resolve(lastResponse.getHeader('asset-id') ?? '');
      },
      onError: (error) => {
        signal.removeEventListener('abort', stop);
        const answer = 'originalResponse' in error ? error.originalResponse : undefined;
        reject(new UploadFailed(answer?.getStatus() ?? 0, problemIn(answer?.getBody()), error.message));
      },
    });
    const stop = () => {
      // `true`: the server forgets it too.
      tus.abort(true).catch(() => {});
      reject(signal.reason);
    };
    signal.addEventListener('abort', stop, { once: true });
    tus.start();
  }

  // --------------------------------------------------------------------------------------------------------------- parts

  async #sendParts(session: UploadSession, parallel: number): Promise<void> {
    const links = new Map(session.parts.map((part) => [part.partNumber, part]));
    const sent = new Map<number, number>();
    const numbers = Array.from({ length: session.partCount }, (_, index) => index + 1).values();
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#signal, failed.signal]);
    const lane = async () => {
      for (const partNumber of numbers) {
        const onProgress = (bytes: number) => {
          sent.set(partNumber, bytes);
          this.#report([...sent.values()].reduce((sum, each) => sum + each, 0));
        };
        await this.#sendPart(session, links, partNumber, onProgress, signal);
        links.delete(partNumber);
      }
    };
    try {
      await Promise.all(Array.from({ length: Math.max(1, parallel) }, lane));
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  }

  /** A part may be sent again as often as need be; a link that has expired is made anew. */
  async #sendPart(
    { uploadId, partSize }: UploadSession,
    links: Map<number, PartLink>,
    partNumber: number,
    onProgress: (bytes: number) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { retries = RETRIES } = this.#options;
    for (let attempt = 0; ; attempt++) {
      signal.throwIfAborted();
      const link = links.get(partNumber) ?? (await this.#sign(uploadId, partNumber));
      const begin = (partNumber - 1) * partSize;
      const answer = await send(link, this.#file.slice(begin, begin + link.size), onProgress, signal);
      if (answer.status >= 200 && answer.status < 300) return onProgress(link.size);
      signal.throwIfAborted();
      links.delete(partNumber);
      if (attempt >= retries) {
        const failure = new UploadFailed(answer.status, undefined, `part ${partNumber} could not be sent`);
        // Nothing ever got through: most likely the browser may not reach the bucket.
        throw answer.status === 0 && this.#reported === 0 ? new DirectUploadImpossible(failure) : failure;
      }
      await pause(answer.retryAfter ?? pauseBefore(attempt), signal);
    }
  }

  async #sign(id: string, partNumber: number): Promise<PartLink> {
    const { parts } = await this.#insist(() =>
      signUploadParts({
        client: this.#client,
        path: { id },
        body: { partNumbers: [partNumber] },
        signal: this.#signal,
      }),
    );
    const [link] = parts;
    if (!link) throw new UploadFailed(0, undefined, 'the service signed nothing');
    return link;
  }

  // -------------------------------------------------------------------------------------------------------- the service

  /** Tries again what may pass by itself: no answer, 409 in progress, 429, 5xx; as late as Retry-After says. */
  async #insist<Data>(
    ask: () => Promise<{ data?: Data; error?: unknown; response?: Response }>,
  ): Promise<NonNullable<Data>> {
    const { retries = RETRIES } = this.#options;
    for (let attempt = 0; ; attempt++) {
      this.#signal.throwIfAborted();
      const { data, error, response } = await ask().catch((cause) => ({
        data: undefined,
        error: cause as unknown,
        response: undefined,
      }));
      this.#signal.throwIfAborted();
      if (response?.ok && data != null) return data;
      const status = response?.status ?? 0;
      const problem = problemIn(error);
      const mayPass =
        status === 0 || status === 429 || status >= 500 || problem?.type === 'urn:stowage:problem:request-in-progress';
      if (!mayPass || attempt >= retries) throw new UploadFailed(status, problem);
      await pause(retryAfter(response?.headers.get('retry-after')) ?? pauseBefore(attempt), this.#signal);
    }
  }

  /** Large files are looked through after their upload. */
  async #ready(asset: Asset): Promise<Asset> {
    let found = asset;
    while (found.state === 'processing') {
      await pause(LOOK_AGAIN, this.#signal);
      found = await this.#insist(() =>
        getAsset({ client: this.#client, path: { id: asset.id }, signal: this.#signal }),
      );
    }
    if (found.state === 'ready') return found;
    throw new UploadFailed(422, undefined, `the file was ${found.state}: ${found.reason ?? 'unknown'}`);
  }

  async #cancel(path: string): Promise<void> {
    const { baseUrl, headers = {} } = this.#options;
    await fetch(baseUrl + path, { method: 'DELETE', headers }).catch(() => {});
  }

  #report(sent: number): void {
    if (sent <= this.#reported) return;
    this.#reported = sent;
    this.#options.onProgress?.(Math.min(sent, this.#file.size), this.#file.size);
  }

  get #name(): string {
    return this.#options.fileName ?? ('name' in this.#file ? String(this.#file.name) : 'file');
  }

  get #type(): string {
    return this.#options.contentType ?? this.#file.type;
  }
}

const inNode = 'process' in globalThis && typeof XMLHttpRequest === 'undefined';

/** In Node tus-js-client knows no Blob: it is read in pieces that fit into memory, each a request of its own. */
function nodeReader(file: Blob) {
  const slice = async (begin: number, end: number) => {
    const bytes = new Uint8Array(await file.slice(begin, end).arrayBuffer());
    // It asks the piece for its size as it would a Blob.
    return { value: Object.assign(bytes, { size: bytes.length }) as unknown as Blob, done: end >= file.size };
  };
  const source = { size: file.size, slice, close: () => {} };
  return { chunkSize: NODE_CHUNK, fileReader: { openFile: async () => source } };
}

interface Sent {
  /** 0 when there was no answer. */
  status: number;
  /** Milliseconds. */
  retryAfter?: number | undefined;
}

/** By XMLHttpRequest where there is one, for it alone tells the progress. */
function send(link: PartLink, bytes: Blob, onProgress: (bytes: number) => void, signal: AbortSignal): Promise<Sent> {
  if (typeof XMLHttpRequest === 'undefined') return sendByFetch(link, bytes, signal);
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    const done = (status: number) => {
      signal.removeEventListener('abort', stop);
      const header = status === 0 ? null : request.getResponseHeader('retry-after');
      resolve({ status, retryAfter: retryAfter(header) });
    };
    signal.addEventListener('abort', stop, { once: true });
    request.open('PUT', link.url);
    for (const [name, value] of Object.entries(link.headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded }) => onProgress(loaded);
    request.onload = () => done(request.status);
    request.onerror = () => done(0);
    request.onabort = () => done(0);
    request.send(bytes);
  });
}

async function sendByFetch({ url, headers }: PartLink, body: Blob, signal: AbortSignal): Promise<Sent> {
  try {
    const answer = await fetch(url, { method: 'PUT', headers, body, signal });
    await answer.arrayBuffer();
    return { status: answer.status, retryAfter: retryAfter(answer.headers.get('retry-after')) };
  } catch {
    return { status: 0 };
  }
}

function problemIn(body: unknown): Problem | undefined {
  if (typeof body === 'string') {
    try {
      return problemIn(JSON.parse(body));
    } catch {
      return undefined;
    }
  }
  return body instanceof Object && 'type' in body && 'status' in body ? (body as Problem) : undefined;
}

function retryAfter(header: string | null | undefined): number | undefined {
  return header && /^\d+$/.test(header) ? Number(header) * 1000 : undefined;
}

/** Doubling, and not all clients at the same moment. */
function pauseBefore(attempt: number): number {
  return Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempt) * (0.5 + Math.random() / 2);
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop);
      resolve();
    }, milliseconds);
    signal.addEventListener('abort', stop, { once: true });
  });
}
