/** The pages of shares and galleries in a real browser: phone and desk, light and dark, with a script and without, by keyboard. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import axe from 'axe-core';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import type { PageContext } from '../../src/pages/layout.ts';
import type { PageView } from '../../src/pages/model.ts';
import { filePage, pageOf } from '../../src/pages/share-pages.ts';
import { problemPage } from '../../src/pages/state-pages.ts';
import { hostileTexts } from '../support/hostile-texts.ts';
import {
  aDocument,
  aFile,
  aFilm,
  aModel,
  aPicture,
  aSound,
  type MakePage,
  PageSite,
  viewOf,
} from '../support/page-site.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { waitUntil } from '../support/wait-until.ts';

const many = [aPicture, aFilm, aSound, aDocument, aModel, aFile, { ...aPicture, name: 'Second.jpg' }];
const gallery = viewOf('assets', many, {
  path: '/s/gallery',
  archivePath: '/files/all.zip',
  nextPath: '/s/gallery?cursor=x',
  isContinued: true,
  label: 'Wedding',
  count: 230,
});
const views: Record<string, PageView> = {
  picture: viewOf('asset', [aPicture], { label: 'For the family', expiresAt: '2026-12-24T12:00:00Z' }),
  film: viewOf('asset', [aFilm]),
  sound: viewOf('asset', [aSound]),
  'document to look at': viewOf('asset', [aDocument], { allow: 'view' }),
  gallery,
  'empty gallery': viewOf('project', []),
  password: { kind: 'locked', unlockPath: '/s/unlocked' },
  'wrong password': { kind: 'locked', unlockPath: '/s/unlocked', refusal: 'wrong-password' },
  unknown: { kind: 'unknown' },
};
const pages: Record<string, MakePage> = {
  ...Object.fromEntries(
    Object.entries(views).map(([name, view]) => [name, (context) => pageOf(context, view, 'request-1')]),
  ),
  'a file of a gallery': (context) =>
    filePage(context, { ...gallery, file: aFilm, previousPath: '/s/picture', nextPath: '/s/sound' }),
  'too many requests': (context) => problemPage(context, { status: 429, retryAfter: 30, requestId: 'request-1' }),
};

describe('pages in a browser', { skip: programSkip('chromium') }, () => {
  let site: PageSite;
  let browser: Browser;
  const urls = new Map<string, string>();
  before(async () => {
    site = await PageSite.start();
    for (const [name, make] of Object.entries(pages)) urls.set(name, site.show(name.replaceAll(' ', '-'), make));
    site.show('unlocked', pages['picture'] ?? assert.fail());
    browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });
  });
  after(async () => {
    await browser.close();
    await site.close();
  });

  /** A page, and what went wrong in it: messages, refused and foreign requests. */
  async function open(url: string, options: BrowserContextOptions = {}): Promise<{ page: Page; faults: string[] }> {
    const context = await browser.newContext({ locale: 'en', ...options });
    const page = await context.newPage();
    const faults: string[] = [];
    page.on('console', (message) => faults.push(`console: ${message.text()}`));
    page.on('pageerror', (error) => faults.push(String(error)));
    page.on('requestfailed', (request) => {
      // A player that has read enough ends its request.
      if (request.resourceType() !== 'media') faults.push(`failed: ${request.url()}`);
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(`${site.url}/`)) faults.push(`foreign: ${request.url()}`);
    });
    page.on('response', (response) => {
      if (response.status() >= 400) faults.push(`${response.status()}: ${response.url()}`);
    });
    await page.goto(url, { waitUntil: 'load' });
    return { page, faults };
  }

  const isTooWide = (page: Page) =>
    page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);

  /** What axe finds against WCAG 2.2 AA and good practice. */
  const violations = (page: Page) =>
    page.evaluate(async () => {
      const { axe } = window as unknown as { axe: typeof import('axe-core') };
      const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
      const found = await axe.run({ runOnly: tags, resultTypes: ['violations'] });
      return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
    });

  const kinds: [name: string, BrowserContextOptions][] = [
    ['of a phone, light', { viewport: { width: 360, height: 740 }, hasTouch: true, colorScheme: 'light' }],
    ['of a desk, dark', { viewport: { width: 1440, height: 900 }, colorScheme: 'dark', locale: 'de' }],
  ];
  for (const [kind, options] of kinds)
    describe(`on the screen ${kind}`, () => {
      test('no page has a fault that axe knows; each loads only what is its own, and fits', async () => {
        const { page, faults } = await open('about:blank', options);
        for (const [name, url] of urls) {
          await page.goto(url);
          await page.evaluate(axe.source);
          assert.deepEqual(await violations(page), [], name);
          assert.deepEqual(faults, [], name);
          assert.equal(await isTooWide(page), false, name);
        }
        await page.context().close();
      });

      test('all is there without a script as well', async () => {
        const { page, faults } = await open('about:blank', { ...options, javaScriptEnabled: false });
        for (const [name, url] of urls) {
          await page.goto(url);
          assert.deepEqual(faults, [], name);
          assert.equal(await isTooWide(page), false, name);
          assert.equal(await page.locator('h1:visible').count(), 1, name);
          // Nothing that would do nothing.
          assert.equal(await page.locator('button:visible:not([type=submit])').count(), 0, name);
        }
        await page.context().close();
      });
    });

  test('pages fit into 320 px, which is 1280 px enlarged four times, and into 3840', async () => {
    const { page } = await open('about:blank');
    for (const width of [320, 3840]) {
      await page.setViewportSize({ width, height: 600 });
      for (const [name, url] of urls) {
        await page.goto(url, { waitUntil: 'domcontentloaded' });
        assert.equal(await isTooWide(page), false, `${name} at ${width}`);
      }
    }
    await page.context().close();
  });

  test('a picture is loaded in the size that the screen needs', async () => {
    const sent = async (options: BrowserContextOptions) => {
      const { page } = await open(urls.get('picture') ?? '', options);
      const source = await page.locator('.stage img').evaluate((img) => Reflect.get(img, 'currentSrc') as string);
      await page.context().close();
      return new URL(source).pathname;
    };
    assert.equal(await sent({ viewport: { width: 360, height: 740 } }), '/files/thumbnail.jpg');
    assert.equal(await sent({ viewport: { width: 1440, height: 900 } }), '/files/large.jpg');
  });

  test('films and sound play', async () => {
    for (const [name, tag] of [
      ['film', 'video'],
      ['sound', 'audio'],
    ] as const) {
      const { page, faults } = await open(urls.get(name) ?? '');
      const duration = await page.locator(tag).evaluate(async (element) => {
        const player = element as unknown as { play(): Promise<void>; duration: number; muted: boolean };
        player.muted = true;
        await player.play();
        return player.duration;
      });
      assert.ok(duration > 0.1, `${name}: ${duration}`);
      assert.deepEqual(faults, []);
      await page.context().close();
    }
  });

  test('a page speaks the language of who reads it', async () => {
    for (const [locale, title, language] of [
      ['de-AT', 'Dieser Link führt nirgendwohin', 'de'],
      ['fr', 'This link leads nowhere', 'en'],
    ] as const) {
      const { page } = await open(urls.get('unknown') ?? '', { locale });
      assert.equal(await page.locator('h1').textContent(), title);
      assert.equal(await page.locator('html').getAttribute('lang'), language);
      await page.context().close();
    }
  });

  for (const javaScriptEnabled of [true, false])
    test(`the password is entered and sent by keyboard, ${javaScriptEnabled ? 'with' : 'without'} a script`, async () => {
      const { page, faults } = await open(urls.get('password') ?? '', { javaScriptEnabled });
      const sent = page.waitForRequest((request) => request.method() === 'POST');
      await page.locator('input:focus').waitFor();
      await page.keyboard.type('opén & sesame');
      await page.keyboard.press('Enter');
      const request = await sent;
      assert.equal(new URLSearchParams(request.postData() ?? '').get('password'), 'opén & sesame');
      // Not "null", which says that the sender is to be kept secret, and which services take for a stranger.
      assert.equal((await request.allHeaders())['origin'], site.url);
      await page.waitForURL('**/unlocked');
      assert.deepEqual(faults, []);
      await page.context().close();
    });

  test('a wrong password is told to who listens', async () => {
    const { page } = await open(urls.get('wrong password') ?? '');
    assert.match(await page.title(), /^.?Error: /);
    const input = page.getByLabel('Password');
    assert.equal(await input.getAttribute('aria-invalid'), 'true');
    const [said] = (await input.getAttribute('aria-describedby'))?.split(' ') ?? [];
    assert.equal(await page.locator(`#${said}`).textContent(), 'The password is wrong.');
    assert.equal(await page.getByRole('alert').count(), 1);
    await page.context().close();
  });

  test('by keyboard, everything that can be done is reached in order and seen to be reached', async () => {
    const { page } = await open(urls.get('gallery') ?? '', { permissions: ['clipboard-write'] });
    const controls = await page.locator('a:visible, button:visible').count();
    const reached: string[] = [];
    for (let step = 0; step < controls; step++) {
      await page.keyboard.press('Tab');
      const [name, outline] = await page.evaluate(() => {
        const { activeElement } = document;
        if (!activeElement) return ['', ''];
        const { outlineStyle, outlineWidth } = getComputedStyle(activeElement);
        return [
          activeElement.getAttribute('aria-label') ?? activeElement.textContent?.trim(),
          outlineStyle + outlineWidth,
        ];
      });
      assert.equal(outline, 'solid3px', name);
      reached.push(name ?? '');
    }
    assert.equal(reached[0], 'Download all');
    assert.equal(reached.filter((name) => name.startsWith('Download ')).length, 1 + many.length);
    assert.deepEqual(reached.slice(-2), ['First page', 'Next page']);
    await page.context().close();
  });

  test('by keyboard, pictures are looked at one after the other, and the reader comes back to where he was', async () => {
    const { page, faults } = await open(urls.get('gallery') ?? '');
    const viewer = page.getByRole('dialog');
    await page.locator('a.item').first().focus();
    await page.keyboard.press('Enter');
    const picture = viewer.getByRole('img');
    await picture.waitFor();
    assert.equal(await picture.getAttribute('alt'), aPicture.name);
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), 'Close');
    await page.keyboard.press('ArrowRight');
    assert.equal(await picture.getAttribute('alt'), 'Second.jpg');
    await page.keyboard.press('ArrowRight');
    assert.equal(await picture.getAttribute('alt'), aPicture.name);
    await page.keyboard.press('ArrowLeft');
    await page.evaluate(axe.source);
    assert.deepEqual(await violations(page), []);
    await page.keyboard.press('Escape');
    await viewer.waitFor({ state: 'hidden' });
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('data-name')), 'Second.jpg');
    assert.deepEqual(faults, []);
    await page.context().close();
  });

  test('the link is copied where there is a script', async () => {
    const { page, faults } = await open(urls.get('picture') ?? '', {
      permissions: ['clipboard-read', 'clipboard-write'],
    });
    await page.getByRole('button', { name: 'Copy link' }).click();
    await page.getByText('The link was copied.').waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${site.url}/s/share`);
    assert.deepEqual(faults, []);
    await page.context().close();
  });

  test('nothing moves for who wants nothing to move', async () => {
    const { page } = await open(urls.get('gallery') ?? '', { reducedMotion: 'reduce' });
    const moving = await page.evaluate(
      () =>
        [...document.querySelectorAll('*')].filter(
          (each) => Number.parseFloat(getComputedStyle(each).transitionDuration) > 0,
        ).length,
    );
    assert.equal(moving, 0);
    await page.context().close();
  });

  test('what got into a page all the same would not run, load, or send', async () => {
    const { page } = await open(urls.get('gallery') ?? '');
    await page.evaluate(() => {
      const blocked = document.body.dataset;
      document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) => {
        blocked['directives'] = `${blocked['directives'] ?? ''} ${effectiveDirective}`;
      });
      const add = (tag: string, properties: Record<string, string>) =>
        document.body.append(Object.assign(document.createElement(tag), properties));
      try {
        add('script', { textContent: 'window.ran = 1' });
      } catch {
        // Text does not become a script.
      }
      add('img', { src: 'https://evil.example/x.png' });
      add('link', { rel: 'stylesheet', href: '/files/x.css' });
      add('form', { action: '/s/x', method: 'post', id: 'sender' });
      (document.getElementById('sender') as unknown as { submit(): void }).submit();
      add('iframe', { src: '/s/picture' });
    });
    const blocked = () => page.evaluate(() => document.body.dataset['directives']?.split(' ') ?? []);
    for (const directive of ['require-trusted-types-for', 'img-src', 'style-src-elem', 'form-action', 'frame-src'])
      await waitUntil(async () => (await blocked()).includes(directive));
    const ran = await page.evaluate(() => Reflect.get(window, 'ran'));
    assert.equal(ran, undefined);
    await page.context().close();
  });

  describe('with hostile names', () => {
    const named = (text: string): Record<string, PageView> => ({
      gallery: { ...gallery, label: text, assets: many.map((file) => ({ ...file, name: text, mediaType: text })) },
      picture: viewOf('asset', [{ ...aPicture, name: text }], { label: text }),
      film: viewOf('asset', [{ ...aFilm, name: text }], { label: text }),
      sound: viewOf('asset', [{ ...aSound, name: text }], { label: text }),
      document: viewOf('asset', [{ ...aDocument, name: text }], { label: text }),
    });
    const context: PageContext = { language: 'en', base: '', origin: 'http://127.0.0.1' };

    test('a page has the same elements and attributes as with harmless ones', async () => {
      const page = await browser.newPage();
      /** As the browser reads it. */
      const structures = (text: string) =>
        page.evaluate(
          (documents) =>
            documents.map(([name, html]) => {
              const read = new DOMParser().parseFromString(html, 'text/html');
              const elements = [...read.querySelectorAll('*')];
              return [name, ...elements.map((each) => `${each.tagName} ${each.getAttributeNames().join(' ')}`)];
            }),
          Object.entries(named(text)).map(([name, view]) => [name, pageOf(context, view, 'request-1').html] as const),
        );
      const expected = await structures('harmless');
      assert.ok(expected.every((each) => each.length > 20));
      for (const text of hostileTexts) assert.deepEqual(await structures(text), expected, JSON.stringify(text));
      await page.close();
    });

    test('pages run nothing, load nothing else, and fit on a phone', async () => {
      const { page, faults } = await open('about:blank', { viewport: { width: 360, height: 740 } });
      const assets = hostileTexts.map((name) => ({ ...aPicture, name }));
      const all: Record<string, PageView> = {
        ...named(hostileTexts.join('')),
        gallery: { ...gallery, label: hostileTexts.join(''), assets },
      };
      for (const [name, view] of Object.entries(all)) {
        await page.goto(site.show('hostile', (about) => pageOf(about, view, 'request-1')));
        assert.equal(await isTooWide(page), false, name);
        assert.equal(await page.evaluate(() => Reflect.get(window, 'ran')), undefined);
      }
      assert.deepEqual(faults, []);
      await page.context().close();
    });

    test('a name does not turn what stands beside it', async () => {
      const { page } = await open(
        site.show('turned', (context) =>
          pageOf(context, viewOf('asset', [{ ...aPicture, name: 'photo\u202Egpj.exe' }], { label: 'דוח' }), 'r'),
        ),
      );
      assert.equal(await page.locator('h1').textContent(), 'photo\ufffdgpj.exe');
      assert.equal(await page.title(), '\u2068photo\ufffdgpj.exe\u2069');
      await page.context().close();
    });
  });
});
