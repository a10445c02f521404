import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { MAX_LINKED } from '../../src/archives/links.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { privateFiles } from '../support/private-files.ts';
import { programPath, programSkip } from '../support/programs.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const run = promisify(execFile);
const UNKNOWN = '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';
const tools = programSkip('unzip') || programSkip('bsdtar') || programSkip('python3');

for (const { store, skip } of storeKinds) {
  describe(`archives from the ${store} store`, { skip: skip || tools }, () => {
    let service: TestService;
    let client: Client;
    let directory = '';
    /** Objects that are open, and how many were at once at most. */
    const reads = { open: 0, most: 0, opened: 0 };
    /** Of objects, by their keys. */
    const faults = new Map<string, 'missing' | 'cut' | 'other'>();
    const contents = [png(300, 1), png(700_000, 2), png(200, 3), png(66_000, 4), png(1000, 5)];
    const names = ['a.png', 'A.PNG', 'grüße 日本.png', 'con.png', 'a.png'];
    const inArchive = ['a.png', 'A (2).PNG', 'grüße 日本.png', '_con.png', 'a (3).png'];
    let ids: string[] = [];
    let url = '';
    let archive = Buffer.alloc(0);
    let tag = '';

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), 'stowage-test-archives-'));
      service = await startService({
        store,
        env: { REQUESTS_PER_MINUTE: '0', MAX_ARCHIVE_SIZE: '1MiB' },
        wrapStore: (inner) => watched(inner),
      });
      client = new Client(service.url);
      ids = await Promise.all(names.map((name, index) => store_(contents[index] ?? png(), name)));
      const { status, body } = await client.send('POST', '/v1/archives', { ids, name: 'trip.zip' });
      assert.equal(status, 200, JSON.stringify(body));
      assert.equal(body['files'], 5);
      url = String(body['url']);
      const answer = await fetch(url);
      archive = Buffer.from(await answer.arrayBuffer());
      tag = answer.headers.get('etag') ?? '';
      assert.equal(answer.status, 200);
      assert.equal(archive.length, body['size']);
      assert.equal(answer.headers.get('content-length'), String(archive.length));
      assert.equal(answer.headers.get('content-type'), 'application/zip');
      assert.match(answer.headers.get('content-disposition') ?? '', /^attachment; filename="trip\.zip"/);
      await writeFile(join(directory, 'archive.zip'), archive);
    });
    after(async () => {
      await service.close();
      await rm(directory, { recursive: true, force: true });
    });

    async function store_(bytes: Buffer<ArrayBuffer>, name: string): Promise<string> {
      const { status, body } = await client.raw(bytes, { name });
      assert.equal(status, 201, JSON.stringify(body));
      return body.id;
    }

    /** Counts what is read, and does to it what `faults` says. */
    function watched(inner: ObjectStore): ObjectStore {
      const get: ObjectStore['get'] = async (key, options) => {
        const fault = faults.get(key);
        if (fault === 'missing') return undefined;
        const body = await inner.get(key, options);
        if (!body) return undefined;
        reads.open += 1;
        reads.opened += 1;
        reads.most = Math.max(reads.most, reads.open);
        body.stream.once('close', () => {
          reads.open -= 1;
        });
        if (fault === undefined) return body;
        let seen = 0;
        const stream = new PassThrough();
        body.stream.on('data', (chunk: Buffer) => {
          seen += chunk.length;
          if (fault === 'other') stream.write(Buffer.alloc(chunk.length, 7));
          else if (seen <= body.length / 2) stream.write(chunk);
        });
        body.stream.once('end', () => (fault === 'other' ? stream.end() : stream.destroy(new Error('cut'))));
        return { ...body, stream };
      };
      return new Proxy(inner, {
        get: (target, name) => {
          if (name === 'get') return get;
          const value: unknown = Reflect.get(target, name);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
    }

    async function keyOf(id: string): Promise<string> {
      const [row] = await service.query<{ object_key: string }>('select object_key from assets where id = $1', [id]);
      return row?.object_key ?? '';
    }

    async function checksumOf(id: string | undefined): Promise<number | null> {
      const [row] = await service.query<{ crc32: string | null }>('select crc32 from assets where id = $1', [id]);
      return row?.crc32 == null ? null : Number(row.crc32);
    }

    async function part(range: string, headers: Record<string, string> = {}) {
      const answer = await fetch(url, { headers: { range, ...headers } });
      return { status: answer.status, headers: answer.headers, body: Buffer.from(await answer.arrayBuffer()) };
    }

    test('are read by Info-ZIP, Python and libarchive, also as they come', async () => {
      const path = join(directory, 'archive.zip');
      await run(programPath('unzip'), ['-tqq', path]);
      const program =
        'import sys, zipfile, json; z = zipfile.ZipFile(sys.argv[1]); print(json.dumps([z.testzip(), z.namelist()]))';
      const { stdout } = await run(programPath('python3'), ['-c', program, path]);
      assert.deepEqual(JSON.parse(stdout), [null, inArchive]);
      const unpacked = await mkdtemp(join(directory, 'unpacked-'));
      const child = run(programPath('bsdtar'), ['-xf', '-', '-C', unpacked], { env: { LC_ALL: 'C.UTF-8' } });
      Readable.from([archive]).pipe(child.child.stdin ?? new PassThrough());
      await child;
      assert.deepEqual((await readdir(unpacked)).sort(), [...inArchive].sort());
      for (const [index, name] of inArchive.entries())
        assert.ok((await readFile(join(unpacked, name))).equals(contents[index] ?? Buffer.alloc(0)), name);
    });

    test('one object is read at a time, and the next one is opened at its end at most', async () => {
      Object.assign(reads, { most: 0, opened: 0 });
      assert.ok(Buffer.from(await (await fetch(url)).arrayBuffer()).equals(archive));
      assert.equal(reads.opened, ids.length);
      assert.ok(reads.most <= 2, `${reads.most}`);
    });

    test('ranges are those of the whole, and put together they are it', async () => {
      const step = Math.ceil(archive.length / 7);
      const parts: Buffer[] = [];
      for (let first = 0; first < archive.length; first += step) {
        const { status, headers, body } = await part(`bytes=${first}-${first + step - 1}`, { 'if-range': tag });
        const last = Math.min(first + step, archive.length) - 1;
        assert.equal(status, 206);
        assert.equal(headers.get('content-range'), `bytes ${first}-${last}/${archive.length}`);
        parts.push(body);
      }
      assert.ok(Buffer.concat(parts).equals(archive));
      assert.ok((await part('bytes=-60')).body.equals(archive.subarray(-60)));
      assert.equal((await part(`bytes=${archive.length}-`)).status, 416);
      assert.equal((await part('bytes=5-9', { 'if-range': '"another"' })).status, 200);
    });

    test('HEAD and conditions are answered without reading anything', async () => {
      reads.opened = 0;
      const head = await fetch(url, { method: 'HEAD' });
      assert.equal(head.status, 200);
      assert.equal(head.headers.get('content-length'), String(archive.length));
      assert.equal(head.headers.get('etag'), tag);
      assert.equal((await fetch(url, { headers: { 'if-none-match': tag } })).status, 304);
      assert.equal((await fetch(url, { headers: { 'if-match': '"another"' } })).status, 412);
      assert.equal(reads.opened, 0);
    });

    test('checksums come with the bytes; of files that came without, they are found out and kept', async () => {
      const unknown = [ids[0], ids[3]];
      assert.equal(await checksumOf(ids[3]), crc32(contents[3] ?? ''));
      await service.query('update assets set crc32 = null where id = any($1)', [unknown]);
      // From the middle: the checksum of the first file is needed by the directory at the end.
      const rest = await part(`bytes=${500_000}-`);
      assert.ok(rest.body.equals(archive.subarray(500_000)));
      assert.equal(await checksumOf(ids[0]), crc32(contents[0] ?? ''));
      assert.equal(await checksumOf(ids[3]), crc32(contents[3] ?? ''));
      await service.query('update assets set crc32 = null');
      Object.assign(reads, { most: 0 });
      assert.ok(Buffer.from(await (await fetch(url)).arrayBuffer()).equals(archive));
      assert.ok(reads.most <= 2, `${reads.most}`);
    });

    test('making a link has the checksums found out that are not known', async () => {
      await service.query('update assets set crc32 = null where id = $1', [ids[1]]);
      assert.equal((await client.send('POST', '/v1/archives', { ids })).status, 200);
      await waitUntil(async () => (await checksumOf(ids[1])) === crc32(contents[1] ?? ''));
    });

    test('the checksum is that of what is stored, where metadata was taken out', async () => {
      const photo = (await privateFiles()).find(({ fileName }) => fileName.endsWith('.jpg'))?.bytes ?? Buffer.alloc(0);
      const id = await store_(photo, 'photo.jpg');
      const { body: stored } = await client.content(id);
      assert.ok(!stored.equals(photo));
      assert.equal(await checksumOf(id), crc32(stored));
    });

    for (const fault of ['missing', 'cut', 'other'] as const)
      test(`an object that is ${fault} in the middle ends the connection`, async () => {
        service.log.length = 0;
        faults.set(await keyOf(ids[3] ?? ''), fault);
        const received = await bytesUntilTheEnd(url);
        assert.ok(received.bytes > 700_000 && received.bytes < archive.length, `${received.bytes}`);
        assert.ok(!received.isWhole);
        await waitUntil(() => service.log.some((line) => line.includes('an archive broke off')));
        faults.clear();
        // What was believed of it is found out again.
        assert.ok(Buffer.from(await (await fetch(url)).arrayBuffer()).equals(archive));
      });

    test('an object that is missing at the beginning is told before anything is sent', async () => {
      faults.set(await keyOf(ids[0] ?? ''), 'missing');
      const answer = await fetch(url);
      faults.clear();
      assert.equal(answer.status, 503);
      assert.match(await answer.text(), /urn:stowage:problem:unavailable/);
    });

    test('nothing stays open when the client goes away', async () => {
      const { hostname, port } = new URL(url);
      const socket = connect(Number(port), hostname);
      socket.write(`GET ${new URL(url).pathname} HTTP/1.1\r\nhost: ${hostname}\r\n\r\n`);
      await new Promise((resolve) => socket.once('data', resolve));
      socket.destroy();
      await waitUntil(async () => reads.open === 0);
    });

    test('a download is recorded for whoever made the link, and counted once for each file', async () => {
      const before = await countsOf();
      await (await fetch(url)).arrayBuffer();
      const size = Math.ceil(archive.length / 3);
      for (const first of [0, size, 2 * size]) await part(`bytes=${first}-${first + size - 1}`);
      assert.deepEqual(
        await countsOf(),
        before.map((count) => count + 2),
      );
      const rows = await service.query<{ owner_id: string; detail: { archive: string; files: number } }>(
        `select owner_id, detail from audit_events where action = 'archive.downloaded' order by id desc limit 1`,
      );
      assert.equal(rows[0]?.owner_id, 'alice');
      assert.equal(rows[0]?.detail.files, 5);
      const issued = await service.query<{ asset_id: string }>(
        `select asset_id from audit_events where action = 'asset.link-issued' and detail ->> 'archive' = $1`,
        [rows[0]?.detail.archive],
      );
      assert.deepEqual(new Set(issued.map(({ asset_id }) => asset_id)), new Set(ids));
    });

    async function countsOf(): Promise<number[]> {
      return Promise.all(ids.map(async (id) => Number((await client.get(`/v1/assets/${id}`)).body['downloadCount'])));
    }

    test('a link is refused when it is not as it was signed, and when it has expired', async () => {
      const token = url.slice(url.lastIndexOf('/') + 1);
      const flipped = Buffer.from(token, 'base64url');
      for (const at of [0, 16, 20, flipped.length - 1]) {
        const other = Buffer.from(flipped);
        other[at] = (other[at] ?? 0) ^ 1;
        const answer = await fetch(`${service.url}/v1/archives/${other.toString('base64url')}`);
        assert.equal(answer.status, 404, `${at}`);
      }
      for (const other of ['x', `${token}A`, token.slice(0, -1), `${token}=`])
        assert.equal((await fetch(`${service.url}/v1/archives/${other}`)).status, 404, other);
      const { body } = await client.send('POST', '/v1/archives', { ids, expiresIn: 1 });
      await waitUntil(async () => (await fetch(String(body['url']), { method: 'HEAD' })).status === 410);
    });

    test('what is not there, not served or too much is refused as a whole, and leaves no row', async () => {
      const rows = async () =>
        (await service.query("select from audit_events where action = 'asset.link-issued'")).length;
      const before = await rows();
      const foreign = await new Client(service.url, 'bob').raw(png(150, 8), { name: 'b.png' });
      const [unknown, others] = await Promise.all(
        [UNKNOWN, foreign.body.id].map((id) => client.send('POST', '/v1/archives', { ids: [ids[0], id] })),
      );
      assert.equal(unknown?.status, 404);
      assert.deepEqual(
        unknown?.body.errors?.map(({ pointer }) => pointer),
        ['/ids/1'],
      );
      assert.deepEqual({ ...others?.body, requestId: '' }, { ...unknown?.body, requestId: '' });
      const large = await store_(png(600_000, 7), 'large.png');
      const tooLarge = await client.send('POST', '/v1/archives', { ids: [...ids, large] });
      assert.equal(tooLarge.status, 413);
      assert.equal(tooLarge.body.type, 'urn:stowage:problem:archive-too-large');
      for (const body of [
        { ids: [] },
        { ids: Array(MAX_LINKED + 1).fill(ids[0]) },
        { ids, expiresIn: 604_801 },
        { ids, name: 'x.exe' },
        { ids, name: '../x.zip' },
      ])
        assert.equal((await client.send('POST', '/v1/archives', body)).status, 400);
      assert.equal(await rows(), before);
    });

    test('a link ends when one of its files goes into the trash', async () => {
      const id = await store_(png(190, 6), 'gone.png');
      const { body } = await client.send('POST', '/v1/archives', { ids: [ids[0], id] });
      assert.equal((await fetch(String(body['url']))).status, 200);
      await client.request('DELETE', `/v1/assets/${id}`);
      assert.equal((await fetch(String(body['url']))).status, 404);
    });

    test('of a share: all its files, as one download of it, which may go on when no other may begin', async () => {
      const { body: share } = await client.send('POST', '/v1/shares', {
        assetIds: ids,
        label: 'Trip',
        maxDownloads: 1,
      });
      const address = `${String(share['url'])}/archive`;
      const head = await fetch(address, { method: 'HEAD' });
      assert.equal(head.status, 200);
      assert.equal(head.headers.get('content-length'), String(archive.length));
      assert.match(head.headers.get('content-disposition') ?? '', /^attachment; filename="Trip\.zip"/);
      const [before = 0] = await countsOf();
      const broken = await fetch(address, { headers: { range: 'bytes=0-99999' } });
      const begin = Buffer.from(await broken.arrayBuffer());
      const rest = await fetch(address, {
        headers: { range: 'bytes=100000-', 'if-range': broken.headers.get('etag') ?? '' },
      });
      assert.equal(rest.status, 206);
      assert.ok(Buffer.concat([begin, Buffer.from(await rest.arrayBuffer())]).equals(archive));
      const told = await client.get(`/v1/shares/${share.id}`);
      assert.deepEqual([told.body['downloads'], told.body.state], [1, 'used-up']);
      assert.equal((await countsOf())[0], before + 1);
      const unknown = await fetch(`${service.url}/s/${'A'.repeat(22)}/archive`);
      const late = await fetch(address, { headers: { 'user-agent': 'another' } });
      const { requestId: _one, ...first } = JSON.parse(await unknown.text());
      const { requestId: _two, ...second } = JSON.parse(await late.text());
      assert.deepEqual([late.status, second], [404, first]);
    });

    test('of a share for looking, and of a share of one file, there is none', async () => {
      for (const [body, status] of [
        [{ assetIds: ids, allow: 'view' }, 403],
        [{ assetId: ids[0] }, 404],
      ] as const) {
        const { body: share } = await client.send('POST', '/v1/shares', body);
        assert.equal((await fetch(`${String(share['url'])}/archive`)).status, status);
      }
    });

    test('of a share of a project: what is there when it is asked for', async () => {
      const projectId = `archive-${store}`;
      for (const index of [1, 2]) await client.raw(png(400, index), { name: 'same.png', fields: { projectId } });
      const { body: share } = await client.send('POST', '/v1/shares', { projectId });
      const address = `${String(share['url'])}/archive`;
      const filesIn = async () => {
        await writeFile(join(directory, 'project.zip'), Buffer.from(await (await fetch(address)).arrayBuffer()));
        return (await run(programPath('unzip'), ['-Z1', join(directory, 'project.zip')])).stdout.trim().split('\n');
      };
      assert.deepEqual(await filesIn(), ['same.png', 'same (2).png']);
      await client.raw(png(400, 3), { name: 'later.png', fields: { projectId } });
      assert.deepEqual((await filesIn()).sort(), ['later.png', 'same (2).png', 'same.png']);
    });

    test('a link to as many as it can name is taken as it is given', async () => {
      const many = await Promise.all(
        Array.from({ length: MAX_LINKED }, (_, index) => store_(png(180, index), `${index}.png`)),
      );
      const { body } = await client.send('POST', '/v1/archives', { ids: many, name: `${'ü'.repeat(125)}.zip` });
      const answer = await fetch(String(body['url']));
      const bytes = Buffer.from(await answer.arrayBuffer());
      assert.equal(bytes.length, body['size']);
      await writeFile(join(directory, 'many.zip'), bytes);
      await run(programPath('unzip'), ['-tqq', join(directory, 'many.zip')]);
    });
  });
}

/** Reads an answer to its end, however it ends. */
async function bytesUntilTheEnd(url: string): Promise<{ bytes: number; isWhole: boolean }> {
  const answer = await fetch(url);
  let bytes = 0;
  try {
    for await (const chunk of answer.body ?? []) bytes += chunk.length;
    return { bytes, isWhole: true };
  } catch {
    return { bytes, isWhole: false };
  }
}
