/**
 * Takes the metadata out of what was not stripped on its way: files of several parts, direct and resumable uploads. What is
 * left takes the place of what was sent; until then nothing of it is served.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Step } from '../step.ts';
import { metadataNotRemovable } from '../strip/problem.ts';
import { stripFile, Unstrippable } from '../strip/strip.ts';

export const stripStep: Step = {
  name: 'strip',
  replaces: true,
  run: async ({ asset, context: { signal }, workingCopy }) => {
    const file = await workingCopy();
    const sent = asset.sha256 ?? (await digestOf(file.path, signal));
    const path = join(file.directory, 'stripped');
    try {
      const { changed, size } = await stripFile(file.path, path, asset.mediaType);
      if (!changed) return { kind: 'done', sha256: sent };
      const original = { size: asset.size, sha256: sent.toString('hex') };
      return { kind: 'replaced', by: { path, size, sha256: await digestOf(path, signal), original } };
    } catch (error) {
      if (!(error instanceof Unstrippable)) throw error;
      return { kind: 'rejected', reason: metadataNotRemovable, removesBytes: true };
    }
  },
};

async function digestOf(path: string, signal: AbortSignal): Promise<Buffer> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash, { signal });
  return hash.digest();
}
