/**
 * Composes the application: every plugin and route group there is, in the order in which a request meets them. What
 * runs the process (configuration, listening, signals) is in main.ts.
 */
import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
import { sql } from 'drizzle-orm';
import Fastify, { type FastifyBaseLogger, LogController } from 'fastify';
import { AssetsRepository } from './assets/assets-repository.ts';
import { downloadRoutes } from './assets/download-routes.ts';
import { assetRoutes } from './assets/routes.ts';
import type { Config } from './config.ts';
import type { DatabaseHandle } from './database/client.ts';
import { type AuthenticationOptions, authenticate } from './http/authentication.ts';
import { guardBodies } from './http/body-guard.ts';
import { documentation } from './http/documentation.ts';
import { answerParserError, installErrorHandler, rememberRoutes } from './http/error-handler.ts';
import { healthRoutes } from './http/health.ts';
import { Metrics, metricsRoute } from './http/metrics.ts';
import { type App, useZod } from './http/openapi.ts';
import { limitRequests, UploadLimit } from './http/rate-limit.ts';
import { logRequests, requestIdOf } from './http/request-log.ts';
import { Admission } from './intake/admission.ts';
import { Intake } from './intake/intake.ts';
import { extensionFits } from './intake/media-types.ts';
import type { UploadPolicies } from './intake/upload-policies.ts';
import { UploadsRepository } from './intake/uploads-repository.ts';
import { ObjectDeletion } from './jobs/delete-objects.ts';
import { Problem, RETRY_SOON } from './problems.ts';
import { QuotasRepository } from './quotas/quotas-repository.ts';
import { quotaRoutes } from './quotas/routes.ts';
import type { ObjectStore } from './storage/object-store.ts';
import { PartBuffers } from './storage/part-buffers.ts';
import { formDoors } from './uploads/form.ts';
import { rawDoor } from './uploads/raw.ts';

const JSON_BODY = 64 * 1024;
const DISK_PARTS_IN_FLIGHT = 2;
const LONGEST_PARAMETER = 8192;
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
  store: ObjectStore;
  logger: FastifyBaseLogger;
  version: string;
  /** Told by main.ts when the store retried, once metrics are there. */
  onRetries?: (listener: (operation: string, retries: number) => void) => void;
  /** Validates every answer against its schema: for tests. */
  checkAnswers?: boolean;
  /** false leaves background work off. */
  startWork?: boolean;
}

export interface Service {
  app: App;
  metrics: Metrics;
  /** Readiness fails from now on. */
  startDraining(): void;
  /** Uploads still running are ended. */
  stopUploads(): void;
  /** Ends background work; call after `app.close()`. */
  closeWork(): Promise<void>;
  writeOpenApi(): object;
}

export async function buildApp(resources: Resources): Promise<Service> {
  const { config, policies, database, store, logger, version } = resources;
  const stopping = new AbortController();
  let draining = false;

  const quotas = new QuotasRepository(database.database, config.DEFAULT_QUOTA);
  const assets = new AssetsRepository(database.database);
  const uploads = new UploadsRepository(database.database, config.DEFAULT_QUOTA);
  const uploadLimit = new UploadLimit(database.database, config.UPLOADS_PER_HOUR);
  const buffers = new PartBuffers(config.UPLOAD_MEMORY, config.PART_SIZE);
  const admission = new Admission({
    total: config.UPLOADS_AT_ONCE,
    perCaller: config.UPLOADS_PER_CALLER,
    wait: config.UPLOAD_WAIT,
  });
  const metrics = new Metrics({
    activeUploads: () => admission.active,
    bufferBytes: () => buffers.inUse,
    queueDepth: async () => ({ 'delete-objects': await assets.countDeleting() }),
  });
  resources.onRetries?.((operation, retries) => metrics.retries(operation, retries));
  const deletion = new ObjectDeletion({
    assets,
    store,
    onError: (err) => logger.warn({ err }, 'an object could not be deleted yet'),
  });
  const intake = new Intake({
    database: database.database,
    uploads,
    quotas,
    store,
    buffers,
    admission,
    policies,
    keyPrefix: config.S3_KEY_PREFIX,
    // A disk gains nothing from more, and memory is saved.
    partsInFlight:
      store.kind === 'disk' ? Math.min(DISK_PARTS_IN_FLIGHT, config.PARTS_IN_FLIGHT) : config.PARTS_IN_FLIGHT,
    wait: config.UPLOAD_WAIT,
    minimumRate: config.MIN_UPLOAD_RATE,
    rateWindow: config.BODY_TIMEOUT,
    onTrouble: (message, err) => logger.warn({ err }, message),
    onCondemned: () => deletion.soon(),
    onOutcome: (outcome, bytes) => metrics.upload(outcome, bytes),
  });

  const app = Fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: requestIdOf,
    bodyLimit: JSON_BODY,
    routerOptions: { maxParamLength: LONGEST_PARAMETER },
    keepAliveTimeout: KEEP_ALIVE,
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

  const door = { intake, uploadLimit, stopping: stopping.signal };
  await app.register(async (scope) => formDoors(scope as App, door));
  await app.register(async (scope) => rawDoor(scope as App, door));
  assetRoutes(app, { assets, deletion, extensionFits });
  downloadRoutes(app, { assets, store, linkLife: config.LINK_TTL / 1000, onSent: (bytes) => metrics.sent(bytes) });
  quotaRoutes(app, { quotas, assets });
  healthRoutes(app, {
    version,
    draining: () => draining,
    checks: {
      database: () => database.database.execute(sql`select 1`),
      objectStore: (signal) => store.check({ signal }),
    },
  });
  metricsRoute(app, metrics, config.METRICS_TOKEN);
  const writeOpenApi = documentation(app, writeDocument, version);

  if (resources.startWork ?? true) deletion.start();
  return {
    app,
    metrics,
    startDraining: () => {
      draining = true;
    },
    stopUploads: () =>
      stopping.abort(
        new Problem('unavailable', { detail: 'The service is stopping. Send the file again.', retryAfter: RETRY_SOON }),
      ),
    closeWork: async () => {
      await intake.close(UNDO_TIME);
      await deletion.close();
    },
    writeOpenApi,
  };
}

/** Milliseconds for undoing what was aborted last. */
const UNDO_TIME = 5000;

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
