/**
 * Finds out the checksums of files that came without one, as direct uploads do, when a link to an archive of them is made:
 * a browser waits for the header of a large file no longer than proxies let it, and here nobody waits.
 */
import type { JobReference } from '../database/outbox.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { Checksums } from './checksums.ts';
import { ObjectReader } from './object-reader.ts';
import type { ArchivesRepository } from './repository.ts';

export const findChecksumsJob: JobReference<{ ids: string[] }> = { name: 'find-checksums' };

/** Those that are not known yet; the others cost nothing. */
export async function findChecksums(
  { repository, store }: { repository: ArchivesRepository; store: ObjectStore },
  ids: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const files = await repository.find(ids);
  const keep = repository.keepChecksum.bind(repository);
  const checksums = new Checksums(files, new ObjectReader(store, signal), keep);
  for (const index of files.keys()) await checksums.of(index);
}
