/** What requests for resumable uploads make the service write and keep, and that they are counted. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { ShortTurns } from '../../src/uploads/short-turns.ts';
import { Client } from '../support/client.ts';
import { glb } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

const MiB = 1024 * 1024;
const TUS = { 'tus-resumable': '1.0.0' };
const metadata = `filename ${Buffer.from('m.glb').toString('base64')}`;
/** Others write to the same Postgres: of several rounds, the one that they disturbed least tells. */
const ROUNDS = 20;

class Upload {
  readonly client: Client;
  readonly bytes: Buffer<ArrayBuffer>;
  readonly path: string;
  offset = 0;

  static async begin(client: Client, bytes: Buffer<ArrayBuffer>): Promise<Upload> {
    const { status, headers } = await client.request('POST', '/v1/resumable', {
      headers: { ...TUS, 'upload-length': String(bytes.length), 'upload-metadata': metadata },
    });
    assert.equal(status, 201);
    return new Upload(client, bytes, headers.get('location') ?? '');
  }

  constructor(client: Client, bytes: Buffer<ArrayBuffer>, path: string) {
    this.client = client;
    this.bytes = bytes;
    this.path = path;
  }

  request(length: number, headers: Record<string, string> = {}) {
    return this.client.request('PATCH', this.path, {
      headers: {
        ...TUS,
        'content-type': 'application/offset+octet-stream',
        'upload-offset': String(this.offset),
        ...headers,
      },
      body: this.bytes.subarray(this.offset, this.offset + length),
    });
  }

  async send(length: number): Promise<void> {
    const { status, body } = await this.request(length);
    assert.equal(status, 204, JSON.stringify(body));
    this.offset = Math.min(this.bytes.length, this.offset + length);
  }

  async asset() {
    const { status, body } = await this.client.get(`/v1/assets/${this.path.split('/').at(-1)}`);
    assert.equal(status, 200);
    return body;
  }
}

