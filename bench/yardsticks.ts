/**
 * The least that could be done instead, from a process of its own: `node bench/yardsticks.ts OPTIONS`, with a JSON object
 * as its only argument. Prints a JSON object; `pipe` prints its URL and goes on until it is killed.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { DeleteObjectCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { Pool } from 'pg';
import type { S3Settings } from '../tests/support/s3.ts';

export type YardstickOptions =
  /** A server that pipes the body of each PUT into one PutObject. */
  | { kind: 'pipe'; s3: S3Settings; bucket: string }
  /** PutObject of buffers, as many as are answered. */
  | { kind: 'put'; s3: S3Settings; bucket: string; size: number; atOnce: number; seconds: number }
  /** DeleteObject of objects that are there, so many of them. */
  | { kind: 'delete'; s3: S3Settings; bucket: string; count: number; atOnce: number }
  /** getSignedUrl in a loop. */
  | { kind: 'presign'; s3: S3Settings; bucket: string; seconds: number }
  /** A statement by a bare pool. */
  | {
      kind: 'statement';
      databaseUrl: string;
      text: string;
      values: unknown[];
      connections: number;
      atOnce: number;
      seconds: number;
    };

export interface Rate {
  perSecond: number;
}

const options = JSON.parse(process.argv[2] ?? '{}') as YardstickOptions;
switch (options.kind) {
  case 'pipe': {
    const client = clientOf(options.s3);
    const server = createServer((request, response) => {
      const put = new PutObjectCommand({
        Bucket: options.bucket,
        Key: `pipe/${randomBytes(8).toString('hex')}`,
        Body: request,
        ContentLength: Number(request.headers['content-length']),
      });
      client.send(put).then(
        () => response.writeHead(201).end(),
        (error) => response.writeHead(500).end(String(error)),
      );
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const address = server.address();
    console.log(`http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}`);
    break;
  }
  case 'put': {
    const client = clientOf(options.s3);
    const body = Buffer.alloc(options.size, 1);
    await report(options, () =>
      client.send(
        new PutObjectCommand({
          Bucket: options.bucket,
          Key: `put/${randomBytes(8).toString('hex')}`,
          Body: body,
          ContentType: 'image/png',
        }),
      ),
    );
    client.destroy();
    break;
  }
  case 'delete': {
    const client = clientOf(options.s3);
    const keys = Array.from({ length: options.count }, () => `delete/${randomBytes(8).toString('hex')}`);
    await each(keys, options.atOnce, (Key) =>
      client.send(new PutObjectCommand({ Bucket: options.bucket, Key, Body: Buffer.alloc(1024, 1) })),
    );
    const startedAt = performance.now();
    await each(keys, options.atOnce, (Key) => client.send(new DeleteObjectCommand({ Bucket: options.bucket, Key })));
    const rate: Rate = { perSecond: (options.count * 1000) / (performance.now() - startedAt) };
    console.log(JSON.stringify(rate));
    client.destroy();
    break;
  }
  case 'presign': {
    const client = clientOf(options.s3);
    await report({ ...options, atOnce: 1 }, () =>
      getSignedUrl(
        client,
        new GetObjectCommand({
          Bucket: options.bucket,
          Key: randomBytes(8).toString('hex'),
          ResponseContentDisposition: 'inline',
        }),
        { expiresIn: 3600 },
      ),
    );
    break;
  }
  case 'statement': {
    const pool = new Pool({ connectionString: options.databaseUrl, max: options.connections });
    await report(options, () => pool.query(options.text, options.values));
    await pool.end();
  }
}

/** Runs `work` so many times at once until the time is over. */
async function report(
  { atOnce, seconds }: { atOnce: number; seconds: number },
  work: () => Promise<unknown>,
): Promise<void> {
  const until = performance.now() + seconds * 1000;
  const startedAt = performance.now();
  let done = 0;
  const worker = async () => {
    while (performance.now() < until) {
      await work();
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  const rate: Rate = { perSecond: done / ((performance.now() - startedAt) / 1000) };
  console.log(JSON.stringify(rate));
}

async function each<Item>(items: Item[], atOnce: number, work: (item: Item) => Promise<unknown>): Promise<void> {
  const rest = items.values();
  const worker = async () => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

function clientOf({ endpoint, region, accessKeyId, secretAccessKey }: S3Settings): S3Client {
  return new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    // Ceph does not take the trailing checksum of a stream that is the default.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
}
