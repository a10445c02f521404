/** Films and sound that ffmpeg makes for tests, and the hostile ones that no encoder would write. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MediaFile } from '../../src/processing/media/input.ts';
import { fixture } from './corpus.ts';

const mediaTypes: Record<string, string> = {
  mp4: 'video/mp4',
  mov: 'video/quicktime',
  webm: 'video/webm',
  mp3: 'audio/mpeg',
  wav: 'audio/wav',
  aiff: 'audio/aiff',
  aifc: 'audio/aiff',
  flac: 'audio/flac',
  ogg: 'audio/ogg',
  opus: 'audio/ogg',
  m4a: 'audio/mp4',
  weba: 'audio/webm',
};

export function mediaTypeOf(name: string): string {
  return mediaTypes[name.split('.').at(-1) ?? ''] ?? '';
}

/** A directory of media files, removed by `close`. */
export class MediaFolder {
  readonly path = mkdtempSync(join(tmpdir(), 'stowage-media-'));

  /** @param options of ffmpeg, without the name of what it writes */
  make(name: string, ...options: string[]): MediaFile {
    execFileSync('ffmpeg', ['-nostdin', '-v', 'error', '-y', ...options, join(this.path, name)]);
    return this.file(name);
  }

  write(name: string, bytes: Buffer | string): MediaFile {
    writeFileSync(join(this.path, name), bytes);
    return this.file(name);
  }

  fixture(name: string): MediaFile {
    return this.write(name, fixture(name));
  }

  file(name: string): MediaFile {
    const path = join(this.path, name);
    return { path, mediaType: mediaTypeOf(name), size: statSync(path).size };
  }

  read(name: string): Buffer {
    return readFileSync(join(this.path, name));
  }

  close(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Options of an input of ffmpeg. */
export const lavfi = (graph: string) => ['-f', 'lavfi', '-i', graph];
export const H264 = ['-c:v', 'libx264', '-preset', 'ultrafast', '-pix_fmt', 'yuv420p'];

const box = (type: string, content: Buffer, size = 8 + content.length) => {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(size);
  head.write(type, 4, 'latin1');
  return Buffer.concat([head, content]);
};

/** A copy with 32 bits changed, so many bytes behind the first of this text. */
function patched(bytes: Buffer, text: string, offset: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt32BE(value, copy.indexOf(text, 0, 'latin1') + offset);
  return copy;
}

/** Pages of an Ogg (RFC 3533). */
function pagesOf(ogg: Buffer): Buffer[] {
  const pages: Buffer[] = [];
  for (let at = 0; at < ogg.length; ) {
    const segments = ogg[at + 26] ?? 0;
    const end = at + 27 + segments + ogg.subarray(at + 27, at + 27 + segments).reduce((sum, size) => sum + size, 0);
    pages.push(Buffer.from(ogg.subarray(at, end)));
    at = end;
  }
  return pages;
}

/** RFC 3533, section 6: polynomial 0x04c11db7, over the page with zeros for the sum. */
function withSum(page: Buffer): Buffer {
  page.writeUInt32LE(0, 22);
  let sum = 0;
  for (const byte of page) {
    sum ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) sum = sum & 0x80000000 ? (sum << 1) ^ 0x04c11db7 : sum << 1;
  }
  page.writeUInt32LE(sum >>> 0, 22);
  return page;
}

/** An Ogg whose pages go on and on, each claiming that an hour has passed, and none that it is the last. */
function neverEnding(repetitions: number): Buffer {
  const [head = Buffer.alloc(0), ...rest] = pagesOf(fixture('vorbis.ogg'));
  const [comments = Buffer.alloc(0), ...audio] = rest;
  const parts = [head, comments];
  let [number, granule] = [2, 0n];
  for (let round = 0; round < repetitions; round++)
    for (const page of audio) {
      const copy = Buffer.from(page);
      granule += 44_100n * 3600n;
      copy[5] = 0;
      copy.writeBigInt64LE(granule, 6);
      copy.writeUInt32LE(number++, 18);
      parts.push(withSum(copy));
    }
  return Buffer.concat(parts);
}

function lyingGranule(): Buffer {
  const pages = pagesOf(fixture('vorbis.ogg'));
  const last = pages.at(-1);
  last?.writeBigInt64LE(2n ** 62n, 6);
  return Buffer.concat(last ? [...pages.slice(0, -1), withSum(last)] : pages);
}

/** By name; what they are named is what they are said to be. */
export function hostileMedia(): Map<string, Buffer> {
  const film = fixture('moov-last.mp4');
  const start = box('ftyp', Buffer.from('isom\0\0\u0002\0isomiso2avc1mp41', 'latin1'));
  const huge = Buffer.concat([box('moov', Buffer.alloc(0), 1), Buffer.from('0000000100000000', 'hex')]);
  return new Map<string, Buffer>([
    ['atom-of-4-gib.mp4', Buffer.concat([start, box('moov', Buffer.alloc(100), 0xffffffff)])],
    ['atom-of-64-bits.mp4', Buffer.concat([start, huge, Buffer.alloc(100)])],
    ['samples-without-number.mp4', patched(film, 'stsz', 12, 0xffffffff)],
    ['descriptions-without-number.mp4', patched(film, 'stsd', 8, 0xffffffff)],
    ['endless-duration.mp4', patched(film, 'mvhd', 20, 0xffffffff)],
    ['granule.ogg', lyingGranule()],
    ['never-ending.ogg', neverEnding(300)],
    ['chained.ogg', Buffer.concat(Array<Buffer>(300).fill(fixture('vorbis.ogg')))],
    ...['empty.mp4', 'empty.webm', 'empty.mp3', 'empty.ogg'].map((name): [string, Buffer] => [name, Buffer.alloc(0)]),
    ...['moov-last.mp4', 'moov-first.mp4', 'clip.webm', 'sound.mp3', 'vorbis.ogg', 'sound.flac', 'sound.m4a'].map(
      (name): [string, Buffer] => [`cut-${name}`, fixture(name).subarray(0, fixture(name).length / 2)],
    ),
    ['text.mp4', Buffer.from('This is no film.\n'.repeat(100))],
    ['sound-in-disguise.mp4', fixture('sound.mp3')],
    ['film-in-disguise.mp3', film],
  ]);
}

/** Playlists: what reads them would fetch from `address`, or open a file of the machine. */
export function playlists(address: string): Map<string, string> {
  const secret = '/etc/hostname';
  return new Map([
    ['hls.mp4', `#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n${address}/a.ts\n#EXT-X-ENDLIST\n`],
    ['hls-of-files.mp4', `#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://${secret}\n#EXT-X-ENDLIST\n`],
    ['concat.mp4', `ffconcat version 1.0\nfile '${address}/a.mp4'\n`],
    ['concat.webm', `ffconcat version 1.0\nfile '${secret}'\n`],
    [
      'dash.mp4',
      `<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><BaseURL>${address}/</BaseURL></Period></MPD>`,
    ],
    ['session.mp3', `v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n`],
  ]);
}
