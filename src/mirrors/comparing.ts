/** What a mirror has against what the table of copies says, both ways. */
import type { Core } from '../core.ts';
import { inParallel } from '../storage/in-parallel.ts';
import { keyIn, type Mirror } from '../storage/mirror.ts';
import { assetIdOf } from '../storage/object-key.ts';
import { verificationOf } from './copiers.ts';
import { type Amount, Filling, type StoredCopy } from './filling.ts';
import { CopiesRepository } from './repository.ts';
import { verifyCopy } from './verification.ts';

const AT_ONCE = 8;

export interface CompareRequest {
  /** Reads all copies, and compares their digests; else their sizes are compared. */
  readsBytes: boolean;
  /** What is missing is copied again, what nobody knows is removed, and what lacks a copy is enqueued. */
  mends: boolean;
  onFinding: (finding: { kind: 'missing' | 'damaged' | 'orphan'; key: string; assetId?: string }) => void;
}

export interface Compared {
  /** Copies that must be there. */
  copies: number;
  missing: number;
  damaged: number;
  /** Copies that could not be judged. */
  unknown: number;
  /** Objects in the mirror that belong to nothing. */
  orphans: number;
  /** Objects that have no copy, and for which none is on its way. */
  lacking: Amount;
}

export async function compareMirror(core: Core, mirror: Mirror, request: CompareRequest): Promise<Compared> {
  const filling = new Filling(core.background);
  const found: Compared = {
    copies: 0,
    missing: 0,
    damaged: 0,
    unknown: 0,
    orphans: 0,
    lacking: { objects: 0, bytes: 0 },
  };
  for await (const page of filling.stored(mirror.name)) {
    found.copies += page.length;
    await inParallel(page, AT_ONCE, (copy) => look(core, mirror, copy, request, found));
  }
  await findOrphans(core, mirror, request, found);
  found.lacking = await (request.mends ? filling.fillUp(mirror.name) : filling.lacking(mirror.name));
  return found;
}

async function look(
  core: Core,
  mirror: Mirror,
  copy: StoredCopy,
  { readsBytes, mends, onFinding }: CompareRequest,
  found: Compared,
): Promise<void> {
  const { objectKey, assetId, size, sha256 } = copy;
  const key = keyIn(mirror, objectKey);
  const copies = new CopiesRepository(core.background, core.outbox);
  const head = await mirror.store.head(key, {});
  if (head?.size !== size) {
    found.missing += 1;
    onFinding({ kind: 'missing', key, assetId });
    if (mends) await copies.endVerification(mirror.name, objectKey, { reason: 'copy-missing' });
    return;
  }
  if (!readsBytes) return;
  const work = { objectKey, assetId, size, sha256: sha256 ?? undefined, attempts: 1, behindSince: copy.at };
  // What is damaged is made again in any case: it is no copy.
  const outcome = await verifyCopy(verificationOf(core, mirror), work, new AbortController().signal);
  if (outcome === 'damaged') found.damaged += 1;
  if (outcome === 'unknown' || outcome === 'skipped') found.unknown += 1;
  if (outcome === 'damaged') onFinding({ kind: 'damaged', key, assetId });
}

async function findOrphans(core: Core, mirror: Mirror, request: CompareRequest, found: Compared): Promise<void> {
  const { store, prefix, name } = mirror;
  const copies = new CopiesRepository(core.background, core.outbox);
  // What is younger may be on its way.
  const cutoff = Date.now() - core.config.RECONCILE_GRACE;
  for await (const page of store.list(`${prefix}${core.config.S3_KEY_PREFIX}`, {})) {
    const ours = page.filter(
      ({ key, lastModified }) =>
        lastModified.getTime() < cutoff && assetIdOf(core.config.S3_KEY_PREFIX, key.slice(prefix.length)) !== undefined,
    );
    const unknown = await copies.unknown(
      name,
      ours.map(({ key }) => key.slice(prefix.length)),
    );
    found.orphans += unknown.length;
    for (const objectKey of unknown) request.onFinding({ kind: 'orphan', key: keyIn(mirror, objectKey) });
    if (request.mends && unknown.length > 0)
      await store.deleteAll(
        unknown.map((objectKey) => keyIn(mirror, objectKey)),
        {},
      );
  }
}
