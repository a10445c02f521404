/**
 * Tiers on two instances: who has which, what each limit answers, and that none is passed however many ask at once; and what
 * one caller may keep whatever tier he has.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { SignJWT } from 'jose';
import { type Answer, type AnyBody, Client, SECRET } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const tiers = {
  default: { quota: 3000, uploadsPerHour: 1000 },
  small: { maxFileSize: 1000, transcodes: 0, variantsPerMinute: 1 },
  short: { maxLinkTtl: 60, membersPerProject: 2 },
  few: { uploadsPerHour: 3 },
  busy: { uploadsPerHour: 7 },
  slow: { requestsPerMinute: 5 },
  tiny: { quota: 500 },
  rich: { quota: 1_000_000, requestsPerMinute: 0, uploadsPerHour: 0 },
};

const fixture = async (name: string) => new Uint8Array(await readFile(new URL(`../fixtures/${name}`, import.meta.url)));

let one: TestService;
let two: TestService;
before(async () => {
  const env = {
    AUTH_JWT_SECRET: SECRET,
    AUTH_TIER_CLAIM: 'https://example.com/tier',
    REQUESTS_PER_MINUTE: '0',
    UPLOADS_PER_CALLER: '64',
    UPLOADS_AT_ONCE: '64',
    UPLOAD_WAIT: '60s',
    MEMBERS_PER_CALLER: '5',
    TICKETS_PER_CALLER: '5',
  };
  one = await startService({ env, tiers });
  two = await startService({ env, tiers, beside: one });
});
after(async () => {
  await two.close();
  await one.close();
});

class Person extends Client {
  readonly subject: string;
  constructor(subject: string, authorization: string, at = one) {
    super(at.url);
    this.subject = subject;
    delete this.headers['x-user-id'];
    this.headers['authorization'] = authorization;
  }
  get elsewhere(): Person {
    return new Person(this.subject, this.headers['authorization'] ?? '', two);
  }
  tus(method: string, path: string, headers: Record<string, string>, body?: Uint8Array<ArrayBuffer>) {
    const type = body && { 'content-type': 'application/offset+octet-stream' };
    return this.request(method, `/v1/resumable${path}`, {
      headers: { 'tus-resumable': '1.0.0', ...type, ...headers },
      ...(body && { body }),
    });
  }
}

async function someone(tier?: string, scope?: string, subject = `user-${randomUUID()}`): Promise<Person> {
  const claims = {
    ...(scope !== undefined && { scope }),
    ...(tier !== undefined && { 'https://example.com/tier': tier }),
  };
  const token = new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).setSubject(subject).setExpirationTime('2h');
  return new Person(subject, `Bearer ${await token.sign(Buffer.from(SECRET))}`);
}

async function give(subject: string, tier?: string, headers: Record<string, string> = {}): Promise<Answer<AnyBody>> {
  const admin = await someone(undefined, 'admin', 'administrator');
  const path = `/v1/admin/owners/${encodeURIComponent(subject)}`;
  const answer = await admin.send('PUT', path, { ...(tier !== undefined && { tier }) }, headers);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return answer;
}

interface TierBody {
  name: string;
  givenBy: string;
  limits: Record<string, number>;
  left: Record<string, number | string>;
}
async function tierOf(person: Client): Promise<TierBody> {
  const { status, body } = await person.get('/v1/quota');
  assert.equal(status, 200, JSON.stringify(body));
  return body.tier as unknown as TierBody;
}

/** What a problem says of a tier. */
function said({ status, body }: Answer<AnyBody>): unknown[] {
  return [status, body.type.replace('urn:stowage:problem:', ''), body.limit, body.tier];
}

