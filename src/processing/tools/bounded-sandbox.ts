/** A sandbox in which so many programs run at once, and no more: each may take hundreds of megabytes. Callers take turns. */
import { FairQueue } from './fair-queue.ts';
import type { Program, Sandbox, ToolRun } from './sandbox.ts';
import { ToolError, type ToolFault } from './tool-error.ts';

/** Faults by which a program was ended, or died: the others it told itself. */
const ends: ReadonlySet<ToolFault> = new Set(['timed-out', 'out-of-memory', 'crashed', 'output-too-large']);

export interface BoundedSandboxOptions {
  /** Programs at once. */
  size: number;
  /** Told of programs that were killed, or died. */
  died?: (program: Program, reason: ToolFault) => void;
}

interface Turn {
  callerId: string;
  begin(): void;
}

export class BoundedSandbox implements Sandbox {
  readonly #sandbox: Sandbox;
  readonly #options: BoundedSandboxOptions;
  readonly #waiting = new FairQueue<Turn>(Number.POSITIVE_INFINITY);
  #running = 0;

  constructor(sandbox: Sandbox, options: BoundedSandboxOptions) {
    this.#sandbox = sandbox;
    this.#options = options;
  }

  has(program: Program): boolean {
    return this.#sandbox.has(program);
  }

  /** The time that a program may take counts from its start. */
  async run<T>(run: ToolRun, consume: (stdout: AsyncIterable<Buffer>) => Promise<T>): Promise<T> {
    return this.#runInPlace(await this.#enter(run, run.signal), run, consume);
  }

  /**
   * Runs a program only if it starts soon, for whoever has somebody waiting.
   * @param wait milliseconds until there must be a place
   * @returns undefined when none was free in time
   * @throws as `run` does
   */
  async tryRun<T>(
    run: ToolRun,
    consume: (stdout: AsyncIterable<Buffer>) => Promise<T>,
    wait: number,
  ): Promise<{ value: T } | undefined> {
    const late = AbortSignal.timeout(wait);
    let turn: Turn;
    try {
      turn = await this.#enter(run, run.signal ? AbortSignal.any([late, run.signal]) : late);
    } catch (error) {
      if (late.aborted && !run.signal?.aborted) return undefined;
      throw error;
    }
    return { value: await this.#runInPlace(turn, run, consume) };
  }

  async #runInPlace<T>(turn: Turn, run: ToolRun, consume: (stdout: AsyncIterable<Buffer>) => Promise<T>): Promise<T> {
    try {
      return await this.#sandbox.run(run, consume);
    } catch (error) {
      if (error instanceof ToolError && ends.has(error.fault)) this.#options.died?.(run.program, error.fault);
      throw error;
    } finally {
      this.#leave(turn);
    }
  }

  async #enter({ program, callerId = '' }: ToolRun, signal: AbortSignal | undefined): Promise<Turn> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const turn: Turn = { callerId, begin: resolve };
    const giveUp = () => {
      if (this.#waiting.remove(turn)) reject(new ToolError('aborted', `${program} was not started`));
    };
    this.#waiting.add(turn);
    this.#serve();
    signal?.addEventListener('abort', giveUp, { once: true });
    if (signal?.aborted) giveUp();
    try {
      await promise;
    } finally {
      signal?.removeEventListener('abort', giveUp);
    }
    return turn;
  }

  #serve(): void {
    while (this.#running < this.#options.size) {
      const next = this.#waiting.take();
      if (!next) return;
      this.#running += 1;
      next.begin();
    }
  }

  #leave(turn: Turn): void {
    this.#running -= 1;
    this.#waiting.ended(turn);
    this.#serve();
  }
}
