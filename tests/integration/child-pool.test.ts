/** Processes for libraries that read hostile bytes: killed when they must be, bounded, and fair to all callers. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ChildPool, PoolBusy, type PoolOptions } from '../../src/processing/tools/child-pool.ts';
import { Confinement, confinementHere, locate } from '../../src/processing/tools/confinement.ts';
import { Scratch } from '../../src/processing/tools/scratch.ts';
import { ToolError } from '../../src/processing/tools/tool-error.ts';
import { descendants, processesNamed, residentMemory } from '../support/process-tree.ts';
import type { TestTask } from '../support/test-worker.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 2 ** 20;
const workerFile = () => fileURLToPath(new URL('../support/test-worker.ts', import.meta.url));
const confinement = await confinementHere();
const isLimited = confinement.level !== 'time';
const isIsolated = confinement.level === 'bubblewrap';

describe('the pool of children', () => {
  const scratch = new Scratch({ bytes: 64 * MiB });
  const told: unknown[][] = [];
  const pools: ChildPool<string>[] = [];
  const open = (options: Partial<PoolOptions> = {}) => {
    const pool = new ChildPool<string>({
      ...{ size: 1, memory: 128 * MiB, cpuSeconds: 30, recycleAfter: 100, scratch: scratch.directory, workerFile },
      observer: {
        task: (module, outcome, seconds) => told.push(['task', module, outcome, seconds > 0]),
        died: (module, reason) => told.push(['died', module, reason]),
      },
      ...options,
    });
    pools.push(pool);
    return pool;
  };
  const run = (pool: ChildPool<string>, input: TestTask, options = {}) =>
    pool.run<unknown>({ module: 'test', input }, { seconds: 60, ...options });
  const faultOf = (task: Promise<unknown>) =>
    task.then(
      () => assert.fail('it ended well'),
      (error: Error) => (error instanceof ToolError ? error.fault : error.name),
    );

  before(() => scratch.prepare());
  afterEach(async () => {
    await Promise.all(pools.splice(0).map((pool) => pool.close()));
    told.length = 0;
  });
  after(() => scratch.close());

  test('starts no child before there is a task, and ends those that have none', async () => {
    const pool = open({ idleAfter: 50 });
    assert.equal(pool.size, 0);
    assert.equal(await run(pool, { do: 'answer', value: 7 }), 7);
    assert.equal(pool.size, 1);
    await waitUntil(() => pool.size === 0);
    assert.deepEqual(told, [['task', 'test', 'done', true]]);
    assert.equal(readdirSync(scratch.directory).filter((name) => name.startsWith('child')).length, 0);
  });

  test('kills what takes too long or is not wanted any more, and goes on with a fresh child', async () => {
    const pool = open();
    await run(pool, { do: 'answer' });
    assert.equal(await faultOf(run(pool, { do: 'burn' }, { seconds: 0.3 })), 'timed-out');
    const abort = new AbortController();
    const waiting = run(pool, { do: 'burn' }, { signal: abort.signal });
    await waitUntil(() => told.some(([kind]) => kind === 'died') && pool.size === 1);
    abort.abort();
    assert.equal(await faultOf(waiting), 'aborted');
    assert.equal(await faultOf(run(pool, { do: 'answer' }, { signal: abort.signal })), 'aborted');
    assert.equal(await run(pool, { do: 'answer', value: 'fresh' }), 'fresh');
    await waitUntil(() => descendants(process.pid).length <= 3);
  });

  test('tells a file that is refused from a process that died', async () => {
    const pool = open();
    const reason = 'the header is not whole';
    await assert.rejects(run(pool, { do: 'refuse', reason }), { fault: 'refused', message: reason });
    assert.equal(await faultOf(run(pool, { do: 'crash' })), 'crashed');
    const task = run(pool, { do: 'wait', milliseconds: 600_000 });
    // The last of those that confine it is the process of Node itself.
    const isWorker = (pid: number) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('test-worker');
    const worker = await waitUntil(() => descendants(process.pid).findLast(isWorker));
    assert.ok(worker);
    process.kill(worker, 'SIGKILL');
    assert.equal(await faultOf(task), 'crashed');
    assert.equal(await run(pool, { do: 'answer', value: 'fresh' }), 'fresh');
    assert.deepEqual(
      told.filter(([kind]) => kind === 'died'),
      [
        ['died', 'test', 'crashed'],
        ['died', 'test', 'crashed'],
      ],
    );
  });

  test('bounds the memory of a child, within V8 and outside of it', { skip: !isLimited }, async () => {
    const pool = open({ memory: 192 * MiB });
    let highest = 0;
    const watch = setInterval(() => {
      for (const pid of descendants(process.pid)) highest = Math.max(highest, residentMemory(pid));
    }, 20);
    assert.equal(await faultOf(run(pool, { do: 'allocate' })), 'out-of-memory');
    assert.equal(await faultOf(run(pool, { do: 'fill-the-heap' })), 'out-of-memory');
    clearInterval(watch);
    assert.ok(highest > 100 * MiB, `${highest}`);
    assert.ok(highest < 450 * MiB, `${highest}`);
    assert.equal(await run(pool, { do: 'answer', value: 1 }), 1);
  });

  test('gives a child no credentials and no more than it needs', async () => {
    process.env['S3_SECRET_ACCESS_KEY'] = 'secret';
    const pool = open();
    const task = run(pool, { do: 'tell' });
    const { environment, limits } = (await task) as { environment: object; limits: string };
    delete process.env['S3_SECRET_ACCESS_KEY'];
    // The last one is handed on by Node itself, where the coverage of tests is measured.
    const usual = [
      'PATH',
      'LC_ALL',
      'TMPDIR',
      'MALLOC_ARENA_MAX',
      'UV_THREADPOOL_SIZE',
      'PWD',
      'STOWAGE_RUN',
      'NODE_V8_COVERAGE',
    ];
    assert.deepEqual(
      Object.keys(environment).filter((name) => !usual.includes(name)),
      [],
    );
    if (isLimited) for (const limit of [/core file size +0 /, /open files +64 /]) assert.match(limits, limit);
  });

  test('lets a child reach no network and write nowhere else', { skip: !isIsolated }, async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const address = server.address();
    const port = address instanceof Object ? address.port : 0;
    writeFileSync(join(scratch.directory, 'input'), 'of another');
    const pool = open();
    assert.match(String(await run(pool, { do: 'connect', port })), /ECONNREFUSED|ENETUNREACH/);
    server.close();
    for (const path of [join(scratch.directory, 'input'), '/tmp/new', '/dev/shm/new', workerFile()])
      await assert.rejects(run(pool, { do: 'write', path }), { fault: 'refused' });
    await assert.rejects(run(pool, { do: 'list', directory: fileURLToPath(new URL('../../docs', import.meta.url)) }));
  });

  test('shows a child the file of its task as long as that runs, and no other file', {
    skip: !isIsolated,
  }, async () => {
    const pool = open();
    const [own, other] = ['own', 'other'].map((name) => join(scratch.directory, name)) as [string, string];
    for (const path of [own, other]) writeFileSync(path, path);
    const read = (path?: string) =>
      pool.run<string>(
        { module: 'test', input: { do: 'read', ...(path !== undefined && { path }) }, file: own },
        { seconds: 60 },
      );
    assert.equal(await read(), own);
    for (const path of [own, other, '/etc/passwd', `/proc/${process.pid}/environ`])
      await assert.rejects(read(path), { fault: 'refused' }, path);
    // Where its own directory lies, and nothing else.
    assert.match(String(await run(pool, { do: 'list', directory: scratch.directory })), /^child-[0-9a-f-]+$/);
    const damaging = { module: 'test', input: { do: 'read-and-damage' }, file: own };
    assert.equal(await pool.run(damaging, { seconds: 60 }), own);
    assert.equal(readFileSync(own, 'utf8'), own);
    // Of the tasks before it finds nothing.
    await assert.rejects(run(pool, { do: 'read' }), { fault: 'refused' });
    assert.equal(pool.size, 1);
  });

  test('ends what a child has started in a session of its own, with the child', async () => {
    const helpers = { prlimit: locate('prlimit'), setpriv: locate('setpriv') };
    const unshared = new Confinement({ ...helpers, unshare: locate('unshare') });
    const levels = [confinement, new Confinement(helpers), new Confinement({}), ...(isIsolated ? [unshared] : [])];
    for (const [index, one] of levels.entries()) {
      const seconds = `6${index}${String(Date.now()).slice(-6)}`;
      const pool = open({ confinement: one });
      await run(pool, { do: 'leave-behind', seconds });
      await waitUntil(() => processesNamed(`sleep ${seconds}`).length === 1);
      await pool.close();
      await waitUntil(() => processesNamed(`sleep ${seconds}`).length === 0);
    }
  });

  test('hands over what a task wrote: plain files, and nothing of an earlier task', async () => {
    const pool = open();
    const [first, second] = ['first', 'second'].map((name) => join(scratch.directory, name)) as [string, string];
    for (const directory of [first, second]) mkdirSync(directory);
    await run(pool, { do: 'output' });
    await pool.run({ module: 'test', input: { do: 'answer' } }, { seconds: 60 });
    await pool.run({ module: 'test', input: { do: 'output' }, outputDirectory: first }, { seconds: 60 });
    await pool.run({ module: 'test', input: { do: 'answer' }, outputDirectory: second }, { seconds: 60 });
    assert.deepEqual([readdirSync(first), readdirSync(second)], [['plain'], []]);
  });

  test('lets callers take turns, however much one of them wants', async () => {
    const pool = open();
    const order: string[] = [];
    const task = (callerId: string) => run(pool, { do: 'answer' }, { callerId }).then(() => void order.push(callerId));
    const greedy = Array.from({ length: 100 }, () => task('greedy'));
    const modest = task('modest');
    await modest;
    assert.ok(order.length <= 3, `${order.length}`);
    await Promise.all(greedy);
    assert.equal(order.length, 101);
  });

  test('bounds how many tasks wait, and leaves room for others', async () => {
    const pool = open({ maxWaiting: 10 });
    const first = run(pool, { do: 'wait', milliseconds: 600_000 }, { callerId: 'greedy' });
    first.catch(() => {});
    const results = Array.from({ length: 30 }, () => faultOf(run(pool, { do: 'answer' }, { callerId: 'greedy' })));
    const modest = run(pool, { do: 'answer' }, { callerId: 'modest' });
    modest.catch(() => {});
    assert.equal(await results[29], 'PoolBusy');
    assert.ok(PoolBusy.prototype instanceof Error);
    assert.equal(pool.waiting, 7);
    await pool.close();
    assert.equal(await faultOf(modest), 'aborted');
  });

  test('begins at once or not at all, for whoever has somebody waiting', async () => {
    const pool = open();
    const task = { module: 'test', input: { do: 'answer', value: 'soon' } };
    assert.deepEqual(await pool.tryRun(task, { seconds: 60, wait: 60_000 }), { value: 'soon' });
    const abort = new AbortController();
    const long = run(pool, { do: 'wait', milliseconds: 600_000 }, { signal: abort.signal });
    assert.equal(await pool.tryRun(task, { seconds: 60, wait: 20 }), undefined);
    assert.equal(pool.waiting, 0);
    abort.abort();
    await assert.rejects(long);
    assert.deepEqual(await pool.tryRun(task, { seconds: 60, wait: 60_000 }), { value: 'soon' });
  });

  test('replaces a child after so many tasks, and one of another module when there is no place', async () => {
    const pool = open({ recycleAfter: 2 });
    const identity = async (module: string) => {
      const { environment } = await pool.run<{ environment: { TMPDIR: string } }>(
        { module, input: { do: 'tell' } },
        { seconds: 60 },
      );
      return environment.TMPDIR;
    };
    const [a, b, c] = [await identity('one'), await identity('one'), await identity('one')];
    assert.equal(a, b);
    assert.notEqual(b, c);
    assert.notEqual(await identity('two'), c);
    assert.equal(pool.size, 1);
  });

  test('replaces a child that ran out of memory, though it lives', async () => {
    const pool = open();
    const place = async () => (await run(pool, { do: 'tell' })) as { environment: { TMPDIR: string } };
    const before = (await place()).environment.TMPDIR;
    assert.equal(await faultOf(run(pool, { do: 'refuse', reason: 'cannot allocate memory' })), 'out-of-memory');
    assert.notEqual((await place()).environment.TMPDIR, before);
  });

  test('works without bubblewrap, and without limits where there are none', async () => {
    const helpers = { prlimit: locate('prlimit') };
    for (const one of [new Confinement(helpers), new Confinement({})]) {
      const pool = open({ confinement: one });
      assert.equal(await run(pool, { do: 'answer', value: one.level }), one.level);
      assert.equal(await faultOf(run(pool, { do: 'burn' }, { seconds: 0.2 })), 'timed-out');
    }
  });
});
