/** A service is rebuilt from a backup, beside a bucket that knows more than the backup, and beside one that knows less. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { type BackupOutcome, takeBackup } from '../../src/backups/backup.ts';
import type { Finding } from '../../src/backups/compare.ts';
import { sealingFor } from '../../src/backups/encryption.ts';
import { finishRestore } from '../../src/backups/finish-restore.ts';
import { type OpenedBackup, openBackup } from '../../src/backups/opened-backup.ts';
import { openPlace } from '../../src/backups/place.ts';
import { confirmRestores } from '../../src/backups/repository.ts';
import { rebuildDatabase } from '../../src/backups/restore.ts';
import { systemActor } from '../../src/database/audit.ts';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { createTestBucket } from '../support/s3.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const env = { RECONCILE_GRACE: '0s', REQUESTS_PER_MINUTE: '0', LOG_LEVEL: 'warn' };
const policies = {
  image: { mediaTypes: ['image/png'], maxBytes: 1_000_000, versions: 3 },
};
const attributes = { contentType: 'image/png', contentDisposition: 'inline', cacheControl: 'no-store', metadata: {} };
/** What must be the same in both databases, row by row. */
const compared = [
  'assets',
  'asset_versions',
  'quotas',
  'asset_statistics',
  'service_secrets',
  'upload_sessions',
  'idempotency_keys',
  'audit_events',
];

