/** The public gallery of a project in a real browser, with a host of its own for the bytes of files. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import axe from 'axe-core';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { Client } from '../support/client.ts';
import { fixture } from '../support/corpus.ts';
import { picture } from '../support/pictures.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { startService, type TestService } from '../support/service.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { waitUntil } from '../support/wait-until.ts';

const HTML = 'text/html,application/xhtml+xml,*/*;q=0.8';
const policies = {
  image: { mediaTypes: ['image/jpeg'], maxBytes: 10_000_000, public: true },
  video: { mediaTypes: ['video/webm'], maxBytes: 10_000_000, public: true },
  audio: { mediaTypes: ['audio/mpeg'], maxBytes: 10_000_000, public: true },
};

describe('a public gallery in a browser', { skip: programSkip('chromium') || programSkip('ffmpeg') }, () => {
  let service: TestService;
  let contentHost: TcpProxy;
  let browser: Browser;
  let owner: Client;
  let content = '';
  const project = `gallery-${randomUUID()}`;
  const ids = new Map<string, string>();
  before(async () => {
    // Its port is in a setting of the service, whose port is known when it runs.
    contentHost = await new TcpProxy('http://127.0.0.1:1').listen();
    content = contentHost.replaceIn('http://127.0.0.1:1').replace('127.0.0.1', 'localhost');
    service = await startService({
      policies,
      env: { PUBLIC_GALLERIES: 'true', DERIVATIVES: 'true', REQUESTS_PER_MINUTE: '0', USERCONTENT_URL: content },
    });
    contentHost.target = service.url;
    owner = new Client(service.url, 'local-user');
    const files: Record<string, Buffer> = {
      'clip.webm': fixture('clip.webm'),
      'sound.mp3': fixture('sound.mp3'),
      'a, b & c.jpg': await picture({ width: 1600, height: 1000, seed: 2 }),
      "<img src=x onerror='alert(1)'>.jpg": await picture({ width: 600, height: 400, seed: 3 }),
    };
    for (const [name, bytes] of Object.entries(files)) {
      const { status, body } = await owner.upload(Buffer.from(bytes), { name, fields: { projectId: project } });
      assert.equal(status, 201, JSON.stringify(body));
      await waitUntil(async () => {
        const { body: now } = await owner.get(`/v1/assets/${body.id}`);
        return now.state === 'ready' && now.processing?.derive?.state !== 'waiting';
      });
      const shown = await owner.send('PATCH', `/v1/assets/${body.id}`, { visibility: 'public' });
      assert.equal(shown.status, 200, JSON.stringify(shown.body));
      ids.set(name, body.id);
    }
    await owner.send('PATCH', `/v1/projects/${project}`, { gallery: true });
    browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });
  });
  after(async () => {
    await browser?.close();
    await service?.close();
    await contentHost?.close();
  });

  async function open(options: BrowserContextOptions = {}): Promise<{ page: Page; faults: string[] }> {
    const context = await browser.newContext({ locale: 'en', ...options });
    const page = await context.newPage();
    const faults: string[] = [];
    page.on('console', (message) => faults.push(`console: ${message.text()}`));
    page.on('pageerror', (error) => faults.push(String(error)));
    page.on('request', (request) => {
      const { origin, pathname } = new URL(request.url());
      const isOurs = origin === service.url ? /^\/(g|pages)\// : origin === content ? /^\/p\// : /^$/;
      if (!isOurs.test(pathname)) faults.push(`foreign: ${request.url()}`);
    });
    page.on('response', (response) => {
      if (response.status() >= 400) faults.push(`${response.status()}: ${response.url()}`);
    });
    return { page, faults };
  }

  async function violations(page: Page): Promise<string[]> {
    await page.evaluate(axe.source);
    return page.evaluate(async () => {
      const { axe } = window as unknown as { axe: typeof import('axe-core') };
      return (await axe.run()).violations.map(({ id }) => id);
    });
  }

  for (const [name, options] of [
    ['a phone, without a script', { viewport: { width: 360, height: 740 }, javaScriptEnabled: false }],
    ['a desk', { viewport: { width: 1440, height: 900 }, colorScheme: 'dark' }],
  ] as [string, BrowserContextOptions][])
    test(`is gone through page by page on ${name}; bytes come from their own host`, async () => {
      const { page, faults } = await open(options);
      await page.goto(`${service.url}/g/${project}?limit=3`);
      assert.equal(await page.locator('.gallery li').count(), 3);
      // axe is a script, too.
      if (options.javaScriptEnabled !== false) assert.deepEqual(await violations(page), []);
      const isTooWide = await page.evaluate(
        () => document.documentElement.scrollWidth > document.documentElement.clientWidth,
      );
      assert.equal(isTooWide, false);
      await page.getByRole('link', { name: 'Next page' }).click();
      await page.getByRole('link', { name: 'clip.webm', exact: true }).click();
      await page.waitForURL(/\/assets\//);
      assert.equal(await page.locator('h1').textContent(), 'clip.webm');
      assert.ok((await page.locator('video').getAttribute('src'))?.startsWith(`${content}/p/`));
      await page.getByRole('link', { name: 'All files' }).click();
      await page.waitForURL(`${service.url}/g/${project}`);
      assert.equal(await page.locator('.gallery li').count(), 4);
      assert.deepEqual(faults, []);
      await page.context().close();
    });

  test('shows every picture, whatever its name, and plays what can be played', async () => {
    const { page, faults } = await open();
    await page.goto(`${service.url}/g/${project}`);
    const seen = await page.evaluate(async () => {
      const pictures = [...document.images];
      for (const each of pictures) Object.assign(each, { loading: 'eager' });
      const decoded = await Promise.allSettled(pictures.map((each) => each.decode()));
      return decoded.filter(({ status }) => status === 'fulfilled').length;
    });
    assert.equal(seen, 3);
    for (const [name, tag] of [
      ['clip.webm', 'video'],
      ['sound.mp3', 'audio'],
    ] as const) {
      await page.goto(`${service.url}/g/${project}/assets/${ids.get(name)}`);
      const duration = await page.locator(tag).evaluate(async (element) => {
        const player = element as unknown as { play(): Promise<void>; duration: number; muted: boolean };
        player.muted = true;
        await player.play();
        return player.duration;
      });
      assert.ok(duration > 0.1, name);
    }
    assert.deepEqual(faults, []);
    await page.context().close();
  });

  test('is a page for browsers and JSON for programs, the same status for both, and kept by nobody without asking', async () => {
    const one = ids.get('clip.webm');
    const { body } = await owner.raw(await picture({ seed: 9 }), {
      name: 'private.jpg',
      fields: { projectId: project },
    });
    for (const [path, status] of [
      [`/g/${project}`, 200],
      [`/g/${project}/assets/${one}`, 200],
      [`/g/${project}/assets/${body.id}`, 404],
      [`/g/${project}/assets/${randomUUID()}`, 404],
      [`/g/other/assets/${one}`, 404],
      ['/g/other', 404],
      [`/g/${project}?cursor=x`, 400],
    ] as const)
      for (const [accept, type] of [
        ['*/*', /json/],
        [HTML, /^text\/html/],
      ] as const) {
        const answer = await fetch(service.url + path, { headers: { accept } });
        assert.equal(answer.status, status, path);
        assert.match(answer.headers.get('content-type') ?? '', type, path);
        assert.match(answer.headers.get('vary') ?? '', /\bAccept\b/, path);
        assert.match(answer.headers.get('cache-control') ?? '', /no-cache|no-store/, path);
        assert.equal(answer.headers.get('access-control-allow-origin'), '*');
      }
    const { status, data, name } = await (await fetch(`${service.url}/g/${project}/assets/${one}`)).json();
    assert.deepEqual([status, data, name], [undefined, undefined, 'clip.webm']);
  });

  test('that is none any more has no pages, of its files neither', async () => {
    await owner.send('PATCH', `/v1/projects/${project}`, { gallery: false });
    for (const path of [`/g/${project}`, `/g/${project}/assets/${ids.get('clip.webm')}`])
      assert.equal((await fetch(service.url + path, { headers: { accept: HTML } })).status, 404);
  });
});
