/** An owner is erased: nothing of him is left in any table nor in the store, and the receipt says what is where. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DeleteObjectCommand, ListObjectVersionsCommand, PutBucketVersioningCommand } from '@aws-sdk/client-s3';
import { sealPastDays, verifyAudit } from '../../src/audit/seals.ts';
import { faultOfReceipt } from '../../src/erasures/receipt.ts';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { contentsOf } from '../support/s3.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';
import { tablesNaming } from '../support/walk-tables.ts';

const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', UPLOADS_PER_CALLER: '16', BACKUP_RETENTION: '35d' };
const BECAUSE = { 'stowage-reason': 'he has asked for it' };

interface Receipt {
  subject: string;
  finishedAt: string;
  deleted: Record<string, number>;
  stores: { name: string; keepsVersions: string; foldersEmpty: number }[];
  remains: { what: string; until?: string; count?: number; assets?: { id: string; holds: Record<string, string> }[] }[];
}

const ok = <Body>(answer: { status: number; body: Body }): Body => {
  assert.ok(answer.status < 300, JSON.stringify(answer.body));
  return answer.body;
};
const keyed = () => ({ 'idempotency-key': `"${randomUUID()}"` });

async function erase(
  admin: Client,
  ownerId: string,
  more = {},
): Promise<{ id: string; receipt: Receipt; text: string }> {
  const { id } = ok(await admin.send('POST', '/v1/admin/erasures', { ownerId, ...more }, { ...BECAUSE, ...keyed() }));
  await waitUntil(async () => String((await admin.get(`/v1/admin/erasures/${id}`)).body.state) === 'done');
  const signed = await text(admin, `/v1/admin/erasures/${id}/receipt`);
  return { id, text: signed, receipt: JSON.parse(signed).receipt };
}

/** What somebody can leave behind, of all kinds. */
/** @param uploads also what a job removes only after seconds: uploads that are not finished */
async function live(url: string, owner: string, uploads = true): Promise<{ left: string; solo: string }> {
  const client = new Client(url, owner);
  const others = new Client(url, `team-of-${randomUUID().slice(0, 8)}`);
  const project = `team-${randomUUID().slice(0, 8)}`;
  const solo = `solo-${randomUUID().slice(0, 8)}`;
  const first = ok(await client.upload(png(300), { headers: keyed(), name: 'his-face.png' }));
  ok(
    await client.request('PUT', `/v1/assets/${first.id}/content`, {
      body: png(310),
      headers: { 'content-type': 'image/png' },
    }),
  );
  const trashed = ok(await client.upload(png(320)));
  assert.equal((await client.request('DELETE', `/v1/assets/${trashed.id}`)).status, 204);
  ok(await client.raw(glb(6 * 1024 * 1024, 1), { name: 'in-parts.glb' }));
  ok(await client.send('POST', '/v1/projects', { id: solo, name: 'his own' }));
  ok(await client.upload(png(330), { fields: { projectId: solo } }));
  ok(await others.send('POST', '/v1/projects', { id: project, name: 'of all' }));
  ok(await others.send('PUT', `/v1/projects/${project}/members/${encodeURIComponent(owner)}`, { role: 'manager' }));
  ok(await client.send('PUT', `/v1/projects/${project}/members/somebody`, { role: 'viewer' }));
  const left = ok(await client.upload(png(340), { fields: { projectId: project } }));
  if (uploads) await beginUploads(client, project);
  ok(await client.send('POST', '/v1/keys', { name: 'laptop', scopes: ['assets:read'] }));
  ok(await others.send('POST', '/v1/tickets', { subject: owner, expiresIn: 600 }));
  ok(await client.send('POST', '/v1/tickets', { subject: owner, expiresIn: 600 }));
  ok(await client.send('POST', '/v1/shares', { assetId: first.id, note: 'for my mother' }));
  await client.content(first.id);
  ok(
    await new Client(url, 'admin').send(
      'PUT',
      `/v1/admin/quotas/${encodeURIComponent(owner)}`,
      { limit: 100_000_000 },
      keyed(),
    ),
  );
  return { left: left.id, solo };
}

async function beginUploads(client: Client, projectId: string): Promise<void> {
  const direct = { fileName: 'a.png', contentType: 'image/png', size: 100, projectId };
  ok(await client.send('POST', '/v1/uploads', direct));
  const headers = { 'tus-resumable': '1.0.0', 'upload-length': '1000', 'upload-metadata': `filename ${btoa('a.png')}` };
  ok(await client.request('POST', '/v1/resumable', { headers }));
}

