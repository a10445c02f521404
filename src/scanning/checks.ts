/** What `npm run doctor` tries out of clamd. */
import { gzipSync } from 'node:zlib';
import { type Check, Fault } from '../doctor/check.ts';
import { type Clamd, ClamdUnavailable } from './clamd.ts';
import type { Scanner } from './scanner.ts';

/** Signatures are made every day; older ones do not know what goes around now. Milliseconds. */
const MAX_AGE = 7 * 24 * 3_600_000;
/** clamd unpacks less deep (clamd.conf(5), MaxRecursion: 17 unless it is set, 100 at most). */
const DEPTH = 200;

export function scanChecks(scanner: Scanner | undefined): Check[] {
  if (!scanner) return [];
  const { clamd } = scanner;
  return [
    { name: 'virus scanner', needed: false, run: () => reachable(clamd) },
    { name: 'age of the virus signatures', needed: false, run: () => age(clamd) },
    { name: 'virus scanner tells what it left out', needed: false, run: () => tellsLimits(clamd) },
  ];
}

async function reachable(clamd: Clamd): Promise<string> {
  try {
    await clamd.ping();
    return (await clamd.version()).engine;
  } catch (error) {
    if (!(error instanceof ClamdUnavailable)) throw error;
    throw new Fault(
      `clamd does not answer (${error.message}): correct CLAMD, or start it. Until then files wait to be scanned`,
    );
  }
}

async function age(clamd: Clamd): Promise<string | { skipped: string }> {
  const { signaturesAt } = await clamd.version();
  if (!signaturesAt) return { skipped: 'the signatures are those of local files, and have no date' };
  const day = signaturesAt.toISOString().slice(0, 10);
  if (Date.now() - signaturesAt.getTime() > MAX_AGE)
    throw new Fault(`the signatures are of ${day}: run freshclam, and let it run every day`);
  return `of ${day}`;
}

/** What clamd leaves out for one of its limits is "OK" to it, unless it is told to say so. */
async function tellsLimits(clamd: Clamd): Promise<string> {
  let nested = Buffer.from('an archive in an archive');
  for (let depth = 0; depth < DEPTH; depth++) nested = gzipSync(nested, { level: 0 });
  const outcome = await clamd.scan(
    (async function* () {
      yield nested;
    })(),
  );
  if (outcome.verdict === 'not-scanned' && outcome.why === 'too-large') return 'by a verdict of its own';
  throw new Fault(
    outcome.verdict === 'clean'
      ? 'clamd calls clean what is beyond its limits: set AlertExceedsMax yes in clamd.conf'
      : `clamd gave no answer to an archive in ${DEPTH} archives`,
  );
}
