/** What everybody may see: public assets and galleries, by two instances over one database. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { purgeCaches } from '../../src/publishing/purge.ts';
import { LADDER } from '../../src/variants/options.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const photo = Buffer.from(readFileSync(new URL('../fixtures/photo.jpg', import.meta.url)));
const image = { mediaTypes: ['image/png', 'image/jpeg'], maxBytes: 10_000_000 };
const policies = { image: { ...image, public: true }, secret: image };

interface Seen {
  status: number;
  headers: Headers;
  body: string;
}

/** A stranger, who sends nothing that names him. */
async function see(url: string, init: RequestInit = {}): Promise<Seen> {
  const answer = await fetch(url, { redirect: 'manual', ...init });
  return { status: answer.status, headers: answer.headers, body: await answer.text() };
}

/** All that tells one answer from another, but what is of each request. */
function told({ status, headers, body }: Seen) {
  const each = ['date', 'x-request-id', 'ratelimit-remaining', 'ratelimit-reset', 'connection', 'keep-alive'];
  return {
    status,
    headers: [...headers].filter(([name]) => !each.includes(name)),
    body: body.replace(/"requestId":"[^"]*"/, ''),
  };
}

describe('public assets', () => {
  let service: TestService;
  let second: TestService;
  let owner: Client;
  before(async () => {
    const env = { PUBLIC_GALLERIES: 'true', PUBLIC_MAX_AGE: '10m' };
    service = await startService({ policies, env });
    second = await startService({ policies, env, beside: service });
    owner = new Client(service.url);
  });
  after(async () => {
    await second.close();
    await service.close();
  });

  /** @returns id and public address */
  async function published({ fields = {}, name = 'photo.jpg', bytes = photo } = {}) {
    const uploaded = await owner.raw(bytes, { name, fields });
    const answer = await owner.send('PATCH', `/v1/assets/${uploaded.body.id}`, { visibility: 'public' });
    assert.equal(answer.status, 200);
    assert.equal(answer.body.visibility, 'public');
    assert.ok(answer.body.publicUrl);
    return { id: answer.body.id, url: answer.body.publicUrl };
  }
  const elsewhere = (url: string) => url.replace(service.url, second.url);

  test('are private until somebody says otherwise, and where their policy does not allow it', async () => {
    const { body } = await owner.raw(photo, { name: 'photo.jpg', fields: { assetType: 'secret' } });
    assert.deepEqual([body.visibility, body.publicUrl], ['private', undefined]);
    const refused = await owner.send('PATCH', `/v1/assets/${body.id}`, { visibility: 'public' });
    assert.deepEqual([refused.status, refused.body.type], [403, 'urn:stowage:problem:public-not-allowed']);
    const listed = await owner.get('/v1/policies');
    const allowed = listed.body.data.filter((policy) => Reflect.get(policy, 'public'));
    assert.deepEqual(
      allowed.map(({ assetType }) => assetType),
      ['image'],
    );
    assert.equal((await see(`${service.url}/p/${body.id}/photo.jpg`)).status, 404);
  });

  test('are served to everybody, as caches and pages of any origin need it', async () => {
    const { id, url } = await published({ name: 'Gruß, 1 (a).jpg' });
    assert.equal(url, `${service.url}/p/${id}/${encodeURIComponent('Gruß, 1 (a).jpg')}`);
    assert.equal((await owner.get(`/v1/assets/${id}`)).body.publicUrl, url);
    assert.equal((await owner.get('/v1/assets')).body.data.find((asset) => asset.id === id)?.publicUrl, url);
    const whole = await fetch(url, { headers: { origin: 'https://page.example' } });
    const bytes = Buffer.from(await whole.arrayBuffer());
    assert.equal(bytes.length, Number(whole.headers.get('content-length')));
    const etag = whole.headers.get('etag') ?? '';
    assert.match(etag, /^"[0-9a-f]{64}"$/);
    for (const [name, value] of Object.entries({
      'cache-control': 'public, max-age=600, must-revalidate',
      'access-control-allow-origin': '*',
      'access-control-allow-credentials': null,
      vary: null,
      'cross-origin-resource-policy': 'cross-origin',
      'content-security-policy': "default-src 'none'; sandbox",
      'x-content-type-options': 'nosniff',
      'content-type': 'image/jpeg',
      'set-cookie': null,
      'cache-tag': `asset-${id}`,
    }))
      assert.equal(whole.headers.get(name), value, name);
    const head = await see(url, { method: 'HEAD' });
    assert.deepEqual([head.status, head.headers.get('content-length'), head.body], [200, String(bytes.length), '']);
    const part = await fetch(url, { headers: { range: 'bytes=2-5', 'if-range': etag } });
    assert.deepEqual([part.status, Buffer.from(await part.arrayBuffer())], [206, bytes.subarray(2, 6)]);
    assert.equal((await see(url, { headers: { 'if-none-match': etag } })).status, 304);
    assert.equal((await see(url, { headers: { 'if-match': '"other"' } })).status, 412);
    assert.equal((await see(url, { headers: { range: 'bytes=9999999-' } })).status, 416);
    const preflight = await see(url, {
      method: 'OPTIONS',
      headers: { origin: 'https://page.example', 'access-control-request-method': 'GET' },
    });
    assert.deepEqual([preflight.status, preflight.headers.get('access-control-allow-origin')], [204, '*']);
    assert.equal((await see(url, { method: 'DELETE' })).status, 405);
  });

  test('what is not public is not there, however it is spelled', async () => {
    const { body } = await owner.raw(photo, { name: 'photo.jpg' });
    const { id, url } = await published();
    const unknown = told(await see(`${service.url}/p/${randomUUID()}/photo.jpg`));
    assert.equal(unknown.status, 404);
    const own = `${service.url}/p/${body.id}`;
    for (const spelled of [
      `${own}/photo.jpg`,
      `${own}/PHOTO.JPG`,
      `${own}/photo%2Ejpg`,
      `${own}/ph%6fto.jpg`,
      `${own}/other.jpg`,
      `${own}/photo.jpg?width=64`,
      `${own}/photo.jpg?derivative=thumbnail`,
      `${own.toUpperCase().replace(/.*\/P\//, `${service.url}/p/`)}/photo.jpg`,
      `${service.url}/p/${body.id.replaceAll('-', '%2D')}/photo.jpg`,
      `${service.url}/p/${id.toUpperCase()}/photo.jpg`,
      `${service.url}/p/${id}%20/photo.jpg`,
      `${service.url}/p/x/photo.jpg`,
      `${service.url}/p/${id}%00/photo.jpg`,
    ])
      assert.deepEqual(told(await see(spelled)), unknown, spelled);
    assert.equal((await see(url)).status, 200);
    // The id of another does not lend its bytes to a name.
    assert.equal((await see(`${service.url}/p/${id}/..%2F${body.id}%2Fphoto.jpg`)).status, 301);
  });

  test('another name leads to the one that it has, and nobody keeps that', async () => {
    const { id, url } = await published();
    const renamed = await owner.send('PATCH', `/v1/assets/${id}`, { name: 'summer 1.jpg' });
    const old = await see(`${elsewhere(url)}?width=64`);
    assert.equal(old.status, 301);
    assert.equal(old.headers.get('location'), `${second.url}/p/${id}/summer%201.jpg?width=64`);
    assert.equal(old.headers.get('cache-control'), 'no-cache');
    assert.equal(renamed.body.publicUrl, `${service.url}/p/${id}/summer%201.jpg`);
  });

  test('shared caches keep one spelling, whatever strangers write', async () => {
    const { url } = await published({ name: 'a,b.jpg' });
    assert.equal((await see(url)).headers.get('cache-control'), 'public, max-age=600, must-revalidate');
    for (const spelled of [
      url.replace('%2C', ','),
      url.replace('%2C', '%2c'),
      url.replace('a%', '%61%'),
      `${url}?v=2`,
      `${url}?`,
      `${url}/`,
      `${url}?width=64&square=false`,
      `${url}?format=webp&width=64`,
    ]) {
      const { status, headers } = await see(spelled);
      assert.deepEqual([status, headers.get('cache-control')], [200, 'private, max-age=600, must-revalidate'], spelled);
    }
  });

  for (const [what, change, back] of [
    ['made private', (id: string) => owner.send('PATCH', `/v1/assets/${id}`, { visibility: 'private' })],
    [
      'moved to the trash',
      (id: string) => owner.request('DELETE', `/v1/assets/${id}`),
      (id: string) => owner.send('POST', `/v1/assets/${id}/restore`, undefined),
    ],
    ['deleted', (id: string) => owner.request('DELETE', `/v1/assets/${id}?permanent=true`)],
    ['trashed with others', (id: string) => owner.send('POST', '/v1/assets/bulk', { action: 'trash', ids: [id] })],
  ] as const)
    test(`what is ${what} is gone at once, on every instance`, async () => {
      const { id, url } = await published();
      const pictures = [url, elsewhere(url), `${url}?width=64`, `${elsewhere(url)}?width=64`];
      for (const address of pictures) assert.equal((await see(address)).status, 200);
      const begun = Date.now();
      assert.ok((await change(id)).status < 300);
      for (const address of pictures) assert.equal((await see(address)).status, 404);
      const record = await owner.get(`/v1/assets/${id}`);
      if (record.status === 404) return;
      assert.equal(record.body.publicUrl, undefined);
      const kept = Date.parse(record.body.cachedUntil ?? '') - begun;
      assert.ok(kept >= 590_000 && kept <= 660_000, `kept for ${kept} ms`);
      if (!back) return;
      assert.equal((await back(id)).status, 200);
      assert.equal((await see(elsewhere(url))).status, 200);
    });

  test('a move to another project makes it private, by whatever statement', async () => {
    const [one, other] = [`one-${randomUUID()}`, `other-${randomUUID()}`];
    const { id, url } = await published({ fields: { projectId: one } });
    const both = await owner.send('PATCH', `/v1/assets/${id}`, { projectId: other, visibility: 'public' });
    assert.deepEqual([both.status, both.body.type], [400, 'urn:stowage:problem:invalid-parameter']);
    const moved = await owner.send('PATCH', `/v1/assets/${id}`, { projectId: other });
    assert.deepEqual([moved.status, moved.body.visibility], [200, 'private']);
    assert.ok(moved.body.cachedUntil);
    assert.equal((await see(url)).status, 404);
    assert.equal((await owner.send('PATCH', `/v1/assets/${id}`, { visibility: 'public' })).body.visibility, 'public');
    assert.equal((await see(url)).status, 200);
    await service.query('update assets set project_id = $1 where id = $2', [one, id]);
    assert.equal((await see(url)).status, 404);
    assert.equal((await owner.get(`/v1/assets/${id}`)).body.visibility, 'private');
    assert.deepEqual(await service.query('select asset_id from gallery_entries where asset_id = $1', [id]), []);
  });

  test('a policy that does not allow it any more ends it', async () => {
    const { id, url } = await published();
    const strict = await startService({ policies: { image }, beside: service });
    try {
      assert.equal((await see(url.replace(service.url, strict.url))).status, 404);
      const { body } = await new Client(strict.url).get(`/v1/assets/${id}`);
      assert.deepEqual([body.visibility, body.publicUrl], ['public', undefined]);
    } finally {
      await strict.close();
    }
  });

  test('each change has its one audit row', async () => {
    const { id } = await published();
    await owner.send('PATCH', `/v1/assets/${id}`, { visibility: 'public', metadata: { a: 'b' } });
    await owner.send('PATCH', `/v1/assets/${id}`, { visibility: 'private', name: 'b.jpg' });
    const rows = await service.query<{ action: string }>(
      'select action from audit_events where asset_id = $1 order by id',
      [id],
    );
    assert.deepEqual(
      rows.map(({ action }) => action),
      ['asset.uploaded', 'asset.published', 'asset.updated', 'asset.unpublished'],
    );
  });

  test('downloads by strangers are counted, and write no row each', async () => {
    const { id, url } = await published();
    const written = () => service.query('select * from download_marks where asset_id = $1', [id]);
    for (const range of ['', 'bytes=0-9', 'bytes=10-19']) await see(url, range === '' ? {} : { headers: { range } });
    await see(url, { method: 'HEAD' });
    await see(`${url}?width=64`);
    await waitUntil(async () => (await owner.get(`/v1/assets/${id}`)).body.downloadCount === 2);
    assert.deepEqual(await written(), []);
    const rows = await service.query(`select 1 from audit_events where asset_id = $1 and action like '%download%'`, [
      id,
    ]);
    assert.deepEqual(rows, []);
  });

  describe('pictures in other sizes', () => {
    test('are there at the widths of the ladder, and at no other', async () => {
      const { url } = await published();
      const small = await fetch(`${url}?width=32&square=true&format=png`);
      const bytes = Buffer.from(await small.arrayBuffer());
      assert.equal(small.headers.get('content-type'), 'image/png');
      assert.deepEqual([bytes.readUInt32BE(16), bytes.readUInt32BE(20)], [32, 32]);
      assert.equal(small.headers.get('cache-control'), 'public, max-age=600, must-revalidate');
      assert.match(small.headers.get('etag') ?? '', /^"[0-9a-f]{64}"$/);
      for (const query of ['width=33', 'width=0', 'width=4096', 'width=032', 'width=3e1', 'format=png', 'square=true'])
        assert.equal((await see(`${url}?${query}`)).status, 400, query);
    });

    test('are fewer, all together, than are kept of one', () => {
      const { VARIANTS_PER_ASSET } = service.config as unknown as { VARIANTS_PER_ASSET: number };
      const [shapes, formats] = [2, 4];
      assert.ok(LADDER.length * shapes * formats < VARIANTS_PER_ASSET);
    });
  });

  describe('attacked by strangers', () => {
    let bounded: TestService;
    let client: Client;
    before(async () => {
      const env = {
        PUBLIC_REQUESTS_PER_MINUTE: '60',
        VARIANTS_PER_MINUTE: '20',
        DOWNLOADS_PER_CALLER: '2',
        UPLOAD_WAIT: '300ms',
      };
      bounded = await startService({ policies: { image: { ...image, public: true, maxBytes: 1e9 } }, env });
      client = new Client(bounded.url);
    });
    after(() => bounded.close());

    /** Each test has strangers of its own. */
    async function seeFrom(localAddress: string, url: string): Promise<number> {
      const [answer] = await once(request(url, { localAddress, agent: false }).end(), 'response');
      answer.resume();
      await once(answer, 'close');
      return answer.statusCode;
    }

    async function publish(bytes: Buffer<ArrayBuffer>, name: string): Promise<{ id: string; url: string }> {
      const { id } = (await client.raw(bytes, { name })).body;
      await client.send('PATCH', `/v1/assets/${id}`, { visibility: 'public' });
      const url = await waitUntil(async () => (await client.get(`/v1/assets/${id}`)).body.publicUrl);
      return { id, url: url ?? '' };
    }

    test('answers that are not read take few places', async () => {
      const { id, url } = await publish(png(20_000_000), 'large.png');
      const { hostname, port, pathname } = new URL(url);
      const sockets = [1, 2, 3, 4].map(() => {
        const socket = connect({ host: hostname, port: Number(port), localAddress: '127.0.0.2' });
        socket.on('error', () => {});
        socket.pause();
        socket.write(`GET ${pathname} HTTP/1.1\r\nhost: ${hostname}:${port}\r\n\r\n`);
        return socket;
      });
      const active = () => bounded.service.core.downloads.active;
      await waitUntil(() => active() === 2);
      assert.deepEqual([await seeFrom('127.0.0.2', url), active()], [429, 2]);
      assert.equal(await seeFrom('127.0.0.3', url), 200);
      assert.equal((await client.content(id, { range: 'bytes=0-9' })).status, 206);
      for (const socket of sockets) socket.destroy();
    });

    test('unknown ids are asked for no more often than the limit of an address', async () => {
      const unknown = () => `${bounded.url}/p/${randomUUID()}/a.png`;
      const statuses: number[] = [];
      while (statuses.at(-1) !== 429 && statuses.length <= 60) statuses.push(await seeFrom('127.0.0.4', unknown()));
      assert.equal(statuses.at(-1), 429, statuses.join());
      assert.equal(await seeFrom('127.0.0.5', unknown()), 404);
      assert.equal((await client.get('/v1/assets')).status, 200);
    });

    test('all sizes of a picture at once take nothing from the owner, nor all from others', async () => {
      const { id, url } = await publish(photo, 'flood.jpg');
      const sizes = LADDER.flatMap((width) =>
        ['webp', 'jpeg'].map((format) => `${url}?width=${width}&format=${format}`),
      );
      const statuses = await Promise.all(sizes.map((address) => seeFrom('127.0.0.6', address)));
      const made = statuses.filter((status) => status === 200).length;
      assert.ok(made >= 10 && made < 20, statuses.join());
      assert.equal(statuses.filter((status) => status === 429).length, sizes.length - made);
      assert.equal(await seeFrom('127.0.0.7', `${url}?width=16&square=true`), 200);
      assert.equal((await client.get(`/v1/assets/${id}/image?width=77`)).status, 200);
    });
  });

  describe('in a gallery', () => {
    const project = `gallery-${randomUUID()}`;

    test('are listed to everybody, the latest first, page by page', async () => {
      const before = told(await see(`${service.url}/g/${project}`));
      assert.equal(before.status, 404);
      const names = ['a.jpg', 'b.jpg', 'c.jpg', 'd.jpg', 'e.jpg'];
      const ids = new Map<string, string>();
      for (const name of names) ids.set(name, (await published({ name, fields: { projectId: project } })).id);
      await owner.raw(photo, { name: 'private.jpg', fields: { projectId: project } });
      // A project that is none answers as one that nobody has made.
      assert.deepEqual(told(await see(`${service.url}/g/${project}`)), before);
      const made = await owner.send('PATCH', `/v1/projects/${project}`, { gallery: true });
      assert.deepEqual([made.status, made.body['gallery']], [200, true]);
      const seen: string[] = [];
      for (let cursor: string | undefined = ''; cursor !== undefined; ) {
        const url: string = `${second.url}/g/${project}?limit=2${cursor && `&cursor=${cursor}`}`;
        const { status, headers, body } = await see(url, { headers: { origin: 'https://page.example' } });
        assert.deepEqual([status, headers.get('access-control-allow-origin')], [200, '*']);
        assert.equal(headers.get('cache-control'), 'no-cache');
        const page = JSON.parse(body);
        assert.deepEqual(page.project, { id: project, name: project });
        for (const item of page.data) {
          seen.push(item.name);
          assert.equal((await see(item.url)).status, 200);
          assert.equal((await see(item.thumbnailUrl)).status, 200);
          assert.doesNotMatch(JSON.stringify(item), /alice|uploadedBy|metadata|object/);
        }
        cursor = page.page.nextCursor;
        assert.equal(page.page.hasMore, cursor !== undefined);
      }
      assert.deepEqual(seen, names.toReversed());
      await owner.send('PATCH', `/v1/assets/${ids.get('c.jpg')}`, { visibility: 'private' });
      await owner.request('DELETE', `/v1/assets/${ids.get('e.jpg')}`);
      const left = JSON.parse((await see(`${second.url}/g/${project}`)).body);
      assert.deepEqual(
        left.data.map(({ name }: { name: string }) => name),
        ['d.jpg', 'b.jpg', 'a.jpg'],
      );
      for (const query of ['cursor=x', 'limit=0', 'limit=201', 'state=lost'])
        assert.equal((await see(`${service.url}/g/${project}?${query}`)).status, 400, query);
      await owner.send('PATCH', `/v1/projects/${project}`, { gallery: false });
      assert.deepEqual(told(await see(`${service.url}/g/${project}`)), before);
    });

    test('are not, where the service has no galleries', async () => {
      const id = `none-${randomUUID()}`;
      await owner.send('POST', '/v1/projects', { id, name: 'None' });
      await owner.send('PATCH', `/v1/projects/${id}`, { gallery: true });
      const without = await startService({ policies, beside: service });
      try {
        assert.equal((await see(`${without.url}/g/${id}`)).status, 404);
        const refused = await new Client(without.url).send('PATCH', `/v1/projects/${id}`, { gallery: true });
        assert.deepEqual([refused.status, refused.body.type], [403, 'urn:stowage:problem:public-not-allowed']);
      } finally {
        await without.close();
      }
    });
  });

  test('caches are told to forget what changed, until they have taken it', async () => {
    const posted: {
      authorization: string | undefined;
      body: { tags: string[]; prefixes: string[]; urls: string[] };
    }[] = [];
    const cdn = createServer(async (request, response) => {
      const body = JSON.parse(await text(request));
      posted.push({ authorization: request.headers.authorization, body });
      response.statusCode = posted.length === 1 ? 503 : 204;
      response.end();
    });
    await new Promise<void>((resolve) => cdn.listen(0, '127.0.0.1', resolve));
    const { port } = cdn.address() as AddressInfo;
    const env = {
      CDN_PURGE_URL: `http://127.0.0.1:${port}/purge`,
      CDN_PURGE_TOKEN: 'a-token-of-the-tests',
      USERCONTENT_URL: 'http://files.example',
    };
    const ending = new AbortController();
    const purging = await startService({ policies, env });
    const client = new Client(purging.url);
    const publish = async (name: string) => {
      const { id } = (await client.raw(photo, { name })).body;
      return client.send('PATCH', `/v1/assets/${id}`, { visibility: 'public' });
    };
    const working = purgeCaches(purging.service.core, ending.signal);
    try {
      const [{ body: changed }, { body: kept }] = [await publish('a b.jpg'), await publish('kept.jpg')];
      const base = `http://files.example/p/${changed.id}`;
      assert.equal(changed.publicUrl, `${base}/a%20b.jpg`);
      await client.send('PATCH', `/v1/assets/${changed.id}`, { name: 'c.jpg' });
      await client.send('PATCH', `/v1/assets/${changed.id}`, { visibility: 'private' });
      await client.send('PATCH', `/v1/assets/${kept.id}`, { metadata: { a: 'b' } });
      await waitUntil(async () => (await purging.query('select 1 from stale_public_addresses')).length === 0);
      assert.ok(posted.length >= 2);
      const all = posted.slice(1).map(({ body }) => body);
      assert.deepEqual([...new Set(all.flatMap(({ tags }) => tags))], [`asset-${changed.id}`]);
      assert.deepEqual([...new Set(all.flatMap(({ prefixes }) => prefixes))], [`${base}/`]);
      assert.deepEqual([...new Set(all.flatMap(({ urls }) => urls))].sort(), [`${base}/a%20b.jpg`, `${base}/c.jpg`]);
      for (const { authorization } of posted) assert.equal(authorization, 'Bearer a-token-of-the-tests');
    } finally {
      ending.abort();
      await working;
      await purging.close();
      cdn.close();
    }
  });
});
