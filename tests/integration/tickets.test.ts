/** Upload tickets: what they allow, by every way and on two instances, and that no place is taken twice or lost. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { launch } from '../support/processes.ts';
import { letInLate } from '../support/revoked.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

let service: TestService;
let other: TestService;
before(async () => {
  const env = { UPLOADS_PER_CALLER: '64', UPLOADS_AT_ONCE: '64', UPLOAD_WAIT: '60s', UPLOAD_LEASE: '6s' };
  service = await startService({ env });
  other = await startService({ beside: service, env });
});
after(async () => {
  await other.close();
  await service.close();
});

class Page extends Client {
  constructor(token: string, at = service) {
    super(at.url);
    delete this.headers['x-user-id'];
    this.headers['authorization'] = `Bearer ${token}`;
  }

  batch(files: Uint8Array<ArrayBuffer>[], name = 'photo.png') {
    const form = new FormData();
    for (const bytes of files) form.append('files', new Blob([bytes]), name);
    return this.request('POST', '/v1/assets/batch', { body: form });
  }

  tus(method: string, path: string, headers: Record<string, string>, body?: Uint8Array<ArrayBuffer>) {
    return this.request(method, `/v1/resumable${path}`, {
      headers: {
        'tus-resumable': '1.0.0',
        ...(body && { 'content-type': 'application/offset+octet-stream' }),
        ...headers,
      },
      ...(body && { body }),
    });
  }

  begin(length: number | undefined, name = 'photo.png', more = '') {
    const size: Record<string, string> =
      length === undefined ? { 'upload-defer-length': '1' } : { 'upload-length': String(length) };
    const metadata = `filename ${Buffer.from(name).toString('base64')}${more}`;
    return this.tus('POST', '', { ...size, 'upload-metadata': metadata });
  }

  direct(size: number, more: object = {}) {
    return this.send('POST', '/v1/uploads', { fileName: 'photo.png', contentType: 'image/png', size, ...more });
  }
}

async function issue(limits: object = {}, issuer = new Client(service.url)) {
  const { status, body } = await issuer.send('POST', '/v1/tickets', { expiresIn: 600, ...limits });
  assert.equal(status, 201, JSON.stringify(body));
  const { id } = body;
  const token = String(body['token']);
  return { id, token, page: new Page(token), elsewhere: new Page(token, other) };
}

async function countsOf(id: string, issuer = new Client(service.url)) {
  const { body } = await issuer.get(`/v1/tickets/${id}`);
  return { files: body['files'], bytes: body['bytes'] };
}

async function quotaOf(projectId: string): Promise<{ used: number; reserved: number }> {
  const { body } = await new Client(service.url).get(`/v1/projects/${projectId}/quota`);
  const { used = 0, reserved = 0 } = (body['quota'] ?? {}) as { used?: number; reserved?: number };
  return { used, reserved };
}

const USED_UP = 'urn:stowage:problem:ticket-used-up';

/** A body whose length nobody is told before. */
function chunked(bytes: Uint8Array<ArrayBuffer>, pieces = 4): { body: ReadableStream; duplex: 'half' } {
  const step = Math.ceil(bytes.length / pieces);
  return {
    body: new ReadableStream({
      start(controller) {
        for (let at = 0; at < bytes.length; at += step) controller.enqueue(bytes.slice(at, at + step));
        controller.close();
      },
    }),
    duplex: 'half',
  };
}

