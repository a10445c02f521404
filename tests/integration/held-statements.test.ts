/**
 * What holds an asset is asked by each statement that takes bytes away, and not only before it: so each is run here by itself
 * on a held asset, and does nothing.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { userNamed } from '../../src/access/caller.ts';
import { accessOf } from '../../src/access/conditions.ts';
import { trashAssets } from '../../src/assets/bulk.ts';
import { deleteAssets, emptyTrash, expireAssets, purgeTrash } from '../../src/assets/deletion.ts';
import { systemActor } from '../../src/database/audit.ts';
import type { Statement, Values } from '../../src/database/statements.ts';
import { findDiscarded } from '../../src/processing/derivative-statements.ts';
import { dropSurplus, dropVersion, giveContent } from '../../src/versions/content-statements.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

const policies = { image: { mediaTypes: ['image/png'], maxBytes: 100_000, metadata: 'keep', versions: 3 } };
const actor = systemActor('test', randomUUID());
const DAY = 24 * 3600 * 1000;

describe('a statement by itself', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ policies, env: { UPLOADS_PER_HOUR: '0', REQUESTS_PER_MINUTE: '0' } });
  });
  after(() => service.close());

  const run = async <Name extends string, Row>(statement: Statement<Name, Row>, values: Values<Name>) =>
    (await service.database.database.run(statement, values)).rows;

  /** Two assets of one owner, of which the first is held, each with a version. */
  async function two(change: string): Promise<{ owner: string; held: string; free: string; ids: string[] }> {
    const owner = `user-${randomUUID()}`;
    const client = new Client(service.url, owner);
    const ids: string[] = [];
    for (const fill of [1, 2]) {
      const { id } = (await client.raw(png(300, fill))).body;
      const given = await client.request('PUT', `/v1/assets/${id}/content`, { body: png(300, fill + 2) });
      assert.equal(given.status, 200);
      ids.push(id);
    }
    const [held = '', free = ''] = ids;
    await service.query(`update assets set ${change} where id = $1`, [held]);
    return { owner, held, free, ids };
  }

  const holds: Record<string, string> = {
    'a hold': `holds = '{"claim": {"reason": "a claim", "by": "somebody", "at": "2026-01-01T00:00:00Z"}}'`,
    'its retention': "retain_until = now() + interval '1 day', retention_mode = 'governance'",
  };
  for (const [what, hold] of Object.entries(holds)) {
    test(`deletes what is free, and what is kept by ${what} not`, async () => {
      const { owner, free, ids } = await two(hold);
      const each = (value: unknown) => ids.map(() => value);
      const deleted = await run(deleteAssets, {
        ...accessOf(userNamed(owner)),
        ...{ ids, versions: each(null), callerIds: each(owner), requestIds: each('request') },
        ...{ vias: each(null), reasons: each(null) },
      });
      assert.deepEqual(deleted, [{ id: free }]);
    });

    test(`expires what is free, and what is kept by ${what} not`, async () => {
      const { free, ids } = await two(hold);
      const rules = { policies: { image: { deleteAfterDays: 1 } }, trashDays: 30, hasArchive: false };
      const now = new Date(Date.now() + 100 * DAY).toISOString();
      assert.deepEqual(await run(expireAssets, { ids, now, ...rules, ...actor }), [{ id: free }]);
    });

    test(`empties the trash of what is free, and not of what is kept by ${what}`, async () => {
      const { owner, free, ids } = await two(`${hold}, trashed_at = now()`);
      await service.query('update assets set trashed_at = now() where id = $1', [free]);
      const place = { ids, ownerId: owner, projectId: null, cutoff: new Date(Date.now() + 60_000) };
      assert.deepEqual(await run(emptyTrash, { ...place, ...actor }), [{ id: free }]);
    });

    test(`purges what is free, however long what is kept by ${what} lies in the trash`, async () => {
      const { held, free } = await two(`${hold}, trashed_at = '2026-01-01'`);
      await service.query("update assets set trashed_at = '2026-01-02' where id = $1", [free]);
      // One at a time: what is held is the oldest, and does not stand in the way.
      const purge = () => run(purgeTrash, { cutoff: new Date('2026-01-03'), limit: 1, ...actor });
      assert.deepEqual(await purge(), [{ id: free }]);
      assert.deepEqual(await purge(), []);
      assert.equal((await service.query('select from assets where id = $1', [held])).length, 1);
    });

    test(`puts into the trash what is free, and what is kept by ${what} not`, async () => {
      const { owner, held, free, ids } = await two(hold);
      const outcomes = await run(trashAssets, { ids, ...accessOf(userNamed(owner)), ...actor });
      assert.deepEqual(
        outcomes,
        ids.toSorted((a, b) => a.localeCompare(b)).map((id) => ({ id, outcome: id === held ? 'held' : 'done' })),
      );
      const trashed = await service.query<{ id: string }>(
        'select id from assets where id = any($1) and trashed_at is not null',
        [ids],
      );
      assert.deepEqual(trashed, [{ id: free }]);
    });

    test(`drops versions of what is free, and of what is kept by ${what} none`, async () => {
      const { held, free } = await two(hold);
      assert.equal((await run(dropVersion, { assetId: held, number: 1 })).length, 0);
      assert.equal((await run(dropSurplus, { assetId: held, keep: 0 })).length, 0);
      assert.equal((await run(dropSurplus, { assetId: free, keep: 0 })).length, 1);
    });

    test(`gives other bytes to what is free, and to what is kept by ${what} none`, async () => {
      const { held, free } = await two(hold);
      const content = {
        ...{ name: 'a.png', state: 'ready', size: 1, sha256: null, mediaType: 'image/png', cacheControl: null },
        ...{ crc32: null, versionBytes: 0, scan: null, facts: null, original: null, thumbHash: null },
        ...{ processing: null, action: 'asset.replaced', former: null, uploadId: null, by: null, ...actor },
      };
      const give = (id: string) => run(giveContent, { ...content, id, objectKey: `other/${id}` });
      assert.equal((await give(held)).length, 0);
      assert.equal((await give(free)).length, 1);
    });

    test(`finds bytes to remove, and what is kept by ${what} not, nor its versions`, async () => {
      const { held, free } = await two(hold);
      const discarded = async (id: string) =>
        service.query<{ id: string }>(
          `insert into derivatives (id, asset_id, kind, name, state, object_key, source_key, asked_at, created_at, updated_at)
            select gen_random_uuid(), id, 'replacement', 'rejected', 'discarded', key, key, now(), now(), now() from (
              select id, object_key as key from assets where id = $1
              union all select asset_id, object_key from asset_versions where asset_id = $1) as keys
            returning id`,
          [id],
        );
      const ids = async (id: string) => (await discarded(id)).map((row) => row.id);
      assert.equal((await run(findDiscarded, { ids: await ids(held) })).length, 0);
      assert.equal((await run(findDiscarded, { ids: await ids(free) })).length, 2);
    });
  }
});
