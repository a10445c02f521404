/**
 * What is to happen after a change, written in the transaction that changes it: jobs, and events that tell other features.
 * So there is never the one without the other. This is the port; the queue in `jobs/` is behind it, and no repository
 * knows more of jobs than what is here.
 */
import type { Executor } from './client.ts';

/** Names a job and what it carries. `defineJob` (jobs/) makes them. */
export interface JobReference<Data extends object> {
  readonly name: string;
  /** Never set: holds the type of what the job carries. */
  readonly carries?: Data;
}

/** Names an event and what it tells. */
export interface EventReference<Data extends object> {
  readonly name: string;
  /** Never set: holds the type of what the event tells. */
  readonly tells?: Data;
}

/** An event, such as `asset.ready`. Whoever publishes it does not know who listens. */
export function defineEvent<Data extends object>(name: string): EventReference<Data> {
  return { name };
}

export interface SendOptions {
  /** Seconds before which the job does not begin. */
  startAfter?: number;
  /** A job of a higher one is taken before others of its queue; 0 when absent. */
  priority?: number;
}

export interface Outbox {
  /** Enqueues a job that exists only if the transaction commits. */
  send<Data extends object>(
    transaction: Executor,
    job: JobReference<Data>,
    data: Data,
    options?: SendOptions,
  ): Promise<void>;

  /** Enqueues many jobs by one statement. */
  sendAll<Data extends object>(
    transaction: Executor,
    job: JobReference<Data>,
    data: Data[],
    options?: SendOptions,
  ): Promise<void>;

  /** Lets the worker of this process, if it has one, look for such jobs now; call after the commit. */
  wake(job: JobReference<object>): void;

  /** Whether somebody listens; if nobody does, a change of one statement needs no transaction. */
  hasSubscribers(event: EventReference<object>): boolean;

  /** Tells those who listen, within the transaction: what they write commits with it. */
  publish<Data extends object>(transaction: Executor, event: EventReference<Data>, data: Data): Promise<void>;
}
