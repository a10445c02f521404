/**
 * The Fastify instance: what holds for every request, in the order in which it meets it (limits, errors, request log,
 * CORS, helmet, authentication), then the routes of the features, then what every instance answers whatever its role.
 */
import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
import Fastify, { LogController } from 'fastify';
import type { Config } from './config.ts';
import { type Core, type OpenCore, openCore, type Resources } from './core.ts';
import { ping } from './database/probes.ts';
import type { Feature } from './feature.ts';
import { type AuthenticationOptions, authenticate } from './http/authentication.ts';
import { guardBodies, MAX_JSON_BODY } from './http/body-guard.ts';
import { documentation } from './http/documentation.ts';
import { answerParserError, installErrorHandler, rememberRoutes } from './http/error-handler.ts';
import { healthRoutes } from './http/health.ts';
import { metricsRoute } from './http/metrics.ts';
import { type App, useZod } from './http/openapi.ts';
import { limitRequests } from './http/rate-limit.ts';
import { logRequests, requestIdOf } from './http/request-log.ts';
import { honourIdempotencyKeys } from './idempotency/requests.ts';

const MAX_PARAMETER = 8192;
/** Larger socket reads cost fewer turns of the event loop per MiB. */
const SOCKET_CHUNK = 256 * 1024;
/** Longer than the idle time-out of common load balancers (60 s), so that they close first. Milliseconds. */
const KEEP_ALIVE = 72_000;
/** How often slow headers are looked for. Milliseconds. */
const SLOW_HEADERS_CHECK = 2000;

export interface ServiceResources extends Resources {
  version: string;
  /** Validates every answer against its schema: for tests. */
  checkAnswers?: boolean;
}

export interface Service {
  app: App;
  core: OpenCore;
  /** Readiness fails from now on. */
  startDraining(): void;
  writeOpenApi(): Promise<object>;
}

/** The service of these features. Nothing is connected to, started or listened to by it. */
export async function buildServer(
  { version, checkAnswers = false, ...resources }: ServiceResources,
  features: readonly Feature<Core>[],
): Promise<Service> {
  const core = openCore(resources, features);
  const { config, database, store, metrics } = core;
  let draining = false;
  const app = fastify(core);
  // JSON is the only body that is parsed.
  app.removeContentTypeParser('text/plain');
  // First, for what it adds to the contract.
  honourIdempotencyKeys(app, core.idempotency);
  const write = useZod(app, checkAnswers);
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

  if (config.ROLE !== 'worker')
    for (const feature of features) await app.register(async (scope) => feature.routes?.(scope as App, core));
  healthRoutes(app, {
    version,
    draining: () => draining,
    checks: {
      database: () => ping(database.database),
      objectStore: (signal) => store.check({ signal }),
    },
  });
  metricsRoute(app, metrics, config.METRICS_TOKEN);
  const writeOpenApi = documentation(app, { write, version, tags: features.flatMap(({ tags = [] }) => tags) });
  return {
    app,
    core,
    startDraining: () => {
      draining = true;
    },
    writeOpenApi,
  };
}

function fastify({ config, log }: Core): App {
  const app = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: requestIdOf,
    bodyLimit: MAX_JSON_BODY,
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
  return app;
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
      'Idempotency-Replayed',
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
