/** Where files lie that tools read: fetched once, shared, bounded, and removed whatever happens. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Scratch, ScratchFull, type ScratchOptions } from '../../src/processing/tools/scratch.ts';
import { waitUntil } from '../support/wait-until.ts';

describe('the scratch directory', () => {
  let place = '';
  const opened: Scratch[] = [];
  const open = (options: Partial<ScratchOptions> = {}) => {
    const scratch = new Scratch({ directory: place, bytes: 100, ...options });
    opened.push(scratch);
    return scratch;
  };
  let fetches: string[] = [];
  const fetch = (content: string) => async (path: string) => {
    fetches.push(content);
    writeFileSync(path, content);
  };
  beforeEach(() => {
    place = mkdtempSync(join(tmpdir(), 'stowage-test-scratch-'));
    fetches = [];
  });
  afterEach(async () => {
    for (const scratch of opened.splice(0)) await scratch.close();
    assert.deepEqual(readdirSync(place), []);
    rmSync(place, { recursive: true });
  });

  test('fetches a file once for all who use it, and gives each a directory of its own', async () => {
    const scratch = open();
    const uses = await Promise.all(['a', 'a', 'a'].map((key) => scratch.open(key, fetch(key), 60)));
    assert.deepEqual(fetches, ['a']);
    assert.equal(new Set(uses.map(({ path }) => path)).size, 1);
    assert.equal(new Set(uses.map(({ directory }) => directory)).size, 3);
    assert.equal(readFileSync(uses[0]?.path ?? '', 'utf8'), 'a');
    assert.equal(statSync(scratch.directory).mode & 0o777, 0o700);
    for (const use of uses) await use[Symbol.asyncDispose]();
    for (const { directory } of uses) assert.ok(!existsSync(directory));
    // It is kept for the next step.
    await using again = await scratch.open('a', fetch('a'), 60);
    assert.deepEqual([fetches, existsSync(again.path)], [['a'], true]);
  });

  test('removes a file some time after its last use', async () => {
    const scratch = open({ keep: 5 });
    const use = await scratch.open('a', fetch('a'), 60);
    await use[Symbol.asyncDispose]();
    await use[Symbol.asyncDispose]();
    await waitUntil(() => scratch.used === 0);
    assert.deepEqual(readdirSync(scratch.directory), []);
  });

  test('drops what nobody uses for what comes, the least recently used first', async () => {
    const scratch = open();
    for (const key of ['a', 'b', 'c', 'a']) await (await scratch.open(key, fetch(key), 30))[Symbol.asyncDispose]();
    await using _ = await scratch.open('d', fetch('d'), 30);
    assert.equal(scratch.used, 90);
    for (const key of ['a', 'c', 'b']) await (await scratch.open(key, fetch(key), 30))[Symbol.asyncDispose]();
    assert.deepEqual(fetches, ['a', 'b', 'c', 'd', 'b']);
  });

  test('waits for room, and refuses when there is none in time or ever', async () => {
    const scratch = open();
    const first = await scratch.open('a', fetch('a'), 60);
    await assert.rejects(scratch.open('vast', fetch('vast'), 101), ScratchFull);
    await assert.rejects(scratch.open('b', fetch('b'), 60, { wait: 5 }), ScratchFull);
    const abort = new AbortController();
    const aborted = scratch.open('b', fetch('b'), 60, { signal: abort.signal });
    const waiting = scratch.open('c', fetch('c'), 60, { outputs: 30 });
    abort.abort(new Error('not wanted'));
    await assert.rejects(aborted, /not wanted/);
    await first[Symbol.asyncDispose]();
    const use = await waiting;
    assert.deepEqual([fetches, scratch.used], [['a', 'c'], 90]);
    assert.equal(readdirSync(scratch.directory).length, 1);
    await use[Symbol.asyncDispose]();
    assert.equal(scratch.used, 60);
  });

  test('fetches again what could not be fetched, and keeps no bytes of it', async () => {
    const scratch = open();
    const failing = () => Promise.reject(new Error('the store is away'));
    const both = ['a', 'a'].map((key) => scratch.open(key, failing, 60));
    for (const one of both) await assert.rejects(one, /the store is away/);
    await waitUntil(() => scratch.used === 0);
    await using use = await scratch.open('a', fetch('a'), 60);
    assert.equal(readFileSync(use.path, 'utf8'), 'a');
  });

  test('ends a fetch when nobody wants the file any more, and not before', async () => {
    const scratch = open();
    let ended = false;
    const endless = (_path: string, signal: AbortSignal) =>
      once(signal, 'abort').then(() => {
        ended = true;
        throw signal.reason;
      });
    const [one, other] = [new AbortController(), new AbortController()];
    const uses = [one, other].map(({ signal }) => scratch.open('a', endless, 60, { signal }));
    await waitUntil(() => scratch.used === 60);
    one.abort();
    await assert.rejects(uses[0] ?? Promise.resolve());
    assert.equal(ended, false);
    other.abort();
    await assert.rejects(uses[1] ?? Promise.resolve());
    await waitUntil(() => ended && scratch.used === 0);
  });

  test('removes what a process left that died, and nothing of one that lives', async () => {
    const module = fileURLToPath(new URL('../../src/processing/tools/scratch.ts', import.meta.url));
    const script = `const { Scratch } = await import(${JSON.stringify(module)});
      const scratch = new Scratch({ directory: ${JSON.stringify(place)}, bytes: 100 });
      await scratch.open('a', async () => {}, 1);
      console.log(scratch.directory);
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = await once(child.stdout, 'data');
    const left = String(line).trim();
    const old = join(place, left.slice(dirname(left).length + 1).replace(/~[^~]+/, '~another-machine'));
    mkdirSync(old);
    const young = `${old.slice(0, -1)}0`;
    mkdirSync(young);
    mkdirSync(join(place, 'of-somebody-else'));
    utimesSync(old, 0, 0);
    await open().prepare();
    assert.deepEqual([left, old, young].map(existsSync), [true, false, true]);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await open().prepare();
    assert.deepEqual([left, young, join(place, 'of-somebody-else')].map(existsSync), [false, true, true]);
    rmSync(young, { recursive: true });
    rmSync(join(place, 'of-somebody-else'), { recursive: true });
  });
});
