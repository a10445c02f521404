import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { glb, pdf, png } from '../support/files.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

for (const { store, skip } of storeKinds) {
  describe(`downloads from the ${store} store`, { skip }, () => {
    let service: TestService;
    let client: Client;
    const image = png(5000, 3);
    let id: string;
    before(async () => {
      service = await startService({ store, env: { REQUESTS_PER_MINUTE: '0' } });
      client = new Client(service.url);
      id = (await client.upload(image, { name: 'Größe.png' })).body.id;
    });
    after(() => service.close());

    const url = (answer: { body: Record<string, unknown> }) => String(answer.body['url']);

    test('a link hands out the bytes without a token, with the true name and media type', async () => {
      const answer = await client.get(`/v1/assets/${id}/download`);
      assert.equal(answer.status, 200);
      assert.equal(answer.headers.get('cache-control'), 'no-store');
      const response = await fetch(url(answer));
      assert.equal(response.status, 200);
      assert.ok(Buffer.from(await response.arrayBuffer()).equals(image));
      assert.equal(response.headers.get('content-type'), 'image/png');
      assert.equal(
        response.headers.get('content-disposition'),
        `inline; filename="Gr__e.png"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.png`,
      );
      const seconds = (Date.parse(String(answer.body['expiresAt'])) - Date.now()) / 1000;
      assert.ok(seconds >= 1800 && seconds <= 3600, `${seconds}`);
    });

    test('a link follows a rename, because the name is in the link and not in the object', async () => {
      const { body } = await client.upload(png(300, 1), { name: 'before.png' });
      await client.send('PATCH', `/v1/assets/${body.id}`, { name: 'after.png' });
      const response = await fetch(url(await client.get(`/v1/assets/${body.id}/download?disposition=attachment`)));
      assert.match(response.headers.get('content-disposition') ?? '', /^attachment; filename="after\.png"/);
      await response.arrayBuffer();
    });

    test('the redirect answers 302 to the link', async () => {
      const answer = await client.get(`/v1/assets/${id}/download/redirect`);
      assert.equal(answer.status, 302);
      const response = await fetch(answer.headers.get('location') ?? '');
      assert.equal(response.status, 200);
      assert.equal((await response.arrayBuffer()).byteLength, image.length);
    });

    test('inline is kept for what browsers only show; a PDF is an attachment even if inline was asked for', async () => {
      const { body } = await client.upload(pdf(), { name: 'p.pdf' });
      for (const query of ['', '?disposition=inline']) {
        const response = await fetch(url(await client.get(`/v1/assets/${body.id}/download${query}`)));
        assert.match(response.headers.get('content-disposition') ?? '', /^attachment/);
        await response.arrayBuffer();
        const content = await fetch(`${service.url}/v1/assets/${body.id}/content${query}`, { headers: client.headers });
        assert.match(content.headers.get('content-disposition') ?? '', /^attachment/);
        await content.arrayBuffer();
      }
    });

    test('the life of a link is 1 second to 7 days', async () => {
      for (const expiresIn of ['0', '604801', '-1', '1.5', 'x', '']) {
        const answer = await client.get(`/v1/assets/${id}/download?expiresIn=${expiresIn}`);
        assert.equal(answer.status, 400, expiresIn);
        assert.equal(answer.body.errors?.[0]?.parameter, 'expiresIn');
      }
      for (const expiresIn of ['1', '604800'])
        assert.equal((await client.get(`/v1/assets/${id}/download?expiresIn=${expiresIn}`)).status, 200);
    });

    test('the object itself carries its media type, disposition, cache control, uploader, time and digest', async () => {
      const [row] = await service.query<{ object_key: string }>('select object_key from assets where id = $1', [id]);
      const head = await service.store.head(row?.object_key ?? '', {});
      assert.equal(head?.contentType, 'image/png');
      assert.match(head.contentDisposition, /^inline; filename="Gr__e\.png"/);
      assert.equal(head.cacheControl, 'private, max-age=3600, immutable');
      assert.match(head.metadata['uploaded-by'] ?? '', /^[\w-]{22}$/);
      assert.ok(Date.parse(head.metadata['uploaded-at'] ?? '') > 0);
      assert.equal(head.metadata['sha256'], createHash('sha256').update(image).digest('hex'));
      assert.match(row?.object_key ?? '', /^users\/[\w-]{22}\/assets\/[0-9a-f-]{36}\/original$/);
    });

    test('the bytes through the service come with their digest, entity tag and headers that let nothing run', async () => {
      const { status, headers, body } = await client.content(id);
      assert.equal(status, 200);
      assert.ok(body.equals(image));
      assert.equal(headers.get('content-length'), String(image.length));
      assert.equal(headers.get('repr-digest'), `sha-256=:${createHash('sha256').update(image).digest('base64')}:`);
      assert.equal(headers.get('etag'), `"${createHash('sha256').update(image).digest('hex')}"`);
      assert.equal(headers.get('accept-ranges'), 'bytes');
      assert.equal(headers.get('x-content-type-options'), 'nosniff');
      assert.equal(headers.get('content-security-policy'), "default-src 'none'; sandbox");
    });

    test('one range is honoured, a suffix too; what lies outside is 416', async () => {
      for (const [range, first, last] of [
        ['bytes=0-0', 0, 0],
        ['bytes=10-19', 10, 19],
        ['bytes=4990-', 4990, 4999],
        ['bytes=-5', 4995, 4999],
        ['bytes=0-99999', 0, 4999],
      ] as const) {
        const { status, headers, body } = await client.content(id, { range });
        assert.equal(status, 206, range);
        assert.equal(headers.get('content-range'), `bytes ${first}-${last}/5000`);
        assert.ok(body.equals(image.subarray(first, last + 1)), range);
      }
      const outside = await client.get(`/v1/assets/${id}/content`, { range: 'bytes=5000-' });
      assert.equal(outside.status, 416);
      assert.equal(outside.headers.get('content-range'), 'bytes */5000');
      assert.equal(outside.body.type, 'urn:stowage:problem:range-not-satisfiable');
      assert.equal((await client.content(id, { range: 'lines=1-2' })).status, 200);
    });

    test('conditions are honoured: If-None-Match, If-Modified-Since, If-Match, If-Range', async () => {
      const { headers } = await client.content(id);
      const [etag, lastModified] = [headers.get('etag') ?? '', headers.get('last-modified') ?? ''];
      const status = async (conditions: Record<string, string>) => (await client.content(id, conditions)).status;
      assert.equal(await status({ 'if-none-match': etag }), 304);
      assert.equal(await status({ 'if-none-match': `W/${etag}, "x"` }), 304);
      assert.equal(await status({ 'if-none-match': '"x"' }), 200);
      assert.equal(await status({ 'if-modified-since': lastModified }), 304);
      assert.equal(await status({ 'if-modified-since': 'Thu, 01 Jan 2015 00:00:00 GMT' }), 200);
      assert.equal(await status({ 'if-match': '"x"' }), 412);
      assert.equal(await status({ range: 'bytes=0-1', 'if-range': etag }), 206);
      assert.equal(await status({ range: 'bytes=0-1', 'if-range': '"x"' }), 200);
    });

    test('HEAD gives the header fields and no body', async () => {
      const response = await fetch(`${service.url}/v1/assets/${id}/content`, {
        method: 'HEAD',
        headers: client.headers,
      });
      assert.equal(response.status, 200);
      assert.equal(response.headers.get('content-length'), '5000');
      assert.equal((await response.arrayBuffer()).byteLength, 0);
    });

    test('a reader that goes away half-way holds nothing back', async () => {
      const { body } = await client.raw(glb(20 * 1024 * 1024), { name: 'm.glb' });
      const stop = new AbortController();
      const response = await fetch(`${service.url}/v1/assets/${body.id}/content`, {
        headers: client.headers,
        signal: stop.signal,
      });
      await response.body?.getReader().read();
      stop.abort();
      assert.equal((await client.content(body.id, { range: 'bytes=-4' })).status, 206);
    });
  });
}

