/** A whole service in this process, on a port of its own, with a database and an object store of its own. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { buildApp, type Service } from '../../src/app.ts';
import { type Config, loadConfig } from '../../src/config.ts';
import { type DatabaseHandle, openDatabase } from '../../src/database/client.ts';
import { JobQueue } from '../../src/jobs/queue.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openObjectStore } from '../../src/storage/open.ts';
import { loadUploadPolicies } from '../../src/validation/upload-policies.ts';
import { patience } from './patience.ts';
import { createPreparedDatabase } from './postgres.ts';
import { createTestBucket, s3Settings, s3Skip, type TestBucket } from './s3.ts';

export type StoreKind = 'disk' | 's3';

/** For `describe` over both stores: each with the reason to skip it, if there is one. */
export const storeKinds: { store: StoreKind; skip: string | false }[] = [
  { store: 'disk', skip: false },
  { store: 's3', skip: s3Skip() },
];

export interface ServiceOptions {
  store?: StoreKind;
  /** Variables over the defaults of the tests. */
  env?: Record<string, string>;
  /** Content of the file UPLOAD_POLICIES. */
  policies?: object;
  /** Of a database with migrations applied; a fresh one when absent. */
  databaseUrl?: string;
  /** Bucket and directory of another service, to run a second instance beside it. */
  beside?: TestService;
  /** Seen by the service instead of the store that was opened. */
  wrapStore?: (store: ObjectStore) => ObjectStore;
}

export interface TestService {
  url: string;
  config: Config;
  service: Service;
  database: DatabaseHandle;
  databaseUrl: string;
  store: ObjectStore;
  /** Where the objects are, when they are on S3. */
  bucket?: TestBucket;
  /** Variables that place a second instance beside this one. */
  place: Record<string, string>;
  /** Lines the service logged. */
  log: string[];
  /** All rows of a query. */
  query<Row extends object>(text: string, values?: unknown[]): Promise<Row[]>;
  close(): Promise<void>;
}

export async function startService(options: ServiceOptions = {}): Promise<TestService> {
  const closers: (() => Promise<unknown>)[] = [];
  const directory = await mkdtemp(join(tmpdir(), 'stowage-test-'));
  closers.push(() => rm(directory, { recursive: true, force: true }));
  let databaseUrl = options.databaseUrl ?? options.beside?.databaseUrl;
  if (databaseUrl === undefined) {
    const fresh = await createPreparedDatabase();
    closers.push(() => fresh.drop());
    databaseUrl = fresh.url;
  }
  const bucket = options.beside?.bucket ?? (options.store === 's3' ? await createTestBucket() : undefined);
  if (bucket && !options.beside) closers.push(() => bucket.drop());
  const place = options.beside?.place ?? (bucket ? placeOnS3(bucket) : { DATA_DIR: directory });
  const policyFile = join(directory, 'policies.json');
  if (options.policies) await writeFile(policyFile, JSON.stringify(options.policies));
  const config = loadConfig({
    PORT: '0',
    ...patience,
    ...place,
    ...(options.policies && { UPLOAD_POLICIES: policyFile }),
    ...options.env,
  });
  const log: string[] = [];
  const logger = pino({ level: config.LOG_LEVEL }, { write: (line: string) => log.push(line) });
  const database = openDatabase({
    url: databaseUrl,
    connections: config.DATABASE_POOL,
    timeout: config.DATABASE_TIMEOUT,
    prepare: config.DATABASE_PREPARE,
    onError: () => {},
  });
  closers.push(() => database.close());
  const background = openDatabase({ url: databaseUrl, connections: 4, timeout: 60_000, onError: () => {} });
  closers.push(() => background.close());
  const jobs = new JobQueue({
    database: background,
    work: config.ROLE !== 'api',
    onError: (message, err) => logger.warn({ err }, message),
  });
  let url = '';
  const opened = await openObjectStore(config, {
    publicUrl: () => url,
    onRetries: () => {},
    linkSecret: () => Buffer.alloc(32, 1),
  });
  const store = options.wrapStore?.(opened) ?? opened;
  closers.push(() => opened.close());
  const service = await buildApp({
    config,
    policies: loadUploadPolicies(config.UPLOAD_POLICIES, config.MAX_FILE_SIZE),
    database,
    background,
    jobs,
    store,
    logger,
    version: '0.0.0-test',
    checkAnswers: true,
  });
  await service.startWork();
  url = await service.app.listen({ host: config.HOST, port: 0 });
  return {
    url,
    config,
    service,
    database,
    databaseUrl,
    store: opened,
    ...(bucket && { bucket }),
    place,
    log,
    query: async <Row extends object>(text: string, values: unknown[] = []) =>
      (await database.pool.query<Row>(text, values)).rows,
    close: async () => {
      service.stopUploads();
      service.app.server.closeAllConnections();
      await service.app.close();
      await service.closeWork();
      for (const close of closers.reverse()) await close();
    },
  };
}

function placeOnS3({ bucket }: TestBucket): Record<string, string> {
  const settings = s3Settings();
  if (!settings) throw new Error('there is no S3 server; skip with s3Skip()');
  return {
    S3_BUCKET: bucket,
    S3_ENDPOINT: settings.endpoint,
    S3_REGION: settings.region,
    S3_ACCESS_KEY_ID: settings.accessKeyId,
    S3_SECRET_ACCESS_KEY: settings.secretAccessKey,
    S3_FORCE_PATH_STYLE: 'true',
  };
}
