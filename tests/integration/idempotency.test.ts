import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { parse } from 'yaml';
import { forgetCounts } from '../../src/database/caller-counts.ts';
import { type Answer, type AnyBody, Client } from '../support/client.ts';
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

  test('every operation that changes something documents the key, but for those that are the same however often they are done', () => {
    const document = parse(readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8')) as {
      paths: Record<string, Record<string, { operationId: string; parameters?: { name: string }[] }>>;
    };
    const without = Object.values(document.paths).flatMap((operations) =>
      Object.entries(operations)
        .filter(([method]) => ['post', 'put', 'patch', 'delete'].includes(method))
        .filter(([, { parameters = [] }]) => !parameters.some(({ name }) => name.toLowerCase() === 'idempotency-key'))
        .map(([, { operationId }]) => operationId),
    );
    const same = ['continueResumableUpload', 'createDownloadLinks', 'signUploadParts', 'unlockShare', 'uploadPart'];
    assert.deepEqual(without.sort(), same);
  });

  test('a request under the key of another operation is 422 and names that operation', async () => {
    const client = fresh();
    const asset = (await client.raw(png(300))).body;
    const requests: Record<string, (key: string) => Promise<Answer<AnyBody>>> = {
      uploadAsset: (key) => client.upload(png(400, 1), { headers: keyed(key) }),
      uploadAssets: (key) => {
        const form = new FormData();
        form.append('files', new Blob([png(400, 1)]), 'a.png');
        return client.request('POST', '/v1/assets/batch', { body: form, headers: keyed(key) });
      },
      uploadRawAsset: (key) => client.raw(png(400, 1), { headers: keyed(key) }),
      updateAsset: (key) => client.send('PATCH', `/v1/assets/${asset.id}`, { name: 'b.png' }, keyed(key)),
      createUpload: (key) =>
        client.send('POST', '/v1/uploads', { fileName: 'a.png', size: 400, contentType: 'image/png' }, keyed(key)),
      createResumableUpload: (key) => beginTus(client, key),
      setOwnerQuota: (key) => client.send('PUT', '/v1/admin/quotas/nobody', { limit: 9 }, keyed(key)),
    };
    const names = Object.keys(requests);
    for (const [index, name] of names.entries()) {
      const key = randomUUID();
      const other = names[(index + 1) % names.length] ?? '';
      assert.ok(((await requests[name]?.(key))?.status ?? 500) < 300, name);
      const count = await countOf(client);
      const answer = await requests[other]?.(key);
      assert.equal(answer?.status, 422, `${other} after ${name}`);
      assert.match(answer?.body.detail ?? '', new RegExp(`\\b${name}\\b`));
      assert.equal(await countOf(client), count);
    }
  });

  const beginTus = (client: Client, key: string, name = 'a.png', body?: Buffer<ArrayBuffer>) =>
    client.request('POST', '/v1/resumable', {
      headers: {
        'tus-resumable': '1.0.0',
        'upload-length': '500',
        'upload-metadata': `filename ${Buffer.from(name).toString('base64')}`,
        ...(body && { 'content-type': 'application/offset+octet-stream' }),
        ...keyed(key),
      },
      ...(body && { body }),
    });

  test('a resumable upload is begun once, with or without its first bytes', async () => {
    const client = fresh();
    for (const body of [undefined, png(500, 4)]) {
      const key = randomUUID();
      const first = await beginTus(client, key, 'a.png', body);
      const again = await beginTus(client, key, 'a.png', body);
      assert.equal(first.status, 201, JSON.stringify(first.body));
      assert.equal(again.status, 201);
      assert.equal(again.headers.get('idempotency-replayed'), 'true');
      for (const field of ['location', 'upload-offset', 'upload-length', 'upload-expires', 'asset-id', 'tus-resumable'])
        assert.equal(again.headers.get(field), first.headers.get(field), field);
      assert.equal((await beginTus(client, key, 'b.png', body)).status, 422);
    }
    assert.equal(await countOf(client), 1);
    const open = await service.query("select 1 from assets where owner_id = $1 and state = 'uploading'", [
      client.headers['x-user-id'],
    ]);
    assert.equal(open.length, 1);
  });

  test('a raw upload sent again in another framing is a replay; another file in it is 422', async () => {
    const client = fresh();
    const send = (bytes: Buffer<ArrayBuffer>, key: string, isChunked: boolean) =>
      isChunked ? chunked(client, bytes, keyed(key)) : client.raw(bytes, { headers: keyed(key) });
    for (const isChunked of [true, false]) {
      const key = randomUUID();
      const file = png(700, isChunked ? 1 : 2);
      const first = await send(file, key, !isChunked);
      const again = await send(file, key, isChunked);
      assert.equal(again.status, 201, JSON.stringify(again.body));
      assert.equal(again.headers.get('idempotency-replayed'), 'true');
      assert.deepEqual(again.body, first.body);
      assert.equal((await send(png(700, 9), key, isChunked)).status, 422);
      assert.equal((await send(png(701, 1), key, isChunked)).status, 422);
    }
    assert.equal(await countOf(client), 2);
  });

  test('changes, restores, completions and cancellations sent again have no further effect', async () => {
    const client = fresh();
    const { id } = (await client.raw(png(300, 1))).body;
    const path = `/v1/assets/${id}`;
    const twice = async (send: (key: string) => Promise<Answer<AnyBody>>, between?: () => Promise<unknown>) => {
      const key = randomUUID();
      const first = await send(key);
      await between?.();
      const again = await send(key);
      assert.equal(again.status, first.status);
      assert.equal(again.headers.get('idempotency-replayed'), 'true');
      assert.deepEqual(again.body, first.body);
      assert.equal(again.headers.get('etag'), first.headers.get('etag'));
      return first;
    };
    await twice(
      (key) => client.send('PATCH', path, { name: 'b.png', metadata: { a: '1', b: '2' } }, keyed(key)),
      () => client.send('PATCH', path, { name: 'c.png' }),
    );
    assert.equal((await client.get(path)).body['name'], 'c.png');
    // The order of properties is no difference; their values are.
    const key = randomUUID();
    await client.send('PATCH', path, { name: 'd.png', metadata: { a: '1', b: '2' } }, keyed(key));
    const reordered = await client.send('PATCH', path, { metadata: { b: '2', a: '1' }, name: 'd.png' }, keyed(key));
    assert.equal(reordered.headers.get('idempotency-replayed'), 'true');
    assert.equal((await client.send('PATCH', path, { name: 'd.png' }, keyed(key))).status, 422);

    await client.request('DELETE', path);
    await twice((restore) => client.request('POST', `${path}/restore`, { headers: keyed(restore) }));
    const begin = () => client.send('POST', '/v1/uploads', { fileName: 'a.png', size: 400, contentType: 'image/png' });
    const cancelled = (await begin()).body['uploadId'];
    const answer = await twice((cancel) =>
      client.request('DELETE', `/v1/uploads/${cancelled}`, { headers: keyed(cancel) }),
    );
    assert.equal(answer.status, 204);
    const { uploadId, parts } = (await begin()).body as unknown as { uploadId: string; parts: { url: string }[] };
    await fetch(parts[0]?.url ?? '', { method: 'PUT', body: png(400, 8) });
    const completed = await twice((complete) =>
      client.request('POST', `/v1/uploads/${uploadId}/complete`, { headers: keyed(complete) }),
    );
    assert.equal(completed.status, 201);
    await twice((retry) => client.send('POST', '/v1/admin/jobs/delete-object/retry', {}, keyed(retry)));
  });

  test('of twenty changes at once under one key one takes effect', async () => {
    const client = fresh();
    const { id } = (await client.raw(png(300, 1))).body;
    const key = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => client.send('PATCH', `/v1/assets/${id}`, { name: 'b.png' }, keyed(key))),
    );
    for (const { status } of answers) assert.ok(status === 200 || status === 409, String(status));
    const events = await service.query("select 1 from audit_events where asset_id = $1 and action = 'asset.updated'", [
      id,
    ]);
    assert.equal(events.length, 1);
  });

  test('what is refused without a file leaves no row', async () => {
    const client = fresh();
    const id = randomUUID();
    const { body } = await client.raw(png(300, 1));
    const refused = [
      await client.request('DELETE', `/v1/assets/${id}?permanent=true`, { headers: keyed(randomUUID()) }),
      await client.request('POST', `/v1/assets/${body.id}/restore`, { headers: keyed(randomUUID()) }),
      await client.send('PATCH', `/v1/assets/${id}`, { name: 'b.png' }, keyed(randomUUID())),
      await client.send(
        'PATCH',
        `/v1/assets/${body.id}`,
        { name: 'b.png' },
        { 'if-match': '"x"', ...keyed(randomUUID()) },
      ),
      await client.request('DELETE', `/v1/uploads/${id}`, { headers: keyed(randomUUID()) }),
    ];
    assert.deepEqual(
      refused.map(({ status }) => status),
      [404, 409, 404, 412, 404],
    );
    assert.deepEqual(await rowsOf(client), []);
  });

  test('a caller has a number of keys an hour; beyond it requests are 429, and answers that are there can be had', async () => {
    const client = fresh();
    const known = randomUUID();
    const first = await client.raw(png(300, 1), { headers: keyed(known) });
    await service.query("update caller_counts set count = $2 where caller_id = $1 and kind = 'idempotency-key'", [
      client.headers['x-user-id'],
      service.config.IDEMPOTENCY_KEYS_PER_HOUR,
    ]);
    const refused = await client.raw(png(300, 2), { headers: keyed(randomUUID()) });
    assert.equal(refused.status, 429);
    assert.match(refused.headers.get('retry-after') ?? '', /^\d+$/);
    assert.equal((await client.raw(png(300, 1), { headers: keyed(known) })).body.id, first.body.id);
    assert.equal((await client.raw(png(300, 2))).status, 201);
    assert.equal((await rowsOf(client)).length, 1);
    await service.query("update caller_counts set window_ends_at = now() - interval '1 second' where caller_id = $1", [
      client.headers['x-user-id'],
    ]);
    assert.equal((await client.raw(png(300, 3), { headers: keyed(randomUUID()) })).status, 201);
  });

  test('rows that are old go, and so do counts of an hour that is over', async () => {
    const client = fresh();
    for (const seed of [1, 2]) await client.raw(png(300, seed), { headers: keyed(`k${seed}`) });
    await service.query(
      "update idempotency_keys set created_at = now() - interval '25 hours' where caller_id = $1 and key = 'k1'",
      [client.headers['x-user-id']],
    );
    await service.service.core.idempotency.forgetOld();
    assert.deepEqual(await rowsOf(client), [{ key: 'k2' }]);
    await service.query("update caller_counts set window_ends_at = now() - interval '1 second' where caller_id = $1", [
      client.headers['x-user-id'],
    ]);
    await forgetCounts(service.database.database);
    assert.deepEqual(
      await service.query('select * from caller_counts where caller_id = $1', [client.headers['x-user-id']]),
      [],
    );
  });

  const rowsOf = (client: Client) =>
    service.query<{ key: string }>('select key from idempotency_keys where caller_id = $1 order by key', [
      client.headers['x-user-id'],
    ]);
});

/** A raw upload of a size that is not told. */
async function chunked(client: Client, bytes: Buffer<ArrayBuffer>, headers: Record<string, string>) {
  const response = await fetch(`${client.url}/v1/assets/raw/photo.png`, {
    method: 'PUT',
    headers: { ...client.headers, 'content-type': 'application/octet-stream', ...headers },
    body: new Blob([bytes]).stream(),
    duplex: 'half',
  } as RequestInit);
  return { status: response.status, headers: response.headers, body: (await response.json()) as AnyBody };
}
