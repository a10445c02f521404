/**
 * Whatever several callers, the jobs and the reconciler do, in whatever order and at once: what is held stays as it is, bytes
 * and versions, from the answer to the hold until the hold is off.
 */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { AssetDeletions } from '../../src/assets/deletions.ts';
import { systemActor } from '../../src/database/audit.ts';
import { type Answer, type AnyBody, Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

const policies = { image: { mediaTypes: ['image/png'], maxBytes: 100_000, metadata: 'keep', versions: 2 } };
const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', REPLACED_GRACE: '0s', RECONCILE_GRACE: '0s' };
const ASSETS = 3;
const DAY = 24 * 3600 * 1000;

interface World {
  project: string;
  /** A manager, an editor, and an administrator with a reason. */
  callers: Client[];
  ids: string[];
  /** Of the next bytes. */
  fill: number;
}
type Call = (world: World, client: Client, id: string) => Promise<unknown>;
type Step = { kind: 'attack' | 'hold' | 'release'; name: string; by: number; on: number; besides: number };

const because = (client: Client) =>
  Object.assign(new Client(client.url), { headers: { ...client.headers, 'stowage-reason': 'a test' } });

describe('what is held', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ policies, env });
  });
  after(() => service.close());

  const actor = () => systemActor('test', randomUUID());
  const deletions = () => new AssetDeletions(service.service.core.background, service.service.core.outbox);
  const attacks: Record<string, Call> = {
    trash: (_world, client, id) => client.request('DELETE', `/v1/assets/${id}`),
    restore: (_world, client, id) => client.request('POST', `/v1/assets/${id}/restore`),
    delete: (_world, client, id) => client.request('DELETE', `/v1/assets/${id}?permanent=true`),
    'delete many': ({ ids }, client) =>
      client.send('POST', '/v1/assets/bulk', { action: 'delete', permanent: true, ids }),
    'trash many': ({ ids }, client) => client.send('POST', '/v1/assets/bulk', { action: 'trash', ids }),
    replace: (world, client, id) =>
      client.request('PUT', `/v1/assets/${id}/content`, { body: png(300, ++world.fill % 250) }),
    'replace by a form': (world, client, replaces) =>
      client.upload(png(300, ++world.fill % 250), { name: 'photo.png', fields: { replaces } }),
    'restore a version': (_world, client, id) => client.request('POST', `/v1/assets/${id}/versions/1/restore`),
    'delete a version': (_world, client, id) => client.request('DELETE', `/v1/assets/${id}/versions/1`),
    move: ({ project }, client, id) => client.send('PATCH', `/v1/assets/${id}`, { projectId: project, path: 'a/' }),
    'empty the trash': ({ project }, client) => client.request('DELETE', `/v1/trash?projectId=${project}`),
    'delete the project': ({ project }, client) => client.request('DELETE', `/v1/projects/${project}`),
    purge: () => deletions().purgeTrash(new Date(Date.now() + DAY), 100, actor(), async () => {}),
    reconcile: () => service.service.reconcile({}),
    reap: () => service.service.reap(),
  };
  const inDays = (days: number) => new Date(Date.now() + days * DAY).toISOString();
  const set =
    (name: string): Call =>
    (_world, client, id) =>
      client.send('PUT', `/v1/assets/${id}/hold`, { name, reason: 'a claim' });
  const holds: Record<string, Call> = {
    'hold a': set('a'),
    'hold b': set('b'),
    retain: (_world, client, id) =>
      client.send('PUT', `/v1/assets/${id}/retention`, { retainUntil: inDays(1), mode: 'governance' }),
  };
  const off =
    (name: string): Call =>
    (_world, client, id) =>
      client.request('DELETE', `/v1/assets/${id}/hold/${name}?reason=settled`);
  const releases: Record<string, Call> = {
    'hold a is off': off('a'),
    'hold b is off': off('b'),
    'retention ends': (_world, client, id) =>
      client.send('PUT', `/v1/assets/${id}/retention?reason=over`, { retainUntil: inDays(-1), mode: 'governance' }),
  };
  const named = { attack: attacks, hold: holds, release: releases };

  async function world(): Promise<World> {
    const project = `project-${randomUUID()}`;
    const manager = new Client(service.url, `user-${randomUUID()}`);
    const editor = new Client(service.url, `user-${randomUUID()}`);
    const ids: string[] = [];
    for (let fill = 0; fill < ASSETS; fill++) {
      const { id } = (await manager.raw(png(300, fill), { fields: { projectId: project } })).body;
      await manager.request('PUT', `/v1/assets/${id}/content`, { body: png(300, fill + 10) });
      ids.push(id);
    }
    const subject = editor.headers['x-user-id'] ?? '';
    await manager.send('PUT', `/v1/projects/${project}/members/${subject}`, { role: 'editor' });
    return { project, callers: [manager, editor, because(manager)], ids, fill: 20 };
  }

  /** Of each asset that is held: its digest, and those of its versions, as the store has them. */
  async function heldOf({ ids }: World): Promise<Map<string, string[]>> {
    const rows = await service.query<{ id: string; key: string }>(
      `select a.id, k.key from assets a, lateral (select a.object_key as key, 0 as number
          union all select v.object_key, v.number from asset_versions v where v.asset_id = a.id) as k
        where a.id = any($1) and a.state = 'ready' and (a.holds is not null or a.retain_until > now())
        order by a.id, k.number`,
      [ids],
    );
    const found = new Map<string, string[]>();
    for (const { id, key } of rows) {
      const body = await service.store.get(key, {});
      const bytes = body ? Buffer.concat(await body.stream.toArray()) : undefined;
      const digest = bytes === undefined ? 'is gone' : createHash('sha256').update(bytes).digest('hex');
      found.set(id, [...(found.get(id) ?? []), digest]);
    }
    return found;
  }

  /** Some attacks at once; a hold is set among them, and it is taken off alone. */
  async function take(now: World, { kind, name, by, on, besides }: Step): Promise<void> {
    const calls: [call: Call | undefined, by: number, on: number][] = [[named[kind][name], by, on]];
    const all = Object.values(attacks);
    if (kind !== 'release')
      for (let index = 0; index < besides; index++)
        calls.push([all[(by * 7 + on * 3 + index * 5) % all.length], by + index, on]);
    const before = kind === 'release' ? new Map<string, string[]>() : await heldOf(now);
    const id = (number: number) => now.ids[number % now.ids.length] ?? '';
    const answers = await Promise.all(
      calls.map(([call, caller, asset]) =>
        call?.(now, now.callers[caller % now.callers.length] ?? assert.fail(), id(asset)),
      ),
    );
    const held = await heldOf(now);
    for (const [each, digests] of before) assert.deepEqual(held.get(each), digests, 'what was held is as it was');
    for (const digests of held.values()) assert.ok(!digests.includes('is gone'), 'what is held is there');
    if (kind === 'hold' && (answers[0] as Answer<AnyBody>).status === 200)
      assert.ok(held.has(id(on)), 'what is held stays');
    for (const answer of answers)
      if (answer instanceof Object && 'status' in answer)
        assert.ok(Number(answer.status) < 500, JSON.stringify(answer));
  }

  const step = (kind: Step['kind']) =>
    fc.record({
      kind: fc.constant(kind),
      name: fc.constantFrom(...Object.keys(named[kind])),
      by: fc.nat(2),
      on: fc.nat(ASSETS - 1),
      besides: fc.nat(2),
    });

  test('stays as it is, whatever happens', async () => {
    const steps = fc.array(
      fc.oneof(
        { weight: 6, arbitrary: step('attack') },
        { weight: 3, arbitrary: step('hold') },
        { weight: 1, arbitrary: step('release') },
      ),
      { minLength: 12, maxLength: 18 },
    );
    await fc.assert(
      fc.asyncProperty(steps, async (sequence) => {
        const now = await world();
        // One of them is held from the beginning, so that every sequence attacks something.
        await take(now, { kind: 'hold', name: 'hold a', by: 0, on: 0, besides: 0 });
        for (const each of sequence) await take(now, each);
      }),
      { numRuns: 5, endOnFailure: true },
    );
  });
});