describe('who has which tier', () => {
  test('the token says, and who is named by none has the default', async () => {
    const [claimed, plain, unknown] = await Promise.all([someone('tiny'), someone(), someone('gold')]);
    const { name, givenBy, limits } = await tierOf(claimed);
    assert.deepEqual([name, givenBy, limits['quota'], limits['maxFileSize']], ['tiny', 'token', 500, 5 * 1024 ** 3]);
    assert.deepEqual([(await tierOf(plain)).name, (await tierOf(plain)).givenBy], ['default', 'default']);
    assert.deepEqual([(await tierOf(unknown)).name, (await tierOf(unknown.elsewhere)).name], ['default', 'default']);
    assert.equal(one.log.filter((line) => line.includes('the tier \\"gold')).length, 1);
  });

  test('what an administrator says counts for more, soon on every instance, until he takes it back', async () => {
    const person = await someone('rich');
    assert.deepEqual([(await tierOf(person)).name, (await tierOf(person.elsewhere)).name], ['rich', 'rich']);
    const { body } = await give(person.subject, 'tiny');
    assert.deepEqual([body['id'], body.tier, body['limit']], [person.subject, 'tiny', 500]);
    for (const at of [person, person.elsewhere]) await waitUntil(async () => (await tierOf(at)).name === 'tiny');
    assert.equal((await tierOf(person)).givenBy, 'administrator');
    assert.equal((await give(person.subject)).body.tier, undefined);
    await waitUntil(async () => (await tierOf(person.elsewhere)).name === 'rich');
  });

  test('each change has one audit row, with the reason; what changes nothing has none', async () => {
    const { subject } = await someone();
    await give(subject, 'tiny', { 'stowage-reason': 'paid' });
    await give(subject, 'tiny');
    await give(subject, 'rich');
    await give(subject);
    await give(subject);
    const rows = await one.query<{ action: string; actor_id: string; detail: object; reason: string | null }>(
      'select action, actor_id, detail, reason from audit_events where owner_id = $1 order by id',
      [subject],
    );
    const changed = { action: 'owner.tier-changed', actor_id: 'administrator', reason: null };
    assert.deepEqual(rows, [
      { ...changed, detail: { tier: 'tiny' }, reason: 'paid' },
      { ...changed, detail: { tier: 'rich', previousTier: 'tiny' } },
      { ...changed, detail: { previousTier: 'rich' } },
    ]);
  });

  test('who asks again under the same Idempotency-Key is answered again, and nothing is changed', async () => {
    const { subject } = await someone();
    const key = { 'idempotency-key': randomUUID() };
    const first = await give(subject, 'tiny', key);
    await give(subject, 'rich');
    assert.deepEqual((await give(subject, 'tiny', key)).body, first.body);
    const [row] = await one.query<{ tier: string }>('select tier from quotas where owner_id = $1', [subject]);
    assert.equal(row?.tier, 'rich');
  });

  test('one that the file does not have is refused with those that it has; a user gives none', async () => {
    const admin = await someone(undefined, 'admin');
    const refused = await admin.send('PUT', '/v1/admin/owners/somebody', { tier: 'gold' });
    assert.equal(refused.status, 400);
    assert.match(refused.body.detail ?? '', /must be one of default, small, short, few, busy, slow, tiny, rich/);
    assert.deepEqual(refused.body.errors?.[0]?.pointer, '/tier');
    assert.equal((await (await someone()).send('PUT', '/v1/admin/owners/somebody', { tier: 'rich' })).status, 403);
  });

  test('keys, tickets and those who are spoken for have that of their subject, whatever his token says', async () => {
    const person = await someone('rich');
    const made = await person.send('POST', '/v1/keys', { name: 'a', scopes: ['assets:read', 'assets:write'] });
    const key = new Person(person.subject, `Bearer ${made.body['secret']}`);
    assert.equal((await tierOf(key)).name, 'default');
    const backend = await someone(undefined, 'assets:read assets:write act-for');
    backend.headers['stowage-subject'] = person.subject;
    assert.equal((await tierOf(backend)).name, 'default');
    await give(person.subject, 'small');
    for (const each of [key, key.elsewhere, backend])
      await waitUntil(async () => (await tierOf(each)).name === 'small');
    delete backend.headers['stowage-subject'];
    const ticket = await backend.send('POST', '/v1/tickets', { subject: person.subject, expiresIn: 60 });
    const page = new Person(person.subject, `Bearer ${ticket.body['token']}`);
    assert.deepEqual(said(await page.raw(png(1001))), [413, 'too-large', 'maxFileSize', 'small']);
    assert.equal((await page.raw(png(1000))).status, 201);
  });

  test('administrators list owners by tier, and those of one', async () => {
    const admin = await someone(undefined, 'admin');
    const people = await Promise.all(['busy', 'slow', 'busy'].map(() => someone()));
    for (const [index, { subject }] of people.entries()) await give(subject, ['busy', 'slow', 'busy'][index]);
    const listed = async (query: string) => {
      const all: { id: string; tier?: string }[] = [];
      for (let path: string | undefined = `/v1/admin/owners?limit=2&${query}`; path !== undefined; ) {
        const answer: Answer<AnyBody> = await admin.get(path);
        assert.equal(answer.status, 200, JSON.stringify(answer.body));
        all.push(...(answer.body as unknown as { data: typeof all }).data);
        path = /<([^>]+)>/.exec(answer.headers.get('link') ?? '')?.[1];
      }
      return all;
    };
    const ours = new Set(people.map(({ subject }) => subject));
    const all = await listed('sort=tier');
    assert.deepEqual(
      all.map(({ tier = '' }) => tier),
      all.map(({ tier = '' }) => tier).sort((a, b) => a.localeCompare(b)),
    );
    assert.equal(new Set(all.map(({ id }) => id)).size, all.length);
    assert.deepEqual(
      (await listed('sort=tier&order=desc')).map(({ id }) => id),
      all.map(({ id }) => id).toReversed(),
    );
    for (const sort of ['id', 'usage', 'tier']) {
      const busy = await listed(`tier=busy&sort=${sort}`);
      assert.ok(busy.every(({ tier }) => tier === 'busy'));
      assert.equal(busy.filter(({ id }) => ours.has(id)).length, 2);
    }
  });
});

