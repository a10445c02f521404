/**
 * Content-Disposition, RFC 6266: `filename` in ASCII for old clients, `filename*` (RFC 8187) with the true name for all
 * others. The value is printable ASCII, so it is safe in a header field, in the metadata of an object, and in a URL.
 *
 * The package content-disposition encodes `filename*`. Its `create` is not used: it leaves `%41` and escaped quotes in the
 * fallback, which some browsers decode or cut (RFC 6266 appendix D), and throws for a lone surrogate.
 */
import { encodeExtended } from 'content-disposition';

/** @param fileName as checked by `checkFileName` */
export function contentDisposition(type: 'inline' | 'attachment', fileName: string): string {
  const name = fileName.toWellFormed();
  const fallback = name.replace(/[^\x20-\x7e]|["\\%]/gu, '_');
  return `${type}; filename="${fallback}"; filename*=${encodeExtended(name)}`;
}