/** Everything that the store holds. */
async function keysIn({ bucket, config }: TestService): Promise<string[]> {
  if (bucket) {
    const { keys, openUploads } = await contentsOf(bucket);
    return [...keys, ...openUploads].sort();
  }
  const files = readdirSync(join(config.DATA_DIR, 'objects'), { recursive: true, withFileTypes: true });
  return files.flatMap((file) => (file.isFile() ? join(file.parentPath, file.name) : [])).sort();
}

for (const { store, skip } of storeKinds)
  describe(`an erasure, on ${store}`, { skip }, () => {
    let service: TestService;
    let admin: Client;
    before(async () => {
      service = await startService({ store, env });
      admin = new Client(service.url, 'admin');
    });
    after(() => service?.close());

    test('leaves nothing of the owner in any table or in the store but what its receipt names', async () => {
      const bystander = new Client(service.url, `bystander-${randomUUID()}`);
      const kept = ok(await bystander.upload(png(400)));
      const before = await keysIn(service);
      const mark = randomUUID();
      // Written in one way in a column, and in another within JSON.
      const owner = `o"w\\ner ${mark}`;
      const { left, solo } = await live(service.url, owner);
      const named = await tablesNaming(service, mark);
      for (const table of [
        'assets',
        'audit_events',
        'idempotency_keys',
        'quotas',
        'shares',
        'tickets',
        'api_keys',
        'project_members',
      ])
        assert.ok(named[table], `${table} does not name him: the test sees nothing`);
      const started = ok(
        await admin.send('POST', '/v1/admin/erasures', { ownerId: owner }, { 'stowage-reason': `asked by ${owner}` }),
      );
      const again = ok(await admin.send('POST', '/v1/admin/erasures', { ownerId: owner }, BECAUSE));
      assert.equal(again.id, started.id);
      const refused = await new Client(service.url, owner).upload(png(300));
      assert.deepEqual([refused.status, refused.body.type], [409, 'urn:stowage:problem:owner-under-erasure']);
      await waitUntil(async () => String((await admin.get(`/v1/admin/erasures/${started.id}`)).body.state) === 'done');
      assert.deepEqual(await tablesNaming(service, mark), {});
      // What he left to a project is there for its members, under his pseudonym, and nothing else of him.
      const [asset] = await service.query<{ owner_id: string; object_key: string }>(
        'select owner_id, object_key from assets where id = $1',
        [left],
      );
      const { receipt } = JSON.parse(await text(admin, `/v1/admin/erasures/${started.id}/receipt`)) as {
        receipt: Receipt;
      };
      assert.equal(asset?.owner_id, receipt.subject);
      const folder = String(asset?.object_key).slice(0, -'original'.length);
      const now = await keysIn(service);
      assert.deepEqual(
        now.filter((key) => !key.includes(folder)),
        before,
      );
      assert.ok(now.length > before.length);
      assert.equal((await bystander.content(kept.id)).status, 200);
      const { deleted, stores, remains, finishedAt } = receipt;
      const told = ['assets', 'uploads', 'leftAssets', 'keys', 'tickets', 'shares', 'memberships', 'projects'].map(
        (name) => deleted[name] ?? 0,
      );
      assert.deepEqual(told, [4, 2, 1, 1, 2, 1, 2, 1]);
      assert.equal(deleted['assetBytes'], 310 + 320 + 330 + 6 * 1024 * 1024);
      assert.deepEqual(
        stores.map(({ name, keepsVersions }) => [name, keepsVersions]),
        [['primary', 'no']],
      );
      assert.equal(
        remains.find(({ what }) => what === 'backups')?.until,
        new Date(Date.parse(finishedAt) + 35 * 86_400_000).toISOString(),
      );
      assert.equal(remains.find(({ what }) => what.startsWith('assets in projects'))?.count, 1);
      const [project] = await service.query('select id from projects where id = $1', [solo]);
      assert.equal(project, undefined);
      // Of the bystander's quota, and of that of the pseudonym, everything is right.
      const { report } = await service.service.reconcile({ dryRun: false });
      assert.deepEqual(
        [report.driftedQuotas, report.driftedStatistics, report.newlyLostAssets, report.unaccountedObjects],
        [0, 0, 0, 0],
      );
      const names = await service.query<{ detail: { name?: string } }>(
        "select detail from audit_events where detail ->> 'name' = 'his-face.png'",
      );
      assert.deepEqual(names, []);
      const listed = (await admin.get(`/v1/admin/erasures?ownerId=${encodeURIComponent(owner)}`)).body.data;
      assert.deepEqual(
        listed.map(({ id }) => id),
        [started.id],
      );
    });

    test('keeps what is held, names it, and takes it when it is asked again later', async () => {
      const owner = `held-${randomUUID()}`;
      const client = new Client(service.url, owner);
      const [one, two] = [ok(await client.upload(png(300))), ok(await client.upload(png(310)))];
      const hold = JSON.stringify({
        'case-7': { reason: `against ${owner}`, by: owner, at: new Date().toISOString() },
      });
      const setHolds = (holds: string | null) =>
        service.query('update assets set holds = $2 where id = $1', [one.id, holds]);
      await setHolds(hold);
      const { receipt } = await erase(admin, owner);
      assert.deepEqual(receipt.remains.find(({ what }) => what === 'held assets')?.assets, [
        { id: one.id, holds: { 'case-7': `against ${receipt.subject}` } },
      ]);
      const [row] = await service.query<{ owner_id: string }>('select owner_id from assets where id = $1', [one.id]);
      assert.equal(row?.owner_id, owner);
      assert.deepEqual(await service.query('select id from assets where id = $1', [two.id]), []);
      assert.equal((await admin.request('GET', `/v1/assets/${one.id}/content`, { headers: BECAUSE })).status, 200);
      await setHolds(null);
      const { receipt: second } = await erase(admin, owner);
      assert.equal(second.deleted['assets'], 1);
      assert.equal(second.subject, receipt.subject);
      assert.deepEqual(await tablesNaming(service, owner), {});
    });

    test('takes what uploads of the same owner bring meanwhile, and no more come', async () => {
      const owner = `busy-${randomUUID()}`;
      const client = new Client(service.url, owner);
      const statuses: number[] = [];
      const uploading = Array.from({ length: 8 }, async () => {
        for (let status = 201; status === 201; statuses.push(status))
          ({ status } = await client.raw(png(300), { name: 'a.png' }));
      });
      await waitUntil(() => statuses.length >= 16);
      const { receipt } = await erase(admin, owner);
      await Promise.all(uploading);
      const stored = statuses.filter((status) => status === 201).length;
      assert.equal(receipt.deleted['assets'] ?? 0, stored);
      // What was under way when it was ended is told so; what came later is refused.
      assert.deepEqual(
        statuses.filter((status) => ![201, 409, 404, 410].includes(status)),
        [],
      );
      assert.ok(statuses.includes(409));
      assert.deepEqual(await service.query('select id from assets where owner_id = $1', [owner]), []);
      assert.equal(ok(await client.upload(png(300))).state, 'ready');
    });
  });

