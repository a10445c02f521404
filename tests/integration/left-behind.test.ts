/** What could stay when a process dies, or an asset goes while something is made of it. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Client } from '../support/client.ts';
import { picture } from '../support/pictures.ts';
import { startService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

test('what a process left that died is removed at the next start, before any file comes', async (context) => {
  const place = mkdtempSync(join(tmpdir(), 'stowage-test-left-'));
  // No process has this number (proc_sys_kernel(5), pid_max).
  const left = join(place, `stowage-scratch~${hostname().replace(/[^\w.-]/g, '_')}~4194305~1~${randomUUID()}`);
  mkdirSync(left);
  writeFileSync(join(left, 'input'), 'somebody’s picture');
  const service = await startService({ env: { SCRATCH_DIR: place } });
  context.after(async () => {
    await service.close();
    assert.deepEqual(readdirSync(place), []);
    rmSync(place, { recursive: true });
  });
  await waitUntil(() => !existsSync(left));
});

test('what is stored while its asset is being removed goes too, though its object was looked for before', async (context) => {
  const [open, isOpen] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let derivatives = 0;
  const wrapStore = (inner: ObjectStore): ObjectStore =>
    new Proxy(inner, {
      get: (target, name) => {
        const value = Reflect.get(target, name);
        if (name === 'putStream')
          return async (...all: Parameters<ObjectStore['putStream']>) => {
            derivatives += 1;
            await open.promise;
            return target.putStream(...all);
          };
        if (name === 'deleteAll')
          return async (...all: Parameters<ObjectStore['deleteAll']>) => {
            const result = await target.deleteAll(...all);
            // Its maker has just been waiting for this.
            open.resolve();
            await isOpen.promise;
            return result;
          };
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  const service = await startService({ wrapStore, env: { DERIVATIVES: 'true' } });
  context.after(() => service.close());
  const client = new Client(service.url);
  // So large that its thumbnail is made by a job, and not before the answer.
  const large = await picture({ width: 5000, height: 3600, format: 'png' });
  const { body } = await client.raw(large, { name: 'photo.png' });
  await waitUntil(() => derivatives > 0);
  await client.request('DELETE', `/v1/assets/${body.id}?permanent=true`);
  await open.promise;
  await waitUntil(
    async () =>
      (await service.query("select from pgboss.job where name = 'derive' and state < 'completed'")).length === 0,
  );
  isOpen.resolve();
  await waitUntil(async () => (await service.query('select from assets')).length === 0);
  await service.query("update pgboss.job set start_after = now() where name = 'discard-derivative'");
  await waitUntil(async () => (await service.query('select from derivatives')).length === 0);
  for await (const page of service.store.list('', {})) assert.deepEqual(page, []);
});
