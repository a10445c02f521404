/** What may become of a retention: longer by whoever may retain, shorter by an administrator, and of compliance never. */
import { held } from '../assets/held.ts';
import type { RetentionMode } from '../database/tables/holds.ts';
import { Problem } from '../problems.ts';

export interface Retention {
  retainUntil: Date;
  retentionMode: RetentionMode;
}

interface Judged {
  /** As it is; absent where there never was one. */
  current: Retention | undefined;
  wanted: Retention;
  isAdministrator: boolean;
  /** By the clock of the database, which judges whether it stands. */
  now: Date;
  /** Days ahead that a retention may go. */
  most: number;
}

const DAY = 24 * 3600 * 1000;

/**
 * @returns whether anything is to be changed
 * @throws Problem invalid-parameter, forbidden, held
 */
export function judgeRetention({ current, wanted, isAdministrator, now, most }: Judged): boolean {
  const [until, mode] = [wanted.retainUntil.getTime(), wanted.retentionMode];
  if (current && current.retainUntil.getTime() === until && current.retentionMode === mode) return false;
  if (until > now.getTime() + most * DAY) throw badTime(`must be at most ${most} days ahead`);
  if (!current || current.retainUntil <= now) {
    if (until <= now.getTime()) throw badTime('must be in the future');
    return true;
  }
  const isShorter = until < current.retainUntil.getTime();
  if (current.retentionMode === 'compliance') {
    if (isShorter || mode !== 'compliance') throw held(current);
    return true;
  }
  if (isShorter && !isAdministrator)
    throw new Problem('forbidden', {
      detail: 'Only an administrator who names a reason shortens a retention. You may make it longer.',
    });
  return true;
}

function badTime(detail: string): Problem {
  return new Problem('invalid-parameter', {
    detail: `retainUntil ${detail}.`,
    errors: [{ pointer: '/retainUntil', detail }],
  });
}
