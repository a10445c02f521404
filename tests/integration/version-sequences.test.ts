/** Random sequences of what can be done to the contents of assets, against a model; then nothing may be left or wrong. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const KEPT = 2;
const LIMIT = 6000;
const policies = { kept: { mediaTypes: ['image/png'], maxBytes: 10_000, metadata: 'keep', versions: KEPT } };
const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', REPLACED_GRACE: '0s', RECONCILE_GRACE: '0s' };
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

interface Content {
  number: number;
  bytes: Buffer<ArrayBuffer>;
}
/** What an asset must be. */
interface Modelled {
  id: string;
  content: Content;
  versions: Content[];
  isTrashed: boolean;
  inProject: boolean;
}

const step = fc.record({
  do: fc.constantFrom(
    'store',
    'replace',
    'replace',
    'replace',
    'restore',
    'drop',
    'trash',
    'untrash',
    'delete',
    'move',
  ),
  which: fc.nat(2),
  number: fc.nat(5),
  size: fc.integer({ min: 200, max: 1500 }),
});
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

describe('the contents of assets, by chance', () => {
  let service: TestService;
  let seed = 0;
  before(async () => {
    service = await startService({ policies, env });
  });
  after(() => service.close());

  const bytesOf = (model: Modelled[]) =>
    model.flatMap(({ content, versions }) => [content, ...versions]).reduce((sum, { bytes }) => sum + bytes.length, 0);
  const give = (asset: Modelled, bytes: Buffer<ArrayBuffer>) => {
    asset.versions = [asset.content, ...asset.versions].slice(0, KEPT);
    asset.content = { number: asset.content.number + 1, bytes };
  };

  /** Does it, expects the answer that the model has, and changes the model. */
  async function take(client: Client, model: Modelled[], projectId: string, { which, number, size, ...is }: Step) {
    const bytes = png(size, ++seed);
    const asset = model[which % Math.max(1, model.length)];
    const path = `/v1/assets/${asset?.id}`;
    const expect = async (answer: Promise<{ status: number; body: unknown }>, status: number) => {
      const { status: told, body } = await answer;
      assert.equal(told, status, `${is.do}: ${JSON.stringify(body)}`);
      return told < 300;
    };
    // While the new bytes come, both are there.
    const hasRoom = bytesOf(model) + size <= LIMIT;
    if (is.do === 'store') {
      const { status, body } = await client.raw(bytes, { fields: { assetType: 'kept' } });
      assert.equal(status, hasRoom ? 201 : 403, JSON.stringify(body));
      if (hasRoom) {
        const content = { number: 1, bytes };
        model.push({ id: body.id, content, versions: [], isTrashed: false, inProject: false });
      }
      return;
    }
    if (!asset) return;
    const version = asset.versions.find((each) => each.number === number + 1);
    switch (is.do) {
      case 'replace': {
        const status = asset.isTrashed ? 409 : hasRoom ? 200 : 403;
        if (await expect(client.request('PUT', `${path}/content`, { body: bytes }), status)) give(asset, bytes);
        return;
      }
      case 'restore': {
        const status = asset.isTrashed ? 409 : version ? 200 : 404;
        if (await expect(client.request('POST', `${path}/versions/${number + 1}/restore`), status)) {
          asset.versions = asset.versions.filter((each) => each !== version);
          give(asset, version?.bytes ?? bytes);
        }
        return;
      }
      case 'drop':
        if (await expect(client.request('DELETE', `${path}/versions/${number + 1}`), version ? 204 : 404))
          asset.versions = asset.versions.filter((each) => each !== version);
        return;
      case 'trash':
        await expect(client.request('DELETE', path), 204);
        asset.isTrashed = true;
        return;
      case 'untrash':
        await expect(client.request('POST', `${path}/restore`), asset.isTrashed ? 200 : 409);
        asset.isTrashed = false;
        return;
      case 'delete':
        await expect(client.request('DELETE', `${path}?permanent=true`), 204);
        model.splice(model.indexOf(asset), 1);
        return;
      case 'move': {
        const to = asset.inProject ? null : projectId;
        if (await expect(client.send('PATCH', path, { projectId: to }), asset.isTrashed ? 409 : 200))
          asset.inProject = !asset.inProject;
      }
    }
  }

  async function check(client: Client, model: Modelled[]): Promise<void> {
    const { body: quota } = await client.get('/v1/quota');
    assert.deepEqual([quota['used'], quota['reserved'], quota['fileCount']], [bytesOf(model), 0, model.length]);
    for (const { id, content, versions, isTrashed } of model) {
      const { body } = await client.get(`/v1/assets/${id}`);
      assert.deepEqual([body['contentVersion'], body.sha256], [content.number, sha256(content.bytes)]);
      const { body: list } = await client.get(`/v1/assets/${id}/versions`);
      assert.deepEqual(
        (list.data as unknown as { number: number; sha256: string }[]).map((each) => [each.number, each.sha256]),
        versions.map(({ number, bytes }) => [number, sha256(bytes)]),
      );
      if (isTrashed) continue;
      assert.deepEqual((await client.content(id)).body, content.bytes);
      for (const { number, bytes } of versions) {
        const url = `${service.url}/v1/assets/${id}/versions/${number}/content`;
        const answer = await fetch(url, { headers: client.headers });
        assert.deepEqual(Buffer.from(await answer.arrayBuffer()), bytes);
      }
    }
  }

  test('are what the model says, and the reconciler finds nothing', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30, size: 'max' }), async (steps) => {
        const client = new Client(service.url, `user-${randomUUID()}`);
        const projectId = `p-${randomUUID()}`;
        assert.equal((await client.send('POST', '/v1/projects', { id: projectId, name: 'P' })).status, 201);
        const limit = 'insert into quotas (owner_id, limit_bytes) values ($1, $2)';
        await service.query(limit, [client.headers['x-user-id'], LIMIT]);
        const model: Modelled[] = [];
        for (const each of steps) await take(client, model, projectId, each);
        await check(client, model);
      }),
      { numRuns: 15 },
    );
    await waitUntil(async () => {
      const left = `select 1 from assets where state = 'deleting' union all select 1 from derivatives where state = 'discarded'`;
      return (await service.query(left)).length === 0;
    });
    const { report } = await service.service.reconcile({ dryRun: true });
    const { objects, bytes, ...faults } = report;
    assert.deepEqual(
      Object.entries(faults).filter(([, count]) => count !== 0),
      [],
    );
    const [sum] = await service.query<{ count: string; size: string }>(
      `select count(*), sum(size) as size from (select size from assets union all select size from asset_versions) as all_of_them`,
    );
    assert.deepEqual([objects, bytes], [Number(sum?.count), Number(sum?.size)]);
    const [counted] = await service.query<{ faults: string }>(
      `select count(*) as faults from assets where content_version - 1 <>
        (select count(*) from audit_events e where e.asset_id = assets.id and action in ('asset.replaced', 'asset.version-restored'))`,
    );
    assert.equal(counted?.faults, '0');
  });
});
