/** What steps work with, one of each in a process: made when somebody asks for it, ended with the service. */
import { Counter, Histogram } from '@prometheus-io/client';
import type { Core } from '../core.ts';
import type { Gauge } from '../http/metrics.ts';
import { Pictures } from './pictures/pictures.ts';
import { processingSettings } from './settings.ts';
import { BoundedSandbox } from './tools/bounded-sandbox.ts';
import { ChildPool } from './tools/child-pool.ts';
import { openSandbox, type Sandbox } from './tools/sandbox.ts';
import { Scratch } from './tools/scratch.ts';

const MiB = 2 ** 20;
/** Bytes that the tasks of a child may take. */
const CHILD_MEMORY = 640 * MiB;
const CHILD_CPU_SECONDS = 600;
const RECYCLE_AFTER = 200;

export interface Toolbox {
  /** Programs of the system, TOOLS_AT_ONCE at once. */
  readonly sandbox: Promise<BoundedSandbox>;
  /** The same beside these, for work that takes hours and has a bound of its own. */
  readonly transcoder: Promise<Sandbox>;
  /** Processes for libraries that read bytes that nobody trusts. */
  readonly pool: ChildPool;
  readonly pictures: Pictures;
  /** Files that tools read. */
  readonly scratch: Scratch;
  readonly gauges: readonly Gauge[];
  /** Told how each step ended, and after how many seconds. */
  onStep(step: string, outcome: string, seconds: number): void;
}

const toolboxes = new WeakMap<object, OpenToolbox>();

/** The tools of this service. */
export function toolboxOf(core: Core): Toolbox {
  const known = toolboxes.get(core);
  if (known) return known;
  const toolbox = new OpenToolbox(core);
  toolboxes.set(core, toolbox);
  return toolbox;
}

/** Ends them, if there are any. */
export async function closeToolbox(core: Core): Promise<void> {
  await toolboxes.get(core)?.close();
}

class OpenToolbox implements Toolbox {
  readonly pool: ChildPool;
  readonly pictures: Pictures;
  readonly scratch: Scratch;
  readonly gauges: readonly Gauge[];
  readonly #steps: Histogram<'step' | 'outcome'>;
  readonly #killed: Counter<'tool' | 'reason'>;
  readonly #atOnce: number;
  #sandbox: Promise<BoundedSandbox> | undefined;
  #transcoder: Promise<Sandbox> | undefined;

  constructor(core: Core) {
    const { SCRATCH_DIR, SCRATCH_BYTES, TOOLS_AT_ONCE } = core.settings(processingSettings);
    this.#atOnce = TOOLS_AT_ONCE;
    const registers = [core.metrics.registry];
    this.#steps = new Histogram({
      name: 'stowage_processing_step_seconds',
      help: 'Duration of steps of processing by outcome',
      labelNames: ['step', 'outcome'],
      buckets: [0.02, 0.1, 0.5, 2, 10, 60, 600],
      registers,
    });
    this.#killed = new Counter({
      name: 'stowage_tools_killed_total',
      help: 'Processes that read files and were killed, or died',
      labelNames: ['tool', 'reason'],
      registers,
    });
    this.scratch = new Scratch({ directory: SCRATCH_DIR, bytes: SCRATCH_BYTES });
    // What a process left that died goes now, whether a file comes or not.
    this.scratch
      .prepare()
      .catch((error) => core.onError('the directory for files that tools read is of no use', error));
    this.pool = new ChildPool({
      size: TOOLS_AT_ONCE,
      memory: CHILD_MEMORY,
      cpuSeconds: CHILD_CPU_SECONDS,
      recycleAfter: RECYCLE_AFTER,
      scratch: this.scratch.directory,
      observer: {
        // One that nobody waits for any more was killed too, but tells nothing of the file.
        died: (tool, reason) => reason !== 'aborted' && this.#killed.inc({ tool, reason }),
      },
    });
    this.pictures = new Pictures(this.pool);
    this.gauges = [
      { name: 'stowage_tools_running', help: 'Processes that read files', read: () => this.pool.size },
      { name: 'stowage_tools_waiting', help: 'Tasks that wait for such a process', read: () => this.pool.waiting },
    ];
  }

  get sandbox(): Promise<BoundedSandbox> {
    this.#sandbox ??= this.#bounded(this.#atOnce);
    return this.#sandbox;
  }

  get transcoder(): Promise<Sandbox> {
    this.#transcoder ??= this.#bounded(1);
    return this.#transcoder;
  }

  async #bounded(size: number): Promise<BoundedSandbox> {
    const died = (tool: string, reason: string) => this.#killed.inc({ tool, reason });
    return new BoundedSandbox(await openSandbox(), { size, died });
  }

  onStep(step: string, outcome: string, seconds: number): void {
    this.#steps.observe({ step, outcome }, seconds);
  }

  async close(): Promise<void> {
    await this.pool.close();
    await this.scratch.close();
  }
}
