/**
 * `npm run restore -- FROM [--digests] [--identity FILE] [--all]`: rebuilds an empty database from a backup, and compares the
 * object store with its manifest. `--digests` reads all bytes. Afterwards the service runs, but nothing is deleted from the
 * object store until `npm run restore -- --confirm`. Whatever ends it, run it again. Exit code 0: all objects are there.
 * 1: some are not, or it failed.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { features } from '../src/app.ts';
import type { Finding } from '../src/backups/compare.ts';
import { identitiesIn } from '../src/backups/encryption.ts';
import { explainFault } from '../src/backups/explain.ts';
import { type FinishOutcome, finishRestore } from '../src/backups/finish-restore.ts';
import { openBackup } from '../src/backups/opened-backup.ts';
import { openPlace } from '../src/backups/place.ts';
import { confirmRestores } from '../src/backups/repository.ts';
import { rebuildDatabase } from '../src/backups/restore.ts';
import { backupSettings } from '../src/backups/settings.ts';
import { openCommandDatabase, withCore, withCoreOn } from '../src/command.ts';
import { settingsIn } from '../src/config.ts';
import { systemActor } from '../src/database/audit.ts';
import { prepareDatabase } from '../src/prepare-database.ts';
import { readConfiguration } from '../src/startup.ts';

/** Findings of each kind that are printed without `--all`. */
const PRINTED = 20;

interface Request {
  from: string;
  identities: string[];
  readsBytes: boolean;
  printsAll: boolean;
}

function readArguments(): Request | 'confirm' {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      confirm: { type: 'boolean', default: false },
      digests: { type: 'boolean', default: false },
      all: { type: 'boolean', default: false },
      identity: { type: 'string', multiple: true, default: [] },
    },
  });
  const [from, ...more] = positionals;
  if (values.confirm && positionals.length === 0) return 'confirm';
  if (from === undefined || more.length > 0 || values.confirm)
    throw new Error('name one backup, as npm run backup has printed it; or say --confirm alone');
  const identities = values.identity.flatMap((file) => identitiesIn(readFileSync(file, 'utf8')));
  return { from, identities, readsBytes: values.digests, printsAll: values.all };
}

/** Prints what was found, the first of each kind. */
function printer(printsAll: boolean): (finding: Finding) => void {
  const printed = new Map<string, number>();
  return (finding) => {
    const count = (printed.get(finding.kind) ?? 0) + 1;
    printed.set(finding.kind, count);
    if (printsAll || count <= PRINTED) {
      const assetId = finding.kind === 'unknown' ? finding.assetId : finding.object.assetId;
      const what = finding.kind === 'unknown' ? 'not in the backup' : `${finding.kind} ${finding.object.kind}`;
      console.log(`${what}  asset ${assetId}  ${finding.object.size} bytes  ${finding.object.key}`);
    } else if (count === PRINTED + 1) console.log('... and more; --all prints all of them');
  };
}

function tell({ report, isOtherStore, jobs }: FinishOutcome): void {
  const lines: [number, string][] = [
    [report.expected, 'objects that must be there'],
    [report.missing, 'of them missing'],
    [report.verified, 'read, and compared with their digest'],
    [report.damaged, 'of them damaged'],
    [report.unread, 'there, but could not be read'],
    [report.lostAssets, 'assets that are lost now: ready again when their bytes are back'],
    [report.unknown, 'objects that the backup does not know: newer, or their deletion was under way'],
    [report.unknownBytes, 'their bytes'],
    [report.foreign, 'objects with keys that are not ours'],
    [jobs.enqueued, 'jobs enqueued'],
    [jobs.leftOut, 'jobs left out, which this version does not have or the clock enqueues'],
  ];
  for (const [count, meaning] of lines) console.log(`${String(count).padStart(16)}  ${meaning}`);
  if (isOtherStore)
    console.log('Not one object is there: is this the right bucket and prefix? No asset was marked as lost.');
  console.log(
    'The service may be started. Nothing is deleted from the object store until you have looked, and run: npm run restore -- --confirm',
  );
  if (report.unknown > 0)
    console.log(
      'After that, the reconciler deletes the objects that no record names, as npm run reconcile -- --dry-run tells.',
    );
}

async function restore({ from, identities, readsBytes, printsAll }: Request): Promise<void> {
  const startedAt = new Date();
  const startup = readConfiguration(features);
  const { BACKUP_PASSPHRASE: passphrase } = settingsIn(startup.config, backupSettings);
  const place = openPlace(from, startup.config);
  const backup = await openBackup(place, { passphrase, identities });
  const { url, close } = await openCommandDatabase(startup.config, { isPrepared: false });
  try {
    const how = await rebuildDatabase(url, backup);
    const { takenAt } = backup.document;
    console.log(
      how === 'restored'
        ? `The database is rebuilt as it was at ${takenAt}.`
        : `The database was rebuilt from this backup, of ${takenAt}, before.`,
    );
    await prepareDatabase(url);
    const onFinding = printer(printsAll);
    const outcome = await withCoreOn(url, startup, (core) =>
      finishRestore(core, { url, backup, readsBytes, startedAt, onFinding }),
    );
    tell(outcome);
    if (outcome.report.missing + outcome.report.damaged > 0) process.exitCode = 1;
  } finally {
    await close();
    await place.close();
  }
}

async function confirm(): Promise<void> {
  const confirmed = await withCore(({ background }) =>
    confirmRestores(background.database, systemActor('restore', 'confirm')),
  );
  for (const { backupId, takenAt } of confirmed)
    console.log(`Confirmed: the database is that of the backup ${backupId}, of ${takenAt.toISOString()}.`);
  console.log(
    confirmed.length === 0
      ? 'There was nothing to confirm.'
      : 'Services that run begin the jobs that have waited within seconds.',
  );
}

try {
  const request = readArguments();
  await (request === 'confirm' ? confirm() : restore(request));
} catch (error) {
  console.error(`The restore failed: ${explainFault(error)}`);
  process.exitCode = 1;
}
