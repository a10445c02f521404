/** What ends by itself: abandoned uploads, the trash. What rules of the life cycle end is in life-cycle.test.ts. On both object stores. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { AssetDeletions } from '../../src/assets/deletions.ts';
import { purgeAssets } from '../../src/assets/jobs/purge-assets.ts';
import { noLifeCycle } from '../../src/assets/life-cycle-looks.ts';
import { JobQueue } from '../../src/jobs/queue.ts';
import { DerivativesRepository } from '../../src/processing/derivatives.ts';
import { noSteps } from '../../src/processing/pipeline.ts';
import { ObjectKeys } from '../../src/storage/object-key.ts';
import { UploadsRepository } from '../../src/uploads/repository.ts';
import { Contents } from '../../src/versions/contents.ts';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { type ServiceOptions, startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const DAY = 24 * 3600 * 1000;
const attributes = { contentType: 'image/png', contentDisposition: 'inline', cacheControl: 'no-store', metadata: {} };

const objectKeys = new ObjectKeys('', () => Buffer.alloc(32, 1));

for (const { store, skip } of storeKinds) {
  describe(`what ends by itself, on ${store}`, { skip }, () => {
    let service: TestService;
    const options: ServiceOptions = {
      store,
      env: { REQUESTS_PER_MINUTE: '0', PART_SIZE: '5MiB' },
    };
    before(async () => {
      service = await startService(options);
    });
    after(() => service.close());

    const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest();
    const stateOf = async (id: string) =>
      (await service.query<{ state: string }>('select state from assets where id = $1', [id]))[0]?.state;
    const gone = (id: string) =>
      waitUntil(async () => {
        // The pause in which a part on its way may still arrive is over.
        await service.query("update pgboss.job set start_after = now() where name = 'delete-object'");
        return (await stateOf(id)) === undefined;
      });
    const actions = async (id: string) =>
      (
        await service.query<{ action: string }>('select action from audit_events where asset_id = $1 order by id', [id])
      ).map(({ action }) => action);

    /** The record as a process leaves it that dies in the middle; `sealed` when all was checked. */
    async function abandoned(
      sealed: Buffer | undefined,
      lease = '-1 s',
    ): Promise<{ id: string; key: string; owner: string }> {
      const [id, owner] = [randomUUID(), `owner-${randomUUID()}`];
      const key = objectKeys.keyOf({ ownerId: owner, assetId: id });
      await service.query(
        `insert into quotas (owner_id, reserved_bytes, used_bytes, file_count) values ($1, 5000, 0, 0)`,
        [owner],
      );
      await service.query(
        `insert into assets (id, owner_id, name, asset_type, media_type, object_key, state, reserved_bytes, size, sha256, cache_control, lease_expires_at, created_at, updated_at)
         values ($1, $2, 'a.png', $4, $4::text || '/png', $3, 'uploading', 5000, $5, $6, 'no-store', now() + $7::interval, now(), now())`,
        [id, owner, key, 'image', sealed?.length ?? null, sealed ? sha256(sealed) : null, lease],
      );
      return { id, key, owner };
    }

    const quotaOf = async (owner: string) =>
      (
        await service.query('select used_bytes, reserved_bytes, file_count from quotas where owner_id = $1', [owner])
      )[0];

    test('an abandoned upload whose object is whole is finished', async () => {
      const bytes = png(3000, 1);
      const { id, key, owner } = await abandoned(bytes);
      await service.store.put(key, bytes, attributes, { sha256: sha256(bytes) });
      await service.service.reconcile({});
      // Nobody knows whether it was stripped; a job looks.
      await waitUntil(async () => (await stateOf(id)) === 'ready');
      assert.deepEqual(await quotaOf(owner), { used_bytes: '3000', reserved_bytes: '0', file_count: '1' });
      assert.deepEqual(await actions(id), ['asset.uploaded', 'asset.processed']);
      assert.deepEqual((await new Client(service.url, owner).content(id)).body, bytes);
    });

    for (const [title, prepare] of [
      ['without an object', async () => abandoned(png(3000, 2))],
      [
        'whose object has another size',
        async () => {
          const upload = await abandoned(png(3000, 2));
          await service.store.put(upload.key, png(2000, 2), attributes, { sha256: sha256(png(2000, 2)) });
          return upload;
        },
      ],
      [
        'whose object has other bytes of the same size',
        async () => {
          const upload = await abandoned(png(3000, 2));
          await service.store.put(upload.key, png(3000, 3), attributes, { sha256: sha256(png(3000, 3)) });
          return upload;
        },
      ],
      [
        'that was not checked, though an object is there',
        async () => {
          const upload = await abandoned(undefined);
          await service.store.put(upload.key, png(3000, 2), attributes, { sha256: sha256(png(3000, 2)) });
          return upload;
        },
      ],
      [
        'with parts that were never completed',
        async () => {
          const upload = await abandoned(undefined);
          const uploadId = await service.store.createMultipartUpload(upload.key, attributes, { partSize: 5 << 20 });
          await service.store.uploadPart({ key: upload.key, uploadId, partNumber: 1 }, glb(5 << 20), {});
          return upload;
        },
      ],
    ] as const) {
      test(`an abandoned upload ${title} is ended, and its reservation released`, async () => {
        const { id, key, owner } = await prepare();
        await service.service.reconcile({});
        assert.deepEqual(await quotaOf(owner), { used_bytes: '0', reserved_bytes: '0', file_count: '0' });
        await gone(id);
        assert.deepEqual(await actions(id), ['upload.aborted']);
        assert.equal(await service.store.head(key, {}), undefined);
        assert.deepEqual(await service.store.listMultipartUploads(key, {}), []);
      });
    }

    test('an upload whose lease has not run out is left alone', async () => {
      const { id } = await abandoned(undefined, '1 hour');
      await service.service.reconcile({});
      assert.equal(await stateOf(id), 'uploading');
      await service.query('update assets set lease_expires_at = now() where id = $1', [id]);
      await service.service.reconcile({});
      await gone(id);
    });

    test('a live upload is not among the abandoned, and an asset can never be ended as an upload', async () => {
      const jobs = new JobQueue({ database: service.database, work: false, onError: () => {} });
      await jobs.start();
      const uploads = new UploadsRepository({
        database: service.database,
        outbox: jobs,
        limits: { defaultLimit: 1_000_000, tierQuotas: null },
        lease: 60,
        lookAgain: 60,
        rules: noSteps,
        lifeCycleOf: () => noLifeCycle,
        contents: new Contents({
          outbox: jobs,
          derivatives: new DerivativesRepository(service.database, jobs),
          kept: () => 0,
          grace: 0,
          limits: { defaultLimit: 1_000_000, tierQuotas: null },
        }),
      });
      const { id } = await abandoned(undefined, '1 hour');
      assert.ok(!(await uploads.abandoned(1000)).some((upload) => upload.id === id));
      const { body } = await new Client(service.url, `owner-${randomUUID()}`).raw(png(300));
      const outcome = {
        action: 'upload.aborted',
        reason: 'test',
        actor: { callerId: 'test', requestId: 'test', via: null, because: null },
      } as const;
      assert.equal(await uploads.markForDeletion(body.id, outcome), false);
      assert.equal(await stateOf(body.id), 'ready');
      assert.equal(await uploads.markForDeletion(id, outcome, { onlyAbandoned: true }), false);
      assert.equal(await uploads.markForDeletion(id, outcome), true);
      await gone(id);
      await jobs.stop(1000);
    });

    test('the reaper comes by itself', async () => {
      const { id } = await abandoned(undefined);
      // Its schedule says every minute; the minute is over.
      await service.query(
        "insert into pgboss.job (name, data, policy) values ('reap-uploads', '{}', 'exclusive') on conflict do nothing",
      );
      await gone(id);
    });

    /** The purge as its job runs it, on a day to come. */
    async function purgeIn(days: number): Promise<number> {
      const jobs = new JobQueue({ database: service.database, work: false, onError: () => {} });
      await jobs.start();
      const done = await purgeAssets(
        {
          deletions: new AssetDeletions(service.database, jobs),
          trashRetention: service.config.TRASH_RETENTION_DAYS,
          now: () => new Date(Date.now() + days * DAY),
        },
        { id: randomUUID(), signal: new AbortController().signal, fence: async () => {} },
      );
      await jobs.stop(1000);
      return done;
    }

    test('the trash is deleted for good after its days, and nothing else is', async () => {
      const client = new Client(service.url, `owner-${randomUUID()}`);
      const kept = await client.raw(png(400, 1));
      const trashed = await client.raw(png(500, 2));
      await client.request('DELETE', `/v1/assets/${trashed.body.id}`);
      await purgeIn(29);
      assert.equal(await stateOf(trashed.body.id), 'ready');
      assert.equal((await client.get('/v1/quota')).body['used'], 900);
      await purgeIn(31);
      await gone(trashed.body.id);
      assert.deepEqual(await actions(trashed.body.id), ['asset.uploaded', 'asset.trashed', 'asset.purged']);
      assert.equal((await client.get('/v1/quota')).body['used'], 400);
      assert.equal((await client.content(kept.body.id)).status, 200);
      assert.equal(await purgeIn(31), 0);
    });
  });
}
