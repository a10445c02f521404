/**
 * `node bench/part-writer.ts`: one GiB into an S3 server, by the upload manager of the SDK (`Upload` of
 * @aws-sdk/lib-storage) and by our PartWriter over PartBuffers, with the same client, part size and parts in flight.
 *
 * Both are fed whole parts, which suits the upload manager best: it then has nothing to put together. The manager signs
 * the SHA-256 of every part; so ours runs twice, once doing the same and once with the CRC32 that is the default.
 * Each run is a process of its own, rounds are interleaved, and every object is deleted before the next run.
 *
 *   S3_ENDPOINT=http://127.0.0.1:7480 S3_BUCKET=dev S3_ACCESS_KEY_ID=... S3_SECRET_ACCESS_KEY=... node bench/part-writer.ts
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { Agent } from 'node:http';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { S3Client } from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { isLoopback, loadConfig } from '../src/config.ts';
import type { ObjectAttributes } from '../src/storage/object-store.ts';
import { PartBuffers } from '../src/storage/part-buffers.ts';
import { PartWriter } from '../src/storage/part-writer.ts';
import { S3ObjectStore, type S3Options } from '../src/storage/s3/s3-object-store.ts';

const MiB = 1024 * 1024;
const SIZE = 1024 * MiB;
const PART_SIZE = 8 * MiB;
const PARTS_IN_FLIGHT = 4;
const ROUNDS = 3;

const variants = ['lib-storage', 'writer, sha256', 'writer, crc32'] as const;
type Variant = (typeof variants)[number];

interface Measurement {
  seconds: number;
  cpuSeconds: number;
  /** MiB. */
  peakRss: number;
}

const attributes: ObjectAttributes = {
  contentType: 'application/octet-stream',
  contentDisposition: 'attachment',
  cacheControl: 'no-store',
  metadata: {},
};

const [, script = '', wanted] = process.argv;
const variant = variants.find((each) => each === wanted);
if (variant) console.log(JSON.stringify(await measure(variant)));
else compare();

function compare(): void {
  const results = new Map<Variant, Measurement[]>(variants.map((each) => [each, []]));
  for (let round = 1; round <= ROUNDS; round++) {
    for (const [each, measurements] of results) {
      const output = execFileSync(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), each]);
      measurements.push(JSON.parse(output.toString()));
    }
  }
  console.log(`${SIZE / MiB} MiB, parts of ${PART_SIZE / MiB} MiB, ${PARTS_IN_FLIGHT} in flight, ${ROUNDS} rounds\n`);
  console.log('| | seconds | CPU seconds | peak RSS, MiB |\n|---|---|---|---|');
  for (const [each, measurements] of results) {
    const row = (['seconds', 'cpuSeconds', 'peakRss'] as const).map((column) =>
      measurements.map((measurement) => measurement[column].toFixed(column === 'peakRss' ? 0 : 1)).join(' / '),
    );
    console.log(`| ${each} | ${row.join(' | ')} |`);
  }
}

async function measure(each: Variant): Promise<Measurement> {
  const options = s3Options(each === 'writer, crc32' ? 'crc32' : 'sha256');
  const store = new S3ObjectStore(options);
  const key = `bench/part-writer/${randomBytes(8).toString('hex')}`;
  const startedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  try {
    await (each === 'lib-storage' ? byUploadManager(options, key) : byPartWriter(store, key));
    const { user, system } = process.cpuUsage(cpuBefore);
    const seconds = (performance.now() - startedAt) / 1000;
    const head = await store.head(key, {});
    if (head?.size !== SIZE) throw new Error(`the object has ${head?.size} bytes`);
    return { seconds, cpuSeconds: (user + system) / 1e6, peakRss: process.resourceUsage().maxRSS / 1024 };
  } finally {
    await store.delete(key, {});
    await store.close();
  }
}

/** The same memory each time: only what is done with it is measured. */
async function* parts(): AsyncGenerator<Buffer> {
  const part = randomBytes(PART_SIZE);
  for (let sent = 0; sent < SIZE; sent += PART_SIZE) yield part;
}

async function byUploadManager(options: S3Options, key: string): Promise<void> {
  const client = new S3Client({
    region: options.region,
    endpoint: options.endpoint ?? '',
    forcePathStyle: options.forcePathStyle,
    ...(options.credentials && { credentials: options.credentials }),
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: new NodeHttpHandler({
      httpAgent: new Agent({ keepAlive: true, maxSockets: options.sockets.uploads, scheduling: 'lifo' }),
      connectionTimeout: options.connectTimeout,
      requestTimeout: options.requestTimeout,
    }),
  });
  const upload = new Upload({
    client,
    params: { Bucket: options.bucket, Key: key, Body: Readable.from(parts()) },
    partSize: PART_SIZE,
    queueSize: PARTS_IN_FLIGHT,
  });
  await upload.done();
  client.destroy();
}

async function byPartWriter(store: S3ObjectStore, key: string): Promise<void> {
  const writer = new PartWriter({
    store,
    buffers: new PartBuffers((PARTS_IN_FLIGHT + 1) * PART_SIZE, PART_SIZE),
    key,
    partsInFlight: PARTS_IN_FLIGHT,
    signal: new AbortController().signal,
    attributes: () => attributes,
    beforeSending: async () => {},
  });
  await writer.open(SIZE, 0, new AbortController().signal);
  for await (const part of parts()) await writer.write(part);
  // Only a whole `put` sends this digest; intake would have it by now.
  await writer.finish(createHash('sha256').digest());
}

function s3Options(checksum: S3Options['checksum']): S3Options {
  const config = loadConfig({ S3_FORCE_PATH_STYLE: 'true', ...process.env });
  const { S3_BUCKET, S3_ENDPOINT, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY } = config;
  if (!S3_BUCKET || !S3_ENDPOINT || !S3_ACCESS_KEY_ID || !S3_SECRET_ACCESS_KEY)
    throw new Error(`${script} needs S3_ENDPOINT, S3_BUCKET, S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY`);
  if (!isLoopback(new URL(S3_ENDPOINT).hostname)) throw new Error('S3_ENDPOINT must be on this machine');
  return {
    bucket: S3_BUCKET,
    region: config.S3_REGION,
    endpoint: S3_ENDPOINT,
    credentials: { accessKeyId: S3_ACCESS_KEY_ID, secretAccessKey: S3_SECRET_ACCESS_KEY },
    forcePathStyle: config.S3_FORCE_PATH_STYLE,
    encryption: { mode: 'none' },
    checksum,
    connectTimeout: config.S3_CONNECT_TIMEOUT,
    requestTimeout: config.S3_REQUEST_TIMEOUT,
    deadline: config.S3_DEADLINE,
    sockets: { uploads: 64, downloads: 64, calls: 64, probes: 4 },
  };
}
