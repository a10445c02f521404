/**
 * Who sees what after any sequence of changes: members come and go, assets are uploaded, moved, trashed and deleted, and
 * after each step lists, records and counts are those of a model of a few lines. MEMBERSHIP_RUNS=1000 takes a thousand sequences
 * instead of a few, and compares at the end of each; what fails tells its seed.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { type MemberRole, memberRoles, rankOf } from '../../src/access/rules.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

const users = ['ann', 'ben', 'cat'] as const;
const labels = ['one', 'two', 'three'] as const;
type User = (typeof users)[number];
type Label = (typeof labels)[number];

type Step =
  | { kind: 'set'; by: User; who: User; project: Label; role: MemberRole }
  | { kind: 'remove'; by: User; who: User; project: Label }
  | { kind: 'separate'; by: User; project: Label; separate: boolean }
  | { kind: 'upload'; by: User; project: Label | undefined }
  | { kind: 'move'; by: User; asset: number; project: Label | undefined }
  | { kind: 'trash' | 'restore' | 'delete'; by: User; asset: number };

interface ModelAsset {
  id: string;
  owner: User;
  project: Label | undefined;
  isTrashed: boolean;
}
interface ModelProject {
  separate: boolean;
  members: Map<User, MemberRole>;
}

/** What the rules say, without SQL. Ranks are those of roles; 0 is nothing. */
class Model {
  readonly projects = new Map<Label, ModelProject>();
  readonly assets: ModelAsset[] = [];

  roleIn(user: User, label: Label): number {
    const role = this.projects.get(label)?.members.get(user);
    return role ? rankOf(role) : 0;
  }

  roleOn(user: User, { owner, project }: ModelAsset): number {
    if (project === undefined) return owner === user ? rankOf('owner') : 0;
    const role = this.roleIn(user, project);
    if (role === 0 || role === rankOf('manager') || !this.projects.get(project)?.separate) return role;
    return owner === user ? rankOf('owner') : 0;
  }

  managersOf(label: Label): number {
    return [...(this.projects.get(label)?.members.values() ?? [])].filter((role) => role === 'manager').length;
  }
}

const user = fc.constantFrom(...users);
const project = fc.constantFrom(...labels);
const place = fc.option(project, { nil: undefined, freq: 4 });
const asset = fc.nat(7);
const steps = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('set' as const),
        by: user,
        who: user,
        project,
        role: fc.constantFrom(...memberRoles),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), by: user, who: user, project }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('separate' as const), by: user, project, separate: fc.boolean() }),
    },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('upload' as const), by: user, project: place }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('move' as const), by: user, asset, project: place }) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constantFrom('trash' as const, 'restore' as const, 'delete' as const),
        by: user,
        asset,
      }),
    },
  ),
  { minLength: 5, maxLength: 20 },
);

const USUAL_RUNS = 8;
const RUNS = Number(process.env['MEMBERSHIP_RUNS'] ?? USUAL_RUNS);

describe('whatever happens to members and assets', () => {
  let service: TestService;
  before(async () => {
    service = await startService({
      env: { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', PROJECTS_PER_CALLER: '0' },
    });
  });
  after(() => service.close());

  test('everybody sees what is his to see, not a row more or less', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(steps, async (sequence) => {
        const world = new World(service.url, ++run);
        await world.begin();
        for (const step of sequence) {
          await world.take(step);
          if (RUNS <= USUAL_RUNS) await world.compare(`${JSON.stringify(step)} of ${JSON.stringify(sequence)}`);
        }
        await world.compare(JSON.stringify(sequence));
      }),
      { numRuns: RUNS, endOnFailure: true },
    );
  });
});

/** The service and the model side by side; the names of users and projects are those of one run. */
class World {
  readonly #model = new Model();
  readonly #clients: Record<User, Client>;
  readonly #run: number;
  #uploads = 0;

  constructor(url: string, run: number) {
    this.#run = run;
    const client = (name: User) => new Client(url, this.#name(name));
    this.#clients = { ann: client('ann'), ben: client('ben'), cat: client('cat') };
  }

  #name(name: string): string {
    return `${name}-${this.#run}`;
  }

