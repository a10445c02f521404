/** Repr-Digest and Content-Digest, RFC 9530: a dictionary of byte sequences (RFC 8941) by algorithm. */

const SHA256_BYTES = 32;
const member = /^([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):$/;

/** @returns the SHA-256 when the field names one; undefined when the field is malformed */
export function parseDigest(value: string): { sha256?: Buffer } | undefined {
  let sha256: Buffer | undefined;
  for (const part of value.split(',')) {
    const match = member.exec(part.trim());
    if (!match) return undefined;
    if (match[1] !== 'sha-256') continue;
    sha256 = Buffer.from(match[2] ?? '', 'base64');
    if (sha256.length !== SHA256_BYTES) return undefined;
  }
  return sha256 ? { sha256 } : {};
}

export function formatDigest(sha256: Buffer): string {
  return `sha-256=:${sha256.toString('base64')}:`;
}
