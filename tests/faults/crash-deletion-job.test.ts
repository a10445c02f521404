/**
 * The jobs that delete what assets left in the store, killed as in crash-matrix.ts. They are run together: some for assets
 * that were put by one request, one for an asset in parts. Their steps are told by what they do.
 */
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { glb, png } from '../support/files.ts';
import { launch } from '../support/processes.ts';
import { s3Skip } from '../support/s3.ts';
import { kill, sides } from './crash-matrix.ts';
import { Rig } from './rig.ts';

const MiB = 1024 * 1024;

const steps: { name: string; matches: (event: string) => boolean }[] = [
  {
    name: 'the look at the records',
    matches: (event) => /^\s*select\s[^;]*"stored_whole",[^;]*\sfrom\s+"assets"\s/.test(event),
  },
  { name: 'S3 ListMultipartUploads', matches: (event) => event === 'S3 ListMultipartUploads' },
  { name: 'S3 ListObjectsV2', matches: (event) => event === 'S3 ListObjectsV2' },
  { name: 'S3 DeleteObjects', matches: (event) => event === 'S3 DeleteObjects' },
  { name: 'the fence', matches: (event) => /UPDATE pgboss\.job\w*\s+SET heartbeat_on/.test(event) },
  { name: 'the end of the records', matches: (event) => /delete\s+from\s+"?assets"?/.test(event) },
  { name: 'the end of the jobs', matches: (event) => /UPDATE pgboss\.job\w*[\s\S]*SET completed_on/.test(event) },
];

describe('killed at any moment', { skip: s3Skip() }, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.open();
  });
  after(() => rig.close());

  test('the jobs that delete: before and after each of its steps', async (context) => {
    // The other instance must leave the work to the one that is killed.
    await rig.survivor.service.closeWork();
    const owner = `owner-${randomUUID()}`;
    for (const { name, matches } of steps) {
      for (const side of sides) {
        await context.test(`${side} ${name}`, async () => {
          rig.heal();
          const service = await launch({ ...rig.environment, ROLE: 'all' });
          const files = [png(2000, 8), png(2000, 9), glb(6 * MiB, 3), png(2000, 10)];
          const ids: string[] = [];
          for (const file of files) ids.push(await rig.store(service.url, owner, file, randomUUID()));
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
          await rig.removeAll(service.url, owner, ids, randomUUID()).catch(() => {});
          await struck.promise;
        });
      }
    }
    rig.heal();
    // One more process takes over all that the dead have left, now that they have not been heard of for long.
    await rig.survivor.query("update pgboss.job set heartbeat_on = now() - interval '1 hour' where state = 'active'");
    const last = await launch({ ...rig.environment, ROLE: 'all' });
    await rig.nothingDeleting();
    await kill(rig, last);
    await rig.assertPromises();
  });
});
