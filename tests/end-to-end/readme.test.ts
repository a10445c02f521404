/** The lines of the README, run word for word; only the address is that of the service under test. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { startService, type TestService } from '../support/service.ts';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const [, section = ''] = /\n## The main job in five lines\n([\s\S]*?)\n## /.exec(readme) ?? [];
const [first, ...steps] = [...section.matchAll(/```sh\n([\s\S]*?)```\s*(?:```(?:json|text)\n([\s\S]*?)```)?/g)].map(
  ([, lines = '', answer = '']) => ({ lines, answer }),
);
const preparation = first?.lines ?? '';

const run = promisify(execFile);

/** What differs from one run to the next. */
const masked = (text: string) =>
  text
    .replace(/http:\/\/127\.0\.0\.1:\d+/g, 'ADDRESS')
    .replace(/\/v1\/links\/[\w.-]+/g, '/v1/links/TOKEN')
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g, 'ID')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    // How far its processing is when it is asked.
    .replace(/"facts":\{[^}]*\},("thumbHash":"[^"]*",)?/g, '')
    .replace(/("(?:facts|derive)":)\{[^}]*\}/g, '$1STEP')
    .trim();

describe('the main job in the README', () => {
  let service: TestService;
  let directory = '';
  let id = '';
  before(async () => {
    service = await startService({ env: { DERIVATIVES: 'true' } });
    directory = mkdtempSync(join(tmpdir(), 'stowage-test-readme-'));
    // curl then says in a file what status it got, though the lines do not ask for it.
    writeFileSync(join(directory, '.curlrc'), `dump-header = "${join(directory, 'headers')}"\n`);
  });
  after(async () => {
    await service.close();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Runs lines as a newcomer would, one block after the other in the same shell: so `id` is carried along. */
  async function shell(lines: string): Promise<{ output: string; status: number }> {
    const here = lines.replaceAll('http://127.0.0.1:3000', service.url).replace('cd "$(mktemp -d)"', 'pwd > /dev/null');
    const script = `set -eu\nid='${id}'\n${here}\nprintf %s "$id" > .id\n`;
    const environment = { ...process.env, CURL_HOME: directory, NODE_OPTIONS: '' };
    const { stdout } = await run('bash', ['-c', script], { cwd: directory, env: environment });
    id = readFileSync(join(directory, '.id'), 'utf8');
    const head = readFileSync(join(directory, 'headers'), { encoding: 'utf8', flag: 'a+' });
    // The last one: 100 Continue may come before.
    const statuses = [...head.matchAll(/^HTTP\/1\.1 (\d{3})/gm)];
    return { output: stdout, status: Number(statuses.at(-1)?.[1]) };
  }

  test('begins with a picture made on the spot', async () => {
    assert.match(preparation, /^cd "\$\(mktemp -d\)"\nnode -e /);
    await shell(preparation);
    assert.equal(readFileSync(join(directory, 'photo.png')).length, 69);
  });

  for (const [index, status] of [201, 200, 200, 200, 204].entries()) {
    const step = steps[index];
    if (!step) throw new Error(`the README has no line ${index + 1}`);
    const title = step.lines.split('\n')[0]?.replace(/^curl -s -w '[^']*' /, '');
    test(`line ${index + 1} answers ${status} and what the README says: ${title}`, async () => {
      assert.match(step.lines, /^curl /);
      const { output, status: got } = await shell(step.lines);
      assert.equal(got, status);
      assert.equal(masked(output), masked(step.answer));
    });
  }

  test('has no other lines', () => assert.equal(steps.length, 5));

  test('the short line for a raw body works', async () => {
    const [, line = ''] = /`(curl -T [^`]+)`/.exec(readme) ?? [];
    const { status } = await shell(line);
    assert.equal(status, 201);
  });
});
