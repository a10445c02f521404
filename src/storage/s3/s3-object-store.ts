/**
 * The object store on any S3 API: AWS, R2, Wasabi, B2, Spaces, Ceph, SeaweedFS, Garage. The only file that knows the SDK.
 *
 * Three of the SDK's defaults are changed, each because of what it does to uploads:
 * - A part would be hashed twice, once for the signature and once for the checksum. Here a part is signed as
 *   UNSIGNED-PAYLOAD and carries a CRC32 header (`crc32`); a whole object is signed with the SHA-256 that intake knows
 *   already, so that every server verifies it and nothing is hashed again. `sha256` signs the digest of each part for
 *   servers that ignore the CRC32 header; `sdk` leaves all of it to the SDK (WHEN_SUPPORTED).
 * - A stalled server would be waited for without end. Here each try has a time limit and each call a deadline.
 * - A connection refused, reset or timed out and every 5xx become `ObjectStoreUnavailable`: the outcome is unknown.
 *
 * Bodies are whole buffers, so that the SDK can send them again: up to three retries with exponential backoff and jitter.
 */
import { createHash } from 'node:crypto';
import { Agent as HttpAgent, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  HeadBucketCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
  type ServerSideEncryption,
  type StorageClass,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { free } from '../chunks.ts';
import {
  type ByteRange,
  type CallOptions,
  type LinkOptions,
  type ListedObject,
  NoSuchUpload,
  type ObjectAttributes,
  type ObjectBody,
  type ObjectHead,
  type ObjectStore,
  ObjectStoreUnavailable,
  type OpenUpload,
  type PartAddress,
  type UploadedPart,
} from '../object-store.ts';
import { type S3Request, S3Requests, type S3Response, UNSIGNED_PAYLOAD } from './s3-requests.ts';

export interface S3Options {
  bucket: string;
  region: string;
  endpoint?: string;
  /** The endpoint as clients reach it, for links. */
  publicEndpoint?: string;
  /** Absent: the SDK's default credential chain. */
  credentials?: { accessKeyId: string; secretAccessKey: string; expiration?: Date };
  forcePathStyle: boolean;
  storageClass?: string;
  encryption: { mode: 'none' } | { mode: 'AES256' } | { mode: 'aws:kms'; keyId?: string };
  checksum: 'crc32' | 'sha256' | 'sdk';
  /** Milliseconds: to connect, for one try, for a call with all its tries. */
  connectTimeout: number;
  requestTimeout: number;
  deadline: number;
  /** Connections at most; more requests wait for one. */
  sockets: number;
  /** Told how many retries a call took, when any. */
  onRetries?: (operation: string, retries: number) => void;
}

const TRIES = 4;
/** Bytes of an object that wait for whoever reads it. */
const READ_AHEAD = 256 * 1024;
/** Keys in one DeleteObjects. */
const MAX_DELETED = 1000;
/** S3 API, "Working with object metadata": what is user-defined begins so. */
const METADATA = 'x-amz-meta-';

export class S3ObjectStore implements ObjectStore {
  readonly kind = 's3';
  readonly #client: S3Client;
  readonly #publicClient: S3Client;
  readonly #requests: S3Requests;
  /** For links: where clients find the bucket. */
  readonly #publicRequests: S3Requests;
  readonly #options: S3Options;
  readonly #bucket: string;

  constructor(options: S3Options) {
    this.#options = options;
    this.#bucket = options.bucket;
    this.#client = makeClient(options, options.endpoint);
    this.#publicClient = options.publicEndpoint ? makeClient(options, options.publicEndpoint) : this.#client;
    const { bucket, onRetries } = options;
    this.#requests = new S3Requests({ client: this.#client, bucket, tries: TRIES, onRetries });
    this.#publicRequests = options.publicEndpoint
      ? new S3Requests({ client: this.#publicClient, bucket, tries: TRIES })
      : this.#requests;
  }

  async put(
    key: string,
    body: Buffer,
    attributes: ObjectAttributes,
    options: CallOptions & { sha256: Buffer },
  ): Promise<void> {
    if (this.#options.checksum === 'sdk') {
      const input = { Bucket: this.#bucket, Key: key, Body: body, ContentLength: body.length };
      const command = new PutObjectCommand({ ...input, ...this.#creation(attributes) });
      await this.#callUndamaged('PutObject', () =>
        this.#call('PutObject', options, (signal) => this.#client.send(command, { abortSignal: signal })),
      );
      return;
    }
    const headers = { ...this.#creationHeaders(attributes), ...this.#checksum(body) };
    const request = { method: 'PUT', key, headers, body, payloadHash: options.sha256.toString('hex') } as const;
    const answer = await this.#callUndamaged('PutObject', () => this.#exchange('PutObject', request, options));
    answer.body.resume();
  }

  async createMultipartUpload(key: string, attributes: ObjectAttributes, options: CallOptions): Promise<string> {
    const command = new CreateMultipartUploadCommand({ Bucket: this.#bucket, Key: key, ...this.#creation(attributes) });
    const { UploadId } = await this.#call('CreateMultipartUpload', options, (signal) =>
      this.#client.send(command, { abortSignal: signal }),
    );
    if (UploadId === undefined) throw new ObjectStoreUnavailable('CreateMultipartUpload answered without an upload id');
    return UploadId;
  }

  async uploadPart(
    { key, uploadId, partNumber }: PartAddress,
    body: Buffer,
    options: CallOptions,
  ): Promise<UploadedPart> {
    const ETag =
      this.#options.checksum === 'sdk'
        ? await this.#uploadPartBySdk({ key, uploadId, partNumber }, body, options)
        : await this.#uploadPart({ key, uploadId, partNumber }, body, options);
    if (ETag === undefined) throw new ObjectStoreUnavailable('UploadPart answered without an entity tag');
    return { partNumber, etag: ETag, size: body.length };
  }

  async #uploadPart({ key, uploadId, partNumber }: PartAddress, body: Buffer, options: CallOptions) {
    const payloadHash =
      this.#options.checksum === 'sha256' ? createHash('sha256').update(body).digest('hex') : UNSIGNED_PAYLOAD;
    const request: S3Request = {
      method: 'PUT',
      key,
      query: { partNumber: String(partNumber), uploadId },
      headers: this.#checksum(body),
      body,
      payloadHash,
    };
    const answer = await this.#callUndamaged('UploadPart', () => this.#exchange('UploadPart', request, options));
    answer.body.resume();
    return answer.headers['etag'];
  }

  async #uploadPartBySdk({ key, uploadId, partNumber }: PartAddress, body: Buffer, options: CallOptions) {
    const address = { Bucket: this.#bucket, Key: key, UploadId: uploadId, PartNumber: partNumber };
    const command = new UploadPartCommand({ ...address, Body: body, ContentLength: body.length });
    const answer = await this.#callUndamaged('UploadPart', () =>
      this.#call('UploadPart', options, (signal) => this.#client.send(command, { abortSignal: signal })),
    );
    return answer.ETag;
  }

  async listParts(key: string, uploadId: string, options: CallOptions): Promise<UploadedPart[]> {
    const parts: UploadedPart[] = [];
    let marker: string | undefined;
    do {
      const command = new ListPartsCommand({
        Bucket: this.#bucket,
        Key: key,
        UploadId: uploadId,
        PartNumberMarker: marker,
      });
      const page = await this.#call('ListParts', options, (signal) =>
        this.#client.send(command, { abortSignal: signal }),
      );
      for (const { PartNumber, ETag, Size } of page.Parts ?? []) {
        if (PartNumber !== undefined && ETag !== undefined)
          parts.push({ partNumber: PartNumber, etag: ETag, size: Size ?? 0 });
      }
      marker = page.IsTruncated ? page.NextPartNumberMarker : undefined;
    } while (marker !== undefined);
    return parts;
  }

  async completeMultipartUpload(
    key: string,
    uploadId: string,
    parts: UploadedPart[],
    options: CallOptions,
  ): Promise<void> {
    const command = new CompleteMultipartUploadCommand({
      Bucket: this.#bucket,
      Key: key,
      UploadId: uploadId,
      MultipartUpload: { Parts: parts.map(({ partNumber, etag }) => ({ PartNumber: partNumber, ETag: etag })) },
    });
    await this.#call('CompleteMultipartUpload', options, (signal) =>
      this.#client.send(command, { abortSignal: signal }),
    );
  }

  async abortMultipartUpload(key: string, uploadId: string, options: CallOptions): Promise<void> {
    const command = new AbortMultipartUploadCommand({ Bucket: this.#bucket, Key: key, UploadId: uploadId });
    try {
      await this.#call('AbortMultipartUpload', options, (signal) =>
        this.#client.send(command, { abortSignal: signal }),
      );
    } catch (error) {
      if (!(error instanceof NoSuchUpload)) throw error;
    }
  }

  async listMultipartUploads(key: string, options: CallOptions): Promise<string[]> {
    const uploadIds: string[] = [];
    for await (const page of this.allMultipartUploads(key, options))
      for (const upload of page) if (upload.key === key) uploadIds.push(upload.uploadId);
    return uploadIds;
  }

  async *allMultipartUploads(prefix: string, options: CallOptions): AsyncGenerator<OpenUpload[]> {
    let markers: { KeyMarker?: string; UploadIdMarker?: string } | undefined = {};
    while (markers) {
      const command: ListMultipartUploadsCommand = new ListMultipartUploadsCommand({
        Bucket: this.#bucket,
        ...(prefix !== '' && { Prefix: prefix }),
        ...markers,
      });
      const page = await this.#call('ListMultipartUploads', options, (signal) =>
        this.#client.send(command, { abortSignal: signal }),
      );
      yield (page.Uploads ?? []).flatMap(({ Key, UploadId, Initiated }) =>
        Key === undefined || UploadId === undefined
          ? []
          : [{ key: Key, uploadId: UploadId, initiated: Initiated ?? new Date() }],
      );
      markers =
        page.IsTruncated && page.NextKeyMarker
          ? {
              KeyMarker: page.NextKeyMarker,
              ...(page.NextUploadIdMarker && { UploadIdMarker: page.NextUploadIdMarker }),
            }
          : undefined;
    }
  }

  async *list(prefix: string, options: CallOptions): AsyncGenerator<ListedObject[]> {
    let token: string | undefined;
    do {
      const command: ListObjectsV2Command = new ListObjectsV2Command({
        Bucket: this.#bucket,
        ...(prefix !== '' && { Prefix: prefix }),
        ...(token !== undefined && { ContinuationToken: token }),
      });
      const page = await this.#call('ListObjectsV2', options, (signal) =>
        this.#client.send(command, { abortSignal: signal }),
      );
      yield (page.Contents ?? []).flatMap(({ Key, Size, LastModified }) =>
        Key === undefined ? [] : [{ key: Key, size: Size ?? 0, lastModified: LastModified ?? new Date() }],
      );
      if (page.IsTruncated && page.NextContinuationToken === undefined)
        throw new ObjectStoreUnavailable('ListObjectsV2 answered a page without a way to the next');
      token = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async head(key: string, options: CallOptions): Promise<ObjectHead | undefined> {
    try {
      const { headers, body } = await this.#exchange('HeadObject', { method: 'HEAD', key }, options);
      body.resume();
      const metadata = Object.entries(headers).filter(([name]) => name.startsWith(METADATA));
      return {
        size: Number(headers['content-length'] ?? 0),
        lastModified: new Date(headers['last-modified'] ?? 0),
        contentType: headers['content-type'] ?? 'application/octet-stream',
        contentDisposition: headers['content-disposition'] ?? 'attachment',
        cacheControl: headers['cache-control'] ?? '',
        metadata: Object.fromEntries(metadata.map(([name, value]) => [name.slice(METADATA.length), value])),
      };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async get(key: string, options: CallOptions & { range?: ByteRange }): Promise<ObjectBody | undefined> {
    const { range, signal: callerSignal } = options;
    const headers: Record<string, string> = range ? { range: `bytes=${range.first}-${range.last}` } : {};
    try {
      const answer = await this.#exchange('GetObject', { method: 'GET', key, headers }, options);
      const length = Number(answer.headers['content-length'] ?? Number.NaN);
      if (Number.isNaN(length)) {
        answer.body.destroy();
        throw new ObjectStoreUnavailable('GetObject answered without a body of known length');
      }
      if (range && length !== range.last - range.first + 1) {
        answer.body.destroy();
        throw new ObjectStoreUnavailable('GetObject answered another range than the one asked for');
      }
      return { stream: new Exactly(length, answer.body, callerSignal), length };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async delete(key: string, options: CallOptions): Promise<void> {
    const command = new DeleteObjectCommand({ Bucket: this.#bucket, Key: key });
    try {
      await this.#call('DeleteObject', options, (signal) => this.#client.send(command, { abortSignal: signal }));
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }

  async deleteAll(keys: string[], options: CallOptions): Promise<string[]> {
    const left: string[] = [];
    for (let first = 0; first < keys.length; first += MAX_DELETED) {
      const some = keys.slice(first, first + MAX_DELETED);
      const command = new DeleteObjectsCommand({
        Bucket: this.#bucket,
        Delete: { Objects: some.map((Key) => ({ Key })), Quiet: true },
      });
      const { Errors = [] } = await this.#call('DeleteObjects', options, (signal) =>
        this.#client.send(command, { abortSignal: signal }),
      );
      // The answer is a 200 even when not one key was deleted.
      for (const { Key, Code } of Errors) {
        if (Code === 'NoSuchKey') continue;
        // Some servers name the fault without the key it belongs to.
        if (Key === undefined) return [...left, ...keys.slice(first)];
        left.push(Key);
      }
    }
    return left;
  }

  presignGet(key: string, link: LinkOptions): Promise<string> {
    const query = {
      'response-cache-control': link.cacheControl,
      'response-content-disposition': link.contentDisposition,
      'response-content-type': link.contentType,
    };
    return this.#publicRequests.presign({ method: 'GET', key, query }, link.expiresIn);
  }

  presignUploadPart(
    { key, uploadId, partNumber }: PartAddress,
    { size, expiresIn }: { size: number; expiresIn: number },
  ): Promise<string> {
    const query = { partNumber: String(partNumber), uploadId };
    // Signed as a header field, so that a body of another length is refused by the server.
    return this.#publicRequests.presign({ method: 'PUT', key, query }, expiresIn, { 'content-length': String(size) });
  }

  /** Signature Version 4 allows 7 days; a link ends with the temporary credentials that signed it. */
  async longestLink(): Promise<number> {
    const { expiration } = await this.#client.config.credentials();
    if (!expiration) return MAX_LINK;
    return Math.max(1, Math.min(MAX_LINK, Math.floor((expiration.getTime() - Date.now()) / 1000)));
  }

  async check(options: CallOptions): Promise<void> {
    const command = new HeadBucketCommand({ Bucket: this.#bucket });
    try {
      await this.#call('HeadBucket', options, (signal) => this.#client.send(command, { abortSignal: signal }));
    } catch (error) {
      options.signal?.throwIfAborted();
      throw error instanceof ObjectStoreUnavailable
        ? error
        : new ObjectStoreUnavailable('the bucket cannot be reached', { cause: error });
    }
  }

  async close(): Promise<void> {
    this.#client.destroy();
    this.#publicClient.destroy();
  }

  #creation({ contentType, contentDisposition, cacheControl, metadata }: ObjectAttributes) {
    const { storageClass, encryption } = this.#options;
    return {
      ContentType: contentType,
      ContentDisposition: contentDisposition,
      CacheControl: cacheControl,
      Metadata: metadata,
      ...(storageClass !== undefined && { StorageClass: storageClass as StorageClass }),
      ...(encryption.mode !== 'none' && { ServerSideEncryption: encryption.mode as ServerSideEncryption }),
      ...(encryption.mode === 'aws:kms' && encryption.keyId !== undefined && { SSEKMSKeyId: encryption.keyId }),
    };
  }

  /** The same as header fields (S3 API, PutObject). */
  #creationHeaders({ contentType, contentDisposition, cacheControl, metadata }: ObjectAttributes) {
    const { storageClass, encryption } = this.#options;
    const headers: Record<string, string> = {
      'content-type': contentType,
      'content-disposition': contentDisposition,
      'cache-control': cacheControl,
    };
    for (const [name, value] of Object.entries(metadata)) headers[METADATA + name] = value;
    if (storageClass !== undefined) headers['x-amz-storage-class'] = storageClass;
    if (encryption.mode !== 'none') headers['x-amz-server-side-encryption'] = encryption.mode;
    if (encryption.mode === 'aws:kms' && encryption.keyId !== undefined)
      headers['x-amz-server-side-encryption-aws-kms-key-id'] = encryption.keyId;
    return headers;
  }

  #checksum(body: Buffer): Record<string, string> {
    if (this.#options.checksum !== 'crc32') return {};
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE(crc32(body));
    return { 'x-amz-checksum-crc32': sum.toString('base64') };
  }

  /** One request within its deadline, which ends with the head of the answer: a body may take its time. */
  async #exchange(operation: string, request: S3Request, { signal }: CallOptions): Promise<S3Response> {
    signal?.throwIfAborted();
    const stop = new AbortController();
    const onAbort = () => stop.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    const late = () => stop.abort(new ObjectStoreUnavailable(`${operation} took too long`));
    const timer = setTimeout(late, this.#options.deadline);
    try {
      return await this.#requests.send(operation, request, stop.signal);
    } catch (error) {
      signal?.throwIfAborted();
      throw translate(operation, error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Runs one call within its deadline and turns its faults into those of the port. */
  async #call<Output extends { $metadata: { attempts?: number } }>(
    operation: string,
    { signal }: CallOptions,
    send: (signal: AbortSignal) => Promise<Output>,
  ): Promise<Output> {
    signal?.throwIfAborted();
    const deadline = AbortSignal.timeout(this.#options.deadline);
    try {
      const output = await send(signal ? AbortSignal.any([signal, deadline]) : deadline);
      this.#countRetries(operation, output);
      return output;
    } catch (error) {
      this.#countRetries(operation, error);
      signal?.throwIfAborted();
      throw translate(operation, error);
    }
  }

  /** Calls with bytes: when these arrived as others, which the store noticed, they are sent again. */
  async #callUndamaged<Output>(operation: string, call: () => Promise<Output>): Promise<Output> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await call();
      } catch (error) {
        const cause = error instanceof Error ? error.cause : undefined;
        const isDamage = cause instanceof S3ServiceException && damages.has(cause.name);
        if (!isDamage || attempt === TRIES) throw error;
        this.#options.onRetries?.(operation, 1);
      }
    }
  }

  #countRetries(operation: string, outcome: unknown): void {
    const metadata = outcome instanceof Object && '$metadata' in outcome ? outcome.$metadata : undefined;
    const attempts = metadata instanceof Object && 'attempts' in metadata ? Number(metadata.attempts) : 1;
    if (attempts > 1) this.#options.onRetries?.(operation, attempts - 1);
  }
}

/** A client with our time limits, retries and checksums. */
export function makeClient(options: S3Options, endpoint: string | undefined): S3Client {
  const agent = { keepAlive: true, maxSockets: options.sockets, scheduling: 'lifo' as const };
  const mode = options.checksum === 'sdk' ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED';
  return new S3Client({
    region: options.region,
    forcePathStyle: options.forcePathStyle,
    ...(endpoint !== undefined && { endpoint }),
    ...(options.credentials && { credentials: options.credentials }),
    requestChecksumCalculation: mode,
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: TRIES,
    retryMode: 'standard',
    requestHandler: new NodeHttpHandler({
      httpAgent: new HttpAgent(agent),
      httpsAgent: new HttpsAgent(agent),
      connectionTimeout: options.connectTimeout,
      requestTimeout: options.requestTimeout,
      throwOnRequestTimeout: true,
      // Waiting for a socket is no fault: parts in flight are bounded by us.
      socketAcquisitionWarningTimeout: options.deadline,
    }),
  });
}

/** Seconds. */
const MAX_LINK = 7 * 24 * 3600;

/** What stores answer when the bytes that arrived are not the ones that were signed; the SDK gives up on them. */
const damages = new Set(['BadDigest', 'XAmzContentSHA256Mismatch', 'XAmzContentChecksumMismatch']);

const multipartOperations = new Set(['UploadPart', 'ListParts', 'CompleteMultipartUpload', 'AbortMultipartUpload']);

/** Faults after which nobody knows what the server did, or which a later try may not meet. */
function translate(operation: string, error: unknown): unknown {
  if (error instanceof S3ServiceException) {
    // Ceph calls an upload that is gone a missing key.
    const gone = error.name === 'NoSuchUpload' || (isMissing(error) && multipartOperations.has(operation));
    if (gone) return new NoSuchUpload(`${operation}: no such upload`);
    if (isMissing(error)) return error;
    // Wrong credentials, a missing bucket, clock skew, throttling, 5xx: the store cannot be used as it is.
  }
  return new ObjectStoreUnavailable(`${operation} failed`, { cause: error });
}

function isMissing(error: unknown): boolean {
  return (
    error instanceof S3ServiceException &&
    (error.name === 'NoSuchKey' || (error.name === 'NotFound' && error.$metadata.httpStatusCode === 404))
  );
}

/** Passes the bytes on and fails when fewer or more than `length` come, so that a cut answer never looks whole. */
class Exactly extends Readable {
  readonly #source: IncomingMessage;
  #seen = 0;

  constructor(length: number, source: IncomingMessage, signal: AbortSignal | undefined) {
    super({ highWaterMark: READ_AHEAD });
    this.#source = source;
    const broke = (cause?: unknown) =>
      this.destroy(new ObjectStoreUnavailable('the object store broke off', cause === undefined ? {} : { cause }));
    source.on('data', (chunk: Buffer) => {
      this.#seen += chunk.length;
      if (this.#seen > length) this.destroy(new ObjectStoreUnavailable('the object is longer than announced'));
      else if (!this.push(chunk)) source.pause();
    });
    source.on('end', () => {
      if (this.#seen < length) this.destroy(new ObjectStoreUnavailable('the object ended early'));
      else this.push(null);
    });
    source.on('error', broke);
    // Of what the socket reads the parser makes copies; ours is the last to hear of it.
    const { socket } = source;
    const freeIt = (chunk: Buffer) => free(chunk);
    const forget = () => socket.off('data', freeIt);
    socket.on('data', freeIt);
    source.once('end', forget);
    source.once('close', forget);
    source.on('close', () => {
      if (!source.readableEnded) broke();
    });
    const onAbort = () => this.destroy();
    signal?.addEventListener('abort', onAbort, { once: true });
    this.once('close', () => signal?.removeEventListener('abort', onAbort));
  }

  override _read(): void {
    this.#source.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#source.destroy();
    done(error);
  }
}
