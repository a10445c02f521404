import assert from 'node:assert/strict';
import { request } from 'node:http';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { type Answer, Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { insist } from '../support/insist.ts';
import { contentsOf } from '../support/s3.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const unlimited = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' };

/** A raw upload without Content-Length: nobody knows its size before its end. */
function chunked(
  service: TestService,
  user: string,
  bytes: Buffer,
  name: string,
  headers: Record<string, string> = {},
): Promise<Answer<undefined>> {
  return new Promise((resolve, reject) => {
    const upload = request(`${service.url}/v1/assets/raw/${name}`, {
      method: 'PUT',
      headers: { 'x-user-id': user, 'transfer-encoding': 'chunked', ...headers },
    });
    upload.on('response', (response) => {
      response.resume();
      const retryAfter = response.headers['retry-after'];
      const told = new Headers(retryAfter === undefined ? {} : { 'retry-after': retryAfter });
      resolve({ status: response.statusCode ?? 0, headers: told, body: undefined });
    });
    upload.on('error', reject);
    upload.end(bytes);
  });
}

for (const { store, skip } of storeKinds) {
  describe(`the quota, storing on ${store}`, { skip }, () => {
    let first: TestService;
    let second: TestService;
    before(async () => {
      first = await startService({ store, env: unlimited });
      second = await startService({ store, env: unlimited, beside: first });
    });
    after(async () => {
      await second.close();
      await first.close();
    });

    const setLimit = (owner: string, limit: number) =>
      new Client(first.url).send('PUT', `/v1/admin/quotas/${owner}`, { limit });

    for (const how of ['by form', 'raw', 'raw of unknown size'] as const) {
      test(`of 200 uploads at once over two instances (${how}) with room for 100 exactly 100 are stored`, async () => {
        const owner = `race ${how}`.replaceAll(' ', '-');
        const sizes = Array.from({ length: 200 }, () => 1000);
        await setLimit(owner, 100_000);
        const statuses = await Promise.all(
          sizes.map(async (size, index) => {
            const service = index % 2 === 0 ? first : second;
            const client = new Client(service.url, owner);
            const bytes = png(size, index);
            const headers = { 'idempotency-key': `${owner}-${index}` };
            const send = (): Promise<Answer<unknown>> => {
              if (how === 'raw of unknown size') return chunked(service, owner, bytes, 'a.png', headers);
              return how === 'raw' ? client.raw(bytes, { headers }) : client.upload(bytes, { headers });
            };
            return (await insist(send)).status;
          }),
        );
        assert.equal(statuses.filter((status) => status === 201).length, 100, statuses.join());
        assert.equal(statuses.filter((status) => status === 403).length, 100, statuses.join());
        const { body } = await new Client(first.url, owner).get('/v1/quota');
        assert.deepEqual(body, {
          limit: 100_000,
          used: 100_000,
          reserved: 0,
          available: 0,
          percent: 100,
          fileCount: 100,
        } as unknown);
        const rows = await first.query<{ sum: string; count: string }>(
          'select sum(size), count(*) from assets where owner_id = $1',
          [owner],
        );
        assert.deepEqual(rows, [{ sum: '100000', count: '100' }]);
      });
    }

    test('a large upload of unknown size that passes the limit in the middle is refused, and nothing is left', async () => {
      await setLimit('large', 20 * 1024 * 1024);
      assert.equal((await chunked(first, 'large', glb(40 * 1024 * 1024), 'm.glb')).status, 403);
      await waitUntil(
        async () =>
          (await first.query("select 1 from assets where owner_id = 'large' and state <> 'deleting'")).length === 0,
      );
      assert.deepEqual(await first.query("select used_bytes, reserved_bytes from quotas where owner_id = 'large'"), [
        { used_bytes: '0', reserved_bytes: '0' },
      ]);
      const [event] = await first.query<{ action: string; reason: string }>(
        "select action, detail->>'reason' as reason from audit_events where owner_id = 'large' and action like 'upload%'",
      );
      assert.deepEqual(event, { action: 'upload.refused', reason: 'quota-exceeded' });
      await waitUntil(async () => (await first.query("select 1 from assets where owner_id = 'large'")).length === 0);
    });

    test('a file that just fits is stored, and one byte more is not', async () => {
      await setLimit('exact', 5000);
      const client = new Client(first.url, 'exact');
      assert.equal((await client.upload(png(5001))).status, 403);
      assert.equal((await client.raw(png(5001))).body.type, 'urn:stowage:problem:quota-exceeded');
      assert.equal((await client.upload(png(5000))).status, 201);
      assert.equal((await client.raw(png(200))).status, 403);
    });

    test('twenty permanent deletions at once free the quota exactly once', async () => {
      const client = new Client(first.url, 'deleter');
      const [one, other] = [await client.upload(png(1000, 1)), await client.upload(png(2000, 2))];
      const statuses = await Promise.all(
        Array.from(
          { length: 20 },
          async (_, index) =>
            (
              await new Client(index % 2 ? first.url : second.url, 'deleter').request(
                'DELETE',
                `/v1/assets/${one.body.id}?permanent=true`,
              )
            ).status,
        ),
      );
      assert.deepEqual(statuses.sort(), [204, ...Array(19).fill(404)]);
      const { body } = await client.get('/v1/quota');
      assert.equal(body['used'], 2000);
      assert.equal(body['fileCount'], 1);
      assert.equal((await client.get(`/v1/assets/${other.body.id}`)).status, 200);
    });

    test('after any sequence of uploads, trash, restores and deletions, used is the sum of the records', async () => {
      let run = 0;
      const step = fc.tuple(
        fc.constantFrom('upload', 'trash', 'restore', 'delete'),
        fc.nat(20),
        fc.integer({ min: 130, max: 3000 }),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
          const owner = `model-${run++}`;
          const client = new Client(first.url, owner);
          const ids: string[] = [];
          for (const [what, which, size] of steps) {
            const id = ids[which % Math.max(1, ids.length)];
            if (what === 'upload') ids.push((await client.raw(png(size, which))).body.id);
            else if (id === undefined) continue;
            else if (what === 'restore') await client.request('POST', `/v1/assets/${id}/restore`);
            else await client.request('DELETE', `/v1/assets/${id}${what === 'delete' ? '?permanent=true' : ''}`);
          }
          const [row] = await first.query<{ sum: string | null; count: string }>(
            "select sum(size), count(*) from assets where owner_id = $1 and state <> 'deleting'",
            [owner],
          );
          const { body } = await client.get('/v1/quota');
          assert.equal(body['used'], Number(row?.sum ?? 0));
          assert.equal(body['fileCount'], Number(row?.count));
          assert.equal(body['reserved'], 0);
        }),
        { numRuns: 12 },
      );
    });

    test('in the end the store holds one object per record and no open upload', {
      skip: store === 'disk',
    }, async () => {
      assert.ok(first.bucket);
      await Promise.all([first.service.closeWork(), second.service.closeWork()]);
      const rows = await first.query<{ object_key: string }>(
        'select object_key from assets where state = \'ready\' order by object_key collate "C"',
      );
      const deleting = await first.query<{ object_key: string }>(
        "select object_key from assets where state <> 'ready'",
      );
      const { keys, openUploads } = await contentsOf(first.bucket);
      const left = keys.filter((key) => !deleting.some(({ object_key }) => object_key === key));
      assert.deepEqual(
        left,
        rows.map(({ object_key }) => object_key),
      );
      assert.deepEqual(openUploads, []);
    });
  });
}

