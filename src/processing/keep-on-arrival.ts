/**
 * Stores derivatives of a file that is no asset yet, beside its object, which is whole. As always their rows come first
 * (`making`); the statement that makes the file an asset makes them `ready`. When the service dies in between, whoever
 * finishes the upload has them made again, and whoever ends it removes them by their rows.
 */
import { createHash } from 'node:crypto';
import type { Core } from '../core.ts';
import { type DerivativesRepository, type MadeObject, newClaims } from './derivatives.ts';
import type { FoundOnArrival } from './on-arrival.ts';

/** Milliseconds until an answer does not wait any longer for the store to take them; the job tries on. */
const STORE_WAIT = 2000;

/** A file whose object is whole, and which is no asset yet. */
export interface StoredArrival {
  id: string;
  objectKey: string;
  /** Of what is served. */
  cacheControl: string;
}

/** A derivative whose object is stored; its row is still `making`. */
export interface StoredDerivative extends MadeObject {
  id: string;
}

/** @returns undefined when they are left to the job */
export async function storeOnArrival(
  { store, derivatives, onError }: Pick<Core, 'store' | 'onError'> & { derivatives: DerivativesRepository },
  { id: assetId, objectKey: sourceKey, cacheControl }: StoredArrival,
  made: NonNullable<FoundOnArrival['made']>,
): Promise<StoredDerivative[] | undefined> {
  if (made.size === 0) return [];
  const claims = newClaims(sourceKey, made.keys());
  try {
    // The upload may have been ended by somebody else.
    if (!(await derivatives.claimArriving(assetId, sourceKey, claims))) return undefined;
    const signal = AbortSignal.timeout(STORE_WAIT);
    return await Promise.all(
      claims.map(async ({ id, name, objectKey }) => {
        const file = made.get(name);
        if (!file) throw new Error(`there is no ${name}`);
        const { content, mediaType, width, height } = file;
        const sha256 = createHash('sha256').update(content).digest();
        const attributes = { contentType: mediaType, contentDisposition: 'inline', cacheControl, metadata: {} };
        await store.put(objectKey, content, attributes, { sha256, signal });
        const picture = { ...(width !== undefined && { width }), ...(height !== undefined && { height }) };
        return { id, mediaType, size: content.length, sha256, ...picture };
      }),
    );
  } catch (error) {
    onError('the derivatives of an arriving file are left to their job', error);
    // Also where nobody knows whether the claim was made.
    await derivatives.discard(claims.map(({ id }) => id)).catch(() => {});
    return undefined;
  }
}
