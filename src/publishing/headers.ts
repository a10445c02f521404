/** Header fields of public bytes: what a browser may do with them, and how long they are kept. */
import { dispositionOf } from '../assets/serving.ts';

/**
 * Documents in which a script could stand. Under a host of their own they are shown, without any script; elsewhere they are
 * attachments, as everything is that is neither a picture, nor sound, nor a film. A browser shows them as pictures of a page
 * (`<img>`) in both cases, and runs nothing in them there.
 */
const shownUnderTheirHost: ReadonlySet<string> = new Set(['image/svg+xml', 'text/html', 'text/plain']);

/** What such a document may have: what stands in it, and no script, no form, no frame and no request. */
const DOCUMENT_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; media-src data:; form-action 'none'; frame-ancestors 'none'; sandbox";

/** How a file is shown: its disposition, and what its policy is where that is not the usual one. */
export function showing(
  mediaType: string,
  underItsHost: boolean,
): { disposition: 'inline' | 'attachment'; headers: Record<string, string> } {
  if (!underItsHost || !shownUnderTheirHost.has(mediaType))
    return { disposition: dispositionOf(mediaType), headers: {} };
  return { disposition: 'inline', headers: { 'content-security-policy': DOCUMENT_POLICY } };
}

/**
 * `must-revalidate`: what is told to be kept for an hour is not shown for longer when the service is away. Whoever spells an
 * address in a way of his own keeps the answer for himself.
 * @param maxAge milliseconds
 */
export function cacheControl(maxAge: number, isTheSpelling: boolean): string {
  return `${isTheSpelling ? 'public' : 'private'}, max-age=${Math.floor(maxAge / 1000)}, must-revalidate`;
}

/** By which caches are told to forget all that they have of an asset. */
export function cacheTag(assetId: string): string {
  return `asset-${assetId}`;
}
