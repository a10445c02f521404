/** A sandbox in which so many programs run at once, and no more: each may take hundreds of megabytes. Others wait in order. */
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

export class BoundedSandbox implements Sandbox {
  readonly #sandbox: Sandbox;
  readonly #options: BoundedSandboxOptions;
  readonly #waiting = new Set<() => void>();
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
    await this.#enter(run.program, run.signal);
    return this.#runInPlace(run, consume);
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
    try {
      await this.#enter(run.program, run.signal ? AbortSignal.any([late, run.signal]) : late);
    } catch (error) {
      if (late.aborted && !run.signal?.aborted) return undefined;
      throw error;
    }
    return { value: await this.#runInPlace(run, consume) };
  }

  async #runInPlace<T>(run: ToolRun, consume: (stdout: AsyncIterable<Buffer>) => Promise<T>): Promise<T> {
    try {
      return await this.#sandbox.run(run, consume);
    } catch (error) {
      if (error instanceof ToolError && ends.has(error.fault)) this.#options.died?.(run.program, error.fault);
      throw error;
    } finally {
      this.#leave();
    }
  }

  async #enter(program: Program, signal: AbortSignal | undefined): Promise<void> {
    if (this.#running < this.#options.size) {
      this.#running += 1;
      return;
    }
    const turn = Promise.withResolvers<void>();
    const giveUp = () => {
      if (this.#waiting.delete(turn.resolve)) turn.reject(new ToolError('aborted', `${program} was not started`));
    };
    this.#waiting.add(turn.resolve);
    signal?.addEventListener('abort', giveUp, { once: true });
    if (signal?.aborted) giveUp();
    try {
      await turn.promise;
    } finally {
      signal?.removeEventListener('abort', giveUp);
    }
  }

  /** The place goes to the one that has waited longest. */
  #leave(): void {
    const [next] = this.#waiting;
    if (!next) {
      this.#running -= 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
