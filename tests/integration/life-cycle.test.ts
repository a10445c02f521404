/** What becomes of assets with time: temporary ones, and those that an upload policy or a project has rules for. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { pdf, png } from '../support/files.ts';
import { age, lookThroughNow, notice, rulesIn } from '../support/life-cycle.ts';
import { startService, type TestService } from '../support/service.ts';

const DAY = 24 * 3600 * 1000;

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

  const read = async (client: Client, id: string) => (await client.get(`/v1/assets/${id}`)).body;

  test('an asset is temporary by whatever way it was uploaded, until somebody keeps it', async () => {
    const client = caller();
    const bytes = png(300, 3);
    const retention = 'temporary';
    const batch = new FormData();
    batch.append('files', new Blob([bytes]), 'a.png');
    batch.append('retention', retention);
    const begun = await client.send('POST', '/v1/uploads', {
      ...{ fileName: 'a.png', size: bytes.length, contentType: 'image/png', retention },
    });
    const [part] = begun.body['parts'] as unknown as { url: string }[];
    assert.ok((await fetch(part?.url ?? '', { method: 'PUT', body: bytes })).ok);
    const tus = await client.request('POST', '/v1/resumable', {
      headers: {
        'tus-resumable': '1.0.0',
        'upload-length': String(bytes.length),
        'upload-metadata': `filename ${btoa('a.png')},retention ${btoa(retention)}`,
        'content-type': 'application/offset+octet-stream',
      },
      body: bytes,
    });
    const ways = {
      raw: (await client.raw(bytes, { fields: { retention } })).body.id,
      form: (await client.upload(bytes, { fields: { retention } })).body.id,
      batch:
        (
          (await client.request('POST', '/v1/assets/batch', { body: batch })).body['results'] as unknown as {
            asset: { id: string };
          }[]
        )[0]?.asset.id ?? '',
      direct: (await client.send('POST', `/v1/uploads/${begun.body['uploadId']}/complete`, {})).body.id,
      resumable: tus.headers.get('asset-id') ?? '',
      policy: (await client.raw(bytes, { fields: { assetType: 'draft' } })).body.id,
    };
    for (const [way, id] of Object.entries(ways)) {
      const { temporaryUntil, next } = await read(client, id);
      assert.ok(
        Math.abs(Date.parse(String(temporaryUntil)) - Date.now() - 3 * DAY) < 60_000,
        `${way}: ${temporaryUntil}`,
      );
      assert.deepEqual(next, { action: 'delete', at: temporaryUntil, rule: 'temporary' }, way);
    }
    const permanent = await client.raw(bytes, { fields: { assetType: 'draft', retention: 'permanent' } });
    assert.equal(permanent.body['temporaryUntil'], undefined);
    const kept = await client.request('POST', `/v1/assets/${ways.raw}/keep`);
    assert.equal(kept.status, 200);
    assert.equal(kept.body['temporaryUntil'], undefined);
    assert.equal((await client.request('POST', `/v1/assets/${ways.raw}/keep`)).status, 200);
    assert.equal((await caller().request('POST', `/v1/assets/${ways.form}/keep`)).status, 404);
    await rulesIn(service, 2);
    for (const id of Object.values(ways)) assert.equal(await stateOf(id), 'ready');
    await rulesIn(service, 4);
    for (const [way, id] of Object.entries(ways))
      assert.equal(await stateOf(id), way === 'raw' ? 'ready' : 'deleting', way);
    assert.equal((await client.get('/v1/quota')).body['used'], 600);
    assert.equal((await client.raw(bytes, { fields: { retention: 'soon' } })).status, 400);
  });

  test('of a policy and a project the rule that comes first counts, and a project tells what is due', async () => {
    const client = caller();
    const projectId = `project-${randomUUID()}`;
    const early = await client.raw(pdf(), { name: 'a.pdf', fields: { projectId } });
    const image = await client.raw(png(500, 5), { fields: { projectId } });
    const lifeCycle = { deleteAfterDays: 5 };
    const set = await client.send('PATCH', `/v1/projects/${projectId}`, { lifeCycle });
    assert.deepEqual(set.body['lifeCycle'], { deleteAfterDays: 5, since: 'upload' });
    await lookThroughNow(service, { projectId });
    const late = await client.raw(png(600, 6), { fields: { projectId } });
    assert.partialDeepStrictEqual((await read(client, early.body.id))['next'], { action: 'delete', rule: 'project' });
    assert.partialDeepStrictEqual((await read(client, late.body.id))['next'], { action: 'delete', rule: 'project' });
    await client.send('PATCH', `/v1/projects/${projectId}`, { lifeCycle: { deleteAfterDays: 50 } });
    assert.partialDeepStrictEqual((await read(client, early.body.id))['next'], { action: 'delete', rule: 'policy' });
    const due = async (days: number) =>
      (
        (await client.get(`/v1/projects/${projectId}/lifecycle?days=${days}`)).body as unknown as {
          data: { assetId: string; rule: string }[];
        }
      ).data;
    assert.deepEqual(await due(6), []);
    assert.deepEqual(
      (await due(8)).map(({ assetId, rule }) => [assetId, rule]),
      [[early.body.id, 'policy']],
    );
    assert.equal((await due(51)).length, 3);
    const admin = caller();
    const all = (await admin.get('/v1/admin/lifecycle?days=51&limit=200')).body as unknown as {
      data: { assetId: string }[];
    };
    for (const { body } of [early, image, late]) assert.ok(all.data.some(({ assetId }) => assetId === body.id));
    assert.equal((await caller().get(`/v1/projects/${projectId}/lifecycle`)).status, 404);
    assert.equal(
      (await client.send('PATCH', `/v1/projects/${projectId}`, { lifeCycle: { deleteAfterDays: 0 } })).status,
      400,
    );
    assert.equal(
      (await client.send('PATCH', `/v1/projects/${projectId}`, { lifeCycle: { archiveAfterDays: 3 } })).status,
      501,
    );
    await client.send('PATCH', `/v1/projects/${projectId}`, { lifeCycle: null });
    assert.equal((await read(client, image.body.id))['next'], undefined);
    await rulesIn(service, 51);
    assert.equal(await stateOf(image.body.id), 'ready');
    assert.equal(await stateOf(early.body.id), 'deleting');
  });

  test('days since the last download begin anew with a download and with a link', async () => {
    const client = caller();
    const projectId = `project-${randomUUID()}`;
    await client.send('POST', '/v1/projects', { id: projectId, name: 'Fading' });
    await client.send('PATCH', `/v1/projects/${projectId}`, {
      lifeCycle: { deleteAfterDays: 10, since: 'last-download' },
    });
    const upload = async () => {
      const { body } = await client.raw(png(500, 7), { fields: { projectId } });
      await age(service, body.id, 9);
      return body.id;
    };
    const [read, linked, forgotten] = [await upload(), await upload(), await upload()];
    await client.content(read);
    assert.equal((await client.get(`/v1/assets/${linked}/download`)).status, 200);
    await rulesIn(service, 2);
    assert.deepEqual(await Promise.all([read, linked, forgotten].map(stateOf)), ['ready', 'ready', 'deleting']);
    await rulesIn(service, 11);
    assert.deepEqual(await Promise.all([read, linked].map(stateOf)), ['deleting', 'deleting']);
  });

  test('two instances apply the rules at once, and each asset goes once', async () => {
    const client = caller();
    const ids = await Promise.all(
      Array.from(
        { length: 12 },
        async (_, fill) => (await client.raw(png(300, fill), { fields: { retention: 'temporary' } })).body.id,
      ),
    );
    const reports = await Promise.all([rulesIn(service, 4), rulesIn(service, 4), rulesIn(service, 4)]);
    const rows = await service.query<{ count: string }>(
      "select count(*) from audit_events where asset_id = any($1) and action = 'asset.expired'",
      [ids],
    );
    assert.equal(rows[0]?.count, '12');
    assert.ok(reports.reduce((sum, { deleted }) => sum + deleted, 0) >= 12);
    assert.equal((await client.get('/v1/quota')).body['used'], 0);
  });

  test('policies with other rules are noticed once, and their assets looked through', async () => {
    const before = new Date(Date.now() - 2 * 3600 * 1000);
    await service.query("update life_cycle_policies set rules = '{}', changed_at = $1", [before]);
    await service.query('delete from life_cycle_looks');
    const client = caller();
    const { body } = await client.raw(pdf(), { name: 'a.pdf' });
    await service.query('delete from life_cycle_looks');
    assert.deepEqual(await notice(service), ['document']);
    assert.deepEqual(await notice(service), []);
    await lookThroughNow(service, { assetTypes: ['document'] });
    await rulesIn(service, 8);
    assert.equal(await stateOf(body.id), 'deleting');
  });

  test('whatever happens, nothing is deleted that no rule names', { timeout: 120_000 }, async () => {
    const client = caller();
    const projects = [`project-${randomUUID()}`, `project-${randomUUID()}`];
    for (const id of projects) await client.send('POST', '/v1/projects', { id, name: 'Random' });
    const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(Math.random() * items.length)];
    const ids: string[] = [];
    const told: string[] = [];
    for (let round = 0; round < 8; round += 1) {
      for (let step = 0; step < 6; step += 1) {
        const id = pick(ids) ?? '';
        const projectId = pick(projects) ?? '';
        const steps: [string, () => Promise<unknown>][] = [
          [
            'upload',
            async () =>
              ids.push(
                (
                  await client.raw(png(300, step), {
                    fields: {
                      ...(Math.random() < 0.5 && { retention: 'temporary' }),
                      ...(Math.random() < 0.5 && { projectId }),
                    },
                  })
                ).body.id,
              ),
          ],
          ['keep', () => client.request('POST', `/v1/assets/${id}/keep`)],
          [
            'move',
            () => client.send('PATCH', `/v1/assets/${id}`, { projectId: Math.random() < 0.3 ? null : projectId }),
          ],
          [
            'rule',
            () =>
              client.send('PATCH', `/v1/projects/${projectId}`, {
                lifeCycle:
                  Math.random() < 0.4
                    ? null
                    : { deleteAfterDays: 1 + Math.floor(Math.random() * 6), since: pick(['upload', 'last-download']) },
              }),
          ],
          ['download', () => client.content(id)],
          ['replace', () => client.request('PUT', `/v1/assets/${id}/content?fileName=a.png`, { body: png(310, step) })],
          ['age', () => age(service, id, 1 + Math.floor(Math.random() * 2))],
        ];
        const [what, act] = (ids.length === 0 ? steps[0] : pick(steps)) ?? assert.fail();
        told.push(`${what} ${id} ${projectId}`);
        await act();
      }
      for (const projectId of projects) await lookThroughNow(service, { projectId });
      // What the rules want, worked out from the record alone.
      const rows = await service.query<{ id: string; due: boolean }>(
        `select a.id, (coalesce(a.temporary_until, 'infinity') <= now() or coalesce(
           case when p.life_cycle ->> 'since' = 'last-download' then greatest(coalesce(a.content_at, a.created_at),
             (select max(at) from download_marks where asset_id = a.id), (select last_at from download_counts where asset_id = a.id))
           else coalesce(a.content_at, a.created_at) end + (p.life_cycle ->> 'deleteAfterDays')::integer * interval '1 day', 'infinity') <= now()) as due
         from assets a left join projects p on p.id = a.project_id where a.id = any($1) and a.state = 'ready'`,
        [ids],
      );
      await rulesIn(service, 0);
      for (const { id, due } of rows) assert.equal(await stateOf(id), due ? 'deleting' : 'ready', told.join('\n'));
    }
  });
});
