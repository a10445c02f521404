/**
 * New bytes of an asset that were accepted and wait for a step of processing: the job that does the step, and swaps them in,
 * killed as in crash-matrix.ts. Whatever the moment, what was sent is not served before it may be, and in the end the asset
 * has it once, and nothing else.
 */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { markersIn, privateFiles } from '../support/private-files.ts';
import { launch } from '../support/processes.ts';
import { contentsOf, s3Skip } from '../support/s3.ts';
import { waitUntil } from '../support/wait-until.ts';
import { kill, type Side } from './crash-matrix.ts';
import { Rig } from './rig.ts';

const swap = /update "assets" set[^;]*"content_version" = "assets"\."content_version" \+ 1/;
/** What comes after the swap; before its commit is as before the swap, and before the deletion as after the commit. */
const steps: { name: string; event: RegExp; side: Side }[] = [
  { name: 'the commit', event: /^\s*commit/i, side: 'before' },
  { name: 'the commit', event: /^\s*commit/i, side: 'after' },
  { name: 'S3 DeleteObjects', event: /^S3 DeleteObjects$/, side: 'after' },
];

describe('killed at any moment', { skip: s3Skip() }, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.open();
  });
  after(() => rig.close());

  test('the job that swaps in what was accepted: before and after each of its steps', async (context) => {
    // The other instance must leave the work to the one that is killed.
    await rig.survivor.service.closeWork();
    const [file] = await privateFiles();
    assert.ok(file);
    const client = new Client(rig.survivor.url, `owner-${randomUUID()}`);
    const former = png(2000, 7);
    const ids: string[] = [];
    for (const { name, event, side } of steps)
      await context.test(`${side} ${name}`, async () => {
        rig.heal();
        const { body } = await client.raw(former, { name: 'p.png' });
        ids.push(body.id);
        const service = await launch({ ...rig.environment, ROLE: 'all' });
        const struck = Promise.withResolvers<void>();
        let isSwapped = false;
        const strike = async (text: string, at: Side) => {
          if (at === side && isSwapped && event.test(text)) {
            service.child.kill('SIGKILL');
            await service.exit;
            struck.resolve();
            throw new Error('killed');
          }
          isSwapped ||= swap.test(text);
        };
        let statement = '';
        rig.s3.before = ({ operation }) => strike(`S3 ${operation}`, 'before');
        rig.s3.after = ({ operation }) => strike(`S3 ${operation}`, 'after');
        rig.postgres.before = (text) => {
          statement = text;
          return strike(text, 'before');
        };
        rig.postgres.after = () => strike(statement, 'after');
        await replace(new Client(service.url, client.headers['x-user-id']), body.id, file.bytes);
        await struck.promise;
        const { status, body: served } = await client.content(body.id);
        assert.equal(status, 200);
        assert.deepEqual(markersIn(served), []);
      });
    rig.heal();
    // One more process takes over all that the dead have left, now that they have not been heard of for long.
    await rig.survivor.query("update pgboss.job set heartbeat_on = now() - interval '1 hour' where state = 'active'");
    await rig.survivor.query('update derivatives set lease_expires_at = now() where lease_expires_at is not null');
    const last = await launch({ ...rig.environment, ROLE: 'all' });
    await waitUntil(async () => {
      await rig.survivor.query(
        "update pgboss.job set start_after = now() where state = 'retry' or (state = 'created' and name = 'delete-object')",
      );
      const { body } = await client.get('/v1/assets?limit=100');
      const { keys } = await contentsOf(rig.bucket);
      // The bystander of the rig has an object, too.
      return body.data.every((asset) => asset['contentVersion'] === 2) && keys.length === ids.length + 1;
    });
    for (const id of ids) {
      const { body: served } = await client.content(id);
      assert.deepEqual(markersIn(served), []);
      const { body } = await client.get(`/v1/assets/${id}`);
      assert.equal(body.sha256, createHash('sha256').update(served).digest('hex'));
      assert.equal(body.original?.size, file.bytes.length);
    }
    const { body: quota } = await client.get('/v1/quota');
    const { body: list } = await client.get('/v1/assets?limit=100');
    const sum = list.data.reduce((total, { size }) => total + size, 0);
    assert.deepEqual([quota['used'], quota['reserved'], list.data.length], [sum, 0, ids.length]);
    const swaps = await rig.survivor.query("select from audit_events where action = 'asset.replaced'");
    assert.equal(swaps.length, ids.length);
    await kill(rig, last);
  });
});

/** By tus, so that a job has to strip it before it may be served. */
async function replace(client: Client, id: string, bytes: Buffer<ArrayBuffer>): Promise<void> {
  const [name, replaces] = ['a.jpg', id].map((text) => Buffer.from(text).toString('base64'));
  const { status } = await client.request('POST', '/v1/resumable', {
    headers: {
      'tus-resumable': '1.0.0',
      'upload-length': String(bytes.length),
      'upload-metadata': `filename ${name},replaces ${replaces}`,
      'content-type': 'application/offset+octet-stream',
    },
    body: bytes,
  });
  assert.equal(status, 201);
}
