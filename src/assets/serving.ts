/**
 * How bytes are served: through the service, or by a link to the disk store. For links to S3 the
 * media type and the disposition are set on the object and in the link.
 */

/** Shown in a browser, these run nothing: raster images, audio and video. */
export function isSafeInline(mediaType: string): boolean {
  return /^(image\/(jpeg|png|webp|gif|avif|heic|heif)|audio\/[a-z0-9.+-]+|video\/[a-z0-9.+-]+)$/.test(mediaType);
}

export function dispositionOf(mediaType: string): 'inline' | 'attachment' {
  return isSafeInline(mediaType) ? 'inline' : 'attachment';
}

/** Headers of every answer that carries an asset's bytes: nothing is guessed, nothing runs, nothing is framed. */
export const contentHeaders: Record<string, string> = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; sandbox",
  // Pages of other origins may show what they hold a link or a token for.
  'cross-origin-resource-policy': 'cross-origin',
};

/**
 * Cache-Control of an address that names an asset by its id: caches keep what it shows for as long as the policy says, but it
 * may be given other bytes, so it is not `immutable` (RFC 8246). Links and addresses of variants name the bytes.
 */
export function changing(cacheControl: string): string {
  const directives = cacheControl.split(',').map((each) => each.trim());
  return directives.filter((each) => each.toLowerCase() !== 'immutable').join(', ');
}
