/** What commands say of a failure. */
import { explainDatabaseFault } from '../database/faults.ts';
import { ObjectStoreUnavailable, refusalIn } from '../storage/object-store.ts';

/** Which of the two it was, what it said, and what to do. */
export function explainFault(error: unknown): string {
  const refusal = refusalIn(error);
  if (refusal) return refusal.advice;
  for (let each = error; each instanceof Error; each = each.cause)
    if (each instanceof ObjectStoreUnavailable) return `${each.message}${wordsOf(each.cause)}`;
  return explainDatabaseFault(error);
}

function wordsOf(cause: unknown): string {
  return cause instanceof Error ? `: ${cause.name === 'Error' ? '' : `${cause.name} `}${cause.message}` : '';
}
