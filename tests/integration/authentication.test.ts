import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose';
import { userNamed } from '../../src/access/caller.ts';
import { TokenCache } from '../../src/http/token-cache.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { openSocket } from '../support/sockets.ts';
import { waitUntil } from '../support/wait-until.ts';

const SECRET = 'a secret of more than thirty-two bytes';
const key = new TextEncoder().encode(SECRET);

/** A token that is good unless the claims make it bad; undefined takes a claim out. */
function token(
  claims: JWTPayload = {},
  signWith: Parameters<SignJWT['sign']>[0] = key,
  header: { alg: string; kid?: string } & Record<string, unknown> = { alg: 'HS256' },
): Promise<string> {
  const payload = { sub: 'alice', exp: Math.floor(Date.now() / 1000) + 60, iss: 'issuer', aud: 'stowage', ...claims };
  return new SignJWT(payload).setProtectedHeader(header).sign(signWith);
}

class BearerClient extends Client {
  constructor(url: string, bearer?: string) {
    super(url);
    // The header of development mode must mean nothing here.
    if (bearer !== undefined) this.headers['authorization'] = `Bearer ${bearer}`;
  }
}

describe('callers with a shared secret', () => {
  let service: TestService;
  before(async () => {
    service = await startService({
      env: { AUTH_JWT_SECRET: SECRET, AUTH_ISSUER: 'issuer', AUTH_AUDIENCE: 'stowage', AUTH_CLOCK_SKEW: '10s' },
    });
  });
  after(() => service.close());

  const statusWith = async (bearer?: string) => (await new BearerClient(service.url, bearer).get('/v1/quota')).status;

  test('a good token is let in, and its subject owns what it uploads', async () => {
    const alice = new BearerClient(service.url, await token());
    const { status, body } = await alice.raw(png());
    assert.equal(status, 201);
    const rows = await service.query('select owner_id from assets where id = $1', [body.id]);
    assert.deepEqual(rows, [{ owner_id: 'alice' }]);
    const bob = new BearerClient(service.url, await token({ sub: 'bob' }));
    assert.equal((await bob.get(`/v1/assets/${body.id}`)).status, 404);
  });

  const now = () => Math.floor(Date.now() / 1000);
  const bad: [string, () => Promise<string | undefined>][] = [
    ['no token', async () => undefined],
    ['a word', async () => 'word'],
    ['a token that has expired', () => token({ exp: now() - 11 })],
    ['a token without expiry', () => token({ exp: undefined as unknown as number })],
    ['a token that expires beyond all dates', () => token({ exp: 1e20 })],
    ['a token without a subject', () => token({ sub: undefined as unknown as string })],
    ['a token with an empty subject', () => token({ sub: '' })],
    ['a token whose subject is null', () => token({ sub: null as unknown as string })],
    ['a token with a list of subjects', () => token({ sub: ['alice'] as unknown as string })],
    ['a token with a number as its subject', () => token({ sub: 7 as unknown as string })],
    ['a token with an object as its subject', () => token({ sub: { id: 'alice' } as unknown as string })],
    ['a token with a subject that is too long', () => token({ sub: 'x'.repeat(256) })],
    ['a token with a control character in its subject', () => token({ sub: 'a\nb' })],
    ['a token of another issuer', () => token({ iss: 'other' })],
    ['a token for another audience', () => token({ aud: 'other' })],
    ['a token that is not valid yet', () => token({ nbf: now() + 60 })],
    ['a token signed with another secret', () => token({}, new TextEncoder().encode('x'.repeat(40)))],
    [
      'a token without a signature',
      async () => new UnsecuredJWT({ sub: 'alice', exp: now() + 60, iss: 'issuer', aud: 'stowage' }).encode(),
    ],
    ['a token of another algorithm', () => token({}, key, { alg: 'HS512' })],
    [
      'a token that brings its own key',
      async () => {
        const pair = await generateKeyPair('RS256', { extractable: true });
        return token({}, pair.privateKey, { alg: 'RS256', jwk: await exportJWK(pair.publicKey) });
      },
    ],
  ];
  for (const [title, make] of bad) {
    test(`${title} is 401 with a challenge`, async () => {
      const answer = await new BearerClient(service.url, await make()).get('/v1/quota');
      assert.equal(answer.status, 401);
      assert.equal(answer.body.type, 'urn:stowage:problem:unauthenticated');
      assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer realm="stowage"/);
    });
  }

  test('the clock of the issuer may be off by as much as is configured', async () => {
    assert.equal(await statusWith(await token({ exp: now() - 5 })), 200);
    assert.equal(await statusWith(await token({ nbf: now() + 5 })), 200);
  });

  test('admin routes need the scope admin, as text or list', async () => {
    const path = '/v1/admin/quotas/bob';
    const plain = await new BearerClient(service.url, await token({ scope: 'read administrator' })).get(path);
    assert.equal(plain.status, 403);
    assert.equal(plain.body.type, 'urn:stowage:problem:missing-scope');
    for (const claims of [{ scope: 'read admin' }, { scope: ['admin'] }, { scp: ['admin'] }]) {
      assert.equal((await new BearerClient(service.url, await token(claims)).get(path)).status, 200);
    }
  });

  test('what is public needs no token', async () => {
    for (const path of ['/livez', '/readyz', '/health', '/openapi.json'])
      assert.equal((await fetch(service.url + path)).status, 200, path);
  });

  test('a 401 is readable by a client that goes on sending, and the service soon stops reading', async () => {
    const socket = openSocket(service.url);
    let answer = '';
    let closed = false;
    socket.on('data', (chunk) => {
      answer += chunk;
    });
    socket.on('close', () => {
      closed = true;
    });
    socket.write('PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n');
    const chunk = Buffer.alloc(65_536);
    const pump = () => {
      while (!closed && socket.write(chunk));
    };
    socket.on('drain', pump);
    pump();
    await waitUntil(() => closed);
    assert.match(answer, /^HTTP\/1\.1 401 /);
    assert.match(answer, /urn:stowage:problem:unauthenticated/);
    // A mebibyte is dropped; what lies in the buffers of both kernels comes on top.
    assert.ok(socket.bytesWritten < 64 * 1024 * 1024, `${socket.bytesWritten} bytes were taken`);
  });

  test('a client that reads only when it cannot send any more finds the answer, not a reset connection', async () => {
    /** What it reads when nothing more can be sent; undefined when the connection was reset before. */
    async function readLate(): Promise<string | undefined> {
      const socket = openSocket(service.url).pause();
      let closed = false;
      let answer = '';
      socket.on('close', () => {
        closed = true;
      });
      socket.on('data', (chunk) => {
        answer += chunk;
      });
      socket.pause();
      socket.write('PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n');
      const chunk = Buffer.alloc(65_536);
      const pump = () => {
        while (!closed && socket.write(chunk));
      };
      socket.on('drain', pump);
      pump();
      let written = -1;
      await waitUntil(async () => {
        const before = written;
        written = socket.bytesWritten - socket.writableLength;
        await new Promise((pause) => setTimeout(pause, 300));
        return closed || written === before;
      });
      if (closed) return undefined;
      socket.resume();
      await waitUntil(() => closed);
      return answer;
    }
    // The service does not wait for ever: on a busy machine a client may come too late, but not every time.
    const answer = await waitUntil(readLate);
    assert.match(answer ?? '', /^HTTP\/1\.1 401 /);
    // Whoever has connections for many requests must not send the next one behind this.
    assert.match(answer ?? '', /\r\nconnection: close\r\n/i);
    assert.match(answer ?? '', /urn:stowage:problem:unauthenticated/);
  });

  test('no token is logged', async () => {
    const bearer = await token();
    await new BearerClient(service.url, bearer).get('/v1/quota');
    await new BearerClient(service.url, `${bearer}x`).get('/v1/quota');
    await waitUntil(() => service.log.some((line) => line.includes('getQuota')));
    for (const line of service.log) assert.ok(!line.includes(bearer.slice(0, 60)), line);
  });
});

