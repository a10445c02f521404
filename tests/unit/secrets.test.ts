import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, test } from 'node:test';
import { secretIn } from '../../src/secrets.ts';

describe('secrets', () => {
  const root = mkdtempSync(join(tmpdir(), 'stowage-secrets-'));
  after(() => rmSync(root, { recursive: true, force: true }));
  let directory: string;
  let count = 0;
  beforeEach(() => {
    directory = join(root, String(count++), 'data');
  });
  const modeOf = (path: string) => statSync(path).mode & 0o777;

  test('are made once, with 32 bytes, in a directory and a file for the owner alone, and nothing else is left', () => {
    const secret = secretIn(directory, 'link-secret');
    assert.equal(secret.length, 32);
    assert.deepEqual(secretIn(directory, 'link-secret'), secret);
    assert.notDeepEqual(secretIn(directory, 'postgres-password'), secret);
    assert.deepEqual(readdirSync(directory).sort(), ['link-secret', 'postgres-password']);
    assert.equal(modeOf(directory), 0o700);
    assert.equal(modeOf(join(directory, 'link-secret')), 0o600);
  });

  test('processes that start together agree on one', async () => {
    const module = new URL('../../src/secrets.ts', import.meta.url).href;
    const script = `const { secretIn } = await import(${JSON.stringify(module)});
      process.stdin.once('data', () => { process.stdout.write(secretIn(process.argv[1], 'link-secret').toString('hex')); process.exit(); });
      process.stdout.write('ready ');`;
    const children = Array.from({ length: 4 }, () =>
      spawn(process.execPath, ['--input-type=module', '-e', script, directory], { stdio: ['pipe', 'pipe', 'inherit'] }),
    );
    const outputs = children.map((child) => {
      let text = '';
      const ready = new Promise<void>((resolve) => {
        child.stdout.on('data', (chunk) => {
          text += chunk;
          if (text.startsWith('ready ')) resolve();
        });
      });
      const done = new Promise<string>((resolve) => child.once('close', () => resolve(text)));
      return { ready, done };
    });
    await Promise.all(outputs.map(({ ready }) => ready));
    for (const child of children) child.stdin.write('go');
    const secrets = new Set(await Promise.all(outputs.map(({ done }) => done)));
    assert.equal(secrets.size, 1, [...secrets].join());
    assert.match([...secrets][0] ?? '', /^ready [0-9a-f]{64}$/);
    assert.deepEqual(readdirSync(directory), ['link-secret']);
  });

  for (const [what, content] of [
    ['an empty file', ''],
    ['white space', '\n'],
    ['half a secret', 'ab'.repeat(16)],
    ['a digit less', 'a'.repeat(63)],
    ['a digit more', 'a'.repeat(65)],
    ['something else', 'z'.repeat(64)],
    ['zeros where the disk lost them', '\0'.repeat(64)],
    ['a secret with a hole', `${'ab'.repeat(16)}\0\0${'ab'.repeat(15)}`],
  ] as const)
    for (const name of ['link-secret', 'postgres-password'] as const)
      test(`${what} as ${name} is refused in one sentence that names the file and what to do`, () => {
        mkdirSync(directory, { recursive: true });
        writeFileSync(join(directory, name), content);
        assert.throws(() => secretIn(directory, name), {
          message: new RegExp(`^The secret ${join(directory, name)} is (?:empty|damaged): .*32 bytes.*backup`),
        });
        assert.equal(readFileSync(join(directory, name), 'latin1'), content, 'it is left for its owner to look at');
      });

  test('what cannot be read is told with its reason', () => {
    mkdirSync(join(directory, 'link-secret'), { recursive: true });
    assert.throws(() => secretIn(directory, 'link-secret'), /cannot be read \(EISDIR/);
  });

  test('open directories and files of earlier versions are closed, but not a directory that others use too', () => {
    mkdirSync(directory, { recursive: true });
    chmodSync(directory, 0o755);
    writeFileSync(join(directory, 'link-secret'), 'ab'.repeat(32), { mode: 0o644 });
    assert.deepEqual(secretIn(directory, 'link-secret'), Buffer.alloc(32, 0xab));
    assert.equal(modeOf(directory), 0o700);
    assert.equal(modeOf(join(directory, 'link-secret')), 0o600);
    chmodSync(directory, 0o755);
    writeFileSync(join(directory, 'index.html'), '');
    secretIn(directory, 'link-secret');
    assert.equal(modeOf(directory), 0o755);
  });
});
