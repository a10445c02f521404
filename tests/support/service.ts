/** A whole service in this process, on a port of its own, with a database and an object store of its own. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { buildApp, features } from '../../src/app.ts';
import { type Config, loadConfig, settingsIn } from '../../src/config.ts';
import type { Core } from '../../src/core.ts';
import { type DatabaseHandle, openDatabase } from '../../src/database/client.ts';
import { type Feature, settingsOf } from '../../src/feature.ts';
import type { Metrics } from '../../src/http/metrics.ts';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { reconcileStore } from '../../src/reconciliation/jobs/reconcile.ts';
import type { ReconcileOutcome, ReconcileReport, ReconcileRequest } from '../../src/reconciliation/reconciler.ts';
import { scanSettings } from '../../src/scanning/settings.ts';
import type { Service } from '../../src/server.ts';
import { loadMirrors, loadTiers } from '../../src/startup.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openMirrors, openObjectStore } from '../../src/storage/open.ts';
import { reapOutsideOfJobs } from '../../src/uploads/jobs/reap-uploads.ts';
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
  /** Content of the file TIERS. */
  tiers?: object;
  /** Content of the file MIRRORS. */
  mirrors?: object;
  /** Of a database with migrations applied; a fresh one when absent. */
  databaseUrl?: string;
  /** Bucket and directory of another service, to run a second instance beside it. */
  beside?: TestService;
  /** Seen by the service instead of the store that was opened. */
  wrapStore?: (store: ObjectStore) => ObjectStore;
  /** Of the service; those of app.ts when absent. */
  features?: readonly Feature<Core>[];
}

/** The service with what tests look at and run by hand. */
export interface ServiceInTest extends Service {
  metrics: Metrics;
  /** Undoes what is left to undo, and ends the jobs. */
  closeWork(): Promise<void>;
  /** What the reaper does each minute. */
  reap(): Promise<void>;
  /** What `npm run reconcile` does. */
  reconcile(request: ReconcileRequest): Promise<{ outcome: ReconcileOutcome; report: ReconcileReport }>;
}

export interface TestService {
  url: string;
  config: Config;
  service: ServiceInTest;
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
    if (options.features) await prepareDatabase(fresh.url, options.features);
    databaseUrl = fresh.url;
  }
  const bucket = options.beside?.bucket ?? (options.store === 's3' ? await createTestBucket() : undefined);
  if (bucket && !options.beside) closers.push(() => bucket.drop());
  const place = options.beside?.place ?? (bucket ? placeOnS3(bucket) : { DATA_DIR: directory });
  const policyFile = join(directory, 'policies.json');
  if (options.policies) await writeFile(policyFile, JSON.stringify(options.policies));
  const tierFile = join(directory, 'tiers.json');
  if (options.tiers) await writeFile(tierFile, JSON.stringify(options.tiers));
  const mirrorFile = join(directory, 'mirrors.json');
  if (options.mirrors) await writeFile(mirrorFile, JSON.stringify(options.mirrors));
  const config = loadConfig(
    {
      PORT: '0',
      ...patience,
      // Where a test is not about it, nothing is made of the files.
      DERIVATIVES: 'false',
      ...place,
      ...(options.policies && { UPLOAD_POLICIES: policyFile }),
      ...(options.tiers && { TIERS: tierFile }),
      ...(options.mirrors && { MIRRORS: mirrorFile }),
      ...options.env,
    },
    settingsOf(options.features ?? features),
  );
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
  let url = '';
  const opened = await openObjectStore(config, {
    publicUrl: () => url,
    onRetries: () => {},
    linkSecret: () => Buffer.alloc(32, 1),
  });
  const store = options.wrapStore?.(opened) ?? opened;
  closers.push(() => opened.close());
  const mirrors = openMirrors(loadMirrors(config), config, { onRetries: () => {} });
  for (const mirror of mirrors) closers.push(() => mirror.store.close());
  const built = await buildApp(
    {
      config,
      policies: loadUploadPolicies(
        config.UPLOAD_POLICIES,
        config.MAX_FILE_SIZE,
        settingsIn(config, scanSettings).CLAMD !== undefined,
      ),
      tierLimits: loadTiers(config),
      database,
      background,
      store,
      mirrors,
      logger,
      version: '0.0.0-test',
      checkAnswers: true,
    },
    options.features,
  );
  const { core } = built;
  const service = {
    ...built,
    metrics: core.metrics,
    closeWork: () => core.close(),
    reap: async () => {
      await reapOutsideOfJobs(core);
    },
    reconcile: async (request: ReconcileRequest) => {
      if (!request.dryRun) await reapOutsideOfJobs(core);
      return reconcileStore(core, request);
    },
  };
  await core.startWork();
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
      core.stopUploads();
      service.app.server.closeAllConnections();
      await service.app.close();
      await core.close();
      for (const close of closers.reverse()) await close();
    },
  };
}

export function placeOnS3({ bucket }: TestBucket): Record<string, string> {
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