describe('a ticket', () => {
  test('lets a page upload by every way, see its own, and do nothing else', async () => {
    const alice = new Client(service.url);
    const foreign = (await alice.raw(png())).body.id;
    const { id, page } = await issue({ subject: 'user-1', metadata: { order: '7' } });
    const byForm = await page.upload(png(), { fields: { metadata: '{"order":"8","note":"mine"}' } });
    assert.equal(byForm.status, 201, JSON.stringify(byForm.body));
    assert.deepEqual(byForm.body.metadata, { order: '7', note: 'mine' });
    const byRaw = await page.raw(png());
    assert.deepEqual(byRaw.body.metadata, { order: '7' });
    const byBatch = (await page.batch([png()])).body['results'] as { status: number; asset: { metadata: object } }[];
    assert.deepEqual([byBatch[0]?.status, byBatch[0]?.asset.metadata], [201, { order: '7' }]);
    const begun = await page.begin(png().length);
    const location = String(begun.headers.get('location')).replace('/v1/resumable', '');
    const ended = await page.tus('PATCH', location, { 'upload-offset': '0' }, png());
    assert.equal(ended.status, 204);
    const direct = await page.direct(png().length);
    assert.equal(direct.status, 201, JSON.stringify(direct.body));
    const [{ url = '' } = {}] = direct.body['parts'] as { url: string }[];
    await fetch(url, { method: 'PUT', body: png() });
    const complete = await page.request('POST', `/v1/uploads/${direct.body['uploadId']}/complete`);
    assert.deepEqual([complete.status, complete.body.metadata], [201, { order: '7' }]);
    const { body: list } = await page.get('/v1/assets');
    assert.equal(list.data.length, 5);
    assert.ok(list.data.every(({ metadata }) => metadata?.['order'] === '7'));
    assert.equal((await new Client(service.url, 'user-1').get('/v1/assets')).body.data.length, 5);
    assert.deepEqual(await countsOf(id), { files: 5, bytes: 5 * png().length });
    const own = byForm.body.id;
    assert.equal((await page.get(`/v1/assets/${own}`)).status, 200);
    assert.equal((await page.get(`/v1/assets/${foreign}`)).status, 404);
    const refused: [string, string][] = [
      ['GET', `/v1/assets/${own}/content`],
      ['GET', `/v1/assets/${own}/download`],
      ['DELETE', `/v1/assets/${own}`],
      ['PATCH', `/v1/assets/${own}`],
      ['GET', '/v1/quota'],
      ['GET', '/v1/statistics'],
      ['GET', '/v1/keys'],
      ['GET', '/v1/tickets'],
      ['DELETE', `/v1/tickets/${id}`],
      ['GET', '/v1/admin/jobs'],
    ];
    for (const [method, path] of refused) assert.equal((await page.request(method, path)).status, 403, path);
    assert.equal((await page.send('POST', '/v1/tickets', { expiresIn: 60 })).status, 403);
    assert.equal((await page.get('/v1/assets', { 'stowage-subject': 'bob' })).status, 403);
    const rows = await service.query('select distinct actor_id, via from audit_events where via = $1', [
      `ticket:${id}`,
    ]);
    assert.deepEqual(rows, [{ actor_id: 'user-1', via: `ticket:${id}` }]);
  });

  test('restricts type, size and place like a policy, whatever way is taken', async () => {
    const alice = new Client(service.url, 'restricting');
    await alice.raw(png(), { fields: { projectId: 'gallery' } });
    const limits = { projectId: 'gallery', mediaTypes: ['image/png'], maxFileSize: 2000 };
    const { page } = await issue(limits, alice);
    const text = new TextEncoder().encode('words, and no picture');
    const large = png(2001);
    const ways = {
      form: (bytes: Uint8Array<ArrayBuffer>, name: string) => page.upload(bytes, { name }),
      raw: (bytes: Uint8Array<ArrayBuffer>, name: string) => page.raw(bytes, { name }),
      chunked: (bytes: Uint8Array<ArrayBuffer>, name: string) =>
        page.request('PUT', `/v1/assets/raw/${name}`, chunked(bytes)),
      direct: (bytes: Uint8Array<ArrayBuffer>, name: string) =>
        page.direct(bytes.length, name.endsWith('txt') ? { fileName: name, contentType: 'text/plain' } : {}),
      resumable: async (bytes: Uint8Array<ArrayBuffer>, name: string) => {
        const begun = await page.begin(bytes.length, name);
        if (begun.status !== 201) return begun;
        const location = String(begun.headers.get('location')).replace('/v1/resumable', '');
        return page.tus('PATCH', location, { 'upload-offset': '0' }, bytes);
      },
      deferred: async (bytes: Uint8Array<ArrayBuffer>, name: string) => {
        const begun = await page.begin(undefined, name);
        const location = String(begun.headers.get('location')).replace('/v1/resumable', '');
        const headers = { 'upload-offset': '0', 'upload-length': String(bytes.length) };
        return page.tus('PATCH', location, headers, bytes);
      },
    };
    for (const [way, upload] of Object.entries(ways)) {
      assert.equal((await upload(text, 'words.txt')).status, 415, way);
      assert.equal((await upload(large, 'photo.png')).status, 413, way);
      assert.ok((await upload(png(2000), 'photo.png')).status < 300, way);
    }
    const { body } = await page.get('/v1/assets');
    assert.ok(body.data.length >= 5);
    assert.ok(body.data.every(({ projectId }) => projectId === 'gallery'));
    const elsewhere = await page.upload(png(), { fields: { projectId: 'other' } });
    assert.deepEqual([elsewhere.status, elsewhere.body.errors?.[0]?.parameter], [403, 'projectId']);
    assert.equal((await page.direct(500, { projectId: 'other' })).status, 403);
    assert.equal((await page.begin(500, 'photo.png', `,projectId ${btoa('other')}`)).status, 403);
    const typed = await issue({ assetType: 'image' });
    assert.equal((await typed.page.upload(png(), { fields: { assetType: 'document' } })).status, 403);
    assert.equal((await typed.page.raw(text, { name: 'words.txt' })).status, 415);
    assert.equal((await typed.page.raw(png())).body.assetType, 'image');
  });

  test('is refused for what its issuer may not give', async () => {
    const alice = new Client(service.url, 'giver');
    const bad: [object, number, string][] = [
      [{}, 400, '/expiresIn'],
      [{ expiresIn: 86_401 }, 400, '/expiresIn'],
      [{ expiresIn: 60, maxFiles: 0 }, 400, '/maxFiles'],
      [{ expiresIn: 60, assetType: 'unknown' }, 400, '/assetType'],
      [{ expiresIn: 60, mediaTypes: ['image/png', 'application/x-unknown'] }, 400, '/mediaTypes/1'],
      [{ expiresIn: 60, subject: 'a\u0000b' }, 400, '/subject'],
    ];
    for (const [body, status, pointer] of bad) {
      const answer = await alice.send('POST', '/v1/tickets', body);
      assert.deepEqual([answer.status, answer.body.errors?.[0]?.pointer], [status, pointer]);
    }
    await new Client(service.url, 'somebody').raw(png(), { fields: { projectId: 'his-own' } });
    assert.equal((await alice.send('POST', '/v1/tickets', { expiresIn: 60, projectId: 'his-own' })).status, 404);
    const key = await alice.send('POST', '/v1/keys', { name: 'w', scopes: ['assets:write'] });
    const server = new Page(String(key.body['secret']));
    assert.equal((await server.send('POST', '/v1/tickets', { expiresIn: 60 })).status, 201);
    const forOther = await server.send('POST', '/v1/tickets', { expiresIn: 60, subject: 'user-2' });
    assert.deepEqual([forOther.status, forOther.body.type], [403, 'urn:stowage:problem:missing-scope']);
    const reader = await alice.send('POST', '/v1/keys', { name: 'r', scopes: ['assets:read'] });
    const refused = await new Page(String(reader.body['secret'])).send('POST', '/v1/tickets', { expiresIn: 60 });
    assert.equal(refused.status, 403);
  });

  test('ends for its project when its issuer may not upload there any more', async () => {
    const alice = new Client(service.url, 'leaving');
    await alice.raw(png(), { fields: { projectId: 'left' } });
    const { page } = await issue({ projectId: 'left' }, alice);
    assert.equal((await page.raw(png())).status, 201);
    await service.query("delete from project_members where project_id = 'left'");
    assert.equal((await page.raw(png())).status, 403);
  });

  test('is shown and revoked by its issuer alone; a foreign one is unknown', async () => {
    const { id } = await issue({ maxFiles: 2, maxBytes: 100, mediaTypes: ['image/png'] });
    const alice = new Client(service.url);
    const { body } = await alice.get(`/v1/tickets/${id}`);
    const { maxFiles, maxBytes, mediaTypes, files, token } = body as Record<string, unknown>;
    assert.deepEqual([maxFiles, maxBytes, mediaTypes, files, token], [2, 100, ['image/png'], 0, undefined]);
    const bob = new Client(service.url, 'bob');
    for (const method of ['GET', 'DELETE']) assert.equal((await bob.request(method, `/v1/tickets/${id}`)).status, 404);
    assert.deepEqual((await bob.get('/v1/tickets')).body.data, []);
    const { body: first } = await alice.get('/v1/tickets?limit=1');
    assert.equal(first.data[0]?.id, id);
    const { body: second } = await alice.get(`/v1/tickets?limit=1&cursor=${first.page.nextCursor}`);
    assert.notEqual(second.data[0]?.id, id);
  });

  test('revoked on one instance, is refused on the other; what is under way begins nothing any more', async () => {
    const { id, page, elsewhere } = await issue({ maxFiles: 3 });
    for (const each of [page, elsewhere]) assert.equal((await each.get('/v1/assets')).status, 200);
    assert.equal((await new Client(service.url).request('DELETE', `/v1/tickets/${id}`)).status, 204);
    // Until what is remembered has run out, the database says it.
    const late = await elsewhere.raw(png());
    assert.ok(late.status === 401 || late.body.type === USED_UP, String(late.status));
    const tooLate = await letInLate([page, elsewhere], async (each) => (await each.get('/v1/assets')).status === 200);
    assert.deepEqual(tooLate, []);
    assert.equal((await new Client(service.url).get(`/v1/tickets/${id}`)).status, 404);
  });

  test('an answer under an Idempotency-Key is read by no other credential of the same subject', async () => {
    const [one, two] = [await issue(), await issue()];
    const headers = { 'idempotency-key': 'page-1' };
    const first = await one.page.raw(png(), { headers });
    const again = await one.page.raw(png(), { headers });
    assert.equal(again.body.id, first.body.id);
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
    assert.notEqual((await two.page.raw(png(), { headers })).body.id, first.body.id);
    assert.notEqual((await new Client(service.url).raw(png(), { headers })).body.id, first.body.id);
    assert.equal((await countsOf(one.id))['files'], 1);
  });
});

