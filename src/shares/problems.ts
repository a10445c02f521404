/** Problems of shares. */
import { defineProblem, Problem } from '../problems.ts';

export const tooManyShares = defineProblem('too-many-shares', {
  status: 403,
  title: 'There are as many shares as there may be',
});
export const sharePasswordNeeded = defineProblem('share-password-needed', {
  status: 401,
  title: 'The share needs its password',
});
export const shareViewOnly = defineProblem('share-view-only', {
  status: 403,
  title: 'The share is for looking only',
});

/** The same to the letter for what never was, was revoked, has expired, is used up, or leads to nothing any more. */
export function unknownShare(): Problem {
  return new Problem('not-found', { detail: 'There is no share at this address, or not any more.' });
}

/** Of whoever shared: a foreign share and an unknown one get the same answer. */
export function shareNotFound(): Problem {
  return new Problem('not-found', { detail: 'There is no share with this id.' });
}
