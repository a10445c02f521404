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

/** A film of several parts: a box that players pass over makes it long. */
function longFilm(): Buffer {
  const film = readFileSync(fixture('moov-first.mp4'));
  const padding = Buffer.alloc(12 * 1024 * 1024);
  padding.writeUInt32BE(padding.length);
  padding.write('free', 4);
  return Buffer.concat([film, padding]);
}

for (const { store, skip } of storeKinds) {
  describe(`docs/uploads.md, on ${store}`, { skip }, () => {
    let service: TestService;
    let directory = '';
    before(async () => {
      service = await startService({ store, env: { PART_SIZE: '5MiB' } });
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

    test('the lines for a direct upload store a film of several parts', async () => {
      const asset = JSON.parse(await shell(direct)) as { id: string; state: string };
      assert.equal(asset.state, 'ready');
      const { body } = await new Client(service.url, 'local-user').content(asset.id);
      assert.ok(body.equals(longFilm()));
    });
  });
}
