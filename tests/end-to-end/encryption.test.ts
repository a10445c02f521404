/** Files that the service cannot read: by clients/typescript in Node and in a real browser, and by Python and age. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { Client } from '../support/client.ts';
import { type EncryptedUploadOptions, encryption, inPython, pattern, vectors } from '../support/encryption.ts';
import { png } from '../support/files.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';

const { uploadEncrypted, downloadEncrypted, encrypt } = encryption;
const MiB = 1024 * 1024;
const CHUNK = 16_384;
const TYPE = 'application/vnd.stowage.encrypted';
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const opaque = () => `${randomUUID().replaceAll('-', '')}.stowage`;
const identity = await encryption.generateIdentity();
const recipients = [await encryption.identityToRecipient(identity)];
const secret = { name: 'Kündigung.docx', type: 'text/x-secret' };
const ciphertext = async (length: number) =>
  Buffer.from(await (await encrypt(new Blob([pattern(length)]), secret, { recipients })).arrayBuffer());

for (const { store, skip } of storeKinds)
  describe(`ciphertext on ${store}`, { skip }, () => {
    let service: TestService;
    before(async () => {
      const env = { PART_SIZE: '5MiB', REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', DEFAULT_QUOTA: '1GiB' };
      service = await startService({ store, env });
    });
    after(() => service.close());
    const optionsFor = (owner: string, more: Partial<EncryptedUploadOptions> = {}) => ({
      baseUrl: service.url,
      headers: { 'x-user-id': owner },
      recipients,
      ...more,
    });

    for (const [length, method] of [
      [0, undefined],
      [5, 'form'],
      [11 * MiB, 'direct'],
      [10 * MiB, 'resumable'],
    ] as const)
      test(`${length} bytes come back as they were, in ranges too, by ${method ?? 'the method of their size'}`, async () => {
        const owner = `owner-${randomUUID()}`;
        const plaintext = pattern(length);
        const progress: number[] = [];
        const options = optionsFor(owner, {
          ...(method && { method }),
          onProgress: (sent) => progress.push(sent),
        });
        const asset = await uploadEncrypted(new File([plaintext], secret.name, { type: secret.type }), options);
        assert.deepEqual([asset.mediaType, asset.assetType, asset.scan?.verdict], [TYPE, 'encrypted', 'encrypted']);
        assert.match(asset.name, /^[0-9a-f]{32}\.stowage$/);
        assert.equal(progress.at(-1), asset.size);
        const quota = (await new Client(service.url, owner).get('/v1/quota')).body;
        assert.deepEqual([quota['used'], quota['reserved']], [asset.size, 0]);
        const file = await downloadEncrypted(asset.id, { ...optionsFor(owner), identities: [identity] });
        assert.deepEqual([file.name, file.type, file.size], [secret.name, secret.type, length]);
        assert.equal(sha256(await file.bytes()), sha256(plaintext));
        const [start, end] = [Math.floor(length / 3), Math.floor(length / 2)];
        assert.equal(sha256(await file.bytes({ start, end })), sha256(plaintext.subarray(start, end)));
      });

    test('nothing of the name, the type or the key is in the record, the audit trail or the bytes', async () => {
      const owner = `owner-${randomUUID()}`;
      const asset = await uploadEncrypted(new File(['content'], secret.name, { type: secret.type }), optionsFor(owner));
      const client = new Client(service.url, owner);
      const { key } = await downloadEncrypted(asset.id, { ...optionsFor(owner), identities: [identity] });
      const told = JSON.stringify([
        (await client.get(`/v1/assets/${asset.id}`)).body,
        await service.query('select * from audit_events where actor_id = $1', [owner]),
        (await client.content(asset.id)).body.toString('latin1'),
        service.log,
      ]);
      assert.ok(told.includes(asset.name));
      for (const word of ['ndigung', 'x-secret', 'content"', Buffer.from(key).toString('latin1')])
        assert.ok(!told.includes(word), word);
    });

    test('the record says why nothing was done with it, and names what tells nothing are asked for', async () => {
      const client = new Client(service.url, `owner-${randomUUID()}`);
      const bytes = await ciphertext(100);
      for (const name of ['salaries.stowage', 'salaries', 'abcdef.stowage', 'a.pdf']) {
        const { status, body } = await client.raw(bytes, { name, type: TYPE });
        assert.deepEqual([status, body.type], [415, 'urn:stowage:problem:extension-mismatch'], name);
      }
      const { body: stored } = await client.upload(bytes, { name: opaque() });
      assert.equal(stored.state, 'ready');
      const steps = Object.entries(stored.processing ?? {}).map(([name, step]) => [name, step?.state, step?.reason]);
      assert.deepEqual(
        steps,
        ['scan', 'strip', 'reencode', 'facts', 'derive'].map((name) => [name, 'skipped', 'encrypted']),
      );
      assert.equal((await client.send('PATCH', `/v1/assets/${stored.id}`, { name: 'salaries.stowage' })).status, 400);
      assert.equal((await client.send('PATCH', `/v1/assets/${stored.id}`, { name: opaque() })).status, 200);
      assert.equal((await client.get(`/v1/assets/${stored.id}/variants/picture?width=64`)).status >= 400, true);
      const type = (await client.content(stored.id)).headers.get('content-type');
      assert.equal(type, TYPE);
    });

    test('what is cut is refused by each way in, as far as a length tells; so is what only looks like it', async () => {
      const client = new Client(service.url, `owner-${randomUUID()}`);
      const bytes = await ciphertext(100_000);
      const cut = bytes.subarray(0, -(100_000 % CHUNK) - 1);
      const name = opaque();
      assert.equal((await client.raw(cut, { name, type: TYPE })).body.type, 'urn:stowage:problem:damaged-file');
      assert.equal((await client.upload(cut, { name, type: TYPE })).body.type, 'urn:stowage:problem:damaged-file');
      const begun = await client.send('POST', '/v1/uploads', { fileName: name, size: cut.length, contentType: TYPE });
      const [part] = begun.body['parts'] as { url: string }[];
      assert.ok(part);
      assert.equal((await fetch(part.url, { method: 'PUT', body: cut })).ok, true);
      const completed = await client.send('POST', `/v1/uploads/${begun.body['uploadId']}/complete`, {});
      assert.deepEqual([completed.status, completed.body.type], [422, 'urn:stowage:problem:damaged-file']);
      const junk = Buffer.concat([bytes.subarray(0, 8), Buffer.alloc(500, 7)]);
      assert.equal((await client.raw(junk, { name, type: TYPE })).status, 422);
      const plain = await client.raw(png(500, 1), { name: 'p.png', fields: { assetType: 'encrypted' } });
      assert.equal(plain.body.type, 'urn:stowage:problem:type-not-allowed');
      const renamed = await client.raw(png(500, 1), { name, type: TYPE, fields: { assetType: 'encrypted' } });
      assert.equal(renamed.body.type, 'urn:stowage:problem:declared-mismatch');
      assert.equal((await client.get('/v1/quota')).body['used'], 0);
    });
  });

describe('ciphertext that is broken off', () => {
  let service: TestService;
  const requests: string[] = [];
  /** Bytes after which an answer breaks off, by turns. */
  let breaks: number[] = [];
  let proxy: ReturnType<typeof createServer>;
  let url: string;
  before(async () => {
    service = await startService({ env: { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', DEFAULT_QUOTA: '1GiB' } });
    proxy = createServer(async ({ url: path = '', headers }, answer) => {
      requests.push(headers.range ?? 'all');
      const { 'x-user-id': user, range = '' } = headers;
      const response = await fetch(service.url + path, { headers: { 'x-user-id': String(user), range } });
      const body = Buffer.from(await response.arrayBuffer());
      const told = ['content-range', 'content-length', 'retry-after'].flatMap((name) => {
        const value = response.headers.get(name);
        return value === null ? [] : [[name, value] as const];
      });
      answer.writeHead(response.status, Object.fromEntries(told));
      const limit = breaks.shift();
      if (limit === undefined || limit >= body.length) return void answer.end(body);
      answer.write(body.subarray(0, limit), () => answer.destroy());
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const address = proxy.address();
    url = `http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}`;
  });
  after(async () => {
    proxy.closeAllConnections();
    proxy.close();
    await service.close();
  });
  const owner = `owner-${randomUUID()}`;
  const options = () => ({
    baseUrl: url,
    headers: { 'x-user-id': owner },
    identities: [identity],
    backoff: { first: 1 },
  });
  const upload = (length: number) =>
    uploadEncrypted(new Blob([pattern(length)]), { ...options(), baseUrl: service.url, recipients });

  test('an upload that is broken off goes on after a reload with the same bytes, and with no others', async () => {
    const optionsFor = (name: string, more: Partial<EncryptedUploadOptions>) => ({
      ...{ baseUrl: service.url, headers: { 'x-user-id': name }, recipients },
      ...more,
    });
    const entries = new Map<string, string>();
    const storage = {
      getItem: (key: string) => entries.get(key) ?? null,
      setItem: (key: string, value: string) => void entries.set(key, value),
      removeItem: (key: string) => void entries.delete(key),
      keys: () => [...entries.keys()],
    };
    const plaintext = pattern(17 * MiB);
    const fileOf = (bytes: BlobPart) => new File([bytes], 'film.mp4', { type: 'video/mp4', lastModified: 5 });
    const remembered = () => [...entries.values()].map((text) => JSON.parse(text))[0];
    const breakOff = async () => {
      const stop = new AbortController();
      const options = optionsFor(owner, {
        ...{ storage, method: 'resumable', keepWhenAborted: true, signal: stop.signal, identities: [identity] },
        onProgress: (sent, total) => sent > total / 2 && stop.abort(new Error('the page is gone')),
      });
      await assert.rejects(uploadEncrypted(fileOf(plaintext), options), /the page is gone/);
      assert.ok(!JSON.stringify([...entries]).includes('AGE-SECRET'));
      return remembered();
    };
    const before = await breakOff();
    const sent: number[] = [];
    const goOn = optionsFor(owner, {
      ...{ storage, method: 'resumable', identities: [identity] },
      onProgress: (bytes) => sent.push(bytes),
    });
    const asset = await uploadEncrypted(fileOf(plaintext), goOn);
    assert.equal(asset.id, before.uploadId);
    assert.ok((sent[0] ?? 0) >= 8 * MiB, 'it began again');
    const file = await downloadEncrypted(asset.id, { ...options(), baseUrl: service.url });
    assert.equal(sha256(await file.bytes()), sha256(plaintext));
    // Another file with the same name, size and time, and the same ends.
    const other = plaintext.slice();
    other.fill(9, 9 * MiB, 9 * MiB + 10);
    const abandoned = await breakOff();
    const fresh = await uploadEncrypted(fileOf(other), goOn);
    assert.notEqual(fresh.id, abandoned.uploadId);
    const second = await downloadEncrypted(fresh.id, { ...options(), baseUrl: service.url });
    assert.equal(sha256(await second.bytes()), sha256(other));
    assert.notDeepEqual(second.key, file.key);
    const gone = await new Client(service.url, owner).request('HEAD', `/v1/resumable/${abandoned.uploadId}`, {
      headers: { 'tus-resumable': '1.0.0' },
    });
    assert.ok(gone.status === 404 || gone.status === 410, `${gone.status}`);
  });

  test('asks for the chunks alone that a range needs, and for nothing twice', async () => {
    const { id } = await upload(3 * MiB);
    const file = await downloadEncrypted(id, options());
    requests.length = 0;
    const [start, end] = [2 * MiB + 5, 2 * MiB + CHUNK + 6];
    assert.deepEqual(await file.bytes({ start, end }), pattern(3 * MiB).subarray(start, end));
    const [, from = 0, to = 0] = /^bytes=(\d+)-(\d+)$/.exec(requests.join()) ?? [];
    assert.equal(Number(to) - Number(from) + 1, 2 * (CHUNK + 16));
    requests.length = 0;
    await file.bytes({ start: 100, end: 200 });
    assert.deepEqual(requests, [], 'the first bytes are known');
    for (const wrong of [{ start: -1 }, { end: 3 * MiB + 1 }, { start: 2, end: 1 }])
      assert.throws(() => file.stream(wrong), RangeError);
  });

  test('goes on where a download broke off', async () => {
    const { id } = await upload(2 * MiB);
    breaks = [30_000];
    const file = await downloadEncrypted(id, options());
    breaks = [0, 100_001, 1, 700_000];
    requests.length = 0;
    assert.equal(sha256(await file.bytes()), sha256(pattern(2 * MiB)));
    assert.equal(requests.length, 5);
    const begins = requests.map((range) => Number(/\d+/.exec(range)?.[0]));
    assert.deepEqual(
      begins.slice(1).map((begin, index) => begin - (begins[index] ?? 0)),
      [0, 100_001, 1, 700_000],
    );
  });

  test('reads no more than its reader does', async () => {
    const { id } = await upload(6 * MiB);
    const file = await downloadEncrypted(id, options());
    const reader = file.stream().getReader();
    const { value } = await reader.read();
    assert.deepEqual(value, pattern(6 * MiB).subarray(0, value?.length));
    assert.ok((value?.length ?? 0) <= MiB);
    await reader.cancel();
  });

  test('tells a refusal from a file that is cut, changed or another one', async () => {
    const { id } = await upload(200_000);
    await assert.rejects(downloadEncrypted(randomUUID(), options()), { name: 'DownloadFailed', status: 404 });
    await assert.rejects(downloadEncrypted(id, { ...options(), identities: [await encryption.generateIdentity()] }), {
      name: 'DecryptionFailed',
      fault: 'wrong-key',
    });
    const client = new Client(service.url, owner);
    const picture = await client.upload(png(500, 3), { name: 'p.png' });
    await assert.rejects(downloadEncrypted(picture.body.id, options()), { fault: 'not-encrypted' });
    // Put together by a server that is not what it should be.
    const bytes = await ciphertext(200_000);
    for (const [served, fault] of [
      [bytes.subarray(0, -1), 'truncated'],
      [Buffer.concat([bytes.subarray(0, 150_000), Buffer.alloc(bytes.length - 150_000)]), 'damaged'],
    ] as const) {
      const server = createServer(({ headers }, answer) => {
        const [, from = 0, to = 0] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '')?.map(Number) ?? [];
        const end = Math.min(to + 1, served.length);
        answer.writeHead(206, { 'content-range': `bytes ${from}-${end - 1}/${served.length}` });
        answer.end(served.subarray(from, end));
      }).listen(0, '127.0.0.1');
      await once(server, 'listening');
      const address = server.address();
      const link = new URL(`http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}/`);
      const read = async () => (await downloadEncrypted(link, { identities: [identity] })).bytes();
      await assert.rejects(read, { name: 'DecryptionFailed', fault });
      server.closeAllConnections();
      server.close();
    }
  });
});

describe('another implementation, in Python with age', {
  skip: programSkip('python3') || programSkip('cryptography') || programSkip('age'),
}, () => {
  const passphrase = 'as long as it is secret';
  const sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * MiB + 17];

  test('reads what the client uploaded, and writes what it downloads', async (context) => {
    const folder = await mkdtemp(join(tmpdir(), 'stowage-test-encryption-'));
    const service = await startService({ env: { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' } });
    context.after(async () => {
      await service.close();
      await rm(folder, { recursive: true, force: true });
    });
    const client = new Client(service.url, 'alice');
    const options = { baseUrl: service.url, headers: client.headers };
    const jobs = await Promise.all(
      [
        ...sizes.map((length) => ({ length, keys: { recipients } })),
        { length: 9, keys: { passphrase, workFactor: 10 } },
      ].map(async ({ length, keys }, index) => {
        const file = new File([pattern(length)], `Plan ${length}.pdf`, { type: 'application/pdf' });
        const { id } = await uploadEncrypted(file, { ...options, ...keys });
        const path = join(folder, `client-${index}`);
        await writeFile(path, (await client.content(id)).body);
        return { length, path, ...('recipients' in keys ? { identity } : { passphrase }) };
      }),
    );
    const told = inPython<{ name: string; type: string; size: number; sha256: string }>('read', jobs);
    for (const [index, { length }] of jobs.entries()) {
      const { name, type, size, sha256: digest } = told[index] ?? assert.fail('nothing was read');
      const expected = [`Plan ${length}.pdf`, 'application/pdf', length, sha256(pattern(length))];
      assert.deepEqual([name, type, size, digest], expected);
    }
    const [, , , , , large] = jobs;
    const [ranged] = inPython<{ sha256: string }>('read', [{ ...large, range: [CHUNK - 1, 5 * CHUNK] }]);
    assert.equal(ranged?.sha256, sha256(pattern(6 * CHUNK).subarray(CHUNK - 1, 5 * CHUNK)));

    const written = [
      ...sizes.map((length, index) => ({ length, path: join(folder, `python-${index}`), recipients })),
      { length: 9, path: join(folder, 'python-secret'), passphrase },
    ].map((job) => ({ ...job, name: `Brief ${job.length}.txt`, type: 'text/plain' }));
    inPython('write', written);
    for (const { length, path, name, ...keys } of written) {
      const stored = await client.upload(await readFile(path), { name: opaque() });
      assert.equal(stored.status, 201, JSON.stringify(stored.body));
      const own = 'passphrase' in keys ? { passphrase } : { identities: [identity] };
      const file = await downloadEncrypted(stored.body.id, { ...options, ...own });
      assert.deepEqual([file.name, file.size], [name, length]);
      assert.equal(sha256(await file.bytes()), sha256(pattern(length)));
    }
  });

  test('reads the vectors, and refuses what was tampered with', async (context) => {
    const folder = await mkdtemp(join(tmpdir(), 'stowage-test-encryption-'));
    context.after(() => rm(folder, { recursive: true, force: true }));
    const bytes = await ciphertext(50_000);
    const path = join(folder, 'file');
    const damaged = [
      bytes.subarray(0, -5),
      Buffer.from(bytes).fill(0, bytes.length - 9),
      bytes.subarray(0, -(50_000 % CHUNK) - 16),
    ];
    for (const [index, each] of damaged.entries()) await writeFile(`${path}-${index}`, each);
    const jobs = damaged.map((_, index) => ({ path: `${path}-${index}`, identity }));
    for (const told of inPython<{ error?: string }>('read', jobs)) assert.ok(told.error);
    const told = vectors<{ vectors: { sha256: string }[] }>('encrypted-files');
    assert.deepEqual(
      inPython<string>('check', told),
      told.vectors.map((vector) => vector.sha256),
    );
  });
});

describe('in a browser', { skip: programSkip('chromium') || programSkip('age') || programSkip('cryptography') }, () => {
  test('a page encrypts what others read, and reads what others encrypted', async (context) => {
    const { outputFiles } = await build({
      stdin: {
        contents: `import * as encryption from './clients/typescript/src/encryption/index.ts'; window.encryption = encryption;`,
        resolveDir: fileURLToPath(new URL('../../', import.meta.url)),
        loader: 'ts',
      },
      bundle: true,
      write: false,
      format: 'iife',
    });
    const page = createServer(({ url }, answer) => {
      if (url === '/page.js') answer.setHeader('content-type', 'text/javascript').end(outputFiles[0]?.contents);
      else answer.setHeader('content-type', 'text/html').end('<!doctype html><script src="/page.js"></script>');
    }).listen(0, '127.0.0.1');
    await once(page, 'listening');
    const address = page.address();
    const origin = `http://localhost:${address && typeof address === 'object' ? address.port : 0}`;
    const service = await startService({ env: { CORS_ORIGINS: origin } });
    const folder = await mkdtemp(join(tmpdir(), 'stowage-test-encryption-'));
    const browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });
    context.after(async () => {
      await browser.close();
      await service.close();
      page.closeAllConnections();
      page.close();
      await rm(folder, { recursive: true, force: true });
    });
    const client = new Client(service.url, 'local-user');
    const tab = await browser.newPage();
    await tab.goto(origin);

    const length = 9 * MiB + 5;
    const id = await tab.evaluate(
      async ([baseUrl, recipient, size]) => {
        const { encryption: client } = window as unknown as { encryption: typeof encryption };
        const bytes = Uint8Array.from({ length: size }, (_, index) => (31 * index + (index >> 8)) & 255);
        const file = new File([bytes], 'Urlaub.mp4', { type: 'video/mp4' });
        const asset = await client.uploadEncrypted(file, { baseUrl, recipients: [recipient] });
        return asset.id;
      },
      [service.url, recipients[0] ?? '', length] as const,
    );
    const path = join(folder, 'browser');
    await writeFile(path, (await client.content(id)).body);
    const [told] = inPython<{ name: string; sha256: string }>('read', [{ path, identity }]);
    assert.deepEqual([told?.name, told?.sha256], ['Urlaub.mp4', sha256(pattern(length))]);

    inPython('write', [{ path, length: 300_000, name: 'Brief.txt', type: 'text/plain', recipients }]);
    const stored = await client.upload(await readFile(path), { name: opaque() });
    const read = await tab.evaluate(
      async ([baseUrl, asset, own]) => {
        const { encryption: client } = window as unknown as { encryption: typeof encryption };
        const file = await client.downloadEncrypted(asset, { baseUrl, identities: [own] });
        const hex = async (bytes: Uint8Array) =>
          Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', new Uint8Array(bytes))), (byte) =>
            byte.toString(16).padStart(2, '0'),
          ).join('');
        const range = { start: 20_000, end: 40_000 };
        return { name: file.name, whole: await hex(await file.bytes()), part: await hex(await file.bytes(range)) };
      },
      [service.url, stored.body.id, identity] as const,
    );
    const plaintext = pattern(300_000);
    const part = sha256(plaintext.subarray(20_000, 40_000));
    assert.deepEqual(read, { name: 'Brief.txt', whole: sha256(plaintext), part });
  });
});
