/**
 * Jobs: work that happens after the answer. They are kept in Postgres (pg-boss, schema `pgboss`) and enqueued in the
 * transaction of the change that causes them, so there is never one without the other. Each runs at least once, so each
 * must be repeatable; it is tried again with growing pauses, and after the last try it becomes a dead letter that an
 * administrator can see and send again. The only file that knows pg-boss, and none that knows a job: features bring them.
 *
 * A worker renews the lease of its jobs (heartbeat). A job whose worker died or was frozen is given to another; what the
 * first one still tries to write is refused, by pg-boss for the outcome of the job, by `JobContext.fence` for the rest. Jobs are taken in batches.
 *
 * Workers poll: every connection comes from a pool of ours with time limits, and none is pinned to listen.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { type JobResult, PgBoss, type Job as StoredJob } from 'pg-boss';
import { type DatabaseHandle, type Executor, isDatabaseUnavailable } from '../database/client.ts';
import type { EventReference, JobReference, Outbox, SendOptions } from '../database/outbox.ts';
import { ObjectStoreUnavailable } from '../storage/object-store.ts';
import { type BatchedJob, HOUR, type Job, LeaseLost, MINUTE } from './job.ts';
import { countByState, depthsOf, oldestWaiting } from './repository.ts';

/** Seconds without a sign of life after which a job is given to another worker; the least pg-boss allows. */
const HEARTBEAT = 10;
/** Seconds between looks for jobs whose worker died. */
const SUPERVISION = 5;
/** How long outcomes are kept, and seconds between looks for those that are older: pg-boss would look once a day. */
const KEEP_COMPLETED = HOUR;
const MAINTENANCE = 10 * MINUTE;
const KEEP_UNTAKEN = 90 * 24 * HOUR;
/** Milliseconds between looks whether held jobs may begin. */
const HOLD_POLL = 2000;
const deadLettersOf = (queue: string) => `${queue}.dead`;

export interface QueueCounts {
  queue: string;
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
  queue: string;
  at: Date;
  assetId?: string;
  /** A word of ours, never an error message. */
  reason: string;
}

export interface JobQueueOptions {
  database: DatabaseHandle;
  /** Those of all features. */
  jobs?: readonly Job[];
  /** false: jobs are only enqueued here. */
  work: boolean;
  /** While it says so, jobs that may remove objects wait. */
  isHeld?: () => Promise<boolean>;
  onError: (message: string, error: unknown) => void;
}

/** What listens to an event. */
type Listener = (transaction: Executor, data: object) => Promise<void>;

export class JobQueue implements Outbox {
  /** Names of the queues, one for each job. */
  readonly names: readonly string[];
  readonly #boss: PgBoss;
  readonly #options: JobQueueOptions;
  readonly #jobs: readonly Job[];
  readonly #workers = new Map<string, string>();
  readonly #listeners = new Map<string, Listener[]>();
  readonly #stop = new AbortController();
  /** Ends when all jobs are worked on here that are to be. */
  #released: Promise<void> = Promise.resolve();
  #stopping: Promise<void> | undefined;

