/**
 * Checkers are written as if they read a file from start to end: generators that ask for bytes, or to pass over some,
 * or to find a pattern. The walker feeds them from chunks of any size. Passing over costs nothing per byte, and a file
 * of nothing but tiny pieces is refused before it costs much.
 */

/** So many pieces any file may have; hours of sound in pages of one packet stay below. */
const FREE_STEPS = 1_000_000;
/** A piece more is believed for so many bytes. */
const BYTES_PER_STEP = 64;

/** What a checker asks for. */
export type Request =
  /** Exactly so many bytes; the file must not end before. */
  | { kind: 'take'; count: number }
  /** Up to so many bytes: fewer at the end of the file. */
  | { kind: 'takeUpTo'; count: number }
  /** Pass over so many bytes; the file must not end before. */
  | { kind: 'skip'; count: number }
  /** Pass over blocks, each led by its length in one byte, up to and including the empty one. */
  | { kind: 'skipBlocks' }
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
export function* skipBlocks(): Generator<Request, void, Buffer> {
  yield { kind: 'skipBlocks' };
}
export function* find(pattern: Buffer): Generator<Request, boolean, Buffer> {
  return (yield { kind: 'find', pattern }).length > 0;
}
export function* rest(tail = 0): Generator<Request, Buffer, Buffer> {
  return yield { kind: 'rest', tail };
}

/** Up to so many bytes a loop copies faster than a call. */
const MAX_LOOP = 64;
const NOTHING = Buffer.alloc(0);
const CUT = 'The file ends in the middle of its structure. It is cut, or not what it seems.';

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
  /** Room for the bytes asked for, or the last ones that matter. */
  #held: Buffer = NOTHING;
  /** How much of the room is taken. */
  #filled = 0;
  /** Bytes still to pass over. */
  #left = 0;
  #steps = 0;

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
    while (this.#request) {
      switch (this.#request.kind) {
        case 'take':
        case 'skip':
        case 'skipBlocks':
          this.#stop(CUT);
          break;
        case 'find':
          this.#advance(NOTHING);
          break;
        case 'takeUpTo':
          this.#advance(this.#held.subarray(0, this.#filled));
          break;
        case 'rest':
          this.#advance(this.#held);
      }
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
      case 'skipBlocks':
        return this.#hop(bytes);
      case 'find':
        return this.#search(request.pattern, bytes);
      case 'rest':
        this.position.offset += bytes.length;
        this.#held = lastOf(this.#held, bytes, request.tail);
        return NOTHING;
    }
  }

  #hold(count: number, bytes: Buffer): Buffer {
    // Copied, for the chunk belongs to somebody else once it was seen.
    if (this.#filled === 0) this.#held = Buffer.allocUnsafe(count);
    const taken = Math.min(count - this.#filled, bytes.length);
    if (taken > MAX_LOOP) bytes.copy(this.#held, this.#filled, 0, taken);
    else for (let at = 0; at < taken; at += 1) this.#held[this.#filled + at] = bytes[at] ?? 0;
    this.#filled += taken;
    this.position.offset += taken;
    if (this.#filled === count) this.#advance(this.#held);
    return bytes.subarray(taken);
  }

  #hop(bytes: Buffer): Buffer {
    let at = Math.min(this.#left, bytes.length);
    this.#left -= at;
    while (this.#left === 0 && at < bytes.length) {
      const length = bytes[at] ?? 0;
      const passed = Math.min(1 + length, bytes.length - at);
      at += passed;
      this.#left = 1 + length - passed;
      if (length > 0) continue;
      this.position.offset += at;
      this.#advance(NOTHING);
      return bytes.subarray(at);
    }
    this.position.offset += at;
    return NOTHING;
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

  /** Gives the checker its answer, and takes the next request that needs bytes. */
  #advance(answer: Buffer): void {
    this.#steps += 1;
    if (this.#steps > FREE_STEPS + this.position.offset / BYTES_PER_STEP) {
      this.#stop('The file is made of too many tiny pieces to be what it seems.');
      return;
    }
    this.#held = NOTHING;
    this.#filled = 0;
    this.#left = 0;
    try {
      let { value, done } = this.#checker.next(answer);
      while (!done && value && 'count' in value && value.count === 0) ({ value, done } = this.#checker.next(NOTHING));
      this.#request = done || !value ? undefined : value;
      if (this.#request?.kind === 'skip') this.#left = this.#request.count;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#stop(error.message);
    }
  }

  #stop(fault: string): void {
    this.#request = undefined;
    this.#fault = fault;
  }
}

/** A copy of the last `count` bytes of both together. */
function lastOf(before: Buffer, after: Buffer, count: number): Buffer {
  if (count === 0) return NOTHING;
  if (after.length >= count) return Buffer.from(after.subarray(after.length - count));
  const together = Buffer.concat([before, after]);
  return together.subarray(Math.max(0, together.length - count));
}
