/** Reads back an object that could not be validated on its way. */
import { createHash } from 'node:crypto';
import { type ObjectStore, ObjectStoreUnavailable } from '../storage/object-store.ts';
import { digestMismatch, refuseDamaged } from '../validation/file-validation.ts';
import { structureCheck } from '../validation/structure.ts';

export interface VerifyOptions {
  signal?: AbortSignal;
  /** Awaited with the number of bytes that were read so far, after each chunk. */
  onProgress?: (bytes: number) => Promise<void>;
}

/**
 * Reads an object once and validates all of it: its digest, if one was declared, and its structure.
 * @returns the digest
 * @throws Problem digest-mismatch, damaged-file; ObjectStoreUnavailable
 */
export async function verifyBytes(
  store: ObjectStore,
  key: string,
  { sha256, mediaType }: { sha256?: Buffer | undefined; mediaType: string },
  { signal, onProgress }: VerifyOptions = {},
): Promise<Buffer> {
  const body = await store.get(key, signal ? { signal } : {});
  if (!body) throw new ObjectStoreUnavailable('the object is not there');
  const hash = createHash('sha256');
  const structure = structureCheck(mediaType);
  let bytes = 0;
  for await (const chunk of body.stream as AsyncIterable<Buffer>) {
    hash.update(chunk);
    structure.update(chunk);
    bytes += chunk.length;
    await onProgress?.(bytes);
  }
  const found = hash.digest();
  if (sha256 && !found.equals(sha256)) throw digestMismatch(found);
  refuseDamaged(structure.end());
  return found;
}
