/** SHA-256 (FIPS 180-4) over bytes of any size: SubtleCrypto takes no stream, and is missing on plain HTTP. */
import type { UploadSource } from './source.ts';

const BLOCK = 64;
/** Bytes. */
const PIECE = 1024 * 1024;

/** The first 32 bits of the fractional parts of the roots of the first primes, as the standard defines its constants. */
function rootsOfPrimes(count: number, root: (prime: number) => number): Int32Array {
  const values = new Int32Array(count);
  let found = 0;
  for (let candidate = 2; found < count; candidate++) {
    let isPrime = true;
    for (let divisor = 2; divisor * divisor <= candidate; divisor++) if (candidate % divisor === 0) isPrime = false;
    if (isPrime) values[found++] = Math.floor((root(candidate) % 1) * 2 ** 32);
  }
  return values;
}

const CONSTANTS = rootsOfPrimes(64, Math.cbrt);
const INITIAL = rootsOfPrimes(8, Math.sqrt);

/** @returns hexadecimal. @throws the reason of the signal */
export async function sha256(source: UploadSource, signal: AbortSignal): Promise<string> {
  const state = INITIAL.slice();
  const schedule = new Int32Array(64);
  const whole = source.size - (source.size % BLOCK);
  for (let begin = 0; begin < whole; begin += PIECE) {
    signal.throwIfAborted();
    const piece = await bytesOf(source, begin, Math.min(begin + PIECE, whole));
    compress(state, schedule, new DataView(piece));
  }
  compress(state, schedule, padded(new Uint8Array(await bytesOf(source, whole, source.size)), source.size));
  return Array.from(state, (word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
}

async function bytesOf(source: UploadSource, from: number, to: number): Promise<ArrayBuffer> {
  return (await source.read(from, to)).arrayBuffer();
}

/** The last bytes, a one bit, zeros, and the length in bits. */
function padded(rest: Uint8Array, size: number): DataView {
  const view = new DataView(new ArrayBuffer(rest.length + 9 <= BLOCK ? BLOCK : 2 * BLOCK));
  new Uint8Array(view.buffer).set(rest);
  view.setUint8(rest.length, 0x80);
  view.setBigUint64(view.byteLength - 8, BigInt(size) * 8n);
  return view;
}

function compress(state: Int32Array, schedule: Int32Array, view: DataView): void {
  for (let offset = 0; offset < view.byteLength; offset += BLOCK) {
    for (let index = 0; index < 16; index++) schedule[index] = view.getInt32(offset + 4 * index);
    expand(schedule);
    mix(state, schedule);
  }
}

/** Every index below is within its array; `at` says so to the compiler. */
const at = (words: Int32Array, index: number) => words[index] as number;
const rotate = (word: number, by: number) => (word >>> by) | (word << (32 - by));

function expand(schedule: Int32Array): void {
  for (let index = 16; index < 64; index++) {
    const early = at(schedule, index - 15);
    const late = at(schedule, index - 2);
    const first = rotate(early, 7) ^ rotate(early, 18) ^ (early >>> 3);
    const second = rotate(late, 17) ^ rotate(late, 19) ^ (late >>> 10);
    schedule[index] = (at(schedule, index - 16) + first + at(schedule, index - 7) + second) | 0;
  }
}

function mix(state: Int32Array, schedule: Int32Array): void {
  let [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = state;
  for (let index = 0; index < 64; index++) {
    const sumOfE = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const choice = (e & f) ^ (~e & g);
    const first = (h + sumOfE + choice + at(CONSTANTS, index) + at(schedule, index)) | 0;
    const sumOfA = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    h = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + sumOfA + majority) | 0;
  }
  const words = [a, b, c, d, e, f, g, h];
  for (let index = 0; index < 8; index++) state[index] = at(state, index) + (words[index] ?? 0);
}
