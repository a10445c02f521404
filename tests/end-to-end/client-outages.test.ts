/** `upload()` of clients/typescript while the network is away, and after the page or the process that called it is gone. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { type Browser, chromium, type Page, type Request } from 'playwright-core';
import type { AssetDocument } from '../../src/assets/asset.ts';
import { s3Options } from '../../src/storage/open.ts';
import { setUpBucket } from '../../src/storage/s3/bucket.ts';
import { S3Proxy } from '../faults/s3-proxy.ts';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { s3Settings, s3Skip } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { waitUntil } from '../support/wait-until.ts';

/** Loaded by its path: the package has compiler options of its own. */
const { UploadFailed, findPreviousUploads, upload }: ClientPackage = await import(
  `${'../../clients/typescript/src/index.ts'}`
);

type Method = 'form' | 'direct' | 'resumable';
interface Storage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
  keys(): string[];
}
interface UploadOptions {
  baseUrl: string;
  headers?: Record<string, string>;
  method?: Method;
  sha256?: string;
  patience?: number;
  backoff?: { first?: number; longest?: number };
  stallTimeout?: number;
  parallel?: number;
  storage?: Storage | false;
  onProgress?: (sent: number) => void;
  signal?: AbortSignal;
  keepWhenAborted?: boolean;
}
interface ClientPackage {
  upload(file: Blob, options: UploadOptions): Promise<AssetDocument>;
  findPreviousUploads(storage?: Storage): Promise<{ method: Method; fileName: string; uploadId?: string }[]>;
  UploadFailed: new () => Error & { status: number; resumable: boolean; problem?: { type: string } };
}

const MiB = 1024 * 1024;
const FILE_TIME = Date.UTC(2026, 10, 20);
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const environment = {
  PART_SIZE: '5MiB',
  DEFAULT_QUOTA: '1GiB',
  REQUESTS_PER_MINUTE: '0',
  UPLOADS_PER_HOUR: '0',
  BODY_TIMEOUT: '5s',
};
const quick = { first: 20, longest: 100 };

function storageOf(map = new Map<string, string>()): Storage {
  return {
    getItem: (key) => map.get(key) ?? null,
    setItem: (key, value) => void map.set(key, value),
    removeItem: (key) => void map.delete(key),
    keys: () => [...map.keys()],
  };
}

