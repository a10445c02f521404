/**
 * Clients upload in all ways through three instances, which are killed and frozen, while S3 loses answers and the
 * connections to Postgres break. When the last fault is over, everything that was begun and came to nothing must end by
 * itself, soon: nothing is left to the reconciler, whose grace is a day here.
 *
 * `CHAOS_SECONDS` (30) says how long the faults go on, `CHAOS_SEED` repeats the choices of an earlier run; the seed is printed.
 */
import assert from 'node:assert/strict';
import { randomInt, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { glb, png } from '../support/files.ts';
import { launch, type Running } from '../support/processes.ts';
import { randomFrom } from '../support/random.ts';
import { s3Skip } from '../support/s3.ts';
import { waitUntil } from '../support/wait-until.ts';
import { Rig, type ScenarioName } from './rig.ts';
import type { S3Fault } from './s3-proxy.ts';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 30);
const SEED = Number(process.env['CHAOS_SEED'] ?? randomInt(2 ** 31));
const INSTANCES = 3;
const CLIENTS = 8;
/** Milliseconds after the last fault, at most; a busy machine takes its time. With the settings of production, ten minutes. */
const BOUND = 180_000;
const MiB = 1024 * 1024;

const ways: ScenarioName[] = [
  'an upload by one request',
  'an upload in parts',
  'a direct upload',
  'a resumable upload',
  'a deletion',
];
/** Those that leave the service in doubt come up most. */
const faults: S3Fault[] = ['reset after', 'reset after', 'stall after', 'reset before', 'unavailable', 'slow'];

describe('uploads under chaos', { skip: s3Skip(), timeout: SECONDS * 1000 + 600_000 }, () => {
  let rig: Rig;
  const instances: (Running | undefined)[] = [];
  const counts: Record<string, number> = {};
  const count = (what: string) => {
    counts[what] = (counts[what] ?? 0) + 1;
  };

  before(async () => {
    rig = await Rig.open({
      S3_CONNECT_TIMEOUT: '1s',
      S3_REQUEST_TIMEOUT: '2s',
      S3_DEADLINE: '6s',
      DATABASE_TIMEOUT: '3s',
      UPLOAD_LEASE: '3s',
      UPLOAD_LOOK_AGAIN: '2s',
      RECONCILE_GRACE: '24h',
      LOG_LEVEL: 'fatal',
    });
    for (let index = 0; index < INSTANCES; index++) instances.push(await launch(rig.environment));
  });
  after(async () => {
    for (const instance of instances) instance?.child.kill('SIGKILL');
    await Promise.all(instances.map((instance) => instance?.exit));
    await rig.close();
  });

  /** One file after the other, each until it is done, on whatever instance there is; some are broken off. */
  async function client(number: number, over: AbortSignal): Promise<void> {
    const random = randomFrom(SEED + 1 + number);
    const url = () => instances[Math.floor(random() * INSTANCES)]?.url ?? rig.survivor.url;
    while (!over.aborted) {
      if (random() < 0.25) await breakOff(url(), random);
      const way = ways[Math.floor(random() * ways.length)];
      assert.ok(way);
      const scenario = rig.scenario(way)();
      const prepared = await scenario.prepare?.();
      for (let done = false; !done && !over.aborted; ) {
        done = await scenario.act(url(), prepared).then(
          () => true,
          () => delay(100 + random() * 300, false),
        );
      }
      await scenario.again(prepared);
      count(way);
    }
  }

  /** A client that goes away in the middle of a file, by a raw body or a form with fields after it. */
  async function breakOff(url: string, random: () => number): Promise<void> {
    const bytes = random() < 0.5 ? png(3000, 1) : glb(11 * MiB, 3);
    const name = bytes.length < MiB ? 'p.png' : 'm.glb';
    const form = new FormData();
    form.append('files', new Blob([bytes]), name);
    form.append('files', new Blob([bytes]), name);
    form.append('colour', 'no such field');
    const isForm = random() < 0.5;
    await fetch(isForm ? `${url}/v1/assets/batch` : `${url}/v1/assets/raw/${name}`, {
      method: isForm ? 'POST' : 'PUT',
      headers: { 'x-user-id': `gone-${randomUUID()}` },
      body: isForm ? form : bytes,
      signal: AbortSignal.timeout(20 + Math.floor(random() * 400)),
    }).then(
      (answer) => answer.arrayBuffer().catch(() => {}),
      () => {},
    );
    count('broken off');
  }

  type Happenings = Record<string, () => Promise<void>>;

  /** What happens to the instances, and beside it what happens to those they call. */
  async function chaos(over: AbortSignal): Promise<void> {
    const random = randomFrom(SEED);
    const pause = (from: number, to: number) => delay(1000 * (from + random() * (to - from)));
    const toInstances: Happenings = {
      'an instance is killed': async () => {
        const index = Math.floor(random() * INSTANCES);
        const instance = instances[index];
        instances[index] = undefined;
        instance?.child.kill('SIGKILL');
        await instance?.exit;
        instances[index] = await waitUntil(() => launch(rig.environment));
      },
      'an instance is frozen past its leases': async () => {
        const child = instances[Math.floor(random() * INSTANCES)]?.child;
        child?.kill('SIGSTOP');
        await pause(4, 6);
        child?.kill('SIGCONT');
      },
    };
    const toOthers: Happenings = {
      'calls to S3 fail': async () => {
        rig.s3.faultFor = () => (random() < 0.25 ? faults[Math.floor(random() * faults.length)] : undefined);
        await pause(2, 4);
        rig.heal();
      },
      'answers to CreateMultipartUpload are lost': async () => {
        rig.s3.faultFor = ({ operation }) =>
          operation === 'CreateMultipartUpload' && random() < 0.5 ? 'reset after' : undefined;
        await pause(2, 4);
        rig.heal();
      },
      'S3 is frozen': async () => {
        rig.s3.frozen = true;
        await pause(0.5, 2);
        rig.heal();
      },
      'Postgres cannot be reached': async () => {
        rig.postgres.dead = true;
        await pause(0.5, 1.5);
        rig.heal();
      },
    };
    const inTurn = async (happenings: Happenings) => {
      const names = Object.keys(happenings);
      // Each comes up before one comes a second time.
      for (let left = [...names]; !over.aborted; ) {
        const [name = ''] = left.splice(Math.floor(random() * left.length), 1);
        count(name);
        await happenings[name]?.();
        if (left.length === 0) left = [...names];
        await pause(0.1, 0.5);
      }
    };
    await Promise.all([inTurn(toInstances), inTurn(toOthers)]);
    rig.heal();
  }

  test(`everything ends by itself: ${SECONDS} s, seed ${SEED}`, async (context) => {
    const over = new AbortController();
    const timer = setTimeout(() => over.abort(), SECONDS * 1000);
    const running = Array.from({ length: CLIENTS }, (_, number) => client(number, over.signal));
    await Promise.all([chaos(over.signal), ...running]);
    clearTimeout(timer);
    context.diagnostic(JSON.stringify(counts));

    const healedAt = performance.now();
    // A tus upload whose client never heard of it ends with its day. It is over.
    await rig.survivor.query(
      `update assets set lease_expires_at = now() where state = 'uploading'
       and exists (select from upload_sessions where asset_id = id and kind = 'resumable')`,
    );
    await waitUntil(
      async () => {
        // As if the minute of the reaper had come; nothing else is done for what is left.
        await rig.survivor.service.reap();
        await rig.assertPromises();
        return true;
      },
      { timeout: BOUND },
    );
    context.diagnostic(`all had ended after ${Math.round((performance.now() - healedAt) / 1000)} s`);
  });
});
