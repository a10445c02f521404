/**
 * Composes the application: every plugin and route group there is, in the order in which a request meets them. What
 * runs the process (configuration, listening, signals) is in process.ts.
 */
import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
import Fastify, { type FastifyBaseLogger, LogController } from 'fastify';
import { downloadRoutes, type ToPublicUrl } from './assets/downloads.ts';
import { AssetsRepository } from './assets/repository.ts';
import { assetRoutes } from './assets/routes.ts';
import type { Config } from './config.ts';
import type { DatabaseHandle } from './database/client.ts';
import { ping } from './database/probes.ts';
import { Admission } from './http/admission.ts';
import { type AuthenticationOptions, authenticate } from './http/authentication.ts';
import { guardBodies } from './http/body-guard.ts';
import { documentation } from './http/documentation.ts';
import { answerParserError, installErrorHandler, rememberRoutes } from './http/error-handler.ts';
import { healthRoutes } from './http/health.ts';
import { Metrics, metricsRoute } from './http/metrics.ts';
import { type App, useZod } from './http/openapi.ts';
import { limitRequests } from './http/rate-limit.ts';
import { logRequests, requestIdOf } from './http/request-log.ts';
import { UploadLimit } from './http/upload-limit.ts';
import { Idempotency, type UploadFate } from './idempotency/idempotency.ts';
import type { JobContext, JobQueue } from './jobs/queue.ts';
import { jobRoutes } from './jobs/routes.ts';
import { reap, startWorkers } from './jobs/workers.ts';
import { Problem, RETRY_SOON } from './problems.ts';
import { QuotasRepository } from './quotas/repository.ts';
import { quotaRoutes } from './quotas/routes.ts';
import {
  type ReconcileOutcome,
  type ReconcileReport,
  type ReconcileRequest,
  reconcile,
} from './reconciliation/reconciler.ts';
import { ReconciliationRepository } from './reconciliation/repository.ts';
import { DiskObjectStore } from './storage/disk/disk-object-store.ts';
import type { ObjectStore } from './storage/object-store.ts';
import { PartBuffers } from './storage/part-buffers.ts';
import { DirectIntake } from './uploads/direct-intake.ts';
import { DirectUploadsRepository } from './uploads/direct-uploads-repository.ts';
import { Intake } from './uploads/intake.ts';
import { UploadsRepository } from './uploads/repository.ts';
import { ResumableIntake } from './uploads/resumable-intake.ts';
import { ResumableUploadsRepository } from './uploads/resumable-uploads-repository.ts';
import { directDoor, diskPartRoute } from './uploads/routes/direct.ts';
import { formDoors } from './uploads/routes/form.ts';
import { rawDoor } from './uploads/routes/raw.ts';
import { resumableDoor } from './uploads/routes/resumable.ts';
import { uploadAnswer } from './uploads/routes/upload-request.ts';
import { UsageRepository } from './usage/repository.ts';
import { usageRoutes } from './usage/routes.ts';
import { extensionFits } from './validation/media-types.ts';
import type { UploadPolicies } from './validation/upload-policies.ts';

/** Signs of life of an upload within its lease. */
const LEASE_RENEWALS = 4;
const JSON_BODY = 64 * 1024;
const DISK_PARTS_IN_FLIGHT = 2;
const MAX_PARAMETER = 8192;
/** Larger socket reads cost fewer turns of the event loop per MiB. */
const SOCKET_CHUNK = 256 * 1024;
/** Longer than the idle time-out of common load balancers (60 s), so that they close first. Milliseconds. */
const KEEP_ALIVE = 72_000;
/** How often slow headers are looked for. Milliseconds. */
const SLOW_HEADERS_CHECK = 2000;

export interface Resources {
  config: Config;
  policies: UploadPolicies;
  database: DatabaseHandle;
  /** A pool of its own for what happens after the answer, with longer time limits. */
  background: DatabaseHandle;
  jobs: JobQueue;
  store: ObjectStore;
  logger: FastifyBaseLogger;
  version: string;
  /** Told by process.ts when the store retried, once metrics are there. */
  onRetries?: (listener: (operation: string, retries: number) => void) => void;
  /** Validates every answer against its schema: for tests. */
  checkAnswers?: boolean;
}

export interface Service {
  app: App;
  metrics: Metrics;
  /** Lets jobs be enqueued, and runs them where the role says so; before anything is listened to. */
  startWork(): Promise<void>;
  /** Readiness fails from now on. */
  startDraining(): void;
  /** Uploads still running are ended. */
  stopUploads(): void;
  /** Ends background work; call after `app.close()`. */
  closeWork(): Promise<void>;
  /** Settles abandoned uploads and compares the object store with the records, now and here. */
  reconcile(request: ReconcileRequest): Promise<{ outcome: ReconcileOutcome; report: ReconcileReport }>;
  writeOpenApi(): Promise<object>;
}