describe('upload(file) in Node, on a network that comes and goes', () => {
  let service: TestService;
  let proxy: TcpProxy;
  let owner: string;
  let client: Client;
  before(async () => {
    service = await startService({ env: environment });
    proxy = await new TcpProxy(service.url).listen();
  });
  after(async () => {
    await proxy.close();
    await service.close();
  });
  beforeEach(() => {
    owner = `owner-${randomUUID()}`;
    client = new Client(service.url, owner);
  });
  afterEach(() => {
    // What hangs still holds memory of the service, for which the next test would wait.
    proxy.fault = 'refuse';
    proxy.fault = 'none';
  });

  const bytes = glb(32 * MiB, 11);
  const file = () => new File([bytes], 'm.glb', { type: 'model/gltf-binary', lastModified: FILE_TIME });
  const optionsFor = (more: Partial<UploadOptions>): UploadOptions => ({
    baseUrl: `${proxy.replaceIn(service.url)}/`,
    headers: { 'x-user-id': owner },
    parallel: 2,
    backoff: quick,
    stallTimeout: 10_000,
    ...more,
  });
  /** Does `act` once, when half of the file is on its way. */
  const halfway = (act: () => void) => {
    let isDone = false;
    return (sent: number) => {
      if (isDone || sent < bytes.length / 2) return;
      isDone = true;
      act();
    };
  };
  async function comesBack({ id }: AssetDocument): Promise<void> {
    assert.equal(sha256((await client.content(id)).body), sha256(bytes));
    const { body } = await client.get('/v1/assets');
    assert.equal(body.data.length, 1);
    assert.equal((await client.get('/v1/quota')).body['reserved'], 0);
  }

  for (const method of ['direct', 'resumable', 'form'] as const) {
    for (const fault of ['refuse', 'stall'] as const) {
      test(`by ${method}, three seconds of "${fault}" cost three seconds`, async () => {
        const onProgress = halfway(async () => {
          proxy.fault = fault;
          await delay(3000);
          proxy.fault = 'none';
        });
        await comesBack(await upload(file(), optionsFor({ method, onProgress, backoff: {} })));
      });
    }

    test(`by ${method}, a connection that hangs for good is given up for a new one`, async () => {
      const onProgress = halfway(() => {
        proxy.hang();
      });
      await comesBack(await upload(file(), optionsFor({ method, onProgress, stallTimeout: 1000 })));
    });
  }

  for (const method of ['direct', 'resumable'] as const) {
    test(`by ${method}, it gives up when its patience is at an end, and goes on when it is called again`, async () => {
      const storage = storageOf();
      const cut = halfway(() => {
        proxy.fault = 'refuse';
      });
      const failed = upload(file(), optionsFor({ method, storage, onProgress: cut, patience: 500 }));
      await assert.rejects(failed, (error) => error instanceof UploadFailed && error.status === 0 && error.resumable);
      const [previous] = await findPreviousUploads(storage);
      assert.equal(previous?.method, method);
      assert.equal(previous?.fileName, 'm.glb');
      const progress: number[] = [];
      proxy.fault = 'none';
      const asset = await upload(file(), optionsFor({ method, storage, onProgress: (sent) => progress.push(sent) }));
      assert.equal(asset.id, previous?.uploadId);
      assert.ok((progress[0] ?? 0) >= 5 * MiB, `went on at ${progress[0]}`);
      await comesBack(asset);
      assert.deepEqual(storage.keys(), []);
    });

    test(`by ${method}, another file of the same name, size and time is not mixed in`, async () => {
      const storage = storageOf();
      const cut = halfway(() => {
        proxy.fault = 'refuse';
      });
      await assert.rejects(upload(file(), optionsFor({ method, storage, onProgress: cut, patience: 200 })));
      proxy.fault = 'none';
      const other = glb(32 * MiB, 12);
      const asset = await upload(
        new File([other], 'm.glb', { type: 'model/gltf-binary', lastModified: FILE_TIME }),
        optionsFor({ method, storage }),
      );
      assert.equal(sha256((await client.content(asset.id)).body), sha256(other));
    });

    test(`by ${method}, one that the server has forgotten begins anew`, async () => {
      const storage = storageOf();
      const cut = halfway(() => {
        proxy.fault = 'refuse';
      });
      await assert.rejects(upload(file(), optionsFor({ method, storage, onProgress: cut, patience: 200 })));
      const [previous] = await findPreviousUploads(storage);
      const path = method === 'direct' ? 'uploads' : 'resumable';
      const headers = { 'tus-resumable': '1.0.0' };
      const cancelled = await client.request('DELETE', `/v1/${path}/${previous?.uploadId}`, { headers });
      assert.equal(cancelled.status, 204);
      proxy.fault = 'none';
      const asset = await upload(file(), optionsFor({ method, storage }));
      assert.notEqual(asset.id, previous?.uploadId);
      await comesBack(asset);
      assert.deepEqual(storage.keys(), []);
    });

    test(`by ${method}, an abort cancels it, or leaves it for later where that is wanted`, async () => {
      const storage = storageOf();
      for (const keepWhenAborted of [true, false]) {
        const abort = new AbortController();
        const onProgress = halfway(() => abort.abort(new Error('paused')));
        const options = optionsFor({ method, storage, onProgress, signal: abort.signal, keepWhenAborted });
        await assert.rejects(upload(file(), options), /paused/);
        assert.equal(storage.keys().length, keepWhenAborted ? 1 : 0);
        const expected = keepWhenAborted ? bytes.length : 0;
        await waitUntil(async () => (await client.get('/v1/quota')).body['reserved'] === expected);
      }
    });

    test(`by ${method}, two calls with one file do not take the upload from each other`, async () => {
      const storage = storageOf();
      const both = await Promise.all([1, 2].map(() => upload(file(), optionsFor({ method, storage }))));
      assert.equal(new Set(both.map(({ id }) => id)).size, 2);
      assert.deepEqual(storage.keys(), []);
    });
  }

  test('a lost answer to a form is asked for again under the same key, also by a later call', async () => {
    const storage = storageOf();
    const small = png(5000, 1);
    const photo = () => new File([small], 'p.png', { type: 'image/png', lastModified: FILE_TIME });
    proxy.passAnswer = () => false;
    await assert.rejects(upload(photo(), optionsFor({ storage, patience: 100 })));
    proxy.passAnswer = () => true;
    const asset = await upload(photo(), optionsFor({ storage }));
    const { body } = await client.get('/v1/assets');
    assert.deepEqual(
      body.data.map(({ id }) => id),
      [asset.id],
    );
    assert.deepEqual(storage.keys(), []);
  });

  for (const method of ['form', 'direct'] as const) {
    test(`by ${method}, a digest that is not that of the bytes is refused, and one that is computed is right`, async () => {
      const asset = await upload(file(), optionsFor({ method, sha256: 'compute' }));
      assert.equal(asset.sha256, sha256(bytes));
      const refused = upload(file(), optionsFor({ method, sha256: '0'.repeat(64) }));
      await assert.rejects(
        refused,
        (error) =>
          error instanceof UploadFailed &&
          error.status === 422 &&
          error.problem?.type === 'urn:stowage:problem:digest-mismatch',
      );
    });
  }
});

