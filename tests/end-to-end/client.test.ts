/** clients/typescript, in Node and in a real browser, against the running service. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, mock, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { writeClient } from '../../scripts/client.ts';
import type { AssetDocument } from '../../src/assets/asset.ts';
import { s3Options } from '../../src/storage/open.ts';
import { setUpBucket } from '../../src/storage/s3/bucket.ts';
import { S3Proxy } from '../faults/s3-proxy.ts';
import { Client } from '../support/client.ts';
import { glb, pdf, png } from '../support/files.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { contentsOf, s3Settings, s3Skip } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

/** Loaded by its path: the package has compiler options of its own, and is compiled with them below. */
const { UploadFailed, upload }: ClientPackage = await import(`${'../../clients/typescript/src/index.ts'}`);

interface UploadOptions {
  baseUrl: string;
  headers?: Record<string, string>;
  ticket?: string | (() => Promise<string>);
  method?: 'form' | 'direct' | 'resumable';
  projectId?: string;
  metadata?: Record<string, string>;
  sha256?: string;
  patience?: number;
  backoff?: { first?: number; longest?: number };
  onProgress?: (sent: number) => void;
  signal?: AbortSignal;
}
interface ClientPackage {
  upload(file: Blob, options: UploadOptions): Promise<AssetDocument>;
  UploadFailed: new () => Error & { status: number };
}

const MiB = 1024 * 1024;
const run = promisify(execFile);
const path = (from: string) => fileURLToPath(new URL(`../../${from}`, import.meta.url));
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe('the sources of the client', () => {
  test('the generated part is what openapi.yaml says; else run npm run client', async (context) => {
    const fresh = await mkdtemp(join(tmpdir(), 'stowage-client-'));
    context.after(() => rm(fresh, { recursive: true, force: true }));
    await writeClient(join(fresh, 'generated'));
    const committed = path('clients/typescript/src/generated');
    const files = (await readdir(join(fresh, 'generated'), { recursive: true })).filter((name) => name.endsWith('.ts'));
    assert.ok(files.length > 5);
    for (const name of files)
      assert.equal(
        await readFile(join(committed, name), 'utf8'),
        await readFile(join(fresh, 'generated', name), 'utf8'),
        name,
      );
  });

  test('compile, with declarations, for applications', async (context) => {
    const output = await mkdtemp(join(tmpdir(), 'stowage-client-'));
    context.after(() => rm(output, { recursive: true, force: true }));
    const compiler = createRequire(import.meta.url).resolve('typescript/bin/tsc');
    const { stdout } = await run(process.execPath, [
      compiler,
      '-p',
      path('clients/typescript/tsconfig.json'),
      '--outDir',
      output,
    ]).catch((error) => error);
    assert.equal(stdout, '');
    const declarations = await readFile(join(output, 'index.d.ts'), 'utf8');
    assert.match(declarations, /upload/);
  });
});

/** As STALL_TIMEOUT of the client. */
const STALL_TIMEOUT = 60_000;

