/** Where the bucket has Object Lock, the store keeps what is held: whoever has the keys to the bucket does not delete it either. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import {
  DeleteObjectCommand,
  GetObjectLegalHoldCommand,
  GetObjectRetentionCommand,
  ListObjectVersionsCommand,
} from '@aws-sdk/client-s3';
import { features } from '../../src/app.ts';
import { examine } from '../../src/doctor/check.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { createTestBucket, s3Skip, type TestBucket } from '../support/s3.ts';
import { placeOnS3, startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', REPLACED_GRACE: '0s' };
const policies = { image: { mediaTypes: ['image/png'], maxBytes: 100_000, metadata: 'keep', versions: 1 } };
const because = { 'stowage-reason': 'a test' };

describe('Object Lock', { skip: s3Skip() }, () => {
  let bucket: TestBucket;
  let service: TestService;
  before(async () => {
    bucket = await createTestBucket({ objectLock: true });
    service = await startService({ env: { ...placeOnS3(bucket), ...env }, policies });
  });
  after(async () => {
    await service.close();
    await bucket.drop();
  });

  const administrator = () => new Client(service.url, `user-${randomUUID()}`);
  /** An asset with a version, of a development user, who is an administrator where he names a reason. */
  async function stored(client: Client): Promise<string> {
    const { id } = (await client.raw(png(300, 1))).body;
    const replaced = await client.request('PUT', `/v1/assets/${id}/content`, { body: png(300, 2) });
    assert.equal(replaced.status, 200, JSON.stringify(replaced.body));
    return id;
  }
  async function keysOf(id: string): Promise<string[]> {
    const rows = await service.query<{ key: string }>(
      'select object_key as key from assets where id = $1 union all select object_key from asset_versions where asset_id = $1',
      [id],
    );
    return rows.map(({ key }) => key);
  }
  async function versionsOf(key: string) {
    const { Versions = [], DeleteMarkers = [] } = await bucket.client.send(
      new ListObjectVersionsCommand({ Bucket: bucket.bucket, Prefix: key }),
    );
    return { versions: Versions, markers: DeleteMarkers };
  }
  const at = (key: string) => ({ Bucket: bucket.bucket, Key: key });
  async function isHeldInStore(key: string): Promise<boolean> {
    const [version] = (await versionsOf(key)).versions;
    const VersionId = version?.VersionId;
    try {
      const { LegalHold } = await bucket.client.send(
        new GetObjectLegalHoldCommand({ ...at(key), ...(VersionId !== undefined && { VersionId }) }),
      );
      return LegalHold?.Status === 'ON';
    } catch {
      return false;
    }
  }
  async function retentionOf(key: string) {
    try {
      const { Retention } = await bucket.client.send(new GetObjectRetentionCommand(at(key)));
      return [Retention?.Mode, Retention?.RetainUntilDate?.toISOString()];
    } catch {
      return undefined;
    }
  }
  const hold = (client: Client, id: string) =>
    client.send('PUT', `/v1/assets/${id}/hold`, { name: 'claim', reason: 'a claim' }, because);
  const remove = (client: Client, id: string) =>
    client.request('DELETE', `/v1/assets/${id}/hold/claim?reason=settled`, { headers: because });
  const erase = (client: Client, id: string) =>
    client.request('DELETE', `/v1/assets/${id}?permanent=true`, { headers: because });

  test('keeps every version of what is held, until the hold is off', async () => {
    const client = administrator();
    const id = await stored(client);
    const keys = await keysOf(id);
    assert.equal(keys.length, 2);
    assert.equal((await hold(client, id)).status, 200);
    for (const key of keys) await waitUntil(() => isHeldInStore(key));
    const [version] = (await versionsOf(keys[0] ?? '')).versions;
    await assert.rejects(
      bucket.client.send(new DeleteObjectCommand({ ...at(keys[0] ?? ''), VersionId: version?.VersionId })),
      'nobody deletes it from the bucket',
    );
    assert.equal((await remove(client, id)).status, 204);
    for (const key of keys) await waitUntil(async () => !(await isHeldInStore(key)));
  });

  test('leaves nothing locked of what was deleted right after its hold was off', async () => {
    const client = administrator();
    const id = await stored(client);
    const keys = await keysOf(id);
    await hold(client, id);
    for (const key of keys) await waitUntil(() => isHeldInStore(key));
    await remove(client, id);
    assert.equal((await erase(client, id)).status, 204);
    await waitUntil(async () => (await keysOf(id)).length === 0);
    for (const key of keys) {
      await waitUntil(async () => !(await isHeldInStore(key)));
      const { versions, markers } = await versionsOf(key);
      assert.deepEqual([versions.length, markers.length], [1, 1], 'in a versioned bucket a marker lies over the bytes');
    }
  });

  test('retains as long as the record says, and no longer', async () => {
    const client = administrator();
    const id = await stored(client);
    const [key = ''] = await keysOf(id);
    const inDays = (days: number) => new Date(Math.floor(Date.now() / 1000) * 1000 + days * 86_400_000).toISOString();
    const retain = (retainUntil: string, mode: string) =>
      client.send('PUT', `/v1/assets/${id}/retention`, { retainUntil, mode }, because);
    for (const [until, mode] of [
      [inDays(2), 'governance'],
      [inDays(1), 'governance'],
      [inDays(3), 'governance'],
    ] as const) {
      assert.equal((await retain(until, mode)).status, 200);
      await waitUntil(
        async () => JSON.stringify(await retentionOf(key)) === JSON.stringify([mode.toUpperCase(), until]),
      );
    }
    assert.equal((await retain(inDays(-1), 'governance')).status, 200);
    await waitUntil(async () => {
      const [, until] = (await retentionOf(key)) ?? [];
      // It cannot end in the past.
      return until === undefined || until <= inDays(1 / 24);
    });
  });

  test('is looked for by the doctor', async () => {
    const { core } = service.service;
    const checks = features.find(({ name }) => name === 'holds')?.checks?.(core) ?? [];
    const verdicts: string[][] = [];
    for await (const { name, verdict } of examine(checks)) verdicts.push([name, verdict]);
    assert.deepEqual(verdicts, [['Object Lock', 'ok']]);
  });
});
