import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import type { DerivativeDocument } from '../../src/assets/derivative-document.ts';
import { type ObjectStore, ObjectStoreUnavailable } from '../../src/storage/object-store.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const fixture = (name: string) => new Uint8Array(readFileSync(new URL(`../fixtures/${name}`, import.meta.url)));

/** A photograph of 800 x 600 that no other test has, so that its digest is its own. */
async function photo(width = 800, height = 600): Promise<Uint8Array<ArrayBuffer>> {
  const background = { r: Math.floor(Math.random() * 256), g: Math.floor(Math.random() * 256), b: 100 };
  return new Uint8Array(
    await sharp({ create: { width, height, channels: 3, background } })
      .jpeg()
      .toBuffer(),
  );
}

/** The same chunks with the same lengths and right check sums, but what is in IDAT is no deflate stream. */
function withoutPixels(picture: Buffer): Uint8Array<ArrayBuffer> {
  const copy = Buffer.from(picture);
  for (let at = 8; at < copy.length; at += 12 + copy.readUInt32BE(at)) {
    const end = at + 8 + copy.readUInt32BE(at);
    if (copy.toString('latin1', at + 4, at + 8) !== 'IDAT') continue;
    copy.fill(0xff, at + 8, end);
    copy.writeUInt32BE(crc32(copy.subarray(at + 4, end)), end);
  }
  return new Uint8Array(copy);
}

