/** The service as processes of its own, that can be killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { waitUntil } from './wait-until.ts';

/** Absolute path of what is started: a bundle starts faster than the source. */
const main = process.env['TEST_ENTRY'] || new URL('../../src/main.js', import.meta.url).pathname;
const START_LIMIT = 180_000;

export interface Spawned {
  child: ChildProcess;
  /** Everything it wrote. */
  output: () => string;
  exit: Promise<number | null>;
}

export interface Running extends Spawned {
  url: string;
}

/**
 * The process as `npm start` runs it, or a script of the project.
 * @param under a program that becomes it, such as `prlimit`, with its arguments
 */
export function spawnService(
  env: Record<string, string>,
  script = main,
  args: string[] = [],
  under: string[] = [],
): Spawned {
  // Settings of whoever runs the tests must not reach it.
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) =>
      /^(PATH|HOME|TMPDIR|NODE_V8_COVERAGE|NODE_COMPILE_CACHE)$/.test(name),
    ),
  );
  const [program = '', ...all] = [...under, process.execPath, script, ...args];
  const child = spawn(program, all, {
    // Where a test is not about it, nothing is made of the files.
    env: { DERIVATIVES: 'false', ...inherited, ...env } as NodeJS.ProcessEnv,
    cwd: tmpdir(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += chunk;
    });
  const exit = once(child, 'exit').then(([code]) => code as number | null);
  return { child, output: () => output, exit };
}

/** Resolves when it listens; rejects when it ends instead. `entry` is another build of the service. */
export async function launch(env: Record<string, string>, entry = main, under: string[] = []): Promise<Running> {
  const service = spawnService({ PORT: '0', ...env }, entry, [], under);
  const ended = service.exit.then((code) => {
    throw new Error(`the service ended with ${code}: ${service.output()}`);
  });
  ended.catch(() => {});
  const listening = waitUntil(() => /API +(http:\S+)\/v1/.exec(service.output())?.[1], { timeout: START_LIMIT });
  try {
    return { ...service, url: (await Promise.race([listening, ended])) ?? '' };
  } catch (error) {
    service.child.kill('SIGKILL');
    listening.catch(() => {});
    throw error;
  }
}
