/** Objects of classes that cannot be read at once (S3 API, RestoreObject and HeadObject, "x-amz-restore"). */
import { RestoreObjectCommand, type S3Client, S3ServiceException, type Tier } from '@aws-sdk/client-s3';
import { type CallOptions, type Readiness, type RestoreSpeed, SpeedNotAvailable } from '../object-store.ts';
import type { S3Calls } from './calls.ts';

/** Amazon S3 User Guide, "Storage classes for rarely accessed objects": the others of AWS are read at once. */
const offlineClasses = new Set(['GLACIER', 'DEEP_ARCHIVE']);
const tiers: Readonly<Record<RestoreSpeed, Tier>> = { expedited: 'Expedited', standard: 'Standard', bulk: 'Bulk' };

/** @param headers of the answer to HeadObject */
export function readinessOf(headers: Readonly<Record<string, string>>): Readiness {
  const told = { size: Number(headers['content-length'] ?? 0), etag: headers['etag'] };
  const restore = headers['x-amz-restore'];
  if (restore !== undefined) {
    if (/ongoing-request="true"/.test(restore)) return { ...told, state: 'coming' };
    const until = new Date(/expiry-date="([^"]+)"/.exec(restore)?.[1] ?? '');
    if (!Number.isNaN(until.getTime())) return { ...told, state: 'readable', until };
  }
  return { ...told, state: offlineClasses.has(headers['x-amz-storage-class'] ?? '') ? 'offline' : 'readable' };
}

/** See `OfflineObjects.request`. */
export async function requestObject(
  { client, calls, bucket }: { client: S3Client; calls: S3Calls; bucket: string },
  key: string,
  { days, speed }: { days: number; speed: RestoreSpeed },
  options: CallOptions,
): Promise<void> {
  const command = new RestoreObjectCommand({
    Bucket: bucket,
    Key: key,
    RestoreRequest: { Days: days, GlacierJobParameters: { Tier: tiers[speed] } },
  });
  try {
    await calls.command('RestoreObject', options, (abortSignal) => client.send(command, { abortSignal }));
  } catch (error) {
    const code = codeOf(error);
    if (code === 'RestoreAlreadyInProgress') return;
    if (code === 'GlacierExpeditedRetrievalNotAvailable' || (speed === 'expedited' && code === 'InvalidArgument'))
      throw new SpeedNotAvailable(`the server does not bring objects back ${speed}`, { cause: error });
    throw error;
  }
}

function codeOf(error: unknown): string | undefined {
  for (let each = error; each instanceof Error; each = each.cause)
    if (each instanceof S3ServiceException) return each.name;
  return undefined;
}
