/**
 * One fault at a time, at every step: each call to S3 and each statement of an upload and of a deletion meets each of
 * the faults once, and then again whenever it is tried. A single fault is hidden by trying again; a lasting one is a 503.
 * Either way nothing is lost, nothing stays behind, and who sends the request again has it once.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, type TestContext, test } from 'node:test';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { s3Skip } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';
import { lookoutFor, type Prepared, Refused, Rig, type Scenario, type ScenarioName, type Step } from './rig.ts';
import type { S3Fault } from './s3-proxy.ts';

const MiB = 1024 * 1024;
/** What takes longest comes first. */
const scenarioNames: ScenarioName[] = ['an upload in parts', 'an upload by one request', 'a deletion'];
/** Of these only what they can be left with: a call or a statement that happened or not, and nobody heard. */
const sessionNames: ScenarioName[] = ['a resumable upload', 'a direct upload'];
const s3Faults: S3Fault[] = [
  'unavailable',
  'reset before',
  'reset within',
  'reset after',
  'stall',
  'stall after',
  'slow',
  'cut body',
];
type SqlFault = 'never delivered' | 'answer lost' | 'stall';
const sqlFaults: SqlFault[] = ['never delivered', 'answer lost', 'stall'];

function faultsOf(name: ScenarioName, { kind, text }: Step, times: number): (S3Fault | SqlFault)[] {
  if (sessionNames.includes(name)) {
    if (kind === 'SQL') return ['answer lost'];
    // Parts of a direct upload are sent by its client.
    return text === 'UploadPart' ? [] : ['reset after'];
  }
  if (kind === 'S3') return times === 1 ? s3Faults : s3Faults.filter((fault) => fault !== 'slow');
  if (times === 1) return sqlFaults;
  // A database that fails for good is waited for with patience, so of those there is one: nobody confirms the COMMIT.
  return text === 'commit' ? ['answer lost'] : [];
}

/** On a busy machine a time limit may run out beside the fault; what the service does wrong, it does every time. */
const TRIES = 20;

/**
 * Limits so short that stalls are soon found, but long for what the steps take undisturbed.
 * @param times a fault that passes leaves time for one more try, and for the machine to be busy
 */
function impatience(steps: Step[], times: number): Record<string, string> {
  const longest = Math.max(...steps.map(({ duration }) => duration));
  const request = Math.min(5000, Math.max(800, Math.round(5 * longest)));
  return {
    S3_CONNECT_TIMEOUT: `${request}ms`,
    S3_REQUEST_TIMEOUT: `${request}ms`,
    S3_DEADLINE: `${Math.round((times === 1 ? 10 : 2.5) * request)}ms`,
    DATABASE_TIMEOUT: `${request}ms`,
  };
}

/** A rig of its own, and a service behind its proxies. */
class Lane {
  readonly rig: Rig;
  #service: TestService | undefined;

  constructor(rig: Rig) {
    this.rig = rig;
  }

