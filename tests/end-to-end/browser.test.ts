/** In a real browser, on a page of another origin: direct uploads to the real S3 server, tus-js-client and Uppy. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { type Browser, chromium, type Page } from 'playwright-core';
import { s3Options } from '../../src/storage/open.ts';
import { setUpBucket } from '../../src/storage/s3/bucket.ts';
import { Client } from '../support/client.ts';
import { glb } from '../support/files.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { s3Skip } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const pageScript = fileURLToPath(new URL('../fixtures/page.ts', import.meta.url));

describe('in a browser, on a page of another origin', {
  skip: s3Skip() || programSkip('chromium'),
}, () => {
  let service: TestService;
  let other: TestService;
  let server: Server;
  let browser: Browser;
  let origin: string;
  let client: Client;
  const files = new Map<string, Buffer>();

  before(async () => {
    const { outputFiles } = await build({ entryPoints: [pageScript], bundle: true, write: false, format: 'iife' });
    const script = outputFiles[0]?.contents ?? assert.fail('nothing was built');
    server = createServer(({ url = '' }, answer) => {
      const file = files.get(url);
      if (file) answer.end(file);
      else if (url === '/page.js') answer.setHeader('content-type', 'text/javascript').end(script);
      else answer.setHeader('content-type', 'text/html').end('<!doctype html><script src="/page.js"></script>');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    // Another host name, too: localhost against 127.0.0.1.
    origin = `http://localhost:${address && typeof address === 'object' ? address.port : 0}`;
    service = await startService({ store: 's3', env: environment() });
    other = await startService({ env: environment(), beside: service });
    await setUpBucket(s3Options(service.config), {
      keyPrefix: '',
      corsOrigins: service.config.CORS_ORIGINS,
      versioning: false,
    });
    client = new Client(service.url, 'local-user');
    browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });
  });
  after(async () => {
    await browser.close();
    await other.close();
    await service.close();
    server.closeAllConnections();
    server.close();
  });

  const environment = () => ({
    CORS_ORIGINS: origin,
    PART_SIZE: '5MiB',
    DEFAULT_QUOTA: '2GiB',
    REQUESTS_PER_MINUTE: '0',
    UPLOADS_PER_HOUR: '0',
  });

  async function open(): Promise<Page> {
    const page = await browser.newPage();
    await page.goto(origin);
    return page;
  }

  async function comesBack(id: string, bytes: Buffer): Promise<void> {
    await waitUntil(async () => (await client.get(`/v1/assets/${id}`)).body.state === 'ready');
    assert.equal(sha256((await client.content(id)).body), sha256(bytes));
  }

  test('64 MiB go straight to the bucket in parts, with progress', async () => {
    const bytes = glb(64 * MiB, 1);
    files.set('/direct.glb', bytes);
    const page = await open();
    const { id, progress } = await page.evaluate(([url, file]) => window.direct(url, file), [
      service.url,
      '/direct.glb',
    ] as const);
    await comesBack(id, bytes);
    assert.equal(progress.at(-1), bytes.length);
    // At least one for each of the parts; browsers report no more of those that are quick.
    assert.ok(progress.length >= 13, `${progress.length} steps of progress`);
    assert.ok(progress.every((sent, index) => index === 0 || sent >= (progress[index - 1] ?? 0)));
    await page.close();
  });

  for (const [name, seed] of [
    ['tus', 2],
    ['uppy', 3],
  ] as const) {
    test(`${name === 'tus' ? 'tus-js-client' : 'Uppy'} uploads 200 MiB while its connection is cut five times and a service restarts, to two in turn`, async () => {
      const bytes = glb(200 * MiB, seed);
      files.set(`/${name}.glb`, bytes);
      const page = await open();
      const proxy = await new TcpProxy(service.url).listen();
      let cuts = 0;
      await page.exposeFunction('cut', async () => {
        cuts += 1;
        proxy.fault = 'refuse';
        // The one that has the upload right now.
        if (cuts === 2) {
          await other.close();
          other = await startService({ env: environment(), beside: service });
        }
        proxy.target = cuts % 2 === 0 ? service.url : other.url;
        proxy.fault = 'none';
      });
      const cutAt = [7, 43, 84, 130, 185].map((each) => each * MiB);
      const id = await page.evaluate(
        ([kind, url, file, at]) => (kind === 'tus' ? window.tus(url, file, at) : window.uppy(url, file, at)),
        [name, proxy.replaceIn(service.url), `/${name}.glb`, cutAt] as const,
      );
      assert.equal(cuts, 5);
      await comesBack(id, bytes);
      await page.close();
      await proxy.close();
    });
  }
});
