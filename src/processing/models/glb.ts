/**
 * The container of binary glTF (glTF 2.0 specification, section 4.4): a header, a chunk of JSON, a chunk of binary
 * data. The JSON is read at once; of the binary data only what is asked for, because a file may have hundreds of MiB of
 * it.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { type Gltf, parseGltf } from './gltf.ts';
import { damaged, tooLarge } from './refusal.ts';

const HEADER = 12;
const CHUNK_HEADER = 8;
const MAGIC = 0x46546c67;
const JSON_CHUNK = 0x4e4f534a;
const BIN_CHUNK = 0x004e4942;
/** Parsed, it takes about ten times as much memory. */
const MAX_JSON = 16 * 1024 * 1024;

export class Glb {
  readonly gltf: Gltf;
  /** Bytes of the binary chunk. */
  readonly binaryLength: number;
  readonly #file: FileHandle;
  readonly #binaryStart: number;

  constructor(file: FileHandle, gltf: Gltf, binary: { start: number; length: number }) {
    this.gltf = gltf;
    this.binaryLength = binary.length;
    this.#file = file;
    this.#binaryStart = binary.start;
  }

  /** Bytes of the binary chunk. @throws ModelRefused where they lie outside of it */
  read(from: number, length: number): Promise<Buffer> {
    if (from < 0 || length < 0 || from + length > this.binaryLength) throw damaged('a view lies outside of the data');
    return readAt(this.#file, this.#binaryStart + from, length);
  }
}

/** @throws ModelRefused */
export async function withGlb<Result>(path: string, use: (glb: Glb) => Promise<Result>): Promise<Result> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  if (size < HEADER + CHUNK_HEADER) throw damaged('the file is shorter than its header');
  const header = await readAt(file, 0, HEADER + CHUNK_HEADER);
  if (header.readUInt32LE(0) !== MAGIC || header.readUInt32LE(4) !== 2) throw damaged('this is no binary glTF 2');
  const end = header.readUInt32LE(8);
  const jsonLength = header.readUInt32LE(HEADER);
  const jsonEnd = HEADER + CHUNK_HEADER + jsonLength;
  if (header.readUInt32LE(HEADER + 4) !== JSON_CHUNK) throw damaged('the first chunk is not JSON');
  if (end > size || jsonEnd > end) throw damaged('the file is cut off');
  if (jsonLength > MAX_JSON) throw tooLarge(`the JSON has more than ${MAX_JSON} bytes`);
  const gltf = parseGltf(await readAt(file, HEADER + CHUNK_HEADER, jsonLength));
  return await use(new Glb(file, gltf, await binaryChunk(file, jsonEnd, end)));
}

/** There may be none. */
async function binaryChunk(file: FileHandle, at: number, end: number): Promise<{ start: number; length: number }> {
  if (at + CHUNK_HEADER > end) return { start: end, length: 0 };
  const header = await readAt(file, at, CHUNK_HEADER);
  if (header.readUInt32LE(4) !== BIN_CHUNK) return { start: end, length: 0 };
  const length = header.readUInt32LE(0);
  if (at + CHUNK_HEADER + length > end) throw damaged('the binary data are cut off');
  return { start: at + CHUNK_HEADER, length };
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  for (let filled = 0; filled < length; ) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, position + filled);
    if (bytesRead === 0) throw damaged('the file ended early');
    filled += bytesRead;
  }
  return buffer;
}
