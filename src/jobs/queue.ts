/**
 * Jobs: work that happens after the answer. They are kept in Postgres (pg-boss, schema `pgboss`) and enqueued in the
 * transaction of the change that causes them, so there is never one without the other. Each runs at least once, so each
 * must be repeatable; it is tried again with growing pauses, and after the last try it becomes a dead letter that an
 * administrator can see and send again. The only file that knows pg-boss.
 *
 * A worker renews the lease of its jobs (heartbeat). A job whose worker died or was frozen is given to another; what the
 * first one still tries to write is refused, by pg-boss for the outcome of the job, by `JobContext.fence` for the rest.
 *
 * Workers poll: every connection comes from a pool of ours with time limits, and none is pinned to listen.
 */

import { type Job, type JobResult, PgBoss } from 'pg-boss';
import { type DatabaseHandle, type Executor, isDatabaseUnavailable } from '../database/client.ts';
import type { JobReference, SendOptions } from '../database/outbox.ts';
import { ObjectStoreUnavailable } from '../storage/object-store.ts';
import { countByState, oldestWaiting } from './repository.ts';

/** What each queue's jobs carry. */
export interface JobData {
  'delete-object': { assetId: string };
  'verify-asset': { assetId: string };
  'reap-uploads': Record<string, never>;
  'purge-assets': Record<string, never>;
  reconcile: Record<string, never>;
}
export type QueueName = keyof JobData;

interface QueueSettings {
  /** Tries after the first, and seconds before the second; the pause doubles up to the longest. */
  retries: number;
  firstPause: number;
  longestPause: number;
  /** Seconds a job may take. */
  limit: number;
  /** When it is enqueued by itself (cron, UTC); then there is never more than one of it. */
  schedule?: string;
  /** Jobs that one worker runs at once. */
  concurrency: number;
  /** Polling interval, seconds. */
  poll: number;
}

const MINUTE = 60;
const HOUR = 3600;

export const queues: Record<QueueName, QueueSettings> = {
  'delete-object': { retries: 16, firstPause: 2, longestPause: 900, limit: 10 * MINUTE, concurrency: 16, poll: 0.5 },
  // Reads a large file back.
  'verify-asset': { retries: 16, firstPause: 2, longestPause: 900, limit: 6 * HOUR, concurrency: 2, poll: 0.5 },
  'reap-uploads': {
    retries: 3,
    firstPause: 5,
    longestPause: 60,
    limit: HOUR,
    schedule: '* * * * *',
    concurrency: 1,
    poll: 5,
  },
  'purge-assets': {
    retries: 3,
    firstPause: 60,
    longestPause: 600,
    limit: 6 * HOUR,
    schedule: '17 * * * *',
    concurrency: 1,
    poll: 5,
  },
  reconcile: {
    retries: 2,
    firstPause: 300,
    longestPause: 900,
    limit: 24 * HOUR,
    schedule: '41 3 * * *',
    concurrency: 1,
    poll: 5,
  },
};
export const queueNames = Object.keys(queues) as QueueName[];

/** Seconds without a sign of life after which a job is given to another worker; the least pg-boss allows. */
const HEARTBEAT = 10;
/** Seconds between looks for jobs whose worker died. */
const SUPERVISION = 5;
/** How long outcomes are kept. Seconds. */
const KEEP_COMPLETED = HOUR;
const KEEP_UNTAKEN = 90 * 24 * HOUR;
const deadLettersOf = (queue: QueueName) => `${queue}.dead`;

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

/** The job belongs to another worker by now; nothing may be written for it. */
export class LeaseLost extends Error {
  override name = 'LeaseLost';
}

export interface QueueCounts {
  queue: QueueName;
  /** Ready to be taken, or to be tried again, now or later. */
  waiting: number;
  retrying: number;
  active: number;
  deadLetters: number;
  /** When the oldest job that waits was enqueued. */
  oldestAt?: Date;
}

export interface DeadLetter {
  id: string;
  queue: QueueName;
  at: Date;
  assetId?: string;
  /** A word of ours, never an error message. */
  reason: string;
}

export interface JobQueueOptions {
  database: DatabaseHandle;
  /** false: jobs are only enqueued here. */
  work: boolean;
  onError: (message: string, error: unknown) => void;
}

