import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { chromium } from 'playwright-core';
import { parse } from 'yaml';
import { Client } from '../support/client.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { startService, type TestService } from '../support/service.ts';

describe('the contract over HTTP', () => {
  let service: TestService;
  before(async () => {
    // With keys, so that whoever has no token is nobody.
    service = await startService({ env: { AUTH_JWT_SECRET: 'k'.repeat(32) } });
  });
  after(() => service.close());

  const get = (path: string, headers: Record<string, string> = {}) => fetch(new URL(path, service.url), { headers });

  test('everything else asks for a token', async () => {
    assert.equal((await get('/v1/assets')).status, 401);
  });

  test('/openapi.json and /openapi.yaml are served without a caller and say the same as openapi.yaml', async () => {
    const [json, yaml] = await Promise.all([get('/openapi.json'), get('/openapi.yaml')]);
    assert.equal(json.status, 200);
    assert.equal(yaml.status, 200);
    assert.match(json.headers.get('content-type') ?? '', /^application\/json/);
    assert.match(yaml.headers.get('content-type') ?? '', /^application\/yaml/);
    const committed = parse(readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8'));
    for (const document of [await json.json(), parse(await yaml.text())]) {
      assert.deepEqual(document, { ...committed, info: { ...committed.info, version: document.info.version } });
    }
  });

  test('no example of Idempotency-Key is there to be sent twice', async () => {
    const { paths } = await (await get('/openapi.json')).json();
    const keys = Object.values<object>(paths)
      .flatMap((operations) => Object.values(operations))
      .flatMap(({ parameters = [] }) => parameters)
      .filter(({ name }: { name: string }) => name === 'idempotency-key');
    assert.ok(keys.length >= 4);
    assert.ok(keys.every(({ example, schema }) => example === undefined && schema.example === undefined));
  });

  test('/openapi-3.0.json is served without a caller', async () => {
    const answer = await get('/openapi-3.0.json');
    assert.equal(answer.status, 200);
    assert.equal((await answer.json()).openapi, '3.0.3');
  });

  test('/docs leads to a page that is served without a caller', async () => {
    const page = await get('/docs');
    assert.equal(page.status, 200);
    assert.match(page.headers.get('content-type') ?? '', /^text\/html/);
    assert.match(await page.text(), /<div id="app">/);
  });

  test('the page asks only this service for anything, and gets it', async () => {
    const page = await get('/docs');
    const html = await page.text();
    const urls = [...html.matchAll(/\s(?:src|href)="([^"]+)"|"url": "([^"]+)"/g)].map(
      ([, one, two]) => one ?? two ?? '',
    );
    assert.ok(urls.length >= 2, 'the script and the contract');
    for (const url of urls) {
      const absolute = new URL(url, page.url);
      assert.equal(absolute.origin, service.url);
      const answer = await fetch(absolute);
      assert.equal(answer.status, 200, url);
      await answer.arrayBuffer();
    }
    assert.doesNotMatch(html, /https?:\/\/|@import|url\(/);
  });

  test('what it serves has an entity tag, is compressed for who accepts it, and not sent again to who has it', async () => {
    for (const path of ['/docs/', '/docs/js/scalar.js', '/openapi.json', '/openapi.yaml']) {
      const sizes: Record<string, number> = {};
      const tags = new Set<string>();
      const contents = new Set<string>();
      for (const coding of ['identity', 'gzip', 'br', 'br;q=0, gzip;q=0.5']) {
        const answer = await get(path, { 'accept-encoding': coding });
        const sent = answer.headers.get('content-encoding') ?? 'identity';
        assert.equal(sent, coding.includes('q=') ? 'gzip' : coding, path);
        assert.match(answer.headers.get('vary') ?? '', /Accept-Encoding/);
        sizes[sent] = Number(answer.headers.get('content-length'));
        const tag = answer.headers.get('etag') ?? '';
        tags.add(tag);
        contents.add(
          createHash('sha256')
            .update(await answer.text())
            .digest('hex'),
        );
        const again = await get(path, { 'accept-encoding': coding, 'if-none-match': `"x", W/${tag}` });
        assert.equal(again.status, 304);
        assert.equal(again.headers.get('etag'), tag);
        assert.equal(await again.text(), '');
      }
      assert.equal(tags.size, 3, 'a tag for each coding');
      assert.equal(contents.size, 1, 'the same content');
      const { identity = 0, gzip = identity, br = identity } = sizes;
      assert.ok(br < identity && gzip < identity, JSON.stringify(sizes));
    }
  });

  test('its content security policy allows its own inline script by hash, and no other host', async () => {
    const page = await get('/docs');
    const html = await page.text();
    const policy = page.headers.get('content-security-policy') ?? '';
    const inline = [...html.matchAll(/<script(?![^>]*\ssrc=)[^>]*>([\s\S]*?)<\/script>/g)].map(
      ([, script = '']) => script,
    );
    assert.equal(inline.length, 1);
    const hashes = inline.map((script) => `'sha256-${createHash('sha256').update(script).digest('base64')}'`);
    assert.deepEqual(policy.match(/'sha256-[^']+'/g), hashes);
    assert.match(policy, /^default-src 'none';/);
    assert.doesNotMatch(policy, /https?:|\*|'unsafe-eval'/);
    assert.doesNotMatch(/script-src[^;]*/.exec(policy)?.[0] ?? '', /unsafe-inline/);
  });

  test('in a browser, no parameter is sent that nobody has chosen', {
    skip: programSkip('chromium'),
  }, async (context) => {
    const browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });
    context.after(() => browser.close());
    const page = await browser.newPage();
    await page.goto(`${service.url}/docs#tag/assets/GET/v1/assets`);
    await page.getByRole('button', { name: 'Test Request (get /v1/assets)' }).click();
    const limit = page.getByRole('checkbox', { name: 'Include limit in request', exact: true });
    await limit.waitFor({ state: 'attached' });
    const ticks = await page
      .getByRole('row')
      .filter({ has: page.getByRole('checkbox') })
      .evaluateAll((rows) =>
        rows
          .filter((row) => row.querySelector<HTMLInputElement>('input[type=checkbox]')?.checked)
          .map((row) => row.textContent?.trim()),
      );
    assert.equal(await limit.isChecked(), false);
    assert.ok(
      ticks.every((text) => /^accept/i.test(text ?? '')),
      ticks.join(),
    );
  });

  test('all other answers have a policy that allows nothing', async () => {
    const { headers } = await new Client(service.url).get('/v1/assets');
    assert.match(headers.get('content-security-policy') ?? '', /^default-src 'none'/);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
  });
});
