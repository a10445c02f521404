/**
 * A feature is a room of `src/` that plugs into the application by one static object. app.ts lists them all; nothing else
 * knows one by name. Every member but the name is optional, and what is absent costs nothing.
 *
 * `Core` is what the feature uses of what features share (core.ts); features below it in the house name the part they need.
 */
import type { Settings } from './config.ts';
import type { AuditAction } from './database/audit.ts';
import type { Executor } from './database/client.ts';
import type { EventReference } from './database/outbox.ts';
import type { Check } from './doctor/check.ts';
import type { Ability } from './http/health.ts';
import type { Gauge } from './http/metrics.ts';
import type { App, Tag } from './http/openapi.ts';
import type { Job } from './jobs/job.ts';
import type { ProblemType } from './problems.ts';

export interface Feature<Core = unknown> {
  readonly name: string;
  /** Tags of the contract under which its operations are listed. */
  readonly tags?: readonly Tag[];
  /** Variables of the environment beside those of config.ts; read them by `core.settings(...)`. */
  readonly settings?: Settings;
  /** Problems beside those of the catalogue; see `defineProblem`. */
  readonly problems?: readonly ProblemType[];
  /** What it writes to the audit trail; see `AuditActions`. */
  readonly auditActions?: readonly AuditAction[];
  /** Registers its routes, in a scope of their own: content type parsers and hooks reach no other feature. */
  routes?(app: App, core: Core): void | Promise<void>;
  readonly jobs?: readonly Job<Core>[];
  /** What it does when something happens elsewhere; see `subscribe`. */
  readonly on?: readonly Subscription<Core>[];
  gauges?(core: Core): readonly Gauge[];
  /** What `npm run doctor` tries out. */
  checks?(core: Core): readonly Check[];
  /** What it can do only where programs are installed; told by `/health` and at the start. */
  abilities?(core: Core): Promise<readonly Ability[]>;
  /** Runs before jobs are run and requests are taken; what it rejects with ends the start. */
  start?(core: Core): Promise<void>;
  /** Begins what it does by itself beside jobs, in processes that run these; `close` ends it. */
  work?(core: Core): void;
  /** Ends what it holds; called once, after the last request and before the job queue stops. */
  close?(core: Core): void | Promise<void>;
}

/** What is done in the transaction in which something happens. */
export interface Subscription<Core = unknown> {
  readonly event: EventReference<object>;
  tell(transaction: Executor, data: object, core: Core): Promise<void>;
}

/**
 * Listens to an event. `tell` runs in the transaction of the change: what it writes commits with it, and when it rejects,
 * the change does not happen. So let it do no more than enqueue a job or write a row.
 */
export function subscribe<Core, Data extends object>(
  event: EventReference<Data>,
  tell: (transaction: Executor, data: Data, core: Core) => Promise<void>,
): Subscription<Core> {
  return { event, tell };
}

/** The settings of all features. @throws Error when two have a variable of the same name */
export function settingsOf(features: readonly Feature<never>[]): Settings {
  const all: Record<string, Settings[string]> = {};
  for (const { name, settings = {} } of features)
    for (const [variable, setting] of Object.entries(settings)) {
      if (variable in all) throw new Error(`the setting ${variable} of ${name} belongs to another feature`);
      all[variable] = setting;
    }
  return all;
}
