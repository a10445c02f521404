/** What a job is. Each feature defines its own; see `Feature.jobs`. */
import { z } from 'zod';
import type { Executor } from '../database/client.ts';
import type { JobReference } from '../database/outbox.ts';

export const MINUTE = 60;
export const HOUR = 60 * MINUTE;

/** What a job may use while it runs. */
export interface JobContext {
  /** Of the job; the request id of what it writes to the audit trail. */
  id: string;
  /** Aborted when the worker stops and will not wait longer, or the job took too long. */
  signal: AbortSignal;
  /**
   * Call in every transaction by which the job writes a result: it fails when the job was meanwhile given to another
   * worker, and keeps it from being given until the transaction ends.
   * @throws LeaseLost
   */
  fence(transaction: Executor): Promise<void>;
}

/** One of the jobs that a worker took together. */
export interface BatchedJob<Data extends object> {
  readonly id: string;
  readonly data: Data;
  /** As that of `JobContext`. */
  readonly signal: AbortSignal;
}

/** What jobs may use that are run together. */
export interface BatchContext {
  /** Aborted when the worker stops and will not wait longer, or one of the jobs is not its own any more. */
  signal: AbortSignal;
  /**
   * Call in every transaction by which results are written, with the ids of the jobs that they are of. It keeps these from
   * being given to another worker until the transaction ends.
   * @returns the ids that are still this worker's; for the others nothing may be written
   */
  fence(transaction: Executor, ids: readonly string[]): Promise<ReadonlySet<string>>;
}

/** The job belongs to another worker by now; nothing may be written for it. */
export class LeaseLost extends Error {
  override name = 'LeaseLost';
}

/** How a job is kept and tried. */
export interface JobSettings {
  /** Tries after the first. */
  readonly retries: number;
  /** Seconds before the second try; the pause doubles up to the longest. */
  readonly firstPause: number;
  readonly longestPause: number;
  /** Seconds that a job may take. */
  readonly limit: number;
  /** When it is enqueued by itself (cron, UTC); then there is never more than one of it. */
  readonly schedule?: string;
  /** Jobs that one worker takes and runs at once. */
  readonly concurrency: number;
  /** Polling interval, seconds. */
  readonly poll: number;
  /**
   * Whatever it does, it removes nothing from the object store. Only such jobs run while a restore waits to be confirmed;
   * see database/unconfirmed-restore.ts.
   */
  readonly keepsObjects: boolean;
}

/** `Core` is whatever the job uses of what features share. */
export interface Job<Core = unknown, Data extends object = object> extends JobReference<Data>, JobSettings {
  /** What the job carries, as it is found in the database. @throws when it is something else */
  parse(data: unknown): Data;
  /**
   * Does the work of up to `concurrency` jobs. Each may run twice, so it must be repeatable.
   * @returns what failed, by the ids of the jobs that are to be tried again; all of them are when it rejects
   */
  runBatch(jobs: readonly BatchedJob<Data>[], context: BatchContext, core: Core): Promise<ReadonlyMap<string, unknown>>;
}

interface Definition<Data extends object> extends JobReference<Data>, Partial<JobSettings> {
  /** Schema of what the job carries. */
  readonly data: z.ZodType<Data>;
}

export interface JobDefinition<Core, Data extends object> extends Definition<Data> {
  /** Does the work. May run twice, so it must be repeatable; when it rejects, it is tried again. */
  run(data: Data, context: JobContext, core: Core): Promise<void>;
}

export interface BatchJobDefinition<Core, Data extends object> extends Definition<Data> {
  runBatch: Job<Core, Data>['runBatch'];
}

/** What a job carries that needs to be told nothing. */
export const nothing = z.object({});

/**
 * Defines a job; its name is the name of its queue. What is not said suits short work that may be tried again soon.
 * Enqueue it by `outbox.send(transaction, job, data)`.
 */
export function defineJob<Core, Data extends object>({ run, ...rest }: JobDefinition<Core, Data>): Job<Core, Data> {
  return defineBatchJob({
    ...rest,
    runBatch: async (jobs, { fence }, core: Core) => {
      const failed = new Map<string, unknown>();
      const runOne = async ({ id, data, signal }: BatchedJob<Data>) => {
        const fenceOne = async (transaction: Executor) => {
          if (!(await fence(transaction, [id])).has(id))
            throw new LeaseLost(`the job ${id} was given to another worker`);
        };
        await run(data, { id, signal, fence: fenceOne }, core);
      };
      await Promise.all(jobs.map((job) => runOne(job).catch((error) => failed.set(job.id, error))));
      return failed;
    },
  });
}

/** Defines a job of which many are done together, where that takes less than one after the other. */
export function defineBatchJob<Core, Data extends object>({
  data: schema,
  ...rest
}: BatchJobDefinition<Core, Data>): Job<Core, Data> {
  return {
    retries: 5,
    firstPause: 5,
    longestPause: 15 * MINUTE,
    limit: HOUR,
    concurrency: 1,
    keepsObjects: false,
    // Nobody waits for what the clock enqueues.
    poll: rest.schedule === undefined ? 0.5 : 5,
    ...rest,
    parse: (data) => schema.parse(data),
  };
}
