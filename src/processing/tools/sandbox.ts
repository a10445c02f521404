/**
 * One program of the system on one file that nobody trusts: a process that lives for this file alone, with limits of time, memory and
 * output, an empty environment, and rooms of its own where the machine allows that (see confinement.ts). It is killed with all that it
 * has started when it takes too long, when nobody wants the result any more, and in any case at the end.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstat, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Confinement, confinementHere, ENVIRONMENT, locate } from './confinement.ts';
import { killMarked, newMark } from './stragglers.ts';
import { forRecord, isOutOfMemory, ToolError, type ToolFault } from './tool-error.ts';

export { ToolError, type ToolFault } from './tool-error.ts';

const MiB = 2 ** 20;

export type Program = 'ffmpeg' | 'ffprobe' | 'pdftoppm' | 'pdfinfo';

export interface ToolLimits {
  /** Until the program is killed. */
  seconds: number;
  /** Of the processor. */
  cpuSeconds: number;
  /** RLIMIT_DATA, bytes. */
  memory: number;
  /** Bytes of the largest file that it may write. */
  fileSize: number;
  /** Bytes that it may write to its standard output. */
  output: number;
}

export interface ToolRun {
  program: Program;
  args: readonly string[];
  /** Path of the file that it may read. */
  input: string;
  /** The only directory to which it may write. What lies there afterwards are plain files. */
  outputDirectory?: string;
  limits?: Partial<ToolLimits>;
  signal?: AbortSignal;
  /** Callers take turns for places. */
  callerId?: string;
}

export interface Sandbox {
  /**
   * Runs a program. When `consume` does not read to the end, the program is killed and what `consume` made of it counts.
   * @returns what `consume` made of the standard output, once the program ended well
   * @throws ToolError, or what `consume` throws
   */
  run<T>(run: ToolRun, consume: (stdout: AsyncIterable<Buffer>) => Promise<T>): Promise<T>;
  /** Whether the program is installed. */
  has(program: Program): boolean;
}

const DEFAULTS: ToolLimits = {
  seconds: 60,
  cpuSeconds: 120,
  memory: 768 * MiB,
  fileSize: 1024 * MiB,
  output: 32 * MiB,
};
/** Bytes of what a program complains of that are kept: the end, where the reason is. */
const MAX_COMPLAINT = 4096;

/** The sandbox of this machine. */
export async function openSandbox(): Promise<Sandbox> {
  return new ProcessSandbox(await confinementHere());
}

export class ProcessSandbox implements Sandbox {
  readonly #confinement: Confinement;
  readonly #locate: (program: Program) => string | undefined;

  /** @param find where a program is; along PATH when absent */
  constructor(confinement: Confinement, find: (program: Program) => string | undefined = locate) {
    this.#confinement = confinement;
    this.#locate = find;
  }

  has(program: Program): boolean {
    return this.#locate(program) !== undefined;
  }

  async run<T>(run: ToolRun, consume: (stdout: AsyncIterable<Buffer>) => Promise<T>): Promise<T> {
    const path = this.#locate(run.program);
    if (path === undefined) throw new ToolError('not-installed', `${run.program} is not installed`);
    if (run.signal?.aborted) throw new ToolError('aborted', `${run.program} was not started`);
    const limits = { ...DEFAULTS, ...run.limits };
    const readable = path.startsWith('/usr/') ? [run.input] : [dirname(path), run.input];
    const command = this.#confinement.wrap([path, ...run.args], limits, { readable, writable: run.outputDirectory });
    const mark = newMark();
    const tool = new RunningTool(run.program, command, limits, run.signal, { ...ENVIRONMENT, ...mark });
    const result = await tool.result(consume).finally(() => {
      if (!this.#confinement.endsAll) return killMarked(mark);
    });
    if (run.outputDirectory !== undefined) await refuseAllButFiles(run.program, run.outputDirectory);
    return result;
  }
}

/** A program that is running, until `result` is settled. */
class RunningTool {
  readonly #program: Program;
  readonly #child: ChildProcess;
  readonly #limits: ToolLimits;
  readonly #signal: AbortSignal | undefined;
  #complaint = '';
  /** Why we killed it. */
  #killedFor: ToolFault | undefined;

