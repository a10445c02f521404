import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BoundedSandbox } from '../../src/processing/tools/bounded-sandbox.ts';
import type { Sandbox, ToolRun } from '../../src/processing/tools/sandbox.ts';
import { ToolError } from '../../src/processing/tools/tool-error.ts';

/** Runs nothing, and ends each run when it is told to. */
class FakeSandbox implements Sandbox {
  readonly running: { input: string; end: (error?: Error) => void }[] = [];
  has = () => true;
  async run<T>({ input }: ToolRun): Promise<T> {
    const ended = Promise.withResolvers<T>();
    this.running.push({
      input,
      end: (error) => (error ? ended.reject(error) : ended.resolve(undefined as T)),
    });
    return ended.promise;
  }
}

const nothing = async () => {};
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('a bounded sandbox', () => {
  test('runs so many programs at once, and the others in the order in which they came', async () => {
    const inner = new FakeSandbox();
    const sandbox = new BoundedSandbox(inner, { size: 2 });
    const runs = ['1', '2', '3', '4'].map((input) => sandbox.run({ program: 'ffmpeg', args: [], input }, nothing));
    await turn();
    assert.deepEqual(
      inner.running.map(({ input }) => input),
      ['1', '2'],
    );
    inner.running[1]?.end();
    await runs[1];
    await turn();
    assert.deepEqual(
      inner.running.map(({ input }) => input),
      ['1', '2', '3'],
    );
    for (const index of [0, 2]) inner.running[index]?.end();
    await turn();
    inner.running[3]?.end();
    await Promise.all(runs);
  });

  test('lets go who does not want to wait any more, and gives the place of what failed to the next', async () => {
    const inner = new FakeSandbox();
    const died: string[] = [];
    const sandbox = new BoundedSandbox(inner, {
      size: 1,
      died: (program, reason) => died.push(`${program} ${reason}`),
    });
    const abort = new AbortController();
    const first = sandbox.run({ program: 'ffmpeg', args: [], input: '1' }, nothing);
    const second = sandbox.run({ program: 'ffmpeg', args: [], input: '2', signal: abort.signal }, nothing);
    const third = sandbox.run({ program: 'pdftoppm', args: [], input: '3' }, nothing);
    abort.abort();
    await assert.rejects(second, { fault: 'aborted' });
    inner.running[0]?.end(new ToolError('timed-out', 'ffmpeg took too long'));
    await assert.rejects(first, { fault: 'timed-out' });
    await turn();
    inner.running[1]?.end(new ToolError('refused', 'pdftoppm cannot read the file'));
    await assert.rejects(third, { fault: 'refused' });
    assert.deepEqual(died, ['ffmpeg timed-out']);
    const last = sandbox.run({ program: 'ffmpeg', args: [], input: '4' }, nothing);
    await turn();
    inner.running[2]?.end();
    await last;
  });

  test('gives a place to whoever has least of it', async () => {
    const inner = new FakeSandbox();
    const sandbox = new BoundedSandbox(inner, { size: 2 });
    const run = (input: string, callerId: string) =>
      sandbox.run({ program: 'ffmpeg', args: [], input, callerId }, nothing);
    const runs = [run('1', 'alice'), run('2', 'alice'), run('3', 'alice'), run('4', 'bob')];
    await turn();
    inner.running[0]?.end();
    await turn();
    inner.running[1]?.end();
    await turn();
    assert.deepEqual(
      inner.running.map(({ input }) => input),
      ['1', '2', '4', '3'],
    );
    for (const index of [2, 3]) inner.running[index]?.end();
    await Promise.all(runs);
  });

  test('begins soon or not at all, for whoever has somebody waiting', async () => {
    const inner = new FakeSandbox();
    const sandbox = new BoundedSandbox(inner, { size: 1 });
    const first = sandbox.run({ program: 'ffmpeg', args: [], input: '1' }, nothing);
    assert.equal(await sandbox.tryRun({ program: 'ffmpeg', args: [], input: '2' }, nothing, 1), undefined);
    const abort = AbortSignal.abort();
    const unwanted = sandbox.tryRun({ program: 'ffmpeg', args: [], input: '3', signal: abort }, nothing, 60_000);
    await assert.rejects(unwanted, { fault: 'aborted' });
    inner.running[0]?.end();
    await first;
    const soon = sandbox.tryRun({ program: 'ffmpeg', args: [], input: '4' }, nothing, 1);
    await turn();
    assert.deepEqual(
      inner.running.map(({ input }) => input),
      ['1', '4'],
    );
    // The time within which it had to begin is no limit of its running.
    await new Promise((resolve) => setTimeout(resolve, 5));
    inner.running[1]?.end();
    assert.deepEqual(await soon, { value: undefined });
  });
});
