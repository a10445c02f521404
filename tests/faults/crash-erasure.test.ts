/**
 * The job that erases an owner, killed in the middle of each thing that it writes. Whoever goes on finds what is left of the
 * step: in the end nothing names the owner, his objects are gone, and there is a receipt.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { sealPastDays, verifyAudit } from '../../src/audit/seals.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { launch } from '../support/processes.ts';
import { s3Skip } from '../support/s3.ts';
import { waitUntil } from '../support/wait-until.ts';
import { tablesNaming } from '../support/walk-tables.ts';
import { kill } from './crash-matrix.ts';
import { Rig } from './rig.ts';

const steps: Record<string, RegExp> = {
  'the end of credentials': /delete from "api_keys"/,
  'the end of an upload': /insert into "erased_folders" \([^)]*\) values/,
  'the deletion of assets': /insert into "erased_folders"[\s\S]*select distinct/,
  'the look into folders': /delete from "erased_folders"/,
  'the end of records': /delete from "project_members"/,
  'the names in the audit trail': /audit_events_pseudonymise/,
  'the seal of a day': /audit_reseal/,
  'a step that is done': /update "erasures" set "step"/,
  'the receipt': /"receipt" = /,
};

describe('killed at any moment', { skip: s3Skip() }, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.open();
  });
  after(() => rig.close());

  test('the job that erases an owner: in the middle of each thing that it writes', async (context) => {
    // The other instance must leave the work to the one that is killed.
    await rig.survivor.service.closeWork();
    const owners = new Map(Object.keys(steps).map((name) => [name, `owner-${randomUUID()}`]));
    for (const owner of owners.values())
      await rig.survivor.query(
        "insert into audit_events (action, actor_id, owner_id, at) values ('asset.updated', $1, $1, now() - interval '3 days')",
        [owner],
      );
    await sealPastDays(rig.survivor.database);
    for (const [name, pattern] of Object.entries(steps))
      await context.test(`in the transaction of ${name}`, async () => {
        rig.heal();
        const service = await launch({ ...rig.environment, ROLE: 'all' });
        const owner = owners.get(name) ?? '';
        const client = new Client(service.url, owner);
        assert.equal((await client.raw(png(300), { name: 'a.png' })).status, 201);
        // Its bytes are removed seconds later: where the job is killed behind that, it has none.
        const direct = { fileName: 'a.png', contentType: 'image/png', size: 100 };
        if (name === 'the end of an upload')
          assert.equal((await client.send('POST', '/v1/uploads', direct)).status, 201);
        const struck = Promise.withResolvers<void>();
        rig.postgres.after = async (statement) => {
          if (!pattern.test(statement)) return;
          service.child.kill('SIGKILL');
          await service.exit;
          struck.resolve();
          throw new Error('killed');
        };
        const headers = { 'stowage-reason': 'a test' };
        const admin = new Client(service.url, 'admin');
        await admin.send('POST', '/v1/admin/erasures', { ownerId: owner }, headers).catch(() => {});
        await struck.promise;
      });
    rig.heal();
    // One more process takes over all that the dead have left, now that they have not been heard of for long.
    await rig.survivor.query("update pgboss.job set heartbeat_on = now() - interval '1 hour' where state = 'active'");
    const last = await launch({ ...rig.environment, ROLE: 'all' });
    const running = "select id from erasures where state = 'running'";
    await waitUntil(async () => (await rig.survivor.query(running)).length === 0);
    await rig.nothingDeleting();
    await kill(rig, last);
    for (const owner of owners.values()) assert.deepEqual(await tablesNaming(rig.survivor, owner), {});
    const [row] = await rig.survivor.query<{ count: string }>(
      'select count(*) from erasures where receipt is not null',
    );
    assert.equal(Number(row?.count), owners.size);
    assert.deepEqual((await verifyAudit(rig.survivor.database.database, 0)).faults, []);
    await rig.assertPromises();
  });
});
