/**
 * Content-Disposition, RFC 6266: `filename` in ASCII for old clients, `filename*` (RFC 8187) with the true name for all
 * others. The value is printable ASCII, so it is safe in a header field, in the metadata of an object, and in a URL.
 */

/** Everything of RFC 8187 `attr-char` that encodeURIComponent leaves alone but must be escaped. */
const notAttrChar = /['()*]/g;

/** @param fileName as checked by `checkFileName` */
export function contentDisposition(type: 'inline' | 'attachment', fileName: string): string {
  const name = fileName.toWellFormed();
  // A percent sign is replaced too: some browsers decode `%41` in the fallback.
  const fallback = name.replace(/[^\x20-\x7e]|["\\%]/gu, '_');
  const encoded = encodeURIComponent(name).replace(
    notAttrChar,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `${type}; filename="${fallback}"; filename*=UTF-8''${encoded}`;
}
