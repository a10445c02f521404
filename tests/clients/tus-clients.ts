/** Part of `npm run test:clients`: clients of tus that others wrote, killed in the middle and run again. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Client } from '../support/client.ts';
import { glb } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';
import { debianSkip, python } from './packages.ts';

const MiB = 1024 * 1024;
const tuspy = fileURLToPath(new URL('programs/tuspy.py', import.meta.url));
/** Programs that do what programs/tuspy.py does, under the name of their client; each has its name as its user. */
const others = process.env['TEST_TUS_CLIENTS'];
const bytes = glb(24 * MiB, 5);
const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');

describe('clients of tus', () => {
  let service: TestService;
  let work = '';
  let film = '';
  before(async () => {
    service = await startService({ env: { PART_SIZE: '5MiB', REQUESTS_PER_MINUTE: '0' } });
    work = await mkdtemp(join(tmpdir(), 'stowage-test-tus-'));
    film = join(work, 'film.glb');
    writeFileSync(film, bytes);
  });
  after(async () => {
    await service?.close();
    await rm(work, { recursive: true, force: true });
  });

  /** @returns the lines it has printed: the URL of the upload and its offset */
  async function runUntil(command: string[], enough: (offset: number) => boolean): Promise<[string, number][]> {
    const [program = '', ...rest] = command;
    const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
    const lines: [string, number][] = [];
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors += chunk;
    });
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
      lines.length = 0;
      for (const line of text.split('\n').slice(0, -1)) {
        const [url = '', offset] = line.split(' ');
        lines.push([url, Number(offset)]);
      }
      if (enough(lines.at(-1)?.[1] ?? 0)) child.kill('SIGKILL');
    });
    const [code] = await once(child, 'close');
    if (code) assert.fail(errors);
    return lines;
  }

  async function resumes(user: string, command: string[]): Promise<void> {
    const first = await runUntil([...command, service.url, film], (offset) => offset >= 8 * MiB);
    const [url = '', offset = 0] = first.at(-1) ?? [];
    assert.ok(offset >= 8 * MiB && offset < bytes.length, `killed at ${offset}`);
    const second = await runUntil([...command, service.url, film, url], () => false);
    assert.ok((second[0]?.[1] ?? 0) >= 8 * MiB, `went on at ${second[0]?.[1]}`);
    assert.equal(second.at(-1)?.[1], bytes.length);
    const client = new Client(service.url, user);
    const id = url.split('/').at(-1) ?? '';
    await waitUntil(async () => (await client.get(`/v1/assets/${id}`)).body.state === 'ready');
    assert.equal(sha256((await client.content(id)).body), sha256(bytes));
  }

  test('tuspy goes on after it was killed', { skip: debianSkip('python3-tuspy') }, () =>
    resumes('tuspy', [python, tuspy]),
  );

  const found = others && existsSync(others) ? readdirSync(others) : [];
  for (const name of found)
    test(`${name} of TEST_TUS_CLIENTS goes on after it was killed`, () => resumes(name, [join(others ?? '', name)]));
  for (const name of ['tus-java-client', 'a client in Go'])
    if (found.length === 0)
      test(name, { skip: `${name}: put a program that runs it into the folder TEST_TUS_CLIENTS` }, () => {});
});