export async function buildApp(resources: Resources): Promise<Service> {
  const { config, policies, database, background, jobs, store, logger, version } = resources;
  const stopping = new AbortController();
  let draining = false;

  const quotas = new QuotasRepository(database, config.DEFAULT_QUOTA);
  const assets = new AssetsRepository(database, jobs);
  const uploadsOptions = { jobs, defaultLimit: config.DEFAULT_QUOTA, lease: config.UPLOAD_LEASE / 1000 };
  const uploads = new UploadsRepository({ ...uploadsOptions, database });
  const uploadLimit = new UploadLimit(database.database, config.UPLOADS_PER_HOUR);
  const onError = (message: string, err: unknown) => logger.warn({ err }, message);
  const idempotency = new Idempotency({
    database,
    lease: config.UPLOAD_LEASE / 1000,
    fateOf: (id) => fateOf(uploads, id),
    onError,
  });
  const records = new ReconciliationRepository(background, jobs);
  const buffers = new PartBuffers(config.UPLOAD_MEMORY, config.PART_SIZE);
  const admission = new Admission({
    total: config.UPLOADS_AT_ONCE,
    perCaller: config.UPLOADS_PER_CALLER,
    wait: config.UPLOAD_WAIT,
  });
  const metrics = new Metrics({
    activeUploads: () => admission.active,
    bufferBytes: () => buffers.inUse,
    queues: () => jobs.counts(),
    lastReconciliation: () => records.lastRun(),
  });
  resources.onRetries?.((operation, retries) => metrics.retries(operation, retries));
  const workers = {
    jobs,
    assets: new AssetsRepository(background, jobs),
    uploads: new UploadsRepository({ ...uploadsOptions, database: background }),
    agreements: new DirectUploadsRepository(background),
    store,
    policies,
    idempotency,
    reconciler: {
      database: background,
      records,
      store,
      keyPrefix: config.S3_KEY_PREFIX,
      grace: config.RECONCILE_GRACE,
      onAlarm: (message: string, detail: object) => logger.error(detail, message),
    },
    trashRetention: config.TRASH_RETENTION_DAYS,
    onEvent: (message: string, detail: object) => logger.info(detail, message),
    onError,
  };
  // A disk gains nothing from more, and memory is saved.
  const partsInFlight =
    store.kind === 'disk' ? Math.min(DISK_PARTS_IN_FLIGHT, config.PARTS_IN_FLIGHT) : config.PARTS_IN_FLIGHT;
  const intake = new Intake({
    database: database.database,
    uploads,
    quotas,
    store,
    buffers,
    admission,
    policies,
    keyPrefix: config.S3_KEY_PREFIX,
    partsInFlight,
    wait: config.UPLOAD_WAIT,
    minimumRate: config.MIN_UPLOAD_RATE,
    rateWindow: config.BODY_TIMEOUT,
    leaseRenewal: config.UPLOAD_LEASE / LEASE_RENEWALS,
    onError: onError,
    onOutcome: (outcome, bytes) => metrics.upload(outcome, bytes),
  });

  const app = Fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: requestIdOf,
    bodyLimit: JSON_BODY,
    routerOptions: { maxParamLength: MAX_PARAMETER },
    keepAliveTimeout: KEEP_ALIVE,
    trustProxy: config.TRUST_PROXY.length > 0 ? config.TRUST_PROXY : false,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    exposeHeadRoutes: true,
    clientErrorHandler: answerParserError,
    frameworkErrors: (error, request, reply) => app.errorHandler(error, request, reply),
    http: {
      headersTimeout: config.BODY_TIMEOUT,
      // Answered by a problem document of ours.
      requireHostHeader: false,
      connectionsCheckingInterval: SLOW_HEADERS_CHECK,
      highWaterMark: SOCKET_CHUNK,
    },
  }) as unknown as App;

  // JSON is the only body that is parsed.
  app.removeContentTypeParser('text/plain');
  const writeDocument = useZod(app, resources.checkAnswers ?? false);
  rememberRoutes(app);
  installErrorHandler(app);
  logRequests(app, metrics);
  await app.register(cors, corsOptions(config.CORS_ORIGINS));
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { 'default-src': ["'none'"], 'frame-ancestors': ["'none'"] },
    },
    hsts: config.PUBLIC_URL?.startsWith('https:') ?? false,
  });
  authenticate(app, authenticationOptions(config));
  await limitRequests(app, config.REQUESTS_PER_MINUTE);
  guardBodies(app, config.BODY_TIMEOUT);

  if (config.ROLE !== 'worker') {
    const door = { intake, uploadLimit, idempotency, stopping: stopping.signal };
    await app.register(async (scope) => formDoors(scope as App, door));
    await app.register(async (scope) => rawDoor(scope as App, door));
    // Links of the disk store lead back to the service, wherever its clients find it.
    const followsProxy = store.kind === 'disk' && config.PUBLIC_URL === undefined && config.TRUST_PROXY.length > 0;
    const toPublicUrl: ToPublicUrl = (request, url) =>
      followsProxy ? new URL(url.replace(/^https?:\/\/[^/]*/, ''), `${request.protocol}://${request.host}`).href : url;
    const agreements = new DirectUploadsRepository(database);
    const direct = new DirectIntake({
      uploads,
      agreements,
      quotas,
      store,
      jobs,
      policies,
      keyPrefix: config.S3_KEY_PREFIX,
      partSize: config.PART_SIZE,
      lease: config.UPLOAD_LEASE / 1000,
      onError: onError,
      onOutcome: (outcome, bytes) => metrics.upload(outcome, bytes),
    });
    const resumable = new ResumableIntake({
      uploads,
      agreements: new ResumableUploadsRepository(database),
      quotas,
      store,
      jobs,
      buffers,
      admission,
      policies,
      keyPrefix: config.S3_KEY_PREFIX,
      partsInFlight,
      wait: config.UPLOAD_WAIT,
      expiry: config.RESUMABLE_EXPIRY,
      lease: config.UPLOAD_LEASE / 1000,
      renewal: config.UPLOAD_LEASE / LEASE_RENEWALS,
      minimumRate: config.MIN_UPLOAD_RATE,
      rateWindow: config.BODY_TIMEOUT,
      onError: onError,
      onOutcome: (outcome, bytes) => metrics.upload(outcome, bytes),
    });
    await app.register(async (scope) => resumableDoor(scope as App, { ...door, resumable, largest: policies.largest }));
    directDoor(app, { ...door, toPublicUrl, direct, database: database.database });
    if (store instanceof DiskObjectStore) {
      const parts = {
        store,
        buffers,
        wait: config.UPLOAD_WAIT,
        minimumRate: config.MIN_UPLOAD_RATE,
        rateWindow: config.BODY_TIMEOUT,
        stopping: stopping.signal,
      };
      await app.register(async (scope) => diskPartRoute(scope as App, parts));
    }
    assetRoutes(app, { assets, idempotency, extensionFits });
    downloadRoutes(app, {
      assets,
      store,
      linkLife: config.LINK_TTL / 1000,
      onSent: (bytes) => metrics.sent(bytes),
      toPublicUrl,
    });
    quotaRoutes(app, { quotas, idempotency });
    usageRoutes(app, { usage: new UsageRepository(database.database) });
    jobRoutes(app, { jobs });
  }
  healthRoutes(app, {
    version,
    draining: () => draining,
    checks: {
      database: () => ping(database.database),
      objectStore: (signal) => store.check({ signal }),
    },
  });
  metricsRoute(app, metrics, config.METRICS_TOKEN);
  const writeOpenApi = documentation(app, writeDocument, version);

  return {
    app,
    metrics,
    startWork: async () => {
      await jobs.start();
      if (config.ROLE !== 'api') await startWorkers(workers);
    },
    startDraining: () => {
      draining = true;
    },
    stopUploads: () =>
      stopping.abort(
        new Problem('unavailable', { detail: 'The service is stopping. Send the file again.', retryAfter: RETRY_SOON }),
      ),
    closeWork: async () => {
      await intake.close(UNDO_TIME);
      await jobs.stop(JOB_TIME);
    },
    reconcile: async (request) => {
      if (!request.dryRun) await reap(workers, outsideOfJobs(request.signal));
      return reconcile(workers.reconciler, request);
    },
    writeOpenApi,
  };
}