describe('callers with a key set', () => {
  let service: TestService;
  let server: Server;
  let requests = 0;
  let answering = true;
  const keys: Record<string, Awaited<ReturnType<typeof generateKeyPair>>['privateKey']> = {};
  before(async () => {
    const jwks: object[] = [];
    for (const alg of ['RS256', 'ES256', 'EdDSA']) {
      const pair = await generateKeyPair(alg, { extractable: true });
      keys[alg] = pair.privateKey;
      jwks.push({ ...(await exportJWK(pair.publicKey)), kid: alg, alg, use: 'sig' });
    }
    server = createServer((_request, response) => {
      requests += 1;
      if (answering) response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: jwks }));
      else response.writeHead(500).end();
    });
    for (const [kid, key] of Object.entries(await unusableKeys(keys))) jwks.push({ ...key, kid });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    const address = server.address();
    const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}/jwks`;
    service = await startService({ env: { AUTH_JWKS_URL: url, AUTH_AUDIENCE: 'stowage' } });
  });
  after(async () => {
    await service.close();
    server.close();
  });

  const statusOf = async (bearer: string) => (await new BearerClient(service.url, bearer).get('/v1/quota')).status;
  const keyOf = (alg: string) => keys[alg] ?? assert.fail(`no key ${alg}`);

  test('while the key server fails nobody is let in, and the answer is 503', async () => {
    answering = false;
    const answer = await new BearerClient(
      service.url,
      await token({}, keyOf('RS256'), { alg: 'RS256', kid: 'RS256' }),
    ).get('/v1/quota');
    assert.equal(answer.status, 503);
    assert.match(answer.headers.get('retry-after') ?? '', /^\d+$/);
  });

  test('a key server that fails is asked once in a while, whatever number of tokens come', async () => {
    const before = requests;
    const statuses = await Promise.all(
      Array.from({ length: 50 }, async (_each, index) =>
        statusOf(await token({}, keyOf('RS256'), { alg: 'RS256', kid: `junk-${index}` })),
      ),
    );
    assert.deepEqual(new Set(statuses), new Set([503]));
    assert.ok(requests - before <= 1, `${requests - before} fetches`);
    answering = true;
    await waitUntil(async () => (await statusOf(await token({}, keyOf('RS256'), { alg: 'RS256', kid: 'x' }))) === 401);
  });

  test('RS256, ES256 and EdDSA are let in without another fetch of the keys', async () => {
    const before = requests;
    for (const alg of ['RS256', 'ES256', 'EdDSA'])
      assert.equal(await statusOf(await token({}, keyOf(alg), { alg, kid: alg })), 200, alg);
    assert.equal(requests, before);
  });

  test('unknown keys lead to no more than one fetch until the cooldown is over', async () => {
    const before = requests;
    for (let index = 0; index < 5; index++)
      assert.equal(await statusOf(await token({}, keyOf('RS256'), { alg: 'RS256', kid: `unknown-${index}` })), 401);
    assert.ok(requests - before <= 1, `${requests - before} fetches`);
  });

  for (const kid of ['short', 'broken', 'oct', 'curve'])
    test(`a key that cannot be used lets nobody in: ${kid}`, async () => {
      const alg = kid === 'short' ? 'RS256' : 'ES256';
      // jose signs with no key that is too short; any signature of the right form asks for the key.
      const [, payload, signature] = (await token({}, keyOf(alg), { alg, kid })).split('.');
      const header = Buffer.from(JSON.stringify({ alg, kid })).toString('base64url');
      assert.equal(await statusOf(`${header}.${payload}.${signature}`), 401);
    });

  test('a token without kid is verified by whichever key of its kind made it', async () => {
    assert.equal(await statusOf(await token({}, keyOf('second'), { alg: 'ES256' })), 200);
    assert.equal(await statusOf(await token({}, keyOf('ES256'), { alg: 'ES256' })), 200);
    const stranger = await generateKeyPair('ES256');
    assert.equal(await statusOf(await token({}, stranger.privateKey, { alg: 'ES256' })), 401);
  });

  test('the public key is no secret: HS256 signed with it is refused', async () => {
    assert.equal(
      await statusOf(await token({}, new TextEncoder().encode('RS256'.repeat(10)), { alg: 'HS256', kid: 'RS256' })),
      401,
    );
  });
});

/** As a set may have them, by name; whoever can sign with one finds the key in `signers`. */
async function unusableKeys(signers: Record<string, CryptoKey>): Promise<Record<string, object>> {
  const short = await crypto.subtle.generateKey(
    { name: 'RSASSA-PKCS1-v1_5', modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' },
    true,
    ['sign', 'verify'],
  );
  const second = await generateKeyPair('ES256', { extractable: true });
  signers['second'] = second.privateKey;
  return {
    second: { ...(await exportJWK(second.publicKey)), alg: 'ES256' },
    short: await exportJWK(short.publicKey),
    broken: { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA' },
    oct: { kty: 'oct', k: 'c2VjcmV0' },
    curve: { kty: 'EC', crv: 'P-999', x: 'AA', y: 'AA' },
  };
}

describe('development mode', () => {
  test('believes x-user-id, and without it everybody is local-user', async () => {
    const service = await startService();
    try {
      const { body } = await new Client(service.url, 'carol').raw(png());
      assert.deepEqual(await service.query('select owner_id from assets where id = $1', [body.id]), [
        { owner_id: 'carol' },
      ]);
      const response = await fetch(`${service.url}/v1/assets/raw/a.png`, { method: 'PUT', body: png() });
      assert.equal(response.status, 201);
      assert.deepEqual(await service.query("select count(*) from assets where owner_id = 'local-user'"), [
        { count: '1' },
      ]);
      assert.equal((await new Client(service.url, 'x'.repeat(300)).get('/v1/quota')).status, 400);
    } finally {
      await service.close();
    }
  });
});

describe('tokens that were verified', () => {
  const caller = userNamed('alice');

  test('are believed for a minute, and never beyond their own end', (context) => {
    context.mock.timers.enable({ apis: ['Date'], now: 1_000_000 });
    const known = new TokenCache();
    known.remember('long', caller, 10_000_000);
    known.remember('short', caller, 1_005_000);
    assert.equal(known.callerOf('long'), caller);
    assert.equal(known.callerOf('short'), caller);
    assert.equal(known.callerOf('other'), undefined);
    context.mock.timers.tick(5000);
    assert.equal(known.callerOf('short'), undefined);
    assert.equal(known.callerOf('long'), caller);
    context.mock.timers.tick(55_000);
    assert.equal(known.callerOf('long'), undefined);
  });

  test('are not believed at their end, also when that is now', (context) => {
    context.mock.timers.enable({ apis: ['Date'], now: 1_000_000 });
    const known = new TokenCache();
    for (const expiry of [0, 999_999, 1_000_000]) {
      known.remember('ended', caller, expiry);
      assert.equal(known.callerOf('ended'), undefined, String(expiry));
    }
    known.remember('ending', caller, 1_000_001);
    context.mock.timers.tick(1);
    assert.equal(known.callerOf('ending'), undefined);
  });

  test('are bounded in bytes, however long they are and however many projects they name', () => {
    const known = new TokenCache();
    const projects = new Map(Array.from({ length: 500 }, (_each, index) => [`project-${index}`, 'viewer' as const]));
    for (let index = 0; index < 2000; index++)
      known.remember(`${'x'.repeat(15_000)}${index}`, { ...userNamed('alice'), projects }, Date.now() + 60_000);
    assert.ok(known.bytes <= 8 * 1024 * 1024, `${known.bytes} bytes`);
    assert.ok(known.callerOf(`${'x'.repeat(15_000)}1999`));
  });

  test('are bounded in number: the one that was not used for longest is forgotten', () => {
    const known = new TokenCache();
    for (let index = 0; index <= 10_000; index++) known.remember(`token ${index}`, caller, Date.now() + 60_000);
    assert.equal(known.callerOf('token 0'), undefined);
    assert.equal(known.callerOf('token 1'), caller);
    assert.equal(known.callerOf('token 10000'), caller);
  });
});
