/**
 * The service is killed with SIGKILL before and after every call to S3 and every statement of uploads and of a deletion.
 * Whatever the moment: once the reaper and the reconciler have gone over it, the checker finds all promises kept, and the
 * client that sends its request again under the same Idempotency-Key has exactly one asset.
 *
 * What there is to be killed at is not written down here: each scenario first runs undisturbed and is listened to.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { launch, type Running } from '../support/processes.ts';
import { s3Skip } from '../support/s3.ts';
import { type Prepared, Rig, type Scenario } from './rig.ts';

const scenarioNames = [
  'an upload by one request',
  'an upload in parts',
  'a direct upload',
  'a resumable upload',
  'a deletion',
];

/** Milliseconds for a scenario, on a machine that is busy with other tests. */
const LIMIT = 600_000;

describe('killed at any moment', { skip: s3Skip(), timeout: 3 * LIMIT }, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.open();
  });
  after(() => rig.close());

  async function begin(scenario: Scenario): Promise<{ service: Running; prepared: Prepared | undefined }> {
    rig.heal();
    const prepared = await scenario.prepare?.();
    const service = await launch({ ...rig.environment, ROLE: 'api' });
    // A request of no importance: what is done once per process is done.
    await new Client(service.url, 'bystander').get('/v1/assets');
    return { service, prepared };
  }

  async function kill({ child, exit }: Running): Promise<void> {
    child.kill('SIGKILL');
    await exit;
    rig.heal();
  }

  /** Kills the service at the step of this number, and fails when there was none. */
  async function killAt(scenario: Scenario, index: number, side: 'before' | 'after'): Promise<Prepared | undefined> {
    const { service, prepared } = await begin(scenario);
    let struck = false;
    const strike = async () => {
      struck = true;
      service.child.kill('SIGKILL');
      await service.exit;
      throw new Error('killed');
    };
    // Calls may be under way at once: each is counted when it begins, and struck by its number.
    const numbers = new Map<object, number>();
    const begun = (step: object) => {
      numbers.set(step, numbers.size);
      return side === 'before' && numbers.get(step) === index ? strike() : undefined;
    };
    const ended = (step: object) => (side === 'after' && numbers.get(step) === index ? strike() : undefined);
    rig.s3.before = begun;
    rig.s3.after = ended;
    // One statement at a time in these scenarios.
    let statement = {};
    rig.postgres.before = () => {
      statement = {};
      return begun(statement);
    };
    rig.postgres.after = () => ended(statement);
    await scenario.act(service.url, prepared).catch(() => {});
    await kill(service);
    assert.ok(struck, 'the service was never killed');
    return prepared;
  }

  for (const name of scenarioNames) {
    test(`${name}: before and after each of its steps`, { timeout: LIMIT }, async (context) => {
      const make = rig.scenarios().find((scenario) => scenario.name === name)?.make;
      assert.ok(make);
      const first = make();
      const { service, prepared } = await begin(first);
      const steps = await rig.stepsOf(() => first.act(service.url, prepared));
      await kill(service);
      assert.ok(steps.length >= 3, JSON.stringify(steps));
      const left: { scenario: Scenario; prepared: Prepared | undefined }[] = [];
      for (const [index, { kind, text }] of steps.entries()) {
        for (const side of ['before', 'after'] as const) {
          await context.test(`${side} ${index + 1}. ${kind} ${text}`, async () => {
            const scenario = make();
            left.push({ scenario, prepared: await killAt(scenario, index, side) });
          });
        }
      }
      await context.test('nothing is lost or left behind, and who asks again has it once', () => rig.settle(left));
    });
  }

  test('the job that deletes: before and after each of its steps', { timeout: LIMIT }, async (context) => {
    const steps: { name: string; matches: (event: string) => boolean }[] = [
      { name: 'the look at the record', matches: (event) => event.includes('select object_key from assets') },
      { name: 'S3 ListMultipartUploads', matches: (event) => event === 'S3 ListMultipartUploads' },
      { name: 'S3 ListObjectsV2', matches: (event) => event === 'S3 ListObjectsV2' },
      { name: 'S3 DeleteObjects', matches: (event) => event === 'S3 DeleteObjects' },
      { name: 'the end of the record', matches: (event) => event.includes('delete from assets') },
      { name: 'the end of the job', matches: (event) => /UPDATE pgboss\.job\w*[\s\S]*SET completed_on/.test(event) },
    ];
    // The other instance must leave the work to the one that is killed.
    await rig.survivor.service.closeWork();
    const owner = `owner-${randomUUID()}`;
    for (const { name, matches } of steps) {
      for (const side of ['before', 'after'] as const) {
        await context.test(`${side} ${name}`, async () => {
          rig.heal();
          const service = await launch({ ...rig.environment, ROLE: 'all' });
          const id = await rig.store(service.url, owner, png(2000, 8), randomUUID());
          const struck = Promise.withResolvers<void>();
          const strike = async (event: string) => {
            if (!matches(event)) return;
            service.child.kill('SIGKILL');
            await service.exit;
            struck.resolve();
            throw new Error('killed');
          };
          rig.s3[side] = ({ operation }) => strike(`S3 ${operation}`);
          rig.postgres[side] = (statement) => strike(statement);
          // The job may be quicker than the answer to the request that caused it.
          await rig.remove(service.url, owner, id, randomUUID()).catch(() => {});
          await struck.promise;
        });
      }
    }
    rig.heal();
    // One more process takes over all that the dead have left, once their leases have run out.
    const last = await launch({ ...rig.environment, ROLE: 'all' });
    await rig.nothingDeleting(90_000);
    await kill(last);
    await rig.assertPromises();
  });
});
