/** Whether the object store holds exactly the bytes a record says. */
import { createHash } from 'node:crypto';
import type { CallOptions, ObjectStore } from './object-store.ts';

/**
 * Compares the size and, by reading the bytes back, the SHA-256 if it is known: for the rare cases in which nobody is left who knows.
 * @throws ObjectStoreUnavailable when nobody can tell
 */
export async function objectMatches(
  store: ObjectStore,
  key: string,
  expected: { size: number; sha256?: Buffer | undefined },
  options: CallOptions,
): Promise<boolean> {
  const head = await store.head(key, options);
  if (head?.size !== expected.size) return false;
  if (!expected.sha256) return true;
  const body = await store.get(key, options);
  if (!body) return false;
  const hash = createHash('sha256');
  for await (const chunk of body.stream) hash.update(chunk as Buffer);
  return hash.digest().equals(expected.sha256);
}
