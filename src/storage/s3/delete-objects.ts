/** Many objects deleted by few requests. */
import { DeleteObjectsCommand, type S3Client } from '@aws-sdk/client-s3';
import { inParallel } from '../in-parallel.ts';
import type { CallOptions } from '../object-store.ts';
import type { S3Calls } from './calls.ts';

/**
 * Keys in one request, which may have 1,000 (S3 API, DeleteObjects). Some servers delete them one after the other, and all
 * that within the time of one request; so there are fewer, and several requests at once.
 */
const MAX_KEYS = 250;
const AT_ONCE = 4;

interface Target {
  client: S3Client;
  bucket: string;
  calls: S3Calls;
}

/**
 * @returns the keys that are still there, for whatever reason
 * @throws what every request failed with
 */
export async function deleteObjects(target: Target, keys: string[], options: CallOptions): Promise<string[]> {
  const batches = Array.from({ length: Math.ceil(keys.length / MAX_KEYS) }, (_, index) =>
    keys.slice(index * MAX_KEYS, (index + 1) * MAX_KEYS),
  );
  const left: string[] = [];
  const faults: unknown[] = [];
  await inParallel(batches, AT_ONCE, async (batch) => {
    try {
      left.push(...(await deleteBatch(target, batch, options)));
    } catch (error) {
      options.signal?.throwIfAborted();
      faults.push(error);
      left.push(...batch);
    }
  });
  if (faults.length > 0 && faults.length === batches.length) throw faults[0];
  return left;
}

/** @returns the keys that are still there: the answer is a 200 even when not one was deleted */
async function deleteBatch({ client, bucket, calls }: Target, keys: string[], options: CallOptions): Promise<string[]> {
  const command = new DeleteObjectsCommand({
    Bucket: bucket,
    Delete: { Objects: keys.map((Key) => ({ Key })), Quiet: true },
  });
  const { Errors = [] } = await calls.command('DeleteObjects', options, (signal) =>
    client.send(command, { abortSignal: signal }),
  );
  const faults = Errors.filter(({ Code }) => Code !== 'NoSuchKey');
  // Some servers name the fault without the key it belongs to.
  return faults.some(({ Key }) => Key === undefined) ? keys : faults.flatMap(({ Key }) => Key ?? []);
}
