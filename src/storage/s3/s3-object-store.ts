/**
 * The object store on any S3 API: AWS, R2, Wasabi, B2, Spaces, Ceph, SeaweedFS, Garage. Only this folder knows the SDK.
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
import type { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  HeadBucketCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { MAX_LINK } from '../../config.ts';
import { maxPartsOf } from '../../storage-providers.ts';
import {
  type ByteRange,
  type CallOptions,
  type CreationOptions,
  type LinkOptions,
  type ListedObject,
  NoSuchUpload,
  type ObjectAttributes,
  type ObjectBody,
  type ObjectHead,
  type ObjectStore,
  ObjectStoreUnavailable,
  type OfflineObjects,
  type OpenUpload,
  type PartAddress,
  type Readiness,
  type RestoreSpeed,
  type StreamOptions,
  type UploadedPart,
  type WrittenObject,
} from '../object-store.ts';
import { attributesFrom, creationHeaders, creationInput } from './attributes.ts';
import { S3Calls } from './calls.ts';
import { makeClient, type S3Options, TRIES } from './client.ts';
import { deleteObjects } from './delete-objects.ts';
import { isMissing } from './faults.ts';
import { LengthCheckedStream } from './length-checked-stream.ts';
import { isListed } from './listed-bucket.ts';
import { S3ObjectLocks } from './object-locks.ts';
import { readinessOf, requestObject } from './offline.ts';
import { type S3Request, S3Requests, UNSIGNED_PAYLOAD } from './s3-requests.ts';
import { copyOnServer, isSameServer } from './server-copy.ts';
import { uploadStream } from './stream-upload.ts';
import { keepsVersions, purgeVersions } from './versions.ts';

export type { S3Options } from './client.ts';

export class S3ObjectStore implements ObjectStore, OfflineObjects {
  readonly kind = 's3';
  readonly locks: S3ObjectLocks;
  readonly maxParts: number;
  readonly #client: S3Client;
  readonly #publicClient: S3Client;
  readonly #calls: S3Calls;
  /** For links: where clients find the bucket. */
  readonly #publicRequests: S3Requests;
  readonly #forbidCopySource: boolean;
  readonly #options: S3Options;
  readonly #bucket: string;

  constructor(options: S3Options) {
    this.#options = options;
    this.#bucket = options.bucket;
    this.maxParts = maxPartsOf(options.endpoint);
    this.#client = makeClient(options, options.endpoint);
    this.#publicClient = options.publicEndpoint ? makeClient(options, options.publicEndpoint) : this.#client;
    const { bucket, onRetries } = options;
    const requests = new S3Requests({ client: this.#client, bucket, tries: TRIES, onRetries });
    this.#calls = new S3Calls(requests, options);
    this.locks = new S3ObjectLocks({ client: this.#client, bucket, calls: this.#calls });
    this.#forbidCopySource = options.forbidCopySource ?? false;
    this.#publicRequests = options.publicEndpoint
      ? new S3Requests({ client: this.#publicClient, bucket, tries: TRIES })
      : requests;
  }

  async put(
    key: string,
    body: Buffer,
    attributes: ObjectAttributes,
    options: CallOptions & { sha256: Buffer },
  ): Promise<void> {
    if (this.#options.checksum === 'sdk') {
      const input = { Bucket: this.#bucket, Key: key, Body: body, ContentLength: body.length };
      const command = new PutObjectCommand({ ...input, ...creationInput(attributes, this.#options) });
      await this.#calls.undamaged('PutObject', () =>
        this.#calls.command('PutObject', options, (signal) => this.#client.send(command, { abortSignal: signal })),
      );
      return;
    }
    const headers = { ...creationHeaders(attributes, this.#options), ...this.#checksum(body) };
    const request = { method: 'PUT', key, headers, body, payloadHash: options.sha256.toString('hex') } as const;
    const answer = await this.#calls.undamaged('PutObject', () => this.#calls.request('PutObject', request, options));
    answer.body.resume();
  }

  putStream(
    key: string,
    source: () => Readable,
    attributes: ObjectAttributes,
    options: StreamOptions,
  ): Promise<WrittenObject> {
    const input = { Bucket: this.#bucket, Key: key, ...creationInput(attributes, this.#options) };
    const target = { store: this, client: this.#client, calls: this.#calls };
    return uploadStream(target, input, source, options);
  }

  async copyFrom(
    source: ObjectStore,
    sourceKey: string,
    key: string,
    options: CallOptions & { size: number },
  ): Promise<'copied' | 'elsewhere' | 'missing'> {
    if (!(source instanceof S3ObjectStore) || !isSameServer(source.#options, this.#options)) return 'elsewhere';
    const { storageClass, encryption } = this.#options;
    const target = { client: this.#client, calls: this.#calls, bucket: this.#bucket, storageClass, encryption };
    const attributes = () => source.head(sourceKey, options);
    return copyOnServer(
      { ...target, store: this },
      { bucket: source.#bucket, key: sourceKey, attributes },
      key,
      options,
    );
  }

  async createMultipartUpload(
    key: string,
    attributes: ObjectAttributes,
    options: CallOptions & Pick<CreationOptions, 'onDoubt'>,
  ): Promise<string> {
    const command = new CreateMultipartUploadCommand({
      Bucket: this.#bucket,
      Key: key,
      ...creationInput(attributes, this.#options),
    });
    const { UploadId, $metadata } = await this.#calls.command('CreateMultipartUpload', options, (signal) =>
      this.#client.send(command, { abortSignal: signal }),
    );
    if (($metadata.attempts ?? 1) > 1) options.onDoubt?.();
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
    const answer = await this.#calls.undamaged('UploadPart', () => this.#calls.request('UploadPart', request, options));
    answer.body.resume();
    return answer.headers['etag'];
  }

  async #uploadPartBySdk({ key, uploadId, partNumber }: PartAddress, body: Buffer, options: CallOptions) {
    const address = { Bucket: this.#bucket, Key: key, UploadId: uploadId, PartNumber: partNumber };
    const command = new UploadPartCommand({ ...address, Body: body, ContentLength: body.length });
    const answer = await this.#calls.undamaged('UploadPart', () =>
      this.#calls.command('UploadPart', options, (signal) => this.#client.send(command, { abortSignal: signal })),
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
      const page = await this.#calls.command('ListParts', options, (signal) =>
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
    await this.#calls.command('CompleteMultipartUpload', options, (signal) =>
      this.#client.send(command, { abortSignal: signal }),
    );
  }

  async abortMultipartUpload(key: string, uploadId: string, options: CallOptions): Promise<void> {
    const command = new AbortMultipartUploadCommand({ Bucket: this.#bucket, Key: key, UploadId: uploadId });
    try {
      await this.#calls.command('AbortMultipartUpload', options, (signal) =>
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
      const page = await this.#calls.command('ListMultipartUploads', options, (signal) =>
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
      const page = await this.#calls.command('ListObjectsV2', options, (signal) =>
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
      const { headers, body } = await this.#calls.request('HeadObject', { method: 'HEAD', key }, options);
      body.resume();
      return {
        size: Number(headers['content-length'] ?? 0),
        lastModified: new Date(headers['last-modified'] ?? 0),
        ...attributesFrom(headers),
      };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async readiness(key: string, options: CallOptions): Promise<Readiness | undefined> {
    try {
      const { headers, body } = await this.#calls.request('HeadObject', { method: 'HEAD', key }, options);
      body.resume();
      return readinessOf(headers);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  request(key: string, wish: { days: number; speed: RestoreSpeed }, options: CallOptions): Promise<void> {
    return requestObject({ client: this.#client, calls: this.#calls, bucket: this.#bucket }, key, wish, options);
  }

  async get(key: string, options: CallOptions & { range?: ByteRange }): Promise<ObjectBody | undefined> {
    const { range, signal: callerSignal } = options;
    const headers: Record<string, string> = range ? { range: `bytes=${range.first}-${range.last}` } : {};
    try {
      const answer = await this.#calls.request('GetObject', { method: 'GET', key, headers }, options);
      const length = Number(answer.headers['content-length'] ?? Number.NaN);
      if (Number.isNaN(length)) {
        answer.body.destroy();
        throw new ObjectStoreUnavailable('GetObject answered without a body of known length');
      }
      if (range && length !== range.last - range.first + 1) {
        answer.body.destroy();
        throw new ObjectStoreUnavailable('GetObject answered another range than the one asked for');
      }
      return { stream: new LengthCheckedStream(length, answer.body, callerSignal), length };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async delete(key: string, options: CallOptions): Promise<void> {
    const command = new DeleteObjectCommand({ Bucket: this.#bucket, Key: key });
    try {
      await this.#calls.command('DeleteObject', options, (signal) =>
        this.#client.send(command, { abortSignal: signal }),
      );
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }

  deleteAll(keys: string[], options: CallOptions): Promise<string[]> {
    return deleteObjects(this.#target, keys, options);
  }

  get #target() {
    return { client: this.#client, bucket: this.#bucket, calls: this.#calls };
  }

  keepsVersions(options: CallOptions): Promise<'no' | 'yes' | 'unknown'> {
    return keepsVersions(this.#target, options);
  }

  purgeVersions(prefix: string, options: CallOptions): Promise<{ versions: number; bytes: number }> {
    return purgeVersions(this.#target, prefix, options);
  }

  presignGet(key: string, link: LinkOptions): Promise<string> {
    const query = {
      'response-cache-control': link.cacheControl,
      'response-content-disposition': link.contentDisposition,
      'response-content-type': link.contentType,
    };
    return this.#publicRequests.presign({ method: 'GET', key, query }, link);
  }

  presignUploadPart(
    { key, uploadId, partNumber }: PartAddress,
    { size, expiresIn }: { size: number; expiresIn: number },
  ): Promise<string> {
    const query = { partNumber: String(partNumber), uploadId };
    // Signed as a header field, so that a body of another length is refused by the server.
    const signed = { 'content-length': String(size) };
    const request = { method: 'PUT' as const, key, query };
    if (this.#forbidCopySource) return this.#publicRequests.presignWithoutCopySource(request, expiresIn, signed);
    return this.#publicRequests.presign(request, { expiresIn }, signed);
  }

  /** Signature Version 4 allows 7 days; a link ends with the temporary credentials that signed it. */
  async longestLink(): Promise<number> {
    const { expiration } = await this.#client.config.credentials();
    if (!expiration) return MAX_LINK;
    return Math.max(1, Math.min(MAX_LINK, Math.floor((expiration.getTime() - Date.now()) / 1000)));
  }

  isListed(options: CallOptions): Promise<boolean | undefined> {
    return isListed({ client: this.#client, calls: this.#calls, bucket: this.#bucket }, options);
  }

  async check(options: CallOptions): Promise<void> {
    const command = new HeadBucketCommand({ Bucket: this.#bucket });
    try {
      await this.#calls.command('HeadBucket', options, (signal) => this.#client.send(command, { abortSignal: signal }));
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

  #checksum(body: Buffer): Record<string, string> {
    if (this.#options.checksum !== 'crc32') return {};
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE(crc32(body));
    return { 'x-amz-checksum-crc32': sum.toString('base64') };
  }
}
