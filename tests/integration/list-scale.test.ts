import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { userNamed } from '../../src/access/caller.ts';
import { type ListQuery, listStatement } from '../../src/assets/list.ts';
import { type DatabaseHandle, openDatabase } from '../../src/database/client.ts';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { createTestDatabase } from '../support/postgres.ts';

/** So many that the planner must take the indexes; more would take the same plans, and minutes to insert. */
const ASSETS = 250_000;
const MEMBERS = 1000;
const MINUTES = 60_000;

interface Plan {
  'Node Type': string;
  'Index Name'?: string;
  'Actual Rows': number;
  'Rows Removed by Filter'?: number;
  /** Of a look at something else for each row: what the caller is to its project. */
  'Subplan Name'?: string;
  Plans?: Plan[];
}

describe(`a list of ${ASSETS} assets`, () => {
  let database: DatabaseHandle;
  let drop: () => Promise<void>;

  before(async () => {
    const fresh = await createTestDatabase();
    drop = fresh.drop;
    await prepareDatabase(fresh.url);
    database = openDatabase({ url: fresh.url, connections: 2, timeout: 4 * MINUTES, onError: () => {} });
    await database.pool.query(`
      insert into projects (id, name, created_by)
      select 'project-' || n, 'A project', 'big' from generate_series(0, 999) as n union all select 'team', 'Team', 'big'`);
    await database.pool.query(`
      insert into assets (id, owner_id, project_id, name, state, asset_type, media_type, size, sha256, object_key, created_at, updated_at, trashed_at)
      select gen_random_uuid(), 'big', 'project-' || n % 1000, 'file-' || md5(n::text) || '.png', 'ready',
        case when n % 100 = 0 then 'video' else 'image' end, case when n % 100 = 0 then 'video/mp4' else 'image/png' end,
        n % 1000000, decode('00', 'hex'), 'key', now() - make_interval(secs => n), now(), case when n % 50 = 0 then now() end
      from generate_series(1, ${ASSETS / 2}) as n`);
    // Half of them are those of a project of a thousand members, who have uploaded them by turns.
    await database.pool.query(`
      insert into project_members (project_id, subject, role)
      select id, 'big', 'manager' from projects where id <> 'team' union all select 'team', 'member-' || n, 'editor' from generate_series(0, ${MEMBERS - 1}) as n`);
    await database.pool.query(`
      insert into assets (id, owner_id, project_id, name, state, asset_type, media_type, size, sha256, object_key, created_at, updated_at, trashed_at)
      select gen_random_uuid(), 'member-' || n % ${MEMBERS}, 'team', 'file-' || md5(n::text) || '.png', 'ready', 'image', 'image/png',
        n % 1000000, decode('00', 'hex'), 'key', now() - make_interval(secs => n), now(), case when n % 50 = 0 then now() end
      from generate_series(1, ${ASSETS / 2}) as n`);
    await database.pool.query('analyze assets');
    await database.pool.query('analyze project_members');
  });
  after(async () => {
    await database.close();
    await drop();
  });

  async function planOf(changes: Partial<ListQuery>): Promise<Plan> {
    const query: ListQuery = {
      scope: { kind: 'own', caller: userNamed('big') },
      trashed: false,
      sort: 'createdAt',
      order: 'desc',
      limit: 51,
      ...changes,
    };
    const { statement, values } = listStatement(query);
    const { rows } = await database.pool.query<{ 'QUERY PLAN': { Plan: Plan }[] }>(
      `explain (analyze, format json) ${statement.text}`,
      statement.bind(values),
    );
    const plan = rows[0]?.['QUERY PLAN'][0]?.Plan;
    assert.ok(plan);
    return plan;
  }

  /** The one scan below the limit; between them only the sum of the bytes, which takes rows as they come. */
  function scanOf(plan: Plan): Plan {
    const path: Plan[] = [];
    for (let node: Plan | undefined = plan; node; ) {
      path.push(node);
      const below: Plan[] = (node.Plans ?? []).filter((each) => each['Subplan Name'] === undefined);
      assert.ok(below.length <= 1, JSON.stringify(node));
      node = below[0];
    }
    const types = path.map((node) => node['Node Type']);
    assert.deepEqual(types, ['Subquery Scan', 'Limit', 'WindowAgg', 'Index Scan']);
    const scan = path.at(-1);
    assert.ok(scan);
    return scan;
  }

  const after50k = { createdAt: new Date(Date.now() - 50_000_000).toISOString(), name: 'file-8000', size: '100000' };
  const id = '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';
  const team = { kind: 'project', projectId: 'team' } as const;
  const pages: [string, Partial<ListQuery>, string][] = [
    ...(['createdAt', 'name', 'size'] as const).flatMap((sort): [string, Partial<ListQuery>, string][] =>
      (['asc', 'desc'] as const).flatMap((order): [string, Partial<ListQuery>, string][] => {
        const index = { createdAt: 'assets_by_created', name: 'assets_by_name', size: 'assets_by_size' }[sort];
        return [
          [`the first page by ${sort} ${order}`, { sort, order }, index],
          [`a page far down by ${sort} ${order}`, { sort, order, after: { value: after50k[sort], id } }, index],
        ];
      }),
    ),
    ['a project', { projectId: 'project-7' }, 'assets_by_project'],
    ['an asset type that is rare', { assetType: 'video' }, 'assets_by_asset_type'],
    ['a media type that is rare', { mediaType: 'video/mp4' }, 'assets_by_media_type'],
    ['a beginning of names', { name: 'FILE-00ab', sort: 'name', order: 'asc' }, 'assets_by_name'],
    ['the trash', { trashed: true }, 'assets_trashed'],
    ['all that the members of a project have uploaded', { scope: team }, 'assets_of_project_by_created'],
    [
      'a page far down of all that they have uploaded',
      { scope: team, after: { value: after50k.createdAt, id } },
      'assets_of_project_by_created',
    ],
    ['all of a project by name', { scope: team, sort: 'name', order: 'asc' }, 'assets_of_project_by_name'],
    ['all of a project by size', { scope: team, sort: 'size' }, 'assets_of_project_by_size'],
    ['the trash of a project', { scope: team, trashed: true }, 'assets_of_project_trashed'],
  ];
  for (const [title, query, index] of pages) {
    test(`${title} is one index scan that reads no more than the page`, async () => {
      const scan = scanOf(await planOf(query));
      assert.equal(scan['Index Name'], index);
      assert.ok(scan['Actual Rows'] <= 52);
      assert.ok(
        (scan['Rows Removed by Filter'] ?? 0) <= 51,
        `${scan['Rows Removed by Filter']} rows were read for nothing`,
      );
    });
  }

  /** One plan for every owner and every cursor, as a prepared statement has in the end. */
  async function genericPlanOf(query: ListQuery): Promise<Plan> {
    const { statement, values } = listStatement(query);
    const client = await database.pool.connect();
    try {
      await client.query('set plan_cache_mode = force_generic_plan');
      await client.query(`prepare usual as ${statement.text}`);
      const literals = statement
        .bind(values)
        .map((value) => (value === null ? 'null' : client.escapeLiteral(String(value))));
      const { rows } = await client.query(`explain (analyze, format json) execute usual(${literals.join(', ')})`);
      return rows[0]['QUERY PLAN'][0].Plan;
    } finally {
      client.release(true);
    }
  }

  for (const trashed of [false, true])
    for (const sort of trashed ? (['createdAt'] as const) : (['createdAt', 'name', 'size'] as const))
      for (const order of ['asc', 'desc'] as const)
        for (const far of [false, true])
          test(`the prepared page by ${sort} ${order}${trashed ? ' of the trash' : ''}${far ? ', far down' : ''} is one index scan too`, async () => {
            const after = { value: after50k[sort], id };
            const plan = await genericPlanOf({
              scope: { kind: 'own', caller: userNamed('big') },
              trashed,
              sort,
              order,
              limit: 51,
              ...(far && { after }),
            });
            const scan = scanOf(plan);
            assert.ok(scan['Actual Rows'] <= 52);
            assert.ok((scan['Rows Removed by Filter'] ?? 0) <= 51);
          });
});
