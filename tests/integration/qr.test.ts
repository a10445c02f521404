import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { readCode } from '../support/read-code.ts';
import { type ServiceOptions, startService, storeKinds, type TestService } from '../support/service.ts';

const UNKNOWN = '01a1fbc1-1601-721b-a55f-b1359915e72b';

const pages = {
  APP_URL_TEMPLATE: 'https://app.example.com/#/app/asset/{assetId}?in={projectId}',
  PROJECT_URL_TEMPLATE: 'https://app.example.com/#/app/project/{projectId}',
};

async function picture(client: Client, path: string, headers: Record<string, string> = {}, method = 'GET') {
  const response = await fetch(client.url + path, { method, headers: { ...client.headers, ...headers } });
  return { status: response.status, headers: response.headers, bytes: new Uint8Array(await response.arrayBuffer()) };
}

function serviceFor(options: ServiceOptions) {
  const running: { service?: TestService } = {};
  before(async () => {
    running.service = await startService({ ...options, env: { REQUESTS_PER_MINUTE: '0', ...options.env } });
  });
  after(() => running.service?.close());
  return {
    get it(): TestService {
      assert.ok(running.service);
      return running.service;
    },
    client: (user: string) => new Client(running.service?.url ?? '', user),
  };
}

describe('codes of pages', () => {
  const service = serviceFor({ env: pages });
  const projects = ['website', 'websitf', 'A.b_c~d-e', 'x'.repeat(128)];
  before(async () => {
    for (const id of projects) {
      const { status } = await service.client('coder').send('POST', '/v1/projects', { id, name: id });
      assert.equal(status, 201);
    }
  });

  test('lead to the page of the asset', async () => {
    const client = service.client('coder');
    const { body } = await client.raw(png(), { fields: { projectId: 'web~site' } });
    for (const query of ['', '?format=svg&size=300', '?format=png', '?format=png&size=333', '?format=png&size=2048']) {
      const answer = await picture(client, `/v1/assets/${body.id}/qr${query}`);
      assert.equal(answer.status, 200);
      assert.equal(answer.headers.get('content-type'), query.includes('png') ? 'image/png' : 'image/svg+xml');
      assert.equal(answer.headers.get('cache-control'), 'private, max-age=3600');
      assert.equal(answer.headers.get('x-content-type-options'), 'nosniff');
      assert.equal(await readCode(answer.bytes), `https://app.example.com/#/app/asset/${body.id}?in=web~site`);
    }
    const issued = "select 1 from audit_events where action = 'asset.link-issued'";
    assert.deepEqual(await service.it.query(issued), []);
  });

  test('lead to the page of every project of the caller', async () => {
    const client = service.client('coder');
    for (const projectId of projects) {
      const answer = await picture(client, `/v1/projects/${projectId}/qr?format=png&size=400`);
      assert.equal(await readCode(answer.bytes), `https://app.example.com/#/app/project/${projectId}`);
    }
    const [foreign, unknown] = await Promise.all(
      ['website', 'nobodys'].map((id) => service.client('stranger').get(`/v1/projects/${id}/qr`)),
    );
    assert.equal(foreign?.status, 404);
    assert.deepEqual({ ...foreign.body, requestId: '' }, { ...unknown?.body, requestId: '' });
    assert.equal((await client.get('/v1/projects/_x/qr')).status, 400);
    assert.equal((await client.get(`/v1/projects/${'x'.repeat(129)}/qr`)).status, 400);
  });

  test('are kept by clients, and HEAD tells the same', async () => {
    const client = service.client('coder');
    const path = '/v1/projects/website/qr?format=png';
    const answer = await picture(client, path);
    const tag = answer.headers.get('etag') ?? '';
    const head = await picture(client, path, {}, 'HEAD');
    assert.deepEqual([head.status, head.bytes.length], [200, 0]);
    for (const name of ['etag', 'content-type', 'content-length', 'cache-control'])
      assert.equal(head.headers.get(name), answer.headers.get(name), name);
    for (const method of ['GET', 'HEAD']) {
      const known = await picture(client, path, { 'if-none-match': `"x", W/${tag}` }, method);
      assert.deepEqual([known.status, known.headers.get('etag'), known.bytes.length], [304, tag, 0]);
    }
    assert.equal((await picture(client, path, { 'if-match': '"x"' })).status, 412);
    for (const other of ['/v1/projects/website/qr', `${path}&size=300`, '/v1/projects/websitf/qr?format=png'])
      assert.equal((await picture(client, other, { 'if-none-match': tag })).status, 200);
  });

  test('are not made of what the caller cannot see, or is not served', async () => {
    const client = service.client('coder');
    const { body } = await client.raw(png(), { fields: { projectId: 'website' } });
    const path = `/v1/assets/${body.id}/qr`;
    const foreign = await service.client('stranger').get(path);
    const unknown = await service.client('stranger').get(`/v1/assets/${UNKNOWN}/qr`);
    assert.equal(foreign.status, 404);
    assert.deepEqual({ ...foreign.body, requestId: '' }, { ...unknown.body, requestId: '' });
    await client.request('DELETE', `/v1/assets/${body.id}`);
    assert.equal((await client.get(path)).body.type, 'urn:stowage:problem:wrong-state');
  });

  test('need the project that the page names', async () => {
    const client = service.client('coder');
    const { body } = await client.raw(png());
    const answer = await client.get(`/v1/assets/${body.id}/qr`);
    assert.deepEqual([answer.status, answer.body.type], [409, 'urn:stowage:problem:wrong-state']);
  });

  test('have sizes and formats within bounds', async () => {
    const client = service.client('coder');
    for (const query of [
      'size=63',
      'size=2049',
      'size=64.5',
      'size=',
      'size=-1',
      'size=1e3',
      'format=gif',
      'color=red',
    ])
      assert.equal((await client.get(`/v1/projects/website/qr?${query}`)).status, 400, query);
    const long = `/v1/projects/${'x'.repeat(128)}/qr?format=png&size=64`;
    const fits = await picture(client, long);
    assert.equal(fits.status, 200);
  });
});

