/**
 * The process: reads the configuration, opens the resources, listens, and on SIGTERM or SIGINT closes them in the reverse
 * order: readiness fails first, then no connection is accepted, running uploads may finish, the rest are ended cleanly.
 */
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import closeWithGrace from 'close-with-grace';
import { type Logger, pino } from 'pino';
import { buildApp, features } from './app.ts';
import type { Config } from './config.ts';
import { type DatabaseHandle, openDatabase } from './database/client.ts';
import { explainDatabaseFault } from './database/faults.ts';
import { supervisePostgres } from './database/supervised-postgres.ts';
import { examine } from './doctor/check.ts';
import { databaseChecks } from './doctor/database-checks.ts';
import { explainStore } from './doctor/s3-checks.ts';
import { storeChecks } from './doctor/store-checks.ts';
import type { Ability } from './http/health.ts';
import { LogThrottle } from './http/log-throttle.ts';
import { Metrics } from './http/metrics.ts';
import { prettyLine } from './http/pretty-log.ts';
import { keepMemoryLowAtRest } from './memory-at-rest.ts';
import { prepareDatabase } from './prepare-database.ts';
import { secretIn } from './secrets.ts';
import type { Service } from './server.ts';
import { errorForLog } from './source-stack.ts';
import { readConfiguration } from './startup.ts';
import type { ObjectStore } from './storage/object-store.ts';
import { openMirrors, openObjectStore } from './storage/open.ts';
import { readVersion } from './version.ts';

/** After all that may take its time, how long closing itself may take. Milliseconds. */
const CLOSING_TIME = 15_000;

/**
 * Once no connection is accepted any more, balancers send their requests over those that they keep open, and each closes with
 * its answer. Those that nobody has used after this time are closed. Milliseconds.
 */
const LAST_REQUESTS = 400;

/** For what happens after the answer: its statements may take longer, and must not take connections from requests. */
const BACKGROUND_CONNECTIONS = 4;
const BACKGROUND_TIMEOUT = 60_000;

type Closer = () => Promise<unknown> | unknown;
/** Closed from the last to the first. */
const closers: Closer[] = [];

async function start(): Promise<void> {
  const { config, policies, tierLimits, mirrors: places } = readConfiguration(features);
  const options = { level: config.LOG_LEVEL, serializers: { err: errorForLog } };
  const isPretty = config.LOG_FORMAT === 'pretty' || (config.LOG_FORMAT === 'auto' && process.stdout.isTTY);
  const logger = isPretty ? pino(options, { write: (line) => process.stdout.write(prettyLine(line)) }) : pino(options);
  const version = readVersion();
  let service: Service | undefined;
  let base = config.PUBLIC_URL ?? `http://${hostForUrl(config.HOST)}:${config.PORT}`;

  const grace = closeWithGrace(
    { delay: config.DRAIN_DELAY + config.DRAIN_TIMEOUT + CLOSING_TIME, logger: false },
    async ({ err, signal }) => {
      if (err) logger.fatal({ err }, 'the process cannot go on');
      else logger.info({ signal }, 'stopping');
      if (service) await drain(service, config);
      for (const close of closers.reverse())
        await Promise.resolve(close()).catch((error) => logger.error({ err: error }, 'could not close'));
      logger.info('stopped');
    },
  );
  closers.push(() => grace.uninstall());

  const url = config.DATABASE_URL ?? (await embedPostgres(config, logger));
  await prepareDatabase(url);
  const database = openPool(url, config, logger, config.DATABASE_POOL, config.DATABASE_TIMEOUT);
  const background = openPool(url, config, logger, BACKGROUND_CONNECTIONS, BACKGROUND_TIMEOUT);
  const metrics = new Metrics();
  const onRetries = (operation: string, retries: number) => metrics.retries(operation, retries);
  const store = await openObjectStore(config, {
    publicUrl: () => base,
    onRetries,
    linkSecret: () => secretIn(config.DATA_DIR, 'link-secret'),
  });
  closers.push(() => store.close());
  const mirrors = openMirrors(places, config, { onRetries });
  for (const mirror of mirrors) closers.push(() => mirror.store.close());

  const fault = await preflightChecks(background, store, config, logger);
  const stores = { store, mirrors };
  service = await buildApp({
    ...{ config, policies, tierLimits, database, background, ...stores, metrics, logger, version },
  });
  await service.core.startWork();
  closers.push(keepMemoryLowAtRest());
  await service.app.listen({ host: config.HOST, port: config.PORT });
  const address = service.app.server.address();
  const port = typeof address === 'object' && address ? address.port : config.PORT;
  if (config.PUBLIC_URL === undefined) base = `http://${hostForUrl(config.HOST)}:${port}`;
  logger.info({ host: config.HOST, port }, 'listening');
  const missing = (await service.abilities()).filter(({ works }) => !works);
  if (missing.length > 0) logger.warn({ missing }, 'some programs are missing; npm run doctor tells more');
  if (config.LOG_LEVEL === 'silent') return;
  process.stderr.write(
    fault === undefined ? welcome(base, config, missing) : `\n  Stowage is not ready yet: ${fault}.\n\n`,
  );
}