describe('what a tier limits', () => {
  test('is the size of a file, by every way; policies tell it', async () => {
    const person = await someone('small');
    const refused = [413, 'too-large', 'maxFileSize', 'small'];
    assert.deepEqual(said(await person.raw(png(1001))), refused);
    assert.deepEqual(said(await person.upload(png(1001))), refused);
    const direct = { fileName: 'a.png', contentType: 'image/png', size: 1001 };
    assert.deepEqual(said(await person.send('POST', '/v1/uploads', direct)), refused);
    const name = { 'upload-metadata': `filename ${btoa('a.png')}` };
    assert.deepEqual(said(await person.tus('POST', '', { ...name, 'upload-length': '1001' })), refused);
    const begun = await person.tus('POST', '', { ...name, 'upload-defer-length': '1' });
    const path = new URL(begun.headers.get('location') ?? '', one.url).pathname.replace('/v1/resumable', '');
    assert.deepEqual(said(await person.tus('PATCH', path, { 'upload-offset': '0' }, png(1001))), refused);
    const stream = new ReadableStream({
      start: (sink) => {
        sink.enqueue(png(1001));
        sink.close();
      },
    });
    const chunked = await person.request('PUT', '/v1/assets/raw/a.png', {
      body: stream,
      duplex: 'half',
    } as RequestInit & { headers?: Record<string, string> });
    assert.deepEqual(said(chunked), refused);
    assert.equal((await person.raw(png(1000))).status, 201);
    const { body } = await person.get('/v1/policies');
    assert.ok((body.data as unknown as { maxBytes: number }[]).every(({ maxBytes }) => maxBytes === 1000));
    const larger = await (await someone()).get('/v1/policies');
    assert.ok((larger.body.data as unknown as { maxBytes: number }[]).some(({ maxBytes }) => maxBytes > 1000));
  });

  test('is the quota; a tier with a smaller one refuses what is new and keeps what is there', async () => {
    const person = await someone();
    assert.equal((await person.raw(png(2000, 1))).status, 201);
    assert.deepEqual(said(await person.raw(png(1001, 2))), [403, 'quota-exceeded', 'quota', 'default']);
    await give(person.subject, 'tiny');
    await waitUntil(async () => (await tierOf(person)).name === 'tiny');
    const refused = await person.raw(png(200, 3));
    assert.deepEqual(said(refused), [403, 'quota-exceeded', 'quota', 'tiny']);
    assert.match(refused.body.detail ?? '', /0 of 500 are available in your quota/);
    const { body } = await person.get('/v1/quota');
    assert.deepEqual([body['limit'], body['used'], body['available'], body['percent']], [500, 2000, 0, 400]);
    assert.equal((await tierOf(person.elsewhere)).name, 'tiny');
    await give(person.subject, 'rich');
    // The statement that grants reads the tier itself.
    assert.equal((await person.elsewhere.raw(png(60_000, 4))).status, 201);
  });

  test('is not the quota of an account that was given one of its own, nor that of a project', async () => {
    const person = await someone('tiny');
    const admin = await someone(undefined, 'admin');
    await admin.send('PUT', `/v1/admin/quotas/${person.subject}`, { limit: 700 });
    assert.equal((await person.raw(png(600, 1))).status, 201);
    const refused = await person.raw(png(200, 2));
    assert.deepEqual(said(refused), [403, 'quota-exceeded', undefined, undefined]);
    const projectId = `p-${randomUUID()}`;
    assert.equal((await person.send('POST', '/v1/projects', { id: projectId, name: 'A' })).status, 201);
    await admin.send('PUT', `/v1/admin/quotas/project:${projectId}`, { limit: 5000 });
    assert.equal((await person.raw(png(4000, 3), { fields: { projectId } })).status, 201);
    assert.deepEqual(said(await person.raw(png(1200, 4), { fields: { projectId } })), [
      ...[403, 'quota-exceeded', undefined, undefined],
    ]);
  });

  test('is the quota of who gets an asset back out of a project, whoever takes it out', async () => {
    const [person, manager] = await Promise.all([someone('tiny'), someone('tiny')]);
    const admin = await someone(undefined, 'admin');
    const projectId = `p-${randomUUID()}`;
    await person.send('POST', '/v1/projects', { id: projectId, name: 'A' });
    await admin.send('PUT', `/v1/admin/quotas/project:${projectId}`, { limit: 5000 });
    const { body } = await person.raw(png(2000), { fields: { projectId } });
    await person.send('PUT', `/v1/projects/${projectId}/members/${manager.subject}`, { role: 'manager' });
    const out = () => manager.send('PATCH', `/v1/assets/${body.id}`, { projectId: null });
    await give(person.subject, 'tiny');
    assert.equal((await out()).status, 403);
    await give(person.subject, 'rich');
    assert.equal((await out()).status, 200);
  });

  test('is the life of links, which are shorter where nobody says how long', async () => {
    const person = await someone('short');
    const { body } = await person.raw(await fixture('photo.jpg'), { name: 'photo.jpg' });
    const refused = [400, 'invalid-parameter', 'maxLinkTtl', 'short'];
    for (const path of ['download?', 'download/redirect?', 'variants/link?width=100&', 'qr?']) {
      const answer = await person.get(`/v1/assets/${body.id}/${path}expiresIn=61`);
      assert.deepEqual(said(answer), refused, path);
    }
    for (const path of ['download', 'variants/link?width=100']) {
      const now = Date.now();
      const { body: link } = await person.get(`/v1/assets/${body.id}/${path}`);
      const life = Date.parse(String(link['expiresAt'])) - now;
      assert.ok(life > 0 && life <= 62_000, `${path}: ${life}`);
    }
  });

  test('is what transcodes and variants are made of the assets of an owner, whoever asks', async () => {
    const person = await someone('small');
    await give(person.subject, 'rich');
    await waitUntil(async () => (await tierOf(person)).name === 'rich');
    const sound = await person.raw(await fixture('sound.mp3'), { name: 'sound.mp3' });
    const picture = await person.raw(await fixture('photo.jpg'), { name: 'photo.jpg' });
    assert.deepEqual([sound.status, picture.status], [201, 201], JSON.stringify([sound.body, picture.body]));
    await give(person.subject, 'small');
    await waitUntil(async () => (await tierOf(person)).name === 'small');
    const transcode = await person.send('POST', `/v1/assets/${sound.body.id}/transcodes`, { format: 'wav' });
    assert.deepEqual(said(transcode), [403, 'transcode-not-allowed', 'transcodes', 'small']);
    const image = (width: number, from: Person) =>
      from.request('GET', `/v1/assets/${picture.body.id}/image?width=${width}`, { headers: { 'accept-encoding': '' } });
    assert.equal((await image(20, person)).status, 200);
    assert.deepEqual(said(await image(30, person)), [429, 'too-many-requests', 'variantsPerMinute', 'small']);
  });

  test('is the number of members, by the tier of who adds one', async () => {
    const person = await someone('short');
    const id = `p-${randomUUID()}`;
    await person.send('POST', '/v1/projects', { id, name: 'A' });
    const add = (who: string) => person.send('PUT', `/v1/projects/${id}/members/${who}`, { role: 'viewer' });
    assert.equal((await add('first')).status, 200);
    assert.deepEqual(said(await add('second')), [403, 'too-many-members', 'membersPerProject', 'short']);
    assert.equal((await add('first')).status, 200);
  });

  test('is the number of requests in a minute, and of others it is not', async () => {
    const [person, free] = await Promise.all([someone('slow'), someone()]);
    const answers = await Promise.all(Array.from({ length: 8 }, () => person.get('/v1/assets')));
    const refused = answers.filter(({ status }) => status === 429);
    assert.equal(refused.length, 3);
    for (const answer of refused) {
      assert.deepEqual(said(answer), [429, 'too-many-requests', 'requestsPerMinute', 'slow']);
      assert.ok(Number(answer.headers.get('retry-after')) > 0);
    }
    const others = await Promise.all(Array.from({ length: 30 }, () => free.get('/v1/assets')));
    assert.ok(others.every(({ status, headers }) => status === 200 && !headers.has('ratelimit-limit')));
  });

  test('is told with what is left of it', async () => {
    const person = await someone('busy');
    await person.raw(png(200));
    await person.raw(png(300));
    const { limits, left } = await tierOf(person);
    assert.deepEqual(limits, {
      quota: 1024 ** 3,
      maxFileSize: 5 * 1024 ** 3,
      uploadsPerHour: 7,
      maxLinkTtl: 604_800,
      variantsPerMinute: 300,
      transcodes: 20,
      membersPerProject: 10_000,
    });
    const { hourEndsAt, ...numbers } = left;
    assert.deepEqual(numbers, { quota: 1024 ** 3 - 500, uploadsPerHour: 5, transcodes: 20 });
    assert.ok(Date.parse(String(hourEndsAt)) > Date.now() + 3_000_000);
    const slow = await tierOf(await someone('slow'));
    assert.deepEqual([slow.limits['requestsPerMinute'], slow.left['requestsPerMinute']], [5, 4]);
  });
});

