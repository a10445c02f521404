/** What a bucket keeps of objects that were deleted or replaced (S3 API, "Using versioning in S3 buckets"). */
import {
  DeleteObjectsCommand,
  GetBucketVersioningCommand,
  ListObjectVersionsCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { type CallOptions, ObjectStoreRefused, ObjectStoreUnavailable } from '../object-store.ts';
import type { S3Calls } from './calls.ts';

interface Target {
  client: S3Client;
  bucket: string;
  calls: S3Calls;
}

/** Versions deleted by one request, which may have 1,000; fewer, as some servers delete them one after the other. */
const AT_ONCE = 250;

/** Suspended keeps what there was, and makes marks. Servers without versions answer nothing, or that they do not know it. */
export async function keepsVersions(
  { client, bucket, calls }: Target,
  options: CallOptions,
): Promise<'no' | 'yes' | 'unknown'> {
  try {
    const command = new GetBucketVersioningCommand({ Bucket: bucket });
    const { Status } = await calls.command('GetBucketVersioning', options, (signal) =>
      client.send(command, { abortSignal: signal }),
    );
    return Status === undefined ? 'no' : 'yes';
  } catch (error) {
    // A permission that is missing, or a server that does not have it: what it keeps cannot be asked.
    if (error instanceof ObjectStoreRefused) return 'unknown';
    throw error;
  }
}

/** Lists from the start until nothing is left: what was listed is gone by then. */
export async function purgeVersions(
  target: Target,
  prefix: string,
  options: CallOptions,
): Promise<{ versions: number; bytes: number }> {
  const { client, bucket, calls } = target;
  const purged = { versions: 0, bytes: 0 };
  for (;;) {
    const command = new ListObjectVersionsCommand({ Bucket: bucket, Prefix: prefix, MaxKeys: AT_ONCE });
    const { Versions = [], DeleteMarkers = [] } = await calls.command('ListObjectVersions', options, (signal) =>
      client.send(command, { abortSignal: signal }),
    );
    const found = [...Versions, ...DeleteMarkers].flatMap(({ Key, VersionId }) =>
      Key === undefined ? [] : [{ Key, VersionId }],
    );
    if (found.length === 0) return purged;
    await deleteVersions(target, found, options);
    purged.versions += Versions.length;
    purged.bytes += Versions.reduce((sum, { Size = 0 }) => sum + Size, 0);
  }
}

async function deleteVersions(
  { client, bucket, calls }: Target,
  found: { Key: string; VersionId: string | undefined }[],
  options: CallOptions,
): Promise<void> {
  const command = new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects: found, Quiet: true } });
  const { Errors = [] } = await calls.command('DeleteObjects', options, (signal) =>
    client.send(command, { abortSignal: signal }),
  );
  const faults = Errors.filter(({ Code }) => Code !== 'NoSuchKey' && Code !== 'NoSuchVersion');
  if (faults.length > 0)
    throw new ObjectStoreUnavailable(
      `${faults.length} versions were not deleted: ${faults[0]?.Code ?? 'no reason was told'}`,
    );
}
