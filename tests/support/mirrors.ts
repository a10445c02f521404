/** Mirrors of tests: second buckets of the S3 server, and what they hold. */
import { createHash } from 'node:crypto';
import { GetObjectCommand } from '@aws-sdk/client-s3';
import { contentsOf, requireS3Settings, type TestBucket } from './s3.ts';
import type { TestService } from './service.ts';
import { waitUntil } from './wait-until.ts';

/** A bucket as the file MIRRORS names it. @param more fields, such as another endpoint */
export function bucketAsMirror({ bucket }: TestBucket, more: Record<string, unknown> = {}): object {
  const { endpoint, region, accessKeyId, secretAccessKey } = requireS3Settings();
  return { bucket, endpoint, region, accessKeyId, secretAccessKey, forcePathStyle: true, ...more };
}

/** Digests of all objects of a bucket, by key. @param prefix of those that are told, which the keys are without */
export async function digestsIn(bucket: TestBucket, prefix = ''): Promise<Record<string, string>> {
  const { keys } = await contentsOf(bucket);
  const found: Record<string, string> = {};
  for (const key of keys.filter((each) => each.startsWith(prefix))) {
    const { Body } = await bucket.client.send(new GetObjectCommand({ Bucket: bucket.bucket, Key: key }));
    const bytes = (await Body?.transformToByteArray()) ?? new Uint8Array();
    found[key.slice(prefix.length)] = createHash('sha256').update(bytes).digest('hex');
  }
  return found;
}

/** Until nothing is to be copied and nothing to be removed. @param mirror all of them when absent */
export async function mirrored({ query }: Pick<TestService, 'query'>, mirror?: string): Promise<void> {
  await waitUntil(async () => {
    const left = await query(
      `select 1 from copies where state in ('pending', 'failed', 'deleting') and mirror = coalesce($1, mirror) limit 1`,
      [mirror ?? null],
    );
    return left.length === 0;
  });
}

export interface CopyRow {
  mirror: string;
  object_key: string;
  asset_id: string;
  state: string;
  attempts: number;
  reason: string | null;
}

export function copyRows({ query }: Pick<TestService, 'query'>, mirror: string): Promise<CopyRow[]> {
  return query<CopyRow>('select * from copies where mirror = $1 order by object_key', [mirror]);
}