describe('a receipt', () => {
  let service: TestService;
  let admin: Client;
  before(async () => {
    service = await startService({ env });
    admin = new Client(service.url, 'admin');
  });
  after(() => service?.close());

  test('is verified by the public key, with openssl too, and a changed one is found', async () => {
    const { text: signed } = await erase(admin, `signed-${randomUUID()}`);
    const { data } = (await new Client(service.url).get('/v1/receipt-keys')).body as unknown as {
      data: { keyId: string; algorithm: 'Ed25519'; publicKey: string }[];
    };
    assert.equal(faultOfReceipt(signed, data), undefined);
    assert.match(String(faultOfReceipt(signed.replace('"remains"', '"remainz"'), data)), /another text/);
    assert.match(String(faultOfReceipt(signed, [])), /not known/);
    const directory = mkdtempSync(join(tmpdir(), 'receipt-'));
    try {
      const { receipt, signature } = JSON.parse(signed);
      writeFileSync(join(directory, 'receipt'), JSON.stringify(receipt));
      writeFileSync(join(directory, 'signature'), Buffer.from(signature.value, 'base64'));
      writeFileSync(join(directory, 'key.pem'), data[0]?.publicKey ?? '');
      const said = execFileSync(
        'openssl',
        ['pkeyutl', '-verify', '-pubin', '-inkey', 'key.pem', '-rawin', '-in', 'receipt', '-sigfile', 'signature'],
        { cwd: directory },
      );
      assert.match(String(said), /Verified Successfully/);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('is not given before all is done, and nobody but administrators begins or sees an erasure', async () => {
    assert.equal((await admin.send('POST', '/v1/admin/erasures', { ownerId: 'x' })).status, 400);
    assert.equal((await admin.get(`/v1/admin/erasures/${randomUUID()}`)).status, 404);
    assert.equal((await admin.get('/v1/admin/erasures?cursor=abc')).status, 400);
    for (const owner of ['p-1', 'p-2', 'p-3']) await erase(admin, owner);
    const first = (await admin.get('/v1/admin/erasures?limit=2')).body;
    const second = (await admin.get(`/v1/admin/erasures?limit=200&cursor=${first.page.nextCursor}`)).body;
    const ids = [...first.data, ...second.data].map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
    assert.equal(
      ids.length,
      Number((await service.query<{ count: string }>('select count(*) from erasures'))[0]?.count),
    );
  });

  test('leaves the audit trail provable: days are sealed anew, which is told, and what was changed before stays found', async () => {
    const owner = `trail-${randomUUID()}`;
    const insert = (days: number, who: string) =>
      service.query(
        `insert into audit_events (action, actor_id, owner_id, at, detail, reason)
         values ('asset.updated', $1, $1, date_trunc('day', now() - make_interval(days => $2)) + interval '5 hours', '{"name": "his-face.png", "size": 1}', 'mine')`,
        [who, days],
      );
    for (const days of [6, 5, 4, 3, 2]) await insert(days, 'somebody-else');
    for (const days of [5, 3]) await insert(days, owner);
    await sealPastDays(service.database);
    const { database } = service.database;
    const before = await verifyAudit(database, 0);
    assert.deepEqual(before.faults, []);
    const { receipt } = await erase(admin, owner);
    const after = await verifyAudit(database, 0);
    assert.deepEqual(after.faults, []);
    // The day before the first that names him is as it was; all from that on are others.
    assert.equal(after.resealed, before.intact - 1);
    assert.equal(receipt.deleted['resealedDays'], after.resealed);
    assert.notDeepEqual(after.last?.digest, before.last?.digest);
    assert.ok(
      service.log.some(
        (line) => line.includes('sealed anew') && line.includes(String(before.last?.digest.toString('hex'))),
      ),
    );
    const rows = await service.query<{ detail: object; reason: string }>(
      "select detail, reason from audit_events where owner_id = $1 and at < now() - interval '1 day'",
      [receipt.subject],
    );
    assert.deepEqual(
      rows,
      Array.from({ length: 2 }, () => ({ detail: { name: 'erased', size: 1 }, reason: 'erased' })),
    );
    assert.deepEqual(await tablesNaming(service, owner), {});
    // A row that somebody has changed is not made sound by an erasure.
    const second = `trail-${randomUUID()}`;
    await service.query(
      "insert into audit_events (action, actor_id, owner_id, at) values ('asset.updated', $1, $1, date_trunc('day', now() - interval '1 day') + interval '1 hour')",
      [second],
    );
    await sealPastDays(service.database);
    await service.query('alter table audit_events disable trigger all');
    const client = await service.database.pool.connect();
    try {
      await client.query('set session_replication_role = replica');
      await client.query('update audit_events set detail = \'{"n": 2}\' where owner_id = $1', [second]);
      await client.query('set session_replication_role = origin');
    } finally {
      client.release();
    }
    await service.query('alter table audit_events enable trigger all');
    await erase(admin, second);
    assert.match((await verifyAudit(database, 0)).faults.join(), /not as it had been sealed before the erasure/);
  });

  test('does not let anybody but an erasure that runs change the audit trail', async () => {
    await assert.rejects(service.query("update audit_events set actor_id = 'x'"), /append-only/);
    await assert.rejects(
      service.query('select audit_events_pseudonymise($1, null, null, null, null)', [randomUUID()]),
      /no such erasure/,
    );
    await assert.rejects(
      service.query("select audit_reseal($1, now()::date, ''::bytea, ''::bytea, true)", [randomUUID()]),
      /no such erasure/,
    );
    await assert.rejects(service.query('update audit_former_seals set was_intact = true'), /append-only/);
  });
});

test('an erasure takes the older versions out of a bucket that keeps them', { skip: storeKinds[1]?.skip }, async () => {
  const service = await startService({ store: 's3', env });
  try {
    const { bucket } = service;
    assert.ok(bucket);
    const { client: s3, bucket: Bucket } = bucket;
    await s3.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }));
    const owner = `versions-${randomUUID()}`;
    const bystander = new Client(service.url, `by-${randomUUID()}`);
    ok(await bystander.upload(png(500)));
    const { left } = await live(service.url, owner, false);
    const versionsIn = async () => {
      const { Versions = [], DeleteMarkers = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket }));
      return [...Versions, ...DeleteMarkers].map(({ Key }) => String(Key));
    };
    assert.ok((await versionsIn()).length > 3);
    const { receipt } = await erase(new Client(service.url, 'admin'), owner, { projectAssets: 'delete' });
    assert.equal((await versionsIn()).length, 1);
    assert.equal(receipt.deleted['leftAssets'], undefined);
    assert.deepEqual(await service.query('select id from assets where id = $1', [left]), []);
    assert.deepEqual(await tablesNaming(service, owner), {});
    assert.equal(receipt.stores[0]?.keepsVersions, 'yes');
    assert.ok((receipt.deleted['olderVersions'] ?? 0) >= 5);
    for (const Key of await versionsIn()) {
      const { Versions = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket, Prefix: Key }));
      for (const { VersionId } of Versions) await s3.send(new DeleteObjectCommand({ Bucket, Key, VersionId }));
    }
  } finally {
    await service.close();
  }
});

async function text(client: Client, path: string): Promise<string> {
  return (await fetch(client.url + path, { headers: client.headers })).text();
}