/**
 * What `npm run doctor` looks at, as far as it is quick. A database that is too old ends the start; an object store that
 * cannot be used is told, and may come later: until then the service is not ready.
 * @returns what is wrong with the object store
 */
async function preflightChecks(
  database: DatabaseHandle,
  store: ObjectStore,
  config: Config,
  logger: Logger,
): Promise<string | undefined> {
  let fault: string | undefined;
  const explain = config.S3_BUCKET === undefined ? undefined : () => explainStore(config);
  const quick = [...databaseChecks(database.database), ...storeChecks(store, config.S3_KEY_PREFIX, explain)].filter(
    ({ name }) => name === 'database version' || name === 'object store reachable',
  );
  for await (const { name, verdict, detail } of examine(quick)) {
    if (verdict !== 'failed') continue;
    if (name === 'database version') throw new Error(detail);
    logger.error({ detail }, 'the object store cannot be used yet; npm run doctor tells more');
    fault = `${name}: ${detail}`;
  }
  return fault;
}

/** Lets running requests finish, uploads for as long as configured. */
async function drain(service: Service, config: Config): Promise<void> {
  service.startDraining();
  await delay(config.DRAIN_DELAY);
  await service.stopAccepting();
  if (await hasConnections(service)) await delay(LAST_REQUESTS);
  const closed = service.app.close();
  const finished = await Promise.race([closed.then(() => true), delay(config.DRAIN_TIMEOUT, false, { ref: false })]);
  if (!finished) {
    service.core.stopUploads();
    // Ended uploads answer 503 and undo what they stored; whoever then still hangs on is cut off.
    await Promise.race([closed, delay(3000, undefined, { ref: false })]);
    service.app.server.closeAllConnections();
    await closed;
  }
  await service.core.close();
}

function hasConnections({ app }: Service): Promise<boolean> {
  return new Promise((resolve) => app.server.getConnections((error, count) => resolve(!error && count > 0)));
}

function openPool(url: string, config: Config, logger: Logger, connections: number, timeout: number): DatabaseHandle {
  const throttle = new LogThrottle();
  const pool = openDatabase({
    url,
    connections,
    timeout,
    prepare: config.DATABASE_PREPARE,
    // The error carries the whole client with it.
    onError: ({ message }) =>
      throttle.log(message, (more) => logger.warn({ reason: message, ...more }, 'a connection to the database broke')),
  });
  closers.push(() => pool.close());
  return pool;
}

async function embedPostgres(config: Config, logger: Logger): Promise<string> {
  const { url, stop } = await supervisePostgres(
    {
      directory: join(resolve(config.DATA_DIR), 'postgres'),
      password: secretIn(config.DATA_DIR, 'postgres-password').toString('hex'),
      log: (line) => logger.debug({ line }, 'postgres'),
    },
    logger,
  );
  closers.push(stop);
  return url;
}

function hostForUrl(host: string): string {
  const name = host === '0.0.0.0' || host === '::' ? 'localhost' : host;
  return name.includes(':') ? `[${name}]` : name;
}

function welcome(base: string, config: Config, missing: readonly Ability[]): string {
  const lost = missing.map(({ name, lost, remedy }) => `\n  Missing: ${name}. So ${lost}. Remedy: ${remedy}.`);
  if (config.ROLE === 'worker')
    return `\n  Stowage is ready: this process runs jobs and serves no requests.\n${lost.join('')}\n`;
  const token = config.developmentMode ? '' : " -H 'authorization: Bearer TOKEN'";
  return `
  Stowage is ready.

    API        ${base}/v1/assets
    Reference  ${base}/docs
    Try        curl${token} -F file=@photo.jpg ${base}/v1/assets
${config.developmentMode ? '\n  Development mode: no keys are configured, so every caller on this machine is trusted.\n' : ''}${lost.join('')}
`;
}

/** Starts the service; what makes that impossible is told in a line, and the process ends with code 1. */
export async function run(): Promise<void> {
  try {
    await start();
  } catch (error) {
    process.stderr.write(`Stowage cannot start: ${wordsOf(error)}\n`);
    for (const close of closers.reverse()) await Promise.resolve(close()).catch(() => {});
    process.exit(1);
  }
}

function wordsOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && 'syscall' in error && error.syscall === 'listen') {
    const place = 'address' in error && 'port' in error ? `${error.address}:${error.port}` : 'the address';
    if (error.code === 'EADDRINUSE') return `${place} is in use. Stop the other process, or set PORT.`;
    if (error.code === 'EADDRNOTAVAIL') return `${place} is no address of this machine. Correct HOST.`;
    if (error.code === 'EACCES') return `${place} needs more rights. Set PORT to 1024 or more.`;
  }
  return explainDatabaseFault(error);
}
