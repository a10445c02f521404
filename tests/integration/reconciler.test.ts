import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, before, beforeEach, describe, test } from 'node:test';
import { v7 as uuidv7 } from 'uuid';
import { ObjectKeys } from '../../src/storage/object-key.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const attributes = { contentType: 'image/png', contentDisposition: 'inline', cacheControl: 'no-store', metadata: {} };

const objectKeys = new ObjectKeys('', () => Buffer.alloc(32, 1));

for (const { store, skip } of storeKinds) {
  describe(`the reconciler, on ${store}`, { skip }, () => {
    let service: TestService;
    let client: Client;
    before(async () => {
      service = await startService({
        store,
        env: { RECONCILE_GRACE: '0s', REQUESTS_PER_MINUTE: '0', LOG_LEVEL: 'warn' },
      });
      // Somebody is there: an empty database beside a full store is another case.
      await new Client(service.url, 'bystander').raw(png(300));
    });
    after(() => service.close());
    beforeEach(() => {
      client = new Client(service.url, `owner-${randomUUID()}`);
    });

    const reconcile = async (request: { dryRun?: boolean; mostDeleted?: number } = {}) => {
      // S3 tells times in whole seconds; what is older than the grace time must have been so by its clock.
      await waitUntil(async () => Date.now() % 1000 < 100);
      return service.service.reconcile(request);
    };
    const metric = async (name: string) =>
      Number(new RegExp(`^${name} (\\d+)`, 'm').exec(await service.service.metrics.registry.metrics())?.[1]);
    const orphanKey = () => objectKeys.keyOf({ ownerId: 'nobody', assetId: uuidv7() });
    async function put(key: string, bytes = png(700)): Promise<string> {
      await service.store.put(key, bytes, attributes, { sha256: createHash('sha256').update(bytes).digest() });
      await waitUntil(
        async () => Date.now() > ((await service.store.head(key, {}))?.lastModified.getTime() ?? 0) + 1100,
      );
      return key;
    }
    const isThere = async (key: string) => (await service.store.head(key, {})) !== undefined;
    const objectKeyOf = async (id: string) =>
      (await service.query<{ object_key: string }>('select object_key from assets where id = $1', [id]))[0]
        ?.object_key ?? assert.fail('no record');
    const quotaRow = async (owner: string) =>
      (
        await service.query('select used_bytes, reserved_bytes, file_count from quotas where owner_id = $1', [owner])
      )[0];

    test('an object without a record is counted by a dry run, and deleted by a real one', async () => {
      const key = await put(orphanKey());
      const dry = await reconcile({ dryRun: true });
      assert.equal(dry.outcome, 'done');
      assert.equal(dry.report.unaccountedObjects, 1);
      assert.equal(dry.report.unaccountedBytes, 700);
      assert.equal(dry.report.deletedObjects, 0);
      assert.ok(await isThere(key));
      assert.equal(await metric('stowage_unaccounted_bytes'), 700);
      const { report } = await reconcile();
      assert.equal(report.deletedObjects, 1);
      assert.ok(!(await isThere(key)));
      const again = await reconcile();
      assert.equal(again.report.unaccountedObjects, 0);
      assert.equal(await metric('stowage_unaccounted_bytes'), 0);
    });

    test('objects with keys that are not ours are counted and left alone', async () => {
      const key = await put('users/someone/else.png');
      const { report } = await reconcile();
      assert.equal(report.foreignObjects, 1);
      assert.ok(await isThere(key));
      await service.store.delete(key, {});
    });

    test('too many objects without a record stop the run; a limit given by hand lets it pass', async () => {
      const keys = Array.from({ length: 11 }, orphanKey);
      for (const key of keys.slice(1))
        await service.store.put(key, png(), attributes, { sha256: createHash('sha256').update(png()).digest() });
      await put(keys[0] ?? '', png());
      const stopped = await reconcile();
      assert.equal(stopped.outcome, 'stopped');
      assert.equal(stopped.report.unaccountedObjects, 11);
      assert.equal(stopped.report.deletedObjects, 0);
      assert.ok(await isThere(keys[5] ?? ''));
      assert.ok(service.log.some((line) => /stopped: too many objects/.test(line)));
      const { outcome, report } = await reconcile({ mostDeleted: 11 });
      assert.equal(outcome, 'done');
      assert.equal(report.deletedObjects, 11);
      assert.ok(!(await isThere(keys[5] ?? '')));
    });

    test('a record without its object is lost: flagged, alarmed, counted, never deleted; found again it is ready', async () => {
      const bytes = png(900, 4);
      const { body } = await client.raw(bytes);
      const key = await objectKeyOf(body.id);
      await service.store.delete(key, {});
      const { report } = await reconcile();
      assert.equal(report.newlyLostAssets, 1);
      assert.equal(report.lostAssets, 1);
      assert.equal(await metric('stowage_lost_assets'), 1);
      assert.ok(service.log.some((line) => /the bytes of an asset are missing/.test(line)));
      assert.equal((await client.get(`/v1/assets?state=lost`)).body.data[0]?.id, body.id);
      assert.equal((await client.content(body.id)).status, 409);
      assert.equal((await client.get('/v1/quota')).body['used'], 900);
      assert.equal((await reconcile()).report.newlyLostAssets, 0);

      await service.store.put(key, bytes, attributes, { sha256: createHash('sha256').update(bytes).digest() });
      const found = await reconcile();
      assert.equal(found.report.foundAssets, 1);
      assert.equal(found.report.lostAssets, 0);
      assert.deepEqual((await client.content(body.id)).body, bytes);
      const events = await service.query(
        "select action, actor_id from audit_events where asset_id = $1 and action in ('asset.lost', 'asset.found') order by id",
        [body.id],
      );
      assert.deepEqual(events, [
        { action: 'asset.lost', actor_id: 'stowage:reconciler' },
        { action: 'asset.found', actor_id: 'stowage:reconciler' },
      ]);
    });

    test('other bytes under the key of a lost asset do not make it ready', async () => {
      const { body } = await client.raw(png(900, 5));
      const key = await objectKeyOf(body.id);
      await service.store.delete(key, {});
      await reconcile();
      await service.store.put(key, png(900, 6), attributes, {
        sha256: createHash('sha256').update(png(900, 6)).digest(),
      });
      assert.equal((await reconcile()).report.foundAssets, 0);
      assert.equal((await client.request('DELETE', `/v1/assets/${body.id}?permanent=true`)).status, 204);
      await waitUntil(async () => (await service.query('select 1 from assets where id = $1', [body.id])).length === 0);
    });

    test('a multipart upload of nobody is aborted, that of a live upload is not', async () => {
      const nobodys = orphanKey();
      await service.store.createMultipartUpload(nobodys, attributes, { partSize: 5 << 20 });
      const id = uuidv7();
      const live = objectKeys.keyOf({ ownerId: 'nobody', assetId: id });
      await service.query('insert into quotas (owner_id, reserved_bytes) values ($1, 1) on conflict do nothing', [
        'nobody',
      ]);
      await service.query(
        `insert into assets (id, owner_id, name, asset_type, media_type, object_key, state, reserved_bytes, lease_expires_at, created_at, updated_at)
         values ($1, 'nobody', 'a.png', 'image', 'image/png', $2, 'uploading', 1, now() + interval '1 hour', now(), now())`,
        [id, live],
      );
      const uploadId = await service.store.createMultipartUpload(live, attributes, { partSize: 5 << 20 });
      const openUploads = async (key: string) => (await service.store.listMultipartUploads(key, {})).length;
      await waitUntil(async () => {
        await service.service.reconcile({});
        return (await openUploads(nobodys)) === 0;
      });
      assert.equal(await openUploads(live), 1);
      await service.store.abortMultipartUpload(live, uploadId, {});
      await service.query('update assets set lease_expires_at = now() where id = $1', [id]);
      await reconcile();
      await service.query("update pgboss.job set start_after = now() where name = 'delete-object'");
      await waitUntil(async () => (await service.query('select 1 from assets where id = $1', [id])).length === 0);
    });

    test('a quota that is not the sum of its records is corrected, with an audit row', async () => {
      await client.raw(png(800, 7));
      const owner = client.headers['x-user-id'] ?? '';
      await service.query(
        'update quotas set used_bytes = used_bytes + 111, reserved_bytes = 22, file_count = 5 where owner_id = $1',
        [owner],
      );
      const dry = await reconcile({ dryRun: true });
      assert.equal(dry.report.driftedQuotas, 1);
      assert.equal(dry.report.quotaDriftBytes, 133);
      assert.equal(await metric('stowage_quota_drift_bytes'), 133);
      await reconcile();
      assert.deepEqual(await quotaRow(owner), { used_bytes: '800', reserved_bytes: '0', file_count: '1' });
      const events = await service.query(
        "select actor_id from audit_events where owner_id = $1 and action = 'quota.corrected'",
        [owner],
      );
      assert.deepEqual(events, [{ actor_id: 'stowage:reconciler' }]);
      assert.equal((await reconcile()).report.driftedQuotas, 0);
    });

    test('a deletion that stands still is sent again', async () => {
      const { body } = await client.raw(png(600, 8));
      await service.query("update assets set state = 'deleting', updated_at = now() - interval '1 day' where id = $1", [
        body.id,
      ]);
      await service.query('update quotas set used_bytes = 0, file_count = 0 where owner_id = $1', [
        client.headers['x-user-id'],
      ]);
      const { report } = await reconcile();
      assert.equal(report.resumedDeletions, 1);
      await waitUntil(async () => (await service.query('select 1 from assets where id = $1', [body.id])).length === 0);
    });
  });
}

