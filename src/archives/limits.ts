/** How large an archive may be. */

import { archivedProblem } from '../assets/archived.ts';
import { bytes, setting } from '../config.ts';
import { defineProblem, Problem, type ProblemType } from '../problems.ts';
import type { ArchivedFile } from './archived-file.ts';

export const archiveTooLarge: ProblemType = defineProblem('archive-too-large', {
  status: 413,
  title: 'The archive would be too large',
});

/** Of one archive: its list is in memory while it is sent. */
export const MAX_ARCHIVED = 10_000;

export const archiveSettings = {
  MAX_ARCHIVE_SIZE: setting(
    'Limits',
    bytes.refine((n) => n > 0, 'must be more than 0'),
    '100GiB',
    'Largest archive of several files that one download may fetch.',
  ),
};

/** @throws Problem archive-too-large */
export function checkFiles(files: readonly ArchivedFile[], maxBytes: number): void {
  requireAtHand(files);
  if (files.length > MAX_ARCHIVED)
    throw new Problem(archiveTooLarge, { detail: `An archive has at most ${MAX_ARCHIVED} files. Get fewer at once.` });
  const total = files.reduce((sum, { size }) => sum + size, 0);
  if (total > maxBytes)
    throw new Problem(archiveTooLarge, {
      detail: `The files have ${total} bytes, and an archive has at most ${maxBytes}. Get fewer at once.`,
    });
}

/** Ids of files that one answer names. */
const NAMED = 20;

/** A smaller archive would look as if it were all. @throws Problem archived */
function requireAtHand(files: readonly ArchivedFile[]): void {
  const away = files.filter(({ isAtHand }) => !isAtHand);
  if (away.length === 0) return;
  const which = away.slice(0, NAMED).map(({ id }) => id);
  const more = away.length > which.length ? ` and ${away.length - which.length} more` : '';
  throw new Problem(archivedProblem, {
    detail: `The bytes of ${which.join(', ')}${more} were moved to another storage tier. Have them brought back (restore-from-archive), or leave them out.`,
  });
}
