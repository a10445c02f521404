/** Sound: containers to their data, and streams as far as shows that they are streams. */
import { type Checker, Fault, type Position, type Request, rest, skip, take, takeUpTo } from './walk.ts';

/** Written by programs that cannot go back to fill in the size: most, and sox. */
const UNKNOWN_SIZES = [0, 0xffffffff, 0x7ffff000];

/** RIFF/WAVE: chunks in any order, of which `fmt ` and `data` must be there. */
export function* wav(position: Position): Checker {
  const riffSize = (yield* take(12)).readUInt32LE(4);
  let format = false;
  for (;;) {
    const head = yield* take(8);
    const [type, size] = [head.toString('latin1', 0, 4), head.readUInt32LE(4)];
    if (type === 'fmt ') {
      if (size < 16 || size > 4096) throw new Fault('The WAV has a format that cannot be read.');
      const described = yield* take(16);
      if (described.readUInt16LE(2) === 0 || described.readUInt32LE(4) === 0)
        throw new Fault('The WAV has no channels or no sample rate.');
      format = true;
      yield* skip(size - 16 + (size & 1));
    } else if (type === 'data') {
      if (!format) throw new Fault('The WAV has data before it says what they are.');
      if (size === 0 && riffSize !== 0) throw new Fault('The WAV has no sound.');
      if (UNKNOWN_SIZES.includes(size)) {
        if ((yield* takeUpTo(1)).length === 0) throw new Fault('The WAV has no sound.');
        yield* rest();
        return;
      }
      yield* skip(size);
      break;
    } else yield* skip(size + (size & 1));
  }
  if (!UNKNOWN_SIZES.includes(riffSize)) yield* skipTo(8 + riffSize, position);
}

/** To the end that the file claims. The last chunk's padding byte is often counted but not written. */
function* skipTo(end: number, position: Position): Generator<Request, void, Buffer> {
  if (end - position.offset > 1) yield* skip(end - position.offset);
}

/** AIFF and AIFC: chunks of a FORM, of which COMM and SSND must be there. */
export function* aiff(position: Position): Checker {
  const end = 8 + (yield* take(12)).readUInt32BE(4);
  let [described, sound] = [false, false];
  while (position.offset < end && !(described && sound)) {
    const head = yield* take(8);
    const [type, size] = [head.toString('latin1', 0, 4), head.readUInt32BE(4)];
    if (position.offset + size > end) throw new Fault('The AIFF has a chunk that runs past its end.');
    if (type === 'COMM') {
      if (size < 18) throw new Fault('The AIFF has a description that cannot be read.');
      if ((yield* take(18)).readUInt16BE(0) === 0) throw new Fault('The AIFF has no channels.');
      described = true;
      yield* skip(size - 18 + (size & 1));
    } else if (type === 'SSND') {
      if (size <= 8) throw new Fault('The AIFF has no sound.');
      sound = true;
      yield* skip(size);
      if (position.offset < end) yield* takeUpTo(size & 1);
    } else yield* skip(size + (size & 1));
  }
  if (!described || !sound) throw new Fault('The AIFF has no description or no sound.');
  yield* skipTo(end, position);
}

/** FLAC, RFC 9639: metadata blocks, then frames, which have at least the size that the stream information tells. */
export function* flac(): Checker {
  let marker = yield* take(4);
  while (marker.toString('latin1', 0, 3) === 'ID3') {
    yield* restOfTag(marker);
    marker = yield* take(4);
  }
  if (marker.toString('latin1') !== 'fLaC') throw new Fault('The FLAC has no stream where it should begin.');
  let least = 0;
  for (let first = true, last = false; !last; first = false) {
    const head = yield* take(4);
    const [type, length] = [(head[0] ?? 0) & 0x7f, head.readUIntBE(1, 3)];
    last = ((head[0] ?? 0) & 0x80) !== 0;
    if (first && (type !== 0 || length !== 34)) throw new Fault('The FLAC does not begin with its stream information.');
    if (first) least = leastSound(yield* take(length));
    else yield* skip(length);
  }
  const sync = yield* take(2);
  if (sync[0] !== 0xff || ((sync[1] ?? 0) & 0xfc) !== 0xf8) throw new Fault('The FLAC has no sound.');
  yield* skip(least - sync.length);
}

/** Bytes of all frames but the last, if each is the smallest; section 8.2. Nothing is told when a value is unknown. */
function leastSound(information: Buffer): number {
  const [block, frame] = [information.readUInt16BE(2), information.readUIntBE(4, 3)];
  const samples = ((information[13] ?? 0) & 0x0f) * 2 ** 32 + information.readUInt32BE(14);
  if (block < 16) throw new Fault('The FLAC has blocks of a size that does not exist.');
  return Math.max(0, Math.ceil(samples / block) - 1) * frame;
}