describe('upload(file) in Node', { skip: s3Skip() }, () => {
  let service: TestService;
  let s3: S3Proxy;
  const timers = new Set<unknown>();
  const { setTimeout: start, clearTimeout: end } = globalThis;
  before(async () => {
    mock.method(globalThis, 'setTimeout', (callback: () => void, milliseconds?: number, ...rest: []) => {
      const timer = start(callback, milliseconds, ...rest);
      if (milliseconds === STALL_TIMEOUT) timers.add(timer);
      return timer;
    });
    mock.method(globalThis, 'clearTimeout', (timer: NodeJS.Timeout) => {
      timers.delete(timer);
      end(timer);
    });
    s3 = await new S3Proxy(s3Settings()?.endpoint ?? '').listen();
    service = await startService({
      store: 's3',
      env: { S3_ENDPOINT: s3.url, PART_SIZE: '5MiB', DEFAULT_QUOTA: '1GiB', REQUESTS_PER_MINUTE: '0' },
    });
  });
  after(async () => {
    s3.heal();
    await service.close();
    await s3.close();
    // A program that has nothing else to do ends, also after uploads that were broken off in the middle of a body.
    await waitUntil(() => timers.size === 0, { timeout: STALL_TIMEOUT / 2 });
    mock.restoreAll();
  });
  const optionsFor = (owner: string, more: Partial<UploadOptions> = {}): UploadOptions => ({
    baseUrl: service.url,
    headers: { 'x-user-id': owner },
    ...more,
  });
  const fileOf = (bytes: Buffer<ArrayBuffer>, name: string, type: string) => new File([bytes], name, { type });

  for (const method of ['form', 'direct', 'resumable'] as const)
    test(`takes an upload ticket instead of a token, or a function that fetches one: ${method}`, async () => {
      const backend = new Client(service.url, `backend-${method}`);
      let issued = 0;
      const fetchTicket = async () => {
        issued += 1;
        const wanted = { subject: `user-${method}`, maxFiles: 1, metadata: { order: '7' }, expiresIn: 600 };
        return String((await backend.send('POST', '/v1/tickets', wanted)).body['token']);
      };
      const file = fileOf(glb(6 * MiB, 4), 'm.glb', 'model/gltf-binary');
      const options: UploadOptions = { baseUrl: service.url, method };
      const asset = await upload(file, { ...options, ticket: fetchTicket });
      assert.deepEqual(asset.metadata, { order: '7' });
      assert.equal(issued, 1);
      assert.equal((await new Client(service.url, `user-${method}`).get(`/v1/assets/${asset.id}`)).status, 200);
      const ticket = await fetchTicket();
      assert.equal((await upload(file, { ...options, ticket })).state, 'ready');
      await assert.rejects(upload(file, { ...options, ticket }), { status: 403 });
    });

  for (const [title, bytes, name, type, method] of [
    ['a small file in one request', png(5000, 1), 'p.png', 'image/png', undefined],
    ['a large one by direct parts', glb(27 * MiB, 2), 'm.glb', 'model/gltf-binary', undefined],
    ['a large one without a type by tus', glb(12 * MiB, 8), 'm.glb', '', undefined],
    ['one by tus, when it is told to', glb(12 * MiB, 3), 'm.glb', 'model/gltf-binary', 'resumable'],
  ] as const) {
    test(`brings ${title}, tells the progress, and gives the asset`, async () => {
      const owner = `owner-${randomUUID()}`;
      const progress: number[] = [];
      const asset = await upload(fileOf(bytes, name, type), {
        ...optionsFor(owner),
        ...(method && { method }),
        projectId: owner,
        metadata: { album: 'summer' },
        onProgress: (sent) => progress.push(sent),
      });
      assert.equal(asset.state, 'ready');
      assert.equal(asset.name, name);
      assert.equal(asset.projectId, owner);
      assert.deepEqual(asset.metadata, { album: 'summer' });
      assert.equal(progress.at(-1), bytes.length);
      assert.deepEqual(
        progress,
        [...progress].sort((a, b) => a - b),
      );
      assert.equal(sha256((await new Client(service.url, owner).content(asset.id)).body), sha256(bytes));
    });
  }

  test('sends a part again that failed, and asks for a new link when it has expired', async () => {
    const failures = new Map<string, number>();
    s3.faultFor = ({ operation, url }) => {
      const part = /partNumber=\d+/.exec(url)?.[0] ?? '';
      const before = failures.get(part) ?? 0;
      failures.set(part, before + 1);
      if (operation !== 'UploadPart' || before >= 2) return undefined;
      return before === 0 ? 'unavailable' : 'reset within';
    };
    const bytes = glb(22 * MiB, 4);
    const owner = `owner-${randomUUID()}`;
    const asset = await upload(fileOf(bytes, 'm.glb', 'model/gltf-binary'), optionsFor(owner));
    s3.heal();
    assert.ok([...failures.keys()].filter(Boolean).length >= 5);
    assert.equal(sha256((await new Client(service.url, owner).content(asset.id)).body), sha256(bytes));
  });

  test('goes by tus where the bucket cannot be reached', async () => {
    // Only the links are cut: what the service sends itself has no signature in its query.
    s3.faultFor = ({ url }) => (url.includes('X-Amz-Signature') ? 'reset before' : undefined);
    const bytes = glb(12 * MiB, 5);
    const owner = `owner-${randomUUID()}`;
    const asset = await upload(
      fileOf(bytes, 'm.glb', 'model/gltf-binary'),
      optionsFor(owner, { backoff: { first: 10 } }),
    );
    s3.heal();
    const client = new Client(service.url, owner);
    assert.equal(sha256((await client.content(asset.id)).body), sha256(bytes));
    assert.equal((await client.get('/v1/quota')).body['reserved'], 0);
  });

  for (const method of ['form', 'direct', 'resumable'] as const) {
    test(`tells why a file was refused, by ${method}`, async () => {
      const refused = upload(fileOf(pdf(), 'p.png', 'image/png'), optionsFor('somebody', { method }));
      await assert.rejects(refused, (error) => error instanceof UploadFailed && error.status === 415);
    });

    test(`ends when it is told to, and leaves nothing, by ${method}`, async () => {
      const owner = `owner-${randomUUID()}`;
      const stop = new AbortController();
      s3.faultFor = ({ operation }) => {
        if (operation !== 'UploadPart') return undefined;
        stop.abort(new Error('enough'));
        return 'slow';
      };
      const bytes = glb(22 * MiB, 6);
      const options = optionsFor(owner, { method, signal: stop.signal });
      await assert.rejects(upload(fileOf(bytes, 'm.glb', 'model/gltf-binary'), options), /enough/);
      s3.heal();
      await waitUntil(async () => {
        await service.query("update pgboss.job set start_after = now() where name = 'delete-object'");
        return (await service.query('select 1 from assets where owner_id = $1', [owner])).length === 0;
      });
      assert.ok(service.bucket);
      const { keys, openUploads } = await contentsOf(service.bucket);
      assert.ok(![...keys, ...openUploads].some((key) => key.includes(`/${owner}/`)));
    });
  }
});

