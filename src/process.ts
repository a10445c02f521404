/**
 * The process: reads the configuration, opens the resources, listens, and on SIGTERM or SIGINT closes them in the reverse
 * order: readiness fails first, then no connection is accepted, running uploads may finish, the rest are ended cleanly.
 */
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import closeWithGrace from 'close-with-grace';
import { type Logger, pino } from 'pino';
import { buildApp, type Service } from './app.ts';
import type { Config } from './config.ts';
import { type DatabaseHandle, openDatabase } from './database/client.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from './database/embedded-postgres.ts';
import { examine } from './doctor/check.ts';
import { databaseChecks } from './doctor/database-checks.ts';
import { storeChecks } from './doctor/store-checks.ts';
import { JobQueue } from './jobs/queue.ts';
import { prepareDatabase } from './prepare-database.ts';
import { secretIn } from './secrets.ts';
import { errorForLog } from './source-stack.ts';
import { readConfiguration } from './startup.ts';
import type { ObjectStore } from './storage/object-store.ts';
import { openObjectStore } from './storage/open.ts';
import { readVersion } from './version.ts';

/** How often the embedded Postgres is looked after. Milliseconds. */
const DATABASE_WATCH = 500;
/** After all that may take its time, how long closing itself may take. Milliseconds. */
const CLOSING_TIME = 15_000;

/** For what happens after the answer: its statements may take longer, and must not take connections from requests. */
const BACKGROUND_CONNECTIONS = 4;
const BACKGROUND_TIMEOUT = 60_000;

type Closer = () => Promise<unknown> | unknown;
/** Closed from the last to the first. */
const closers: Closer[] = [];

async function start(): Promise<void> {
  const { config, policies } = readConfiguration();
  const logger = pino({ level: config.LOG_LEVEL, serializers: { err: errorForLog } });
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
  const database = openDatabase({
    url,
    connections: config.DATABASE_POOL,
    timeout: config.DATABASE_TIMEOUT,
    prepare: config.DATABASE_PREPARE,
    // The error carries the whole client with it.
    onError: ({ message }) => logger.warn({ reason: message }, 'a connection to the database broke'),
  });
  closers.push(() => database.close());
  const background = openDatabase({
    url,
    connections: BACKGROUND_CONNECTIONS,
    timeout: BACKGROUND_TIMEOUT,
    prepare: config.DATABASE_PREPARE,
    onError: ({ message }) => logger.warn({ reason: message }, 'a connection to the database broke'),
  });
  closers.push(() => background.close());
  const jobs = new JobQueue({
    database: background,
    work: config.ROLE !== 'api',
    onError: (message, err) => logger.warn({ err }, message),
  });

  let retried: (operation: string, retries: number) => void = () => {};
  const store = await openObjectStore(config, {
    publicUrl: () => base,
    onRetries: (operation, retries) => retried(operation, retries),
    linkSecret: () => secretIn(config.DATA_DIR, 'link-secret'),
  });
  closers.push(() => store.close());

  await preflightChecks(background, store, config, logger);
  service = await buildApp({
    config,
    policies,
    database,
    background,
    jobs,
    store,
    logger,
    version,
    onRetries: (listener) => {
      retried = listener;
    },
  });
  await service.startWork();
  await service.app.listen({ host: config.HOST, port: config.PORT });
  const address = service.app.server.address();
  const port = typeof address === 'object' && address ? address.port : config.PORT;
  if (config.PUBLIC_URL === undefined) base = `http://${hostForUrl(config.HOST)}:${port}`;
  logger.info({ host: config.HOST, port }, 'listening');
  if (config.LOG_LEVEL !== 'silent') process.stderr.write(welcome(base, config));
}

/**
 * What `npm run doctor` looks at, as far as it is quick. A database that is too old ends the start; an object store that
 * cannot be used is told, and may come later: until then the service is not ready.
 */
async function preflightChecks(
  database: DatabaseHandle,
  store: ObjectStore,
  config: Config,
  logger: Logger,
): Promise<void> {
  const quick = [...databaseChecks(database.pool), ...storeChecks(store, config.S3_KEY_PREFIX)].filter(
    ({ name }) => name === 'database version' || name === 'object store reachable',
  );
  for await (const { name, verdict, detail } of examine(quick)) {
    if (verdict !== 'failed') continue;
    if (name === 'database version') throw new Error(detail);
    logger.error({ detail }, 'the object store cannot be used yet; npm run doctor tells more');
  }
}

/** Lets running requests finish, uploads for as long as configured. */
async function drain(service: Service, config: Config): Promise<void> {
  service.startDraining();
  if (config.DRAIN_DELAY > 0) await delay(config.DRAIN_DELAY);
  const closed = service.app.close();
  const finished = await Promise.race([closed.then(() => true), delay(config.DRAIN_TIMEOUT, false, { ref: false })]);
  if (!finished) {
    service.stopUploads();
    // Ended uploads answer 503 and undo what they stored; whoever then still hangs on is cut off.
    await Promise.race([closed, delay(3000, undefined, { ref: false })]);
    service.app.server.closeAllConnections();
    await closed;
  }
  await service.closeWork();
}

/** The embedded server, started again on the same port should it die while the service lives. */
async function embedPostgres(config: Config, logger: Logger): Promise<string> {
  const options = {
    directory: join(resolve(config.DATA_DIR), 'postgres'),
    password: secretIn(config.DATA_DIR, 'postgres-password').toString('hex'),
    log: (line: string) => logger.debug({ line }, 'postgres'),
  };
  let postgres: EmbeddedPostgres = await startEmbeddedPostgres(options);
  const port = Number(new URL(postgres.url).port);
  const stopping = new AbortController();
  const watching = watch();
  closers.push(async () => {
    stopping.abort();
    await watching;
    await postgres.stop();
  });
  return postgres.url;

  async function watch(): Promise<void> {
    while (await pause(DATABASE_WATCH, stopping.signal)) {
      if (isAlive(postgres.pid)) continue;
      logger.error('the embedded Postgres has died; starting it again');
      try {
        await postgres.stop();
        postgres = await startEmbeddedPostgres({ ...options, port });
      } catch (err) {
        logger.error({ err }, 'the embedded Postgres cannot be started');
      }
    }
  }
}

/** @returns false when the signal ended it */
async function pause(milliseconds: number, signal: AbortSignal): Promise<boolean> {
  return delay(milliseconds, true, { signal, ref: false }).catch(() => false);
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function hostForUrl(host: string): string {
  const name = host === '0.0.0.0' || host === '::' ? 'localhost' : host;
  return name.includes(':') ? `[${name}]` : name;
}

function welcome(base: string, config: Config): string {
  const token = config.developmentMode ? '' : " -H 'authorization: Bearer TOKEN'";
  return `
  Stowage is ready.

    API        ${base}/v1/assets
    Reference  ${base}/docs
    Try        curl${token} -F file=@photo.jpg ${base}/v1/assets
${config.developmentMode ? '\n  Development mode: no keys are configured, so every caller on this machine is trusted.\n' : ''}
`;
}

/** Starts the service; what makes that impossible is told in a line, and the process ends with code 1. */
export async function run(): Promise<void> {
  try {
    await start();
  } catch (error) {
    process.stderr.write(`Stowage cannot start: ${error instanceof Error ? error.message : String(error)}\n`);
    for (const close of closers.reverse()) await Promise.resolve(close()).catch(() => {});
    process.exit(1);
  }
}