describe('the write-ahead log', () => {
  let service: TestService;
  let client: Client;
  before(async () => {
    service = await startService({
      env: { PART_SIZE: '8MiB', REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', DEFAULT_QUOTA: '10GiB' },
    });
    client = new Client(service.url);
  });
  after(() => service.close());

  const position = async () =>
    Number((await service.query<{ at: string }>("select pg_current_wal_lsn() - '0/0'::pg_lsn as at"))[0]?.at);
  async function leastWritten(enough: number, round: () => Promise<void>): Promise<number> {
    let least = Number.POSITIVE_INFINITY;
    for (let index = 0; index < ROUNDS && least > enough; index++) {
      const begin = await position();
      await round();
      least = Math.min(least, (await position()) - begin);
    }
    return least;
  }

  test('grows by a few KiB with each request of a byte, however long the tail is', async (context) => {
    const upload = await Upload.begin(client, glb(20 * MiB, 1));
    await upload.send(8 * MiB - 1000);
    const bound = 20 * 16 * 1024;
    const written = await leastWritten(bound, async () => {
      for (let index = 0; index < 20; index++) await upload.send(1);
    });
    context.diagnostic(`${written / 20} bytes a request`);
    assert.ok(written <= bound, `${written} bytes for 20 requests of a byte`);
  });

  for (const size of [64 * 1024, MiB, 5 * MiB]) {
    test(`grows by at most three bytes for each byte that comes ${size} at a time`, async (context) => {
      const bytes = glb(16 * MiB + 5000, 2);
      const bound = 3 * bytes.length;
      const written = await leastWritten(bound, async () => {
        const upload = await Upload.begin(client, bytes);
        while (upload.offset < bytes.length) await upload.send(size);
        assert.ok(['ready', 'processing'].includes((await upload.asset()).state));
      });
      context.diagnostic(`${written / bytes.length} bytes a byte`);
      assert.ok(written <= bound, `${written} bytes for ${bytes.length}`);
    });
  }

  test('a file of which much came byte by byte is whole, and its tail has few rows', async () => {
    const bytes = glb(1800, 3);
    const upload = await Upload.begin(client, bytes);
    await upload.send(1400);
    while (upload.offset < bytes.length - 1) await upload.send(1);
    const [row] = await service.query<{ rows: string }>(
      'select count(*) as rows from upload_tails where asset_id = $1',
      [upload.path.split('/').at(-1)],
    );
    assert.ok(Number(row?.rows) === 2, `${row?.rows} rows`);
    await upload.send(1);
    assert.equal((await upload.asset()).state, 'ready');
    assert.equal(
      (await service.query('select 1 from upload_tails where asset_id = $1', [(await upload.asset()).id])).length,
      0,
    );
  });

  test('twelve long tails that grow by a byte take no memory of parts', async () => {
    const uploads = await Promise.all(
      Array.from({ length: 12 }, (_, index) => Upload.begin(client, glb(20 * MiB, index))),
    );
    for (const upload of uploads) await upload.send(MiB);
    const { buffers } = service.service.core;
    const of = buffers.of.bind(buffers);
    let largest = 0;
    buffers.of = (callerId) => {
      const own = of(callerId);
      return {
        ...own,
        acquire: (capacity, ...rest) => {
          largest = Math.max(largest, capacity);
          return own.acquire(capacity, ...rest);
        },
      };
    };
    await Promise.all(uploads.map((upload) => upload.send(1)));
    assert.equal(largest, 1);
  });
});

describe('requests that bring little', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { REQUESTS_PER_MINUTE: '5', UPLOADS_PER_HOUR: '0' } });
  });
  after(() => service.close());

  const auditRows = async () =>
    Number((await service.query<{ n: string }>('select count(*) as n from audit_events'))[0]?.n);

  test('are counted; those that bring more are not', async () => {
    const upload = await Upload.begin(new Client(service.url, 'small'), glb(4 * MiB, 4));
    for (let index = 0; index < 10; index++) await upload.send(64 * 1024);
    for (let index = 0; index < 5; index++) await upload.send(1);
    const refused = await upload.request(1);
    assert.equal(refused.status, 429);
    assert.equal(refused.body.type, 'urn:stowage:problem:too-many-requests');
    assert.match(refused.headers.get('retry-after') ?? '', /^\d+$/);
    assert.equal((await upload.request(MiB)).status, 429);
    // Somebody else is not concerned.
    const other = await Upload.begin(new Client(service.url, 'other'), glb(4 * MiB, 5));
    await other.send(1);
  });

  test('take turns at the database, as HEAD does; those that bring more do not', async (context) => {
    const { mock } = context.mock.method(ShortTurns.prototype, 'run');
    const client = new Client(service.url, 'in-turn');
    const upload = await Upload.begin(client, glb(4 * MiB, 8));
    await upload.send(64 * 1024);
    assert.equal(mock.callCount(), 0);
    await upload.send(64 * 1024 - 1);
    assert.equal(mock.callCount(), 1);
    assert.equal((await client.request('HEAD', upload.path, { headers: TUS })).status, 200);
    assert.deepEqual(
      mock.calls.map(({ arguments: [callerId] }) => callerId),
      ['in-turn', 'in-turn'],
    );
  });

  test('with a wrong checksum are counted for many', async () => {
    const upload = await Upload.begin(new Client(service.url, 'damaged'), glb(4 * MiB, 6));
    const wrong = { 'upload-checksum': `sha1 ${Buffer.alloc(20).toString('base64')}` };
    assert.equal((await upload.request(1, wrong)).status, 460);
    assert.equal((await upload.request(1, wrong)).status, 429);
  });

  test('to an upload without a length leave it its lease', async () => {
    const client = new Client(service.url, 'deferred');
    const { headers } = await client.request('POST', '/v1/resumable', {
      headers: { ...TUS, 'upload-defer-length': '1', 'upload-metadata': metadata },
    });
    const upload = new Upload(client, glb(4 * MiB, 7), headers.get('location') ?? '');
    await upload.send(100_000);
    const [row] = await service.query<{ lives: boolean }>(
      `select lease_expires_at >= expires_at as lives
       from assets join upload_sessions on asset_id = id where id = $1`,
      [upload.path.split('/').at(-1)],
    );
    assert.equal(row?.lives, true);
  });

  for (const method of ['HEAD', 'PATCH', 'POST'] as const) {
    test(`${method} to unknown uploads is counted, and leaves no trace in the audit trail`, async () => {
      const client = new Client(service.url, `asks-${method}`);
      const before = await auditRows();
      const ask = async () => {
        const { status } = await client.request(method, `/v1/resumable/${randomUUID()}`, {
          headers: {
            ...TUS,
            'content-type': 'application/offset+octet-stream',
            'upload-offset': '0',
            ...(method === 'POST' && { 'x-http-method-override': 'PATCH' }),
          },
          ...(method !== 'HEAD' && { body: Buffer.alloc(100) }),
        });
        return status;
      };
      for (let index = 0; index < 5; index++) assert.equal(await ask(), 404);
      assert.equal(await ask(), 429);
      assert.equal(await auditRows(), before);
    });
  }

  test('a refusal that ends the upload is in the audit trail once', async () => {
    const client = new Client(service.url, 'refused');
    const upload = await Upload.begin(client, Buffer.from('x'.repeat(3000)));
    const before = await auditRows();
    assert.equal((await upload.request(3000)).status, 415);
    assert.equal(await auditRows(), before + 1);
  });
});
