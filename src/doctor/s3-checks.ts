/** What only an S3 server can be asked. */

import { createHash } from 'node:crypto';
import { type Config, MIN_PART } from '../config.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { s3Options } from '../storage/open.ts';
import { probeFolder } from '../storage/probe-keys.ts';
import { allowsOrigin, evaluatesCopySource, probeRefusal, probeS3, type S3Facts } from '../storage/s3/probes.ts';
import { type Check, Fault } from './check.ts';
import { skewOf } from './database-checks.ts';
import { explainRefusal } from './s3-refusals.ts';

/** S3 refuses signatures that are older or newer than 15 minutes. */
const SKEW_SECONDS = 5 * 60;

export function s3Checks(config: Config, store: ObjectStore): Check[] {
  let probing: Promise<S3Facts> | undefined;
  const facts = () => (probing ??= probeS3(s3Options(config), config.S3_KEY_PREFIX));
  return [
    { name: 'clock against S3', needed: true, run: async () => clock(await facts()) },
    { name: 'checksum mode', needed: config.S3_CHECKSUM === 'sdk', run: async () => checksums(config, await facts()) },
    { name: 'conditional writes', needed: false, run: async () => conditionalWrites(await facts()) },
    { name: 'copy source on part links', needed: true, run: () => copySource(config, store) },
    { name: 'CORS preflight', needed: config.CORS_ORIGINS.length > 0, run: () => cors(config, store) },
  ];
}

/** Why the bucket cannot be used, and which setting to look at; undefined when it can. */
export async function explainStore(config: Config): Promise<string | undefined> {
  const refusal = await probeRefusal(s3Options(config), config.S3_KEY_PREFIX);
  return refusal && explainRefusal(config, refusal);
}

async function copySource(config: Config, store: ObjectStore): Promise<string> {
  const folder = probeFolder(config.S3_KEY_PREFIX, 'doctor');
  const [existing, missing, key] = [`${folder}/existing`, `${folder}/missing`, `${folder}/part`];
  const attributes = {
    contentType: 'application/octet-stream',
    contentDisposition: 'attachment',
    cacheControl: 'no-store',
    metadata: {},
  };
  const size = 1000;
  const body = Buffer.alloc(size);
  await store.put(existing, body, attributes, { sha256: createHash('sha256').update(body).digest() });
  const uploadId = await store.createMultipartUpload(key, attributes, { partSize: MIN_PART });
  try {
    const link = () => store.presignUploadPart({ key, uploadId, partNumber: 1 }, { size, expiresIn: 60 });
    if (!(await evaluatesCopySource(link, size, s3Options(config).bucket, { existing, missing })))
      return 'header fields that a link does not sign are refused';
  } finally {
    await store.abortMultipartUpload(key, uploadId, {});
    await store.delete(existing, {});
  }
  throw new Fault(
    'the server acts on x-amz-copy-source although links to parts do not sign it: whoever may upload directly learns which keys exist and how large they are. Set S3_SIGN_NO_COPY=true and look again, or update the server',
  );
}

function clock({ clock: read }: S3Facts): string | { skipped: string } {
  return read ? skewOf(read.theirs, read.before, SKEW_SECONDS) : { skipped: 'the server does not say its time' };
}

function checksums({ S3_CHECKSUM }: Config, { verifiesCrc32, takesSdkChecksums }: S3Facts): string {
  if (S3_CHECKSUM === 'sdk') {
    if (takesSdkChecksums) return 'the checksums of the SDK are taken';
    throw new Fault('the server does not take the checksums of the SDK: set S3_CHECKSUM=crc32 or sha256');
  }
  if (S3_CHECKSUM === 'sha256') return 'every body is signed with its SHA-256, which every server verifies';
  if (verifiesCrc32) return 'the server verifies CRC32';
  throw new Fault('the server ignores CRC32, so damage on the way is found by TLS alone: S3_CHECKSUM=sha256 is safer');
}

function conditionalWrites(facts: S3Facts): string {
  if (facts.conditionalWrites) return 'the server has them';
  throw new Fault('the server does not have them; nothing here needs them, because every key is new');
}

async function cors({ CORS_ORIGINS }: Config, store: ObjectStore): Promise<string | { skipped: string }> {
  const [first] = CORS_ORIGINS;
  if (first === undefined) return { skipped: 'CORS_ORIGINS is empty: pages do not upload to the bucket' };
  const origin = first === '*' ? 'https://example.com' : first;
  const part = { key: 'doctor/none', uploadId: 'none', partNumber: 1 };
  const url = await store.presignUploadPart(part, { size: 1, expiresIn: 60 });
  if (await allowsOrigin(url, origin)) return `pages of ${origin} may upload`;
  throw new Fault(`pages of ${origin} may not upload to the bucket: run npm run setup-bucket`);
}
