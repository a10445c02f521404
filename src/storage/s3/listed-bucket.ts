/** Whether a bucket is among those that its credentials may list. */
import { ListBucketsCommand, type S3Client } from '@aws-sdk/client-s3';
import { type CallOptions, refusalIn } from '../object-store.ts';
import type { S3Calls } from './calls.ts';

/** See `ObjectStore.isListed`. */
export async function isListed(
  { client, calls, bucket }: { client: S3Client; calls: S3Calls; bucket: string },
  options: CallOptions,
): Promise<boolean | undefined> {
  const command = new ListBucketsCommand({});
  try {
    const { Buckets = [] } = await calls.command('ListBuckets', options, (signal) =>
      client.send(command, { abortSignal: signal }),
    );
    return Buckets.some(({ Name }) => Name === bucket);
  } catch (error) {
    if (refusalIn(error)?.isDenied) return undefined;
    throw error;
  }
}
