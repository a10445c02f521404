/** A thousand random states of shares against a model: what strangers reach, what they may begin, and what is told to who shared. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { userNamed } from '../../src/access/caller.ts';
import { AssetsRepository } from '../../src/assets/repository.ts';
import type { Actor } from '../../src/database/audit.ts';
import { stateOf } from '../../src/shares/documents.ts';
import { ShareDownloads } from '../../src/shares/downloads.ts';
import { ShareKeys } from '../../src/shares/keys.ts';
import { ShareReach } from '../../src/shares/reach.ts';
import { SharesRepository, type ShareTerms } from '../../src/shares/repository.ts';
import { digestOf } from '../../src/shares/token.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { ask } from '../support/shares.ts';

const STATES = 1000;
const ASSETS = 2;
const editor = userNamed('editor');
const actor: Actor = { callerId: 'editor', requestId: 'test', via: null, because: null };
const terms: ShareTerms = {
  ...{ allow: 'download', label: null, note: null, password: null },
  ...{ maxDownloads: null, expiresIn: null, permanent: false },
};

type Step =
  | { do: 'revoke' | 'expire' | 'prolong' | 'leave' | 'download' }
  | { do: 'join'; role: 'viewer' | 'editor' | 'manager' }
  | { do: 'limit'; maxDownloads: number | null }
  | { do: 'trash' | 'restore'; asset: number }
  | { do: 'range'; visitor: number };
const ofAsset = fc.integer({ min: 0, max: ASSETS - 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('download' as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('range' as const), visitor: fc.integer({ min: 0, max: 2 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('trash' as const, 'restore' as const), asset: ofAsset }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('expire' as const, 'prolong' as const, 'leave' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('join' as const),
      role: fc.constantFrom('viewer' as const, 'editor' as const, 'manager' as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('limit' as const),
      maxDownloads: fc.option(fc.integer({ min: 1, max: 3 })),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('revoke' as const) }) },
);

/** What a share should be, without a database. */
class Model {
  readonly #target: 'asset' | 'assets' | 'project';
  isRevoked = false;
  isExpired = false;
  isMember = true;
  maxDownloads: number | null = null;
  downloads = 0;
  readonly trashed = new Set<number>();
  readonly #visits = new Set<string>();

  constructor(target: 'asset' | 'assets' | 'project') {
    this.#target = target;
  }

  reaches(asset: number): boolean {
    const isNamed = this.#target !== 'asset' || asset === 0;
    return this.isMember && isNamed && !this.trashed.has(asset);
  }

