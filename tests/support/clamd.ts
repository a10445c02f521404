/** A clamd of its own for tests: with a few signatures in a temporary directory, on a socket and on a port. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Clamd } from '../../src/scanning/clamd.ts';
import { programPath } from './programs.ts';
import { waitUntil } from './wait-until.ts';

/** The test file of the industry (https://www.eicar.org), put together here so that no scanner takes this file for it. */
export const EICAR = Buffer.from(
  ['X5O!P%@AP[4', '\\PZX54(P^)7CC)7}', '$EICAR-STANDARD-ANTI', 'VIRUS-TEST-FILE!', '$H+H*'].join(''),
);
export const EICAR_NAME = 'Eicar-Test-Signature.UNOFFICIAL';
/** What the body signature of these tests finds, wherever in a file it is. */
export const INFECTION = Buffer.from('stowage-test-infection-0b1f7c2e9d');
export const INFECTION_NAME = 'Stowage.Test.Body.UNOFFICIAL';

/** Both, as clamd reads them: a hash of a whole file (.hdb), and bytes at any place of any file (.ndb). */
const signatures = {
  'test.hdb': `${createHash('md5').update(EICAR).digest('hex')}:${EICAR.length}:Eicar-Test-Signature\n`,
  'test.ndb': [
    `Eicar-Test-Signature:0:*:${EICAR.toString('hex')}`,
    `Stowage.Test.Body:0:*:${INFECTION.toString('hex')}`,
    '',
  ].join('\n'),
};

export interface TestClamd {
  /** Path of its socket. */
  socket: string;
  /** `host:port`. */
  address: string;
  pid: number;
  /** Adds a body signature, and starts it anew. */
  learn(name: string, body: Buffer): Promise<void>;
  /** Ends it, as a crash would. */
  kill(): Promise<void>;
  /** After it was killed. */
  start(): Promise<void>;
  /** It stands still, with its connections. */
  freeze(): void;
  thaw(): void;
  close(): Promise<void>;
}

export interface TestClamdOptions {
  /** Bytes of a stream, at most. */
  streamMaxLength?: number;
  maxThreads?: number;
  /** More lines of its configuration. */
  settings?: string[];
}

/** Only where `programSkip('clamd')` is false. It is there within a second. */
export async function startClamd(options: TestClamdOptions = {}): Promise<TestClamd> {
  const directory = await mkdtemp(join(tmpdir(), 'stowage-test-clamd-'));
  // clamd gives up the rights of root where its configuration names a user; here it has none.
  await chmod(directory, 0o755);
  for (const [name, content] of Object.entries(signatures)) await writeFile(join(directory, name), content);
  const socket = join(directory, 'clamd.sock');
  const port = await freePort();
  const configuration = join(directory, 'clamd.conf');
  const { streamMaxLength = 64 * 1024 * 1024, maxThreads = 8, settings = [] } = options;
  // Of an option that is there twice, clamd takes the first.
  const lines = [
    ...settings,
    `DatabaseDirectory ${directory}`,
    `TemporaryDirectory ${directory}`,
    `LocalSocket ${socket}`,
    'FixStaleSocket yes',
    `TCPSocket ${port}`,
    'TCPAddr 127.0.0.1',
    'Foreground yes',
    `StreamMaxLength ${streamMaxLength}`,
    `MaxFileSize ${streamMaxLength}`,
    `MaxScanSize ${streamMaxLength}`,
    'AlertExceedsMax yes',
    `MaxThreads ${maxThreads}`,
  ];
  await writeFile(configuration, `${lines.join('\n')}\n`);
  let child: ChildProcess | undefined;

  const start = async () => {
    const started = spawn(programPath('clamd'), ['--config-file', configuration], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child = started;
    let output = '';
    started.stderr.on('data', (text) => {
      output += text;
    });
    const clamd = new Clamd(socket, { connect: 5000, idle: 5000, total: 5000, perMiB: 0 });
    await waitUntil(async () => {
      if (started.exitCode !== null) throw new Error(`clamd ended: ${output}`);
      await clamd.ping();
      return true;
    });
  };
  const kill = async () => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  };
  await start();
  return {
    socket,
    address: `127.0.0.1:${port}`,
    get pid() {
      return child?.pid ?? 0;
    },
    learn: async (name, body) => {
      await writeFile(join(directory, `${name}.ndb`), `${name}:0:*:${body.toString('hex')}\n`);
      await kill();
      await start();
    },
    kill,
    start,
    freeze: () => child?.kill('SIGSTOP'),
    thaw: () => child?.kill('SIGCONT'),
    close: async () => {
      await kill();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  return typeof address === 'object' && address ? address.port : 0;
}
