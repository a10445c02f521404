/** In a real browser: what a page of another origin may make of a service in development mode, where everybody is trusted. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { type Browser, chromium, type Page } from 'playwright-core';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { startService, type TestService } from '../support/service.ts';

describe('in development mode, in a browser', { skip: programSkip('chromium') }, () => {
  let service: TestService;
  let browser: Browser;
  let server: Server;
  let foreign = '';
  let asset = '';
  before(async () => {
    service = await startService();
    server = createServer((_request, answer) => {
      answer.setHeader('content-type', 'text/html').end('<!doctype html><title>foreign</title><body></body>');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    foreign = `:${address && typeof address === 'object' ? address.port : 0}`;
    // The caller whom pages are taken for.
    asset = (await new Client(service.url, 'local-user').raw(png(500))).body.id;
    browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });
  });
  after(async () => {
    await browser.close();
    server.closeAllConnections();
    server.close();
    await service.close();
  });

  const states = async () =>
    (await service.query<{ state: string }>('select state from assets')).map(({ state }) => state);

  async function open(url: string): Promise<Page> {
    const page = await browser.newPage();
    await page.goto(url);
    return page;
  }

  // Another port of the same host is another origin of the same site; another name of it is another site.
  for (const host of ['127.0.0.1', 'localhost'])
    describe(`a page of ${host} at another port`, () => {
      let page: Page;
      before(async () => {
        page = await open(`http://${host}${foreign}`);
      });
      after(() => page.close());

      test('reads nothing', async () => {
        const read = await page.evaluate(
          async ([url, id]) => {
            const outcomes: string[] = [];
            for (const path of ['/v1/assets', `/v1/assets/${id}/content`, '/v1/quota', '/openapi.json', '/metrics'])
              outcomes.push(
                await fetch(url + path).then(
                  (answer) => answer.text(),
                  () => 'failed',
                ),
              );
            return outcomes;
          },
          [service.url, asset] as const,
        );
        assert.deepEqual(read, Array(5).fill('failed'));
      });

      test('changes nothing by a script', async () => {
        const outcomes = await page.evaluate(
          async ([url, id]) => {
            const form = new FormData();
            form.append('file', new Blob(['a'], { type: 'text/plain' }), 'a.txt');
            const asked: [string, RequestInit][] = [
              ['/v1/assets', { method: 'POST', body: form }],
              ['/v1/assets', { method: 'POST', body: form, mode: 'no-cors' }],
              ['/v1/assets/raw/a.txt', { method: 'PUT', body: 'a' }],
              [`/v1/assets/${id}`, { method: 'DELETE' }],
              ['/v1/resumable', { method: 'POST', mode: 'no-cors' }],
            ];
            const all: string[] = [];
            for (const [path, init] of asked)
              all.push(
                await fetch(url + path, init).then(
                  ({ type, status }) => `${type} ${status}`,
                  () => 'failed',
                ),
              );
            return all;
          },
          [service.url, asset] as const,
        );
        assert.deepEqual(outcomes, Array(5).fill('failed'));
        assert.deepEqual(await states(), ['ready']);
      });

      for (const enctype of ['multipart/form-data', 'text/plain', 'application/x-www-form-urlencoded'])
        test(`sends no form as ${enctype}`, async () => {
          const sender = await open(`http://${host}${foreign}`);
          const answered = sender.waitForResponse((response) => response.url() === `${service.url}/v1/assets`);
          await sender.evaluate(
            ([url, type]) => {
              const form = document.createElement('form');
              Object.assign(form, { method: 'POST', action: `${url}/v1/assets`, enctype: type });
              const input = document.createElement('input');
              Object.assign(input, { type: 'file', name: 'file' });
              const files = new DataTransfer();
              files.items.add(new File(['some text'], 'a.txt', { type: 'text/plain' }));
              input.files = files.files;
              form.append(input);
              document.body.append(form);
              form.submit();
            },
            [service.url, enctype] as const,
          );
          assert.equal((await answered).status(), 403);
          assert.deepEqual(await states(), ['ready']);
          await sender.close();
        });
    });

  test('a page of another site embeds no file', async () => {
    const page = await open(`http://localhost${foreign}`);
    const outcome = await page.evaluate(
      ([url, id]) =>
        new Promise<string>((resolve) => {
          const image = document.createElement('img');
          image.onload = () => resolve(`${image.width} wide`);
          image.onerror = () => resolve('failed');
          image.src = `${url}/v1/assets/${id}/content`;
        }),
      [service.url, asset] as const,
    );
    assert.equal(outcome, 'failed');
    await page.close();
  });

  test('the reference page of the service works, and may call it', async () => {
    const page = await browser.newPage();
    const failed: string[] = [];
    page.on('pageerror', (error) => failed.push(String(error)));
    page.on('response', (response) => {
      if (response.url().startsWith(service.url) && response.status() >= 400) failed.push(response.url());
    });
    await page.goto(`${service.url}/docs`);
    await page.getByText('/v1/assets/batch').first().waitFor({ state: 'attached' });
    assert.deepEqual(failed, []);
    const statuses = await page.evaluate(async () => {
      const form = new FormData();
      form.append('file', new Blob(['some text'], { type: 'text/plain' }), 'a.txt');
      const uploaded = await fetch('/v1/assets', { method: 'POST', body: form });
      const { id } = (await uploaded.json()) as { id: string };
      const deleted = await fetch(`/v1/assets/${id}?permanent=true`, { method: 'DELETE' });
      return [uploaded.status, (await fetch('/v1/assets')).status, deleted.status];
    });
    assert.deepEqual(statuses, [201, 200, 204]);
    await page.close();
  });
});
