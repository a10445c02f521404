/** One process of Node that serves one module, one task at a time. child-pool.ts says why and which. */
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, link, lstat, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { programFolder } from '../../paths.ts';
import { type Confinement, ENVIRONMENT } from './confinement.ts';
import { killMarked, newMark } from './stragglers.ts';
import { forRecord, isOutOfMemory, ToolError, type ToolFault } from './tool-error.ts';
import type { TaskAnswer, TaskMessage } from './workers/serve.ts';

const MiB = 2 ** 20;
/**
 * What Node counts for itself of RLIMIT_DATA, 575 to 620 MiB, of which V8 reserves 512 for code and never touches most.
 * Below 600 a child dies when it starts.
 */
const NODE_ITSELF = 640 * MiB;
/** Of JavaScript, MiB. Pictures, WebAssembly and buffers lie outside of it. */
const HEAP = 128;
/** Bytes of what a child complains of that are kept. */
const MAX_COMPLAINT = 4096;
/** Until a child that was started serves, seconds. A busy machine takes its time. */
const START_TIME = 30;

export interface ChildLimits {
  /** Bytes that the tasks of a child may take, beside what Node itself does. */
  memory: number;
  /** Seconds of processor time of a task at least; of a child twice as many, should the service die and leave it. */
  cpuSeconds: number;
  /** Bytes of the largest file that a task may write. */
  fileSize?: number;
}

const FILE_SIZE = 256 * MiB;

export interface ChildOptions {
  module: string;
  /** Of the module. */
  file: string;
  /** Where its directory is made. */
  scratch: string;
  limits: ChildLimits;
  confinement: Promise<Confinement>;
}

interface Running {
  resolve(value: unknown): void;
  reject(error: ToolError): void;
}

export class Child {
  readonly module: string;
  /** Tasks that it was given. */
  tasks = 0;
  /** Resolves when the process and its directory are gone. */
  readonly ended: Promise<void>;
  readonly #directory: string;
  /** What it may write to, and what it may read: within the directory, and the file of its task alone. */
  readonly #outputs: string;
  readonly #inputs: string;
  readonly #mark = newMark();
  readonly #limits: ChildLimits;
  readonly #ready = Promise.withResolvers<void>();
  #process: ChildProcess | undefined;
  #running: Running | undefined;
  #killedFor: ToolFault | undefined;
  #complaint = '';
  #cpuSeconds = 0;
  #ranOut = false;
  #taken = false;

  constructor(options: ChildOptions) {
    this.module = options.module;
    this.#limits = options.limits;
    this.#directory = join(options.scratch, `child-${randomUUID()}`);
    this.#outputs = join(this.#directory, 'outputs');
    this.#inputs = join(this.#directory, 'inputs');
    this.#ready.promise.catch(() => {});
    this.ended = this.#live(options);
  }

  /** Whether it has nothing to do and may be given a task. */
  get isFree(): boolean {
    return !this.#taken && this.#killedFor === undefined;
  }

  /** Whether the next task might suffer from those before: too little processor time is left, or memory ran out. */
  get isSpent(): boolean {
    return this.#cpuSeconds > this.#limits.cpuSeconds || this.#ranOut;
  }

  /** What it died of, unless it was ended because nobody needs it any more. */
  get diedOf(): ToolFault | undefined {
    return this.#killedFor === 'aborted' && this.#running === undefined ? undefined : this.#killedFor;
  }

  /** The process that was started: of Node, or of what confines it. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /**
   * Runs one task.
   * @param begun called when the child begins with it; until then, giving up costs nothing
   * @throws ToolError
   */
  async run(
    input: object,
    options: {
      seconds: number;
      signal: AbortSignal | undefined;
      /** The file that it may read. */
      file: string | undefined;
      outputDirectory: string | undefined;
      begun: () => void;
    },
  ): Promise<unknown> {
    this.#taken = true;
    try {
      await this.#untilReady(options.signal);
      options.begun();
      this.tasks++;
      const file = options.file === undefined ? undefined : await this.#show(options.file);
      const value = await this.#ask({ input, file }, options.seconds, options.signal);
      if (options.outputDirectory !== undefined) await this.#handOver(options.outputDirectory);
      return value;
    } finally {
      if (this.#killedFor === undefined && this.tasks > 0) await this.#clear();
      this.#taken = false;
    }
  }

  /** Ends the process at once. A task that it has fails for this reason. */
  kill(reason: ToolFault): void {
    this.#killedFor ??= reason;
    const pid = this.#process?.pid;
    if (pid === undefined) return;
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // It has ended already.
    }
  }

