/** Fewer descriptors than connections: for the service, and for what it opens itself. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { createPreparedDatabase } from '../support/postgres.ts';
import { launch } from '../support/processes.ts';
import { openSocket } from '../support/sockets.ts';
import { waitUntil } from '../support/wait-until.ts';

const PRLIMIT = '/usr/bin/prlimit';
const SOCKETS = 200;
/** Milliseconds between two lines of a kind, less what clocks differ in. */
const LINE_PAUSE = 900;
const WARNING = 40;

interface Line {
  time: number;
  level: number;
  msg: string;
  problem?: string;
  status?: number;
}

/** An upload over a connection of its own, which stays open when it is answered. */
function upload(url: string, index: number): { outcome: Promise<string>; bytes: Buffer; end(): void } {
  const bytes = png(3000, index);
  const socket = openSocket(url);
  let received = '';
  const outcome = new Promise<string>((resolve) => {
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
      if (/\r\n\r\n.*\}$/s.test(received)) resolve(received);
    });
    socket.on('close', () => resolve(received));
  });
  socket.write(`PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${bytes.length}\r\n\r\n`);
  socket.write(bytes);
  return { outcome, bytes, end: () => socket.destroy() };
}

/** Lines that could fill a disk: warnings and worse, and requests that are refused for want of something. */
function crowded(output: string): Map<string, number[]> {
  const lines = output.split('\n').filter((line) => line.startsWith('{') && line.endsWith('}'));
  const kinds = new Map<string, number[]>();
  for (const { time, level, msg, problem, status } of lines.map((line) => JSON.parse(line) as Line)) {
    if (level < WARNING && status !== 503) continue;
    const kind = `${msg} ${problem ?? ''}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), time]);
  }
  return kinds;
}

for (const limit of [64, 128])
  describe(`with ${limit} descriptors`, { skip: existsSync(PRLIMIT) ? false : 'prlimit is not there' }, () => {
    test(`${SOCKETS} uploads at once: what is acknowledged is there, the rest is refused, and it recovers`, async () => {
      const database = await createPreparedDatabase();
      const directory = await mkdtemp(join(tmpdir(), 'stowage-descriptors-'));
      const service = await launch(
        {
          DATA_DIR: directory,
          DATABASE_URL: database.url,
          UPLOADS_PER_CALLER: '64',
          REQUESTS_PER_MINUTE: '0',
          UPLOADS_PER_HOUR: '0',
        },
        undefined,
        [PRLIMIT, `--nofile=${limit}`],
      );
      try {
        const client = new Client(service.url, 'local-user');
        const uploads = Array.from({ length: SOCKETS }, (_, index) => upload(service.url, index));
        const outcomes = await Promise.all(uploads.map(({ outcome }) => outcome));
        for (const { end } of uploads) end();
        const refused = outcomes.filter((outcome) => outcome !== '' && !outcome.startsWith('HTTP/1.1 201 '));
        for (const outcome of refused)
          assert.match(outcome, /^HTTP\/1\.1 503 .*retry-after: \d+.*problem:overloaded/is);
        const stored = outcomes.filter((outcome) => outcome.startsWith('HTTP/1.1 201 '));
        assert.ok(stored.length < SOCKETS);
        // With 64, the connections to the database alone may be too many.
        assert.ok(stored.length > 0 || limit === 64);

        await waitUntil(async () => (await client.raw(png(500))).status === 201);
        assert.equal((await client.get('/readyz')).status, 200);
        for (const [index, outcome] of outcomes.entries()) {
          const [, id] = /^HTTP\/1\.1 201 .*location: \/v1\/assets\/(\S+)/is.exec(outcome) ?? [];
          if (id === undefined) continue;
          assert.deepEqual((await client.content(id)).body, uploads[index]?.bytes);
        }
        for (const [kind, times] of crowded(service.output()))
          for (const [index, time] of times.slice(1).entries())
            assert.ok(time - (times[index] ?? 0) >= LINE_PAUSE, `${kind}: ${times}`);
        // With 64, the system may have none left before there are half as many connections; then it is what refuses them.
        const refusal = `connections are refused: there are ${limit / 2},${limit === 64 ? '|EMFILE' : ''}`;
        assert.match(service.output(), new RegExp(refusal));
        assert.equal(service.child.exitCode, null);
      } finally {
        service.child.kill('SIGKILL');
        await service.exit;
        await database.drop();
        await rm(directory, { recursive: true, force: true });
      }
    });
  });