describe('files of a ticket are counted', () => {
  test('exactly, under 200 tries by all ways at once on two instances', async () => {
    const { id, page, elsewhere } = await issue({ maxFiles: 3, subject: 'crowd' });
    const ways: ((each: Page) => Promise<number>)[] = [
      async (each) => (await each.upload(png(300))).status,
      async (each) => (await each.raw(png(300))).status,
      async (each) => (await each.request('PUT', '/v1/assets/raw/photo.png', chunked(png(300)))).status,
      async (each) => {
        const { body } = await each.batch([png(300)]);
        return (body['results'] as { status: number }[])[0]?.status ?? 0;
      },
      async (each) => (await each.direct(300)).status,
      async (each) => (await each.begin(300)).status,
      async (each) => (await each.begin(undefined)).status,
    ];
    const statuses = await Promise.all(
      Array.from({ length: 200 }, (_, n) => ways[n % ways.length]?.(n % 2 ? page : elsewhere)),
    );
    assert.equal(statuses.filter((status) => status === 201).length, 3, statuses.join());
    assert.equal(statuses.filter((status) => status === 403).length, 197, statuses.join());
    assert.equal((await countsOf(id))['files'], 3);
    const rows = await service.query('select 1 from assets where ticket_id = $1', [id]);
    assert.equal(rows.length, 3);
  });

  test('together with the quota of its project: of 200 tries at once, what both have room for', async () => {
    const projectId = 'ticket-and-quota';
    const issuer = new Client(service.url);
    assert.equal((await issuer.send('POST', '/v1/projects', { id: projectId, name: 'Both' })).status, 201);
    for (const [maxFiles, room] of [
      [40, 25],
      [20, 35],
    ] as const) {
      // In the second round there is what the first has left, and room for 35 more.
      const { used } = await quotaOf(projectId);
      const limit = used + room * 300;
      assert.equal((await issuer.send('PUT', `/v1/admin/quotas/project:${projectId}`, { limit })).status, 200);
      const { id, page, elsewhere } = await issue({ maxFiles, projectId, subject: `both-${maxFiles}` });
      const statuses = await Promise.all(
        Array.from({ length: 200 }, async (_, n) => {
          const each = n % 2 ? page : elsewhere;
          if (n % 3 === 0) return (await each.raw(png(300, n))).status;
          if (n % 3 === 1) return (await each.upload(png(300, n))).status;
          const { body } = await each.batch([png(300, n)]);
          return (body['results'] as { status: number }[])[0]?.status ?? 0;
        }),
      );
      const stored = Math.min(maxFiles, room);
      assert.equal(statuses.filter((status) => status === 201).length, stored, statuses.join());
      assert.equal(statuses.filter((status) => status === 403).length, 200 - stored, statuses.join());
      assert.deepEqual(await countsOf(id), { files: stored, bytes: stored * 300 });
      assert.deepEqual(await quotaOf(projectId), { used: used + stored * 300, reserved: 0 });
    }
  });

  test('bytes of all files too, those of uploads whose size comes out later as well', async () => {
    const { id, page, elsewhere } = await issue({ maxBytes: 1000, subject: 'bytes' });
    const statuses = await Promise.all(
      Array.from({ length: 12 }, async (_, n) => {
        const each = n % 2 ? page : elsewhere;
        if (n % 3 === 0) return (await each.raw(png(300))).status;
        if (n % 3 === 1) return (await each.request('PUT', '/v1/assets/raw/photo.png', chunked(png(300)))).status;
        const begun = await each.begin(undefined);
        const location = String(begun.headers.get('location')).replace('/v1/resumable', '');
        const ended = await each.tus('PATCH', location, { 'upload-offset': '0', 'upload-length': '300' }, png(300));
        if (ended.status !== 204) await each.tus('DELETE', location, {});
        return ended.status;
      }),
    );
    assert.equal(statuses.filter((status) => status < 300).length, 3, statuses.join());
    assert.equal(statuses.filter((status) => status === 403).length, 9, statuses.join());
    assert.deepEqual(await countsOf(id), { files: 3, bytes: 900 });
    const begun = await page.begin(undefined);
    const location = String(begun.headers.get('location')).replace('/v1/resumable', '');
    const some = await page.tus('PATCH', location, { 'upload-offset': '0' }, png(300).slice(0, 90));
    assert.equal(some.status, 204);
    assert.deepEqual(await countsOf(id), { files: 4, bytes: 990 });
    const more = await page.tus('PATCH', location, { 'upload-offset': '90' }, png(300).slice(90));
    assert.deepEqual([more.status, more.body.type], [403, USED_UP]);
    assert.equal((await page.tus('DELETE', location, {})).status, 204);
    assert.deepEqual(await countsOf(id), { files: 3, bytes: 900 });
  });

  test('a place of an upload that fails is given back once, however it fails', async () => {
    const { id, page } = await issue({ maxFiles: 1, maxBytes: 50_000_000, subject: 'failing' });
    const none = { files: 0, bytes: 0 };
    const begun = () => page.begin(400);
    const at = (answer: { headers: Headers }) => String(answer.headers.get('location')).replace('/v1/resumable', '');
    // Refused for what its bytes are, before and after it began.
    assert.equal((await page.raw(new TextEncoder().encode('{'), { name: 'a.json' })).status, 422);
    assert.deepEqual(await countsOf(id), none);
    const damaged = await begun();
    const words = new TextEncoder().encode('x'.repeat(400));
    assert.equal((await page.tus('PATCH', at(damaged), { 'upload-offset': '0' }, words)).status, 415);
    assert.deepEqual(await countsOf(id), none);
    // Refused by the quota, after the place was taken.
    await new Client(service.url).send('PUT', '/v1/admin/quotas/failing', { limit: 100 });
    assert.equal((await page.raw(png(400))).body.type, 'urn:stowage:problem:quota-exceeded');
    assert.equal((await page.direct(400)).body.type, 'urn:stowage:problem:quota-exceeded');
    await new Client(service.url).send('PUT', '/v1/admin/quotas/failing', { limit: 100_000_000 });
    assert.deepEqual(await countsOf(id), none);
    // Cancelled, many times at once.
    const direct = await page.direct(400);
    assert.deepEqual(await countsOf(id), { files: 1, bytes: 400 });
    assert.equal((await page.raw(png(400))).body.type, USED_UP);
    await Promise.all(
      Array.from({ length: 5 }, () => page.request('DELETE', `/v1/uploads/${direct.body['uploadId']}`)),
    );
    assert.deepEqual(await countsOf(id), none);
    // Abandoned, and reaped on two instances at once.
    await begun();
    assert.deepEqual(await countsOf(id), { files: 1, bytes: 400 });
    await service.query("update assets set lease_expires_at = now() - interval '1 second' where state = 'uploading'");
    await Promise.all([service.service.reap(), other.service.reap()]);
    assert.deepEqual(await countsOf(id), none);
    // The client has gone in the middle.
    const gone = new AbortController();
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(png(3000).slice(0, 1000));
      },
    });
    const init = { body, duplex: 'half' as const, signal: gone.signal, headers: { 'content-length': '20000000' } };
    const broken = page.request('PUT', '/v1/assets/raw/photo.png', init).catch(() => undefined);
    await waitUntil(async () => (await countsOf(id))['files'] === 1);
    gone.abort();
    await broken;
    await waitUntil(async () => (await countsOf(id))['files'] === 0);
    // And it is there to be taken.
    assert.equal((await page.raw(png(400))).status, 201);
    assert.deepEqual(await countsOf(id), { files: 1, bytes: 400 });
    assert.equal((await page.raw(png(400))).body.type, USED_UP);
    const checks = await service.query('select 1 from assets where owner_id = $1 and state = $2', ['failing', 'ready']);
    assert.equal(checks.length, 1);
  });

  test('a process that is killed between begin and end loses no place: the reaper gives it back', async () => {
    const doomed = await launch({ ...service.place, DATABASE_URL: service.databaseUrl, ROLE: 'api' });
    const limits = { maxFiles: 3, maxBytes: 100_000_000, subject: 'killed' };
    const { id: counted, token, page } = await issue(limits);
    const there = new Page(token, { ...service, url: doomed.url });
    const size = 20_000_000;
    const body = new ReadableStream({ start: (controller) => controller.enqueue(png(3000)) });
    const init = { body, duplex: 'half' as const, headers: { 'content-length': String(size) } };
    const broken = there.request('PUT', '/v1/assets/raw/photo.png', init).catch(() => undefined);
    assert.equal((await there.direct(400)).status, 201);
    assert.equal((await there.begin(undefined)).status, 201);
    await waitUntil(async () => (await countsOf(counted))['files'] === 3);
    assert.deepEqual(await countsOf(counted), { files: 3, bytes: size + 400 });
    doomed.child.kill('SIGKILL');
    await doomed.exit;
    await broken;
    assert.equal((await page.raw(png(400))).body.type, USED_UP);
    await service.query("update assets set lease_expires_at = now() - interval '1 second' where state = 'uploading'");
    await Promise.all([service.service.reap(), other.service.reap()]);
    assert.deepEqual(await countsOf(counted), { files: 0, bytes: 0 });
    assert.equal((await page.raw(png(400))).status, 201);
  });

  test('a ticket that has expired is removed a day later, not while an upload of it is open', async () => {
    const [open, done] = [await issue(), await issue()];
    await open.page.begin(400);
    await service.query("update tickets set expires_at = now() - interval '25 hours' where id = any($1)", [
      [open.id, done.id],
    ]);
    const { TicketsRepository } = await import('../../src/tickets/repository.ts');
    await new TicketsRepository(service.database).removeDead();
    const left = await service.query<{ id: string }>('select id from tickets where id = any($1)', [[open.id, done.id]]);
    assert.deepEqual(left, [{ id: open.id }]);
  });
});