for (const { store, skip } of storeKinds)
  describe(`derivatives on ${store}`, { skip }, () => {
    let service: TestService;
    /** While set, no derivative can be stored, so that they are left to their job, which tries on. */
    let stuck = false;
    /** While set, what is to be stored waits for it. */
    let gate: Promise<void> | undefined;
    let waiting = 0;
    before(async () => {
      const wrapStore = (inner: ObjectStore): ObjectStore =>
        new Proxy(inner, {
          get: (target, name) => {
            const value = Reflect.get(target, name);
            if (name === 'put' && (stuck || gate))
              return (...all: Parameters<ObjectStore['put']>) =>
                all[0].endsWith('/original') ? target.put(...all) : Promise.reject(new ObjectStoreUnavailable('stuck'));
            if (name === 'putStream' && stuck) return () => Promise.reject(new ObjectStoreUnavailable('stuck'));
            if (name === 'putStream' && gate)
              return async (...all: Parameters<ObjectStore['putStream']>) => {
                waiting += 1;
                await gate;
                return target.putStream(...all);
              };
            return typeof value === 'function' ? value.bind(target) : value;
          },
        });
      service = await startService({
        store,
        wrapStore,
        env: { DERIVATIVES: 'true', REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', RECONCILE_GRACE: '0s' },
      });
    });
    after(() => service.close());

    const caller = () => new Client(service.url, `user-${randomUUID()}`);
    const listOf = async (client: Client, id: string) =>
      (await client.get(`/v1/assets/${id}/derivatives`)).body.data as unknown as DerivativeDocument[];
    const isProcessed = async (client: Client, id: string) => {
      const { body } = await client.get(`/v1/assets/${id}`);
      return body.processing?.derive?.state === 'waiting' ? undefined : body;
    };
    async function stored(client: Client, bytes: Uint8Array<ArrayBuffer>, name = 'photo.jpg') {
      const { status, body } = await client.raw(bytes, { name });
      assert.equal(status, 201, JSON.stringify(body));
      const processed = await waitUntil(() => isProcessed(client, body.id));
      assert.ok(processed);
      return processed;
    }
    const keysInStore = async () => {
      const keys: string[] = [];
      for await (const page of service.store.list('', {})) keys.push(...page.map(({ key }) => key));
      return keys;
    };

    test('a picture has facts, a placeholder and a thumbnail that fits the box, and its quota is what was sent', async () => {
      const client = caller();
      const bytes = await photo(1600, 800);
      const asset = await stored(client, bytes);
      assert.deepEqual([asset.facts?.width, asset.facts?.height], [1600, 800]);
      assert.equal(Buffer.from(asset.thumbHash ?? '', 'base64').length > 10, true);
      const [thumbnail, ...more] = await listOf(client, asset.id);
      assert.deepEqual(more, []);
      assert.deepEqual(
        [thumbnail?.name, thumbnail?.state, thumbnail?.mediaType, thumbnail?.width, thumbnail?.height],
        ['thumbnail', 'ready', 'image/webp', 400, 200],
      );
      const quota = (await client.get('/v1/quota')).body as unknown as { used: number; fileCount: number };
      assert.deepEqual([quota.used, quota.fileCount], [bytes.length, 1]);
    });

    test('a small picture has all that is made of it in the answer to its upload, as soon as a process is free', async () => {
      const client = caller();
      const body = await waitUntil(async () => {
        const answer = await client.raw(await photo(640, 320), { name: 'photo.jpg' });
        return answer.body.processing?.derive?.state === 'done' ? answer.body : undefined;
      });
      assert.ok(body);
      assert.deepEqual([body.facts?.width, body.facts?.height, body.state], [640, 320, 'ready']);
      assert.equal(body.processing?.facts?.state, 'done');
      assert.equal(Buffer.from(body.thumbHash ?? '', 'base64').length > 10, true);
      const made = await client.get(`/v1/assets/${body.id}/derivatives/thumbnail`);
      assert.deepEqual([made.status, made.headers.get('content-type')], [200, 'image/webp']);
      const [row] = await service.query('select state, lease_expires_at, size from derivatives where asset_id = $1', [
        body.id,
      ]);
      assert.deepEqual(row, {
        state: 'ready',
        lease_expires_at: null,
        size: made.headers.get('content-length'),
      });
      const jobs = await service.query("select from pgboss.job where data ->> 'assetId' = $1", [body.id]);
      assert.deepEqual(jobs, []);
    });

    test('a picture that comes in other ways has its facts and its thumbnail by one job', async () => {
      const client = caller();
      const bytes = await photo(640, 320);
      const headers = {
        'tus-resumable': '1.0.0',
        'upload-length': String(bytes.length),
        'upload-metadata': `filename ${Buffer.from('photo.jpg').toString('base64')}`,
        'content-type': 'application/offset+octet-stream',
      };
      const created = await client.request('POST', '/v1/resumable', { headers, body: bytes });
      assert.equal(created.status, 201, JSON.stringify(created.body));
      const id = created.headers.get('location')?.split('/').at(-1) ?? '';
      const asset = await waitUntil(async () => {
        const { body } = await client.get(`/v1/assets/${id}`);
        return body.processing?.derive?.state === 'done' && body;
      });
      assert.ok(asset);
      assert.deepEqual([asset.facts?.width, asset.processing?.facts?.state], [640, 'done']);
      assert.equal(Buffer.from(asset.thumbHash ?? '', 'base64').length > 10, true);
      assert.equal((await client.get(`/v1/assets/${id}/derivatives/thumbnail`)).status, 200);
      const jobs = await service.query("select name from pgboss.job where data ->> 'assetId' = $1", [id]);
      assert.deepEqual(jobs, [{ name: 'facts' }]);
    });

    test('its bytes come with all that belongs to a download, and by a link', async () => {
      const client = caller();
      const { id } = await stored(client, await photo());
      const path = `/v1/assets/${id}/derivatives/thumbnail`;
      const whole = await fetch(service.url + path, { headers: client.headers });
      const bytes = Buffer.from(await whole.arrayBuffer());
      assert.equal(whole.status, 200);
      assert.equal(whole.headers.get('content-type'), 'image/webp');
      assert.match(whole.headers.get('content-disposition') ?? '', /inline; filename="photo\.thumbnail\.webp"/);
      assert.deepEqual([(await sharp(bytes).metadata()).width, (await sharp(bytes).metadata()).height], [400, 300]);
      const etag = whole.headers.get('etag') ?? '';
      assert.equal(etag, `"${createHash('sha256').update(bytes).digest('hex')}"`);
      assert.equal((await client.get(path, { 'if-none-match': etag })).status, 304);
      const part = await fetch(service.url + path, { headers: { ...client.headers, range: 'bytes=0-3' } });
      assert.deepEqual([part.status, await part.text()], [206, 'RIFF']);
      const head = await client.request('HEAD', path);
      assert.deepEqual([head.status, head.headers.get('content-length')], [200, String(bytes.length)]);

      const link = await client.get(`/v1/assets/${id}/download?derivative=thumbnail`);
      const followed = await fetch(String(link.body['url']));
      assert.equal(followed.headers.get('content-type'), 'image/webp');
      assert.deepEqual(Buffer.from(await followed.arrayBuffer()), bytes);
    });

    test('asked for while it is made: 409 with Retry-After; unknown or impossible: 404 with the reason', async () => {
      const client = caller();
      stuck = true;
      const { body: asset } = await client.raw(await photo(), { name: 'photo.jpg' });
      const early = await client.get(`/v1/assets/${asset.id}/derivatives/thumbnail`);
      assert.deepEqual([early.status, early.body.type.split(':').at(-1)], [409, 'derivative-pending']);
      assert.match(early.headers.get('retry-after') ?? '', /^\d+$/);
      // There, or coming: a worker claims the name, and lets it go when it cannot store.
      const coming = (await listOf(client, asset.id)).map(({ name, state }) => [name, state]);
      assert.deepEqual(coming, [['thumbnail', 'making']]);
      stuck = false;
      await waitUntil(async () => (await client.get(`/v1/assets/${asset.id}/derivatives/thumbnail`)).status === 200);

      const unknown = await client.get(`/v1/assets/${asset.id}/derivatives/poster`);
      assert.deepEqual([unknown.status, unknown.body.type.split(':').at(-1)], [404, 'derivative-unavailable']);
      // A picture by its structure, of which the pixels cannot be read.
      const broken = await client.raw(withoutPixels(await sharp(png(300)).png().toBuffer()), { name: 'broken.png' });
      assert.equal(broken.status, 201);
      await waitUntil(() => isProcessed(client, broken.body.id));
      const failed = await client.get(`/v1/assets/${broken.body.id}/derivatives/thumbnail`);
      assert.equal(failed.status, 404);
      assert.match(failed.body.detail ?? '', /cannot be made: \w+/);
      assert.equal((await client.content(broken.body.id)).status, 200);
    });

    test('nobody else sees it, and what is not served has none', async () => {
      const client = caller();
      const { id } = await stored(client, await photo());
      const path = `/v1/assets/${id}/derivatives/thumbnail`;
      const unknown = await caller().get(`/v1/assets/${randomUUID()}/derivatives/thumbnail`);
      for (const foreign of [path, `/v1/assets/${id}/derivatives`]) {
        const answer = await caller().get(foreign);
        assert.deepEqual(
          [answer.status, answer.body.type, answer.body.detail],
          [404, unknown.body.type, unknown.body.detail],
        );
      }
      await client.request('DELETE', `/v1/assets/${id}`);
      assert.equal((await client.get(path)).status, 409);
      await client.request('POST', `/v1/assets/${id}/restore`);
      assert.equal((await client.get(path)).status, 200);
    });

    test('a name may be changed under the entity tag of the upload, though a thumbnail has come since', async () => {
      const client = caller();
      stuck = true;
      const { headers, body } = await client.raw(await photo(), { name: 'photo.jpg' });
      assert.equal(body.processing?.derive?.state, 'waiting');
      stuck = false;
      await waitUntil(() => isProcessed(client, body.id));
      const before = headers.get('etag') ?? '';
      const read = await client.get(`/v1/assets/${body.id}`, { 'if-none-match': before });
      assert.equal(read.status, 200, 'what is shown has changed');
      const change = { name: 'other.jpg' };
      assert.equal((await client.send('PATCH', `/v1/assets/${body.id}`, change, { 'if-match': before })).status, 200);
      assert.equal((await client.send('PATCH', `/v1/assets/${body.id}`, change, { 'if-match': before })).status, 412);
    });

    test('whose name somebody holds who may be dead is made when his time is over', async () => {
      const client = caller();
      const { id } = await stored(client, await photo());
      await service.query(
        `with held as (update derivatives set state = 'making', requested_by = 'upload', lease_expires_at = now() + interval '1 hour' where asset_id = $1),
           waiting as (update assets set processing = jsonb_set(processing, '{derive}', '{"state": "waiting"}') where id = $1)
         insert into pgboss.job (name, data) values ('derive', jsonb_build_object('assetId', $1::text))`,
        [id],
      );
      const step = async () => (await client.get(`/v1/assets/${id}`)).body.processing?.derive;
      await waitUntil(async () => (await step())?.reason === 'busy');
      assert.equal((await step())?.state, 'waiting');
      await service.query('update derivatives set lease_expires_at = now() where asset_id = $1', [id]);
      await service.query("update pgboss.job set start_after = now() where name = 'derive'");
      await waitUntil(async () => (await step())?.state === 'done');
      assert.equal((await client.get(`/v1/assets/${id}/derivatives/thumbnail`)).status, 200);
    });

    test('goes with its asset, and the reconciler finds nothing', async () => {
      const client = caller();
      const { id } = await stored(client, await photo());
      const mine = (key: string) => key.includes(id);
      assert.equal((await keysInStore()).filter(mine).length, 2);
      await client.request('DELETE', `/v1/assets/${id}?permanent=true`);
      await waitUntil(async () => (await keysInStore()).filter(mine).length === 0);
      await waitUntil(
        async () => (await service.query('select from derivatives where asset_id = $1', [id])).length === 0,
      );
      // Those of the tests before.
      await waitUntil(
        async () => (await service.query("select from derivatives where state = 'discarded'")).length === 0,
      );
      const { report } = await service.service.reconcile({});
      assert.deepEqual([report.unaccountedObjects, report.lostDerivatives, report.discardedDerivatives], [0, 0, 0]);
    });

    test('that is in the making when its asset goes is removed when its maker cannot be at it any more', async () => {
      const client = caller();
      const { id } = await stored(client, await photo());
      const made = randomUUID();
      await service.query(
        `insert into derivatives (id, asset_id, kind, name, state, object_key, source_key, lease_expires_at, asked_at, created_at, updated_at)
         select $2, id, 'derivative', 'late', 'making', replace(object_key, 'original', $3), object_key, now() + interval '1 minute', now(), now(), now()
         from assets where id = $1`,
        [id, made, made],
      );
      await client.request('DELETE', `/v1/assets/${id}?permanent=true`);
      await waitUntil(async () => (await service.query('select from assets where id = $1', [id])).length === 0);
      const [row] = await service.query<{ state: string; object_key: string }>(
        'select state, object_key from derivatives where id = $1',
        [made],
      );
      assert.equal(row?.state, 'discarded');
      // Its maker stores it after all; the job that waits for the end of the lease removes it.
      const bytes = Buffer.from('late');
      const attributes = {
        contentType: 'image/webp',
        contentDisposition: 'inline',
        cacheControl: 'private',
        metadata: {},
      };
      await service.store.put(row.object_key, bytes, attributes, {
        sha256: createHash('sha256').update(bytes).digest(),
      });
      await service.query("update pgboss.job set start_after = now() where name = 'discard-derivative'");
      await waitUntil(async () => !(await keysInStore()).includes(row.object_key));
      await waitUntil(async () => (await service.query('select from derivatives where id = $1', [made])).length === 0);
    });

    test('that is stored after all, when its asset and even its row have gone, is removed by its maker', async () => {
      const client = caller();
      const open = Promise.withResolvers<void>();
      gate = open.promise;
      try {
        const { body } = await client.raw(await photo(), { name: 'photo.jpg' });
        await waitUntil(() => waiting > 0);
        await client.request('DELETE', `/v1/assets/${body.id}?permanent=true`);
        const rows = () => service.query('select from derivatives where asset_id = $1', [body.id]);
        await waitUntil(async () => (await service.query('select from assets where id = $1', [body.id])).length === 0);
        await service.query("update pgboss.job set start_after = now() where name = 'discard-derivative'");
        await waitUntil(async () => (await rows()).length === 0);
        open.resolve();
        const stored = async () => (await keysInStore()).filter((key) => key.includes(body.id));
        await waitUntil(
          async () =>
            (await service.query("select from pgboss.job where name = 'derive' and state < 'completed'")).length === 0,
        );
        assert.deepEqual(await stored(), []);
      } finally {
        gate = undefined;
        open.resolve();
      }
    });

    test('whose object is lost is made again, and an object that no record names is removed', async () => {
      const client = caller();
      const { id } = await stored(client, await photo());
      const [row] = await service.query<{ object_key: string }>(
        'select object_key from derivatives where asset_id = $1',
        [id],
      );
      assert.ok(row);
      await service.store.delete(row.object_key, {});
      const stray = row.object_key.replace(/[^/]+$/, randomUUID());
      const bytes = Buffer.from('stray');
      const attributes = {
        contentType: 'image/webp',
        contentDisposition: 'inline',
        cacheControl: 'private',
        metadata: {},
      };
      await service.store.put(stray, bytes, attributes, { sha256: createHash('sha256').update(bytes).digest() });
      await waitUntil(async () => {
        const { report } = await service.service.reconcile({});
        return report.lostDerivatives === 1 || report.deletedObjects === 1;
      });
      await waitUntil(async () => (await client.get(`/v1/assets/${id}/derivatives/thumbnail`)).status === 200);
      await waitUntil(async () => {
        await service.service.reconcile({});
        return !(await keysInStore()).includes(stray);
      });
      assert.equal((await client.get(`/v1/assets/${id}/derivatives/thumbnail`)).status, 200);
    });

    test('is made of a file that was stored before there were any, when it is asked for', async () => {
      const client = caller();
      const { id } = await stored(client, await photo());
      const old = [id];
      await service.query('update assets set processing = null where id = $1', old);
      await service.query("update derivatives set state = 'discarded' where asset_id = $1", old);
      const path = `/v1/assets/${id}/derivatives/thumbnail`;
      assert.equal((await client.get(path)).status, 409);
      await waitUntil(async () => (await client.get(path)).status === 200);
    });

    test('of a policy that names none, or others', async () => {
      const own = await startService({
        store,
        env: { DERIVATIVES: 'true', REQUESTS_PER_MINUTE: '0' },
        policies: {
          image: null,
          avatar: {
            mediaTypes: ['image/jpeg'],
            maxBytes: 1e6,
            derivatives: { small: { width: 32, height: 32, format: 'jpeg' } },
          },
          plain: { mediaTypes: ['image/png'], maxBytes: 1e6, derivatives: {} },
        },
      });
      try {
        const client = new Client(own.url, `user-${randomUUID()}`);
        const { body } = await client.raw(await photo(), { name: 'me.jpg' });
        await waitUntil(async () => (await client.get(`/v1/assets/${body.id}/derivatives/small`)).status === 200);
        assert.deepEqual(
          (await listOf(client, body.id)).map(({ name, mediaType, width }) => [name, mediaType, width]),
          [['small', 'image/jpeg', 32]],
        );
        const plain = await client.raw(fixture('drawing.png'), { name: 'plain.png' });
        await waitUntil(() => isProcessed(client, plain.body.id));
        assert.deepEqual(await listOf(client, plain.body.id), []);
      } finally {
        await own.close();
      }
    });
  });
