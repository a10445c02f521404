/** Shares: what strangers reach by them, what they are told, and what whoever shares sees. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { foldShareMarks } from '../../src/shares/downloads.ts';
import { removeEndedShares } from '../../src/shares/repository.ts';
import { Client } from '../support/client.ts';
import { fixture } from '../support/corpus.ts';
import { png } from '../support/files.ts';
import { readCode } from '../support/read-code.ts';
import { startService, type TestService } from '../support/service.ts';
import { ask, basic, seen, share, shareOf } from '../support/shares.ts';
import { waitUntil } from '../support/wait-until.ts';

let service: TestService;
let other: TestService;
let alice: Client;
const TRIES = 3;

before(async () => {
  const env = {
    SHARE_PASSWORD_TRIES: String(TRIES),
    SHARES_PER_CALLER: '60',
    SHARES_PER_ASSET: '5',
    REQUESTS_PER_MINUTE: '0',
    PUBLIC_REQUESTS_PER_MINUTE: '0',
    DOWNLOADS_PER_CALLER: '64',
    DOWNLOADS_AT_ONCE: '64',
  };
  service = await startService({ env });
  other = await startService({ beside: service, env });
  alice = new Client(service.url);
});
after(async () => {
  await other.close();
  await service.close();
});

async function stored(client = alice, fields: Record<string, string> = {}, bytes = png(), name = 'photo.png') {
  const { status, body } = await client.raw(bytes, { name, fields });
  assert.equal(status, 201, JSON.stringify(body));
  return body;
}

/** Whoever has a project, and somebody who is an editor of it. */
async function team() {
  const id = `team-${randomUUID()}`;
  const [manager, editor] = [new Client(service.url, `manager-${id}`), new Client(service.url, `editor-${id}`)];
  assert.equal((await manager.send('POST', '/v1/projects', { id, name: id })).status, 201);
  const member = `/v1/projects/${id}/members/editor-${id}`;
  const join = async (role = 'editor') => assert.equal((await manager.send('PUT', member, { role })).status, 200);
  await join();
  const leave = async () => assert.equal((await manager.request('DELETE', member)).status, 204);
  return { id, manager, editor, join, leave };
}

const isUnknown = async (url: string) => (await ask(url)).status === 404;
const unknownSoon = (url: string) => waitUntil(() => isUnknown(url));

