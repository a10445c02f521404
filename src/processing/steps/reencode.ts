/**
 * Encodes a picture again, as its policy asks: turned upright, within the bounds, without metadata. What comes of it takes the
 * place of what was sent where that is larger than its bounds, or where it makes the file a tenth smaller at least: a photo
 * that is well compressed would only lose. A picture that cannot be encoded again stays as it is, and the record says why.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { Step } from '../step.ts';

/** Of the size that was, at most. */
const WORTH_IT = 0.9;

export const reencodeStep: Step = {
  name: 'reencode',
  replaces: true,
  run: async ({ asset, policy, tools: { pictures }, context: { signal }, workingCopy }) => {
    const reencoding = policy?.reencode;
    if (!reencoding) return { kind: 'skipped', reason: 'not-wanted' };
    const file = await workingCopy();
    const options = { signal, callerId: asset.ownerId };
    const { width, height } = await pictures.facts(file.path, options);
    const { maxWidth = width, maxHeight = height } = reencoding;
    const made = await pictures.reencode(file.path, reencoding, file.directory, options);
    const isTooLarge = width > maxWidth || height > maxHeight;
    if (!isTooLarge && made.size > asset.size * WORTH_IT) return { kind: 'skipped', reason: 'no-gain' };
    const { path, size, mediaType } = made;
    const sent = asset.sha256 ?? (await digestOf(file.path, signal));
    const original = asset.original ?? { size: asset.size, sha256: sent.toString('hex') };
    return { kind: 'replaced', by: { path, size, mediaType, sha256: await digestOf(path, signal), original } };
  },
};

async function digestOf(path: string, signal: AbortSignal): Promise<Buffer> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash, { signal });
  return hash.digest();
}
