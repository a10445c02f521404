/** The job that deletes what an asset left in the store, killed as in crash-matrix.ts. Its steps are told by what they do. */
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { png } from '../support/files.ts';
import { launch } from '../support/processes.ts';
import { s3Skip } from '../support/s3.ts';
import { kill, sides } from './crash-matrix.ts';
import { Rig } from './rig.ts';

const steps: { name: string; matches: (event: string) => boolean }[] = [
  {
    name: 'the look at the record',
    matches: (event) => /^\s*select\s+"?object_key"?\s+from\s+"?assets"?\s/.test(event),
  },
  { name: 'S3 ListMultipartUploads', matches: (event) => event === 'S3 ListMultipartUploads' },
  { name: 'S3 ListObjectsV2', matches: (event) => event === 'S3 ListObjectsV2' },
  { name: 'S3 DeleteObjects', matches: (event) => event === 'S3 DeleteObjects' },
  { name: 'the end of the record', matches: (event) => /delete\s+from\s+"?assets"?/.test(event) },
  { name: 'the end of the job', matches: (event) => /UPDATE pgboss\.job\w*[\s\S]*SET completed_on/.test(event) },
];

describe('killed at any moment', { skip: s3Skip() }, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.open();
  });
  after(() => rig.close());

  test('the job that deletes: before and after each of its steps', async (context) => {
    // The other instance must leave the work to the one that is killed.
    await rig.survivor.service.closeWork();
    const owner = `owner-${randomUUID()}`;
    for (const { name, matches } of steps) {
      for (const side of sides) {
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
    // One more process takes over all that the dead have left, now that they have not been heard of for long.
    await rig.survivor.query("update pgboss.job set heartbeat_on = now() - interval '1 hour' where state = 'active'");
    const last = await launch({ ...rig.environment, ROLE: 'all' });
    await rig.nothingDeleting();
    await kill(rig, last);
    await rig.assertPromises();
  });
});