describe('a share of one asset', () => {
  test('leads strangers to the file, and tells them nothing else', async () => {
    const asset = await stored();
    const { url, id } = await share(alice, { assetId: asset.id, label: 'Photo', note: 'secret note' });
    assert.match(url, new RegExp(`^${service.url}/s/[A-Za-z0-9_-]{22}$`));
    const { status, body, headers } = await ask(url);
    assert.equal(status, 200);
    assert.deepEqual([body['kind'], body['label'], body['of'], body['allow']], ['open', 'Photo', 'asset', 'download']);
    assert.ok(!/secret note|alice/.test(JSON.stringify(body)), 'neither note nor who shared');
    assert.equal(headers.get('x-robots-tag'), 'noindex, nofollow');
    const [shown] = body['assets'] as {
      name: string;
      size: number;
      kind: string;
      contentPath: string;
      downloadPath: string;
    }[];
    assert.deepEqual([shown?.name, shown?.size, shown?.kind], ['photo.png', png().length, 'picture']);
    const content = await ask(service.url + shown?.contentPath);
    assert.deepEqual(content.bytes, Buffer.from(png()));
    const saved = await ask(service.url + shown?.downloadPath);
    assert.match(saved.headers.get('content-disposition') ?? '', /^attachment/);
    const picture = await ask(`${url}/assets/${asset.id}/image?width=16`);
    assert.deepEqual([picture.status, picture.headers.get('content-type')], [200, 'image/webp']);
    const { downloads, lastUsedAt, url: again } = await shareOf(alice, id);
    assert.deepEqual([downloads, again], [2, url]);
    assert.ok(lastUsedAt);
    assert.equal(
      (await alice.get(`/v1/assets/${asset.id}`)).body.downloadCount,
      2,
      'the asset was downloaded as often',
    );
  });

  test('is kept as a digest, and shown again to whoever made it', async () => {
    const { id, url, token } = await share(alice, { assetId: (await stored()).id });
    const rows = await service.query<{ text: string }>('select shares::text as text from shares where id = $1', [id]);
    assert.ok(!rows[0]?.text.includes(token));
    assert.equal((await shareOf(alice, id)).url, url);
    const { body } = await alice.get('/v1/shares?limit=1');
    assert.equal(Object(body.data[0]).url, url);
    const code = await fetch(`${service.url}/v1/shares/${id}/qr?format=png`, { headers: alice.headers });
    assert.equal(await readCode(new Uint8Array(await code.arrayBuffer())), url);
    assert.equal(
      service.log.some((line) => line.includes(token)),
      false,
      'no log has the address',
    );
  });

  test('answers ranges, conditions and HEAD as players and podcast programs ask', async () => {
    const asset = await stored(alice, {}, Buffer.from(fixture('sound.mp3')), 'sound.mp3');
    const { url, id } = await share(alice, { assetId: asset.id, permanent: true });
    const content = `${url}/content`;
    const head = await ask(content, { method: 'HEAD' });
    assert.deepEqual(
      ['content-type', 'content-length', 'accept-ranges', 'access-control-allow-origin', 'cache-control'].map((name) =>
        head.headers.get(name),
      ),
      ['audio/mpeg', String(asset.size), 'bytes', '*', 'public, no-cache'],
    );
    const etag = head.headers.get('etag') ?? '';
    const range = async (headers: Record<string, string>) => {
      const { status, bytes, headers: its } = await ask(content, { headers });
      return [status, bytes.length, its.get('content-range')];
    };
    assert.deepEqual(await range({ range: 'bytes=0-1' }), [206, 2, `bytes 0-1/${asset.size}`]);
    assert.deepEqual(await range({ range: 'bytes=10-' }), [
      206,
      asset.size - 10,
      `bytes 10-${asset.size - 1}/${asset.size}`,
    ]);
    assert.deepEqual(await range({ range: 'bytes=-5', 'if-range': etag }), [
      206,
      5,
      `bytes ${asset.size - 5}-${asset.size - 1}/${asset.size}`,
    ]);
    assert.equal((await range({ range: `bytes=${asset.size}-` }))[0], 416);
    assert.equal((await range({ 'if-none-match': etag }))[0], 304);
    assert.equal((await shareOf(alice, id)).downloads, 1, 'the ranges of one download');
    assert.deepEqual(await range({ range: 'bytes=5-', 'if-range': '"another"' }), [200, asset.size, null]);
    assert.equal((await shareOf(alice, id)).downloads, 2, 'all of it once more');
  });

  test('that is permanent neither ends nor asks for anything', async () => {
    const assetId = (await stored()).id;
    for (const more of [{ expiresIn: 60 }, { password: 'x' }, { maxDownloads: 1 }])
      assert.equal((await alice.send('POST', '/v1/shares', { assetId, permanent: true, ...more })).status, 400);
    assert.equal((await alice.send('POST', '/v1/shares', { assetIds: [assetId], permanent: true })).status, 400);
    const { id, url } = await share(alice, { assetId, permanent: true });
    for (const change of [{ expiresIn: 60 }, { password: 'x' }, { maxDownloads: 1 }]) {
      assert.equal((await alice.send('PATCH', `/v1/shares/${id}`, change)).status, 400);
      const made = await share(alice, { assetId, ...change });
      assert.equal((await alice.send('PATCH', `/v1/shares/${made.id}`, { permanent: true })).status, 400);
      const undone = Object.fromEntries(Object.keys(change).map((name) => [name, null]));
      assert.equal((await alice.send('PATCH', `/v1/shares/${made.id}`, { permanent: true, ...undone })).status, 200);
    }
    assert.equal((await alice.request('DELETE', `/v1/shares/${id}`)).status, 204);
    await unknownSoon(url);
  });

  test('for looking gives no file away that can be shown without it', async () => {
    const picture = await stored();
    const { url } = await share(alice, { assetId: picture.id, allow: 'view' });
    const { body } = await ask(url);
    const [shown] = body['assets'] as Record<string, unknown>[];
    assert.ok(shown && !('contentPath' in shown) && !('downloadPath' in shown) && 'picture' in shown);
    for (const path of [`${url}/content`, `${url}/assets/${picture.id}/content?disposition=inline`])
      assert.equal((await ask(path)).body['type'], 'urn:stowage:problem:share-view-only');
    assert.equal((await ask(`${url}/assets/${picture.id}/image?width=16`)).status, 200);
    const sound = await stored(alice, {}, Buffer.from(fixture('sound.mp3')), 'sound.mp3');
    const played = await share(alice, { assetId: sound.id, allow: 'view' });
    assert.equal((await ask(`${played.url}/content`)).status, 200);
    assert.equal((await ask(`${played.url}/content?disposition=attachment`)).status, 403);
  });
});

