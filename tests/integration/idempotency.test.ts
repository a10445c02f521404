import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { pdf, png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

describe('Idempotency-Key', () => {
  let service: TestService;
  let other: TestService;
  before(async () => {
    const env = { UPLOADS_PER_HOUR: '0', REQUESTS_PER_MINUTE: '0', DEFAULT_QUOTA: '100KiB' };
    service = await startService({ env });
    other = await startService({ env, beside: service });
  });
  after(async () => {
    await other.close();
    await service.close();
  });
  const fresh = () => new Client(service.url, `user-${randomUUID()}`);
  const keyed = (key: string) => ({ 'idempotency-key': key });
  const countOf = async (client: Client) => (await client.get('/v1/assets')).body.data.length;

  for (const [method, upload] of [
    [
      'a form',
      (client: Client, bytes: Buffer<ArrayBuffer>, key: string) => client.upload(bytes, { headers: keyed(key) }),
    ],
    [
      'a raw body',
      (client: Client, bytes: Buffer<ArrayBuffer>, key: string) => client.raw(bytes, { headers: keyed(key) }),
    ],
  ] as const) {
    test(`an upload by ${method} sent again, here or to another instance, is the same asset`, async () => {
      const client = fresh();
      const key = randomUUID();
      const first = await upload(client, png(500, 1), key);
      assert.equal(first.status, 201);
      assert.equal(first.headers.get('idempotency-replayed'), null);
      for (const url of [service.url, other.url]) {
        const again = await upload(new Client(url, client.headers['x-user-id']), png(500, 1), key);
        assert.equal(again.status, 201);
        assert.equal(again.headers.get('idempotency-replayed'), 'true');
        assert.equal(again.headers.get('location'), first.headers.get('location'));
        assert.deepEqual(again.body, first.body);
      }
      assert.equal(await countOf(client), 1);
      assert.equal((await client.get('/v1/quota')).body['used'], 500);
    });

    test(`another file under the same key by ${method} is 422, and nothing is stored`, async () => {
      const client = fresh();
      const key = randomUUID();
      assert.equal((await upload(client, png(500, 1), key)).status, 201);
      for (const bytes of [png(501, 1), png(499, 1)]) {
        const { status, body } = await upload(client, bytes, key);
        assert.equal(status, 422);
        assert.equal(body.type, 'urn:stowage:problem:idempotency-key-reused');
        assert.equal(body.errors?.[0]?.parameter, 'Idempotency-Key');
      }
      assert.equal(await countOf(client), 1);
    });
  }

  test('a form whose boundary is another one is the same request', async () => {
    const client = fresh();
    const key = randomUUID();
    const send = (boundary: string) =>
      client.request('POST', '/v1/assets', {
        headers: { 'content-type': `multipart/form-data; boundary=${boundary}`, ...keyed(key) },
        body: Buffer.concat([
          Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n`),
          png(300),
          Buffer.from(`\r\n--${boundary}--\r\n`),
        ]),
      });
    const first = await send('one');
    const second = await send('another');
    assert.equal(first.status, 201, JSON.stringify(first.body));
    assert.equal(second.headers.get('idempotency-replayed'), 'true');
    assert.equal(second.body.id, first.body.id);
  });

  test('the same key of another caller is another key', async () => {
    const key = randomUUID();
    const [one, two] = [fresh(), fresh()];
    const first = await one.raw(png(300), { headers: keyed(key) });
    const second = await two.raw(png(300), { headers: keyed(key) });
    assert.equal(second.status, 201);
    assert.equal(second.headers.get('idempotency-replayed'), null);
    assert.notEqual(first.body.id, second.body.id);
  });

  test('each file of a batch has its own answer', async () => {
    const client = fresh();
    const key = randomUUID();
    const send = (second: Buffer<ArrayBuffer>) => {
      const form = new FormData();
      form.append('files', new Blob([png(300, 1)]), 'a.png');
      form.append('files', new Blob([second]), 'b.png');
      return client.request('POST', '/v1/assets/batch', { body: form, headers: keyed(key) });
    };
    const first = await send(png(400, 2));
    assert.equal(first.status, 200);
    const again = await send(png(400, 2));
    assert.deepEqual(again.body, first.body);
    assert.equal(await countOf(client), 2);
    const changed = await send(png(401, 2));
    const [, outcome] = changed.body['results'] as { status: number }[];
    assert.equal(outcome?.status, 422, JSON.stringify(changed.body));
    assert.equal(await countOf(client), 2);
  });

  test('a deletion sent again is 204, another asset under its key is 422', async () => {
    const client = fresh();
    const [a, b] = [await client.raw(png(300, 1)), await client.raw(png(300, 2))];
    const key = randomUUID();
    const remove = (id: string, query = '?permanent=true') =>
      client.request('DELETE', `/v1/assets/${id}${query}`, { headers: keyed(key) });
    assert.equal((await remove(a.body.id)).status, 204);
    const again = await remove(a.body.id);
    assert.equal(again.status, 204);
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
    assert.equal((await remove(b.body.id)).status, 422);
    assert.equal((await remove(a.body.id, '')).status, 422);
    assert.equal(await countOf(client), 1);
  });

  test('a quota set again is not set again when it was changed meanwhile', async () => {
    const admin = fresh();
    const path = `/v1/admin/quotas/${randomUUID()}`;
    const key = randomUUID();
    const set = (limit: number, headers = {}) => admin.send('PUT', path, { limit }, headers);
    assert.equal((await set(1000, keyed(key))).status, 200);
    assert.equal((await set(2000)).status, 200);
    const again = await set(1000, keyed(key));
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
    assert.equal(again.body['limit'], 1000);
    assert.equal((await admin.get(path)).body['limit'], 2000);
    assert.equal((await set(3000, keyed(key))).status, 422);
  });

  test('a refusal of what was sent comes again; one that may pass by itself leaves the key free', async () => {
    const client = fresh();
    const key = randomUUID();
    const wrong = { name: 'a.png', headers: keyed(key) };
    assert.equal((await client.raw(pdf(), wrong)).status, 415);
    const again = await client.raw(pdf(), wrong);
    assert.equal(again.status, 415);
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
    assert.equal(again.headers.get('content-type'), 'application/problem+json');

    const later = randomUUID();
    const large = png(60_000, 1);
    const other = await client.raw(png(60_000, 2));
    assert.equal((await client.raw(large, { headers: keyed(later) })).status, 403);
    await client.request('DELETE', `/v1/assets/${other.body.id}?permanent=true`);
    const stored = await client.raw(large, { headers: keyed(later) });
    assert.equal(stored.status, 201);
    assert.equal(stored.headers.get('idempotency-replayed'), null);
  });

  test('of twenty at once over two instances one stores; the others are told to wait, or its answer', async () => {
    const client = fresh();
    const key = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        new Client(index % 2 ? service.url : other.url, client.headers['x-user-id']).raw(png(800, 5), {
          headers: keyed(key),
        }),
      ),
    );
    const stored = answers.filter(({ status }) => status === 201);
    assert.ok(stored.length >= 1);
    assert.equal(new Set(stored.map(({ body }) => body.id)).size, 1);
    for (const { status, headers, body } of answers) {
      if (status === 201) continue;
      assert.equal(status, 409);
      assert.equal(body.type, 'urn:stowage:problem:request-in-progress');
      assert.match(headers.get('retry-after') ?? '', /^\d+$/);
    }
    assert.equal(await countOf(client), 1);
  });

  test('when the process that had the key is dead, the key is free after its lease', async () => {
    const client = fresh();
    const key = randomUUID();
    assert.equal((await client.raw(png(300, 1), { headers: keyed(key) })).status, 201);
    // As it is left when the process dies right after it began.
    await service.query(
      "update idempotency_keys set status = null, asset_id = null, lease_expires_at = now() + interval '1 hour' where key = $1",
      [key],
    );
    assert.equal((await client.raw(png(300, 1), { headers: keyed(key) })).status, 409);
    await service.query('update idempotency_keys set lease_expires_at = now() where key = $1', [key]);
    assert.equal((await client.raw(png(300, 1), { headers: keyed(key) })).status, 201);
  });

  test('keys are kept for 24 hours', async () => {
    const client = fresh();
    const key = randomUUID();
    const first = await client.raw(png(300, 1), { headers: keyed(key) });
    const age = (hours: number) =>
      service.query('update idempotency_keys set created_at = now() - make_interval(hours => $2) where key = $1', [
        key,
        hours,
      ]);
    await age(23);
    assert.equal((await client.raw(png(300, 1), { headers: keyed(key) })).body.id, first.body.id);
    await age(25);
    const later = await client.raw(png(300, 1), { headers: keyed(key) });
    assert.equal(later.status, 201);
    assert.notEqual(later.body.id, first.body.id);
  });

  for (const key of ['', 'a'.repeat(201), 'with space', 'ü']) {
    test(`the key ${JSON.stringify(key.slice(0, 12))} of ${key.length} characters is 400`, async () => {
      const { status, body } = await fresh().request('DELETE', `/v1/assets/${randomUUID()}`, { headers: keyed(key) });
      assert.equal(status, 400);
      assert.equal(body.errors?.[0]?.parameter, 'Idempotency-Key');
    });
  }
});
