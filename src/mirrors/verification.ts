/**
 * Reads copies again and compares them with their digests: those that were not looked at for the longest time, and so many in an
 * hour that a share of all is read in a day. What is missing or damaged is copied again.
 */
import { keyIn, type Mirror } from '../storage/mirror.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { CopyFault, faultsOfMirror, readCopy } from './copy-object.ts';
import type { CopiesRepository, CopyWork } from './repository.ts';

const HOURS = 24;
const PAGE = 50;

export interface VerificationOptions {
  mirror: Mirror;
  source: ObjectStore;
  copies: CopiesRepository;
  onError: (message: string, error: unknown) => void;
  /** Told how each copy was found to be. */
  onVerified?: (found: 'intact' | 'missing' | 'damaged') => void;
}

/** How many of so many copies are read in an hour; what is less than one is left to chance. */
export function hourly(stored: number, share: number, chance = Math.random()): number {
  const wanted = (stored * share) / HOURS;
  return Math.floor(wanted) + (chance < wanted % 1 ? 1 : 0);
}

/** Reads up to so many copies. It ends when the mirror does not answer. @returns how many were read, and found bad */
export async function verifyCopies(
  options: VerificationOptions,
  count: number,
  signal: AbortSignal,
): Promise<{ read: number; bad: number }> {
  const { mirror, copies } = options;
  const done = { read: 0, bad: 0 };
  const before = new Date();
  while (done.read < count) {
    const page = await copies.toVerify(mirror.name, before, Math.min(PAGE, count - done.read));
    for (const copy of page) {
      signal.throwIfAborted();
      const outcome = await verifyCopy(options, copy, signal);
      if (outcome === 'unknown') return done;
      done.read += 1;
      if (outcome === 'missing' || outcome === 'damaged') done.bad += 1;
    }
    if (page.length === 0) break;
  }
  return done;
}

/**
 * Reads one copy and writes down how it is; what is bad is copied again.
 * @returns `unknown` when the mirror does not answer; `skipped` when this one cannot be judged now
 */
export async function verifyCopy(
  { mirror, source, copies, onError, onVerified }: VerificationOptions,
  copy: CopyWork,
  signal: AbortSignal,
): Promise<'intact' | 'missing' | 'damaged' | 'skipped' | 'unknown'> {
  const { objectKey, size, assetId } = copy;
  try {
    // Nobody has read the bytes yet: they are compared with what they are a copy of.
    const sha256 = copy.sha256 ?? (await digestOf(source, objectKey, size, signal));
    await readCopy({ store: mirror.store, key: keyIn(mirror, objectKey) }, { size, sha256 }, signal);
    await copies.endVerification(mirror.name, objectKey, { sha256 });
    onVerified?.('intact');
    return 'intact';
  } catch (error) {
    signal.throwIfAborted();
    const reason = error instanceof CopyFault ? error.reason : undefined;
    if (reason !== 'copy-missing' && reason !== 'copy-damaged') {
      onError(`copies in the mirror ${mirror.name} could not be verified`, error);
      if (reason !== undefined && faultsOfMirror.includes(reason)) return 'unknown';
      await copies.passOver(mirror.name, objectKey);
      return 'skipped';
    }
    await copies.endVerification(mirror.name, objectKey, { reason });
    onError(`a copy of the asset ${assetId} in the mirror ${mirror.name} is bad and is made again: ${reason}`, error);
    const found = reason === 'copy-missing' ? 'missing' : 'damaged';
    onVerified?.(found);
    return found;
  }
}

async function digestOf(store: ObjectStore, key: string, size: number, signal: AbortSignal): Promise<Buffer> {
  try {
    return await readCopy({ store, key }, { size }, signal);
  } catch (error) {
    signal.throwIfAborted();
    throw new CopyFault('source-unavailable', { cause: error });
  }
}