describe('a share of several', () => {
  test('has them in their order, by pages, and no others', async () => {
    const assets = [await stored(), await stored(), await stored()].map(({ id }) => id);
    const foreign = (await stored()).id;
    const order = [assets[2], assets[0], assets[1]];
    const { url, id } = await share(alice, { assetIds: order });
    const first = await ask(`${url}?limit=2`);
    const names = ({ body }: typeof first) => (body['assets'] as { id: string }[]).map((each) => each.id);
    assert.deepEqual(names(first), order.slice(0, 2));
    assert.equal(first.body['archivePath'], `/s/${url.split('/').at(-1)}/archive`);
    const second = await ask(service.url + first.body['nextPath']);
    assert.deepEqual([names(second), second.body['nextPath']], [order.slice(2), undefined]);
    assert.equal((await ask(`${url}/assets/${assets[1]}/content`)).status, 200);
    for (const path of [`${url}/assets/${foreign}/content`, `${url}/assets/${randomUUID()}/content`, `${url}/content`])
      assert.deepEqual(await seen(path), await seen(`${service.url}/s/AAAAAAAAAAAAAAAAAAAAAA/content`));
    assert.deepEqual((await shareOf(alice, id)).assetIds, order);
    assert.equal((await ask(`${url}?cursor=forged`)).status, 400);
    const { status, body } = await alice.send('POST', '/v1/shares', { assetIds: [assets[0], randomUUID()] });
    assert.deepEqual([status, body.errors?.[0]?.pointer], [404, '/assetIds/1']);
  });

  test('is one archive, which counts as one download and cannot be had of a share for looking', async () => {
    const assets = [await stored(), await stored()].map(({ id }) => id);
    const { url, id } = await share(alice, { assetIds: assets, maxDownloads: 1, label: 'Holiday' });
    const head = await ask(`${url}/archive`, { method: 'HEAD' });
    const range = (from: number, to: number) => ask(`${url}/archive`, { headers: { range: `bytes=${from}-${to}` } });
    const length = Number(head.headers.get('content-length'));
    const parts = [await range(0, 99), await range(100, length - 1)];
    assert.deepEqual(
      parts.map(({ status }) => status),
      [206, 206],
    );
    const zip = Buffer.concat(parts.map(({ bytes }) => bytes));
    assert.deepEqual([zip.length, zip.indexOf(png()) > 0], [length, true]);
    assert.match(head.headers.get('content-disposition') ?? '', /filename="Holiday.zip"/);
    assert.equal((await shareOf(alice, id)).downloads, 1);
    assert.equal((await alice.get(`/v1/assets/${assets[1]}`)).body.downloadCount, 1);
    await unknownSoon(url);
    const whole = await seen(`${url}/archive`, { headers: { 'user-agent': 'another' } });
    assert.deepEqual(whole, await seen(`${service.url}/s/${'A'.repeat(22)}/archive`));
    const looked = await share(alice, { assetIds: assets, allow: 'view' });
    assert.equal((await ask(`${looked.url}/archive`)).status, 403);
    const { id: projectId, manager } = await team();
    await stored(manager, { projectId });
    const all = await share(manager, { projectId });
    assert.equal((await ask(`${all.url}/archive`)).status, 200);
    assert.equal((await ask(`${(await share(alice, { assetId: assets[0] })).url}/archive`)).status, 404);
  });

  test('of a project has what is in it, also later, as whoever made it sees it', async () => {
    const { id: projectId, manager, editor } = await team();
    const [one, two] = [await stored(manager, { projectId }), await stored(editor, { projectId })];
    const { url } = await share(editor, { projectId });
    const names = async (at: string) => ((await ask(at)).body['assets'] as { id: string }[]).map(({ id }) => id);
    assert.deepEqual(await names(url), [two.id, one.id]);
    const three = await stored(manager, { projectId });
    assert.deepEqual(await names(`${url}?limit=1`), [three.id]);
    const next = String((await ask(`${url}?limit=1`)).body['nextPath']);
    assert.deepEqual(await names(service.url + next), [two.id]);
    assert.equal((await ask(`${url}/assets/${three.id}/content`)).status, 200);
    await manager.send('PATCH', `/v1/projects/${projectId}`, { separate: true });
    await waitUntil(async () => (await names(url)).length === 1);
    assert.deepEqual(await names(url), [two.id], 'his own, where each sees only his own');
    assert.equal((await ask(`${url}/assets/${three.id}/content`)).status, 404);
  });
});

