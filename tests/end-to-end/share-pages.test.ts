/** Shares in a real browser, as a stranger meets them: through the service, with what is made of real files. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { Client } from '../support/client.ts';
import { fixture } from '../support/corpus.ts';
import { box, ModelBuilder } from '../support/models.ts';
import { pdfs } from '../support/pdfs.ts';
import { picture } from '../support/pictures.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const HTML = { accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' };

describe('a share in a browser', { skip: programSkip('chromium') || programSkip('ffmpeg') }, () => {
  let service: TestService;
  let browser: Browser;
  let alice: Client;
  const ids = new Map<string, string>();
  before(async () => {
    // In development mode, where pages of strangers are kept out: those of shares are none.
    service = await startService({ env: { DERIVATIVES: 'true', REQUESTS_PER_MINUTE: '0' } });
    alice = new Client(service.url, 'local-user');
    const model = new ModelBuilder();
    model.node({ mesh: model.mesh(model.primitive(box(1, 2, 3))) });
    const files: Record<string, Buffer> = {
      'Harbour at dawn.jpg': await picture({ width: 1600, height: 1000, seed: 2 }),
      'clip.webm': fixture('clip.webm'),
      'sound.mp3': fixture('sound.mp3'),
      'Offer.pdf': pdfs.letter(),
      'box.glb': model.file(),
      'Notes.txt': Buffer.from('<script>alert(1)</script>'),
    };
    for (const [name, bytes] of Object.entries(files)) {
      const { status, body } = await alice.upload(Buffer.from(bytes), { name });
      assert.equal(status, 201, JSON.stringify(body));
      ids.set(name, body.id);
    }
    for (const id of ids.values())
      await waitUntil(async () => {
        const { body } = await alice.get(`/v1/assets/${id}`);
        return body.state === 'ready' && body.processing?.derive?.state !== 'waiting';
      });
    browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });
  });
  after(async () => {
    await browser.close();
    await service.close();
  });

  const idOf = (name: string) => ids.get(name) ?? assert.fail(name);
  async function share(terms: object): Promise<{ id: string; url: string }> {
    const { status, body } = await alice.send('POST', '/v1/shares', terms);
    assert.equal(status, 201, JSON.stringify(body));
    return { id: body.id, url: String(body['url']) };
  }

  async function open(options: BrowserContextOptions = {}): Promise<{ page: Page; faults: string[] }> {
    const context = await browser.newContext({ locale: 'en', ...options });
    const page = await context.newPage();
    const faults: string[] = [];
    page.on('console', (message) => faults.push(`console: ${message.text()}`));
    page.on('pageerror', (error) => faults.push(String(error)));
    page.on('request', (request) => {
      if (!request.url().startsWith(`${service.url}/`)) faults.push(`foreign: ${request.url()}`);
    });
    page.on('response', (response) => {
      if (response.status() >= 400) faults.push(`${response.status()}: ${response.url()}`);
    });
    return { page, faults };
  }

  /** Waits for all pictures. */
  const areSeen = (page: Page) =>
    page.evaluate(async () => {
      const pictures = [...document.images];
      for (const each of pictures) Object.assign(each, { loading: 'eager' });
      const decoded = await Promise.allSettled(pictures.map((each) => each.decode()));
      return pictures.length > 0 && decoded.every(({ status }) => status === 'fulfilled');
    });

  for (const [name, width] of [
    ['phone', 360],
    ['desk', 1440],
  ] as const)
    test(`on a ${name}, each kind of file is shown by what was made of it`, async () => {
      const { page, faults } = await open({ viewport: { width, height: 800 } });
      for (const [file, shown] of [
        ['Harbour at dawn.jpg', 'img'],
        ['clip.webm', 'video[poster]'],
        ['sound.mp3', 'img.waveform'],
        ['Offer.pdf', 'img'],
        ['box.glb', 'img'],
      ] as const) {
        const { url } = await share({ assetId: idOf(file) });
        await page.goto(url);
        assert.equal(await page.locator('h1').textContent(), file);
        assert.equal(await page.locator(shown).count(), 1, file);
        assert.equal(shown.startsWith('video') || (await areSeen(page)), true, file);
        const downloading = page.waitForEvent('download');
        await page.getByRole('link', { name: 'Download' }).click();
        assert.equal((await downloading).suggestedFilename(), file);
        assert.deepEqual(faults, []);
      }
      await page.context().close();
    });

  test('films and sound play from where they are shared, and are sought in', async () => {
    const { page, faults } = await open();
    for (const [file, tag] of [
      ['clip.webm', 'video'],
      ['sound.mp3', 'audio'],
    ] as const) {
      await page.goto((await share({ assetId: idOf(file) })).url);
      const at = await page.locator(tag).evaluate(async (element) => {
        const player = element as unknown as EventTarget &
          Record<'duration' | 'currentTime', number> & { muted: boolean; play(): Promise<void> };
        player.muted = true;
        await player.play();
        const sought = new Promise((resolve) => player.addEventListener('seeked', resolve, { once: true }));
        player.currentTime = player.duration / 2;
        await sought;
        return player.currentTime;
      });
      assert.ok(at > 0, file);
    }
    assert.deepEqual(faults, []);
    await page.context().close();
  });

  for (const javaScriptEnabled of [true, false])
    test(`a gallery is gone through page by page and file by file, ${javaScriptEnabled ? 'with' : 'without'} a script`, async () => {
      const { url } = await share({ assetIds: [...ids.values()], label: 'All <b>of</b> it' });
      const { page, faults } = await open({ javaScriptEnabled, viewport: { width: 360, height: 800 } });
      await page.goto(`${url}?limit=4`);
      assert.equal(await page.locator('h1').textContent(), 'All <b>of</b> it');
      assert.equal(await page.locator('.gallery li').count(), 4);
      await page.getByRole('link', { name: 'Next page' }).click();
      await page.waitForURL(/cursor=/);
      assert.equal(await page.locator('.gallery li').count(), 2);
      await page.getByRole('link', { name: 'Notes.txt', exact: true }).click();
      await page.waitForURL(/\/assets\//);
      assert.equal(await page.locator('h1').textContent(), 'Notes.txt');
      await page.getByRole('link', { name: 'All files' }).click();
      await page.waitForURL(url);
      assert.equal(await page.locator('.gallery li').count(), 6);
      if (javaScriptEnabled) assert.ok(await areSeen(page));
      assert.deepEqual(faults, []);
      await page.context().close();
    });

  test('pictures of a gallery are looked at in the size of the screen', async () => {
    const { url } = await share({ assetIds: [idOf('Harbour at dawn.jpg'), idOf('Offer.pdf')] });
    const { page, faults } = await open();
    await page.goto(url);
    await page.getByRole('link', { name: 'Harbour at dawn.jpg', exact: true }).click();
    const large = page.getByRole('dialog').getByRole('img');
    const width = await large.evaluate(async (element) => {
      const img = element as unknown as { decode(): Promise<void>; naturalWidth: number };
      await img.decode();
      return img.naturalWidth;
    });
    assert.ok(width > 400, String(width));
    assert.deepEqual(faults, []);
    await page.context().close();
  });

  for (const javaScriptEnabled of [true, false])
    test(`a password opens the page to who knows it, ${javaScriptEnabled ? 'with' : 'without'} a script`, async () => {
      const terms = { assetId: idOf('Harbour at dawn.jpg'), password: 'correct horse', label: 'Secret trip' };
      const { url } = await share(terms);
      const { page, faults } = await open({ javaScriptEnabled });
      const locked = await page.goto(url);
      assert.equal(locked?.status(), 401);
      assert.doesNotMatch(await page.content(), /Harbour|Secret|og:/);
      await page.getByLabel('Password').fill('wrong');
      await page.keyboard.press('Enter');
      await page.getByText('The password is wrong.').waitFor();
      await page.getByLabel('Password').fill('correct horse');
      await page.keyboard.press('Enter');
      await page.waitForURL(url);
      assert.equal(await page.locator('h1').textContent(), 'Harbour at dawn.jpg');
      assert.doesNotMatch(await page.content(), /og:/);
      // What browsers say of an answer that is no success.
      const unexpected = faults.filter((fault) => !/^401: |status of 401/.test(fault));
      assert.deepEqual(unexpected, []);
      await page.context().close();
    });

  test('what is for looking only has no download, and says so', async () => {
    const { page, faults } = await open();
    const { url } = await share({ assetId: idOf('Harbour at dawn.jpg'), allow: 'view' });
    await page.goto(url);
    assert.ok(await areSeen(page));
    assert.equal(await page.getByRole('link', { name: /download/i }).count(), 0);
    await page.getByText('can be looked at here, but not downloaded').waitFor();
    assert.deepEqual(faults, []);
    await page.context().close();
  });

  test('looking at the page of a film is no download of it', async () => {
    const { page } = await open();
    const { id, url } = await share({ assetId: idOf('clip.webm'), maxDownloads: 1 });
    await page.goto(url, { waitUntil: 'networkidle' });
    const { body } = await alice.get(`/v1/shares/${id}`);
    assert.equal(body['downloads'], 0);
    assert.equal(body['state'], 'active');
    await page.context().close();
  });

  test('what is not there, or not any more, is the same page with the status that programs get', async () => {
    const ended = await share({ assetId: idOf('Notes.txt') });
    await alice.request('DELETE', `/v1/shares/${ended.id}`);
    const pages: string[] = [];
    for (const url of [
      ended.url,
      `${service.url}/s/aXk3mQ0eQ1uT2vR5wY8zLw`,
      `${service.url}/s/x`,
      `${ended.url}/assets/${idOf('Notes.txt')}`,
    ]) {
      await waitUntil(async () => (await fetch(url)).status === 404);
      const answer = await fetch(url, { headers: HTML });
      assert.equal(answer.status, 404);
      assert.match(answer.headers.get('content-type') ?? '', /^text\/html/);
      pages.push(await answer.text());
    }
    assert.match(pages[0] ?? '', /This link leads nowhere/);
    assert.equal(new Set(pages).size, 1);
  });

  test('a program gets JSON, and a browser a page, at the same address; caches are told', async () => {
    const { url } = await share({ assetIds: [idOf('Notes.txt'), idOf('Offer.pdf')] });
    const one = `${url}/assets/${idOf('Notes.txt')}`;
    for (const address of [url, one, `${service.url}/s/unknown`])
      for (const [accept, type] of [
        [undefined, /json/],
        ['application/json', /json/],
        [HTML.accept, /^text\/html/],
      ] as const) {
        const answer = await fetch(address, { headers: { ...(accept !== undefined && { accept }) } });
        assert.match(answer.headers.get('content-type') ?? '', type);
        assert.match(answer.headers.get('vary') ?? '', /\bAccept\b/);
        assert.match(answer.headers.get('cache-control') ?? '', /no-store/);
        assert.equal(answer.headers.get('www-authenticate'), null);
      }
    const page = await fetch(url, { headers: HTML });
    assert.match(page.headers.get('content-security-policy') ?? '', /^default-src 'none';/);
    assert.doesNotMatch(page.headers.get('content-security-policy') ?? '', /unsafe|\*|data:|blob:/);
    assert.equal(page.headers.get('referrer-policy'), 'same-origin');
    assert.equal(page.headers.get('x-content-type-options'), 'nosniff');
    assert.match(page.headers.get('x-robots-tag') ?? '', /noindex/);
  });

  test('programs that show previews get the fields of Open Graph, and the picture that they name', async () => {
    const { url } = await share({ assetId: idOf('Harbour at dawn.jpg') });
    const answer = await fetch(url, { headers: { 'user-agent': 'facebookexternalhit/1.1' } });
    const image = /property="og:image" content="([^"]+)"/.exec(await answer.text())?.[1]?.replaceAll('&amp;', '&');
    assert.ok(image?.startsWith(`${url}/`), image);
    const shown = await fetch(image ?? '');
    assert.equal(shown.status, 200);
    assert.match(shown.headers.get('content-type') ?? '', /^image\//);
  });

  test('the files of pages are kept for ever, sent once, and never of another name for long', async () => {
    const { url } = await share({ assetId: idOf('Notes.txt') });
    const page = await (await fetch(url, { headers: HTML })).text();
    const paths = [...page.matchAll(/(?:href|src)="(\/pages\/[^"]+)"/g)].map(([, path = '']) => path);
    assert.equal(paths.length, 3);
    for (const path of paths) {
      const answer = await fetch(service.url + path);
      assert.equal(answer.status, 200);
      assert.equal(answer.headers.get('cache-control'), 'public, max-age=31536000, immutable');
      const tag = answer.headers.get('etag') ?? '';
      const again = await fetch(service.url + path, { headers: { 'if-none-match': tag } });
      assert.equal(again.status, 304);
      const older = await fetch(service.url + path.replace(/\.[\w-]{12}\./, '.abcdefghijkl.'));
      assert.equal(await older.text(), await answer.text());
      assert.equal(older.headers.get('cache-control'), 'no-store');
    }
    for (const wrong of [
      '/pages/page.css',
      '/pages/other.abcdefghijkl.css',
      '/pages/',
      '/pages/..%2f..%2fpackage.json',
    ])
      assert.equal((await fetch(service.url + wrong)).status, 404, wrong);
  });
});
