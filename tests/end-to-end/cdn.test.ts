/** Links to a CDN whose origin is the service: a real nginx that keeps what it gets, and the Worker of docs/delivery.md. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { cdnChecks } from '../../src/doctor/cdn-checks.ts';
import { Fault } from '../../src/doctor/check.ts';
import { type Cdn, HmacCdn } from '../../src/storage/cdn.ts';
import { Client, SECRET } from '../support/client.ts';
import { png } from '../support/files.ts';
import { freePort, type Nginx, nginxIn, startNginx } from '../support/nginx.ts';
import { programSkip } from '../support/programs.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const KEY = 'a key of the edge and the origin, 32 bytes';
const page = readFileSync(new URL('../../docs/delivery.md', import.meta.url), 'utf8');
const image = { mediaTypes: ['image/png'], maxBytes: 1e6 };

interface Worker {
  fetch(
    request: Request,
    env: { ORIGIN: string; CDN_HMAC_KEY: string },
    context: { waitUntil(work: Promise<unknown>): void },
  ): Promise<Response>;
}

for (const { store, skip } of storeKinds)
  describe(`behind a cache, ${store}`, { skip: skip || programSkip('nginx') }, () => {
    let service: TestService;
    let nginx: Nginx;
    let ann: Client;
    let ben: Client;
    before(async () => {
      const port = await freePort();
      service = await startService({
        store,
        env: {
          AUTH_JWT_SECRET: SECRET,
          TRUST_PROXY: 'loopback',
          REQUESTS_PER_MINUTE: '0',
          CDN_URL: `http://127.0.0.1:${port}`,
          CDN_HMAC_KEY: KEY,
        },
        policies: {
          image,
          brief: { ...image, cacheControl: 'private, max-age=1' },
          secret: { ...image, cacheControl: 'no-store' },
        },
      });
      // The whole service lies behind the same cache, as careless people configure it.
      const everything = `location / { proxy_pass http://stowage; proxy_cache stowage; proxy_cache_key $request_uri;
        add_header X-Cache $upstream_cache_status always; } location /v1/cdn/`;
      nginx = await startNginx(
        nginxIn('delivery.md').replace('location /v1/cdn/', everything),
        [new URL(service.url).host],
        { port },
      );
      [ann, ben] = await Promise.all(
        ['ann', 'ben'].map((user) => Client.withToken(nginx.url, user)) as [Promise<Client>, Promise<Client>],
      );
    });
    after(async () => {
      await nginx.stop();
      await service.close();
    });

    const stored = async (assetType = 'image'): Promise<string> => {
      const { status, body } = await ann.raw(png(3000), { fields: { assetType } });
      assert.equal(status, 201, JSON.stringify(body));
      return body.id;
    };
    const linkOf = async (id: string, query = ''): Promise<string> => {
      const { status, body } = await ann.get(`/v1/assets/${id}/download?${query}`);
      assert.equal(status, 200, JSON.stringify(body));
      return String(body['url']);
    };
    const fetched = async (url: string, headers: Record<string, string> = {}) => {
      const answer = await fetch(url, { headers });
      const bytes = Buffer.from(await answer.arrayBuffer());
      return { status: answer.status, cache: answer.headers.get('x-cache'), headers: answer.headers, bytes };
    };

    test('a hundred who follow the links of a window cost the service one request', async () => {
      const id = await stored();
      const urls = await Promise.all(Array.from({ length: 100 }, () => linkOf(id, 'expiresIn=604800')));
      assert.equal(new Set(urls).size, 1);
      const answers = await Promise.all(urls.map((url) => fetched(url)));
      assert.ok(answers.every(({ status, bytes }) => status === 200 && bytes.equals(png(3000))));
      assert.equal(answers.filter(({ cache }) => cache !== 'HIT').length, 1);
      assert.match(answers[0]?.headers.get('cache-control') ?? '', /^public, max-age=3600, immutable$/);
      assert.equal(answers[0]?.headers.get('content-type'), 'image/png');
      const followed = await service.query(
        "select 1 from audit_events where asset_id = $1 and action = 'asset.link-followed'",
        [id],
      );
      assert.equal(followed.length, 1);
    });

    test('ranges and conditions are answered from what is kept', async () => {
      const url = await linkOf(await stored());
      const first = await fetched(url, { range: 'bytes=100-199' });
      assert.deepEqual([first.status, first.cache], [206, 'MISS']);
      assert.ok(first.bytes.equals(png(3000).subarray(100, 200)));
      const second = await fetched(url, { range: 'bytes=2900-' });
      assert.deepEqual([second.status, second.cache], [206, 'HIT']);
      assert.ok(second.bytes.equals(png(3000).subarray(2900)));
      const known = await fetched(url, { 'if-none-match': second.headers.get('etag') ?? '' });
      assert.deepEqual([known.status, known.cache], [304, 'HIT']);
    });

    test('what is old is compared, not fetched again', async () => {
      const id = await stored('brief');
      const url = await linkOf(id);
      assert.equal((await fetched(url)).headers.get('cache-control'), 'public, max-age=1');
      await waitUntil(async () => (await fetched(url)).cache === 'REVALIDATED');
      const followed = await service.query(
        "select 1 from audit_events where asset_id = $1 and action = 'asset.link-followed'",
        [id],
      );
      assert.equal(followed.length, 1);
    });

    test('a copy ends with its link', { skip: store === 's3' }, async () => {
      const url = await linkOf(await stored(), 'expiresIn=4');
      const first = await fetched(url);
      assert.equal(first.status, 200);
      const [, seconds] = /max-age=(\d+)/.exec(first.headers.get('cache-control') ?? '') ?? [];
      assert.ok(Number(seconds) <= 4);
      await waitUntil(async () => (await fetched(url)).status === 410);
    });

    test('nothing private is kept for anybody, and nothing is kept for who has no link', async () => {
      const id = await stored();
      for (const path of [`/v1/assets/${id}`, `/v1/assets/${id}/content`, '/v1/assets', `/v1/assets/${id}/download`])
        for (const client of [ann, ann, ben]) {
          const { status, headers } = await client.get(path);
          assert.notEqual(headers.get('x-cache'), 'HIT', path);
          if (client === ben && path !== '/v1/assets') assert.equal(status, 404, path);
        }
      const secret = await linkOf(await stored('secret'));
      for (let time = 0; time < 2; time++) {
        const { status, cache, headers } = await fetched(secret);
        assert.deepEqual([status, cache, headers.get('cache-control')], [200, 'MISS', 'no-store']);
      }
      const url = await linkOf(id);
      assert.equal((await fetched(url)).status, 200);
      const altered = [
        url.replace(/signature=./, (text) => (text.endsWith('A') ? 'signature=B' : 'signature=A')),
        url.replace(/&signature=.*/, ''),
        url.replace(/expires=\d/, 'expires=9'),
        url.replace('inline', 'attachment'),
        url.replace('image%2Fpng', 'text%2Fhtml'),
        `${url}&x=1`,
        url.replace('original', 'other'),
        url.replace('/users/', '/%75sers/'),
      ];
      for (const each of altered) {
        assert.notEqual(each, url);
        const { status, cache } = await fetched(each);
        assert.deepEqual([status, cache], [404, 'MISS'], each);
      }
    });

    test('doctor finds it in order, and tells when the edge verifies nothing or is not there', async () => {
      const { cdn } = service.service.core;
      assert.ok(cdn);
      const verdictOf = async (each: Cdn) => {
        const [check] = cdnChecks(each, service.store, '');
        assert.ok(check);
        return check.run().catch((error: unknown) => (error instanceof Fault ? error.message : error));
      };
      assert.equal(await verdictOf(cdn), 'works, and a wrong signature is refused');
      const careless = createServer((_request, answer) => answer.end('anything')).listen(0, '127.0.0.1');
      await once(careless, 'listening');
      const address = careless.address();
      const url = `http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}`;
      assert.match(String(await verdictOf(new HmacCdn({ url, secret: KEY }))), /the edge verifies nothing/);
      careless.closeAllConnections();
      await once(careless.close(), 'close');
      assert.match(String(await verdictOf(new HmacCdn({ url, secret: KEY }))), /nobody answers at http:\/\/127/);
      assert.match(String(await verdictOf(new HmacCdn({ url: nginx.url, secret: `${KEY}.` }))), /answers 404/);
    });

    test('at the origin the links of what is in the trash end at once', async () => {
      const id = await stored();
      const url = await linkOf(id);
      assert.equal((await ann.request('DELETE', `/v1/assets/${id}`)).status, 204);
      assert.equal((await fetched(url)).status, 404);
    });

    test('the Worker keeps one copy for all windows, and refuses what is not signed', async () => {
      const directory = mkdtempSync(join(tmpdir(), 'stowage-worker-'));
      const file = join(directory, 'worker.mjs');
      writeFileSync(file, /```js\n([\s\S]*?)```/.exec(page)?.[1] ?? '');
      const { default: worker } = (await import(pathToFileURL(file).href)) as { default: Worker };
      rmSync(directory, { recursive: true });
      const copies = new Map<string, Response>();
      const works: Promise<unknown>[] = [];
      Object.assign(globalThis, {
        caches: {
          default: {
            match: async ({ url }: Request) => copies.get(url)?.clone(),
            put: async ({ url }: Request, answer: Response) => {
              copies.set(url, new Response(await answer.arrayBuffer(), answer));
            },
          },
        },
      });
      const ask = async (url: string, method = 'GET') => {
        const context = { waitUntil: (work: Promise<unknown>) => void works.push(work) };
        const env = { ORIGIN: service.url, CDN_HMAC_KEY: KEY };
        const answer = await worker.fetch(new Request(url, { method }), env, context);
        await Promise.all(works);
        return { status: answer.status, bytes: Buffer.from(await answer.arrayBuffer()) };
      };
      const id = await stored();
      const links = [await linkOf(id), await linkOf(id, 'expiresIn=86400')] as const;
      assert.notEqual(links[0], links[1]);
      for (const url of [...links, links[0]]) {
        const { status, bytes } = await ask(url);
        assert.equal(status, 200);
        assert.ok(bytes.equals(png(3000)));
      }
      assert.equal(copies.size, 1);
      const followed = await service.query(
        "select 1 from audit_events where asset_id = $1 and action = 'asset.link-followed'",
        [id],
      );
      assert.equal(followed.length, 1);
      assert.equal((await ask(links[0], 'HEAD')).status, 200);
      assert.equal((await ask(links[0].replace(/expires=\d/, 'expires=9'))).status, 403);
      assert.equal((await ask(links[0].replace(/signature=.*/, ''))).status, 403);
      assert.equal((await ask(links[0].replace('image%2Fpng', 'text%2Fhtml'))).status, 403);
      const brief = await linkOf(id, 'expiresIn=2');
      await waitUntil(async () => (await ask(brief)).status === 410);
    });
  });