for (const { store, skip } of storeKinds)
  describe(`codes of download links, store ${store}`, { skip }, () => {
    const service = serviceFor({ store });

    test('lead to the bytes, and are audited like links', async () => {
      const client = service.client('coder');
      const { body } = await client.raw(png(), { name: 'photo.png' });
      const answer = await picture(client, `/v1/assets/${body.id}/qr?format=png&size=1024&expiresIn=120`);
      // Half of what the link has left, which is between half and all of its life.
      const [, seconds] = /^private, max-age=(\d+)$/.exec(answer.headers.get('cache-control') ?? '') ?? [];
      assert.ok(Number(seconds) >= 29 && Number(seconds) <= 60, seconds);
      const download = await fetch(await readCode(answer.bytes));
      assert.deepEqual(Buffer.from(await download.arrayBuffer()), Buffer.from(png()));
      assert.match(download.headers.get('content-disposition') ?? '', /photo\.png/);
      const rows = await service.it.query<{ detail: object }>(
        "select detail from audit_events where action = 'asset.link-issued' and asset_id = $1",
        [body.id],
      );
      assert.deepEqual(rows, [{ detail: { expiresIn: 120, code: true } }]);
    });

    test('of a name that has no room in a code lead to the bytes, too', async () => {
      const client = service.client('coder');
      const { body } = await client.raw(png(), { name: `${'写'.repeat(83)}.png` });
      const answer = await picture(client, `/v1/assets/${body.id}/qr?format=png&size=2048`);
      assert.equal(answer.status, 200);
      const download = await fetch(await readCode(answer.bytes));
      assert.deepEqual(Buffer.from(await download.arrayBuffer()), Buffer.from(png()));
    });

    test('name the smallest size of a code', async () => {
      const client = service.client('coder');
      const { body } = await client.raw(png(), { name: `${'n'.repeat(200)}.png` });
      const { status, body: problem } = await client.get(`/v1/assets/${body.id}/qr?format=png&size=64`);
      assert.equal(status, 400);
      const least = /at least (\d+)/.exec(problem.detail ?? '')?.[1];
      assert.equal((await picture(client, `/v1/assets/${body.id}/qr?format=png&size=${least}`)).status, 200);
    });

    test('are none for a foreign or unknown asset, and nothing is audited', async () => {
      const { body } = await service.client('coder').raw(png());
      for (const id of [body.id, UNKNOWN])
        assert.equal((await service.client('stranger').get(`/v1/assets/${id}/qr`)).status, 404);
      assert.deepEqual(
        await service.it.query('select 1 from audit_events where asset_id = $1 and action like $2', [
          body.id,
          '%link%',
        ]),
        [],
      );
      assert.equal((await service.client('coder').get(`/v1/assets/${body.id}/qr?expiresIn=604801`)).status, 400);
    });

    test('exist for assets only: projects need PROJECT_URL_TEMPLATE', async () => {
      const { status, body } = await service.client('coder').get('/v1/projects/website/qr');
      assert.deepEqual([status, body.type], [404, 'urn:stowage:problem:no-project-page']);
      assert.match(body.detail ?? '', /PROJECT_URL_TEMPLATE/);
    });
  });

test('a template with a fault ends the start and is named with it', async () => {
  const env = { APP_URL_TEMPLATE: 'https://app.example.com/{id}', PROJECT_URL_TEMPLATE: 'app.example.com/{projectId}' };
  await assert.rejects(startService({ env }), (error: Error) => {
    assert.match(error.message, /APP_URL_TEMPLATE has "https:\/\/app\.example\.com\/\{id\}", which names \{id\}/);
    assert.match(error.message, /PROJECT_URL_TEMPLATE has "app\.example\.com\/\{projectId\}", which is no http/);
    return true;
  });
});
