import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { ObjectStoreUnavailable } from '../../src/storage/object-store.ts';
import { S3ObjectStore, type S3Options } from '../../src/storage/s3/s3-object-store.ts';
import { createTestBucket, s3Settings, s3Skip } from '../support/s3.ts';
import { describeObjectStore } from './object-store-contract.ts';

function optionsFor(bucket: string, changes: Partial<S3Options> = {}): S3Options {
  const settings = s3Settings() ?? {
    endpoint: 'http://127.0.0.1:1',
    region: 'us-east-1',
    accessKeyId: 'a',
    secretAccessKey: 'b',
  };
  return {
    bucket,
    region: settings.region,
    endpoint: settings.endpoint,
    credentials: { accessKeyId: settings.accessKeyId, secretAccessKey: settings.secretAccessKey },
    forcePathStyle: true,
    encryption: { mode: 'none' },
    checksum: 'crc32',
    connectTimeout: 1000,
    requestTimeout: 10_000,
    deadline: 20_000,
    sockets: 20,
    ...changes,
  };
}

for (const checksum of ['crc32', 'sha256', 'sdk'] as const) {
  describeObjectStore(
    `S3 with S3_CHECKSUM=${checksum}`,
    async () => {
      const { bucket, drop } = await createTestBucket();
      const store = new S3ObjectStore(optionsFor(bucket, { checksum }));
      return {
        store,
        close: async () => {
          await store.close();
          await drop();
        },
      };
    },
    { skip: s3Skip() },
  );
}

const attributes = {
  contentType: 'image/png',
  contentDisposition: 'attachment',
  cacheControl: 'private',
  metadata: { 'uploaded-by': 'alice' },
};

describe('what is sent to S3', () => {
  /** Remembers the requests of the SDK and answers each like S3 would. */
  const seen: { method: string; url: string; headers: Record<string, string | string[] | undefined>; body: Buffer }[] =
    [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      seen.push({
        method: request.method ?? '',
        url: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks),
      });
      response.setHeader('etag', '"e"');
      response.end(
        request.url?.includes('uploads')
          ? '<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>'
          : '',
      );
    });
  });
  let endpoint = '';
  before(async () => {
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    const address = server.address();
    endpoint = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
  });
  after(() => server.close());

  async function requestOf(changes: Partial<S3Options>, call: (store: S3ObjectStore) => Promise<unknown>) {
    const store = new S3ObjectStore(optionsFor('bucket', { endpoint, ...changes }));
    await call(store);
    await store.close();
    const last = seen.at(-1);
    assert.ok(last);
    return last;
  }

  const body = randomBytes(1000);
  const sha256 = createHash('sha256').update(body).digest();
  const part = { key: 'k', uploadId: 'u', partNumber: 1 };

  test('a whole object is signed by the digest that is known, with a CRC32, and is not chunked', async () => {
    const { headers, body: sent } = await requestOf({}, (store) => store.put('k', body, attributes, { sha256 }));
    assert.equal(headers['x-amz-content-sha256'], sha256.toString('hex'));
    assert.equal(headers['content-length'], '1000');
    assert.equal(headers['transfer-encoding'], undefined);
    assert.ok(headers['x-amz-checksum-crc32']);
    assert.ok(sent.equals(body));
  });

  test('a part is unsigned with a CRC32 by default, and signed by its digest on request', async () => {
    const unsigned = await requestOf({}, (store) => store.uploadPart(part, body, {}));
    assert.equal(unsigned.headers['x-amz-content-sha256'], 'UNSIGNED-PAYLOAD');
    assert.ok(unsigned.headers['x-amz-checksum-crc32']);
    const signed = await requestOf({ checksum: 'sha256' }, (store) => store.uploadPart(part, body, {}));
    assert.equal(signed.headers['x-amz-content-sha256'], sha256.toString('hex'));
  });

  test('media type, disposition, cache control, metadata, storage class and encryption are set when an object is made', async () => {
    const settings = { storageClass: 'STANDARD_IA', encryption: { mode: 'aws:kms', keyId: 'key-1' } } as const;
    for (const call of [
      (store: S3ObjectStore) => store.put('k', body, attributes, { sha256 }),
      (store: S3ObjectStore) => store.createMultipartUpload('k', attributes, {}),
    ]) {
      const { headers } = await requestOf(settings, call);
      assert.equal(headers['content-type'], 'image/png');
      assert.equal(headers['content-disposition'], 'attachment');
      assert.equal(headers['cache-control'], 'private');
      assert.equal(headers['x-amz-meta-uploaded-by'], 'alice');
      assert.equal(headers['x-amz-storage-class'], 'STANDARD_IA');
      assert.equal(headers['x-amz-server-side-encryption'], 'aws:kms');
      assert.equal(headers['x-amz-server-side-encryption-aws-kms-key-id'], 'key-1');
    }
  });

  test('links are signed for the public endpoint', async () => {
    const store = new S3ObjectStore(optionsFor('bucket', { publicEndpoint: 'https://files.example.com' }));
    const url = new URL(
      await store.presignGet('a/b', {
        expiresIn: 60,
        contentType: 'image/png',
        contentDisposition: 'inline',
        cacheControl: 'private',
      }),
    );
    await store.close();
    assert.equal(url.origin, 'https://files.example.com');
    assert.equal(url.pathname, '/bucket/a/b');
    assert.equal(url.searchParams.get('X-Amz-Expires'), '60');
    assert.equal(url.searchParams.get('response-content-disposition'), 'inline');
  });
});

