/** API keys: made, used, limited, spoken with for others, and revoked, on two instances. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { kindOfSecret, makeSecret } from '../../src/access/credential-secret.ts';
import { makeKey as makeByCommand, revokeKey, type WantedKey } from '../../src/keys/command.ts';
import { Client, SECRET } from '../support/client.ts';
import { png } from '../support/files.ts';
import { spawnService } from '../support/processes.ts';
import { letInLate } from '../support/revoked.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

let service: TestService;
let other: TestService;
before(async () => {
  const env = { AUTH_JWT_SECRET: SECRET, REFUSALS_PER_MINUTE: '20' };
  service = await startService({ env });
  other = await startService({ beside: service, env });
});
after(async () => {
  await other.close();
  await service.close();
});

class BearerClient extends Client {
  constructor(bearer: string, headers: Record<string, string> = {}, at = service) {
    super(at.url);
    delete this.headers['x-user-id'];
    Object.assign(this.headers, { authorization: `Bearer ${bearer}`, ...headers });
  }
}

async function tokenOf(user: string, scope?: string): Promise<BearerClient> {
  const token = new SignJWT(scope === undefined ? {} : { scope }).setProtectedHeader({ alg: 'HS256' }).setSubject(user);
  return new BearerClient(await token.setExpirationTime('2h').sign(Buffer.from(SECRET)));
}

async function makeKey(client: Client, body: object, headers: Record<string, string> = {}) {
  const { status, body: made } = await client.send('POST', '/v1/keys', { name: 'a key', ...body }, headers);
  assert.equal(status, 201, JSON.stringify(made));
  return { id: made.id, secret: String(made['secret']) };
}

const auditOf = (text: string, ...values: unknown[]) =>
  service.query<{ actor_id: string; via: string | null; action: string }>(
    `select actor_id, via, action from audit_events where ${text} order by at`,
    values,
  );

describe('secrets', () => {
  test('have a prefix, 32 random bytes and check digits, so that a typo is known at once', () => {
    const seen = new Set<string>();
    for (let n = 0; n < 100; n++) {
      const { text } = makeSecret(n % 2 ? 'key' : 'ticket');
      assert.match(text, n % 2 ? /^stw_[0-9A-Za-z]{49}$/ : /^stt_[0-9A-Za-z]{49}$/);
      assert.equal(kindOfSecret(text), n % 2 ? 'key' : 'ticket');
      seen.add(text);
      for (let at = 0; at < text.length; at++) {
        const wrong = text.slice(0, at) + (text[at] === 'x' ? 'y' : 'x') + text.slice(at + 1);
        assert.equal(kindOfSecret(wrong), undefined, wrong);
      }
    }
    assert.equal(seen.size, 100);
  });
});

describe('API keys', () => {
  test('are shown once, and speak for their owner', async () => {
    const alice = await tokenOf('alice');
    const made = await alice.send('POST', '/v1/keys', { name: 'backend', scopes: ['assets:read', 'assets:write'] });
    assert.equal(made.status, 201);
    const { secret, ...shown } = made.body;
    assert.equal(made.headers.get('location'), `/v1/keys/${shown.id}`);
    assert.equal(kindOfSecret(String(secret)), 'key');
    assert.deepEqual((await alice.get(`/v1/keys/${shown.id}`)).body, shown);
    const server = new BearerClient(String(secret));
    const { body: asset, status } = await server.raw(png());
    assert.equal(status, 201);
    assert.equal((await alice.get(`/v1/assets/${asset.id}`)).status, 200);
    assert.deepEqual(await auditOf('asset_id = $1', asset.id), [
      { actor_id: 'alice', via: `key:${shown.id}`, action: 'asset.uploaded' },
    ]);
    const [{ kept = '' } = {}] = await service.query<{ kept: string }>(
      'select string_agg(api_keys::text, $1) as kept from api_keys',
      [' '],
    );
    assert.ok(!kept.includes(String(secret).slice(4, 40)));
    const used = await waitUntil(async () => (await alice.get(`/v1/keys/${shown.id}`)).body['lastUsedAt']);
    assert.match(String(used), /:00:00\.000Z$/);
  });

  test('may do nothing beyond their scopes, and give none that their maker has not', async () => {
    const alice = await tokenOf('alice');
    const reader = new BearerClient((await makeKey(alice, { scopes: ['assets:read'] })).secret);
    assert.equal((await reader.get('/v1/assets')).status, 200);
    assert.equal((await reader.raw(png())).body.type, 'urn:stowage:problem:missing-scope');
    assert.equal((await reader.get('/v1/keys')).status, 403);
    const maker = new BearerClient((await makeKey(alice, { scopes: ['keys', 'assets:read'] })).secret);
    for (const scopes of [['assets:write'], ['assets:read', 'admin'], ['act-for'], ['admin'], ['keys', 'audit']]) {
      const refused = await maker.send('POST', '/v1/keys', { name: 'more', scopes });
      assert.equal(refused.status, 403, scopes.join());
      assert.equal(refused.body.type, 'urn:stowage:problem:forbidden');
    }
    await makeKey(maker, { scopes: ['assets:read'] });
    for (const scopes of [['act-for'], ['admin'], ['audit']])
      assert.equal((await alice.send('POST', '/v1/keys', { name: 'more', scopes })).status, 403, scopes.join());
  });

  test('bad requests are told by field', async () => {
    const alice = await tokenOf('alice', 'admin');
    const bad: [object, string][] = [
      [{ scopes: ['assets:read'] }, '/name'],
      [{ name: 'x', scopes: [] }, '/scopes'],
      [{ name: 'x', scopes: ['assets:all'] }, '/scopes/0'],
      [{ name: 'x', scopes: ['assets:read', 'assets:read'] }, '/scopes'],
      [{ name: 'x', scopes: ['assets:read', 'keys'], projects: ['p'] }, '/scopes/1'],
      [{ name: 'x', scopes: ['assets:read'], projects: ['../p'] }, '/projects/0'],
      [{ name: 'x', scopes: ['assets:read'], expiresIn: 1 }, '/expiresIn'],
      [{ name: 'x', scopes: ['assets:read'], more: true }, '/more'],
    ];
    for (const [body, pointer] of bad) {
      const answer = await alice.send('POST', '/v1/keys', body);
      assert.equal(answer.status, 400, pointer);
      assert.equal(answer.body.errors?.[0]?.pointer, pointer);
    }
  });

  test('of projects reach those and nothing else', async () => {
    const carol = await tokenOf('carol');
    for (const projectId of ['website', 'shop', undefined])
      assert.equal((await carol.raw(png(), { fields: projectId === undefined ? {} : { projectId } })).status, 201);
    const { secret } = await makeKey(carol, { scopes: ['assets:read', 'assets:write'], projects: ['website'] });
    const server = new BearerClient(secret);
    const { body } = await server.get('/v1/assets');
    assert.deepEqual(
      body.data.map(({ projectId }) => projectId),
      ['website'],
    );
    assert.equal((await server.raw(png(), { fields: { projectId: 'website' } })).status, 201);
    assert.equal((await server.raw(png(), { fields: { projectId: 'shop' } })).status, 404);
    assert.equal((await server.raw(png(), { fields: { projectId: 'new-one' } })).status, 404);
    assert.equal((await server.raw(png())).status, 403);
    assert.equal((await server.get('/v1/quota')).status, 403);
    assert.equal((await server.get('/v1/statistics')).status, 403);
  });

  test('revoked on one instance, are refused on all within a second; a second key goes on', async () => {
    const dora = await tokenOf('dora');
    const [old, next] = [await makeKey(dora, { scopes: ['keys'] }), await makeKey(dora, { scopes: ['keys'] })];
    const statusOf = async ({ secret }: { secret: string }, at: TestService) =>
      (await new BearerClient(secret, {}, at).get('/v1/keys')).status;
    for (const at of [service, other]) for (const key of [old, next]) assert.equal(await statusOf(key, at), 200);
    assert.equal((await dora.request('DELETE', `/v1/keys/${old.id}`)).status, 204);
    // Asked all the time, so that what is remembered would be kept fresh.
    const late = await letInLate([service, other], async (at) => (await statusOf(old, at)) === 200);
    assert.deepEqual(late, []);
    assert.equal(await statusOf(next, service), 200);
    assert.equal(await statusOf(next, other), 200);
    const foreign = await dora.request('DELETE', `/v1/keys/${old.id}`);
    const unknown = await dora.request('DELETE', '/v1/keys/019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1');
    const { requestId: _one, ...first } = foreign.body;
    const { requestId: _two, ...second } = unknown.body;
    assert.deepEqual([foreign.status, first], [404, second]);
    assert.deepEqual(
      (await auditOf(`detail ->> 'keyId' = $1`, old.id)).map(({ action }) => action),
      ['key.created', 'key.revoked'],
    );
  });

  test('end when they expire', async () => {
    const erin = await tokenOf('erin');
    const { id, secret } = await makeKey(erin, { scopes: ['assets:read'], expiresIn: 60 });
    const server = new BearerClient(secret);
    assert.equal((await server.get('/v1/assets')).status, 200);
    await service.query("update api_keys set expires_at = now() - interval '1 second' where id = $1", [id]);
    await waitUntil(async () => (await server.get('/v1/assets')).status === 401);
  });

  test('are listed by pages, and only to their owner', async () => {
    const frank = await tokenOf('frank');
    const made = [];
    for (let n = 0; n < 3; n++) made.unshift((await makeKey(frank, { scopes: ['assets:read'] })).id);
    const first = await frank.get('/v1/keys?limit=2');
    assert.match(first.headers.get('link') ?? '', /^<\/v1\/keys\?limit=2&cursor=.+>; rel="next"$/);
    const second = await frank.get(`/v1/keys?limit=2&cursor=${first.body.page.nextCursor}`);
    assert.equal(second.body.page.hasMore, false);
    assert.deepEqual(
      [...first.body.data, ...second.body.data].map(({ id }) => id),
      made,
    );
    const grace = await tokenOf('grace');
    assert.deepEqual((await grace.get('/v1/keys')).body.data, []);
    assert.equal((await grace.get(`/v1/keys/${made[0]}`)).status, 404);
    assert.equal((await grace.request('DELETE', `/v1/keys/${made[0]}`)).status, 404);
  });

  test('are bounded per owner, however many are asked for at once', async () => {
    const heidi = await tokenOf('heidi');
    await service.query(
      `insert into api_keys (id, owner_id, name, digest, scopes)
        select gen_random_uuid(), 'heidi', 'many', sha256(n::text::bytea), '{assets:read}' from generate_series(1, 99) n`,
    );
    const ask = (at: TestService) => {
      const { authorization = '' } = heidi.headers;
      const client = new BearerClient(authorization.slice('Bearer '.length), {}, at);
      return client.send('POST', '/v1/keys', { name: 'the last', scopes: ['assets:read'] });
    };
    const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => ask(n % 2 ? service : other)));
    assert.equal(answers.filter(({ status }) => status === 201).length, 1);
    assert.equal(answers.filter(({ status }) => status === 403).length, 39);
  });

  test('are counted one after the other: who makes another at the same moment waits, and is told', async (context) => {
    const kim = await tokenOf('kim');
    const row = `select gen_random_uuid(), 'kim', 'many', sha256(('kim' || n)::bytea), '{assets:read}'`;
    const columns = 'api_keys (id, owner_id, name, digest, scopes)';
    await service.query(`insert into ${columns} ${row} from generate_series(1, 99) n`);
    const first = await service.database.pool.connect();
    context.after(() => first.release(true));
    await first.query('begin');
    await first.query("select pg_advisory_xact_lock(hashtextextended('kim', 12))");
    await first.query(`insert into ${columns} ${row} from generate_series(100, 100) n`);
    let isAnswered = false;
    const second = kim.send('POST', '/v1/keys', { name: 'the last', scopes: ['assets:read'] }).finally(() => {
      isAnswered = true;
    });
    const waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted";
    await waitUntil(async () => isAnswered || (await service.query(waiting)).length > 0);
    await first.query('commit');
    assert.equal((await second).status, 403);
  });

  test('asked for again under an Idempotency-Key, there is one, and its secret was kept nowhere', async () => {
    const ivan = await tokenOf('ivan');
    const ask = () =>
      ivan.send('POST', '/v1/keys', { name: 'once', scopes: ['assets:read'] }, { 'idempotency-key': 'k1' });
    const [first, second] = [await ask(), await ask()];
    assert.equal(second.status, 201);
    assert.equal(second.headers.get('idempotency-replayed'), 'true');
    const { secret, ...shown } = first.body;
    assert.deepEqual(second.body, shown);
    const rows = await service.query('select 1 from idempotency_keys where body like $1', [`%${String(secret)}%`]);
    assert.deepEqual(rows, []);
  });

  test('answers of one credential are not those of another of the same subject', async () => {
    const judy = await tokenOf('judy');
    const { secret } = await makeKey(judy, { scopes: ['assets:write'] });
    const header = { 'idempotency-key': 'the-same' };
    const own = await judy.raw(png(), { headers: header });
    const byKey = await new BearerClient(secret).raw(png(), { headers: header });
    assert.equal(byKey.status, 201);
    assert.notEqual(byKey.body.id, own.body.id);
    assert.equal(byKey.headers.get('idempotency-replayed'), null);
  });
});

describe('speaking for others', () => {
  test('a key with act-for makes the subject the caller, and the audit trail names both', async () => {
    const admin = await tokenOf('backend', 'act-for');
    const { id, secret } = await makeKey(admin, { scopes: ['act-for'] });
    const forUser = new BearerClient(secret, { 'stowage-subject': 'user-123' });
    const { body: asset, status } = await forUser.raw(png());
    assert.equal(status, 201);
    assert.deepEqual(await auditOf('asset_id = $1', asset.id), [
      { actor_id: 'user-123', via: `key:${id}`, action: 'asset.uploaded' },
    ]);
    assert.equal((await forUser.get(`/v1/assets/${asset.id}`)).status, 200);
    assert.equal((await (await tokenOf('user-123')).get(`/v1/assets/${asset.id}`)).status, 200);
    for (const nobody of [new BearerClient(secret), new BearerClient(secret, { 'stowage-subject': 'user-124' })])
      assert.equal((await nobody.get(`/v1/assets/${asset.id}`)).status, 404);
    // Whoever is spoken for speaks for nobody, and administers nothing.
    assert.equal((await forUser.get('/v1/admin/jobs')).status, 403);
    assert.equal((await forUser.send('POST', '/v1/keys', { name: 'x', scopes: ['act-for'] })).status, 403);
  });

  test('needs the scope; with admin only where the key has both', async () => {
    const alice = await tokenOf('alice');
    const { secret } = await makeKey(alice, { scopes: ['assets:read'] });
    const refused = await new BearerClient(secret, { 'stowage-subject': 'bob' }).get('/v1/assets');
    assert.equal(refused.status, 403);
    assert.equal(refused.body.type, 'urn:stowage:problem:missing-scope');
    assert.equal((await alice.get('/v1/assets', { 'stowage-subject': 'bob' })).status, 403);
    const both = await tokenOf('root', 'act-for admin');
    const one = await makeKey(both, { scopes: ['act-for', 'assets:read'] });
    const two = await makeKey(both, { scopes: ['act-for', 'admin'] });
    const header = { 'stowage-subject': 'bob' };
    assert.equal((await new BearerClient(one.secret, header).get('/v1/admin/jobs')).status, 403);
    assert.equal((await new BearerClient(one.secret, header).get('/v1/assets')).status, 200);
    assert.equal((await new BearerClient(one.secret, header).raw(png())).status, 403);
    assert.equal((await new BearerClient(two.secret, header).get('/v1/admin/jobs')).status, 200);
  });

  test('a subject that nobody can have is refused', async () => {
    const { secret } = await makeKey(await tokenOf('backend', 'act-for'), { scopes: ['act-for'] });
    for (const subject of ['', 'a'.repeat(256), 'b\u0085c', '\u00ff'])
      assert.equal(
        (await new BearerClient(secret, { 'stowage-subject': subject }).get('/v1/assets')).status,
        400,
        subject,
      );
    const umlaut = Buffer.from('Jürgen').toString('latin1');
    const server = new BearerClient(secret, { 'stowage-subject': umlaut });
    const { body } = await server.raw(png());
    assert.deepEqual(await service.query('select owner_id from assets where id = $1', [body.id]), [
      { owner_id: 'Jürgen' },
    ]);
  });
});

describe('npm run key', () => {
  const script = new URL('../../scripts/key.ts', import.meta.url).pathname;
  const runKey = async (...args: string[]) => {
    const env = { ...service.place, DATABASE_URL: service.databaseUrl, AUTH_JWT_SECRET: SECRET };
    const { exit, output } = spawnService(env, script, args);
    return { code: await exit, output: output() };
  };

  test('makes the first key, whose backend gives out tickets for its users; and revokes it', async () => {
    const { code, output } = await runKey('--name', 'backend', '--scope', 'act-for');
    assert.equal(code, 0, output);
    const [secret = ''] = /stw_[0-9A-Za-z]{49}/.exec(output) ?? [];
    const [id = ''] = /[0-9a-f]{8}-[0-9a-f-]{27}/.exec(output) ?? [];
    assert.match(output, /of backend/);
    const backend = new BearerClient(secret);
    const ticket = await backend.send('POST', '/v1/tickets', { subject: 'user-9', expiresIn: 60 });
    assert.equal(ticket.status, 201, JSON.stringify(ticket.body));
    const { body } = await new BearerClient(String(ticket.body['token'])).raw(png());
    const forUser = new BearerClient(secret, { 'stowage-subject': 'user-9' });
    assert.equal((await forUser.get(`/v1/assets/${body.id}`)).status, 200);
    assert.deepEqual(await auditOf(`detail ->> 'keyId' = $1`, id), [
      { actor_id: 'stowage:operator', via: null, action: 'key.created' },
    ]);
    await assert.rejects(revokeKey(service.database, 'somebody', id), /there is no key/);
    await revokeKey(service.database, 'backend', id);
    await waitUntil(async () => (await backend.get('/v1/assets')).status === 401);
  });

  test('tells what is wrong with its arguments', async () => {
    const wrong: [Partial<WantedKey>, RegExp][] = [
      [{ scopes: ['act-for'] }, /^Error: --name is missing/],
      [{ name: 'x' }, /--scope is missing: it must be one of assets:read/],
      [{ name: 'x', scopes: ['all'] }, /--scope all must be one of/],
      [{ name: 'x', scopes: ['admin'], projects: ['p'] }, /--scope admin reaches beyond projects/],
      [{ name: 'x', scopes: ['admin'], expires: 'soon' }, /--expires must be a time/],
    ];
    for (const [wanted, expected] of wrong)
      await assert.rejects(makeByCommand(service.database, { scopes: [], projects: [], ...wanted }), expected);
  });
});

describe('secrets that are none', () => {
  test('are refused, counted by address, and asked of the database once; who is known goes on', async () => {
    const { secret } = await makeKey(await tokenOf('mallory'), { scopes: ['assets:read'] });
    const known = new BearerClient(secret, {}, other);
    assert.equal((await known.get('/v1/assets')).status, 200);
    const asked: string[] = [];
    const { database } = other.database;
    const { run } = database;
    database.run = (statement, values) => {
      asked.push(statement.name ?? '');
      return run(statement, values);
    };
    const unknown = new BearerClient(makeSecret('key').text, {}, other);
    const damaged = new BearerClient(`${makeSecret('key').text.slice(0, -1)}-`, {}, other);
    for (let n = 0; n < 5; n++) assert.equal((await unknown.get('/v1/assets')).status, 401);
    assert.equal((await damaged.get('/v1/assets')).status, 401);
    const asks = () => asked.filter((name) => name === 'find-key-by-digest').length;
    assert.equal(asks(), 1);
    const statuses = [];
    for (let n = 0; n < 25; n++) statuses.push((await unknown.get('/v1/assets')).status);
    assert.ok(statuses.includes(429));
    assert.equal(asks(), 1);
    // Also when he is not remembered any more, and has to be looked up.
    const answered = new Set<number>();
    await waitUntil(async () => {
      answered.add((await known.get('/v1/assets')).status);
      return asks() > 1 || answered.has(429);
    });
    assert.deepEqual([...answered], [200]);
    database.run = run;
  });
});
