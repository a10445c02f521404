import { setImmediate } from 'node:timers/promises';

/** Bytes that are looked at in one go. */
const SLICE = 256 * 1024;

/** Lets others have their turn in between: a tail has as many bytes as a part. */
export async function inSlices(bytes: Buffer, see: (slice: Buffer) => void): Promise<void> {
  for (let at = 0; at < bytes.length; at += SLICE) {
    if (at > 0) await setImmediate();
    see(bytes.subarray(at, at + SLICE));
  }
}
