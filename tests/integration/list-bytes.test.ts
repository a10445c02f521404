import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { userNamed } from '../../src/access/caller.ts';
import { listStatement, MAX_PAGE_BYTES } from '../../src/assets/list.ts';
import { Client } from '../support/client.ts';
import { startService, type TestService } from '../support/service.ts';

const ASSETS = 60;
/** As much as metadata once could be: 50 values of 1,024 characters of three bytes each, a name of one byte. */
const LARGE = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`key-${index}`, '\u65e5'.repeat(1024)]));

describe('a list of large records', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { REQUESTS_PER_MINUTE: '0' } });
  });
  after(() => service.close());

  /** Records that an older version has accepted. */
  async function insert(owner: string, metadata: object, count: number): Promise<void> {
    await service.query(
      `insert into assets (id, owner_id, name, state, asset_type, media_type, size, object_key, created_at, updated_at, metadata)
       select gen_random_uuid(), $1, 'f' || n || '.png', 'ready', 'image', 'image/png', n % 7, 'k', now() - make_interval(secs => n % 9), now(), $2
       from generate_series(1, $3::integer) as n`,
      [owner, JSON.stringify(metadata), count],
    );
  }

  for (const sort of ['createdAt', 'name', 'size'])
    for (const order of ['asc', 'desc'])
      test(`pages by ${sort} ${order} end with their bytes, and together they have every asset once`, async () => {
        const owner = `large-${sort}-${order}`;
        await insert(owner, LARGE, ASSETS);
        const client = new Client(service.url, owner);
        const seen: string[] = [];
        let next: string | undefined = `/v1/assets?limit=200&sort=${sort}&order=${order}`;
        while (next !== undefined) {
          const answer = await client.request('GET', next);
          assert.equal(answer.status, 200);
          const bytes = Buffer.byteLength(JSON.stringify(answer.body));
          assert.ok(bytes <= MAX_PAGE_BYTES, `${bytes} bytes`);
          assert.ok(answer.body.data.length > 0);
          seen.push(...answer.body.data.map(({ id }) => id));
          next = /^<([^>]+)>/.exec(answer.headers.get('link') ?? '')?.[1];
          assert.equal(answer.body.page.hasMore, next !== undefined);
        }
        assert.equal(seen.length, ASSETS);
        assert.equal(new Set(seen).size, ASSETS);
      });

  test('Postgres sends no more than the page and one record', async () => {
    const { statement, values } = listStatement({
      scope: { kind: 'own', caller: userNamed('large-name-asc') },
      trashed: false,
      sort: 'name',
      order: 'asc',
      limit: 201,
    });
    const { rows } = await service.database.database.run(statement, values);
    const record = Buffer.byteLength(JSON.stringify(LARGE));
    assert.ok(Buffer.byteLength(JSON.stringify(rows)) <= MAX_PAGE_BYTES + 2 * record);
    assert.ok(rows.length < ASSETS);
  });

  test('a record that is larger than a page is a page', async () => {
    const huge = Object.fromEntries(Array.from({ length: 400 }, (_, index) => [`key-${index}`, 'x'.repeat(4096)]));
    await insert('huge', huge, 3);
    const client = new Client(service.url, 'huge');
    const { body } = await client.get('/v1/assets');
    assert.equal(body.data.length, 1);
    assert.equal(body.page.hasMore, true);
  });

  test('small records fill the page to its limit', async () => {
    await insert('small', { a: 'b' }, 201);
    const { body } = await new Client(service.url, 'small').get('/v1/assets?limit=200');
    assert.equal(body.data.length, 200);
    assert.equal(body.page.hasMore, true);
  });
});