  constructor(options: JobQueueOptions) {
    const { database, jobs = [], work, onError } = options;
    this.#options = options;
    this.#jobs = jobs;
    this.names = jobs.map(({ name }) => name);
    if (new Set(this.names).size < jobs.length) throw new Error('two jobs have the same name');
    this.#boss = new PgBoss({
      db: { executeSql: (text, values) => database.pool.query(text, values as unknown[]) },
      migrate: false,
      supervise: work,
      schedule: work,
      monitorIntervalSeconds: SUPERVISION,
      superviseIntervalSeconds: SUPERVISION,
      maintenanceIntervalSeconds: MAINTENANCE,
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

  /** The queues of jobs that something causes, and of their dead letters; the clock enqueues the others. */
  get caused(): string[] {
    const names = this.#jobs.flatMap(({ name, schedule }) => (schedule === undefined ? [name] : []));
    return [...names, ...names.map(deadLettersOf)];
  }

  /** Runs the jobs here, on what features share. */
  async work(core: unknown): Promise<void> {
    const isHeld = (await this.#options.isHeld?.()) ?? false;
    for (const job of this.#jobs) if (job.keepsObjects || !isHeld) await this.#work(job, core);
    if (isHeld) this.#released = this.#whenReleased(core);
  }

  async #whenReleased(core: unknown): Promise<void> {
    const { isHeld, onError } = this.#options;
    const pause = () => delay(HOLD_POLL, true, { signal: this.#stop.signal, ref: false }).catch(() => false);
    while (await pause()) {
      try {
        if (await isHeld?.()) continue;
        for (const job of this.#jobs)
          if (!job.keepsObjects && !this.#workers.has(job.name)) await this.#work(job, core);
        return;
      } catch (error) {
        onError('jobs that wait for the confirmation of a restore could not be started', error);
      }
    }
  }

  /** Calls `listener` in each transaction that publishes the event. */
  subscribe(event: EventReference<object>, listener: Listener): void {
    this.#listeners.set(event.name, [...(this.#listeners.get(event.name) ?? []), listener]);
  }

  async send<Data extends object>(
    transaction: Executor,
    { name }: JobReference<Data>,
    data: Data,
    { startAfter = 0, priority = 0 }: SendOptions = {},
  ): Promise<void> {
    await this.#boss.send(name, data, { db: transaction, priority, ...(startAfter > 0 && { startAfter }) });
  }

  async sendAll<Data extends object>(
    transaction: Executor,
    { name }: JobReference<Data>,
    data: Data[],
    { startAfter = 0, priority = 0 }: SendOptions = {},
  ): Promise<void> {
    if (data.length === 0) return;
    await this.#boss.insert(
      name,
      data.map((each) => ({ data: each, priority, ...(startAfter > 0 && { startAfter }) })),
      { db: transaction },
    );
  }

  wake({ name }: JobReference<object>): void {
    const worker = this.#workers.get(name);
    if (worker !== undefined) this.#boss.notifyWorker(worker);
  }

  hasSubscribers({ name }: EventReference<object>): boolean {
    return this.#listeners.has(name);
  }

  async publish<Data extends object>(transaction: Executor, { name }: EventReference<Data>, data: Data): Promise<void> {
    for (const listener of this.#listeners.get(name) ?? []) await listener(transaction, data);
  }

  async #work(job: Job, core: unknown): Promise<void> {
    const { name, concurrency, poll } = job;
    const worker = await this.#boss.work<object, unknown, { perJobResults: true }>(
      name,
      {
        batchSize: Math.max(2, concurrency),
        burstWhenBatchFull: true,
        perJobResults: true,
        pollingIntervalSeconds: poll,
      } as { perJobResults: true },
      (batch) => this.#run(job, batch, core),
    );
    this.#workers.set(name, worker);
  }

  async #run(job: Job, batch: StoredJob<object>[], core: unknown): Promise<JobResult[]> {
    const failed = new Map<string, unknown>();
    const jobs = batch.flatMap((stored): BatchedJob<object>[] => {
      try {
        return [{ id: stored.id, data: job.parse(stored.data), signal: stored.signal }];
      } catch (error) {
        failed.set(stored.id, error);
        return [];
      }
    });
    try {
      const context = {
        signal: AbortSignal.any(jobs.map(({ signal }) => signal)),
        fence: (transaction: Executor, ids: readonly string[]) => this.#fence(job.name, batch, ids, transaction),
      };
      for (const [id, error] of await job.runBatch(jobs, context, core)) failed.set(id, error);
    } catch (error) {
      for (const { id } of jobs) failed.set(id, error);
    }
    // A fault of the store or the database is that of them all: it is told once.
    for (const [reason, error] of new Map([...failed.values()].map((error) => [reasonOf(error), error])))
      this.#options.onError(`the job ${job.name} has to be tried again: ${reason}`, error);
    return batch.map(({ id }) =>
      failed.has(id)
        ? { id, status: 'failed', output: { reason: reasonOf(failed.get(id)) } }
        : { id, status: 'completed' },
    );
  }

  /** A renewed heartbeat locks the row of the job; pg-boss refuses it to anybody but the latest attempt. */
  async #fence(
    queue: string,
    batch: StoredJob<object>[],
    ids: readonly string[],
    transaction: Executor,
  ): Promise<ReadonlySet<string>> {
    const wanted = new Set(ids);
    const answer: object = await this.#boss.touch(
      queue,
      batch.filter(({ id }) => wanted.has(id)),
      { db: transaction },
    );
    const settled = 'settled' in answer && Array.isArray(answer.settled) ? answer.settled : [];
    return new Set(settled.filter((id) => typeof id === 'string'));
  }

  /** Jobs by queue and state, all of them. */
  async counts(): Promise<QueueCounts[]> {
    const rows = await countByState(this.#options.database.database);
    const of = (name: string, states: string[]) =>
      rows.filter((row) => row.name === name && states.includes(row.state)).reduce((sum, row) => sum + row.count, 0);
    return this.names.map((queue) => {
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

  /** Jobs that wait and dead letters, by queue, for gauges: counted up to 10,000 each, so that looking costs the same always. */
  async depths(): Promise<{ queue: string; waiting: number; deadLetters: number }[]> {
    const depths = await depthsOf(this.#options.database.database, [...this.names, ...this.names.map(deadLettersOf)]);
    return this.names.map((queue) => ({
      queue,
      waiting: depths.get(queue) ?? 0,
      deadLetters: depths.get(deadLettersOf(queue)) ?? 0,
    }));
  }

  /** The oldest dead letters of all queues. */
  async deadLetters(limit: number): Promise<DeadLetter[]> {
    const rows = await oldestWaiting(this.#options.database.database, this.names.map(deadLettersOf), limit);
    return rows.map(({ id, name, createdOn, data, reason }) => ({
      id,
      queue: name.replace(/\.dead$/, ''),
      at: createdOn,
      ...(typeof data?.['assetId'] === 'string' && { assetId: data['assetId'] }),
      reason: reason ?? 'failed',
    }));
  }

  /** Sends dead letters of a queue back to it, all or the ones named. @returns how many */
  async retry(queue: string, ids?: string[]): Promise<number> {
    return this.#boss.redrive(deadLettersOf(queue), { destination: queue, ...(ids && { ids }) });
  }

  /** Running jobs may finish for `patience` milliseconds; then they are handed back. */
  stop(patience: number): Promise<void> {
    this.#stop.abort();
    this.#stopping ??= this.#released.then(() =>
      this.#boss.stop({ graceful: true, timeout: Math.max(1000, patience), close: false }),
    );
    return this.#stopping;
  }
}

/** A word for an administrator. */
function reasonOf(error: unknown): string {
  if (error instanceof ObjectStoreUnavailable) return 'object-store-unavailable';
  if (isDatabaseUnavailable(error)) return 'database-unavailable';
  if (error instanceof LeaseLost) return 'lease-lost';
  return 'failed';
}

/** Makes or changes the tables of the job queue and the queues of these jobs. Runs under the lock of the migrations. */
export async function installQueues(url: string, jobs: readonly Job[]): Promise<void> {
  const boss = new PgBoss({ connectionString: url, max: 1, supervise: false, schedule: false });
  boss.on('error', () => {});
  await boss.start();
  try {
    const there = new Set((await boss.getQueues()).map(({ name }) => name));
    for (const { name: queue, retries, firstPause, longestPause, limit, schedule } of jobs) {
      const dead = deadLettersOf(queue);
      const letters = { retentionSeconds: KEEP_UNTAKEN, deleteAfterSeconds: KEEP_COMPLETED };
      if (there.has(dead)) await boss.updateQueue(dead, letters);
      else await boss.createQueue(dead, letters);
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
