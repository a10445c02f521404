/** Files that tools read lie in a directory of the process; what one that was killed has left there goes at the next start. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
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