describe('what whoever made a share may not read any more', () => {
  test('is unknown to strangers, and told to him', async () => {
    const { id: projectId, manager, editor, join, leave } = await team();
    const asset = await stored(manager, { projectId });
    const shares = [
      await share(editor, { assetId: asset.id }),
      await share(editor, { assetIds: [asset.id] }),
      await share(editor, { projectId }),
    ];
    const all = (isThere: boolean) =>
      waitUntil(async () => {
        const statuses = await Promise.all(shares.map(async ({ url }) => (await ask(url)).status));
        return statuses.every((status) => status === (isThere ? 200 : 404));
      });
    await all(true);
    await leave();
    await all(false);
    for (const { id } of shares) assert.equal((await shareOf(editor, id)).state, 'unavailable');
    await join('viewer');
    await all(true);
    const [one, several] = shares;
    assert.equal((await manager.request('DELETE', `/v1/assets/${asset.id}`)).status, 204);
    for (const made of [one, several]) await unknownSoon(made?.url ?? '');
    assert.equal((await shareOf(editor, one?.id ?? '')).state, 'unavailable');
    assert.equal((await manager.request('POST', `/v1/assets/${asset.id}/restore`)).status, 200);
    await all(true);
    assert.equal((await manager.send('PATCH', `/v1/assets/${asset.id}`, { projectId: null })).status, 200);
    for (const made of [one, several]) await unknownSoon(made?.url ?? '');
  });

  test('is gone with the last of its assets', async () => {
    const asset = await stored();
    const { id, url } = await share(alice, { assetId: asset.id });
    await alice.request('DELETE', `/v1/assets/${asset.id}?permanent=true`);
    await unknownSoon(url);
    await waitUntil(async () => (await service.query('select from assets where id = $1', [asset.id])).length === 0);
    await removeEndedShares(service.database.database, new AbortController().signal);
    assert.equal((await alice.get(`/v1/shares/${id}`)).status, 404);
  });

  test('of an administrator with a reason cannot be shared: a share is for longer', async () => {
    const foreign = await stored(new Client(service.url, 'somebody'));
    const { status } = await alice.send('POST', '/v1/shares', { assetId: foreign.id }, { 'stowage-reason': 'claim 7' });
    assert.equal(status, 404);
  });
});

