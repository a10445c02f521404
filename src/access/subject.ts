/** Bytes of a subject. */
export const MAX_SUBJECT = 255;

/** Whether this may be the name of somebody: printable text that headers, logs and the database can hold. */
export function isSubject(text: string): boolean {
  return (
    text.length > 0 &&
    Buffer.byteLength(text) <= MAX_SUBJECT &&
    text.isWellFormed() &&
    !/[\p{Cc}\u2028\u2029]/u.test(text)
  );
}
