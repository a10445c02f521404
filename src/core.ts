/**
 * What features share: the resources of the process, and what must be one for all of them, such as the budget of part
 * buffers. A feature gets it with each call; it knows none of them.
 */
import type { FastifyBaseLogger } from 'fastify';
import { type TierLimits, Tiers } from './access/tiers.ts';
import { BackgroundTasks } from './background-tasks.ts';
import { type Config, type Settings, type SettingValues, settingsIn } from './config.ts';
import type { DatabaseHandle } from './database/client.ts';
import type { Outbox } from './database/outbox.ts';
import { readSharedSecret } from './database/secrets.ts';
import { isUnconfirmed } from './database/unconfirmed-restore.ts';
import type { Feature } from './feature.ts';
import { Admission } from './http/admission.ts';
import { AnswerGuard } from './http/answer-guard.ts';
import { DownloadLinks } from './http/download-links.ts';
import { DownloadPlaces } from './http/download-places.ts';
import { LogThrottle } from './http/log-throttle.ts';
import { Metrics } from './http/metrics.ts';
import { publicUrls, type ToPublicUrl } from './http/public-url.ts';
import { SlowClients } from './http/slow-clients.ts';
import { UploadLimit } from './http/upload-limit.ts';
import { Idempotency } from './idempotency/idempotency.ts';
import { JobQueue } from './jobs/queue.ts';
import { Problem, RETRY_SOON } from './problems.ts';
import { type Cdn, openCdn } from './storage/cdn.ts';
import type { Mirror } from './storage/mirror.ts';
import { ObjectKeys } from './storage/object-key.ts';
import type { ObjectStore } from './storage/object-store.ts';
import { PartBuffers } from './storage/part-buffers.ts';
import type { UploadPolicies } from './validation/upload-policies.ts';

/** Milliseconds for undoing what was aborted last, and for jobs to finish before they are handed back. */
const UNDO_TIME = 5000;
const JOB_TIME = 5000;

export interface Core {
  readonly config: Config;
  readonly policies: UploadPolicies;
  /** For requests: statements must be short. */
  readonly database: DatabaseHandle;
  /** A pool of its own for what happens after the answer, with longer time limits. */
  readonly background: DatabaseHandle;
  /** Jobs and events, written in the transaction that causes them. */
  readonly outbox: Outbox;
  /** What waits and what failed. */
  readonly jobs: JobQueue;
  readonly store: ObjectStore;
  /** Other stores that hold a copy of every object. */
  readonly mirrors: readonly Mirror[];
  readonly objectKeys: ObjectKeys;
  readonly buffers: PartBuffers;
  /** Places for uploads. */
  readonly admission: Admission;
  /** Those that send the bytes of uploads, and may be ended for others. */
  readonly slowUploads: SlowClients;
  /** Places for downloads through the process. */
  readonly downloads: DownloadPlaces;
  /** Closes connections whose other side does not read. */
  readonly answers: AnswerGuard;
  /** How much which caller may do. */
  readonly tiers: Tiers;
  /** Uploads of a caller in an hour, over all instances. */
  readonly uploadLimit: UploadLimit;
  readonly idempotency: Idempotency;
  readonly metrics: Metrics;
  readonly log: FastifyBaseLogger;
  /** Aborted when the service will not wait for uploads any longer. */
  readonly stopping: AbortSignal;
  /** Work that is tried until it is done. */
  readonly tasks: BackgroundTasks;
  readonly toPublicUrl: ToPublicUrl;
  /** In front of the object store, where one is configured. */
  readonly cdn: Cdn | undefined;
  /** Links for downloads. */
  readonly links: DownloadLinks;
  /** What a feature's own settings say: `core.settings(noteSettings).NOTES_PER_ASSET`. */
  settings<Own extends Settings>(own: Own): SettingValues<Own>;
  /** Logs what must be looked at and concerns no client. */
  onError(message: string, error: unknown): void;
}

/** What the process has opened. */
export interface Resources {
  config: Config;
  policies: UploadPolicies;
  /** Of the file TIERS, where there is one. */
  tierLimits?: ReadonlyMap<string, TierLimits> | undefined;
  database: DatabaseHandle;
  background: DatabaseHandle;
  store: ObjectStore;
  /** None when absent. */
  mirrors?: readonly Mirror[];
  logger: FastifyBaseLogger;
  /** Made before the store, which counts its retries; new ones when absent. */
  metrics?: Metrics;
}