  async #live(options: ChildOptions): Promise<void> {
    try {
      for (const directory of [this.#outputs, this.#inputs]) await mkdir(directory, { recursive: true, mode: 0o700 });
      const confinement = await options.confinement;
      if (this.#killedFor === undefined) await this.#runProcess(options, confinement);
      if (!confinement.endsAll) await killMarked(this.#mark);
    } catch (error) {
      this.#complaint = error instanceof Error ? error.message : String(error);
    }
    this.#killedFor ??= 'crashed';
    const failure = this.#failure();
    this.#ready.reject(failure);
    this.#running?.reject(failure);
    await rm(this.#directory, { recursive: true, force: true }).catch(() => {});
  }

  async #runProcess(options: ChildOptions, confinement: Confinement): Promise<void> {
    const child = start(options, confinement, { outputs: this.#outputs, inputs: this.#inputs, mark: this.#mark });
    this.#process = child;
    const timer = setTimeout(() => this.kill('timed-out'), START_TIME * 1000);
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#complaint = (this.#complaint + chunk.toString('latin1')).slice(-MAX_COMPLAINT);
    });
    child.on('message', (answer: TaskAnswer) => {
      clearTimeout(timer);
      this.#hear(answer);
    });
    await new Promise<void>((resolve) => {
      child.once('error', (error) => {
        this.#complaint += error.message;
        if (child.pid === undefined) resolve();
      });
      child.once('exit', (code, signal) => {
        // A child that ended by itself tells by its complaint whether memory was the reason.
        if (this.#killedFor === undefined) this.#killedFor = faultOf(code, signal, this.#complaint);
        resolve();
      });
    });
    clearTimeout(timer);
    // What it started, if it did.
    this.kill('crashed');
    child.stderr?.destroy();
  }

  #hear(answer: TaskAnswer): void {
    if ('ready' in answer) {
      this.#ready.resolve();
      return;
    }
    const running = this.#running;
    this.#running = undefined;
    this.#cpuSeconds = answer.cpuSeconds;
    if ('value' in answer) {
      running?.resolve(answer.value);
      return;
    }
    this.#ranOut = answer.outOfMemory;
    const fault = answer.outOfMemory ? 'out-of-memory' : 'refused';
    running?.reject(new ToolError(fault, forRecord(answer.refused), answer.reason && forRecord(answer.reason)));
  }

  async #untilReady(signal: AbortSignal | undefined): Promise<void> {
    if (signal === undefined) return this.#ready.promise;
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(new ToolError('aborted', 'the task was not started'));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([this.#ready.promise, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #ask(
    task: Pick<TaskMessage, 'input' | 'file'>,
    seconds: number,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    const timer = setTimeout(() => this.kill('timed-out'), seconds * 1000);
    const onAbort = () => this.kill('aborted');
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await new Promise<unknown>((resolve, reject) => {
        this.#running = { resolve, reject };
        const message: TaskMessage = { ...task, directory: this.#outputs };
        this.#process?.send(message, (error) => {
          if (error) this.kill('crashed');
        });
      });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /**
   * Puts the file of a task where the child sees it: another name of the same bytes, in a directory that it cannot write to, because
   * the bytes are those that later steps read.
   * @returns the path there
   */
  async #show(file: string): Promise<string> {
    const path = join(this.#inputs, 'file');
    // Some file systems have no second names.
    await link(file, path).catch(() => copyFile(file, path));
    return path;
  }

  /** Plain files only: a link that a task was made to write would lead whoever reads it out of the directory. */
  async #handOver(outputDirectory: string): Promise<void> {
    for (const name of await readdir(this.#outputs)) {
      const path = join(this.#outputs, name);
      if ((await lstat(path)).isFile()) await rename(path, join(outputDirectory, name));
    }
  }

  /** Nothing of a task is seen by the next one. */
  async #clear(): Promise<void> {
    for (const directory of [this.#inputs, this.#outputs]) {
      const names = await readdir(directory).catch(() => []);
      for (const name of names) await rm(join(directory, name), { recursive: true, force: true }).catch(() => {});
    }
  }

  #failure(): ToolError {
    const fault = this.#killedFor ?? 'crashed';
    return new ToolError(fault, `the process for ${this.module} ${WORDS[fault]}`);
  }
}

const WORDS: Record<ToolFault, string> = {
  'timed-out': 'took too long',
  'out-of-memory': 'wanted more memory than it may have',
  crashed: 'crashed',
  refused: 'cannot read the file',
  'output-too-large': 'wrote more than it may',
  'not-installed': 'cannot be started',
  aborted: 'was stopped',
};

function faultOf(code: number | null, signal: NodeJS.Signals | null, complaint: string): ToolFault {
  // bubblewrap tells of a signal as shells do, as 128 and its number: SIGXCPU is 24, SIGXFSZ 25.
  if (signal === 'SIGXCPU' || code === 128 + 24) return 'timed-out';
  if (signal === 'SIGXFSZ' || code === 128 + 25) return 'output-too-large';
  return isOutOfMemory(complaint) ? 'out-of-memory' : 'crashed';
}

function start(
  { file, limits }: ChildOptions,
  confinement: Confinement,
  { outputs, inputs, mark }: { outputs: string; inputs: string; mark: Record<string, string> },
): ChildProcess {
  const [execPath = '', ...execArgv] = confinement.wrap(
    [process.execPath, `--max-old-space-size=${HEAP}`],
    {
      memory: NODE_ITSELF + limits.memory,
      cpuSeconds: 2 * limits.cpuSeconds,
      fileSize: limits.fileSize ?? FILE_SIZE,
    },
    { readable: [process.execPath, dirname(file), ...programFiles(), inputs], writable: outputs },
  );
  return fork(file, [], {
    execPath,
    execArgv,
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    detached: true,
    cwd: '/',
    env: { ...ENVIRONMENT, ...mark, TMPDIR: outputs, MALLOC_ARENA_MAX: '2', UV_THREADPOOL_SIZE: '1' },
  });
}

/** What the modules import: the program, its packages, and package.json, which says what kind of modules they are. */
function programFiles(): string[] {
  const program = fileURLToPath(programFolder);
  const files = [program, join(dirname(program), 'package.json')];
  for (let folder = dirname(program); ; folder = dirname(folder)) {
    files.push(join(folder, 'node_modules'));
    if (folder === dirname(folder)) return files.filter((path) => existsSync(path));
  }
}
