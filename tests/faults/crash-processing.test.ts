/**
 * Workers that process files, killed before and after each of their steps, as in crash-matrix.ts: the look at the record, the
 * bytes, the claim of a name, what is stored, what is written down, and the end of the job. Whatever the moment, each
 * picture has its facts and one thumbnail in the end, and nothing lies in the store that no record names.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import sharp from 'sharp';
import { Client } from '../support/client.ts';
import { launch } from '../support/processes.ts';
import { s3Skip } from '../support/s3.ts';
import { waitUntil } from '../support/wait-until.ts';
import { kill, sides } from './crash-matrix.ts';
import { Rig } from './rig.ts';

const steps: { name: string; matches: (event: string) => boolean }[] = [
  {
    name: 'the look at the record',
    matches: (event) => /^\s*select\s[^;]*"thumb_hash"[^;]*"processing" is not null\)+\s*$/.test(event),
  },
  { name: 'S3 GetObject', matches: (event) => event === 'S3 GetObject' },
  { name: 'the claim of a name', matches: (event) => /insert\s+into\s+"derivatives"/.test(event) },
  { name: 'S3 PutObject', matches: (event) => event === 'S3 PutObject' },
  {
    name: 'the end of a derivative',
    matches: (event) =>
      /update\s+"derivatives"\s+set[^;]*'ready'/.test(event) ||
      /update\s+"derivatives"\s+set\s+"state"\s*=\s*\$1[^;]*"media_type"/.test(event),
  },
  { name: 'the end of a step', matches: (event) => /update\s+"assets"\s+set[^;]*"thumb_hash"/.test(event) },
  { name: 'the end of a job', matches: (event) => /UPDATE pgboss\.job\w*[\s\S]*SET completed_on/.test(event) },
];

/** Milliseconds for a step to be reached: one that never comes is told by its name. */
const PATIENCE = 300_000;

/** Of those that are killed. */
const working = { ROLE: 'all', SCRATCH_BYTES: '1GiB' };

const picture = async (red: number) =>
  Buffer.from(
    await sharp({ create: { width: 640, height: 480, channels: 3, background: { r: red, g: 90, b: 90 } } })
      .png()
      .toBuffer(),
  );

describe('killed at any moment', { skip: s3Skip() }, () => {
  let rig: Rig;
  before(async () => {
    // Where there is no room for files that tools read, they are left to jobs.
    rig = await Rig.open({ DERIVATIVES: 'true', SCRATCH_BYTES: '1KiB' });
  });
  after(() => rig.close());

  test('the steps of processing: before and after each of their own', async (context) => {
    // The other instance takes files in and must leave the work to the one that is killed.
    await rig.survivor.service.closeWork();
    const owner = `owner-${randomUUID()}`;
    const client = new Client(rig.survivor.url, owner);
    const ids: string[] = [];
    for (const { name, matches } of steps) {
      for (const side of sides) {
        await context.test(`${side} ${name}`, { timeout: PATIENCE }, async () => {
          rig.heal();
          const service = await launch({ ...rig.environment, ...working });
          const struck = Promise.withResolvers<void>();
          const strike = async (event: string) => {
            if (!matches(event)) return;
            service.child.kill('SIGKILL');
            await service.exit;
            struck.resolve();
            throw new Error('killed');
          };
          ids.push(await rig.store(rig.survivor.url, owner, await picture(ids.length), randomUUID()));
          rig.s3[side] = ({ operation }) => strike(`S3 ${operation}`);
          rig.postgres[side] = (statement) => strike(statement);
          await struck.promise;
        });
      }
    }
    rig.heal();
    // One more process takes over all that the dead have left, now that they have not been heard of for long.
    await rig.survivor.query("update pgboss.job set heartbeat_on = now() - interval '1 hour' where state = 'active'");
    await rig.survivor.query(
      "update derivatives set lease_expires_at = now() - interval '1 hour' where state = 'making'",
    );
    const last = await launch({ ...rig.environment, ...working });
    for (const id of ids) {
      const step = async () => (await client.get(`/v1/assets/${id}`)).body.processing?.derive?.state;
      await waitUntil(async () => (await step()) === 'done');
      const { body } = await client.get(`/v1/assets/${id}`);
      assert.equal((await client.get(`/v1/assets/${id}/derivatives/thumbnail`)).status, 200);
      assert.ok(body.facts?.width !== undefined && body.thumbHash !== undefined, JSON.stringify(body));
    }
    await waitUntil(
      async () =>
        (await rig.survivor.query("select from derivatives where state in ('making', 'discarded')")).length === 0,
    );
    await kill(rig, last);
    await rig.assertPromises();
  });
});