for (const { store, skip } of storeKinds) {
  describe(`a backup of a service on ${store}`, { skip }, () => {
    /** What does not depend on the store. */
    const onDisk = store === 'disk' ? test : () => {};
    const closers: (() => Promise<unknown>)[] = [];
    let origin: TestService;
    let alice: Client;
    let backup: BackupOutcome;
    let opened: OpenedBackup;
    let rowsThen: Record<string, string[]>;
    let session: { uploadId: string; parts: { url: string; headers: Record<string, string> }[] };
    const contents = new Map<string, Buffer<ArrayBuffer>>();
    const ids = { kept: '', deletedLater: '', replaced: '', trashed: '', newer: '' };

    const keyOf = async (service: TestService, id: string) =>
      (await service.query<{ object_key: string }>('select object_key from assets where id = $1', [id]))[0]
        ?.object_key ?? assert.fail('no record');
    const isThere = async (key: string) => (await origin.store.head(key, {})) !== undefined;
    const stateOf = async (service: TestService, id: string) =>
      (await service.query<{ state: string }>('select state from assets where id = $1', [id]))[0]?.state;
    const upload = async (bytes: Buffer<ArrayBuffer>) => {
      const { status, body } = await alice.raw(bytes);
      assert.equal(status, 201, JSON.stringify(body));
      contents.set(body.id, bytes);
      return body.id;
    };
    const allRows = async (service: TestService) => {
      const found: Record<string, string[]> = {};
      for (const table of compared) {
        // What the restore itself has written comes last, and is of no asset.
        const rows = await service.query<{ row: string }>(
          `select t::text as row from ${table} t ${table === 'audit_events' ? "where action <> 'backup.restored' order by id" : 'order by 1'}`,
        );
        found[table] = rows.map(({ row }) => row);
      }
      return found;
    };

    before(async () => {
      const identity = await generateX25519Identity();
      origin = await startService({ store, env, policies });
      closers.push(() => origin.close());
      alice = new Client(origin.url);
      ids.kept = await upload(png(900, 1));
      ids.deletedLater = await upload(png(901, 2));
      ids.trashed = await upload(png(903, 4));
      ids.replaced = await upload(png(904, 5));
      const other = await alice.request('PUT', `/v1/assets/${ids.replaced}/content`, { body: png(905, 6) });
      assert.equal(other.status, 200, JSON.stringify(other.body));
      await alice.request('DELETE', `/v1/assets/${ids.trashed}`);
      const begun = await alice.send('POST', '/v1/uploads', {
        fileName: 'later.png',
        size: 906,
        contentType: 'image/png',
      });
      assert.equal(begun.status, 201, JSON.stringify(begun.body));
      session = begun.body as unknown as typeof session;
      // A job that waits for a day.
      const { outbox } = origin.service.core;
      await origin.database.transact((transaction) =>
        outbox.send(transaction, { name: 'facts' }, { assetId: ids.kept }, { startAfter: 86_400 }),
      );
      rowsThen = await allRows(origin);
      backup = await takeBackup({
        url: origin.databaseUrl,
        place: openPlace(await makePlace(), origin.config),
        // One of the two is encrypted.
        sealing: await sealingFor({
          passphrase: undefined,
          recipients: store === 's3' ? [await identityToRecipient(identity)] : [],
        }),
        keyPrefix: origin.config.S3_KEY_PREFIX,
      });
      opened = await openBackup(openPlace(backup.name, origin.config), {
        passphrase: undefined,
        identities: [identity],
      });
    });
    after(async () => {
      for (const close of closers.reverse()) await close();
    });

    async function makePlace(): Promise<string> {
      if (store === 's3') {
        const bucket = await createTestBucket();
        closers.push(() => bucket.drop());
        return `s3://${bucket.bucket}/nightly`;
      }
      const directory = await mkdtemp(join(tmpdir(), 'stowage-backup-'));
      closers.push(() => rm(directory, { recursive: true }));
      return directory;
    }

    /** What `npm run restore` does, and the service that is started then. */
    async function restore({ readsBytes = false } = {}) {
      const database = await createTestDatabase();
      closers.push(() => database.drop());
      assert.equal(await rebuildDatabase(database.url, opened), 'restored');
      await prepareDatabase(database.url);
      const service = await startService({ beside: origin, databaseUrl: database.url, env, policies });
      closers.push(() => service.close());
      const findings: Finding[] = [];
      const finish = () =>
        finishRestore(service.service.core, {
          url: database.url,
          backup: opened,
          readsBytes,
          startedAt: new Date(Date.now() + 60_000),
          onFinding: (finding) => findings.push(finding),
        });
      return { service, findings, finish, client: new Client(service.url), url: database.url };
    }
    const found = (findings: Finding[], kind: Finding['kind']) =>
      findings
        .flatMap((finding) => (finding.kind === kind && finding.kind !== 'unknown' ? [finding.object.key] : []))
        .sort();
    /** Of the jobs of one kind. */
    const jobStates = async (service: TestService, name: string) =>
      (await service.query<{ state: string }>('select state::text from pgboss.job where name = $1', [name])).map(
        ({ state }) => state,
      );

    onDisk('has every row and every object of its moment', async () => {
      const { service, finish, findings, client } = await restore({ readsBytes: true });
      assert.deepEqual(await allRows(service), rowsThen);
      const { report, jobs, isOtherStore } = await finish();
      assert.equal(isOtherStore, false);
      // Four contents of assets that are listed or in the trash, and one former one.
      assert.deepEqual(
        { ...report, unknown: 0, unknownBytes: 0 },
        {
          expected: 5,
          missing: 0,
          verified: 5,
          unread: 0,
          damaged: 0,
          lostAssets: 0,
          unknown: 0,
          unknownBytes: 0,
          foreign: 0,
        },
      );
      assert.deepEqual(findings, []);
      assert.equal(backup.document.objects.totalBytes, 900 + 901 + 903 + 904 + 905);
      assert.deepEqual(jobs, { enqueued: 1, leftOut: 0 });
      assert.deepEqual(await jobStates(service, 'facts'), ['created']);
      assert.deepEqual((await client.content(ids.kept)).body, contents.get(ids.kept));
      assert.equal((await client.content(ids.replaced)).body.length, 905);
      // The triggers are on again: what is uploaded now is counted, and no audit row is changed.
      const before = await client.get('/v1/quota');
      assert.equal((await client.raw(png(950, 9))).status, 201);
      assert.equal(Number((await client.get('/v1/quota')).body['used']), Number(before.body['used']) + 950);
      const counted = await service.query(
        'select sum(files)::int as files from asset_statistics where dimension = $1',
        ['mediaType'],
      );
      assert.deepEqual(counted, [{ files: 5 }]);
      await assert.rejects(service.query('delete from audit_events'), /append-only/);
    });

    test('beside a bucket that is newer: nothing is deleted until it is confirmed, and what was acknowledged before is there', async () => {
      // After the backup: a file comes, one goes, and an upload that had begun is finished.
      ids.newer = await upload(png(907, 7));
      const [part] = session.parts;
      assert.ok(part);
      assert.ok((await fetch(part.url, { method: 'PUT', body: png(906, 8), headers: part.headers })).ok);
      assert.equal((await alice.request('POST', `/v1/uploads/${session.uploadId}/complete`)).status, 201);
      const [newer, finished, gone] = await Promise.all(
        [ids.newer, session.uploadId, ids.deletedLater].map((id) => keyOf(origin, id)),
      );
      assert.ok(newer && finished && gone);
      assert.equal((await alice.request('DELETE', `/v1/assets/${ids.deletedLater}?permanent=true`)).status, 204);
      await waitUntil(async () => !(await isThere(gone)));

      const { service, finish, findings, client } = await restore();
      const { report } = await finish();
      assert.deepEqual(found(findings, 'missing'), [gone]);
      assert.equal(report.lostAssets, 1);
      assert.equal(await stateOf(service, ids.deletedLater), 'lost');
      assert.deepEqual((await client.content(ids.kept)).body, contents.get(ids.kept));
      const unknown = findings.flatMap((finding) => (finding.kind === 'unknown' ? [finding.object.key] : []));
      assert.ok(unknown.includes(newer), 'the newer file is told');

      // The reaper would take the upload for abandoned, a user deletes something, and the night comes.
      await service.query("update assets set lease_expires_at = now() - interval '1 day' where state = 'uploading'");
      assert.equal((await client.request('DELETE', `/v1/assets/${ids.kept}?permanent=true`)).status, 204);
      await assert.rejects(service.service.reap(), /nobody has confirmed it/);
      await assert.rejects(service.service.reconcile({ mostDeleted: 100 }), /nobody has confirmed it/);
      assert.equal((await service.service.reconcile({ dryRun: true })).outcome, 'done');
      const { outbox } = service.service.core;
      const kept = await service.query<{ key: string }>('select object_key as key from assets where id = $1', [
        ids.kept,
      ]);
      await service.database.transact(async (transaction) => {
        await outbox.send(transaction, { name: 'reap-uploads' }, {}, { priority: 1 });
        await outbox.send(transaction, { name: 'derive' }, { assetId: ids.kept }, { priority: 1 });
      });
      // Jobs are done, but none of those.
      await waitUntil(async () => (await jobStates(service, 'derive')).every((state) => state === 'completed'));
      assert.deepEqual(await jobStates(service, 'delete-object'), ['created']);
      assert.ok((await jobStates(service, 'reap-uploads')).every((state) => state === 'created'));
      for (const key of [newer, finished, kept[0]?.key ?? '']) assert.ok(await isThere(key), key);
      assert.match(await service.service.metrics.registry.metrics(), /^stowage_restore_unconfirmed 1$/m);

      const confirmed = await confirmRestores(service.database.database, systemActor('restore', 'test'));
      assert.deepEqual(
        confirmed.map(({ backupId }) => backupId),
        [backup.document.id],
      );
      await waitUntil(async () => !(await isThere(kept[0]?.key ?? '')));
      await waitUntil(async () => Date.now() % 1000 < 100 && Date.now() > Date.parse(backup.document.takenAt) + 2000);
      await waitUntil(async () => {
        await service.service.reconcile({ mostDeleted: 100 });
        return !(await isThere(newer));
      });
      const actions = await service.query(
        "select action from audit_events where action in ('backup.restored', 'restore.confirmed') order by id",
      );
      assert.deepEqual(actions, [{ action: 'backup.restored' }, { action: 'restore.confirmed' }]);
    });

    test('beside a bucket that is older: what is missing is lost, kept and told, and ready when it is back', async () => {
      const [gone, damaged] = await Promise.all([ids.trashed, ids.replaced].map((id) => keyOf(origin, id)));
      assert.ok(gone && damaged);
      const bytes = png(905, 6);
      await origin.store.delete(gone, {});
      await put(damaged, png(905, 10));
      const first = await restore({ readsBytes: true });
      const { report } = await first.finish();
      assert.ok(found(first.findings, 'missing').includes(gone));
      assert.deepEqual(found(first.findings, 'damaged'), [damaged]);
      assert.equal(report.damaged, 1);
      for (const id of [ids.trashed, ids.replaced]) assert.equal(await stateOf(first.service, id), 'lost');
      assert.equal((await first.client.content(ids.replaced)).status, 409);

      await put(damaged, bytes);
      await confirmRestores(first.service.database.database, systemActor('restore', 'test'));
      await first.service.service.reconcile({ mostDeleted: 100 });
      assert.deepEqual((await first.client.content(ids.replaced)).body, bytes);
      assert.equal(await stateOf(first.service, ids.trashed), 'lost');
    });

    onDisk('beside another bucket marks nothing as lost', async () => {
      const { service, url } = await restore();
      const elsewhere = await startService({ store, env, policies, databaseUrl: url });
      closers.push(() => elsewhere.close());
      const { report, isOtherStore } = await finishRestore(elsewhere.service.core, {
        url,
        backup: opened,
        readsBytes: true,
        startedAt: new Date(),
        onFinding: () => assert.fail('nothing is to be found'),
      });
      assert.equal(isOtherStore, true);
      assert.equal(report.missing, report.expected);
      assert.equal(report.lostAssets, 0);
      assert.equal(await stateOf(service, ids.kept), 'ready');
    });

    async function put(key: string, bytes: Buffer<ArrayBuffer>): Promise<void> {
      await origin.store.put(key, bytes, attributes, { sha256: createHash('sha256').update(bytes).digest() });
    }
  });
}
