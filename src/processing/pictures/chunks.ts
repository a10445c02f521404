/**
 * What sharp does not tell of a file: whether a WebP holds its pixels without loss, which must not be lost when it is encoded
 * again, and how many frames a PNG has. Both are lists of chunks, WebP by RFC 9649 section 2, PNG by its third edition, section 5.3.
 */
import { open } from 'node:fs/promises';
import type { PictureSource } from './tasks.ts';

type Read = (at: number, length: number) => Promise<Buffer>;

/** Profile and metadata come before the pixels; there are few of them. */
const MAX_CHUNKS = 64;
const RIFF_HEADER = 12;
/** Of the chunk of a frame, before the chunks that it holds. */
const FRAME_HEADER = 16;
const PNG_SIGNATURE = 8;

/** Of a moving one, the first frame decides. */
export function isLosslessWebp(source: PictureSource): Promise<boolean> {
  return reading(source, async (read) => {
    let at = RIFF_HEADER;
    for (let chunks = 0; chunks < MAX_CHUNKS; chunks++) {
      const header = await read(at, 8);
      if (header.length < 8) return false;
      const name = header.toString('latin1', 0, 4);
      if (name === 'VP8L' || name === 'VP8 ') return name === 'VP8L';
      const size = header.readUInt32LE(4);
      at += 8 + (name === 'ANMF' ? FRAME_HEADER : size + (size % 2));
    }
    return false;
  });
}

/** 1 of a PNG that does not move. */
export function framesOfPng(source: PictureSource): Promise<number> {
  return reading(source, async (read) => {
    let at = PNG_SIGNATURE;
    for (let chunks = 0; chunks < MAX_CHUNKS; chunks++) {
      const header = await read(at, 12);
      if (header.length < 12) return 1;
      const name = header.toString('latin1', 4, 8);
      if (name === 'IDAT') return 1;
      if (name === 'acTL') return Math.max(1, header.readUInt32BE(8));
      at += 12 + header.readUInt32BE(0);
    }
    return 1;
  });
}

async function reading<T>(source: PictureSource, look: (read: Read) => Promise<T>): Promise<T> {
  if (typeof source !== 'string') {
    const bytes = Buffer.from('pixels' in source ? [] : source);
    return look(async (at, length) => bytes.subarray(at, at + length));
  }
  await using file = await open(source);
  return await look(async (at, length) => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, at);
    return buffer.subarray(0, bytesRead);
  });
}
