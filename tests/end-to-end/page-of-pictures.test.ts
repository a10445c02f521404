/** A page full of pictures in a real browser: what was shown once is not transferred again, as its links are the same. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { type Browser, chromium } from 'playwright-core';
import { Client, SECRET } from '../support/client.ts';
import { freePort, type Nginx, nginxIn, startNginx } from '../support/nginx.ts';
import { picture } from '../support/pictures.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { s3Skip } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const PICTURES = 200;
/** So long that the end of a window is met once in three days. */
const LIFE = 604_800;

const ways = [
  { name: 'the disk store', store: 'disk', byCdn: false, skip: programSkip('chromium') },
  { name: 'S3', store: 's3', byCdn: false, skip: s3Skip() || programSkip('chromium') },
  { name: 'a CDN', store: 'disk', byCdn: true, skip: programSkip('nginx') || programSkip('chromium') },
] as const;

for (const { name, store, byCdn, skip } of ways)
  describe(`a page of pictures by links to ${name}`, { skip }, () => {
    let service: TestService;
    let nginx: Nginx | undefined;
    let server: Server;
    let browser: Browser;
    let client: Client;
    let html = '';
    before(async () => {
      const port = await freePort();
      const cdn = { CDN_URL: `http://127.0.0.1:${port}`, CDN_HMAC_KEY: 'a key of the edge and the origin, 32 bytes' };
      service = await startService({
        store,
        env: { AUTH_JWT_SECRET: SECRET, DERIVATIVES: 'true', REQUESTS_PER_MINUTE: '0', ...(byCdn && cdn) },
      });
      if (byCdn) nginx = await startNginx(nginxIn('delivery.md'), [new URL(service.url).host], { port, probe: '/' });
      client = await Client.withToken(service.url);
      server = createServer((_request, answer) => answer.setHeader('content-type', 'text/html').end(html));
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });
    });
    after(async () => {
      await browser.close();
      server.closeAllConnections();
      server.close();
      await nginx?.stop();
      await service.close();
    });

    test('loaded twice transfers each picture once, thumbnails and variants too', async () => {
      const { body } = await client.upload(await picture({ width: 320, height: 240, format: 'png' }));
      await service.query(
        `insert into assets select (jsonb_populate_record(a, jsonb_build_object('id', gen_random_uuid(), 'name', n || '.png'))).*
         from assets a, generate_series(1, $2) n where id = $1`,
        [body.id, PICTURES - 1],
      );
      await waitUntil(async () => (await client.get(`/v1/assets/${body.id}/derivatives/thumbnail`)).status === 200);
      const { body: listed } = await client.get(`/v1/assets?limit=200`);
      const ids = (listed['data'] as { id: string }[]).map(({ id }) => id);
      assert.equal(ids.length, PICTURES);
      const linksTo = async (more: object) => {
        const answer = await client.send('POST', '/v1/links', { expiresIn: LIFE, ...more });
        return (answer.body['results'] as { url: string; status: number }[]).filter(({ status }) => status === 200);
      };
      /** As a page is made: with links that are asked for at that moment. */
      const pageOf = async () => {
        const variant = await client.get(`/v1/assets/${body.id}/variants/link?width=64&expiresIn=${LIFE}`);
        const urls = [
          ...(await linksTo({ ids })),
          // Asked for those of the others, which are rows only, the service would make them one after the other.
          ...(await linksTo({ ids: [body.id], derivative: 'thumbnail' })),
          { url: String(variant.body['url']) },
        ];
        assert.equal(urls.length, PICTURES + 2);
        return urls.map(({ url }) => url);
      };
      const context = await browser.newContext();
      const page = await context.newPage();
      const session = await context.newCDPSession(page);
      await session.send('Network.enable');
      let transferred: string[] = [];
      const fromCache = new Set<string>();
      const urlOf = new Map<string, string>();
      session.on('Network.requestWillBeSent', ({ requestId, request }) => urlOf.set(requestId, request.url));
      session.on('Network.requestServedFromCache', ({ requestId }) => fromCache.add(requestId));
      session.on('Network.responseReceived', ({ requestId, response }) => {
        if (response.fromDiskCache) fromCache.add(requestId);
      });
      session.on('Network.loadingFinished', ({ requestId }) => {
        if (!fromCache.has(requestId)) transferred.push(urlOf.get(requestId) ?? '');
      });
      const load = async () => {
        const urls = await pageOf();
        html = `<!doctype html><title>p</title>${urls.map((url) => `<img src="${url.replaceAll('&', '&amp;')}">`).join('')}`;
        const address = server.address();
        transferred = [];
        await page.goto(`http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}/`, {
          waitUntil: 'load',
        });
        const widths = await page.evaluate(() => [...document.images].map(({ naturalWidth }) => naturalWidth));
        assert.ok(widths.length === urls.length && widths.every((width) => width > 0), `${name}: ${widths}`);
        return { urls, transferred: transferred.filter((url) => urls.includes(url)) };
      };
      const first = await load();
      assert.deepEqual(new Set(first.transferred), new Set(first.urls));
      assert.equal(first.transferred.length, first.urls.length);
      const second = await load();
      assert.deepEqual(second.urls, first.urls);
      assert.deepEqual(second.transferred, []);
    });
  });
