/**
 * Copies from one bucket to another by the server that has both (S3 API, CopyObject and UploadPartCopy), so that the bytes
 * stay there. A request may take no longer than any other, so it copies so much as a server does in that time, and larger
 * objects are copied in parts.
 */
import { CopyObjectCommand, type S3Client, type StorageClass, UploadPartCopyCommand } from '@aws-sdk/client-s3';
import { inParallel } from '../in-parallel.ts';
import {
  type CallOptions,
  MAX_PARTS,
  type ObjectHead,
  type ObjectStore,
  ObjectStoreUnavailable,
  type UploadedPart,
} from '../object-store.ts';
import type { S3Calls } from './calls.ts';
import type { S3Options } from './client.ts';
import { isMissing } from './faults.ts';

/** Bytes that one request copies; AWS does some hundred MiB in a second. */
const PART = 64 * 1024 * 1024;
const PARTS_AT_ONCE = 4;

interface CopyTarget extends Pick<S3Options, 'encryption'> {
  store: ObjectStore;
  client: S3Client;
  calls: S3Calls;
  bucket: string;
  storageClass: string | undefined;
}

interface CopySource {
  bucket: string;
  key: string;
  attributes(): Promise<ObjectHead | undefined>;
}

/** Whether one server holds both buckets, and the keys of the one store may read what is in the other. */
export function isSameServer(one: S3Options, other: S3Options): boolean {
  return (
    one.endpoint === other.endpoint &&
    one.region === other.region &&
    one.credentials?.accessKeyId === other.credentials?.accessKeyId &&
    one.credentials?.secretAccessKey === other.credentials?.secretAccessKey
  );
}

/** See `ObjectStore.copyFrom`. */
export async function copyOnServer(
  target: CopyTarget,
  source: CopySource,
  key: string,
  options: CallOptions & { size: number },
): Promise<'copied' | 'missing'> {
  if (options.size > PART) return copyInParts(target, source, key, options);
  try {
    await copyWhole(target, source, key, options);
    return 'copied';
  } catch (error) {
    if (isMissing(error)) return 'missing';
    throw error;
  }
}

/** As the header field wants it: each segment of the key encoded. */
function sourceOf({ bucket, key }: CopySource): string {
  return `${bucket}/${key.split('/').map(encodeURIComponent).join('/')}`;
}

async function copyWhole(target: CopyTarget, source: CopySource, key: string, options: CallOptions): Promise<void> {
  const { client, calls, bucket, storageClass, encryption } = target;
  const command = new CopyObjectCommand({
    Bucket: bucket,
    Key: key,
    CopySource: sourceOf(source),
    MetadataDirective: 'COPY',
    // The SDK knows the classes of AWS; other servers have their own, and each refuses what it does not know.
    ...(storageClass !== undefined && { StorageClass: storageClass as StorageClass }),
    ...(encryption.mode !== 'none' && { ServerSideEncryption: encryption.mode }),
    ...(encryption.mode === 'aws:kms' && encryption.keyId !== undefined && { SSEKMSKeyId: encryption.keyId }),
  });
  await calls.command('CopyObject', options, (abortSignal) => client.send(command, { abortSignal }));
}

async function copyInParts(
  target: CopyTarget,
  source: CopySource,
  key: string,
  options: CallOptions & { size: number },
): Promise<'copied' | 'missing'> {
  const { store } = target;
  const { size } = options;
  const partSize = Math.max(PART, Math.ceil(size / MAX_PARTS));
  const attributes = await source.attributes();
  if (!attributes) return 'missing';
  const uploadId = await store.createMultipartUpload(key, attributes, { ...options, partSize });
  try {
    const numbers = Array.from({ length: Math.ceil(size / partSize) }, (_, index) => index + 1);
    const parts: UploadedPart[] = [];
    const faults: unknown[] = [];
    // None is under way any more when the upload is ended.
    await inParallel(numbers, PARTS_AT_ONCE, async (partNumber) => {
      if (faults.length > 0) return;
      const first = (partNumber - 1) * partSize;
      const last = Math.min(size, first + partSize) - 1;
      const part = copyPart(target, source, { key, uploadId, partNumber, first, last }, options);
      await part.then(
        (copied) => parts.push(copied),
        (error) => faults.push(error),
      );
    });
    if (faults.length > 0) throw faults[0];
    parts.sort((one, other) => one.partNumber - other.partNumber);
    await store.completeMultipartUpload(key, uploadId, parts, options);
    return 'copied';
  } catch (error) {
    // What cannot be dropped now is dropped when the key is erased or copied again.
    await store.abortMultipartUpload(key, uploadId, {}).catch(() => {});
    throw error;
  }
}

async function copyPart(
  { client, calls, bucket }: CopyTarget,
  source: CopySource,
  part: { key: string; uploadId: string; partNumber: number; first: number; last: number },
  options: CallOptions,
): Promise<UploadedPart> {
  const { key, uploadId, partNumber, first, last } = part;
  const command = new UploadPartCopyCommand({
    Bucket: bucket,
    Key: key,
    UploadId: uploadId,
    PartNumber: partNumber,
    CopySource: sourceOf(source),
    CopySourceRange: `bytes=${first}-${last}`,
  });
  const { CopyPartResult } = await calls.command('UploadPartCopy', options, (abortSignal) =>
    client.send(command, { abortSignal }),
  );
  if (CopyPartResult?.ETag === undefined)
    throw new ObjectStoreUnavailable('UploadPartCopy answered without an entity tag');
  return { partNumber, etag: CopyPartResult.ETag, size: last - first + 1 };
}