describe('upload(file) in a browser', { skip: s3Skip() || programSkip('chromium') }, () => {
  test('brings files by each method from a page of another origin', async (context) => {
    const bytes = glb(22 * MiB, 7);
    const { outputFiles } = await build({
      stdin: {
        contents: `import { upload } from './clients/typescript/src/index.ts'; window.upload = upload;`,
        resolveDir: path('.'),
        loader: 'ts',
      },
      bundle: true,
      write: false,
      format: 'iife',
    });
    const server = createServer(({ url }, answer) => {
      if (url === '/file') answer.end(bytes);
      else if (url === '/page.js') answer.setHeader('content-type', 'text/javascript').end(outputFiles[0]?.contents);
      else answer.setHeader('content-type', 'text/html').end('<!doctype html><script src="/page.js"></script>');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const origin = `http://localhost:${address && typeof address === 'object' ? address.port : 0}`;
    const service = await startService({ store: 's3', env: { CORS_ORIGINS: origin, PART_SIZE: '5MiB' } });
    await setUpBucket(s3Options(service.config), { keyPrefix: '', corsOrigins: [origin], versioning: false });
    const browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });
    context.after(async () => {
      await browser.close();
      await service.close();
      server.closeAllConnections();
      server.close();
    });
    const page = await browser.newPage();
    await page.goto(origin);
    for (const method of ['form', 'direct', 'resumable']) {
      const { id, steps } = await page.evaluate(
        async ([baseUrl, chosen]) => {
          const file = new File([await (await fetch('/file')).blob()], 'm.glb', { type: 'model/gltf-binary' });
          let count = 0;
          const onProgress = () => {
            count += 1;
          };
          const { upload: send } = window as unknown as { upload: ClientPackage['upload'] };
          const asset = await send(file, { baseUrl, method: chosen as 'form', onProgress });
          return { id: asset.id, steps: count };
        },
        [service.url, method] as const,
      );
      assert.ok(steps >= 1);
      assert.equal(sha256((await new Client(service.url, 'local-user').content(id)).body), sha256(bytes));
    }
  });
});
