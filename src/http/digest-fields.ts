/**
 * Repr-Digest and Content-Digest, RFC 9530: a dictionary (RFC 9651 section 3.2) of byte sequences by algorithm, for
 * example `sha-256=:base64:, sha-512=:base64:`. Only SHA-256 is looked at; the other algorithms must be well-formed.
 *
 * The package structured-headers 2.1.0 was tried and fails one of our tests: after a date it accepts nothing but the end of
 * the field, so that `a=:AA==:;x=@1, b=:AA==:` is malformed for it (RFC 9651 section 4.2.9 ends the date at the comma).
 */

const SHA256_BYTES = 32;

const key = '[a-z*][a-z0-9_.*-]*';
const bytes = ':[A-Za-z0-9+/]*={0,2}:';
const text = String.raw`"(?:[ !#-\[\]-~]|\\["\\])*"`;
/** Token, number, boolean or date: parameters mean nothing here, so they need not be told apart. */
const word = String.raw`[A-Za-z0-9*@?-][\w!#$%&'*+.^|~:/\x60-]*`;
const parameter = `; *${key}(?:=(?:${text}|${bytes}|${word}))?`;
const member = `(${key})=(${bytes})(?:${parameter})*`;
const dictionary = new RegExp(`^${member}(?:[ \\t]*,[ \\t]*${member})*$`);
const members = new RegExp(member, 'g');

/**
 * @param value of the field; several fields of that name joined by commas
 * @returns the SHA-256 when the field names one; undefined when the field is malformed, or no SHA-256 is that long
 */
export function parseDigest(value: string): { sha256?: Buffer } | undefined {
  const field = value.trim();
  if (field === '') return {};
  if (!dictionary.test(field)) return undefined;
  let sha256: Buffer | undefined;
  for (const [, algorithm, sequence = ''] of field.matchAll(members)) {
    if (algorithm !== 'sha-256') continue;
    // The last of several counts (RFC 9651 section 3.2).
    sha256 = decode(sequence.slice(1, -1));
    if (sha256?.length !== SHA256_BYTES) return undefined;
  }
  return sha256 ? { sha256 } : {};
}

/** The value of a Repr-Digest or Content-Digest field. */
export function formatDigest(sha256: Buffer): string {
  return `sha-256=:${sha256.toString('base64')}:`;
}

/** Padding may be missing (RFC 9651 section 4.2.7), but not be wrong. */
function decode(base64: string): Buffer | undefined {
  return base64.endsWith('=') && base64.length % 4 !== 0 ? undefined : Buffer.from(base64, 'base64');
}
