/** A feature of 60 lines (tests/support/greetings.ts) plugs in: whatever `Feature` has is used, on the real Postgres. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { features } from '../../src/app.ts';
import { ConfigError, environmentExample, loadConfig } from '../../src/config.ts';
import { openCore } from '../../src/core.ts';
import type { Executor } from '../../src/database/client.ts';
import { examine } from '../../src/doctor/check.ts';
import { type Feature, settingsOf } from '../../src/feature.ts';
import { Metrics } from '../../src/http/metrics.ts';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { assetReady } from '../../src/processing/events.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { greetings } from '../support/greetings.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { spawnService } from '../support/processes.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

interface Contract {
  tags: { name: string }[];
  paths: Record<string, Record<string, { operationId: string; responses: Record<string, { content: object }> }>>;
}

describe('a feature', () => {
  let service: TestService;
  let client: Client;
  const closed: string[] = [];
  const closing: Feature = {
    name: 'closing',
    close: async () => {
      closed.push('once');
      throw new Error('and this stops nobody');
    },
  };
  before(async () => {
    const env = { GREETING_LENGTH: '5', REQUESTS_PER_MINUTE: '0' };
    service = await startService({ features: [...features, greetings, closing], env });
    client = new Client(service.url, 'ada');
  });
  after(() => service.close());

  const saidTo = async (owner: string) =>
    (await service.query("select 1 from audit_events where action = 'greeting.said' and owner_id = $1", [owner]))
      .length;
  const jobsOf = (owner: string) =>
    service.query("select 1 from pgboss.job where name = 'greet' and data ->> 'ownerId' = $1", [owner]);
  const greet = (text: string) => client.send('POST', '/v1/greetings', { text });

  test('has a route, a problem, a setting, a job, an action of the audit trail', async () => {
    assert.equal((await greet('hello')).status, 202);
    await waitUntil(async () => (await saidTo('ada')) === 1);
    const refused = await greet('good morning');
    assert.equal(refused.status, 422);
    assert.equal(refused.body['type'], 'urn:stowage:problem:greeting-too-long');
    assert.equal(refused.body['detail'], 'At most 5 characters.');
  });

  test('has gauges and checks', async () => {
    const said = await saidTo('ada');
    assert.match(await service.service.metrics.registry.metrics(), new RegExp(`^stowage_greetings ${said}$`, 'm'));
    const verdicts = [];
    for await (const verdict of examine(greetings.checks?.(service.service.core) ?? [])) verdicts.push(verdict);
    assert.deepEqual(verdicts, [{ name: 'greetings', verdict: 'ok', detail: `${said} were said` }]);
  });

  test('is in the contract, and its queue among the jobs', async () => {
    const { tags, paths } = (await service.service.writeOpenApi()) as Contract;
    assert.ok(tags.some(({ name }) => name === 'Greetings'));
    const operation = paths['/v1/greetings']?.['post'];
    assert.equal(operation?.operationId, 'greet');
    assert.match(JSON.stringify(operation?.responses['422']?.content), /greeting-too-long/);
    const { queues } = (await client.get('/v1/admin/jobs')).body as unknown as { queues: { queue: string }[] };
    assert.ok(queues.some(({ queue }) => queue === 'greet'));
  });

  test('hears of events: what it enqueues commits with the change that it is told of', async () => {
    const other = new Client(service.url, 'grace');
    assert.equal((await other.raw(png(300))).status, 201);
    await waitUntil(async () => (await saidTo('grace')) === 1);
  });

  test('hears of events: what it enqueues is rolled back with the change', async () => {
    const { database, outbox } = service.service.core;
    const publish = (ownerId: string) => (transaction: Executor) =>
      outbox.publish(transaction, assetReady, { assetId: '0', ownerId });
    await database.transact(publish('kept'));
    const failed = database.transact(async (transaction) => {
      await publish('undone')(transaction);
      throw new Error('no');
    });
    await assert.rejects(failed, /no/);
    assert.equal((await jobsOf('kept')).length, 1);
    assert.equal((await jobsOf('undone')).length, 0);
  });

  test('cannot have a job of a name that is taken', () => {
    const { core } = service.service;
    const twin = { name: 'twin', jobs: greetings.jobs ?? [] };
    assert.throws(() => openCore({ ...core, logger: core.log, metrics: new Metrics() }, [greetings, twin]), /two jobs/);
  });

  test('is closed once, and a fault of that keeps nobody from closing', async () => {
    await service.service.closeWork();
    await service.service.closeWork();
    assert.deepEqual(closed, ['once']);
    assert.ok(service.log.some((line) => line.includes('the feature closing could not be closed')));
  });
});

describe('features', () => {
  test('that do not listen cost the change no transaction', async (context) => {
    const service = await startService({ env: { ROLE: 'api', DATABASE_URL: 'postgres://unused/unused' } });
    context.after(() => service.close());
    const { pool } = service.database;
    const connect = context.mock.method(pool, 'connect');
    assert.equal((await new Client(service.url).raw(png(300))).status, 201);
    // A statement takes its connection by a callback, a transaction by a promise.
    const transactions = connect.mock.calls.filter(({ arguments: given }) => given[0] === undefined);
    assert.ok(connect.mock.callCount() > 0);
    assert.equal(transactions.length, 0);
  });

  test('have their settings read and documented with all others, and their faults told together', () => {
    const settings = settingsOf([greetings]);
    assert.match(environmentExample(settings), /\n## Greetings\n# Characters .*\nGREETING_LENGTH=20\n$/);
    assert.throws(
      () => loadConfig({ PORT: 'none', GREETING_LENGTH: 'long' }, settings),
      (error) => error instanceof ConfigError && /PORT/.test(error.message) && /GREETING_LENGTH/.test(error.message),
    );
  });

  test('of the service have each tag, action and problem once, and are named like their folders', () => {
    for (const member of ['tags', 'auditActions', 'problems'] as const) {
      const all = features.flatMap((feature) =>
        (feature[member] ?? []).map((each) => (typeof each === 'string' ? each : each.name)),
      );
      assert.deepEqual(
        all.filter((name, index) => all.indexOf(name) !== index),
        [],
      );
    }
    for (const { name } of features)
      assert.ok(existsSync(new URL(`../../src/${name}/index.ts`, import.meta.url)), name);
  });

  test('have their settings read and their checks run by npm run doctor', async (context) => {
    const database = await createTestDatabase();
    const directory = await mkdtemp(join(tmpdir(), 'stowage-features-'));
    context.after(async () => {
      await database.drop();
      await rm(directory, { recursive: true });
    });
    await prepareDatabase(database.url);
    const doctor = new URL('../../scripts/doctor.ts', import.meta.url).pathname;
    const withGreetings = new URL('../support/with-greetings.ts', import.meta.url).pathname;
    const env = { DATABASE_URL: database.url, DATA_DIR: directory, NODE_OPTIONS: `--import=${withGreetings}` };
    const sound = spawnService(env, doctor);
    assert.equal(await sound.exit, 0, sound.output());
    assert.match(sound.output(), /^ok +greetings: 0 were said$/m);
    const faulty = spawnService({ ...env, GREETING_LENGTH: 'long', PORT: 'none' }, doctor);
    assert.equal(await faulty.exit, 1);
    for (const name of ['GREETING_LENGTH', 'PORT']) assert.match(faulty.output(), new RegExp(name));
  });

  test('cannot have the same setting, nor one of the service', () => {
    assert.throws(() => settingsOf([greetings, { ...greetings, name: 'twin' }]), /GREETING_LENGTH of twin/);
    const PORT = Object.values(greetings.settings ?? {})[0];
    assert.ok(PORT);
    assert.throws(() => loadConfig({}, { PORT }), /a setting PORT already/);
  });
});
