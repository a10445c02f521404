/**
 * The job that takes metadata out of a stored file, killed as in crash-matrix.ts. Whatever the moment, what was sent is not
 * served; and in the end the file is there once, without its metadata. Statements of one transaction are one step.
 */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { markersIn, privateFiles } from '../support/private-files.ts';
import { launch } from '../support/processes.ts';
import { contentsOf, s3Skip } from '../support/s3.ts';
import { waitUntil } from '../support/wait-until.ts';
import { kill, sides } from './crash-matrix.ts';
import { Rig } from './rig.ts';

type Side = (typeof sides)[number];

const look = /^\s*select\s+"id", "owner_id", "name",[\s\S]*"processing"[\s\S]*from "assets"/;
const claim = /insert into "derivatives"/;
/** Not that of the upload itself, which has the derivatives that came with it. */
const exchange = /^(?!\s*with "upload")[\s\S]*update "derivatives" set "state"[^;]*"object_key"/;

/** @param behind what comes before it, where others of its kind come earlier */
const steps: { name: string; event: RegExp; behind?: RegExp; sides?: Side[] }[] = [
  { name: 'the look at the record', event: look, sides: ['before'] },
  { name: 'S3 PutObject', event: /^S3 PutObject$/, behind: claim },
  { name: 'the switch of the record', event: /with "changed" as \(update "assets"/, sides: ['after'] },
  { name: 'the commit', event: /^\s*commit/i, behind: exchange },
  { name: 'S3 DeleteObjects', event: /^S3 DeleteObjects$/, behind: exchange },
  { name: 'the end of the row of what was sent', event: /delete from "derivatives"/, sides: ['after'] },
];

describe('killed at any moment', { skip: s3Skip() }, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.open();
  });
  after(() => rig.close());

  test('the job that strips: before and after each of its steps', async (context) => {
    // The other instance must leave the work to the one that is killed.
    await rig.survivor.service.closeWork();
    const [file] = await privateFiles();
    assert.ok(file);
    const client = new Client(rig.survivor.url, `owner-${randomUUID()}`);
    const ids: string[] = [];
    for (const { name, event, behind, sides: which = sides } of steps)
      for (const side of which)
        await context.test(`${side} ${name}`, async () => {
          rig.heal();
          const service = await launch({ ...rig.environment, ROLE: 'all' });
          const struck = Promise.withResolvers<void>();
          let isNear = behind === undefined;
          const strike = async (text: string, at: Side) => {
            if (at === side && isNear && event.test(text)) {
              service.child.kill('SIGKILL');
              await service.exit;
              struck.resolve();
              throw new Error('killed');
            }
            isNear ||= behind?.test(text) === true;
          };
          let statement = '';
          rig.s3.before = ({ operation }) => strike(`S3 ${operation}`, 'before');
          rig.s3.after = ({ operation }) => strike(`S3 ${operation}`, 'after');
          rig.postgres.before = (text) => {
            statement = text;
            return strike(text, 'before');
          };
          rig.postgres.after = () => strike(statement, 'after');
          ids.push(await begin(new Client(service.url, client.headers['x-user-id']), file.bytes));
          await struck.promise;
          await requireNothingPrivate(client, ids.at(-1) ?? '');
        });
    rig.heal();
    // One more process takes over all that the dead have left, now that they have not been heard of for long.
    await rig.survivor.query("update pgboss.job set heartbeat_on = now() - interval '1 hour' where state = 'active'");
    await rig.survivor.query('update derivatives set lease_expires_at = now() where lease_expires_at is not null');
    const last = await launch({ ...rig.environment, ROLE: 'all' });
    await waitUntil(async () => {
      await rig.survivor.query("update pgboss.job set start_after = now() where state = 'retry'");
      const { keys } = await contentsOf(rig.bucket);
      const objects = ids.map((id) => keys.filter((key) => key.includes(id)).length);
      const { body } = await client.get('/v1/assets?limit=100');
      return body.data.every(({ state }) => state === 'ready') && objects.every((count) => count === 1);
    });
    for (const id of ids) {
      const content = await requireNothingPrivate(client, id);
      const { body } = await client.get(`/v1/assets/${id}`);
      assert.equal(body.sha256, createHash('sha256').update(content).digest('hex'));
      assert.equal(body.original?.size, file.bytes.length);
    }
    const { body } = await client.get('/v1/quota');
    const { body: list } = await client.get('/v1/assets?limit=100');
    assert.equal(
      body['used'],
      list.data.reduce((sum, { size }) => sum + size, 0),
    );
    await kill(rig, last);
    await rig.assertPromises();
  });
});

/** Sends the file by tus, so that a job has to strip it. @returns its id */
async function begin(client: Client, bytes: Buffer<ArrayBuffer>): Promise<string> {
  const name = Buffer.from('a.jpg').toString('base64');
  const { status, headers } = await client.request('POST', '/v1/resumable', {
    headers: {
      'tus-resumable': '1.0.0',
      'upload-length': String(bytes.length),
      'upload-metadata': `filename ${name}`,
      'content-type': 'application/offset+octet-stream',
    },
    body: bytes,
  });
  assert.equal(status, 201);
  return headers.get('location')?.split('/').at(-1) ?? '';
}

/** @returns what is served, if anything */
async function requireNothingPrivate(client: Client, id: string): Promise<Buffer> {
  const { status, body } = await client.content(id);
  assert.deepEqual(markersIn(body), []);
  assert.ok(status === 200 || status === 409, String(status));
  return status === 200 ? body : Buffer.alloc(0);
}