  constructor(
    program: Program,
    [file = '', ...args]: string[],
    limits: ToolLimits,
    signal: AbortSignal | undefined,
    env: NodeJS.ProcessEnv,
  ) {
    this.#program = program;
    this.#limits = limits;
    this.#signal = signal;
    // A process group of its own, so that what it starts can be killed with it.
    this.#child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, cwd: '/', env });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#complaint = (this.#complaint + chunk.toString('latin1')).slice(-MAX_COMPLAINT);
    });
  }

  async result<T>(consume: (stdout: AsyncIterable<Buffer>) => Promise<T>): Promise<T> {
    const timer = setTimeout(() => this.#kill('timed-out'), this.#limits.seconds * 1000);
    const onAbort = () => this.#kill('aborted');
    this.#signal?.addEventListener('abort', onAbort, { once: true });
    this.#child.on('error', () => {});
    const closed = once(this.#child, 'close');
    closed.catch(() => {});
    const progress = { ended: false };
    try {
      const result = await consume(this.#stdout(progress));
      if (!progress.ended && this.#killedFor === undefined) return result;
      const [code, signal] = await closed;
      this.#judge(code, signal);
      return result;
    } catch (error) {
      throw this.#killedFor === undefined ? asToolError(this.#program, error) : this.#error(this.#killedFor);
    } finally {
      clearTimeout(timer);
      this.#signal?.removeEventListener('abort', onAbort);
      this.#kill('aborted');
      await closed.catch(() => {});
    }
  }

  async *#stdout(progress: { ended: boolean }): AsyncGenerator<Buffer> {
    let size = 0;
    for await (const chunk of this.#child.stdout ?? []) {
      size += chunk.length;
      if (size > this.#limits.output) {
        this.#kill('output-too-large');
        throw this.#error('output-too-large');
      }
      yield chunk;
    }
    progress.ended = true;
  }

  #kill(fault: ToolFault): void {
    this.#killedFor ??= fault;
    this.#killGroup();
    // What it started may have left the group, and would keep them open.
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
  }

  #killGroup(): void {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      // It has ended already.
    }
  }

  /** @throws ToolError unless the program ended well */
  #judge(code: number | null, signal: NodeJS.Signals | null): void {
    if (this.#killedFor !== undefined) throw this.#error(this.#killedFor);
    if (code === 0) return;
    throw this.#error(faultOf(code, signal, this.#complaint));
  }

  #error(fault: ToolFault): ToolError {
    const said = forRecord(this.#complaint.trim().split('\n').at(-1) ?? '');
    const why = fault === 'refused' || fault === 'crashed' ? said : '';
    return new ToolError(fault, `${this.#program} ${WORDS[fault]}${why && `: ${why}`}`);
  }
}

const WORDS: Record<ToolFault, string> = {
  'timed-out': 'took too long',
  'out-of-memory': 'wanted more memory than it may have',
  crashed: 'crashed',
  refused: 'cannot read the file',
  'output-too-large': 'wrote more than it may',
  'not-installed': 'is not installed',
  aborted: 'was stopped',
};

/** Numbers of signals; bubblewrap tells of a signal as shells do, as 128 and its number. */
const XCPU = 24;
const XFSZ = 25;
/** Traps, aborts, bus errors, arithmetic faults, kills, violations of segments, and forbidden system calls. */
const FATAL = new Set([4, 5, 6, 7, 8, 9, 11, 31]);

function faultOf(code: number | null, signal: NodeJS.Signals | null, complaint: string): ToolFault {
  const number = code !== null && code > 128 ? code - 128 : 0;
  if (signal === 'SIGXCPU' || number === XCPU) return 'timed-out';
  if (signal === 'SIGXFSZ' || number === XFSZ || /file too large/i.test(complaint)) return 'output-too-large';
  if (isOutOfMemory(complaint)) return 'out-of-memory';
  return signal !== null || FATAL.has(number) ? 'crashed' : 'refused';
}

function asToolError(program: Program, error: unknown): unknown {
  const isSpawnFault = error instanceof Error && 'syscall' in error && String(error.syscall).startsWith('spawn');
  return isSpawnFault ? new ToolError('not-installed', `${program} cannot be started`) : error;
}

/** A link that a program was made to write would lead whoever reads it out of the directory. */
async function refuseAllButFiles(program: Program, directory: string): Promise<void> {
  for (const name of await readdir(directory))
    if (!(await lstat(join(directory, name))).isFile())
      throw new ToolError('refused', `${program} wrote something that is no plain file`);
}

/** All of the standard output, as bytes. */
export async function asBytes(stdout: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stdout) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** All of the standard output, as text. */
export async function asText(stdout: AsyncIterable<Buffer>): Promise<string> {
  return (await asBytes(stdout)).toString('utf8');
}