  get isReachable(): boolean {
    return this.isMember && (this.#target === 'project' || [0, 1].some((asset) => this.reaches(asset)));
  }

  get isFound(): boolean {
    return !this.isRevoked && !this.isExpired && this.isReachable;
  }

  get isUsedUp(): boolean {
    return this.maxDownloads !== null && this.downloads >= this.maxDownloads;
  }

  get state(): string {
    if (this.isRevoked) return 'revoked';
    if (this.isExpired) return 'expired';
    if (this.isUsedUp) return 'used-up';
    return this.isReachable ? 'active' : 'unavailable';
  }

  /** @param visitor absent: who asks for the whole file, and is never the same */
  begin(visitor: string, isRange: boolean): 'begun' | 'goes-on' | 'refused' {
    if (isRange && this.#visits.has(visitor)) return 'goes-on';
    if (this.isUsedUp) return 'refused';
    this.downloads += 1;
    this.#visits.add(visitor);
    return 'begun';
  }
}

let service: TestService;
let shares: SharesRepository;
let reach: ShareReach;
let downloads: ShareDownloads;
let catalogue: AssetsRepository;

before(async () => {
  service = await startService({ env: { REQUESTS_PER_MINUTE: '0', PUBLIC_REQUESTS_PER_MINUTE: '0' } });
  const { database } = service;
  const keys = new ShareKeys(database.database);
  shares = new SharesRepository(database, keys, { perCaller: 100_000, perAsset: 100_000 });
  reach = new ShareReach(database.database);
  downloads = new ShareDownloads(database);
  catalogue = new AssetsRepository(database);
});
after(() => service.close());

/** A project of its own for each lane, so that lanes do not meet. */
async function lane() {
  const projectId = `lane-${randomUUID()}`;
  const owner = new Client(service.url, 'owner');
  assert.equal((await owner.send('POST', '/v1/projects', { id: projectId, name: projectId })).status, 201);
  const assets: string[] = [];
  for (let index = 0; index < ASSETS; index++) assets.push((await owner.raw(png(), { fields: { projectId } })).body.id);
  const leave = () =>
    service.query("delete from project_members where project_id = $1 and subject = 'editor'", [projectId]);
  const join = async (role: string) => {
    await leave();
    await service.query("insert into project_members (project_id, subject, role) values ($1, 'editor', $2)", [
      projectId,
      role,
    ]);
  };
  return { projectId, assets, leave, join };
}

async function walk(place: Awaited<ReturnType<typeof lane>>, target: 'asset' | 'assets' | 'project', steps: Step[]) {
  const { projectId, assets, join, leave } = place;
  const owner = userNamed('owner');
  const [first = ''] = assets;
  await join('editor');
  await service.query('update assets set trashed_at = null where project_id = $1', [projectId]);
  const named = { asset: { assetId: first }, assets: { assetIds: assets }, project: { projectId } }[target];
  const id = await shares.create(editor, named, terms, actor, async () => {});
  const { token = '' } = (await shares.find(editor, id)) ?? {};
  const model = new Model(target);
  const change = (changes: Partial<ShareTerms>) =>
    shares.update(
      editor,
      id,
      changes,
      actor,
      () => {},
      async () => {},
    );

  for (const [index, each] of steps.entries()) {
    if (each.do === 'revoke') model.isRevoked = await shares.revoke(editor, id, actor, async () => {});
    if (each.do === 'expire') {
      await service.query("update shares set expires_at = now() - interval '1 second' where id = $1", [id]);
      model.isExpired = true;
    }
    if (each.do === 'prolong') {
      await change({ expiresIn: 600 });
      model.isExpired = false;
    }
    if (each.do === 'leave') await leave();
    if (each.do === 'join') await join(each.role);
    if (each.do === 'leave' || each.do === 'join') model.isMember = each.do === 'join';
    if (each.do === 'limit') {
      await change({ maxDownloads: each.maxDownloads });
      model.maxDownloads = each.maxDownloads;
    }
    const asset = 'asset' in each ? assets[each.asset] : undefined;
    if (each.do === 'trash' && asset !== undefined) {
      await catalogue.trash(owner, asset, undefined, actor);
      model.trashed.add(each.asset);
    }
    if (each.do === 'restore' && asset !== undefined) {
      await catalogue.restore(owner, asset, undefined, actor);
      model.trashed.delete(each.asset);
    }
    // Whoever wants something comes by the share.
    if ((each.do === 'download' || each.do === 'range') && model.isFound) {
      const isRange = each.do === 'range';
      const visitor = isRange ? `visitor ${each.visitor}` : `whole ${index}`;
      const download = { shareId: id, what: id, assetId: null, client: Buffer.from(visitor) };
      const isLimited = model.maxDownloads !== null;
      assert.equal(await downloads.begin(download, isLimited, isRange), model.begin(visitor, isRange));
    }
    await compare();
  }

  async function compare(): Promise<void> {
    const found = await reach.find(digestOf(token));
    assert.equal(found !== undefined, model.isFound, 'what strangers find');
    if (found) {
      assert.equal(found.isUsedUp, model.isUsedUp);
      for (const [index, asset] of assets.entries())
        assert.equal((await reach.asset(found, asset)) !== undefined, model.reaches(index));
    }
    const told = await shares.find(editor, id);
    assert.ok(told);
    assert.deepEqual([stateOf(told), told.downloads], [model.state, model.downloads], 'what who shared is told');
  }
  const { status } = await ask(`${service.url}/s/${token}`);
  assert.equal(status, model.isFound && !model.isUsedUp ? 200 : 404);
}

test('are as the model has them', async () => {
  const lanes = await Promise.all([lane(), lane(), lane(), lane()]);
  let states = 0;
  const sequence = fc.tuple(
    fc.constantFrom('asset' as const, 'assets' as const, 'project' as const),
    fc.array(step, { minLength: 3, maxLength: 8 }),
  );
  const walks = lanes.map((place) =>
    fc.assert(
      fc.asyncProperty(sequence, async ([target, steps]) => {
        if (states >= STATES) return;
        await walk(place, target, steps);
        states += steps.length;
      }),
      { numRuns: STATES, endOnFailure: true },
    ),
  );
  await Promise.all(walks);
  assert.ok(states >= STATES);
});
