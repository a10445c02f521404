/** What can go wrong when a program reads bytes that nobody trusts. */

/**
 * - `timed-out`: it took longer, or more processor time, than it may.
 * - `out-of-memory`: it asked for more memory than it may have.
 * - `crashed`: it died, by its own fault or because somebody killed it.
 * - `refused`: it says that it cannot read the file.
 * - `output-too-large`: it wrote more than it may.
 * - `not-installed`: the program is not there.
 * - `aborted`: whoever asked for it no longer wants it.
 */
export type ToolFault =
  | 'timed-out'
  | 'out-of-memory'
  | 'crashed'
  | 'refused'
  | 'output-too-large'
  | 'not-installed'
  | 'aborted';

/** The tool failed on this file; nothing else is affected. The message is for the record: it names no path. */
export class ToolError extends Error {
  override name = 'ToolError';
  readonly fault: ToolFault;
  /** For the record: the fault, or a word that says more, such as `encrypted`. */
  readonly reason: string;

  constructor(fault: ToolFault, message: string, reason: string = fault) {
    super(message);
    this.fault = fault;
    this.reason = reason;
  }
}

/** Longest message that goes on the record. */
const MAX_MESSAGE = 200;

/** A line that a tool wrote, for the record: paths, control characters and whatever is beyond 200 characters are left out. */
export function forRecord(line: string): string {
  return line
    .replace(/(?:file:)?(?:\/[^\s:'"()/]+)+\/?/g, 'the file')
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, MAX_MESSAGE);
}

/** Whether what a program or a library complains of is a lack of memory. */
export const isOutOfMemory = (complaint: string): boolean =>
  /out of memory|bad_alloc|(?:cannot|failed to|unable to) allocate|allocation failed|memory allocation/i.test(
    complaint,
  );