describe('a share that has ended', () => {
  test('looks to strangers like one that never was, and not to whoever made it', async () => {
    const { id: projectId, manager, editor, leave } = await team();
    const asset = await stored(manager, { projectId });
    const make = (terms: object = {}, by = editor) => share(by, { assetId: asset.id, ...terms });
    const [revoked, expired, usedUp, lost] = [
      await make(),
      await make(),
      await make({ maxDownloads: 1 }),
      await make(),
    ];
    const locked = await make({ password: 'secret' });
    assert.equal((await ask(`${usedUp.url}/content`)).status, 200);
    await editor.request('DELETE', `/v1/shares/${revoked.id}`);
    await editor.request('DELETE', `/v1/shares/${locked.id}`);
    await service.query("update shares set expires_at = now() - interval '1 second' where id = $1", [expired.id]);
    const states = async () =>
      Promise.all([revoked, expired, usedUp].map(async ({ id }) => (await shareOf(editor, id)).state));
    assert.deepEqual(await states(), ['revoked', 'expired', 'used-up']);
    await leave();
    assert.equal((await shareOf(editor, lost.id)).state, 'unavailable');
    const ended = [revoked, expired, usedUp, lost, locked];
    for (const { url } of ended) await unknownSoon(url);
    const never = `${service.url}/s/${'A'.repeat(22)}`;
    const rests = [
      '',
      '/archive',
      `/assets/${asset.id}`,
      '/content',
      `/assets/${asset.id}/content`,
      `/assets/${asset.id}/image?width=16`,
      `/assets/${asset.id}/derivatives/thumbnail`,
    ];
    // Another program than that which has begun the one download.
    const headers = { 'user-agent': 'a stranger' };
    for (const rest of rests) {
      const unknown = await seen(never + rest, { headers });
      assert.equal(unknown.status, 404);
      for (const { url } of ended) {
        assert.deepEqual(await seen(url + rest, { headers }), unknown, rest);
        assert.deepEqual(await seen(url + rest, { method: 'HEAD' }), await seen(never + rest, { method: 'HEAD' }));
      }
      const unlock = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"password":"secret"}' };
      if (rest === '')
        for (const { url } of ended)
          assert.deepEqual(await seen(`${url}/unlock`, unlock), await seen(`${never}/unlock`, unlock));
    }
    for (const odd of ['x', 'A'.repeat(21), 'A'.repeat(23), `${'A'.repeat(21)}B`, '%00', 'é'])
      assert.equal((await ask(`${service.url}/s/${odd}/content`)).status, 404, odd);
  });

  test('by the last download answers whoever comes too late as one that never was', async () => {
    const { url } = await share(alice, { assetId: (await stored()).id, maxDownloads: 1 });
    const unknown = await seen(`${service.url}/s/${'A'.repeat(22)}/content`);
    // All of them find the share before it is used up.
    const answers = await Promise.all(Array.from({ length: 8 }, () => seen(`${url}/content`)));
    assert.equal(answers.filter(({ status }) => status === 200).length, 1);
    for (const answer of answers.filter(({ status }) => status !== 200)) assert.deepEqual(answer, unknown);
  });

  test('stays in the list for a week, and cannot be brought back when it was revoked', async () => {
    const { id } = await share(alice, { assetId: (await stored()).id });
    await alice.request('DELETE', `/v1/shares/${id}`);
    assert.equal((await alice.request('DELETE', `/v1/shares/${id}`)).status, 204);
    assert.equal((await alice.send('PATCH', `/v1/shares/${id}`, { label: 'x' })).status, 409);
    const signal = new AbortController().signal;
    await removeEndedShares(service.database.database, signal);
    assert.equal((await shareOf(alice, id)).state, 'revoked');
    await service.query("update shares set revoked_at = now() - interval '8 days' where id = $1", [id]);
    await removeEndedShares(service.database.database, signal);
    assert.equal((await alice.get(`/v1/shares/${id}`)).status, 404);
    const audit = await service.query<{ action: string }>(
      "select action from audit_events where detail ->> 'shareId' = $1 order by action",
      [id],
    );
    assert.deepEqual(
      audit.map(({ action }) => action),
      ['share.created', 'share.revoked'],
      'one row for each change',
    );
  });

  test('may be given more time and more downloads', async () => {
    const { id, url } = await share(alice, { assetId: (await stored()).id, maxDownloads: 1, expiresIn: 600 });
    await ask(`${url}/content`);
    await unknownSoon(url);
    const { status, body } = await alice.send('PATCH', `/v1/shares/${id}`, {
      maxDownloads: 2,
      expiresIn: null,
      label: 'Again',
    });
    assert.deepEqual([status, body['state'], body['expiresAt']], [200, 'active', undefined]);
    await waitUntil(async () => (await ask(url)).status === 200);
    assert.equal((await ask(`${url}/content`)).status, 200);
  });
});

