import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { erase } from '../../src/storage/erase.ts';
import { ObjectStoreUnavailable, refusalIn } from '../../src/storage/object-store.ts';
import { NoBufferFree, PartBuffers } from '../../src/storage/part-buffers.ts';
import { S3ObjectStore, type S3Options } from '../../src/storage/s3/s3-object-store.ts';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { createTestBucket, requireS3Settings, s3Settings, s3Skip, type TestBucket } from '../support/s3.ts';
import { startService } from '../support/service.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { describeObjectStore } from './object-store-contract.ts';

const MiB = 1024 * 1024;

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
    sockets: { uploads: 20, downloads: 20, calls: 20, probes: 2 },
    ...changes,
  };
}

const FEW = { uploads: 2, downloads: 2, calls: 2, probes: 2 };

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

describe('what an S3 server will never do', { skip: s3Skip() }, () => {
  const body = Buffer.from('x');
  const put = (store: S3ObjectStore) =>
    store.put('a/b', body, attributes, { sha256: createHash('sha256').update(body).digest() });
  const create = (store: S3ObjectStore) => store.createMultipartUpload('a/b', attributes, {});
  const refusals: [string, Partial<S3Options>, RegExp][] = [
    ['a storage class that it does not know', { storageClass: 'NONSENSE' }, /S3_STORAGE_CLASS/],
    ['encryption that it does not do', { encryption: { mode: 'aws:kms', keyId: 'none' } }, /S3_SSE/],
    ['a bucket that is not there', { bucket: 'no-such-bucket-at-all' }, /S3_BUCKET/],
    ['a key that it does not know', { credentials: { accessKeyId: 'A', secretAccessKey: 'b' } }, /S3_ACCESS_KEY_ID/],
  ];
  for (const [title, options, advice] of refusals) {
    test(`${title}: it is refused, not away, and the setting is named`, async () => {
      const { bucket, drop } = await createTestBucket();
      const store = new S3ObjectStore(optionsFor(bucket, options));
      try {
        for (const call of [put, create])
          await assert.rejects(call(store), (error) => advice.test(refusalIn(error)?.advice ?? ''));
      } finally {
        await store.close();
        await drop();
      }
    });
  }

  test('an upload that meets it is 502 without Retry-After, its log names the setting, and nothing is left', async () => {
    const service = await startService({ store: 's3', env: { S3_STORAGE_CLASS: 'NONSENSE', PART_SIZE: '5MiB' } });
    try {
      const client = new Client(service.url);
      for (const bytes of [png(), glb(6 * MiB, 1)]) {
        const answer = await client.raw(bytes, { name: bytes.length > MiB ? 'm.glb' : 'p.png' });
        assert.equal(answer.status, 502);
        assert.equal(answer.body.type, 'urn:stowage:problem:storage-refused');
        assert.equal(answer.headers.get('retry-after'), null);
        assert.doesNotMatch(JSON.stringify(answer.body), /InvalidArgument|NONSENSE/);
      }
      assert.match(service.log.join('\n'), /"level":50.*S3_STORAGE_CLASS/);
      const quotas = await service.query<{ sum: string }>('select sum(used_bytes + reserved_bytes) from quotas');
      assert.deepEqual(quotas, [{ sum: '0' }]);
    } finally {
      await service.close();
    }
  });
});

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
  let sendRest = () => {};
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
      sendRest = () => response.end('b');
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
    const deadline = 2000;
    const store = new S3ObjectStore(optionsFor('bucket', { endpoint, requestTimeout: deadline, deadline }));
    const body = await store.get('slow', {});
    await sleep(deadline + 1);
    sendRest();
    assert.equal(Buffer.concat((await body?.stream.toArray()) ?? []).toString(), 'ab');
    await store.close();
  });

  test('what is missing or refused leaves no connection behind', async () => {
    const store = new S3ObjectStore(optionsFor('bucket', { endpoint, sockets: FEW, connectTimeout: 1000 }));
    for (let times = 0; times < 5; times++) {
      assert.equal(await store.head('missing', {}), undefined);
      assert.equal(await store.get('missing', {}), undefined);
    }
    await store.close();
  });

  test('a download that goes on holds no connection that uploads, small calls or probes need', async () => {
    const sockets = { uploads: 1, downloads: 1, calls: 1, probes: 1 };
    const store = new S3ObjectStore(optionsFor('bucket', { endpoint, sockets, deadline: 5000 }));
    const body = await store.get('users/alice/slow', {});
    await store.check({});
    await store.put('users/alice/k', Buffer.from('x'), attributes, {
      sha256: createHash('sha256').update('x').digest(),
    });
    assert.equal(await store.head('users/alice/missing', {}), undefined);
    // A second one waits for the first, and gives up.
    await assert.rejects(store.get('users/alice/slow', { signal: AbortSignal.timeout(300) }));
    body?.stream.destroy();
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

describe('a stream of the service itself on S3 behind a bad network', { skip: s3Skip() }, () => {
  const PART = 5 * 1024 * 1024;
  const key = 'users/u/assets/a/original';
  const bytes = randomBytes(3 * PART + 100);
  const source = () => Readable.from([bytes.subarray(0, PART + 1), bytes.subarray(PART + 1)]);
  let bucket: TestBucket;
  let proxy: TcpProxy;
  /** Behind the proxy. */
  let store: S3ObjectStore;
  let direct: S3ObjectStore;
  before(async () => {
    bucket = await createTestBucket();
    const { endpoint } = requireS3Settings();
    proxy = await new TcpProxy(endpoint).listen();
    store = new S3ObjectStore(optionsFor(bucket.bucket, { endpoint: proxy.replaceIn(endpoint) }));
    direct = new S3ObjectStore(optionsFor(bucket.bucket));
  });
  afterEach(async () => {
    proxy.fault = 'none';
    proxy.passAnswer = () => true;
    await erase(direct, key, {});
  });
  after(async () => {
    await store.close();
    await direct.close();
    await proxy.close();
    await bucket.drop();
  });

  const never = new AbortController().signal;
  const memory = () => new PartBuffers(8 * PART, PART);
  const write = (buffers: PartBuffers, from = source) =>
    store.putStream(key, from, attributes, { buffers, wait: 60_000 });
  const readAll = async (from: S3ObjectStore) => buffer((await from.get(key, {}))?.stream ?? assert.fail('no object'));
  const isComplete = (request: string) => /^POST \S+\?(?:\S+&)?uploadId=/m.test(request);
  const isPart = (request: string) => /^PUT \S+partNumber=/m.test(request);

  test('a lost answer to the last request is settled by looking', async () => {
    for (const [content, isLast] of [
      [bytes, isComplete],
      [bytes.subarray(0, 1000), (request: string) => request.startsWith('PUT ')],
    ] as const) {
      let lost = 0;
      proxy.passAnswer = (request) => {
        if (isLast(request)) lost += 1;
        return !isLast(request);
      };
      const buffers = memory();
      const written = await write(buffers, () => Readable.from([content]));
      assert.ok(lost > 0);
      assert.deepEqual(written, { size: content.length, sha256: createHash('sha256').update(content).digest() });
      assert.equal((await direct.head(key, {}))?.size, content.length);
      assert.deepEqual(await direct.listMultipartUploads(key, {}), []);
      assert.equal(buffers.inUse, 0);
    }
  });

  test('an object of the same size that an earlier try has left is not taken for this one', async () => {
    const [earlier, now] = [randomBytes(1000), randomBytes(1000)];
    await direct.put(key, earlier, attributes, { sha256: createHash('sha256').update(earlier).digest() });
    const fromHereOn = () => {
      // What it sends does not arrive, but what it asks later is answered.
      proxy.target = 'http://127.0.0.1:1';
      proxy.fault = 'refuse';
      proxy.fault = 'none';
      return Readable.from([now]);
    };
    const head = store.head.bind(store);
    store.head = (...call) => {
      proxy.target = requireS3Settings().endpoint;
      return head(...call);
    };
    await assert.rejects(write(memory(), fromHereOn), ObjectStoreUnavailable);
    store.head = head;
    assert.ok((await readAll(direct)).equals(earlier));
  });

  test('parts whose answers are lost end it as unavailable, and are dropped', async () => {
    proxy.passAnswer = (request) => !isPart(request);
    const buffers = memory();
    const opened: Readable[] = [];
    const opening = () => {
      opened.push(source());
      return opened[0] ?? assert.fail();
    };
    await assert.rejects(write(buffers, opening), ObjectStoreUnavailable);
    assert.equal(opened.length, 1);
    assert.ok(opened[0]?.destroyed);
    assert.equal(await direct.head(key, {}), undefined);
    assert.deepEqual(await direct.listMultipartUploads(key, {}), []);
    assert.equal(buffers.inUse, 0);
  });

  test('when nobody can tell whether the object was made, nothing is undone', async () => {
    proxy.passAnswer = (request) => {
      if (isComplete(request)) proxy.fault = 'refuse';
      return !isComplete(request);
    };
    const buffers = memory();
    await assert.rejects(
      write(buffers),
      (error) => error instanceof ObjectStoreUnavailable && /nobody knows/.test(error.message),
    );
    assert.equal(buffers.inUse, 0);
    assert.equal((await direct.head(key, {}))?.size, bytes.length);
  });

  test('it waits for memory as long as it may, and opens nothing meanwhile', async () => {
    const buffers = memory();
    const held = await Promise.all(Array.from({ length: 8 }, () => buffers.acquire(PART, 0, never)));
    const refused = store.putStream(key, () => assert.fail('opened'), attributes, { buffers, wait: 1 });
    await assert.rejects(refused, NoBufferFree);
    let opened = false;
    const writing = write(buffers, () => {
      opened = true;
      assert.equal(buffers.inUse, 4 * PART + 4 * PART, 'four parts beside those that are held');
      return source();
    });
    for (const buffer of held.slice(0, 3)) buffer.release();
    await new Promise(setImmediate);
    assert.equal(opened, false);
    held[3]?.release();
    await writing;
    assert.ok(opened);
    assert.equal(buffers.inUse, 4 * PART);
    for (const buffer of held) buffer.release();
  });

  test('a small budget gets small parts', async () => {
    const partsSent = async (budget: number, partSize: number) => {
      const numbers = new Set<string>();
      proxy.passAnswer = (request) => {
        const number = /^PUT \S+partNumber=(\d+)/m.exec(request)?.[1];
        if (number !== undefined) numbers.add(number);
        return true;
      };
      const buffers = new PartBuffers(budget, partSize);
      await write(buffers, () => {
        assert.equal(buffers.inUse, Math.min(budget, 4 * partSize));
        return source();
      });
      assert.equal(buffers.inUse, 0);
      return numbers.size;
    };
    assert.equal(await partsSent(12 * PART, 3 * PART), 2);
    assert.equal(await partsSent(6 * PART, 3 * PART), 3, 'a fourth of the budget each');
    assert.equal(await partsSent(3 * PART, 2 * PART), 4, 'as small as S3 has them');
  });

  test('what is known to be very large gets parts so large that they are not too many', async () => {
    const buffers = new PartBuffers(100 * PART, PART);
    const size = 20_000 * PART;
    const from = () => {
      assert.equal(buffers.inUse, 8 * PART);
      throw new Error('enough');
    };
    await assert.rejects(store.putStream(key, from, attributes, { buffers, wait: 0, size }), /enough/);
    assert.equal(buffers.inUse, 0);
  });

  test('what is known to be small takes little memory', async () => {
    const buffers = memory();
    const content = bytes.subarray(0, 1000);
    const from = () => {
      assert.equal(buffers.inUse, 2000);
      return Readable.from([content]);
    };
    await store.putStream(key, from, attributes, { buffers, wait: 0, size: content.length });
    assert.equal(buffers.inUse, 0);
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
