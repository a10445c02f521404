/**
 * Checkers are written as if they read a file from start to end: generators that ask for bytes, or to pass over some,
 * or to find a pattern. The walker feeds them from chunks of any size. Passing over costs nothing per byte.
 */

/** What a checker asks for. */
export type Request =
  /** Exactly so many bytes; the file must not end before. */
  | { kind: 'take'; count: number }
  /** Up to so many bytes: fewer at the end of the file. */
  | { kind: 'takeUpTo'; count: number }
  /** Pass over so many bytes; the file must not end before. */
  | { kind: 'skip'; count: number }
  /** Pass over everything up to and including the pattern; the answer is empty when it does not come. */
  | { kind: 'find'; pattern: Buffer }
  /** Pass over everything; the answer is the last so many bytes. */
  | { kind: 'rest'; tail: number };

/** A checker ends (the rest of the file does not matter), or throws a `Fault`. */
export type Checker = Generator<Request, void, Buffer>;

/** What is wrong with a file, in a sentence for the client. */
export class Fault extends Error {
  override name = 'Fault';
}

export function* take(count: number): Generator<Request, Buffer, Buffer> {
  return yield { kind: 'take', count };
}
export function* takeUpTo(count: number): Generator<Request, Buffer, Buffer> {
  return yield { kind: 'takeUpTo', count };
}
export function* skip(count: number): Generator<Request, void, Buffer> {
  if (count > 0) yield { kind: 'skip', count };
}
export function* find(pattern: Buffer): Generator<Request, boolean, Buffer> {
  return (yield { kind: 'find', pattern }).length > 0;
}
export function* rest(tail = 0): Generator<Request, Buffer, Buffer> {
  return yield { kind: 'rest', tail };
}

const NOTHING = Buffer.alloc(0);

/** Told where the walker is, for checkers that compare sizes. */
export interface Position {
  /** Bytes before the next one. */
  offset: number;
}

export class Walker {
  readonly #checker: Checker;
  readonly position: Position;
  #request: Request | undefined;
  #fault: string | undefined;
  /** Bytes asked for that have come, or the last ones that matter. */
  #held: Buffer = NOTHING;
  #left = 0;

  /** @param make is given the position, which the walker keeps up to date */
  constructor(make: (position: Position) => Checker) {
    this.position = { offset: 0 };
    this.#checker = make(this.position);
    this.#advance(NOTHING);
  }

  /** What is wrong, as soon as it is known. */
  fault(): string | undefined {
    return this.#fault;
  }

  update(chunk: Uint8Array): void {
    let bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    while (bytes.length > 0 && this.#request) bytes = this.#consume(this.#request, bytes);
    if (!this.#request) this.position.offset += bytes.length;
  }

  /** The file ends here. @returns what is wrong with it */
  end(): string | undefined {
    // Each answer may lead to the next request, which meets the end as well.
    while (this.#request && this.#fault === undefined) {
      const request = this.#request;
      if (request.kind === 'take' || request.kind === 'skip')
        this.#fault = 'The file ends in the middle of its structure. It is cut, or not what it seems.';
      else this.#advance(request.kind === 'find' ? NOTHING : Buffer.from(this.#held));
    }
    return this.#fault;
  }

  #consume(request: Request, bytes: Buffer): Buffer {
    switch (request.kind) {
      case 'take':
      case 'takeUpTo':
        return this.#hold(request.count, bytes);
      case 'skip': {
        const passed = Math.min(this.#left, bytes.length);
        this.#left -= passed;
        this.position.offset += passed;
        if (this.#left === 0) this.#advance(NOTHING);
        return bytes.subarray(passed);
      }
      case 'find':
        return this.#search(request.pattern, bytes);
      case 'rest':
        this.position.offset += bytes.length;
        this.#held = lastOf(this.#held, bytes, request.tail);
        return NOTHING;
    }
  }

  #hold(count: number, bytes: Buffer): Buffer {
    const taken = bytes.subarray(0, count - this.#held.length);
    this.position.offset += taken.length;
    this.#held = this.#held.length === 0 ? taken : Buffer.concat([this.#held, taken]);
    if (this.#held.length === count) this.#advance(this.#held);
    // The chunk belongs to somebody else once it was seen.
    else this.#held = Buffer.from(this.#held);
    return bytes.subarray(taken.length);
  }

  #search(pattern: Buffer, bytes: Buffer): Buffer {
    // The pattern may lie across the border of two chunks.
    const kept = this.#held.length;
    const border = kept > 0 ? Buffer.concat([this.#held, bytes.subarray(0, pattern.length - 1)]) : NOTHING;
    const across = border.indexOf(pattern);
    const inside = across === -1 ? bytes.indexOf(pattern) : -1;
    if (across !== -1 || inside !== -1) {
      const passed = pattern.length + (across === -1 ? inside : across - kept);
      this.position.offset += passed;
      this.#advance(pattern);
      return bytes.subarray(passed);
    }
    this.position.offset += bytes.length;
    this.#held = lastOf(this.#held, bytes, pattern.length - 1);
    return NOTHING;
  }

  #advance(answer: Buffer): void {
    this.#held = NOTHING;
    try {
      const { value, done } = this.#checker.next(answer);
      this.#request = done ? undefined : value;
      if (this.#request?.kind === 'skip') this.#left = this.#request.count;
      else if ((this.#request?.kind === 'take' || this.#request?.kind === 'takeUpTo') && this.#request.count === 0)
        this.#advance(NOTHING);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#request = undefined;
      this.#fault = error.message;
    }
  }
}

/** A copy of the last `count` bytes of both together. */
function lastOf(before: Buffer, after: Buffer, count: number): Buffer {
  if (count === 0) return NOTHING;
  if (after.length >= count) return Buffer.from(after.subarray(after.length - count));
  const together = Buffer.concat([before, after]);
  return together.subarray(Math.max(0, together.length - count));
}