/** The core with what only its owner may do. */
export interface OpenCore extends Core {
  /** Reads what instances share, lets jobs be enqueued, and runs them where the role says so; before anything is listened to. */
  startWork(): Promise<void>;
  /** Uploads still running are ended. */
  stopUploads(): void;
  /** Ends background work; call after the last request. */
  close(): Promise<void>;
}

/** Puts together what these features share. Nothing is connected to or started by it. */
export function openCore(resources: Resources, features: readonly Feature<Core>[]): OpenCore {
  const { config, database, background, store, mirrors = [], logger, metrics = new Metrics() } = resources;
  const stopping = new AbortController();
  const throttle = new LogThrottle();
  // What fails for one fails for many: the database is away, or there are no descriptors left.
  const onError = (message: string, err: unknown) =>
    throttle.log(message, (more) => logger.warn({ err, ...more }, message));
  const tasks = new BackgroundTasks(onError);
  const jobs = new JobQueue({
    database: background,
    jobs: jobsOf(features),
    work: config.ROLE !== 'api',
    isHeld: () => isUnconfirmed(background.database),
    onError,
  });
  const slowUploads = new SlowClients();
  const answers = new AnswerGuard({ minimumRate: config.MIN_DOWNLOAD_RATE, grace: config.READ_TIMEOUT });
  let keySecret: Buffer | undefined;
  const toPublicUrl = publicUrls(config, store.kind);
  const cdn = openCdn(config);
  const core: OpenCore = {
    config,
    policies: resources.policies,
    database,
    background,
    outbox: jobs,
    jobs,
    store,
    mirrors,
    buffers: new PartBuffers(config.UPLOAD_MEMORY, config.PART_SIZE, (callerId) => slowUploads.endOne(callerId)),
    objectKeys: new ObjectKeys(config.S3_KEY_PREFIX, () => {
      if (keySecret) return keySecret;
      throw new Error('object keys are made when the service has started');
    }),
    admission: new Admission({
      total: config.UPLOADS_AT_ONCE,
      perCaller: config.UPLOADS_PER_CALLER,
      wait: config.UPLOAD_WAIT,
      slowClients: slowUploads,
    }),
    slowUploads,
    downloads: new DownloadPlaces(
      { total: config.DOWNLOADS_AT_ONCE, perCaller: config.DOWNLOADS_PER_CALLER, wait: config.UPLOAD_WAIT },
      answers,
    ),
    answers,
    tiers: new Tiers({ limits: resources.tierLimits, database: database.database, onError }),
    uploadLimit: new UploadLimit(database.database, config.UPLOADS_PER_HOUR),
    idempotency: new Idempotency({
      database,
      lease: config.UPLOAD_LEASE / 1000,
      keysPerHour: config.IDEMPOTENCY_KEYS_PER_HOUR,
      onError,
    }),
    metrics,
    log: logger,
    stopping: stopping.signal,
    tasks,
    toPublicUrl,
    cdn,
    links: new DownloadLinks({ store, cdn, toPublicUrl }),
    settings: (own) => settingsIn(config, own),
    onError,
    startWork: async () => {
      keySecret = await readSharedSecret(background.database, 'object-keys');
      for (const feature of features) await feature.start?.(core);
      await jobs.start();
      if (config.ROLE === 'api') return;
      await jobs.work(core);
      for (const feature of features) feature.work?.(core);
    },
    stopUploads: () =>
      stopping.abort(
        new Problem('unavailable', { detail: 'The service is stopping. Send the file again.', retryAfter: RETRY_SOON }),
      ),
    close: () => (closing ??= closeAll()),
  };
  let closing: Promise<void> | undefined;
  const closeAll = async () => {
    for (const feature of features.toReversed()) await closeFeature(feature);
    await tasks.close(UNDO_TIME);
    await jobs.stop(JOB_TIME);
  };
  const closeFeature = async (feature: Feature<Core>) => {
    try {
      await feature.close?.(core);
    } catch (error) {
      onError(`the feature ${feature.name} could not be closed`, error);
    }
  };
  for (const feature of features) {
    for (const { event, tell } of feature.on ?? [])
      jobs.subscribe(event, (transaction, data) => tell(transaction, data, core));
    metrics.add(feature.gauges?.(core) ?? []);
  }
  return core;
}

/** The jobs of all features. */
export function jobsOf(features: readonly Feature<Core>[]) {
  return features.flatMap(({ jobs = [] }) => jobs);
}
