/**
 * The service is killed with SIGKILL before and after every call to S3 and every statement of uploads and of a deletion.
 * Whatever the moment: once the reaper and the reconciler have gone over it, the checker finds all promises kept, and the
 * client that sends its request again under the same Idempotency-Key has exactly one asset.
 *
 * What there is to be killed at is not written down here: each scenario first runs undisturbed and is listened to. Moments
 * that leave the same behind are one test: the one before a step that follows at once is the one after the step before it, what
 * only reads leaves nothing, and neither does a transaction that was not committed, however many of its statements were run.
 * Each scenario is in a test file of its own, so that they run side by side.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { launch, type Running } from '../support/processes.ts';
import { s3Skip } from '../support/s3.ts';
import { lookoutFor, type Prepared, Rig, type Scenario, type ScenarioName, type Step } from './rig.ts';

export type Side = 'before' | 'after';
export const sides: Side[] = ['before', 'after'];

interface Left {
  scenario: Scenario;
  prepared: Prepared | undefined;
}

/**
 * Defines the tests of one scenario.
 * @param from the call of S3 from which on it is killed, where the steps before are those of another scenario
 * @param only steps before and after which it is killed, where all of them are those of another scenario
 */
export function testKilledAtEachStep(name: ScenarioName, { from, only }: { from?: string; only?: RegExp } = {}): void {
  describe('killed at any moment', { skip: s3Skip() }, () => {
    let rig: Rig;
    before(async () => {
      rig = await Rig.open();
    });
    after(() => rig.close());

    test(`${name}: before and after each of its steps`, async (context) => {
      const make = rig.scenario(name);
      const steps = await recordSteps(rig, make());
      assert.ok(steps.length >= 3, JSON.stringify(steps));
      const first = from === undefined ? 0 : steps.findIndex(({ text }) => text === from);
      assert.ok(first >= 0, `${from} is no step of it`);
      const left: Left[] = [];
      for (const [index, step] of steps.entries()) {
        if (index < first || only?.test(step.text) === false) continue;
        for (const side of only ? sides : momentsOf(steps, index)) {
          await context.test(`${side} ${index + 1}. ${step.kind} ${step.text}`, async () => {
            const scenario = make();
            left.push({ scenario, prepared: await killAt(rig, scenario, step, side) });
          });
        }
      }
      await context.test('nothing is lost or left behind, and who asks again has it once', () => rig.settle(left));
    });
  });
}

/** On which sides of a step it leaves something else behind than on those of the steps before. */
function momentsOf(steps: readonly Step[], index: number): readonly Side[] {
  const step = steps[index];
  const before: readonly Side[] = step?.followsAtOnce ? [] : ['before'];
  const transaction = transactionAt(steps, index);
  if (!step) return [];
  if (!transaction) return isRead(step) ? before : [...before, 'after'];
  if (index === transaction.first) return before;
  // By then all of it was run; before, it leaves what it found.
  return index >= transaction.last - 1 ? ['after'] : [];
}

function isRead({ kind, text }: Step): boolean {
  return kind === 'S3' ? /^(Head|Get|List)/.test(text) : /^select\b/i.test(text);
}

/** The transaction that a step belongs to, from its begin to its commit, where nothing but its statements is between them. */
function transactionAt(steps: readonly Step[], index: number): { first: number; last: number } | undefined {
  const isBegin = ({ text }: Step) => /^begin$/i.test(text);
  const isCommit = ({ text }: Step) => /^commit$/i.test(text);
  const first = steps.findLastIndex((step, at) => at <= index && isBegin(step));
  const last = steps.findIndex((step, at) => at > first && isCommit(step));
  if (first < 0 || last < index) return undefined;
  const between = steps.slice(first + 1, last);
  return between.some((step) => step.kind === 'S3' || isBegin(step)) ? undefined : { first, last };
}

async function recordSteps(rig: Rig, scenario: Scenario) {
  const { service, prepared } = await begin(rig, scenario);
  const steps = await rig.stepsOf(() => scenario.act(service.url, prepared));
  await kill(rig, service);
  return steps;
}

async function begin(rig: Rig, scenario: Scenario): Promise<{ service: Running; prepared: Prepared | undefined }> {
  rig.heal();
  const prepared = await scenario.prepare?.();
  const service = await launch({ ...rig.environment, ROLE: 'api' });
  // A request of no importance: what is done once per process is done.
  await new Client(service.url, 'bystander').get('/v1/assets');
  return { service, prepared };
}

export async function kill(rig: Rig, { child, exit }: Running): Promise<void> {
  child.kill('SIGKILL');
  await exit;
  rig.heal();
}

/** Kills the service at this step, and fails when it did not come. */
async function killAt(rig: Rig, scenario: Scenario, step: Step, side: Side): Promise<Prepared | undefined> {
  const { service, prepared } = await begin(rig, scenario);
  let struck = false;
  const strike = async () => {
    struck = true;
    service.child.kill('SIGKILL');
    await service.exit;
    throw new Error('killed');
  };
  const isIt = lookoutFor(step);
  let chosen: object | undefined;
  const begun = (event: object, comes: boolean) => {
    if (!comes) return;
    chosen = event;
    return side === 'before' ? strike() : undefined;
  };
  const ended = (event: object) => (side === 'after' && event === chosen ? strike() : undefined);
  rig.s3.before = (call) => begun(call, isIt.call(call));
  rig.s3.after = ended;
  // One statement at a time in these scenarios.
  let statement = {};
  rig.postgres.before = (text) => {
    statement = {};
    return begun(statement, isIt.statement(text));
  };
  rig.postgres.after = () => ended(statement);
  const outcome = await scenario.act(service.url, prepared).catch((error: unknown) => error);
  await kill(rig, service);
  assert.ok(struck, `the service was never killed: ${outcome ?? 'done'}`);
  return prepared;
}
