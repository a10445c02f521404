/**
 * Checkers are written as if they read a file from start to end: generators that ask for bytes, or to pass over some,
 * or to find a pattern. The walker feeds them from chunks of any size. Passing over costs nothing per byte, and a file
 * of nothing but tiny pieces is refused before it costs much.
 */

/** So many answers any file may cost, for what small files have of headers: a millisecond of CPU time. */
export const FREE_STEPS = 5000;
/**
 * An answer more for so many bytes, so that CPU time is bounded by the size: a step takes 0.1 to 0.3 µs. Files of real
 * programs stay far below; formats that are made of small pieces by nature have a bound of their own (structure.ts).
 */
export const BYTES_PER_STEP = 48;

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
  readonly #bytesPerStep: number;
  readonly position: Position;
  #request: Request | undefined;
  #fault: string | undefined;
  /** The chunk that is walked, and how far. It belongs to the caller, so nothing of it is kept. */
  #chunk: Buffer = NOTHING;
  #at = 0;
  /** Room for the bytes asked for, or the last ones that matter. */
  #held: Buffer = NOTHING;
  /** How much of the room is taken. */
  #filled = 0;
  /** Bytes still to pass over. */
  #left = 0;
  #steps = 0;

  /** @param make is given the position, which the walker keeps up to date */
  constructor(make: (position: Position) => Checker, bytesPerStep = BYTES_PER_STEP) {
    this.position = { offset: 0 };
    this.#bytesPerStep = bytesPerStep;
    this.#checker = make(this.position);
    this.#advance(NOTHING);
  }

  /** Answers that were given: what the file has cost. */
  get steps(): number {
    return this.#steps;
  }

  /** What is wrong, as soon as it is known. */
  fault(): string | undefined {
    return this.#fault;
  }

  update(chunk: Uint8Array): void {
    this.#chunk = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    this.#at = 0;
    while (this.#request && this.#at < this.#chunk.length) this.#consume(this.#request);
    if (!this.#request) this.#pass(this.#chunk.length - this.#at);
    this.#chunk = NOTHING;
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

  #consume(request: Request): void {
    switch (request.kind) {
      case 'take':
      case 'takeUpTo':
        this.#hold(request.count);
        break;
      case 'skip':
        this.#left -= this.#pass(this.#left);
        if (this.#left === 0) this.#advance(NOTHING);
        break;
      case 'skipBlocks':
        this.#hop();
        break;
      case 'find':
        this.#search(request.pattern);
        break;
      case 'rest':
        this.#held = lastOf(this.#held, this.#chunk.subarray(this.#at), request.tail);
        this.#pass(this.#chunk.length);
    }
  }

  /** Goes on by up to so many bytes of the chunk. @returns how many there were */
  #pass(count: number): number {
    const passed = Math.min(count, this.#chunk.length - this.#at);
    this.#at += passed;
    this.position.offset += passed;
    return passed;
  }

  #hold(count: number): void {
    // Copied, for the chunk belongs to somebody else once it was seen.
    if (this.#filled === 0) this.#held = Buffer.allocUnsafe(count);
    const [chunk, held, start, filled] = [this.#chunk, this.#held, this.#at, this.#filled];
    const taken = this.#pass(count - filled);
    if (taken > MAX_LOOP) chunk.copy(held, filled, start, start + taken);
    else for (let at = 0; at < taken; at += 1) held[filled + at] = chunk[start + at] ?? 0;
    this.#filled += taken;
    if (this.#filled === count) this.#advance(held);
  }

  #hop(): void {
    for (;;) {
      this.#left -= this.#pass(this.#left);
      if (this.#left > 0 || this.#at === this.#chunk.length) return;
      const length = this.#chunk[this.#at] ?? 0;
      this.#pass(1);
      this.#left = length;
      if (length > 0) continue;
      this.#advance(NOTHING);
      return;
    }
  }

  #search(pattern: Buffer): void {
    // The pattern may lie across the border of two chunks.
    const kept = this.#held.length;
    const next = this.#chunk.subarray(this.#at, this.#at + pattern.length - 1);
    const across = kept > 0 ? Buffer.concat([this.#held, next]).indexOf(pattern) : -1;
    const inside = across === -1 ? this.#chunk.indexOf(pattern, this.#at) : -1;
    if (across === -1 && inside === -1) {
      this.#held = lastOf(this.#held, this.#chunk.subarray(this.#at), pattern.length - 1);
      this.#pass(this.#chunk.length);
      return;
    }
    this.#pass(pattern.length + (across === -1 ? inside - this.#at : across - kept));
    this.#advance(pattern);
  }

  /** Gives the checker its answer, and takes the next request that needs bytes. */
  #advance(answer: Buffer): void {
    this.#steps += 1;
    if (this.#steps > FREE_STEPS + this.position.offset / this.#bytesPerStep) {
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
