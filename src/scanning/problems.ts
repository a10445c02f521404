/** Problems of scanning. */
import { defineProblem, Problem } from '../problems.ts';

export const infected = defineProblem('infected', { status: 422, title: 'The file is infected' });
/** Of files that were rejected because nobody could scan them in time. */
export const notScanned = defineProblem('not-scanned', { status: 422, title: 'The file could not be scanned' });
export const scanInProgress = defineProblem('scan-in-progress', {
  status: 409,
  title: 'Stored files are being scanned again already',
});
export const scanningProblems = [infected, notScanned, scanInProgress];

/** @param signature what the scanner found, as it names it */
export function infectedFile(signature: string): Problem {
  return new Problem(infected, {
    detail: `The scanner found ${signature} in the file. Nothing of it was stored.`,
    signature,
  });
}
