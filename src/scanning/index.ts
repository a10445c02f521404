/**
 * Scanning for viruses: clamd is asked about every file before it is served. A small file of one request is scanned before
 * anything of it is stored (uploads/intake.ts), everything else by the step `scan` of processing.
 */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import type { Ability } from '../http/health.ts';
import { scanChecks } from './checks.ts';
import { scanningProblems } from './problems.ts';
import { type Scanner, scannerOf } from './scanner.ts';
import { scanSettings } from './settings.ts';

export const scanning: Feature<Core> = {
  name: 'scanning',
  settings: scanSettings,
  problems: scanningProblems,
  checks: (core) => scanChecks(scannerOf(core)),
  abilities: async (core) => [await ability(scannerOf(core))],
  gauges: (core) => {
    const scanner = scannerOf(core);
    if (!scanner) return [];
    return [
      { name: 'stowage_active_scans', help: 'Scans in progress', read: () => scanner.active },
      { name: 'stowage_waiting_scans', help: 'Scans that wait for a place', read: () => scanner.waiting },
      {
        name: 'stowage_clamd_up',
        help: 'Whether clamd answers: 1 or 0',
        read: async () => ((await scanner.isUp()) ? 1 : 0),
      },
      {
        name: 'stowage_clamd_signatures_timestamp_seconds',
        help: 'When the signatures of clamd were made',
        read: async () => {
          const { signaturesAt } = await scanner.version();
          return signaturesAt && signaturesAt.getTime() / 1000;
        },
      },
    ];
  },
};

async function ability(scanner: Scanner | undefined): Promise<Ability> {
  const works = scanner !== undefined && (await scanner.isUp());
  return scanner
    ? { name: 'clamd', works, lost: 'files wait to be scanned for viruses', remedy: 'start it, or correct CLAMD' }
    : {
        name: 'clamd',
        works,
        lost: 'files are not scanned for viruses',
        remedy: 'apt-get install clamav-daemon, and set CLAMD',
      };
}
