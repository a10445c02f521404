/**
 * Asks the virus scanner about bytes that are stored. What cannot be scanned waits, and is tried again with growing pauses;
 * after SCAN_PATIENCE it is rejected, or, where its policy says `best-effort`, served as it is. It is never clean.
 */
import { HOUR, MINUTE } from '../../jobs/job.ts';
import type { NotScanned } from '../../scanning/clamd.ts';
import { infected, notScanned } from '../../scanning/problems.ts';
import { type Scanned, scannerOf } from '../../scanning/scanner.ts';
import { scanSettings } from '../../scanning/settings.ts';
import { ObjectStoreUnavailable } from '../../storage/object-store.ts';
import type { Step, StepOutcome, StepWork } from '../step.ts';

/** Seconds before the second try; the pause doubles up to the longest. */
const FIRST_PAUSE = 2;
const LONGEST_PAUSE = 15 * MINUTE;
/** What is too large now is scanned only when somebody has changed the configuration of clamd; each try sends it all. */
const LONGEST_PAUSE_TOO_LARGE = 3 * HOUR;

export const scanStep: Step = {
  name: 'scan',
  // Fewer at once than SCANS_AT_ONCE, so that who waits for an answer finds a place.
  settings: { concurrency: 4 },
  run: async (work) => {
    const scanned = await scan(work);
    // Nobody scans here, although somebody has planned it: where CLAMD was set a moment ago, or is in other processes.
    if (!scanned) return waitOrEnd(work, 'unreachable', { verdict: 'not-scanned', at: new Date().toISOString() });
    if (scanned.notScanned) return waitOrEnd(work, scanned.notScanned.why, scanned.scan);
    return scanned.scan.verdict === 'infected'
      ? { kind: 'rejected', reason: infected, removesBytes: true, scan: scanned.scan }
      : { kind: 'done', scan: scanned.scan };
  },
};

/** @returns undefined when there is no scanner */
async function scan({ asset, core, context: { signal } }: StepWork): Promise<Scanned | undefined> {
  const open = async () => {
    const body = await core.store.get(asset.objectKey, { signal });
    if (!body) throw new ObjectStoreUnavailable('the object is not there');
    return body.stream;
  };
  const scanned = await scannerOf(core)?.scan(open, { size: asset.size, signal, trigger: 'job' });
  // A fault of the store says nothing of the scanner, and is no reason to reject a file.
  if (scanned?.notScanned?.why === 'source-failed') throw new ObjectStoreUnavailable(scanned.notScanned.detail);
  return scanned;
}

function waitOrEnd(
  { asset, policy, core, waitingSince }: StepWork,
  why: NotScanned,
  scan: Scanned['scan'],
): StepOutcome {
  const patience = core.settings(scanSettings).SCAN_PATIENCE;
  const waited = waitingSince ? Date.now() - waitingSince.getTime() : 0;
  if (waited < patience) {
    const longest = why === 'too-large' ? LONGEST_PAUSE_TOO_LARGE : LONGEST_PAUSE;
    const pause = Math.min(Math.max(FIRST_PAUSE, waited / 1000), longest, (patience - waited) / 1000);
    return { kind: 'later', reason: why, seconds: Math.max(1, Math.ceil(pause)) };
  }
  // It was served before, and nothing speaks against it.
  if (asset.state === 'ready') return { kind: 'failed', reason: why };
  if (policy?.scan === 'best-effort') return { kind: 'done', scan };
  return { kind: 'rejected', reason: notScanned, removesBytes: false, scan };
}
