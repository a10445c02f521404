/**
 * Processes of Node for libraries that read bytes that nobody trusts (sharp, pdfium, the model renderer, music-metadata). A task that
 * takes too long or too much memory costs its own process and nothing else: it is killed, and the next task gets a fresh one.
 *
 * Why processes: a thread that is in native code cannot be stopped, and nothing bounds its memory but that of the service. A
 * child has no credentials; confinement.ts says what else it cannot do. It serves one module, one task at a time, and may write to
 * a directory of its own only; what a task wrote is taken from there when it is done. Of other files it sees that of its task alone,
 * as long as that runs. No child is started before the first
 * task, and those that have nothing to do end.
 */
import { workerFile } from '../../paths.ts';
import { Child, type ChildLimits } from './child.ts';
import { type Confinement, confinementHere } from './confinement.ts';
import { FairQueue } from './fair-queue.ts';
import { ToolError, type ToolFault } from './tool-error.ts';

export type Module = 'pictures' | 'pdf' | 'models' | 'sound';

export interface Task<Name extends string = Module> {
  module: Name;
  /** Given to the handler; anything that structured cloning copies. */
  input: object;
  /** The only file, beside those of the program, that the child can read; on the same file system as `scratch`. */
  file?: string;
  /** Where the files come that the handler writes; a directory on the same file system as `scratch`. */
  outputDirectory?: string;
}

export interface TaskOptions {
  /** From the moment a child begins, until it is killed. */
  seconds: number;
  signal?: AbortSignal;
  /** Callers take turns. */
  callerId?: string;
}

export interface PoolOptions extends ChildLimits {
  /** Children at once. */
  size: number;
  /** A child is replaced after so many tasks: native heaps fragment. */
  recycleAfter: number;
  /** Where children have their directories. */
  scratch: string;
  /** How many tasks may wait. */
  maxWaiting?: number;
  /** Milliseconds after which a child without a task ends. */
  idleAfter?: number;
  /** How children are confined; what this machine allows when absent. */
  confinement?: Confinement;
  /** Where the module of a worker is. */
  workerFile?: (module: string) => string;
  observer?: PoolObserver;
}

export interface PoolObserver {
  /** A task ended: well, or by its fault, after so many seconds of running. */
  task?(module: string, outcome: 'done' | ToolFault, seconds: number): void;
  /** A child died of a task, or was killed for it. */
  died?(module: string, reason: ToolFault): void;
}

/** Too many tasks wait already. Nothing is wrong with the file: ask later. */
export class PoolBusy extends Error {
  override name = 'PoolBusy';
}

interface Waiting<Name extends string> {
  task: Task<Name>;
  seconds: number;
  signal: AbortSignal | undefined;
  callerId: string;
  begun(): void;
  stopWaiting(): void;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

const MAX_WAITING = 400;
/** A photo's tasks come within seconds of each other; a service at rest has no children. */
const IDLE_AFTER = 20_000;

export class ChildPool<Name extends string = Module> {
  readonly #options: PoolOptions;
  readonly #queue: FairQueue<Waiting<Name>>;
  readonly #children = new Set<Child>();
  /** Ends a child that has nothing to do. */
  readonly #idle = new Map<Child, NodeJS.Timeout>();
  #confinement: Promise<Confinement> | undefined;
  #makesRoom = false;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#queue = new FairQueue(options.maxWaiting ?? MAX_WAITING);
    this.#confinement = options.confinement && Promise.resolve(options.confinement);
  }

  /** Children that live. */
  get size(): number {
    return this.#children.size;
  }

  /** Tasks that wait for a child. */
  get waiting(): number {
    return this.#queue.size;
  }