describe('a password', () => {
  const unlock = (url: string, password: string, form = false) =>
    ask(`${url}/unlock`, {
      method: 'POST',
      headers: { 'content-type': form ? 'application/x-www-form-urlencoded' : 'application/json' },
      body: form ? new URLSearchParams({ password }).toString() : JSON.stringify({ password }),
    });
  const passOf = ({ headers }: { headers: Headers }) => (headers.get('set-cookie') ?? '').split(';')[0] ?? '';

  test('is needed for everything, by a form, by JSON, or with each request', async () => {
    const asset = await stored();
    const { url, id, token } = await share(alice, { assetId: asset.id, password: 'Grüße', label: 'Hidden' });
    for (const rest of ['', '/content', `/assets/${asset.id}/image?width=16`]) {
      const { status, body, headers } = await ask(url + rest);
      assert.deepEqual([status, body['type']], [401, 'urn:stowage:problem:share-password-needed']);
      assert.ok(!JSON.stringify(body).includes('Hidden') && headers.get('www-authenticate')?.startsWith('Basic '));
      assert.equal((await ask(url + rest, { headers: basic('Grüße') })).status, 200);
    }
    const opened = await unlock(url, 'Grüße', true);
    assert.match(
      opened.headers.get('set-cookie') ?? '',
      new RegExp(`; Path=/s/${token}; Max-Age=\\d+; HttpOnly; SameSite=Lax$`),
    );
    const cookie = passOf(opened);
    for (const at of [service, other])
      assert.equal((await ask(`${at.url}/s/${token}/content`, { headers: { cookie } })).status, 200);
    assert.equal((await unlock(url, 'Grüße')).status, 200);
    assert.equal((await unlock(url, 'wrong')).status, 401);
    const another = await share(alice, { assetId: asset.id, password: 'Grüße' });
    assert.equal((await ask(another.url, { headers: { cookie } })).status, 401, 'it opens this share alone');
    const [name, value = ''] = cookie.split('=');
    const [end, signature] = value.split('.');
    for (const forged of [`${Number(end) + 1}.${signature}`, `${end}.${'A'.repeat(22)}`, `1.${signature}`])
      assert.equal((await ask(url, { headers: { cookie: `${name}=${forged}` } })).status, 401);
    assert.equal((await alice.send('PATCH', `/v1/shares/${id}`, { password: 'another' })).status, 200);
    await waitUntil(async () => (await ask(url, { headers: { cookie } })).status === 401);
    assert.equal((await ask(url, { headers: basic('Grüße') })).status, 401);
    assert.equal((await alice.send('PATCH', `/v1/shares/${id}`, { password: null })).status, 200);
    await waitUntil(async () => (await ask(url)).status === 200);
    const rows = await service.query<{ text: string }>(
      "select detail::text as text from audit_events where detail ->> 'shareId' = $1",
      [id],
    );
    assert.ok(rows.length === 3 && rows.every(({ text }) => !/Grüße|another/.test(text)));
  });

  test('can be tried so many times, exactly, over all instances; right ones do not count', async () => {
    const { token } = await share(alice, { assetId: (await stored()).id, password: 'secret' });
    const at = (index: number) => `${(index % 2 ? service : other).url}/s/${token}`;
    for (let index = 0; index < TRIES + 2; index++) assert.equal((await unlock(at(index), 'secret')).status, 200);
    const answers = await Promise.all(Array.from({ length: 30 }, (_, index) => unlock(at(index), `wrong ${index}`)));
    const refused = answers.filter(({ status }) => status === 429);
    assert.deepEqual([answers.filter(({ status }) => status === 401).length, refused.length], [TRIES, 30 - TRIES]);
    assert.ok(refused.every(({ headers }) => Number(headers.get('retry-after')) > 60));
    const [{ rows = 0 } = {}] = await service.query<{ rows: number }>(
      'select sum(tries)::integer as rows from share_tries',
    );
    assert.ok(rows >= 2 * TRIES, 'counted for the address and for all');
    await service.query('delete from share_tries');
    assert.equal((await unlock(at(0), 'secret')).status, 200);
  });

  test('is no longer than anybody types: what is sent is hashed', async () => {
    const { url } = await share(alice, { assetId: (await stored()).id, password: 'secret' });
    assert.equal((await unlock(url, 'x'.repeat(257))).status, 400);
    assert.equal(
      (await alice.send('POST', '/v1/shares', { assetId: randomUUID(), password: 'x'.repeat(257) })).status,
      400,
    );
  });
});

