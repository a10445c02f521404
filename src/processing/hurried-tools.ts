/**
 * Tools for whoever has somebody waiting: each of them begins soon or not at all. What a maker asks of them, it asks as of
 * the others; so every kind of file can be looked into before its upload is answered.
 */
import type { MakerTools } from './maker.ts';
import { Pictures } from './pictures/pictures.ts';
import type { Toolbox } from './toolbox.ts';
import type { BoundedSandbox } from './tools/bounded-sandbox.ts';
import type { Task, TaskOptions } from './tools/child-pool.ts';
import type { Sandbox, ToolRun } from './tools/sandbox.ts';

/** No tool was free in time. Nothing is wrong with the file. */
export class NoPlace extends Error {
  override name = 'NoPlace';
}

/**
 * @param wait milliseconds within which a tool must begin
 * @param callerId callers take turns
 * @returns tools that throw NoPlace
 */
export function hurriedTools(
  { pool, sandbox }: Pick<Toolbox, 'pool' | 'sandbox'>,
  { wait, callerId }: { wait: number; callerId: string },
): MakerTools {
  const hurriedPool = {
    run: async <T>(task: Task, options: TaskOptions): Promise<T> =>
      begun(await pool.tryRun<T>(task, { ...options, callerId, wait })),
  };
  return {
    pool: hurriedPool,
    pictures: new Pictures(hurriedPool),
    get sandbox() {
      return sandbox.then((patient) => new HurriedSandbox(patient, wait, callerId));
    },
  };
}

class HurriedSandbox implements Sandbox {
  readonly #sandbox: BoundedSandbox;
  readonly #wait: number;
  readonly #callerId: string;

  constructor(sandbox: BoundedSandbox, wait: number, callerId: string) {
    this.#sandbox = sandbox;
    this.#wait = wait;
    this.#callerId = callerId;
  }

  has(...program: Parameters<Sandbox['has']>): boolean {
    return this.#sandbox.has(...program);
  }

  async run<T>(run: ToolRun, consume: (stdout: AsyncIterable<Buffer>) => Promise<T>): Promise<T> {
    return begun(await this.#sandbox.tryRun({ ...run, callerId: this.#callerId }, consume, this.#wait));
  }
}

function begun<T>(tried: { value: T } | undefined): T {
  if (!tried) throw new NoPlace('no tool was free in time');
  return tried.value;
}