describe('the reconciler and the grace time', () => {
  test('what is younger than the grace time is left alone, be it an object, a multipart upload or a deletion', async (context) => {
    const service = await startService();
    context.after(() => service.close());
    await new Client(service.url).raw(png());
    const key = objectKeys.keyOf({ ownerId: 'nobody', assetId: uuidv7() });
    await service.store.put(key, png(), attributes, { sha256: createHash('sha256').update(png()).digest() });
    await service.store.createMultipartUpload(key, attributes, { partSize: 5 << 20 });
    const { report } = await service.service.reconcile({});
    assert.equal(report.objects, 2);
    assert.equal(report.unaccountedObjects, 0);
    assert.equal(report.openUploads, 0);
    assert.ok(await service.store.head(key, {}));
  });

  test('beside an empty database nothing is deleted: more likely it is the wrong one', async (context) => {
    const service = await startService({ env: { RECONCILE_GRACE: '0s' } });
    context.after(() => service.close());
    const key = objectKeys.keyOf({ ownerId: 'nobody', assetId: uuidv7() });
    await service.store.put(key, png(), attributes, { sha256: createHash('sha256').update(png()).digest() });
    assert.equal((await service.service.reconcile({})).outcome, 'stopped');
    assert.ok(await service.store.head(key, {}));
    assert.equal((await service.service.reconcile({ mostDeleted: 1 })).report.deletedObjects, 1);
  });
});
