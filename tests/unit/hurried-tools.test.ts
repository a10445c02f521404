import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hurriedTools, NoPlace } from '../../src/processing/hurried-tools.ts';
import { BoundedSandbox } from '../../src/processing/tools/bounded-sandbox.ts';
import { ChildPool } from '../../src/processing/tools/child-pool.ts';
import type { Sandbox, ToolRun } from '../../src/processing/tools/sandbox.ts';

/** Runs nothing, and ends no run before it is told to. */
class FakeSandbox implements Sandbox {
  readonly runs: ToolRun[] = [];
  readonly end = Promise.withResolvers<void>();
  has = () => true;
  async run<T>(run: ToolRun, consume: (stdout: AsyncIterable<Buffer>) => Promise<T>): Promise<T> {
    this.runs.push(run);
    await this.end.promise;
    return consume(
      (async function* () {
        yield Buffer.from('told');
      })(),
    );
  }
}

describe('tools for whoever has somebody waiting', () => {
  const program = { program: 'ffprobe', args: [], input: 'file' } as const;
  const pool = () =>
    new ChildPool({ size: 1, memory: 2 ** 20, cpuSeconds: 1, recycleAfter: 1, scratch: '/nowhere', maxWaiting: 0 });

  test('of the system begin soon or not at all, and callers take turns', async () => {
    const inner = new FakeSandbox();
    const bounded = new BoundedSandbox(inner, { size: 1 });
    const tools = hurriedTools({ pool: pool(), sandbox: Promise.resolve(bounded) }, { wait: 1, callerId: 'alice' });
    const sandbox = await tools.sandbox;
    const first = sandbox.run(program, async () => 'first');
    await assert.rejects(
      sandbox.run(program, async () => 'second'),
      NoPlace,
    );
    inner.end.resolve();
    assert.equal(await first, 'first');
    assert.deepEqual(
      inner.runs.map(({ callerId }) => callerId),
      ['alice'],
    );
  });

  test('of our own begin soon or not at all', async () => {
    const sandbox = Promise.resolve(new BoundedSandbox(new FakeSandbox(), { size: 1 }));
    const tools = hurriedTools({ pool: pool(), sandbox }, { wait: 1, callerId: 'alice' });
    await assert.rejects(tools.pool.run({ module: 'models', input: {} }, { seconds: 1 }), NoPlace);
    await assert.rejects(tools.pictures.facts('file'), NoPlace);
  });
});
