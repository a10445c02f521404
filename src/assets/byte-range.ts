/**
 * Range requests, RFC 9110 section 14: one range of bytes. What is not that (several ranges, other units, malformed) is
 * ignored, as section 14.2 allows.
 *
 * The package range-parser 1.3.0 was tried and fails four of our tests: it answers a suffix longer than the representation
 * as unsatisfiable (section 14.1.2 says that all of it is meant), and so the end of an empty one; it answers `5-3` as
 * unsatisfiable, although section 14.1.1 makes it invalid; and it takes spaces inside a range.
 */

const oneRange = /^bytes=(\d*)-(\d*)$/i;

export type WantedRange =
  | { kind: 'whole' }
  | { kind: 'range'; first: number; last: number }
  | { kind: 'unsatisfiable' };

/**
 * @param header value of Range
 * @param size bytes of the representation
 * @returns positions of the first and last byte, both inclusive and within the size
 */
export function parseRange(header: string | undefined, size: number): WantedRange {
  const match = oneRange.exec(header ?? '');
  const [from, to] = [match?.[1] ?? '', match?.[2] ?? ''];
  if (from === '' && to === '') return { kind: 'whole' };
  if (from === '') {
    const suffix = Math.min(Number(to), size);
    if (Number(to) === 0) return { kind: 'unsatisfiable' };
    // The end of nothing is satisfiable (section 14.1.2), but no Content-Range can say so.
    return suffix === 0 ? { kind: 'whole' } : { kind: 'range', first: size - suffix, last: size - 1 };
  }
  const first = Number(from);
  const last = to === '' ? size - 1 : Math.min(Number(to), size - 1);
  if (to !== '' && Number(to) < first) return { kind: 'whole' };
  return first >= size ? { kind: 'unsatisfiable' } : { kind: 'range', first, last };
}