describe('uploads in an hour', () => {
  test('are as many as the tier has, however many are tried at once by all ways on two instances', async () => {
    const person = await someone('busy');
    const other = person.elsewhere;
    const name = { 'upload-metadata': `filename ${btoa('a.png')}`, 'upload-length': '300' };
    const ways: ((at: Person, index: number) => Promise<Answer<AnyBody>>)[] = [
      (at, index) => at.raw(png(300, index)),
      (at, index) => at.upload(png(300, index)),
      (at) => at.send('POST', '/v1/uploads', { fileName: 'a.png', contentType: 'image/png', size: 300 }),
      (at) => at.tus('POST', '', name),
    ];
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, index) => ways[index % 4]?.(index % 8 < 4 ? person : other, index)),
    );
    const begun = answers.filter((answer) => answer?.status === 201);
    assert.equal(begun.length, 7);
    for (const answer of answers)
      if (answer && answer.status !== 201)
        assert.deepEqual(said(answer), [429, 'too-many-requests', 'uploadsPerHour', 'busy']);
    await give(person.subject, 'rich');
    await waitUntil(async () => (await other.raw(png(300, 99))).status === 201);
  });

  test('follow a model of what was tried and which tier there was', async () => {
    const limits = { few: 3, busy: 7, rich: 0 };
    const step = fc.oneof(
      fc.record({
        kind: fc.constant('upload' as const),
        at: fc.constantFrom(0, 1),
        count: fc.integer({ min: 2, max: 5 }),
      }),
      fc.record({ kind: fc.constant('tier' as const), tier: fc.constantFrom('few', 'busy', 'rich') }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 5 }), async (steps) => {
        const person = await someone('few');
        const instances = [person, person.elsewhere];
        let tier: keyof typeof limits = 'few';
        let tried = 0;
        for (const each of steps) {
          if (each.kind === 'tier') {
            tier = each.tier as keyof typeof limits;
            await give(person.subject, tier);
            for (const instance of instances) await waitUntil(async () => (await tierOf(instance)).name === tier);
            continue;
          }
          const at = instances[each.at] ?? person;
          const answers = await Promise.all(Array.from({ length: each.count }, () => at.raw(png(200))));
          const begun = answers.filter(({ status }) => status === 201).length;
          // What no limit holds is not counted.
          const room = limits[tier] === 0 ? each.count : Math.max(0, limits[tier] - tried);
          assert.equal(begun, Math.min(each.count, room));
          if (limits[tier] > 0) tried += each.count;
        }
      }),
      { numRuns: 5 },
    );
  });
});

