/**
 * Backups: the records of one moment, and a manifest of the objects that they name, taken while the service runs; and a
 * database rebuilt from them. Both are commands, `npm run backup` and `npm run restore`. Here is what the service itself
 * knows of it: how old the last backup is, and that a restore waits to be confirmed.
 */
import type { Core } from '../core.ts';
import { type Check, Fault } from '../doctor/check.ts';
import type { Feature } from '../feature.ts';
import { type Gauge, gaugesOf } from '../http/metrics.ts';
import { backupActions } from './audit.ts';
import { lookAtBackups } from './repository.ts';
import { backupSettings } from './settings.ts';

/** Whoever backs up more seldom than every week should know that it is so. Milliseconds. */
const MAX_AGE = 7 * 24 * 3_600_000;

export const backups: Feature<Core> = {
  name: 'backups',
  settings: backupSettings,
  auditActions: backupActions,
  gauges,
  checks,
};

function gauges({ background: { database } }: Core): Gauge[] {
  return gaugesOf(
    () => lookAtBackups(database),
    [
      {
        name: 'stowage_backup_timestamp_seconds',
        help: 'Of which moment the last backup is',
        of: ({ takenAt }) => takenAt && takenAt.getTime() / 1000,
      },
      {
        name: 'stowage_restore_unconfirmed',
        help: 'Whether the database was rebuilt from a backup and nobody has confirmed it: then nothing is deleted from the object store',
        of: ({ isUnconfirmed }) => Number(isUnconfirmed),
      },
    ],
  );
}

function checks({ background: { database } }: Core): Check[] {
  return [
    { name: 'last backup', needed: false, run: async () => ageOf((await lookAtBackups(database)).takenAt) },
    {
      name: 'restore confirmed',
      needed: false,
      run: async () => {
        if (!(await lookAtBackups(database)).isUnconfirmed) return 'nothing waits to be confirmed';
        throw new Fault(
          'the database was rebuilt from a backup; until npm run restore -- --confirm nothing is deleted from the object store',
        );
      },
    },
  ];
}

function ageOf(takenAt: Date | undefined): string {
  if (!takenAt) throw new Fault('there is none: run npm run backup, every day');
  const day = takenAt.toISOString().slice(0, 16);
  if (Date.now() - takenAt.getTime() > MAX_AGE) throw new Fault(`it is of ${day}: run npm run backup, every day`);
  return `of ${day}`;
}
