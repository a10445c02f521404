/**
 * `npm run doctor`: tries out the live configuration step by step and says of each step what was found. What it writes
 * lies under `doctor/` and is removed again. Exit code 1 when something that the service needs fails.
 */
import { pino } from 'pino';
import { features } from '../src/app.ts';
import { openCommandDatabase } from '../src/command.ts';
import { openCore } from '../src/core.ts';
import { type DatabaseHandle, openDatabase } from '../src/database/client.ts';
import { explainDatabaseFault } from '../src/database/faults.ts';
import { ping } from '../src/database/probes.ts';
import { callerChecks } from '../src/doctor/caller-checks.ts';
import { cdnChecks } from '../src/doctor/cdn-checks.ts';
import { type Check, examine, Fault } from '../src/doctor/check.ts';
import { databaseChecks } from '../src/doctor/database-checks.ts';
import { explainStore, s3Checks } from '../src/doctor/s3-checks.ts';
import { storeChecks } from '../src/doctor/store-checks.ts';
import { secretIn } from '../src/secrets.ts';
import { readConfiguration } from '../src/startup.ts';
import { openCdn } from '../src/storage/cdn.ts';
import { openMirrors, openObjectStore } from '../src/storage/open.ts';

const marks = { ok: 'ok', failed: 'FAILED', missing: 'missing', skipped: 'skipped' };
const TIMEOUT = 10_000;
let failed = false;

async function report(checks: readonly Check[]): Promise<void> {
  for await (const { name, verdict, detail } of examine(checks)) {
    failed ||= verdict === 'failed';
    console.log(`${marks[verdict].padEnd(8)} ${name}: ${detail}`);
  }
}

// A faulty configuration ends the process here, with all its faults by name.
const { config, policies, mirrors: places } = readConfiguration(features);
console.log('ok       settings: valid');
let close = async () => {};
let database: DatabaseHandle | undefined;
await report([
  {
    name: 'database reachable',
    needed: true,
    run: async () => {
      const server = await openCommandDatabase(config);
      close = server.close;
      const handle = openDatabase({ url: server.url, connections: 2, timeout: TIMEOUT, onError: () => {} });
      try {
        await ping(handle.database);
      } catch (error) {
        await handle.close();
        throw new Fault(explainDatabaseFault(error));
      }
      close = () => handle.close().then(server.close);
      database = handle;
      return config.DATABASE_URL === undefined ? 'the embedded Postgres' : 'answers';
    },
  },
]);
if (database) await report(databaseChecks(database.database));
const store = await openObjectStore(config, {
  publicUrl: () => config.PUBLIC_URL ?? `http://${config.HOST}:${config.PORT}`,
  onRetries: () => {},
  linkSecret: () => secretIn(config.DATA_DIR, 'link-secret'),
});
const isOnS3 = config.S3_BUCKET !== undefined;
await report([
  ...storeChecks(store, config.S3_KEY_PREFIX, isOnS3 ? () => explainStore(config) : undefined),
  ...(isOnS3 ? s3Checks(config, store) : []),
  ...cdnChecks(openCdn(config), store, config.S3_KEY_PREFIX),
]);
await report(callerChecks(config));
if (database) {
  const logger = pino({ level: 'silent' });
  const mirrors = openMirrors(places, config, { onRetries: () => {} });
  const core = openCore({ config, policies, database, background: database, store, mirrors, logger }, features);
  await report(features.flatMap((feature) => feature.checks?.(core) ?? []));
  for (const mirror of mirrors) await mirror.store.close();
}
await store.close();
await close();
console.log(
  failed ? '\nSomething that the service needs does not work.' : '\nEverything that the service needs works.',
);
if (failed) process.exitCode = 1;