describe('an S3 server that does not answer', () => {
  const attempts: number[] = [];
  const dates: string[] = [];
  const server = createServer((request, response) => {
    attempts.push(Date.now());
    request.resume();
    if (request.url?.includes('skewed')) {
      dates.push(String(request.headers['x-amz-date']));
      if (dates.length === 1)
        response
          .writeHead(403, { date: 'Sat, 01 Jan 2028 00:00:00 GMT' })
          .end('<Error><Code>RequestTimeTooSkewed</Code></Error>');
      else response.end();
      return;
    }
    if (request.url?.includes('stall')) return;
    if (request.url?.includes('missing')) {
      response.writeHead(404).end('<Error><Code>NoSuchKey</Code></Error>');
      return;
    }
    if (request.url?.includes('slow')) {
      response.writeHead(200, { 'content-length': '2' }).write('a');
      setTimeout(() => response.end('b'), 500);
      return;
    }
    response.statusCode = attempts.length % 3 === 0 ? 200 : 503;
    response.end();
  });
  let endpoint = '';
  before(async () => {
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    const address = server.address();
    endpoint = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });

  test('a stall ends by the deadline, as unavailable', async () => {
    const store = new S3ObjectStore(optionsFor('bucket', { endpoint, requestTimeout: 200, deadline: 1000 }));
    await assert.rejects(store.head('stall', {}), ObjectStoreUnavailable);
    await store.close();
  });

  test('the deadline is for the head of an answer: a body may take its time', async () => {
    const store = new S3ObjectStore(optionsFor('bucket', { endpoint, requestTimeout: 200, deadline: 250 }));
    const body = await store.get('slow', {});
    assert.equal(Buffer.concat((await body?.stream.toArray()) ?? []).toString(), 'ab');
    await store.close();
  });

  test('what is missing or refused leaves no connection behind', async () => {
    const store = new S3ObjectStore(optionsFor('bucket', { endpoint, sockets: 2, connectTimeout: 200 }));
    for (let times = 0; times < 5; times++) {
      assert.equal(await store.head('missing', {}), undefined);
      assert.equal(await store.get('missing', {}), undefined);
    }
    await store.close();
  });

  test('a clock that is wrong is set by the server, and the request signed again', async () => {
    const store = new S3ObjectStore(optionsFor('bucket', { endpoint }));
    await store.put('skewed', Buffer.from('x'), attributes, { sha256: createHash('sha256').update('x').digest() });
    assert.equal(dates.length, 2);
    assert.match(dates[1] ?? '', /^20280101T0000/);
    await store.close();
  });

  test('a 503 is tried again, and the retries are told', async () => {
    attempts.length = 0;
    const told: [string, number][] = [];
    const store = new S3ObjectStore(
      optionsFor('bucket', { endpoint, onRetries: (operation, count) => told.push([operation, count]) }),
    );
    await store.put('k', Buffer.from('x'), attributes, { sha256: createHash('sha256').update('x').digest() });
    assert.equal(attempts.length, 3);
    assert.deepEqual(told, [
      ['PutObject', 1],
      ['PutObject', 1],
    ]);
    await store.close();
  });

  test('nobody listening is unavailable, and an aborted call rejects with the reason', async () => {
    const store = new S3ObjectStore(optionsFor('bucket', { endpoint: 'http://127.0.0.1:1' }));
    await assert.rejects(store.check({}), ObjectStoreUnavailable);
    const reason = new Error('gone');
    await assert.rejects(store.head('k', { signal: AbortSignal.abort(reason) }), reason);
    await store.close();
  });
});

test('a link is never good for longer than the temporary credentials that sign it', async () => {
  const withCredentials = (expiration?: Date) =>
    new S3ObjectStore(
      optionsFor('any', {
        credentials: { accessKeyId: 'a', secretAccessKey: 'b', ...(expiration && { expiration }) },
      }),
    );
  const week = 7 * 24 * 3600;
  assert.equal(await withCredentials().longestLink(), week);
  assert.equal(await withCredentials(new Date(Date.now() + 2 * week * 1000)).longestLink(), week);
  const seconds = await withCredentials(new Date(Date.now() + 600_000)).longestLink();
  assert.ok(seconds > 590 && seconds <= 600, String(seconds));
});