  get url(): string {
    assert.ok(this.#service);
    return this.#service.url;
  }

  /** A fresh one for each test: after many faults, the client of S3 tries less often. */
  async open(context: TestContext, limits: Record<string, string> = {}): Promise<void> {
    const opened = await startService({
      databaseUrl: this.rig.environment['DATABASE_URL'] ?? '',
      env: { ...this.rig.environment, S3_CHECKSUM: 'sha256', ...limits, ROLE: 'api' },
    });
    this.#service = opened;
    context.after(async () => {
      this.rig.heal();
      await opened.close();
    });
    await new Client(opened.url, 'bystander').get('/v1/assets');
  }

  /** The status the client was told. */
  async outcomeOf(scenario: Scenario, prepared: Prepared | undefined): Promise<'done' | number> {
    try {
      await scenario.act(this.url, prepared);
      return 'done';
    } catch (error) {
      if (error instanceof Refused) return error.status;
      throw error;
    } finally {
      this.rig.heal();
    }
  }

  /** @param times how often this step meets the fault, when it is tried again */
  disturb(step: Step, fault: S3Fault | SqlFault, times: number): () => boolean {
    const isIt = lookoutFor(step);
    let struck = 0;
    let chosen: string | undefined;
    const strikes = (name: string, comes: boolean) => {
      if (comes) chosen = name;
      if (chosen !== name || struck >= times) return false;
      struck += 1;
      return true;
    };
    this.rig.s3.faultFor = (call) =>
      strikes(`${call.method} ${call.url}`, isIt.call(call)) ? (fault as S3Fault) : undefined;
    let lose = false;
    this.rig.postgres.before = (statement) => {
      lose = false;
      if (!strikes(statement, isIt.statement(statement))) return;
      if (fault === 'stall') return new Promise(() => {});
      if (fault === 'never delivered') throw new Error(fault);
      lose = true;
    };
    this.rig.postgres.after = () => {
      if (lose) throw new Error('lost');
    };
    return () => struck > 0;
  }
}

/** Most of the time is spent with waiting for limits, so these wait beside each other. */
describe('a single fault', { skip: s3Skip(), concurrency: 3 }, () => {
  /** Defines tests that share a rig. */
  function lane(title: string, define: (laneOf: () => Lane) => void): void {
    describe(title, { concurrency: 1 }, () => {
      let rig: Rig | undefined;
      let lane: Lane | undefined;
      before(async () => {
        rig = await Rig.open();
        lane = new Lane(rig);
      });
      after(() => rig?.close());
      define(() => {
        assert.ok(lane);
        return lane;
      });
    });
  }

  for (const name of [...scenarioNames, ...sessionNames])
    for (const times of sessionNames.includes(name) ? [1] : [Number.POSITIVE_INFINITY, 1])
      lane(`${name}, ${times === 1 ? 'once' : 'always'}`, (laneOf) => {
        test('at each of its steps', async (context) => {
          const lane = laneOf();
          const { rig } = lane;
          const make = rig.scenario(name);
          const first = make();
          const prepared = await first.prepare?.();
          // What is done undisturbed must not be disturbed by limits of time.
          await lane.open(context);
          const steps = await rig.stepsOf(() => first.act(lane.url, prepared));
          assert.ok(steps.some(({ kind }) => kind === 'SQL'));
          const left: { scenario: Scenario; prepared: Prepared | undefined }[] = [];
          const meets = async (index: number, step: Step, fault: S3Fault | SqlFault) => {
            const { kind, text } = step;
            await context.test(`${index + 1}. ${kind} ${text}: ${fault}`, async () => {
              const outcomes: ('done' | 503)[] = kind === 'S3' && times === 1 ? ['done'] : ['done', 503];
              for (let attempt = 1; ; attempt++) {
                const scenario = make();
                const there = await scenario.prepare?.();
                left.push({ scenario, prepared: there });
                const struck = lane.disturb(step, fault, times);
                const outcome = await lane.outcomeOf(scenario, there);
                if (struck() && outcomes.some((each) => each === outcome)) break;
                // Limits of time make a 503 and nothing else.
                assert.equal(outcome, 503);
                assert.ok(attempt < TRIES, struck() ? 'a single fault is not hidden' : 'the fault was never met');
              }
            });
          };
          await lane.open(context, impatience(steps, times));
          for (const [index, step] of steps.entries())
            for (const fault of faultsOf(name, step, times)) await meets(index, step, fault);
          await context.test('nothing is lost or left behind, and who asks again has it once', () => rig.settle(left));
        });
      });

  lane('of the store', (laneOf) => {
    for (const [what, file] of [
      ['PutObject', png(5000, 3)],
      ['UploadPart', glb(11 * MiB, 3)],
    ] as const) {
      test(`a byte that changes on its way to ${what} is seen by the store, and sent again`, async (context) => {
        const lane = laneOf();
        const { rig } = lane;
        await lane.open(context);
        let left = 1;
        rig.s3.faultFor = ({ operation }) => (operation === what && left-- > 0 ? 'corrupt request' : undefined);
        const owner = `owner-${randomUUID()}`;
        await rig.store(lane.url, owner, file, randomUUID());
        assert.ok(left < 1);
        rig.heal();
        await rig.assertPromises();
      });
    }

    for (const times of [1, Number.POSITIVE_INFINITY]) {
      test(`an error inside the 200 of CompleteMultipartUpload, ${times === 1 ? 'once' : 'always'}`, async (context) => {
        const lane = laneOf();
        const { rig } = lane;
        await lane.open(context);
        const [owner, key, file] = [`owner-${randomUUID()}`, randomUUID(), glb(11 * MiB, 4)];
        let met = 0;
        rig.s3.faultFor = ({ operation }) =>
          operation === 'CompleteMultipartUpload' && met++ < times ? 'error in 200' : undefined;
        const stored = rig.store(lane.url, owner, file, key);
        if (times === 1) await stored;
        else await assert.rejects(stored, { status: 503 });
        assert.ok(met > 0);
        rig.heal();
        await rig.settle([{ scenario: { act: async () => {}, again: async () => {} }, prepared: undefined }]);
      });
    }

    test('a link that was signed for the proxy is good through the proxy', async (context) => {
      const lane = laneOf();
      const { rig } = lane;
      await lane.open(context);
      const client = new Client(lane.url, `owner-${randomUUID()}`);
      const { body } = await client.raw(png(4000, 6), { name: 'p.png' });
      const link = await client.get(`/v1/assets/${body.id}/download`);
      const url = String(link.body['url']);
      assert.ok(url.startsWith(rig.s3.url), url);
      const answer = await fetch(url);
      assert.equal(answer.status, 200);
      assert.equal((await answer.arrayBuffer()).byteLength, 4000);
    });

    test('keys that DeleteObjects could not delete, though it says 200, are deleted later', async (context) => {
      const lane = laneOf();
      const { rig } = lane;
      await lane.open(context);
      const owner = `owner-${randomUUID()}`;
      const id = await rig.store(lane.url, owner, png(3000, 5), randomUUID());
      const worker = await startService({
        databaseUrl: rig.environment['DATABASE_URL'] ?? '',
        env: { ...rig.environment, ROLE: 'worker' },
      });
      await rig.survivor.service.closeWork();
      try {
        let met = 0;
        rig.s3.faultFor = ({ operation }) =>
          operation === 'DeleteObjects' && met++ === 0 ? 'error in 200' : undefined;
        await rig.remove(lane.url, owner, id, randomUUID());
        await waitUntil(() => met > 0);
        await rig.nothingDeleting();
        assert.ok(met > 1);
        await rig.assertPromises();
      } finally {
        await worker.close();
      }
    });
  });
});