/** Milliseconds for undoing what was aborted last, and for jobs to finish before they are handed back. */
const UNDO_TIME = 5000;
const JOB_TIME = 5000;

/** What became of an upload whose process may be dead. */
async function fateOf(uploads: UploadsRepository, id: string): Promise<UploadFate> {
  const fate = await uploads.fate(id);
  return typeof fate === 'string' ? { state: fate } : { state: 'stored', answer: uploadAnswer(fate) };
}

/** What a command runs belongs to no worker, so nobody can take it away. */
function outsideOfJobs(signal: AbortSignal = new AbortController().signal): JobContext {
  return { id: 'command', signal, fence: async () => {} };
}

function corsOptions(origins: string[]) {
  return {
    origin: origins.includes('*') ? true : origins.length > 0 ? origins : false,
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposedHeaders: [
      'ETag',
      'Location',
      'Link',
      'Retry-After',
      'Repr-Digest',
      'Content-Disposition',
      'Content-Range',
      'Accept-Ranges',
      'X-Request-Id',
      'Upload-Offset',
      'Upload-Length',
      'Upload-Expires',
      'Tus-Resumable',
      'Tus-Version',
      'Tus-Extension',
      'Tus-Max-Size',
      'Asset-Id',
      'RateLimit-Limit',
      'RateLimit-Remaining',
      'RateLimit-Reset',
    ],
    maxAge: 7200,
  };
}

function authenticationOptions(config: Config): AuthenticationOptions {
  const { AUTH_JWT_SECRET: secret, AUTH_JWKS_URL: url, AUTH_ISSUER: issuer, AUTH_AUDIENCE: audience } = config;
  const checks = {
    clockSkew: config.AUTH_CLOCK_SKEW,
    ...(issuer !== undefined && { issuer }),
    ...(audience !== undefined && { audience }),
  };
  if (secret !== undefined) return { mode: 'secret', key: { secret }, ...checks };
  if (url !== undefined) return { mode: 'keySet', key: { url, algorithms: config.AUTH_ALGORITHMS }, ...checks };
  return { mode: 'development' };
}