  /**
   * Runs a task as soon as it is its turn.
   * @returns what the handler answered
   * @throws ToolError; PoolBusy when too many tasks wait
   */
  async run<T>(task: Task<Name>, options: TaskOptions): Promise<T> {
    if (!this.#queue.hasRoomFor(options.callerId ?? '')) throw new PoolBusy('too many tasks wait for a process');
    return (await this.#enqueue(task, options)) as T;
  }

  /**
   * Runs a task only if a child begins with it soon, for whoever has somebody waiting.
   * @param wait milliseconds
   * @returns undefined when no child was free in time
   * @throws ToolError
   */
  async tryRun<T>(task: Task<Name>, options: TaskOptions & { wait: number }): Promise<{ value: T } | undefined> {
    if (!this.#queue.hasRoomFor(options.callerId ?? '')) return undefined;
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), options.wait);
    const signal = options.signal ? AbortSignal.any([late.signal, options.signal]) : late.signal;
    try {
      return { value: (await this.#enqueue(task, { ...options, signal }, () => clearTimeout(timer))) as T };
    } catch (error) {
      if (late.signal.aborted) return undefined;
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends all children; tasks that run or wait are aborted. */
  async close(): Promise<void> {
    this.#closed = true;
    for (let next = this.#queue.take(); next; next = this.#queue.take()) next.reject(notStarted());
    for (const child of this.#children) child.kill('aborted');
    await Promise.all([...this.#children].map(({ ended }) => ended));
  }

  #enqueue(task: Task<Name>, options: TaskOptions, begun: () => void = () => {}): Promise<unknown> {
    const { seconds, signal, callerId = '' } = options;
    return new Promise((resolve, reject) => {
      if (this.#closed || signal?.aborted) return reject(notStarted());
      const waiting: Waiting<Name> = { task, seconds, signal, callerId, begun, resolve, reject, stopWaiting: () => {} };
      const onAbort = () => {
        if (this.#queue.remove(waiting)) reject(notStarted());
      };
      waiting.stopWaiting = () => signal?.removeEventListener('abort', onAbort);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#queue.add(waiting);
      this.#serve();
    });
  }

  /** Gives tasks to children, as long as there are both. */
  #serve(): void {
    for (let next = this.#queue.first(); next; next = this.#queue.first()) {
      const child = this.#childFor(next.task.module);
      if (child === undefined) return;
      this.#queue.take();
      next.stopWaiting();
      void this.#give(child, next);
    }
  }

  #childFor(module: string): Child | undefined {
    const free = [...this.#children].filter(({ isFree }) => isFree);
    const child = free.find((one) => one.module === module);
    if (child !== undefined) return child;
    if (this.#children.size < this.#options.size) return this.#start(module);
    // One of another module makes room; when it has ended, its place is given to the task that is then first.
    if (!this.#makesRoom) free[0]?.kill('aborted');
    this.#makesRoom ||= free.length > 0;
    return undefined;
  }

  async #give(child: Child, waiting: Waiting<Name>): Promise<void> {
    clearTimeout(this.#idle.get(child));
    let beganAt: number | undefined;
    const begun = () => {
      beganAt = performance.now();
      waiting.begun();
    };
    const { task, seconds, signal } = waiting;
    let outcome: 'done' | ToolFault = 'done';
    try {
      const { input, file, outputDirectory } = task;
      waiting.resolve(await child.run(input, { seconds, signal, file, outputDirectory, begun }));
    } catch (error) {
      outcome = error instanceof ToolError ? error.fault : 'crashed';
      waiting.reject(error);
    }
    this.#queue.ended(waiting);
    if (beganAt !== undefined)
      this.#options.observer?.task?.(task.module, outcome, (performance.now() - beganAt) / 1000);
    this.#rest(child);
    this.#serve();
  }

  /** A child that has done its work is replaced when it has done enough of it, and ends when no more comes. */
  #rest(child: Child): void {
    if (!child.isFree) return;
    if (child.tasks >= this.#options.recycleAfter || child.isSpent) child.kill('aborted');
    else this.#idle.set(child, setTimeout(() => child.kill('aborted'), this.#options.idleAfter ?? IDLE_AFTER).unref());
  }

  #start(module: string): Child {
    this.#confinement ??= confinementHere();
    const { scratch, workerFile: fileOf = workerFile } = this.#options;
    const options = { module, file: fileOf(module), scratch, limits: this.#options, confinement: this.#confinement };
    const child = new Child(options);
    this.#children.add(child);
    void child.ended.then(() => {
      clearTimeout(this.#idle.get(child));
      this.#idle.delete(child);
      this.#children.delete(child);
      this.#makesRoom = false;
      if (child.diedOf !== undefined) this.#options.observer?.died?.(module, child.diedOf);
      this.#serve();
    });
    return child;
  }
}

const notStarted = () => new ToolError('aborted', 'the task was not started');