export class JobQueue {
  readonly #boss: PgBoss;
  readonly #options: JobQueueOptions;
  readonly #workers = new Map<string, string>();
  #stopping: Promise<void> | undefined;

  constructor(options: JobQueueOptions) {
    const { database, work, onError } = options;
    this.#options = options;
    this.#boss = new PgBoss({
      db: { executeSql: (text, values) => database.pool.query(text, values as unknown[]) },
      migrate: false,
      supervise: work,
      schedule: work,
      monitorIntervalSeconds: SUPERVISION,
      superviseIntervalSeconds: SUPERVISION,
      cronMonitorIntervalSeconds: SUPERVISION,
      cronWorkerIntervalSeconds: SUPERVISION,
      // Our own metrics tell the depth of the queues; the notes of pg-boss about vacuum are the operator's affair.
      monitorVacuum: false,
      reindex: false,
    });
    this.#boss.on('error', (error) => onError('the job queue had a fault', error));
    this.#boss.on('warning', () => {});
  }

  async start(): Promise<void> {
    await this.#boss.start();
  }

  /** Enqueues a job that exists only if the transaction commits. */
  async send<Data extends object>(
    transaction: Executor,
    job: JobReference<Data>,
    data: Data,
    options?: SendOptions,
  ): Promise<void>;
  async send<Name extends QueueName>(
    transaction: Executor,
    queue: Name,
    data: JobData[Name],
    options?: SendOptions,
  ): Promise<void>;
  async send(
    transaction: Executor,
    job: JobReference<object> | QueueName,
    data: object,
    { startAfter = 0 }: SendOptions = {},
  ): Promise<void> {
    await this.#boss.send(nameOf(job), data, {
      db: transaction,
      ...(startAfter > 0 && { startAfter }),
    });
  }

  /** Many jobs at once, in one statement. */
  async sendAll<Data extends object>(transaction: Executor, job: JobReference<Data>, data: Data[]): Promise<void>;
  async sendAll<Name extends QueueName>(transaction: Executor, queue: Name, data: JobData[Name][]): Promise<void>;
  async sendAll(transaction: Executor, job: JobReference<object> | QueueName, data: object[]): Promise<void> {
    if (data.length === 0) return;
    await this.#boss.insert(
      nameOf(job),
      data.map((each) => ({ data: each })),
      { db: transaction },
    );
  }

  /** Runs the jobs of a queue here. A rejected job is tried again. */
  async work<Name extends QueueName>(
    queue: Name,
    run: (data: JobData[Name], context: JobContext) => Promise<void>,
  ): Promise<void> {
    const { concurrency, poll } = queues[queue];
    const worker = await this.#boss.work<JobData[Name], unknown, { perJobResults: true }>(
      queue,
      {
        batchSize: Math.max(2, concurrency),
        burstWhenBatchFull: true,
        perJobResults: true,
        pollingIntervalSeconds: poll,
      } as { perJobResults: true },
      async (jobs) => Promise.all(jobs.map((job) => this.#runOne(queue, job, run))),
    );
    this.#workers.set(queue, worker);
  }

  /** Lets the worker of this process, if it has one, look now and not at its next turn. */
  wake(job: JobReference<object> | QueueName): void {
    const worker = this.#workers.get(nameOf(job));
    if (worker !== undefined) this.#boss.notifyWorker(worker);
  }

  async #runOne<Name extends QueueName>(
    queue: Name,
    job: Job<JobData[Name]>,
    run: (data: JobData[Name], context: JobContext) => Promise<void>,
  ): Promise<JobResult> {
    try {
      await run(job.data, {
        id: job.id,
        signal: job.signal,
        fence: (transaction) => this.#fence(queue, job, transaction),
      });
      return { id: job.id, status: 'completed' };
    } catch (error) {
      this.#options.onError(`the job ${queue} has to be tried again`, error);
      return { id: job.id, status: 'failed', output: { reason: reasonOf(error) } };
    }
  }

  /** A renewed heartbeat locks the row of the job; pg-boss refuses it to anybody but the latest attempt. */
  async #fence<Name extends QueueName>(queue: Name, job: Job<JobData[Name]>, transaction: Executor): Promise<void> {
    const answer: object = await this.#boss.touch(queue, job, { db: transaction });
    if ('affected' in answer && answer.affected === 1) return;
    throw new LeaseLost(`the job ${queue} ${job.id} was given to another worker`);
  }

  /** Enqueues a job of a queue that has a schedule, now. Does nothing when one is already there. */
  async runNow(queue: QueueName): Promise<void> {
    await this.#boss.send(queue, {});
  }

  /** Jobs by queue and state. */
  async counts(): Promise<QueueCounts[]> {
    const rows = await countByState(this.#options.database.database);
    const of = (name: string, states: string[]) =>
      rows.filter((row) => row.name === name && states.includes(row.state)).reduce((sum, row) => sum + row.count, 0);
    return queueNames.map((queue) => {
      const oldest = rows
        .filter((row) => row.name === queue && row.state !== 'active')
        .flatMap((row) => row.oldest ?? [])
        .sort((a, b) => a.getTime() - b.getTime())[0];
      return {
        queue,
        waiting: of(queue, ['created']),
        retrying: of(queue, ['retry']),
        active: of(queue, ['active']),
        deadLetters: of(deadLettersOf(queue), ['created', 'retry']),
        ...(oldest && { oldestAt: oldest }),
      };
    });
  }

  /** The oldest dead letters of all queues. */
  async deadLetters(limit: number): Promise<DeadLetter[]> {
    const rows = await oldestWaiting(this.#options.database.database, queueNames.map(deadLettersOf), limit);
    return rows.map(({ id, name, createdOn, data, reason }) => ({
      id,
      queue: name.replace(/\.dead$/, '') as QueueName,
      at: createdOn,
      ...(typeof data?.['assetId'] === 'string' && { assetId: data['assetId'] }),
      reason: reason ?? 'failed',
    }));
  }

  /** Sends dead letters of a queue back to it, all or the ones named. @returns how many */
  async retry(queue: QueueName, ids?: string[]): Promise<number> {
    return this.#boss.redrive(deadLettersOf(queue), { destination: queue, ...(ids && { ids }) });
  }

  /** Running jobs may finish for `patience` milliseconds; then they are handed back. */
  stop(patience: number): Promise<void> {
    this.#stopping ??= this.#boss.stop({ graceful: true, timeout: Math.max(1000, patience), close: false });
    return this.#stopping;
  }
}

const nameOf = (job: JobReference<object> | QueueName) => (typeof job === 'string' ? job : job.name);

/** A word for an administrator. */
function reasonOf(error: unknown): string {
  if (error instanceof ObjectStoreUnavailable) return 'object-store-unavailable';
  if (isDatabaseUnavailable(error)) return 'database-unavailable';
  if (error instanceof LeaseLost) return 'lease-lost';
  return 'failed';
}

/** Makes or changes the tables and queues of the job queue. Runs under the lock of the migrations. */
export async function installQueues(url: string): Promise<void> {
  const boss = new PgBoss({ connectionString: url, max: 1, supervise: false, schedule: false });
  boss.on('error', () => {});
  await boss.start();
  try {
    const there = new Set((await boss.getQueues()).map(({ name }) => name));
    for (const queue of queueNames) {
      const dead = deadLettersOf(queue);
      if (!there.has(dead)) await boss.createQueue(dead, { retentionSeconds: KEEP_UNTAKEN });
      const { retries, firstPause, longestPause, limit, schedule } = queues[queue];
      const options = {
        retryLimit: retries,
        retryDelay: firstPause,
        retryBackoff: true,
        retryDelayMax: longestPause,
        expireInSeconds: Math.min(limit, 24 * HOUR - 1),
        heartbeatSeconds: HEARTBEAT,
        retentionSeconds: KEEP_UNTAKEN,
        deleteAfterSeconds: KEEP_COMPLETED,
        deadLetter: dead,
      };
      if (there.has(queue)) await boss.updateQueue(queue, options);
      else await boss.createQueue(queue, { ...options, policy: schedule === undefined ? 'standard' : 'exclusive' });
      if (schedule === undefined) await boss.unschedule(queue);
      else await boss.schedule(queue, schedule, {}, { tz: 'UTC' });
    }
  } finally {
    await boss.stop({ graceful: false, close: true });
  }
}
