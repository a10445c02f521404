/** The service as processes of its own, that can be killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
  // Settings of whoever runs the tests must not reach it. What a service covers is covered in this process, too, and is lost
  // when it is killed; a script is run nowhere else.
  const passed =
    script === main
      ? /^(PATH|HOME|TMPDIR|NODE_COMPILE_CACHE)$/
      : /^(PATH|HOME|TMPDIR|NODE_V8_COVERAGE|NODE_COMPILE_CACHE)$/;
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => passed.test(name)));
  // A script is compiled from the source each time it is run.
  const cache = script === main ? {} : { NODE_COMPILE_CACHE: join(tmpdir(), 'node-compile-cache') };
  const [program = '', ...all] = [...under, process.execPath, script, ...args];
  const child = spawn(program, all, {
    // Where a test is not about it, nothing is made of the files.
    env: { DERIVATIVES: 'false', ...cache, ...inherited, ...env } as NodeJS.ProcessEnv,
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
  let hasEnded = false;
  void service.exit.then(() => {
    hasEnded = true;
  });
  try {
    // Looked for no longer than there is a process: who waits for it would keep this one alive.
    const urlOf = () => /API +(http:\S+)\/v1/.exec(service.output())?.[1];
    await waitUntil(() => hasEnded || urlOf() !== undefined, { timeout: START_LIMIT });
    const url = urlOf();
    if (url === undefined) throw new Error(`the service ended with ${await service.exit}: ${service.output()}`);
    return { ...service, url };
  } catch (error) {
    service.child.kill('SIGKILL');
    throw error;
  }
}
