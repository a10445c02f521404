import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { AssetDeletions } from '../../src/assets/deletions.ts';
import { deleteObjects } from '../../src/assets/jobs/delete-object.ts';
import { LeaseLost } from '../../src/jobs/job.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

describe('the jobs that delete objects', () => {
  let service: TestService;
  let client: Client;
  /** Keys that the store keeps. */
  const kept = new Set<string>();
  const calls: { verb: string; argument: unknown }[] = [];
  before(async () => {
    const wrapStore = (store: ObjectStore): ObjectStore =>
      new Proxy(store, {
        get: (target, verb) => {
          const value = Reflect.get(target, verb);
          if (typeof value !== 'function') return value;
          return (...args: unknown[]) => {
            calls.push({ verb: String(verb), argument: args[0] });
            if (verb !== 'deleteAll') return value.apply(target, args);
            const keys = args[0] as string[];
            return target
              .deleteAll(
                keys.filter((key) => !kept.has(key)),
                {},
              )
              .then((left) => [...left, ...keys.filter((key) => kept.has(key))]);
          };
        },
      });
    service = await startService({ wrapStore, env: { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' } });
    client = new Client(service.url);
  });
  after(() => service.close());

  async function stored(count: number): Promise<string[]> {
    const ids: string[] = [];
    while (ids.length < count) ids.push((await client.raw(png(300, ids.length))).body.id);
    return ids;
  }
  const remove = (ids: string[]) => client.send('POST', '/v1/assets/bulk', { action: 'delete', permanent: true, ids });
  const left = (ids: string[]) =>
    service.query<{ id: string; object_key: string }>('select id, object_key from assets where id = any($1::uuid[])', [
      ids,
    ]);

  test('of assets that were put by one request look for nothing beside, and delete their objects together', async () => {
    const ids = await stored(12);
    const keys = (await left(ids)).map(({ object_key }) => object_key);
    calls.length = 0;
    assert.equal((await remove(ids)).status, 200);
    await waitUntil(async () => (await left(ids)).length === 0);
    assert.deepEqual(
      calls.filter(({ verb }) => ['list', 'listMultipartUploads', 'abortMultipartUpload', 'delete'].includes(verb)),
      [],
    );
    const deletions = calls.filter(({ verb }) => verb === 'deleteAll');
    assert.equal(deletions.length, 1);
    assert.deepEqual(new Set(deletions[0]?.argument as string[]), new Set(keys));
    for (const key of keys) assert.equal(await service.store.head(key, {}), undefined);
  });

  test('of which nobody knows how they were stored look for uploads and objects beside', async () => {
    const [id = ''] = await stored(1);
    await service.query('update assets set stored_whole = null where id = $1', [id]);
    const [row] = await left([id]);
    const key = row?.object_key ?? '';
    const attributes = { contentType: 'a/b', contentDisposition: 'inline', cacheControl: 'private', metadata: {} };
    await service.store.createMultipartUpload(key, attributes, { partSize: 1024 });
    const beside = key.replace(/original$/, 'thumbnail');
    await service.store.put(beside, Buffer.from('x'), attributes, { sha256: Buffer.alloc(32) });
    await remove([id]);
    await waitUntil(async () => (await left([id])).length === 0);
    assert.deepEqual(await service.store.listMultipartUploads(key, {}), []);
    assert.equal(await service.store.head(beside, {}), undefined);
  });

  test('in parts are not known to be whole', async () => {
    const tus = { 'tus-resumable': '1.0.0', 'content-type': 'application/offset+octet-stream' };
    const name = `filename ${Buffer.from('t.png').toString('base64')}`;
    const file = png(300);
    const answer = await client.request('POST', '/v1/resumable', {
      headers: { ...tus, 'upload-length': String(file.length), 'upload-metadata': name },
      body: file,
    });
    const id = answer.headers.get('location')?.split('/').at(-1);
    const rows = await service.query<{ stored_whole: boolean | null }>(
      'select stored_whole from assets where id = $1',
      [id],
    );
    assert.deepEqual(rows, [{ stored_whole: null }]);
  });

  test('fail each by itself: what the store keeps is tried again, and the others are done', async () => {
    const ids = await stored(5);
    const [first] = await left(ids);
    kept.add(first?.object_key ?? '');
    await remove(ids);
    await waitUntil(async () => (await left(ids)).length === 1);
    const state = async () =>
      (
        await service.query<{ state: string; output: { reason: string } | null }>(
          "select state, output from pgboss.job where name = 'delete-object' and data ->> 'assetId' = $1",
          [first?.id],
        )
      )[0];
    await waitUntil(async () => (await state())?.state === 'retry');
    assert.equal((await state())?.output?.reason, 'object-store-unavailable');
    assert.deepEqual(await left(ids), [first]);
    kept.clear();
    await waitUntil(async () => {
      await service.query("update pgboss.job set start_after = now() where state = 'retry'");
      return (await left(ids)).length === 0;
    });
  });

  test('that were given to another worker leave the record to that one', async () => {
    const ids = await stored(3);
    const [lost = ''] = ids;
    const { database, outbox, store } = service.service.core;
    await service.query("update assets set state = 'deleting' where id = any($1::uuid[])", [ids]);
    const jobs = ids.map((assetId) => ({ id: randomUUID(), data: { assetId }, signal: new AbortController().signal }));
    const failed = await deleteObjects({ deletions: new AssetDeletions(database, outbox), store }, jobs, {
      signal: new AbortController().signal,
      fence: async (_transaction, held) => new Set(held.filter((id) => id !== jobs[0]?.id)),
    });
    assert.deepEqual([...failed.keys()], [jobs[0]?.id]);
    assert.ok(failed.get(jobs[0]?.id ?? '') instanceof LeaseLost);
    assert.deepEqual(
      (await left(ids)).map(({ id }) => id),
      [lost],
    );
    await service.query('delete from assets where id = $1', [lost]);
  });
});