describe('limits set by an administrator', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { DEFAULT_QUOTA: '5000' } });
  });
  after(() => service.close());

  test('an owner has the default until another limit is set, and again when it is taken away', async () => {
    const admin = new Client(service.url, 'admin');
    const path = '/v1/admin/quotas/user%2F1';
    assert.equal((await admin.get(path)).body['limit'], 5000);
    assert.equal(
      (await admin.send('PUT', path, { limit: 9_007_199_254_740_991 })).body['limit'],
      9_007_199_254_740_991,
    );
    assert.equal((await admin.send('PUT', path, {})).body['limit'], 5000);
    assert.equal((await admin.send('PUT', path, { limit: 9_007_199_254_740_992 })).status, 400);
    assert.equal((await admin.send('PUT', path, { limit: -1 })).status, 400);
    assert.equal((await admin.send('PUT', path, { limit: '5' })).status, 400);
  });

  test('a limit below what is used deletes nothing and only stops uploads', async () => {
    const client = new Client(service.url, 'shrunk');
    const { body } = await client.raw(png(3000));
    await client.send('PUT', '/v1/admin/quotas/shrunk', { limit: 1000 });
    const quota = (await client.get('/v1/quota')).body;
    assert.equal(quota['available'], 0);
    assert.equal(quota['percent'], 300);
    assert.equal((await client.raw(png(200))).status, 403);
    assert.equal((await client.content(body.id)).status, 200);
  });
});
