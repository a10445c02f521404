import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { errorForLog, sourceStack } from '../../src/source-stack.ts';

const directory = mkdtempSync(join(tmpdir(), 'stowage-test-stack-'));
after(() => rmSync(directory, { recursive: true }));
const folder = `${pathToFileURL(directory).href}/`;

describe('stack traces', () => {
  test('name the same place of the source as the maps of Node, at every position of a file', async () => {
    const source = new URL('../../src/validation/structure.ts', import.meta.url).pathname;
    const file = join(directory, 'structure.js');
    await build({
      entryPoints: [source],
      outfile: file,
      bundle: true,
      platform: 'node',
      format: 'esm',
      minify: true,
      sourcemap: true,
    });
    const map = new SourceMap(JSON.parse(readFileSync(`${file}.map`, 'utf8')));
    const url = pathToFileURL(file).href;
    const frames = readFileSync(file, 'utf8')
      .split('\n')
      .flatMap((text, line) =>
        Array.from({ length: Math.ceil(text.length / 7) }, (_, index) => [line, index * 7] as const),
      )
      .slice(0, 3000);
    assert.ok(frames.length > 1000);
    const stack = frames.map(([line, column]) => `    at f (${url}:${line + 1}:${column + 1})`).join('\n');
    const mapped = sourceStack(stack, folder).split('\n');
    let compared = 0;
    for (const [index, [line, column]] of frames.entries()) {
      const entry = map.findEntry(line, column);
      // At the beginning of a line, Node takes the last place of the line before.
      if (!('originalSource' in entry) || entry.generatedLine !== line) continue;
      compared++;
      const place = `${new URL(entry.originalSource, url).href}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
      assert.equal(mapped[index], `    at f (${place})`, `${line}:${column}`);
    }
    assert.ok(compared > 1000);
  });

  test('stay as they are where there is no map, or none that can be read', () => {
    for (const text of ['no JSON', '{}', JSON.stringify({ sources: ['../a.ts'], mappings: '' })]) {
      const name = `file-${text.length}.js`;
      writeFileSync(join(directory, `${name}.map`), text);
      const stack = `Error: x\n    at f (${folder}${name}:1:1)\n    at g (${folder}none.js:1:1)\n    at node:fs:1:1`;
      assert.equal(sourceStack(stack, folder), stack);
    }
  });

  test('of other folders are left alone', () => {
    const stack = 'Error: x\n    at f (file:///elsewhere/a.js:1:1)';
    assert.equal(sourceStack(stack, folder), stack);
  });
});

test('an error is logged as pino does it, causes included', () => {
  const logged = errorForLog(new TypeError('no', { cause: new Error('why') })) as Record<string, unknown>;
  assert.equal(logged['type'], 'TypeError');
  assert.equal(logged['message'], 'no: why');
  assert.match(String(logged['stack']), /source-stack\.test\.ts[\s\S]*caused by: Error: why/);
});