  /** Each of them has made one project: one is his alone, one has everybody, one shows each member his own; two have assets. */
  async begin(): Promise<void> {
    const made: [Label, separate: boolean, members: [User, MemberRole][]][] = [
      ['one', false, [['ann', 'manager']]],
      [
        'two',
        false,
        [
          ['ben', 'manager'],
          ['ann', 'editor'],
          ['cat', 'viewer'],
        ],
      ],
      [
        'three',
        true,
        [
          ['cat', 'manager'],
          ['ann', 'editor'],
          ['ben', 'editor'],
        ],
      ],
    ];
    for (const [label, separate, members] of made) {
      const maker = members[0]?.[0] ?? 'ann';
      const body = { id: this.#name(label), name: label, separate };
      assert.equal((await this.#clients[maker].send('POST', '/v1/projects', body)).status, 201);
      this.#model.projects.set(label, { separate, members: new Map([[maker, 'manager']]) });
      for (const [who, role] of members.slice(1))
        await this.take({ kind: 'set', by: maker, who, project: label, role });
    }
    for (const by of ['ann', 'ben'] as const)
      for (const label of ['two', 'three'] as const) await this.take({ kind: 'upload', by, project: label });
  }

  /** Does a step in both, where the status says what the model says of it. */
  async take(step: Step): Promise<void> {
    const { expected, apply, request } = this.#plan(step);
    if (!request) return;
    const { status, body } = await request();
    assert.equal(status, expected, `${JSON.stringify(step)}: ${JSON.stringify(body)}`);
    if (status < 300) apply(body.id);
  }

  #plan(step: Step): {
    expected: number;
    apply: (id: string) => void;
    request?: () => Promise<{ status: number; body: { id: string } }>;
  } {
    const client = this.#clients[step.by];
    if (step.kind === 'set' || step.kind === 'remove' || step.kind === 'separate')
      return this.#planForProject(step, client);
    if (step.kind === 'upload') {
      const { project: label } = step;
      const fields: Record<string, string> = label ? { projectId: this.#name(label) } : {};
      return {
        expected: this.#mayPut(step.by, label) ?? 201,
        apply: (id) => this.#model.assets.push({ id, owner: step.by, project: label, isTrashed: false }),
        request: () => client.raw(png(200, this.#uploads++), { fields }),
      };
    }
    const found = this.#model.assets[step.asset];
    if (!found) return { expected: 0, apply: () => {} };
    return this.#planForAsset(step, found, client);
  }

  #planForProject(step: Extract<Step, { kind: 'set' | 'remove' | 'separate' }>, client: Client) {
    const its = this.#model.projects.get(step.project);
    assert.ok(its);
    const path = `/v1/projects/${this.#name(step.project)}`;
    const role = this.#model.roleIn(step.by, step.project);
    const isManager = role === rankOf('manager');
    if (step.kind === 'separate')
      return {
        expected: role === 0 ? 404 : isManager ? 200 : 403,
        apply: () => {
          its.separate = step.separate;
        },
        request: () => client.send('PATCH', path, { separate: step.separate }),
      };
    const before = its.members.get(step.who);
    const isLast = before === 'manager' && this.#model.managersOf(step.project) === 1;
    const member = `${path}/members/${this.#name(step.who)}`;
    if (step.kind === 'set')
      return {
        expected: role === 0 ? 404 : !isManager ? 403 : isLast && step.role !== 'manager' ? 409 : 200,
        apply: () => its.members.set(step.who, step.role),
        request: () => client.send('PUT', member, { role: step.role }),
      };
    const isAllowed = isManager || step.by === step.who;
    return {
      expected: role === 0 ? 404 : !isAllowed ? 403 : before === undefined ? 404 : isLast ? 409 : 204,
      apply: () => its.members.delete(step.who),
      request: () => client.request('DELETE', member),
    };
  }

  #planForAsset(step: Extract<Step, { asset: number }>, found: ModelAsset, client: Client) {
    const path = `/v1/assets/${found.id}`;
    const role = this.#model.roleOn(step.by, found);
    const isTaken = step.kind === 'delete' || (step.kind === 'move' && step.project !== found.project);
    const refusal = role === 0 ? 404 : role < rankOf(isTaken ? 'manager' : 'editor') ? 403 : undefined;
    if (step.kind === 'move') {
      const projectId = step.project ? this.#name(step.project) : null;
      return {
        expected: this.#mayPut(step.by, step.project) ?? refusal ?? (found.isTrashed ? 409 : 200),
        apply: () => {
          found.project = step.project;
        },
        request: () => client.send('PATCH', path, { projectId }),
      };
    }
    if (step.kind === 'restore')
      return {
        expected: refusal ?? (found.isTrashed ? 200 : 409),
        apply: () => {
          found.isTrashed = false;
        },
        request: () => client.request('POST', `${path}/restore`),
      };
    return {
      expected: refusal ?? 204,
      apply: () => {
        if (step.kind === 'trash') found.isTrashed = true;
        else this.#model.assets.splice(this.#model.assets.indexOf(found), 1);
      },
      request: () => client.request('DELETE', step.kind === 'trash' ? path : `${path}?permanent=true`),
    };
  }

  /** @returns the status of a refusal to put something there */
  #mayPut(by: User, label: Label | undefined): number | undefined {
    if (label === undefined) return undefined;
    const role = this.#model.roleIn(by, label);
    return role === 0 ? 404 : role < rankOf('editor') ? 403 : undefined;
  }

  /** Lists, records, members and counts, as everybody has them. */
  async compare(after: string): Promise<void> {
    const { assets, projects } = this.#model;
    await Promise.all(
      users.map(async (name) => {
        const client = this.#clients[name];
        const read = async (path: string) => (await client.get(path)).body.data;
        const ids = (rows: readonly { id: string }[]) => rows.map(({ id }) => id).toSorted((a, b) => (a < b ? -1 : 1));
        const seen = assets.filter((each) => this.#model.roleOn(name, each) > 0);
        for (const trashed of [false, true]) {
          const there = seen.filter(({ isTrashed }) => isTrashed === trashed);
          const own = there.filter(({ owner }) => owner === name);
          assert.deepEqual(ids(await read(`/v1/assets?trashed=${trashed}`)), ids(own), `own of ${name} after ${after}`);
          for (const label of labels) {
            const listed = await read(`/v1/assets?trashed=${trashed}&projectId=${this.#name(label)}`);
            assert.deepEqual(
              ids(listed),
              ids(there.filter((each) => each.project === label)),
              `${label} of ${name} after ${after}`,
            );
            for (const { id, uploadedBy } of listed)
              assert.equal(uploadedBy, this.#name(assets.find((each) => each.id === id)?.owner ?? ''));
          }
        }
        for (const each of assets) {
          const { status } = await client.get(`/v1/assets/${each.id}`);
          assert.equal(status, seen.includes(each) ? 200 : 404, `${name} after ${after}`);
        }
        const mine = labels.filter((label) => projects.get(label)?.members.has(name)).map((label) => this.#name(label));
        assert.deepEqual(ids(await read('/v1/projects')), ids(mine.map((id) => ({ id }))), `${name} after ${after}`);
        const quota = await client.get('/v1/quota');
        assert.equal(quota.body['fileCount'], assets.filter(({ owner }) => owner === name).length, after);
      }),
    );
  }
}
