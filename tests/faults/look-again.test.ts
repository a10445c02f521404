/** What is left of calls that the store did, and of which nobody heard: it is found soon, without the reconciler. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { contentsOf, s3Skip } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';
import { Rig, type ScenarioName } from './rig.ts';

describe('a lost answer to CreateMultipartUpload', { skip: s3Skip() }, () => {
  let rig: Rig;
  let service: TestService;
  before(async () => {
    rig = await Rig.open({ UPLOAD_LOOK_AGAIN: '1s', RECONCILE_GRACE: '24h' });
    service = await startService({
      databaseUrl: rig.environment['DATABASE_URL'] ?? '',
      env: { ...rig.environment, ROLE: 'api' },
    });
  });
  after(async () => {
    await service?.close();
    await rig?.close();
  });

  /** @returns how often the store did what nobody heard of */
  function loseAnswers(times: number): () => number {
    let lost = 0;
    rig.s3.faultFor = ({ operation }) =>
      operation === 'CreateMultipartUpload' && lost < times && ++lost ? 'reset after' : undefined;
    return () => lost;
  }
  const openUploads = async () => (await contentsOf(rig.bucket)).openUploads.length;

  for (const way of ['an upload in parts', 'a direct upload', 'a resumable upload'] satisfies ScenarioName[]) {
    test(`that is asked for again leaves no multipart upload open, after ${way}`, async () => {
      const lost = loseAnswers(1);
      const scenario = rig.scenario(way)();
      await scenario.act(service.url, undefined);
      rig.heal();
      assert.equal(lost(), 1);
      await waitUntil(async () => (await openUploads()) === 0);
      await scenario.again(undefined);
      await waitUntil(() => rig.assertPromises().then(() => true));
    });

    test(`that is never heard leaves no multipart upload open, after ${way}`, async () => {
      const lost = loseAnswers(Number.POSITIVE_INFINITY);
      const scenario = rig.scenario(way)();
      await assert.rejects(scenario.act(service.url, undefined));
      rig.heal();
      assert.ok(lost() > 1);
      await scenario.again(undefined);
      await waitUntil(() => rig.assertPromises().then(() => true));
    });
  }

  test('that cannot be noted, because the database is away just then, is noted when it is back', async () => {
    const lost = loseAnswers(1);
    let refused = 0;
    rig.postgres.before = (statement) => {
      // Of this upload, only the look is a job before it is settled.
      if (refused > 0 || !/insert\s+into\s+pgboss\.job/i.test(statement)) return;
      refused += 1;
      throw new Error('away');
    };
    const scenario = rig.scenario('an upload in parts')();
    await scenario.act(service.url, undefined);
    assert.deepEqual([lost(), refused], [1, 1]);
    rig.heal();
    await waitUntil(async () => (await openUploads()) === 0);
    await scenario.again(undefined);
  });

  test('does not end the upload that goes on', async () => {
    loseAnswers(1);
    const [before] = await rig.survivor.query<{ count: string }>('select count(*) from assets');
    const scenario = rig.scenario('a direct upload')();
    // The session is there, the look has passed, and then come the parts.
    let stopped = true;
    const { fetch } = globalThis;
    globalThis.fetch = async (input, init) => {
      if (stopped && init?.method === 'PUT') {
        rig.heal();
        await waitUntil(async () => (await openUploads()) === 1);
        stopped = false;
      }
      return fetch(input, init);
    };
    try {
      await scenario.act(service.url, undefined);
    } finally {
      globalThis.fetch = fetch;
    }
    assert.equal(stopped, false);
    const [now] = await rig.survivor.query<{ count: string }>('select count(*) from assets');
    assert.equal(Number(now?.count), Number(before?.count) + 1);
    await rig.assertPromises();
  });
});