describe('whoever shares', () => {
  test('is refused what is not meant', async () => {
    const assetId = (await stored()).id;
    const wrong: [object, string][] = [
      [{}, '/assetId'],
      [{ assetId, projectId: 'x' }, '/assetId'],
      [{ assetIds: [] }, '/assetIds'],
      [{ assetIds: [assetId, assetId] }, '/assetIds'],
      [{ assetIds: Array.from({ length: 1001 }, () => randomUUID()) }, '/assetIds'],
      [{ assetId, expiresIn: 0 }, '/expiresIn'],
      [{ assetId, maxDownloads: 0 }, '/maxDownloads'],
      [{ assetId, label: 'a\nb' }, '/label'],
      [{ assetId, label: 'x'.repeat(201) }, '/label'],
      [{ assetId, note: 'x'.repeat(1001) }, '/note'],
      [{ assetId, allow: 'edit' }, '/allow'],
      [{ assetId, password: '' }, '/password'],
    ];
    for (const [terms, pointer] of wrong) {
      const { status, body } = await alice.send('POST', '/v1/shares', terms);
      assert.deepEqual([status, body.errors?.[0]?.pointer], [400, pointer], JSON.stringify(terms).slice(0, 80));
    }
    await alice.request('DELETE', `/v1/assets/${assetId}`);
    assert.equal((await alice.send('POST', '/v1/shares', { assetId })).status, 409);
  });

  test('has so many shares, of an asset and in all', async () => {
    const carol = new Client(service.url, 'carol');
    const first = await stored(carol);
    const create = (assetId: string) => carol.send('POST', '/v1/shares', { assetId });
    for (let index = 0; index < 5; index++) assert.equal((await create(first.id)).status, 201);
    assert.equal((await create(first.id)).body.type, 'urn:stowage:problem:too-many-shares');
    await service.query(
      `insert into shares (id, created_by, digest, key_since, target, allow)
       select gen_random_uuid(), 'carol', sha256(uuid_send(gen_random_uuid())), 0, 'assets', 'view' from generate_series(1, 50)`,
    );
    const second = await stored(carol);
    const third = await stored(carol);
    const answers = await Promise.all(
      [second, second, second, second, third, third, third, third].map(({ id }) => create(id)),
    );
    assert.equal(answers.filter(({ status }) => status === 201).length, 5, 'as many as there was room for');
    assert.equal((await create(third.id)).body.type, 'urn:stowage:problem:too-many-shares');
  });

  test('is answered again under an Idempotency-Key, without the address', async () => {
    const assetId = (await stored()).id;
    const headers = { 'idempotency-key': randomUUID() };
    const create = () => alice.send('POST', '/v1/shares', { assetId }, headers);
    const [first, again] = [await create(), await create()];
    const { url, ...others } = Object(first.body);
    assert.ok(url);
    assert.deepEqual([again.status, again.body], [201, others]);
    assert.equal((await shareOf(alice, first.body.id)).url, url);
  });

  test('is overseen by who manages what is shared: he sees that it is, and ends it', async () => {
    const { id: projectId, manager, editor } = await team();
    const asset = await stored(editor, { projectId });
    const shares = [await share(editor, { assetId: asset.id, note: 'mine' }), await share(editor, { projectId })];
    for (const [index, query] of [`assetId=${asset.id}`, `projectId=${projectId}`].entries()) {
      const { body } = await manager.get(`/v1/shares?${query}`);
      const [told] = body.data as unknown as Record<string, unknown>[];
      assert.deepEqual(
        [body.data.length, told?.['id'], told?.['url'], told?.['note']],
        [1, shares[index]?.id, undefined, undefined],
      );
    }
    assert.deepEqual((await manager.get('/v1/shares')).body.data, [], 'his own are others');
    const viewer = new Client(service.url, `viewer-${projectId}`);
    await manager.send('PUT', `/v1/projects/${projectId}/members/viewer-${projectId}`, { role: 'viewer' });
    assert.deepEqual((await viewer.get(`/v1/shares?assetId=${asset.id}`)).body.data, []);
    const [first] = shares;
    assert.equal((await manager.request('DELETE', `/v1/shares/${first?.id}`)).status, 204);
    await unknownSoon(first?.url ?? '');
    const history = await editor.get(`/v1/assets/${asset.id}/history`);
    assert.deepEqual(
      (history.body.data as unknown as { action: string }[])
        .map(({ action }) => action)
        .filter((action) => action.startsWith('share')),
      ['share.revoked', 'share.created'],
    );
  });

  test('has no more counted by a flood of one address than an address may ask for, whatever it calls itself', async () => {
    const env = { PUBLIC_REQUESTS_PER_MINUTE: '5' };
    const flooded = await startService({ beside: service, env });
    try {
      const { id, token } = await share(alice, { assetId: (await stored()).id });
      const answers = await Promise.all(
        Array.from({ length: 40 }, (_, index) =>
          ask(`${flooded.url}/s/${token}/content`, {
            headers: {
              range: 'bytes=0-3',
              'user-agent': `player ${index}`,
              cookie: `stowage-visit=${String(index).padStart(22, 'a')}`,
            },
          }),
        ),
      );
      const countOf = (wanted: number) => answers.filter(({ status }) => status === wanted).length;
      assert.deepEqual([countOf(206), countOf(429)], [5, 35]);
      const rows = await service.query('select from share_visits where share_id = $1', [id]);
      assert.deepEqual([rows.length, (await shareOf(alice, id)).downloads], [5, 5]);
      const strangers = await Promise.all(Array.from({ length: 40 }, () => ask(`${flooded.url}/s/${'a'.repeat(22)}`)));
      assert.ok(strangers.every(({ status }) => status === 429));
    } finally {
      await flooded.close();
    }
  });

  test('sees what was added up, and what was not yet', async () => {
    const { id, url } = await share(alice, { assetId: (await stored()).id });
    const counted = async () => (await shareOf(alice, id)).downloads;
    await ask(`${url}/content`);
    await foldShareMarks(service.database, new AbortController().signal);
    await ask(`${url}/content`);
    assert.equal(await counted(), 2);
    assert.equal((await alice.send('PATCH', `/v1/shares/${id}`, { maxDownloads: 3 })).status, 200);
    await waitUntil(
      async () => (await service.query('select from share_marks where share_id = $1', [id])).length === 0,
    );
    const statuses = [];
    for (let index = 0; index < 3; index++) statuses.push((await ask(`${url}/content`)).status);
    assert.deepEqual([statuses, await counted()], [[200, 404, 404], 3]);
  });
});
