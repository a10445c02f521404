/**
 * Text has no magic number: what the client says decides, and the bytes must be text. That is valid UTF-8 (RFC 3629)
 * without NUL, to the last byte. Each byte is seen once, in a few hundred bytes of memory.
 */
import { isUtf8 } from 'node:buffer';

/** A sequence of UTF-8 has at most four bytes. */
const MAX_SEQUENCE = 4;

/** Bytes at the end that may be the beginning of a sequence which the next chunk completes. */
function unfinished(bytes: Buffer): number {
  for (let back = 1; back < MAX_SEQUENCE && back <= bytes.length; back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    // A byte that continues a sequence: its first stands before it.
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

/** Whether the beginning of a file may be that of a text. */
export function beginsLikeText(head: Uint8Array): boolean {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  return !bytes.includes(0) && isUtf8(bytes.subarray(0, bytes.length - unfinished(bytes)));
}

/** Text of any kind; kinds with a grammar look at it in `scan` and `finish`. */
export class TextCheck {
  /** The cost is per byte. */
  readonly steps = 0;
  #fault: string | undefined;
  /** The beginning of a sequence at the end of the chunk before. */
  #pending: Buffer = Buffer.alloc(0);
  #isOver = false;

  fault(): string | undefined {
    return this.#fault;
  }

  update(chunk: Uint8Array): void {
    if (this.#fault !== undefined) return;
    const fresh = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const bytes = this.#pending.length > 0 ? Buffer.concat([this.#pending, fresh]) : fresh;
    const whole = bytes.subarray(0, bytes.length - unfinished(bytes));
    this.#pending = Buffer.from(bytes.subarray(whole.length));
    if (!isUtf8(whole)) this.#fault = 'The file is not text in UTF-8. Save it in that encoding.';
    else if (whole.includes(0)) this.#fault = 'The file holds a NUL byte, so it is no text.';
    else this.#fault = this.scan(whole);
  }

  end(): string | undefined {
    if (!this.#isOver && this.#fault === undefined)
      this.#fault = this.#pending.length > 0 ? 'The text ends in the middle of a character. It is cut.' : this.finish();
    this.#isOver = true;
    return this.#fault;
  }

  /** Text in whole characters. @returns what is wrong */
  protected scan(_text: Buffer): string | undefined {
    return undefined;
  }

  /** The text is at its end. @returns what is wrong */
  protected finish(): string | undefined {
    return undefined;
  }
}

/** Bytes of U+FEFF, which some programs write before a text. */
export const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf] as const;

/** Of XML and JSON: space, tab, line feed, carriage return. */
export function isWhiteSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
