/** Steps of processing and a hold: none puts other bytes in the place of what is held, or takes them away, and nothing is served that they refuse. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import sharp from 'sharp';
import { systemActor } from '../../src/database/audit.ts';
import { writeStep } from '../../src/processing/repository.ts';
import { processingRepository } from '../../src/processing/run-step.ts';
import { stepJob } from '../../src/processing/step-jobs.ts';
import { infected } from '../../src/scanning/problems.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const kept = { mediaTypes: ['image/png', 'image/jpeg'], maxBytes: 1_000_000, metadata: 'keep', scan: 'off' };
const policies = {
  kept,
  bounded: { ...kept, reencode: { maxWidth: 100, maxHeight: 100 } },
  scanned: { ...kept, scan: 'required' },
};
const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', CLAMD: '/nowhere/clamd.socket', REPLACED_GRACE: '0s' };
const because = { 'stowage-reason': 'a test' };
const actor = systemActor('test', randomUUID());
const noFence = async () => {};

interface Row {
  state: string;
  size: string;
  object_key: string;
}

describe('a step of processing', () => {
  let service: TestService;
  let client: Client;
  before(async () => {
    service = await startService({ policies, env });
    client = new Client(service.url, `user-${randomUUID()}`);
  });
  after(() => service.close());

  async function stored(bytes: Uint8Array<ArrayBuffer> = png(300, 1), name = 'photo.png'): Promise<string> {
    const { status, body } = await client.upload(bytes, { name, fields: { assetType: 'kept' } });
    assert.equal(status, 201, JSON.stringify(body));
    return body.id;
  }
  const rowOf = async (id: string) => {
    const [row] = await service.query<Row>('select state, size, object_key from assets where id = $1', [id]);
    return row ?? assert.fail('there is no record');
  };
  const hold = async (id: string) => {
    const held = await client.send('PUT', `/v1/assets/${id}/hold`, { name: 'claim', reason: 'a claim' }, because);
    assert.equal(held.status, 200, JSON.stringify(held.body));
  };
  const release = (id: string) =>
    client.request('DELETE', `/v1/assets/${id}/hold/claim?reason=settled`, { headers: because });
  const isStored = async (key: string) => (await service.store.head(key, {})) !== undefined;
  const repository = () => processingRepository(service.service.core);
  const jobsAreDone = () =>
    waitUntil(
      async () =>
        (
          await service.query(
            "select from pgboss.job where name in ('discard-derivative', 'delete-object') and state in ('created', 'active', 'retry')",
          )
        ).length === 0,
    );

  for (const isHeld of [true, false])
    test(`that finds an infection takes the file out of service${isHeld ? ', and leaves the bytes of what is held' : ' with its bytes'}`, async () => {
      const id = await stored();
      if (isHeld) await hold(id);
      const { object_key: objectKey } = await rowOf(id);
      const scan = { verdict: 'infected' as const, at: new Date().toISOString(), signature: 'Test' };
      const outcome = { kind: 'rejected' as const, reason: infected, removesBytes: true, scan };
      const ended = { name: 'scan' as const, outcome, objectKey, isAgain: true };
      assert.equal(await repository().end(id, ended, actor, noFence), 'recorded');
      await jobsAreDone();
      const { state, size } = await rowOf(id);
      assert.deepEqual([state, size], ['rejected', isHeld ? '300' : '0']);
      assert.equal(await isStored(objectKey), isHeld);
      assert.equal((await client.content(id)).status, 409, 'nobody gets them');
      if (!isHeld) return;
      await release(id);
      const gone = await client.request('DELETE', `/v1/assets/${id}?permanent=true`);
      assert.equal(gone.status, 204);
    });

  test('that replaces bytes waits until nothing holds them, and what waits is not served', async () => {
    const noise = { type: 'gaussian' as const, mean: 128, sigma: 30 };
    const picture = sharp({ create: { width: 300, height: 200, channels: 3, noise, background: '#000' } });
    const id = await stored(new Uint8Array(await picture.jpeg().toBuffer()), 'photo.jpg');
    await hold(id);
    const before = await rowOf(id);
    await service.query(
      `update assets set state = 'processing', asset_type = 'bounded', processing = '{"reencode": {"state": "waiting"}}'
        where id = $1`,
      [id],
    );
    const { core } = service.service;
    await core.background.transact((transaction) =>
      core.outbox.send(transaction, stepJob('reencode'), { assetId: id }),
    );
    const record = async () => (await client.get(`/v1/assets/${id}`)).body;
    await waitUntil(async () => (await record()).processing?.reencode?.reason === 'held');
    assert.deepEqual(await rowOf(id), { ...before, state: 'processing' });
    assert.equal((await client.content(id)).status, 409);
    assert.equal((await release(id)).status, 204);
    await waitUntil(async () => (await record()).state === 'ready');
    assert.notEqual((await rowOf(id)).object_key, before.object_key, 'it has gone on');
  });

  test('that has made other bytes when the hold came does not give them', async () => {
    const id = await stored();
    await hold(id);
    const { object_key: objectKey } = await rowOf(id);
    const replaced = {
      ...{ kind: 'replaced' as const, derivativeId: randomUUID(), objectKey: 'elsewhere', size: 1 },
      ...{ sha256: Buffer.alloc(32), mediaType: 'image/png' },
    };
    const ended = { name: 'reencode' as const, outcome: replaced, objectKey, isAgain: true };
    assert.equal(await repository().end(id, ended, actor, noFence), 'held');
    assert.equal((await rowOf(id)).object_key, objectKey);
    // The statement by itself, too.
    const values = {
      ...{ id, state: 'ready', reason: null, processing: null, scan: null, facts: null, thumbHash: null },
      ...{ original: null, size: 1, sha256: null, mediaType: 'image/png', isChange: true, action: null, ...actor },
    };
    for (const key of ['elsewhere', objectKey]) {
      const { rows } = await service.database.database.run(writeStep, { ...values, objectKey: key });
      assert.equal(rows.length, 0);
    }
    assert.equal((await service.database.database.run(writeStep, { ...values, size: 300, objectKey })).rows.length, 1);
  });

  test('ends an upload that was to replace what is held since', async () => {
    const id = await stored();
    await service.query("update assets set asset_type = 'scanned' where id = $1", [id]);
    const { object_key: before } = await rowOf(id);
    const replaced = await client.request('PUT', `/v1/assets/${id}/content`, { body: png(300, 2) });
    assert.equal(replaced.status, 202, JSON.stringify(replaced.body));
    const [upload] = await service.query<{ id: string; object_key: string }>(
      'select a.id, a.object_key from assets a join replacements r on r.upload_id = a.id where r.asset_id = $1',
      [id],
    );
    assert.ok(upload);
    await hold(id);
    const outcome = { kind: 'done' as const };
    const ended = { name: 'scan' as const, outcome, objectKey: upload.object_key };
    assert.equal(await repository().end(upload.id, ended, actor, noFence), 'recorded');
    await jobsAreDone();
    assert.equal((await rowOf(id)).object_key, before);
    assert.ok(await isStored(before));
    assert.ok(!(await isStored(upload.object_key)), 'nothing is left of the upload');
    const [audited] = await service.query<{ detail: { reason: string } }>(
      "select detail from audit_events where asset_id = $1 and action = 'upload.aborted'",
      [upload.id],
    );
    assert.equal(audited?.detail.reason, 'held');
  });
});
