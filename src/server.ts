/**
 * The Fastify instance: what holds for every request, in the order in which it meets it (limits, errors, request log,
 * CORS, helmet, authentication), then the routes of the features, then what every instance answers whatever its role.
 */

import helmet from '@fastify/helmet';
import Fastify, { LogController } from 'fastify';
import { Credentials } from './access/credentials.ts';
import type { Scope } from './access/rules.ts';
import type { Config } from './config.ts';
import { type Core, type OpenCore, openCore, type Resources } from './core.ts';
import { ping } from './database/probes.ts';
import type { Feature } from './feature.ts';
import { boundAnswers } from './http/answer-guard.ts';
import { type AuthenticationOptions, authenticate } from './http/authentication.ts';
import { guardBodies, MAX_JSON_BODY } from './http/body-guard.ts';
import { BodyRate } from './http/body-rate.ts';
import { Connections } from './http/connections.ts';
import { contentHost, separateHosts } from './http/content-host.ts';
import { admitLocalOnly, CrossOrigin } from './http/cross-origin.ts';
import { documentation } from './http/documentation.ts';
import { answerParserError, answerTimeout, installErrorHandler } from './http/error-handler.ts';
import { type Ability, healthRoutes } from './http/health.ts';
import { answerUnknown, KnownPaths } from './http/known-paths.ts';
import { metricsRoute } from './http/metrics.ts';
import { type App, useZod } from './http/openapi.ts';
import { limitRequests } from './http/rate-limit.ts';
import { RefusalLimit } from './http/refusal-limit.ts';
import { RefusalPace } from './http/refusal-pace.ts';
import { logRequests, requestIdOf } from './http/request-log.ts';
import { checkRequests, toOriginForm } from './http/well-formed.ts';
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
  /** No connection is accepted any more; what is under way goes on. */
  stopAccepting(): Promise<void>;
  /** Of all features. */
  abilities(): Promise<readonly Ability[]>;
  writeOpenApi(): Promise<object>;
}

/** The service of these features. Nothing is connected to, started or listened to by it. */
export async function buildServer(
  { version, checkAnswers = false, ...resources }: ServiceResources,
  features: readonly Feature<Core>[],
): Promise<Service> {
  const core = openCore(resources, features);
  const { config, database, metrics } = core;
  let draining = false;
  const crossOrigin = new CrossOrigin(config.CORS_ORIGINS);
  const refusals = new RefusalLimit(config.REFUSALS_PER_MINUTE);
  const pace = new RefusalPace();
  const bodies = new BodyRate({
    minimumRate: config.MIN_UPLOAD_RATE,
    grace: config.BODY_TIMEOUT,
    onSlow: ({ socket }) => answerTimeout(socket, crossOrigin),
  });
  const connections = new Connections({
    onRequest: (request, response) => {
      toOriginForm(request);
      bodies.watch(request, response);
      core.answers.watch(response);
    },
    onRefused: (most) =>
      core.onError(`connections are refused: there are ${most}, half of the descriptors of this process`, undefined),
  });
  const app = fastify(core, { connections, crossOrigin, refusals });
  // First, for what it adds to the contract.
  honourIdempotencyKeys(app, core.idempotency);
  const write = useZod(app, checkAnswers);
  const paths = new KnownPaths(app);
  installErrorHandler(app, pace);
  logRequests(app, metrics);
  crossOrigin.install(app, paths);
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { 'default-src': ["'none'"], 'frame-ancestors': ["'none'"] },
    },
    hsts: config.PUBLIC_URL?.startsWith('https:') ?? false,
  });
  checkRequests(app);
  if (config.developmentMode) admitLocalOnly(app, crossOrigin, paths);
  if (config.USERCONTENT_URL !== undefined)
    separateHosts(app, { isContentHost: contentHost(config.USERCONTENT_URL), paths, refusals });
  answerUnknown(app, paths, refusals);
  authenticate(app, {
    options: authenticationOptions(config),
    credentials: new Credentials({ database: database.database, onError: core.onError }),
    tiers: core.tiers,
    refusals,
  });
  await limitRequests(app, {
    perMinute: config.REQUESTS_PER_MINUTE,
    publicPerMinute: config.PUBLIC_REQUESTS_PER_MINUTE,
    hasTiers: core.tiers.names.length > 0,
  });
  guardBodies(app, config.BODY_TIMEOUT);
  boundAnswers(app, core.answers);

  if (config.ROLE !== 'worker')
    for (const feature of features) await app.register(async (scope) => feature.routes?.(scope as App, core));
  const abilities = async () => (await Promise.all(features.map((feature) => feature.abilities?.(core) ?? []))).flat();
  healthRoutes(app, {
    version,
    draining: () => draining,
    checks: {
      database: () => ping(database.database),
      objectStore: (signal) => core.reads.check({ signal }),
    },
    abilities,
  });
  metricsRoute(app, metrics, config.METRICS_TOKEN);
  const writeOpenApi = documentation(app, { write, version, tags: features.flatMap(({ tags = [] }) => tags) });
  return {
    app,
    core,
    startDraining: () => {
      draining = true;
      connections.startDraining();
      pace.end();
    },
    stopAccepting: () => connections.stopAccepting(),
    abilities,
    writeOpenApi,
  };
}

