/**
 * Object keys: opaque, fresh for every upload, and readable enough for an operator to see whose bytes these are. Names of
 * files are never in them. Ids are escaped so that only A-Z, a-z, 0-9, `_`, `-` and `~` remain, which no S3 server, URL
 * or file system takes for something else.
 */
import { createHash } from 'node:crypto';

/** Below the 255 bytes of a file name on disk. */
const MAX_SEGMENT = 200;

export interface KeyParts {
  /** Empty, or ends with a slash. */
  prefix: string;
  projectId?: string;
  ownerId: string;
  assetId: string;
}

/** `{prefix}projects/{projectId}/assets/{id}/original`, or `{prefix}users/{ownerId}/assets/{id}/original` without a project. */
export function objectKey({ prefix, projectId, ownerId, assetId }: KeyParts): string {
  const scope = projectId === undefined ? `users/${escapeSegment(ownerId)}` : `projects/${escapeSegment(projectId)}`;
  return `${prefix}${scope}/assets/${assetId}/original`;
}

/** One byte of UTF-8 outside the safe ones becomes `~` and two hexadecimal digits. Very long ids become their SHA-256. */
export function escapeSegment(id: string): string {
  let escaped = '';
  for (const byte of Buffer.from(id)) {
    const char = String.fromCharCode(byte);
    escaped += /[A-Za-z0-9_-]/.test(char) ? char : `~${byte.toString(16).padStart(2, '0')}`;
  }
  return escaped.length <= MAX_SEGMENT ? escaped : `~~${createHash('sha256').update(id).digest('hex')}`;
}

/** The asset whose original or derivative has this key; undefined for keys that are not made like ours. */
export function assetIdOf(prefix: string, key: string): string | undefined {
  if (!key.startsWith(prefix)) return undefined;
  return /^(?:projects|users)\/[A-Za-z0-9_~-]+\/assets\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\/[^/]+$/.exec(
    key.slice(prefix.length),
  )?.[1];
}
