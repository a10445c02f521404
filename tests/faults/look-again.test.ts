/** What is left of calls that the store did, and of which nobody heard: it is found soon, without the reconciler. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { glb } from '../support/files.ts';
import { contentsOf, s3Skip } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';
import { Rig, type ScenarioName } from './rig.ts';

/** That an upload has begun in the store is written down. */
function isNote(statement: string): boolean {
  return /^\s*update "upload_sessions" set "store_upload_id"/.test(statement);
}

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

  test('does not end the upload that a later request has begun', async () => {
    loseAnswers(1);
    let refused = 0;
    const { faultFor } = rig.s3;
    // The one that was asked for again is not written down, so the next request begins another one.
    rig.postgres.before = (statement) => {
      if (refused > 0 || !isNote(statement)) return;
      refused += 1;
      throw new Error('away');
    };
    const scenario = rig.scenario('a resumable upload')();
    await assert.rejects(scenario.act(service.url, undefined));
    assert.equal(refused, 1);
    rig.heal();
    rig.s3.faultFor = faultFor;
    // It stops in the middle, and there the looks pass.
    let stopped = false;
    rig.s3.before = async ({ operation }) => {
      if (operation !== 'CompleteMultipartUpload') return;
      rig.s3.before = () => {};
      await waitUntil(async () => (await openUploads()) === 1);
      stopped = true;
    };
    await scenario.act(service.url, undefined);
    assert.ok(stopped);
    await scenario.again(undefined);
    await waitUntil(() => rig.assertPromises().then(() => true));
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

/** A resumable upload must never come to where its client is told for ever that the store does not answer. */
describe('a resumable upload that has begun in the store', { skip: s3Skip() }, () => {
  let rig: Rig;
  let service: TestService;
  let other: TestService;
  before(async () => {
    rig = await Rig.open({ UPLOAD_LOOK_AGAIN: '1s', RECONCILE_GRACE: '24h' });
    const start = () =>
      startService({
        databaseUrl: rig.environment['DATABASE_URL'] ?? '',
        env: { ...rig.environment, ROLE: 'api' },
      });
    service = await start();
    other = await start();
  });
  after(async () => {
    await service?.close();
    await other?.close();
    await rig?.close();
  });

  test('goes on when the database has written that down, and its answer is lost', async () => {
    let lost = 0;
    let isNext = false;
    rig.postgres.before = (statement) => {
      isNext = lost === 0 && isNote(statement);
    };
    rig.postgres.after = () => {
      if (!isNext || lost > 0) return;
      lost += 1;
      throw new Error('lost');
    };
    const scenario = rig.scenario('a resumable upload')();
    await assert.rejects(scenario.act(service.url, undefined));
    assert.equal(lost, 1);
    rig.heal();
    await scenario.act(service.url, undefined);
    await scenario.again(undefined);
    await waitUntil(() => rig.assertPromises().then(() => true));
  });

  test('ends there when somebody asks how far it is before that is written down', async () => {
    const tus = { 'tus-resumable': '1.0.0' };
    const client = new Client(service.url, 'asking');
    const file = glb(11 * 1024 * 1024, 6);
    const created = await client.request('POST', '/v1/resumable', {
      headers: { ...tus, 'upload-length': String(file.length), 'upload-metadata': 'filename bS5nbGI=' },
    });
    const path = created.headers.get('location') ?? '';
    const append = (where: Client) =>
      where.request('PATCH', path, {
        headers: { ...tus, 'content-type': 'application/offset+octet-stream', 'upload-offset': '0' },
        body: file,
      });
    const { promise: asked, resolve: asks } = Promise.withResolvers<void>();
    const { promise: beginning, resolve: begins } = Promise.withResolvers<void>();
    rig.s3.after = ({ operation }) => {
      if (operation !== 'CreateMultipartUpload') return;
      begins();
      return asked;
    };
    const first = append(client);
    await beginning;
    const elsewhere = new Client(other.url, 'asking');
    const seen = await elsewhere.request('HEAD', path, { headers: tus });
    assert.deepEqual([seen.status, seen.headers.get('upload-offset')], [200, '0']);
    asks();
    assert.equal((await first).status, 409);
    rig.heal();
    assert.equal((await contentsOf(rig.bucket)).openUploads.length, 0);
    assert.equal((await append(elsewhere)).status, 204);
    await waitUntil(() => rig.assertPromises().then(() => true));
  });

  test('is not begun a second time by a request that did not see it', async () => {
    const headers = { 'tus-resumable': '1.0.0' };
    const client = new Client(service.url, 'in-a-hurry');
    const file = glb(11 * 1024 * 1024, 5);
    const created = await client.request('POST', '/v1/resumable', {
      headers: { ...headers, 'upload-length': String(file.length), 'upload-metadata': 'filename bS5nbGI=' },
    });
    const path = created.headers.get('location') ?? '';
    const append = (url: string) =>
      new Client(url, 'in-a-hurry').request('PATCH', path, {
        headers: { ...headers, 'content-type': 'application/offset+octet-stream', 'upload-offset': '0' },
        body: file,
      });
    const { promise: beginning, resolve: begins } = Promise.withResolvers<void>();
    const { promise: taking, resolve: takes } = Promise.withResolvers<void>();
    const { promise: sending, resolve: sends } = Promise.withResolvers<void>();
    const { promise: overtaken, resolve: overtakes } = Promise.withResolvers<void>();
    // The first request begins when the second one has looked at the upload, and the second takes over what the first has begun.
    rig.s3.after = ({ operation }) => {
      if (operation !== 'CreateMultipartUpload') return;
      begins();
      return taking;
    };
    rig.s3.before = ({ operation }) => {
      if (operation !== 'UploadPart') return;
      sends();
      return overtaken;
    };
    const first = append(service.url);
    await beginning;
    rig.postgres.before = (statement) => {
      // Who takes an upload over says so.
      if (!/"takes" = "upload_sessions"\."takes" \+ 1/.test(statement)) return;
      takes();
      return sending;
    };
    const second = append(other.url).finally(() => overtakes());
    const statuses = [(await second).status, (await first).status];
    rig.heal();
    assert.deepEqual(statuses, [409, 204]);
    await waitUntil(() => rig.assertPromises().then(() => true));
  });
});

describe('a direct upload whose beginning nobody confirmed', { skip: s3Skip() }, () => {
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

  /** The answer to the COMMIT behind the keys is lost; with `isAway`, and all that is asked afterwards. */
  function loseCommit(isAway: boolean): () => number {
    let isNoted = false;
    let isCommit = false;
    let lost = 0;
    rig.postgres.before = (statement) => {
      if (isAway && lost > 0) throw new Error('away');
      isCommit = isNoted && lost === 0 && /^\s*commit/i.test(statement);
      isNoted ||= /update "upload_sessions" set "store_upload_id"/.test(statement);
    };
    rig.postgres.after = () => {
      if (!isCommit) return;
      isCommit = false;
      lost += 1;
      throw new Error('lost');
    };
    return () => lost;
  }

  for (const isAway of [false, true])
    test(`goes on for whoever sends the request again${isAway ? ', also when it could not be looked up' : ''}`, async () => {
      const lost = loseCommit(isAway);
      const scenario = rig.scenario('a direct upload')();
      if (isAway) await assert.rejects(scenario.act(service.url, undefined));
      else await scenario.act(service.url, undefined);
      rig.heal();
      assert.equal(lost(), 1);
      await scenario.again(undefined);
      await waitUntil(() => rig.assertPromises().then(() => true));
    });
});