describe('what one caller keeps', () => {
  const project = async (by: Person) => {
    const id = `p-${randomUUID()}`;
    assert.equal((await by.send('POST', '/v1/projects', { id, name: 'A' })).status, 201);
    return id;
  };
  const add = (by: Person, id: string, who: string, role = 'viewer') =>
    by.send('PUT', `/v1/projects/${id}/members/${who}`, { role });
  const type = (name: string) => `urn:stowage:problem:${name}`;

  test('are so many members of all his projects, also when he adds many at once on two instances', async () => {
    const person = await someone();
    const ids = await Promise.all([project(person), project(person), project(person)]);
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, index) =>
        add(index % 2 === 0 ? person : person.elsewhere, ids[index % 3] ?? '', `member-${index}`),
      ),
    );
    const refused = answers.filter(({ status }) => status !== 200);
    assert.equal(refused.length, 7);
    for (const { status, body } of refused)
      assert.deepEqual([status, body.type], [403, type('added-too-many-members')]);
    const index = answers.findIndex(({ status }) => status === 200);
    const [id = '', who] = [ids[index % 3], `member-${index}`];
    assert.equal((await add(person, id, who, 'editor')).status, 200, 'who is there may have another role');
    assert.equal((await person.request('DELETE', `/v1/projects/${id}/members/${who}`)).status, 204);
    assert.equal((await add(person, id, 'another')).status, 200, 'who has gone makes room');
    assert.equal((await add(person, id, 'one more')).status, 403);
    const admin = await someone(undefined, 'admin projects');
    admin.headers['stowage-reason'] = 'asked for it';
    assert.equal((await add(admin, id, 'by an administrator')).status, 200);
  });

  test('are so many tickets that are good; one that is revoked or has expired makes room', async () => {
    const person = await someone();
    const ticket = (at = person) => at.send('POST', '/v1/tickets', { expiresIn: 600 });
    const [first, second] = [await ticket(), await ticket(person.elsewhere)];
    for (let number = 2; number < 5; number++) assert.equal((await ticket()).status, 201);
    const refused = await ticket(person.elsewhere);
    assert.deepEqual([refused.status, refused.body.type], [403, type('too-many-tickets')]);
    assert.match(refused.body.detail ?? '', /^5 upload tickets of yours are good/);
    await person.request('DELETE', `/v1/tickets/${first.body.id}`);
    assert.equal((await ticket()).status, 201);
    assert.equal((await ticket()).status, 403);
    await one.query('update tickets set expires_at = now() where id = $1', [second.body.id]);
    assert.equal((await ticket()).status, 201);
  });
});

