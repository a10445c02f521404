import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { request } from 'node:http';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { insist } from '../support/insist.ts';
import { createPreparedDatabase } from '../support/postgres.ts';
import { contentsOf, createTestBucket, s3Settings, s3Skip, type TestBucket } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;

describe('a service whose Postgres and S3 fail', { skip: s3Skip() }, () => {
  let service: TestService;
  let bucket: TestBucket;
  let s3: TcpProxy;
  let postgres: TcpProxy;
  let dropDatabase: () => Promise<void>;
  let users = 0;
  let client: Client;

  before(async () => {
    const settings = s3Settings();
    assert.ok(settings);
    bucket = await createTestBucket();
    const database = await createPreparedDatabase();
    dropDatabase = database.drop;
    s3 = await new TcpProxy(settings.endpoint).listen();
    postgres = await new TcpProxy(database.url).listen();
    service = await startService({
      databaseUrl: postgres.replaceIn(database.url),
      env: {
        S3_BUCKET: bucket.bucket,
        S3_ENDPOINT: s3.replaceIn(settings.endpoint),
        S3_ACCESS_KEY_ID: settings.accessKeyId,
        S3_SECRET_ACCESS_KEY: settings.secretAccessKey,
        S3_FORCE_PATH_STYLE: 'true',
        // Short, as stalls are waited for; what a busy machine makes of them is asked for again.
        S3_CONNECT_TIMEOUT: '1s',
        S3_REQUEST_TIMEOUT: '1500ms',
        S3_DEADLINE: '4s',
        DATABASE_TIMEOUT: '1500ms',
        PART_SIZE: '5MiB',
        REQUESTS_PER_MINUTE: '0',
      },
    });
  });
  after(async () => {
    await service.close();
    await s3.close();
    await postgres.close();
    await dropDatabase();
    await bucket.drop();
  });
  beforeEach(() => {
    s3.fault = 'none';
    postgres.fault = 'none';
    s3.passAnswer = () => true;
    postgres.passAnswer = () => true;
    client = new Client(service.url, `user-${users++}`);
  });

  const owner = () => client.headers['x-user-id'] ?? '';
  const metric = async (name: string) =>
    Number(new RegExp(`^${name} (\\d+)`, 'm').exec(await service.service.metrics.registry.metrics())?.[1]);

  /** No row, object, part, reservation or buffer of this user is left, as soon as what is in the background is done. */
  async function nothingLeft(): Promise<void> {
    await waitUntil(
      async () => (await service.query('select id from assets where owner_id = $1', [owner()])).length === 0,
    );
    const quotas = await service.query(
      'select 1 from quotas where owner_id = $1 and used_bytes + reserved_bytes + file_count > 0',
      [owner()],
    );
    assert.deepEqual(quotas, []);
    const { keys, openUploads } = await contentsOf(bucket);
    assert.deepEqual(
      keys.filter((key) => key.includes(`/${service.service.core.objectKeys.nameOf(owner())}/`)),
      [],
    );
    assert.deepEqual(
      openUploads.filter((key) => key.includes(`/${service.service.core.objectKeys.nameOf(owner())}/`)),
      [],
    );
    await waitUntil(async () => (await metric('stowage_part_buffer_bytes')) === 0);
  }

  /** Uploads, once, however often it has to be asked for. @param beforeEach done before each try */
  async function store(bytes: Buffer<ArrayBuffer>, beforeEach = () => {}): Promise<string> {
    const options = {
      name: bytes.length > MiB ? 'm.glb' : 'a.png',
      headers: { 'idempotency-key': randomUUID() },
    };
    const { status, body } = await insist(() => {
      beforeEach();
      return client.raw(bytes, options);
    });
    assert.equal(status, 201, JSON.stringify(body));
    return body.id;
  }

  async function comesBack(id: string, bytes: Buffer): Promise<void> {
    const content = await insist(() => client.content(id));
    assert.equal(content.status, 200);
    assert.equal(
      createHash('sha256').update(content.body).digest('hex'),
      createHash('sha256').update(bytes).digest('hex'),
    );
  }

  function assertUnavailable(answer: { status: number; headers: Headers; body: { type: string } }): void {
    assert.equal(answer.status, 503, JSON.stringify(answer.body));
    assert.equal(answer.body.type, 'urn:stowage:problem:unavailable');
    assert.match(answer.headers.get('retry-after') ?? '', /^\d+$/);
  }

  for (const [title, sent] of [
    ['before its first part', MiB],
    ['in the middle of its parts', 22 * MiB],
  ] as const) {
    test(`a client that goes away ${title} leaves nothing`, async () => {
      const upload = request(`${service.url}/v1/assets/raw/m.glb`, {
        method: 'PUT',
        headers: { ...client.headers, 'content-length': 40 * MiB },
      });
      upload.on('error', () => {});
      await new Promise((written) => upload.write(glb(40 * MiB).subarray(0, sent), written));
      await waitUntil(
        async () =>
          (await service.query("select 1 from assets where owner_id = $1 and state = 'uploading'", [owner()]))
            .length === 1,
      );
      upload.destroy();
      await nothingLeft();
      const [event] = await service.query('select action from audit_events where owner_id = $1', [owner()]);
      assert.deepEqual(event, { action: 'upload.aborted' });
    });
  }

  test('an upload whose last byte has come is finished though its client has gone', async () => {
    const bytes = glb(12 * MiB);
    const upload = request(`${service.url}/v1/assets/raw/m.glb`, {
      method: 'PUT',
      headers: { ...client.headers, 'content-length': bytes.length },
    });
    upload.on('error', () => {});
    s3.passAnswer = (asked) => {
      // The store is about to complete: the client goes now.
      if (/POST [^ ]*uploadId=/.test(asked)) upload.destroy();
      return true;
    };
    upload.end(bytes);
    const row = await waitUntil(async () => {
      const rows = await service.query<{ id: string }>(
        "select id from assets where owner_id = $1 and state = 'ready'",
        [owner()],
      );
      return rows[0];
    });
    await comesBack(row?.id ?? assert.fail('no row'), bytes);
  });

  for (const fault of ['stall', 'refuse'] as const) {
    for (const [what, bytes] of [
      ['a small file', png(1000)],
      ['a file of parts', glb(12 * MiB)],
    ] as const) {
      test(`with S3 on ${fault}, ${what} is 503 within the deadline; when S3 is back it is there whole or not at all, and uploads work`, async () => {
        s3.fault = fault;
        const name = bytes.length > MiB ? 'm.glb' : 'a.png';
        assertUnavailable(await client.raw(bytes, { name }));
        s3.fault = 'none';
        // A request that was held up may reach the store after all; then nobody may undo it.
        await waitUntil(
          async () =>
            (await service.query("select 1 from assets where owner_id = $1 and state <> 'ready'", [owner()])).length ===
            0,
        );
        const ready = await service.query<{ id: string }>('select id from assets where owner_id = $1', [owner()]);
        for (const { id } of ready) await comesBack(id, bytes);
        if (ready.length === 0) await nothingLeft();
        await comesBack(await store(bytes), bytes);
        assert.equal((await insist(() => client.get('/v1/quota'))).body['used'], (ready.length + 1) * bytes.length);
      });
    }
  }

  test('a part whose connection is reset twice is sent again', async () => {
    let resets = 0;
    s3.passAnswer = (asked) => !(asked.includes('partNumber=2') && resets-- > 0);
    const bytes = glb(12 * MiB, 3);
    const id = await store(bytes, () => {
      resets = 2;
    });
    assert.ok(resets <= 0);
    await comesBack(id, bytes);
  });

  test('when every answer to PutObject is lost, the object is found by looking, once', async () => {
    s3.passAnswer = (asked) => !/^PUT /m.test(asked);
    const bytes = png(1000);
    const id = await store(bytes);
    await comesBack(id, bytes);
    await waitUntil(async () => {
      const { keys } = await contentsOf(bucket);
      return keys.filter((key) => key.includes(id)).length === 1;
    });
  });

  test('when every answer to CompleteMultipartUpload is lost, the object is found by looking', async () => {
    s3.passAnswer = (asked) => !/^POST [^ ]*uploadId=/m.test(asked);
    const bytes = glb(12 * MiB, 5);
    const id = await store(bytes);
    s3.passAnswer = () => true;
    await comesBack(id, bytes);
  });

  test('when nobody can say whether the object was made, nothing is undone, and the upload is finished later', async () => {
    // The PutObject is applied, its answer lost, and then S3 is away.
    s3.passAnswer = (asked) => {
      if (!/^PUT /m.test(asked)) return true;
      setImmediate(() => {
        s3.fault = 'refuse';
      });
      return false;
    };
    const bytes = png(1000, 9);
    assertUnavailable(await client.raw(bytes));
    s3.passAnswer = () => true;
    s3.fault = 'none';
    const row = await waitUntil(async () => {
      const rows = await service.query<{ id: string }>(
        "select id from assets where owner_id = $1 and state = 'ready'",
        [owner()],
      );
      return rows[0];
    });
    await comesBack(row?.id ?? assert.fail('no row'), bytes);
  });

  for (const fault of ['stall', 'refuse'] as const) {
    test(`with Postgres on ${fault}, uploads are 503 and readiness fails; both recover without a restart`, async () => {
      postgres.fault = fault;
      assertUnavailable(await client.raw(png()));
      assertUnavailable(await client.get('/v1/assets'));
      let ready = await client.get('/readyz');
      await waitUntil(async () => {
        ready = await client.get('/readyz');
        return ready.status === 503;
      });
      assertUnavailable(ready);
      assert.equal((await client.get('/livez')).status, 200);
      postgres.fault = 'none';
      await waitUntil(async () => (await client.get('/readyz')).status === 200);
      await store(png());
    });
  }

  test('Postgres that resets its connections in the middle of an upload does not harm it', async () => {
    const bytes = glb(30 * MiB, 2);
    let parts = 0;
    s3.passAnswer = (asked) => {
      if (asked.includes('partNumber=') && ++parts === 2) {
        postgres.fault = 'refuse';
        postgres.fault = 'none';
      }
      return true;
    };
    const headers = { 'idempotency-key': randomUUID() };
    const { status, body } = await insist(() => {
      parts = 0;
      return client.upload(bytes, { name: 'm.glb', headers });
    });
    assert.equal(status, 201, JSON.stringify(body));
    await comesBack(body.id, bytes);
  });

  test('when the answer to the statement that settles is lost, the asset is there exactly once', async () => {
    let lost = 0;
    let losses = 0;
    postgres.passAnswer = (asked) => !(asked.includes('settle-upload') && losses++ === 0 && ++lost > 0);
    const bytes = png(1000, 4);
    const id = await store(bytes, () => {
      losses = 0;
    });
    assert.ok(lost >= 1);
    await comesBack(id, bytes);
    assert.deepEqual(
      await service.query('select used_bytes, reserved_bytes, file_count from quotas where owner_id = $1', [owner()]),
      [{ used_bytes: '1000', reserved_bytes: '0', file_count: '1' }],
    );
    assert.deepEqual(
      await service.query("select count(*) from audit_events where owner_id = $1 and action = 'asset.uploaded'", [
        owner(),
      ]),
      [{ count: '1' }],
    );
  });

  test('when the answer to the statement that begins is lost, the quota is reserved once', async () => {
    let lost = 0;
    let losses = 0;
    postgres.passAnswer = (asked) => !(asked.includes('begin-upload') && losses++ === 0 && ++lost > 0);
    await store(png(1000), () => {
      losses = 0;
    });
    assert.ok(lost >= 1);
    assert.deepEqual(
      await service.query('select used_bytes, reserved_bytes from quotas where owner_id = $1', [owner()]),
      [{ used_bytes: '1000', reserved_bytes: '0' }],
    );
  });

  test('a download that S3 cuts breaks off and never looks whole', async () => {
    const id = await store(glb(12 * MiB));
    let passed = 0;
    s3.passAnswer = (_asked, chunk) => {
      passed += chunk.length;
      return passed < 3 * MiB;
    };
    await assert.rejects(insist(() => client.content(id)));
  });

  test('an asset deleted while S3 is away is gone at once, and its object when S3 is back', async () => {
    const id = await store(png());
    s3.fault = 'refuse';
    const headers = { 'idempotency-key': randomUUID() };
    const remove = () => client.request('DELETE', `/v1/assets/${id}?permanent=true`, { headers });
    assert.equal((await insist(remove)).status, 204);
    assert.equal((await insist(() => client.get(`/v1/assets/${id}`))).status, 404);
    assert.equal((await insist(() => client.get('/v1/quota'))).body['used'], 0);
    s3.fault = 'none';
    await nothingLeft();
  });
});