describe('upload(file) in a browser, on a network that comes and goes', {
  skip: s3Skip() || programSkip('chromium'),
}, () => {
  const bytes = glb(48 * MiB, 21);
  let service: TestService;
  let s3: S3Proxy;
  let proxy: TcpProxy;
  let server: Server;
  let browser: Browser;
  let page: Page;
  let client: Client;
  let origin: string;

  before(async () => {
    const { outputFiles } = await build({
      stdin: {
        contents: `import * as client from './clients/typescript/src/index.ts'; window.client = client;`,
        resolveDir: fileURLToPath(new URL('../../', import.meta.url)),
        loader: 'ts',
      },
      bundle: true,
      write: false,
      format: 'iife',
    });
    server = createServer(({ url }, answer) => {
      if (url === '/file') answer.end(bytes);
      else if (url === '/page.js') answer.setHeader('content-type', 'text/javascript').end(outputFiles[0]?.contents);
      else answer.setHeader('content-type', 'text/html').end('<!doctype html><script src="/page.js"></script>');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    origin = `http://localhost:${address && typeof address === 'object' ? address.port : 0}`;
    s3 = await new S3Proxy(s3Settings()?.endpoint ?? '').listen();
    service = await startService({
      store: 's3',
      env: { ...environment, CORS_ORIGINS: origin, S3_ENDPOINT: s3.url },
    });
    await setUpBucket(s3Options(service.config), { keyPrefix: '', corsOrigins: [origin], versioning: false });
    proxy = await new TcpProxy(service.url).listen();
    browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });
    client = new Client(service.url, 'local-user');
  });
  after(async () => {
    await browser.close();
    await service.close();
    await proxy.close();
    await s3.close();
    server.closeAllConnections();
    server.close();
  });
  beforeEach(async () => {
    page = await browser.newPage();
  });
  afterEach(async () => {
    connect(true);
    await page.context().close();
    for (const { id } of (await client.get('/v1/assets')).body.data)
      await client.request('DELETE', `/v1/assets/${id}?permanent=true`);
  });

  function connect(isOnline: boolean): void {
    s3.dead = !isOnline;
    proxy.fault = isOnline ? 'none' : 'refuse';
  }

  /** Begins an upload in the page; its outcome is asked for later. */
  async function begin(method: Method, more: { patience?: number } = {}): Promise<void> {
    await page.evaluate(
      async ([baseUrl, chosen, options, time]) => {
        const blob = await (await fetch('/file')).blob();
        const file = new File([blob], 'm.glb', { type: 'model/gltf-binary', lastModified: time });
        const { client: stowage } = window as unknown as { client: ClientPackage };
        const state: PageState = { sent: 0 };
        Object.assign(window, { state });
        const onProgress = (sent: number) => {
          state.first ??= sent;
          state.sent = sent;
        };
        stowage.upload(file, { baseUrl, method: chosen, parallel: 2, ...options, onProgress }).then(
          ({ id }) => {
            state.id = id;
          },
          (error) => {
            state.error = `${error.name} ${error.status}: ${error.message}`;
          },
        );
      },
      [proxy.replaceIn(service.url), method, more, FILE_TIME] as const,
    );
  }
  interface PageState {
    first?: number;
    sent: number;
    id?: string;
    error?: string;
  }
  const state = (): Promise<PageState> => page.evaluate(() => (window as unknown as { state: PageState }).state);
  const remembered = (): Promise<string[]> => page.evaluate(() => Object.keys(localStorage));

  async function onceHalfway(): Promise<void> {
    await waitUntil(async () => (await state()).sent > bytes.length / 2);
  }
  async function comesBack(): Promise<void> {
    await waitUntil(async () => {
      const { id, error } = await state();
      assert.equal(error, undefined);
      return id !== undefined;
    });
    const { id = '' } = await state();
    assert.equal(sha256((await client.content(id)).body), sha256(bytes));
    assert.equal((await client.get('/v1/assets')).body.data.length, 1);
    assert.deepEqual(await remembered(), []);
  }

  for (const method of ['direct', 'resumable'] as const) {
    /** Slow enough to be cut in the middle. */
    const slowly = async () => {
      const session = await page.context().newCDPSession(page);
      const speed = 16 * MiB;
      await session.send('Network.emulateNetworkConditions', {
        offline: false,
        latency: 0,
        downloadThroughput: -1,
        uploadThroughput: speed,
      });
    };

    for (const [title, minutes] of [
      ['20 seconds', 1 / 3],
      ['five minutes', 5],
    ] as const) {
      test(`by ${method}, an outage of ${title} is waited for`, async () => {
        await page.clock.install();
        await page.goto(origin);
        await slowly();
        await begin(method);
        await onceHalfway();
        connect(false);
        for (let passed = 0; passed < minutes * 60; passed += 5) {
          await page.clock.runFor(5000);
          await delay(20);
        }
        const { error, id } = await state();
        assert.deepEqual([error, id], [undefined, undefined]);
        connect(true);
        // The browser says nothing of it here: the next try finds it out.
        await page.clock.runFor(15_000);
        await comesBack();
      });
    }

    test(`by ${method}, the event "online" ends the pause`, async () => {
      await page.clock.install();
      await page.goto(origin);
      await slowly();
      await begin(method);
      await onceHalfway();
      connect(false);
      await page.clock.runFor(60_000);
      await page.clock.pauseAt(new Date(Date.now() + 3_600_000));
      connect(true);
      await delay(100);
      assert.equal((await state()).id, undefined);
      await page.evaluate(() => window.dispatchEvent(new Event('online')));
      await page.clock.resume();
      await comesBack();
    });

    test(`by ${method}, a reload of the page sends what is missing, and nothing twice`, async () => {
      await page.goto(origin);
      await slowly();
      await begin(method);
      await onceHalfway();
      connect(false);
      await page.reload();
      assert.equal((await remembered()).length, 1);
      connect(true);
      const requests: Request[] = [];
      page.on('request', (request) => requests.push(request));
      await begin(method);
      await comesBack();
      const sent = requests.filter((request) => ['PUT', 'PATCH'].includes(request.method()));
      if (method === 'direct') assert.ok(sent.length > 0 && sent.length <= 7, `${sent.length} of 10 parts`);
      else assert.ok(Number(sent[0]?.headers()['upload-offset']) >= 5 * MiB);
      assert.ok(((await state()).first ?? 0) >= 5 * MiB);
    });
  }
});
