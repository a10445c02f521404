/** The first store is emptied, and filled again from its mirror; or it does not answer, and the mirror serves. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { compareMirror } from '../../src/mirrors/comparing.ts';
import { bringBack } from '../../src/reconciliation/returning.ts';
import { keyIn } from '../../src/storage/mirror.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { createTestBucket, s3Settings, s3Skip, type TestBucket } from '../support/s3.ts';
import { type StoreKind, startService, type TestService } from '../support/service.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { waitUntil } from '../support/wait-until.ts';

const kinds: { store: StoreKind; mirror: StoreKind; skip: string | false }[] = [
  { store: 'disk', mirror: 'disk', skip: false },
  { store: 's3', mirror: 's3', skip: s3Skip() },
];

const attributes = { contentType: 'image/png', contentDisposition: 'inline', cacheControl: 'no-store', metadata: {} };
const digestOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest();

for (const { store, mirror, skip } of kinds)
  describe(`a first store on ${store} with a mirror on ${mirror}`, { skip }, () => {
    const closers: (() => Promise<unknown>)[] = [];
    let service: TestService;
    let client: Client;
    let proxy: TcpProxy | undefined;
    const contents = new Map<string, Buffer<ArrayBuffer>>();

    before(async () => {
      const directory = await mkdtemp(join(tmpdir(), 'stowage-mirror-'));
      closers.push(() => rm(directory, { recursive: true, force: true }));
      let place: object = { directory };
      let env: Record<string, string> = {};
      const settings = s3Settings();
      if (store === 's3' && settings) {
        const copies: TestBucket = await createTestBucket();
        closers.push(() => copies.drop());
        proxy = await new TcpProxy(settings.endpoint).listen();
        closers.push(() => proxy?.close() ?? Promise.resolve());
        const { endpoint, region, accessKeyId, secretAccessKey } = settings;
        place = { bucket: copies.bucket, endpoint, region, accessKeyId, secretAccessKey, forcePathStyle: true };
        env = { S3_ENDPOINT: proxy.replaceIn(endpoint) };
      }
      service = await startService({
        store,
        mirrors: { second: place },
        env: { ...env, MIRROR_READS: 'true', MIRROR_READ_WAIT: '500ms', RECONCILE_GRACE: '0s', LOG_LEVEL: 'warn' },
      });
      closers.push(() => service.close());
      client = new Client(service.url);
      for (const size of [900, 6_000_000, 1000]) {
        const { status, body } = await client.raw(png(size, size));
        assert.equal(status, 201, JSON.stringify(body));
        contents.set(body.id, png(size, size));
      }
      await waitUntil(async () => (await copiesThere()) === contents.size);
    });
    after(async () => {
      for (const close of closers.reverse()) await close();
    });

    const copiesThere = async () =>
      (await service.query("select from copies where state in ('copied', 'verified')")).length;
    const keys = async () =>
      (await service.query<{ key: string }>('select object_key as key from assets order by 1')).map(({ key }) => key);
    const [look, all] = [(id: string, headers = {}) => client.content(id, headers), () => [...contents]];
    const states = async () =>
      (await service.query<{ state: string }>('select distinct state from assets')).map(({ state }) => state);

    test('is filled again from it, byte for byte, and what was lost is ready', async () => {
      for (const key of await keys()) await service.store.delete(key, {});
      await service.service.reconcile({ mostDeleted: 100 });
      assert.deepEqual(await states(), ['lost']);
      const [first] = all();
      assert.ok(first);
      const one = await bringBack(service.service.core, { of: { assetId: first[0] }, jobId: 'test' });
      assert.deepEqual(
        { ...one, failed: [] },
        { looked: 1, returned: 1, bytes: first[1].length, ready: 1, failed: [] },
      );
      // By itself: what the job does for the others.
      const lost = await bringBack(service.service.core, { of: 'lost', jobId: 'test' });
      assert.equal(lost.ready, contents.size - 1);
      assert.deepEqual(await states(), ['ready']);
      for (const [id, bytes] of all()) {
        const { body, headers } = await look(id);
        assert.ok(body.equals(bytes), id);
        assert.equal(headers.get('stowage-served-by'), null);
      }
      assert.equal((await bringBack(service.service.core, { of: 'all', readsBytes: true, jobId: 'test' })).returned, 0);
      const found = await service.query("select from audit_events where action = 'asset.found'");
      assert.equal(found.length, contents.size);
    });

    test('is compared with it both ways, and the mirror is mended', async () => {
      const [second] = service.service.core.mirrors;
      assert.ok(second);
      const [gone = '', cut = ''] = await keys();
      const orphan = gone.replace(/assets\/[^/]+/, 'assets/01a20288-fda4-766f-9cdc-1497271383d1');
      await second.store.delete(keyIn(second, gone), {});
      // It is told by a digest, not by its size.
      const head = await second.store.head(keyIn(second, cut), {});
      assert.ok(head);
      await service.query('update copies set sha256 = $1 where object_key = $2', [Buffer.alloc(32), cut]);
      const findings: string[] = [];
      const compare = (mends: boolean) =>
        compareMirror(service.service.core, second, {
          readsBytes: true,
          mends,
          onFinding: ({ kind, key }) => findings.push(`${kind} ${key}`),
        });
      const { missing, damaged, copies } = await compare(false);
      assert.deepEqual({ missing, damaged, copies }, { missing: 1, damaged: 1, copies: contents.size });
      assert.deepEqual(new Set(findings), new Set([`damaged ${keyIn(second, cut)}`, `missing ${keyIn(second, gone)}`]));
      await second.store.put(keyIn(second, orphan), png(), { ...attributes }, { sha256: digestOf(png()) });
      // S3 tells whole seconds, and what is younger than the grace time is left alone.
      await waitUntil(async () => (await compare(false)).orphans === 1);
      assert.ok(findings.includes(`orphan ${keyIn(second, orphan)}`));
      await service.query('update copies set sha256 = null where object_key = $1', [cut]);
      await compare(true);
      assert.equal(await second.store.head(keyIn(second, orphan), {}), undefined);
      await waitUntil(async () => (await second.store.head(keyIn(second, gone), {})) !== undefined);
      await waitUntil(async () => (await copiesThere()) === contents.size);
    });

    const away = async (): Promise<() => Promise<void>> => {
      if (proxy) {
        const stalled = proxy;
        stalled.fault = 'stall';
        return async () => {
          stalled.fault = 'none';
        };
      }
      const objects = join(service.config.DATA_DIR, 'objects');
      await rename(objects, `${objects}-away`);
      return () => rename(`${objects}-away`, objects);
    };

    test('that does not answer is stood in for by it, until it is back', async () => {
      const back = await away();
      try {
        for (const [id, bytes] of all()) {
          const { status, body, headers } = await look(id);
          assert.equal(status, 200);
          assert.ok(body.equals(bytes), id);
          assert.equal(headers.get('stowage-served-by'), 'mirror second');
          const part = await look(id, { range: 'bytes=10-19' });
          assert.equal(part.status, 206);
          assert.deepEqual(part.body, bytes.subarray(10, 20));
          const link = await client.get(`/v1/assets/${id}/download`);
          assert.equal(link.status, 200);
          if (store === 's3') assert.equal(link.headers.get('stowage-served-by'), 'mirror second');
          const followed = await fetch(String(link.body['url']));
          assert.equal(followed.status, 200, 'the link');
          assert.ok(Buffer.from(await followed.arrayBuffer()).equals(bytes));
        }
        assert.equal((await fetch(`${service.url}/readyz`)).status, 200);
        if (proxy) {
          proxy.fault = 'refuse';
          const [first] = all();
          assert.equal((await look(first?.[0] ?? '')).headers.get('stowage-served-by'), 'mirror second');
        }
      } finally {
        await back();
      }
      await waitUntil(async () => {
        const [first] = all();
        return (await look(first?.[0] ?? '')).headers.get('stowage-served-by') === null;
      });
    });
  });
