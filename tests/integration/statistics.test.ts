import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { pdf, png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

interface Group {
  value?: string;
  count: number;
  bytes: number;
}
interface Statistics {
  byAssetType: Group[];
  byMediaType: Group[];
  byProject: Group[];
  metadataBytes: number;
  byDay: Group[];
  hasMoreProjects: boolean;
}

describe('statistics', () => {
  let service: TestService;
  let other: TestService;
  before(async () => {
    const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' };
    service = await startService({ env });
    other = await startService({ env, beside: service });
  });
  after(async () => {
    await other.close();
    await service.close();
  });

  const fresh = () => new Client(service.url, `user-${randomUUID()}`);
  const told = async (client: Client) => (await client.get('/v1/statistics')).body as unknown as Statistics;

  /** What they have to be, by a query that looks at the records and at nothing else. */
  async function summed(owner: string): Promise<Statistics> {
    const by = async (column: string) =>
      (
        await service.query<{ value: string | null; count: string; bytes: string }>(
          `select ${column} as value, count(*), sum(size) as bytes from assets
           where owner_id = $1 and state in ('processing', 'ready', 'rejected', 'lost') group by 1 order by 1`,
          [owner],
        )
      ).map(({ value, count, bytes }) => ({
        ...(value !== null && { value }),
        count: Number(count),
        bytes: Number(bytes),
      }));
    return {
      byAssetType: await by('asset_type'),
      byMediaType: await by('media_type'),
      byProject: await by('project_id'),
      hasMoreProjects: false,
      metadataBytes: await metadataBytes(owner),
      byDay: await by("to_char(created_at at time zone 'UTC', 'YYYY-MM-DD')"),
    };
  }

  async function metadataBytes(owner: string): Promise<number> {
    const [row] = await service.query<{ bytes: string }>(
      `select coalesce(sum(octet_length(metadata::text)), 0) as bytes from assets
       where owner_id = $1 and metadata <> '{}' and state in ('processing', 'ready', 'rejected', 'lost')`,
      [owner],
    );
    return Number(row?.bytes);
  }

  test('are exact after uploads, moves, trash, restores and deletions at once over two instances', async () => {
    const clients = [fresh()];
    const owner = clients[0]?.headers['x-user-id'] ?? '';
    clients.push(new Client(other.url, owner));
    const statuses = new Set<number>();
    await Promise.all(
      Array.from({ length: 24 }, async (_, index) => {
        const client = clients[index % 2] ?? fresh();
        const fields: Record<string, string> = index % 3 === 0 ? {} : { projectId: `p${index % 3}` };
        const bytes = index % 4 === 0 ? pdf() : png(200 + index, index);
        const { body } = await client.raw(bytes, { name: index % 4 === 0 ? 'a.pdf' : 'a.png', fields });
        const path = `/v1/assets/${body.id}`;
        // Moves in both directions at once would wait for each other if counters were locked in any order.
        for (const projectId of index % 2 ? ['p1', 'p2', null] : ['p2', 'p1', 'p3'])
          statuses.add((await client.send('PATCH', path, { projectId, metadata: { of: `${projectId}` } })).status);
        if (index % 3 === 1) statuses.add((await client.request('DELETE', path)).status);
        if (index % 6 === 1) statuses.add((await client.request('POST', `${path}/restore`)).status);
        if (index % 5 === 1) statuses.add((await client.request('DELETE', `${path}?permanent=true`)).status);
      }),
    );
    assert.deepEqual([...statuses].sort(), [200, 204]);
    const expected = await summed(owner);
    assert.ok(expected.byProject.length === 2 && expected.byMediaType.length === 2 && expected.metadataBytes > 0);
    assert.deepEqual(await told(clients[0] ?? fresh()), expected);
  });

  test('count what many statements change at once, whoever sends them', async () => {
    const owner = `import-${randomUUID()}`;
    await service.query(
      "insert into projects (id, name, created_by) select 'p' || n, 'p', $1 from generate_series(0, 2) n on conflict do nothing",
      [owner],
    );
    await service.query(
      `insert into assets (id, owner_id, project_id, name, state, asset_type, media_type, size, object_key, created_at, updated_at)
       select gen_random_uuid(), $1, 'p' || n % 3, 'a.png', 'ready', 'image', 'image/png', n, 'key', now(), now()
       from generate_series(1, 300) as n`,
      [owner],
    );
    await service.query("update assets set state = 'deleting' where owner_id = $1 and size % 2 = 0", [owner]);
    await service.query('delete from assets where owner_id = $1 and size % 5 = 0', [owner]);
    assert.deepEqual(await told(new Client(service.url, owner)), await summed(owner));
  });

  test('are read without looking at one asset, and the projects have a bound', async () => {
    const owner = `many-${randomUUID()}`;
    await service.query(
      "insert into projects (id, name, created_by) select 'many' || n, 'p', $1 from generate_series(1, 1500) n",
      [owner],
    );
    await service.query(
      `insert into assets (id, owner_id, project_id, name, state, asset_type, media_type, size, object_key, created_at, updated_at)
       select gen_random_uuid(), $1, 'many' || n, 'a.png', 'ready', 'image', 'image/png', 1, 'key', now(), now()
       from generate_series(1, 1500) as n`,
      [owner],
    );
    // Nobody can read the table while this holds it.
    const holder = await service.database.pool.connect();
    try {
      await holder.query('begin');
      await holder.query('lock table assets in access exclusive mode');
      const { byProject, byAssetType, hasMoreProjects } = await told(new Client(service.url, owner));
      assert.deepEqual(byAssetType, [{ value: 'image', count: 1500, bytes: 1500 }]);
      assert.equal(byProject.length, 1000);
      assert.equal(hasMoreProjects, true);
    } finally {
      await holder.query('rollback');
      holder.release();
    }
  });

  test('leave days out that are long ago', async () => {
    const client = fresh();
    const { body } = await client.raw(png());
    const owner = client.headers['x-user-id'];
    await service.query("update assets set created_at = now() - interval '40 days' where owner_id = $1", [owner]);
    const { byDay, byAssetType } = await told(client);
    assert.deepEqual(byDay, []);
    assert.equal(byAssetType[0]?.count, 1);
    assert.equal((await client.request('DELETE', `/v1/assets/${body.id}?permanent=true`)).status, 204);
    assert.deepEqual((await told(client)).byAssetType, []);
  });

  test('that are wrong are found and mended by the reconciler, while uploads run', async () => {
    const client = fresh();
    const owner = client.headers['x-user-id'] ?? '';
    await client.raw(png(500, 1), { fields: { projectId: 'kept' } });
    await service.query(
      "update asset_statistics set files = files + 7, bytes = bytes - 33 where owner_id = $1 and dimension = 'project'",
      [owner],
    );
    await service.query("delete from asset_statistics where owner_id = $1 and dimension = 'mediaType'", [owner]);
    await service.query("insert into asset_statistics values ($1, 'assetType', 'ghost', 3, 3)", [owner]);
    const dry = await service.service.reconcile({ dryRun: true });
    assert.equal(dry.report.driftedStatistics, 3);
    const uploads = Array.from({ length: 10 }, (_, index) => client.raw(png(300 + index, index)));
    const { report } = await service.service.reconcile({});
    assert.equal(report.driftedStatistics, 3);
    for (const { status } of await Promise.all(uploads)) assert.equal(status, 201);
    assert.deepEqual(await told(client), await summed(owner));
    assert.equal((await service.service.reconcile({})).report.driftedStatistics, 0);
    const events = await service.query<{ dimension: string }>(
      "select detail->>'dimension' as dimension from audit_events where owner_id = $1 and action = 'statistics.corrected' order by id",
      [owner],
    );
    assert.deepEqual(
      events.map(({ dimension }) => dimension),
      ['assetType', 'mediaType', 'project'],
    );
  });
});