/** Ogg, RFC 3533: whole pages to the end; the first page of each stream names its codec. */
export function* ogg(): Checker {
  let pages = 0;
  for (;;) {
    const head = yield* takeUpTo(27);
    if (head.length === 0) break;
    if (head.length < 27 || head.toString('latin1', 0, 4) !== 'OggS' || head[4] !== 0)
      throw new Fault('The Ogg has something that is no page. It is cut or damaged.');
    const lacing = yield* take(head[26] ?? 0);
    let size = 0;
    for (const value of lacing) size += value;
    const isFirst = ((head[5] ?? 0) & 2) !== 0;
    if (isFirst) {
      const start = yield* take(Math.min(8, size));
      const codec = start.toString('latin1');
      if (!/^(OpusHead|\x01vorbis|\x7fFLAC|Speex {3}|fishead|CELT)/.test(codec))
        throw new Fault('The Ogg holds a stream that is no sound.');
      yield* skip(size - start.length);
    } else yield* skip(size);
    pages += 1;
  }
  if (pages < 2) throw new Fault('The Ogg has no sound.');
}

/** How far to look for the first frame, and how much to read there. */
const FRAME_SEARCH = 64 * 1024;
/** Bytes per frame, at most: 320 kbit/s at 32 kHz, or 448 kbit/s in layer I and II. */
const MAX_FRAME = 2881;
/** Padding and garbage between tag and sound that real encoders write. */
const FRAME_WITHIN = FRAME_SEARCH - 3 * MAX_FRAME;

/** Places that may begin a frame and are looked at; random bytes have 32. */
const MAX_CANDIDATES = 500;

/** MPEG audio: after any ID3v2 tags, two frames in a row that agree with each other. */
export function* mpegAudio(): Checker {
  let marker = yield* take(4);
  let tagged = false;
  while (marker.toString('latin1', 0, 3) === 'ID3') {
    tagged = true;
    yield* restOfTag(marker);
    marker = yield* take(4);
  }
  const bytes = Buffer.concat([marker, yield* takeUpTo(FRAME_SEARCH - 4)]);
  const within = tagged ? Math.min(FRAME_WITHIN, bytes.length) : Math.min(4096, bytes.length);
  let candidates = 0;
  for (let at = bytes.indexOf(0xff); at !== -1 && at < within; at = bytes.indexOf(0xff, at + 1)) {
    if (((bytes[at + 1] ?? 0) & 0xe0) !== 0xe0 || ++candidates > MAX_CANDIDATES) continue;
    const first = frameAt(bytes, at);
    if (!first) continue;
    const second = frameAt(bytes, at + first.length);
    if (second?.kind === first.kind && at + first.length + second.length <= bytes.length) return;
  }
  throw new Fault('The file has no two MPEG audio frames in a row, so it is no sound.');
}

const kilobits: Record<string, number[]> = {
  // By version and layer, ISO 11172-3 and 13818-3 table of bit rates.
  '1-1': [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
  '1-2': [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
  '1-3': [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
  '2-1': [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
  '2-2': [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
};

/** Length in bytes of the frame that begins here, and what must be the same in the next. */
function frameAt(bytes: Buffer, at: number): { length: number; kind: number } | undefined {
  if (at + 4 > bytes.length) return undefined;
  const header = bytes.readUInt32BE(at);
  if (header >>> 21 !== 0x7ff) return undefined;
  const version = { 3: 1, 2: 2, 0: 2.5 }[(header >>> 19) & 3];
  const layer = { 3: 1, 2: 2, 1: 3 }[(header >>> 17) & 3];
  const rate = [44_100, 48_000, 32_000][(header >>> 10) & 3];
  if (version === undefined || layer === undefined || rate === undefined) return undefined;
  const table = kilobits[version === 1 ? `1-${layer}` : layer === 1 ? '2-1' : '2-2'];
  const bits = table?.[((header >>> 12) & 15) - 1];
  if (bits === undefined) return undefined;
  const samplesPerSecond = rate / (version === 1 ? 1 : version === 2 ? 2 : 4);
  const pad = (header >>> 9) & 1;
  const samples = layer === 1 ? 384 : layer === 3 && version !== 1 ? 576 : 1152;
  const length =
    layer === 1
      ? (Math.floor((12_000 * bits) / samplesPerSecond) + pad) * 4
      : Math.floor(((samples / 8) * 1000 * bits) / samplesPerSecond) + pad;
  return { length, kind: header & 0xfffe0c00 };
}

/** ID3v2: a size of four bytes with seven bits each, and a footer if a flag says so. Four bytes were taken already. */
function* restOfTag(marker: Buffer): Generator<Request, void, Buffer> {
  const head = Buffer.concat([marker, yield* take(6)]);
  const size = [...head.subarray(6, 10)].reduce((sum, byte) => sum * 128 + (byte & 0x7f), 0);
  yield* skip(size + ((head[5] ?? 0) & 0x10 ? 10 : 0));
}
