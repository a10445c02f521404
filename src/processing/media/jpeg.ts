/** The size of a JPEG that ffmpeg has written, read back as untrusted. */

const START = 0xffd8;
const END = 0xffd9;
const START_OF_SCAN = 0xda;

/** @returns undefined when it is no whole baseline JPEG (ITU-T T.81, annex B) with a size */
export function jpegSize(bytes: Buffer): { width: number; height: number } | undefined {
  if (bytes.length < 20 || bytes.readUInt16BE(0) !== START || bytes.readUInt16BE(bytes.length - 2) !== END)
    return undefined;
  for (let at = 2; at + 10 < bytes.length; at += 2 + bytes.readUInt16BE(at + 2)) {
    const [mark, kind] = [bytes[at], bytes[at + 1]];
    if (mark !== 0xff || kind === START_OF_SCAN) return undefined;
    // SOF0: length, precision, height, width.
    if (kind === 0xc0) {
      const [height, width] = [bytes.readUInt16BE(at + 5), bytes.readUInt16BE(at + 7)];
      return width > 0 && height > 0 ? { width, height } : undefined;
    }
  }
  return undefined;
}