describe('links of the disk store', () => {
  let service: TestService;
  before(async () => {
    service = await startService();
  });
  after(() => service.close());

  test('lead nowhere while the asset is in the trash, and after it was deleted', async () => {
    const client = new Client(service.url);
    const { body } = await client.upload(png());
    const { pathname } = new URL(String((await client.get(`/v1/assets/${body.id}/download`)).body['url']));
    const status = async () => (await client.get(pathname)).status;
    assert.equal(await status(), 200);
    await client.request('DELETE', `/v1/assets/${body.id}`);
    assert.equal(await status(), 404);
    await client.request('POST', `/v1/assets/${body.id}/restore`);
    assert.equal(await status(), 200);
    await client.request('DELETE', `/v1/assets/${body.id}?permanent=true`);
    assert.equal(await status(), 404);
  });

  test('are refused as problems when forged, and as expired when their time is over', async () => {
    const client = new Client(service.url);
    const { body } = await client.upload(png());
    const linkFor = async (seconds: number) =>
      String((await client.get(`/v1/assets/${body.id}/download?expiresIn=${seconds}`)).body['url']);
    const link = await linkFor(600);
    assert.equal((await fetch(link, { headers: { range: 'bytes=0-3' } })).status, 206);
    const forged = await client.get(`${new URL(link).pathname.slice(0, -3)}abc`);
    assert.equal(forged.status, 404);
    const { pathname } = new URL(await linkFor(1));
    const expired = await waitUntil(async () => {
      const answer = await client.get(pathname);
      return answer.status === 410 ? answer : undefined;
    });
    assert.equal(expired?.body.type, 'urn:stowage:problem:link-expired');
  });
});
