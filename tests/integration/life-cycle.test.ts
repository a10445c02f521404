/** What becomes of assets with time: temporary ones, and those that an upload policy or a project has rules for. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { pdf, png } from '../support/files.ts';
import { rulesIn } from '../support/life-cycle.ts';
import { startService, type TestService } from '../support/service.ts';

describe('the life cycle', () => {
  let service: TestService;
  before(async () => {
    service = await startService({
      policies: {
        document: { mediaTypes: ['application/pdf'], maxBytes: 1_000_000, expireAfterDays: 7 },
        draft: { mediaTypes: ['image/png'], maxBytes: 1_000_000, retention: 'temporary' },
      },
      env: { REQUESTS_PER_MINUTE: '0', PART_SIZE: '5MiB', TEMPORARY_DAYS: '3' },
    });
  });
  after(() => service.close());

  const caller = () => new Client(service.url, `owner-${randomUUID()}`);
  const stateOf = async (id: string) =>
    (await service.query<{ state: string }>('select state from assets where id = $1', [id]))[0]?.state ?? 'deleting';

  test('assets of a policy that expires go when they are old enough, others stay', async () => {
    const client = caller();
    const document = await client.raw(pdf(), { name: 'a.pdf' });
    const image = await client.raw(png(500, 2));
    await rulesIn(service, 6);
    assert.equal(await stateOf(document.body.id), 'ready');
    await rulesIn(service, 8);
    assert.equal(await stateOf(document.body.id), 'deleting');
    assert.equal(await stateOf(image.body.id), 'ready');
    assert.equal((await client.get('/v1/quota')).body['used'], 500);
    const rows = await service.query<{ action: string; via: string | null; reason: string | null; actor_id: string }>(
      'select action, via, reason, actor_id from audit_events where asset_id = $1 order by id',
      [document.body.id],
    );
    assert.deepEqual(rows.at(-1), {
      action: 'asset.expired',
      via: 'lifecycle',
      reason: 'policy',
      actor_id: 'stowage:life-cycle',
    });
  });
});
