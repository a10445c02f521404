/**
 * What the commands beside the service share (`npm run reconcile`): the resources of the configuration, opened without
 * listening. Beside a running service with the embedded Postgres they use its server; else they start it for themselves.
 */
import { join, resolve } from 'node:path';
import { pino } from 'pino';
import { features } from './app.ts';
import type { Config } from './config.ts';
import { type Core, openCore } from './core.ts';
import { openDatabase } from './database/client.ts';
import { runningEmbeddedPostgres, startEmbeddedPostgres } from './database/embedded/embedded-postgres.ts';
import { prepareDatabase } from './prepare-database.ts';
import { secretIn } from './secrets.ts';
import { readConfiguration, type Startup } from './startup.ts';
import { openMirrors, openObjectStore } from './storage/open.ts';

const CONNECTIONS = 4;
const STATEMENT_TIME = 10 * 60_000;

export interface CommandDatabase {
  url: string;
  close(): Promise<void>;
}

/**
 * The database of the configuration.
 * @param isPrepared whether an embedded one that is started here gets the tables of the service
 */
export async function openCommandDatabase(
  config: Config,
  { isPrepared = true }: { isPrepared?: boolean } = {},
): Promise<CommandDatabase> {
  if (config.DATABASE_URL !== undefined) return { url: config.DATABASE_URL, close: async () => {} };
  const directory = join(resolve(config.DATA_DIR), 'postgres');
  const password = secretIn(config.DATA_DIR, 'postgres-password').toString('hex');
  const running = runningEmbeddedPostgres(directory, password);
  if (running !== undefined) return { url: running, close: async () => {} };
  const server = await startEmbeddedPostgres({ directory, password });
  if (isPrepared) await prepareDatabase(server.url);
  return { url: server.url, close: () => server.stop() };
}

/** Runs a command on what the service shares; its alarms go to standard error. @returns what `work` returns */
export async function withCore<Result>(work: (core: Core) => Promise<Result>): Promise<Result> {
  const startup = readConfiguration(features);
  const { url, close } = await openCommandDatabase(startup.config);
  try {
    return await withCoreOn(url, startup, work);
  } finally {
    await close().catch(() => {});
  }
}

/** The same on a database that is there. */
export async function withCoreOn<Result>(
  url: string,
  { config, policies, tierLimits, mirrors: places }: Startup,
  work: (core: Core) => Promise<Result>,
): Promise<Result> {
  const closers: (() => Promise<void>)[] = [];
  try {
    const database = openDatabase({ url, connections: CONNECTIONS, timeout: STATEMENT_TIME, onError: () => {} });
    closers.push(() => database.close());
    const store = await openObjectStore(config, {
      publicUrl: () => config.PUBLIC_URL ?? `http://${config.HOST}:${config.PORT}`,
      onRetries: () => {},
      linkSecret: () => secretIn(config.DATA_DIR, 'link-secret'),
    });
    closers.push(() => store.close());
    const mirrors = openMirrors(places, config, { onRetries: () => {} });
    for (const mirror of mirrors) closers.push(() => mirror.store.close());
    const logger = pino({ level: 'warn' }, pino.destination({ fd: 2, sync: true }));
    // Jobs are left to the service.
    const here: Config = { ...config, ROLE: 'api' };
    const core = openCore(
      { config: here, policies, tierLimits, database, background: database, store, mirrors, logger },
      features,
    );
    await core.startWork();
    closers.push(() => core.close());
    return await work(core);
  } finally {
    for (const close of closers.reverse()) await close().catch(() => {});
  }
}
