/** The attributes of an object, and how it is kept, as S3 wants to hear them when an object is made (S3 API, PutObject). */
import type { PutObjectCommandInput, StorageClass } from '@aws-sdk/client-s3';
import type { ObjectAttributes } from '../object-store.ts';
import type { S3Options } from './client.ts';

/** S3 API, "Working with object metadata": what is user-defined begins so. */
const METADATA = 'x-amz-meta-';

type Keeping = Pick<S3Options, 'storageClass' | 'encryption'>;

/** For commands of the SDK. */
export function creationInput(
  { contentType, contentDisposition, cacheControl, metadata }: ObjectAttributes,
  { storageClass, encryption }: Keeping,
): Omit<PutObjectCommandInput, 'Bucket' | 'Key' | 'Body'> {
  return {
    ContentType: contentType,
    ContentDisposition: contentDisposition,
    CacheControl: cacheControl,
    Metadata: metadata,
    // The SDK knows the classes of AWS; other servers have their own, and each refuses what it does not know.
    ...(storageClass !== undefined && { StorageClass: storageClass as StorageClass }),
    ...(encryption.mode !== 'none' && { ServerSideEncryption: encryption.mode }),
    ...(encryption.mode === 'aws:kms' && encryption.keyId !== undefined && { SSEKMSKeyId: encryption.keyId }),
  };
}

/** The same as header fields. */
export function creationHeaders(
  { contentType, contentDisposition, cacheControl, metadata }: ObjectAttributes,
  { storageClass, encryption }: Keeping,
): Record<string, string> {
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

/** The attributes that the header fields of an answer tell. */
export function attributesFrom(headers: Record<string, string>): ObjectAttributes {
  const metadata = Object.entries(headers).filter(([name]) => name.startsWith(METADATA));
  return {
    contentType: headers['content-type'] ?? 'application/octet-stream',
    contentDisposition: headers['content-disposition'] ?? 'attachment',
    cacheControl: headers['cache-control'] ?? '',
    metadata: Object.fromEntries(metadata.map(([name, value]) => [name.slice(METADATA.length), value])),
  };
}
