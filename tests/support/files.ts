/** Small sound files made in code, and large ones that cost no disk. */
import { crc32 } from 'node:zlib';

function pngChunk(type: string, data: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

/**
 * A sound PNG of exactly `size` bytes (at least 130) that holds nothing but its picture: it is filled up by empty blocks of
 * compressed data (RFC 1951, 3.2.4). Its pixels follow from `seed`, so that two seeds give two digests.
 */
export function png(size = 200, seed = 0): Buffer<ArrayBuffer> {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(2, 0);
  header.writeUInt32BE(2, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const rows = Buffer.alloc(2 * (1 + 2 * 3));
  rows.writeUInt32BE(seed >>> 0, 1);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(adler32(rows));
  const pixels = Buffer.concat([Buffer.from([1, rows.length, 0, 0xff - rows.length, 0xff]), rows, sum]);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const [begin, end] = [pngChunk('IHDR', header), pngChunk('IEND', Buffer.alloc(0))];
  const missing = size - signature.length - begin.length - end.length - 12 - 2 - pixels.length;
  // An empty block has five bytes, a further chunk twelve.
  const chunks = [0, 1, 2, 3, 4].find((count) => missing >= 12 * count && (missing - 12 * count) % 5 === 0);
  if (chunks === undefined) throw new RangeError('a PNG of this size cannot be made');
  const empty = Buffer.alloc(missing - 12 * chunks, Buffer.from([0, 0, 0, 0xff, 0xff]));
  const data = Buffer.concat([Buffer.from([0x78, 0x01]), empty, pixels]);
  const more = Array.from({ length: chunks }, (_, index) => pngChunk('IDAT', data.subarray(index, index + 1)));
  return Buffer.from(Buffer.concat([signature, begin, ...more, pngChunk('IDAT', data.subarray(chunks)), end]));
}

/** RFC 1950, section 9. */
function adler32(bytes: Buffer): number {
  let [a, b] = [1, 0];
  for (const byte of bytes) {
    a = (a + byte) % 65_521;
    b = (b + a) % 65_521;
  }
  return b * 65_536 + a;
}

/** The smallest PDF that is one. */
export function pdf(): Buffer<ArrayBuffer> {
  const objects = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    '<< /Type /Pages /Kids [3 0 R] /Count 1 >>',
    '<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>',
  ];
  let text = '%PDF-1.4\n';
  const offsets = objects.map((object, index) => {
    const offset = text.length;
    text += `${index + 1} 0 obj\n${object}\nendobj\n`;
    return offset;
  });
  const table = text.length;
  text += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${offsets.map((offset) => `${String(offset).padStart(10, '0')} 00000 n \n`).join('')}`;
  text += `trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${table}\n%%EOF\n`;
  return Buffer.from(text);
}

/** A GLB of exactly `size` bytes (a multiple of 4, at least 100): a JSON chunk and a binary chunk. The limit is 500 MiB. */
export function glbHead(size: number): Buffer<ArrayBuffer> {
  const json = Buffer.from('{"asset":{"version":"2.0"},"buffers":[{"byteLength":4}]}'.padEnd(60, ' '));
  const head = Buffer.alloc(12 + 8 + json.length + 8);
  head.write('glTF', 0, 'latin1');
  head.writeUInt32LE(2, 4);
  head.writeUInt32LE(size, 8);
  head.writeUInt32LE(json.length, 12);
  head.write('JSON', 16, 'latin1');
  json.copy(head, 20);
  head.writeUInt32LE(size - head.length, 20 + json.length);
  head.write('BIN\0', 24 + json.length, 'latin1');
  return head;
}

/** The chunks of a sound GLB of `size` bytes; the filling follows from `seed`. */
export function* glbChunks(size: number, seed = 1, chunk = 256 * 1024): Generator<Buffer<ArrayBuffer>> {
  const head = glbHead(size);
  yield head;
  const filling = Buffer.alloc(chunk, seed);
  for (let left = size - head.length; left > 0; left -= chunk) yield left < chunk ? filling.subarray(0, left) : filling;
}

export function glb(size: number, seed = 1): Buffer<ArrayBuffer> {
  return Buffer.concat([...glbChunks(size, seed)]);
}