interface Doors {
  connections: Connections;
  crossOrigin: CrossOrigin;
  refusals: RefusalLimit;
}

function fastify({ config, log }: Core, { connections, crossOrigin, refusals }: Doors): App {
  const app = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: requestIdOf,
    bodyLimit: MAX_JSON_BODY,
    // Clients write `/v1/resumable/` as well (tus), and mean the same.
    routerOptions: { maxParamLength: MAX_PARAMETER, ignoreTrailingSlash: true },
    trustProxy: config.TRUST_PROXY.length > 0 ? config.TRUST_PROXY : false,
    return503OnClosing: false,
    exposeHeadRoutes: true,
    serverFactory: (handler) =>
      connections.createServer(handler, {
        keepAliveTimeout: KEEP_ALIVE,
        http: {
          headersTimeout: config.BODY_TIMEOUT,
          // Answered by a problem document of ours.
          requireHostHeader: false,
          connectionsCheckingInterval: SLOW_HEADERS_CHECK,
          highWaterMark: SOCKET_CHUNK,
        },
      }),
    clientErrorHandler: (error, socket) =>
      connections.parsingFailed(socket, () => answerParserError(error, socket, crossOrigin)),
    // Before any hook runs.
    frameworkErrors: (error, request, reply) => {
      crossOrigin.addTo(request, reply);
      app.errorHandler(counted(refusals, request.ip, error), request, reply);
    },
  }) as unknown as App;
  return app;
}

/** The refusal, or 429 instead of it. */
function counted(refusals: RefusalLimit, address: string, error: Error): Error {
  try {
    refusals.count(address);
    return error;
  } catch (tooMany) {
    return tooMany instanceof Error ? tooMany : error;
  }
}

function authenticationOptions(config: Config): AuthenticationOptions {
  const { AUTH_JWT_SECRET: secret, AUTH_JWKS_URL: url, AUTH_ISSUER: issuer, AUTH_AUDIENCE: audience } = config;
  const checks = {
    clockSkew: config.AUTH_CLOCK_SKEW,
    ...(issuer !== undefined && { issuer }),
    ...(audience !== undefined && audience !== 'any' && { audience }),
    names: {
      nameOf: (scope: Scope) => (scope === 'admin' ? config.AUTH_ADMIN_SCOPE : `${config.AUTH_SCOPE_PREFIX}${scope}`),
      scopeClaims: config.AUTH_SCOPE_CLAIMS,
      projectsClaim: config.AUTH_PROJECTS_CLAIM,
      tierClaim: config.AUTH_TIER_CLAIM,
    },
  };
  if (secret !== undefined) return { mode: 'secret', key: { secret }, ...checks };
  if (url !== undefined) return { mode: 'keySet', key: { url, algorithms: config.AUTH_ALGORITHMS }, ...checks };
  return { mode: 'development' };
}
