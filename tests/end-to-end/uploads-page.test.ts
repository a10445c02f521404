/** The lines of docs/uploads.md, run word for word on both object stores; only the address is that of the service under test. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { Client } from '../support/client.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';

const page = readFileSync(new URL('../../docs/uploads.md', import.meta.url), 'utf8');
const [simple = '', direct = ''] = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, lines = '']) => lines);
const fixture = (name: string) => new URL(`../fixtures/${name}`, import.meta.url);
const run = promisify(execFile);
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;

const [inBrowser = ''] = [...page.matchAll(/```js\n([\s\S]*?)```/g)].map(([, lines = '']) => lines);

/** A film of more parts than the first answer has links for: a box that players pass over makes it long. */
function longFilm(): Buffer<ArrayBuffer> {
  const film = readFileSync(fixture('moov-first.mp4'));
  const padding = Buffer.alloc(204 * 1024 * 1024);
  padding.writeUInt32BE(padding.length);
  padding.write('free', 4);
  return Buffer.concat([film, padding]);
}

for (const { store, skip } of storeKinds) {
  describe(`docs/uploads.md, on ${store}`, { skip }, () => {
    let service: TestService;
    let directory = '';
    before(async () => {
      service = await startService({ store, env: { PART_SIZE: '5MiB', REQUESTS_PER_MINUTE: '0' } });
      directory = mkdtempSync(join(tmpdir(), 'stowage-test-page-'));
      copyFileSync(fixture('photo.jpg'), join(directory, 'photo.jpg'));
      writeFileSync(join(directory, 'film.mp4'), longFilm());
    });
    after(async () => {
      await service.close();
      rmSync(directory, { recursive: true, force: true });
    });

    async function shell(lines: string): Promise<string> {
      const script = `set -eu\n${lines.replaceAll('http://127.0.0.1:3000', service.url)}`;
      const { stdout } = await run('bash', ['-c', script], {
        cwd: directory,
        env: { ...process.env, NODE_OPTIONS: '' },
      });
      return stdout;
    }

    test('the lines for form and raw body each store a file', async () => {
      const answers = (await shell(simple.replaceAll('\ncurl', '\necho\ncurl'))).trim().split('\n');
      assert.equal(answers.length, 2);
      for (const answer of answers) assert.equal(JSON.parse(answer).mediaType, 'image/jpeg');
    });

    async function isWhole({ id, state }: { id: string; state: string }): Promise<void> {
      assert.equal(state, 'ready');
      const { body } = await new Client(service.url, 'local-user').content(id);
      assert.ok(body.equals(longFilm()));
    }

    test('the lines for a direct upload store a film of more than forty parts', async () => {
      await isWhole(JSON.parse(await shell(direct)));
    });

    test('so do those for a page', async () => {
      const file = new File([longFilm()], 'film.mp4', { type: 'video/mp4' });
      const program = new AsyncFunction('file', 'authorization', 'fetch', `${inBrowser}\nreturn asset;`);
      const fromHere = (path: string, init: RequestInit) => fetch(new URL(path, service.url), init);
      await isWhole(await program(file, 'Bearer nobody', fromHere));
    });
  });
}