test('a line of the log names what its request was about by what that is', async () => {
  const person = await someone();
  const asset = await person.raw(png(300));
  const key = await person.send('POST', '/v1/keys', { name: 'a', scopes: ['assets:read'] });
  await person.get(`/v1/keys/${key.body.id}`);
  const ticket = await person.send('POST', '/v1/tickets', { expiresIn: 60 });
  await person.get(`/v1/assets/${asset.body.id}?reason=because`);
  const named = (operation: string) =>
    waitUntil(() => {
      const lines = one.log.map((line) => JSON.parse(line)).filter((line) => line.caller === person.subject);
      const line = lines.find((each) => each.operation === operation);
      return line && { assetId: line.assetId, keyId: line.keyId, ticketId: line.ticketId };
    });
  const nothing = { assetId: undefined, keyId: undefined, ticketId: undefined };
  assert.deepEqual(await named('uploadRawAsset'), { ...nothing, assetId: asset.body.id });
  assert.deepEqual(await named('getAsset'), { ...nothing, assetId: asset.body.id });
  for (const operation of ['createApiKey', 'getApiKey'])
    assert.deepEqual(await named(operation), { ...nothing, keyId: key.body.id });
  assert.deepEqual(await named('createUploadTicket'), { ...nothing, ticketId: ticket.body.id });
});
