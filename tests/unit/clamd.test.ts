/** What the client of clamd makes of the answers: of a server of ours where clamd itself would not give them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { Registry } from '@prometheus-io/client';
import { examine } from '../../src/doctor/check.ts';
import { scanChecks } from '../../src/scanning/checks.ts';
import { Clamd, clamdAddress, MAX_SCANNED } from '../../src/scanning/clamd.ts';
import { ScanMetrics } from '../../src/scanning/metrics.ts';
import { ScanPlaces } from '../../src/scanning/places.ts';
import { Scanner } from '../../src/scanning/scanner.ts';
import { EICAR, EICAR_NAME, INFECTION, INFECTION_NAME, startClamd, type TestClamd } from '../support/clamd.ts';
import { programSkip } from '../support/programs.ts';

const MiB = 1024 * 1024;
const patience = { connect: 60_000, idle: 60_000, total: 60_000, perMiB: 0 };

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

describe('a real clamd', { skip: programSkip('clamd') }, () => {
  let clamd: TestClamd;
  before(async () => {
    clamd = await startClamd({ streamMaxLength: 8 * MiB });
  });
  after(() => clamd?.close());

  test('finds a signature wherever it lies and however the bytes are cut, on a socket and on a port', async () => {
    const large = Buffer.alloc(3 * MiB, 1);
    const at = 1.5 * MiB;
    INFECTION.copy(large, at - 7);
    for (const address of [clamd.socket, clamd.address]) {
      const client = new Clamd(address, patience);
      for (const size of [1, 7, 65_536])
        assert.deepEqual(await client.scan(pieces(EICAR, size)), { verdict: 'infected', signature: EICAR_NAME });
      for (const size of [4096, at, large.length])
        assert.deepEqual(await client.scan(pieces(large, size)), { verdict: 'infected', signature: INFECTION_NAME });
      assert.deepEqual(await client.scan(pieces(Buffer.alloc(3 * MiB, 1), 65_536)), { verdict: 'clean' });
    }
  });

  test('does not judge what was cut, and never calls clean what it left out', async () => {
    const client = new Clamd(clamd.socket, patience);
    const cut = async function* () {
      yield Buffer.alloc(1000);
      throw new Error('the store has gone');
    };
    const outcome = await client.scan(cut());
    assert.deepEqual(outcome, { verdict: 'not-scanned', why: 'source-failed', detail: 'the store has gone' });
    const tooLong = await client.scan(pieces(Buffer.alloc(20 * MiB), 65_536));
    assert.equal(tooLong.verdict, 'not-scanned');
    let nested: Buffer = EICAR;
    for (let depth = 0; depth < 30; depth++) nested = gzipSync(nested);
    const outcomeOfNested = await client.scan(pieces(nested, 65_536));
    assert.equal(outcomeOfNested.verdict === 'not-scanned' && outcomeOfNested.why, 'too-large');
    let asked = false;
    const huge = async function* () {
      asked = true;
      yield Buffer.alloc(1);
    };
    assert.equal((await client.scan(huge(), { size: MAX_SCANNED + 1 })).verdict, 'not-scanned');
    assert.equal(asked, false);
  });

  test('is looked at by the doctor, who sees that it does not tell its limits', async () => {
    const lenient = await startClamd({ settings: ['AlertExceedsMax no'] });
    try {
      const verdicts = async (address: string) => {
        const options = { CLAMD: address, SCAN_INLINE: 1, SCANS_AT_ONCE: 1 };
        const found = [];
        for await (const { verdict } of examine(scanChecks(new Scanner(options, new ScanMetrics(new Registry())))))
          found.push(verdict);
        return found;
      };
      assert.deepEqual(await verdicts(clamd.socket), ['ok', 'skipped', 'ok']);
      assert.deepEqual(await verdicts(lenient.address), ['ok', 'skipped', 'missing']);
      assert.deepEqual(await verdicts('127.0.0.1:1'), ['missing', 'missing', 'missing']);
      assert.deepEqual(scanChecks(undefined), []);
    } finally {
      await lenient.close();
    }
  });
});

describe('the client of clamd', () => {
  /** Answers `answer` when as many bytes have come, and closes the connection. */
  async function outcomeOf(answer: string, after: (received: Buffer) => boolean) {
    const { promise: answered, resolve } = Promise.withResolvers<void>();
    const server = createServer((socket: Socket) => {
      let received = Buffer.alloc(0);
      socket.on('error', () => {});
      // Closed by the other side too, which has read all then.
      socket.on('close', () => resolve());
      socket.on('data', (chunk) => {
        received = Buffer.concat([received, chunk]);
        if (after(received)) socket.end(answer);
      });
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const address = server.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    try {
      const slowly = async function* () {
        for (let piece = 0; piece < 10; piece++) {
          yield Buffer.alloc(100, 1);
          if (piece === 8 && after === atOnce) await answered;
        }
      };
      return await new Clamd(`127.0.0.1:${port}`, patience).scan(slowly());
    } finally {
      server.close();
    }
  }
  const atTheEnd = (received: Buffer) => received.subarray(-4).equals(Buffer.alloc(4));
  const atOnce = () => true;

  test('believes a whole answer to the whole stream, and nothing else', async () => {
    assert.deepEqual(await outcomeOf('stream: OK\0', atTheEnd), { verdict: 'clean' });
    for (const [answer, when] of [
      ['stream: OK\0', atOnce],
      ['stream: OK', atTheEnd],
      ['', atTheEnd],
      ['stream: OKAY\0', atTheEnd],
      ['OK\0', atTheEnd],
      ['stream: Lstat() failed. ERROR\0', atTheEnd],
      ['INSTREAM size limit exceeded. ERROR\0', atOnce],
      ['stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\0', atTheEnd],
      [`${'x'.repeat(100_000)}stream: OK\0`, atTheEnd],
    ] as const)
      assert.equal((await outcomeOf(answer, when)).verdict, 'not-scanned', JSON.stringify(answer.slice(0, 40)));
    const found = await outcomeOf('stream: Win.Test.A\u0001 FOUND\0', atTheEnd);
    assert.deepEqual(found, { verdict: 'infected', signature: 'Win.Test.A?' });
  });

  test('believes no more of it for bytes that are sent whole', async (context) => {
    let [received, answer, waitsForEnd] = [Buffer.alloc(0), 'stream: OK\0', true];
    const server = createServer((socket) => {
      received = Buffer.alloc(0);
      socket.on('error', () => {});
      socket.on('data', (bytes: Buffer) => {
        received = Buffer.concat([received, bytes]);
        if (!waitsForEnd || received.subarray(-4).equals(Buffer.alloc(4))) socket.end(answer);
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    context.after(() => server.close());
    const address = server.address();
    const client = new Clamd(`127.0.0.1:${address instanceof Object ? address.port : 0}`, patience);
    assert.deepEqual(await client.scanWhole(Buffer.from('bytes')), { verdict: 'clean' });
    assert.equal(received.toString('latin1'), 'zINSTREAM\0\0\0\0\u0005bytes\0\0\0\0');
    // Nothing would be a chunk that ends the stream.
    assert.deepEqual(await client.scanWhole(Buffer.alloc(0)), { verdict: 'clean' });
    assert.equal(received.toString('latin1'), 'zINSTREAM\0\0\0\0\0');
    answer = 'stream: Win.Test FOUND\0';
    assert.deepEqual(await client.scanWhole(Buffer.from('bytes')), { verdict: 'infected', signature: 'Win.Test' });
    waitsForEnd = false;
    for (const other of ['', 'stream: OK', 'stream: OKAY\0', 'INSTREAM size limit exceeded. ERROR\0']) {
      answer = other;
      assert.equal((await client.scanWhole(Buffer.from('bytes'))).verdict, 'not-scanned', other);
    }
    const silent = createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    context.after(() => silent.close());
    const there = silent.address();
    const hasty = { connect: 60_000, idle: 60_000, total: 20, perMiB: 0 };
    const frozen = new Clamd(`127.0.0.1:${there instanceof Object ? there.port : 0}`, hasty);
    const late = await frozen.scanWhole(Buffer.from('bytes'));
    assert.equal(late.verdict === 'not-scanned' && late.why, 'timeout');
    const away = await new Clamd('127.0.0.1:1', patience).scanWhole(Buffer.from('bytes'));
    assert.equal(away.verdict === 'not-scanned' && away.why, 'unreachable');
  });

  test('is told where clamd is by host and port, or by the path of a socket', () => {
    assert.deepEqual(clamdAddress('clamd:3310'), { host: 'clamd', port: 3310 });
    assert.deepEqual(clamdAddress('[::1]:3310'), { host: '::1', port: 3310 });
    assert.deepEqual(clamdAddress('/run/clamav/clamd.ctl'), { path: '/run/clamav/clamd.ctl' });
    for (const wrong of ['clamd', 'clamd:0', 'clamd:70000', 'run/clamd.ctl', '::1:3310', 'http://clamd:3310', ''])
      assert.equal(clamdAddress(wrong), undefined, wrong);
  });
});

describe('places for scans', () => {
  const never = new AbortController().signal;

  test('are no more than there are; jobs leave one for uploads', async () => {
    const places = new ScanPlaces(3);
    const leave = [await places.forJob(never), await places.forJob(never)];
    const third = places.forJob(never);
    assert.equal(places.active, 2);
    assert.equal(places.waiting, 1);
    const upload = await places.forUpload(1000);
    assert.ok(upload);
    assert.equal(places.active, 3);
    assert.equal(await places.forUpload(1), undefined);
    upload();
    upload();
    assert.equal(places.active, 2);
    leave[0]?.();
    (await third)();
    leave[1]?.();
    assert.equal(places.active, 0);
  });

  test('that nobody waits for any more are given to nobody', async () => {
    const places = new ScanPlaces(1);
    const leave = await places.forJob(never);
    const gone = new AbortController();
    const waiting = places.forJob(gone.signal);
    gone.abort(new Error('stopped'));
    await assert.rejects(waiting, /stopped/);
    assert.equal(places.waiting, 0);
    leave();
    assert.ok(await places.forUpload(1));
  });
});
