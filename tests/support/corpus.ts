/**
 * Files to validate: valid ones of every default policy with the oddities real programs write, and hostile ones. The small
 * real files lie in tests/fixtures; the rest is made from them in code.
 */
import { readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { classify } from '../../src/validation/media-types.ts';
import { structureCheck } from '../../src/validation/structure.ts';
import { glb, pdf, png } from './files.ts';

export interface ValidFile {
  title: string;
  fileName: string;
  declared?: string;
  bytes: Buffer<ArrayBuffer>;
  mediaType: string;
}

export interface HostileFile {
  title: string;
  fileName: string;
  declared?: string;
  bytes: Buffer<ArrayBuffer>;
  /** What refuses it: the first bytes, what the client says, or the rest. */
  refusedBy: 'undetected' | 'declared-mismatch' | 'extension-mismatch' | 'structure';
}

export function fixture(name: string): Buffer<ArrayBuffer> {
  return Buffer.from(readFileSync(new URL(`../fixtures/${name}`, import.meta.url)));
}

const join = (...parts: (Buffer | string)[]): Buffer<ArrayBuffer> =>
  Buffer.from(Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part))));
const uint32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const little = (value: number) => Buffer.from(uint32(value)).reverse();
const box = (type: string, content: Buffer) => join(uint32(8 + content.length), type, content);
const box64 = (type: string, content: Buffer) => join(uint32(1), type, uint32(0), uint32(16 + content.length), content);

/** ID3v2.3 with one private frame of this size. */
function id3(size: number): Buffer {
  const total = size + 10;
  const synchsafe = [21, 14, 7, 0].map((shift) => (total >>> shift) & 0x7f);
  return join(
    'ID3',
    Buffer.from([3, 0, 0, ...synchsafe]),
    'PRIV',
    uint32(size),
    Buffer.from([0, 0]),
    Buffer.alloc(size, 0x41),
  );
}

/** A JPEG with application segments of this many bytes before the picture. */
function padded(jpeg: Buffer, bytes: number): Buffer<ArrayBuffer> {
  const segments: Buffer[] = [];
  for (let left = bytes; left > 0; left -= 60_000)
    segments.push(Buffer.from([0xff, 0xe2, 0xea, 0x62]), Buffer.alloc(60_000, 0x20));
  return join(jpeg.subarray(0, 2), ...segments, jpeg.subarray(2));
}

function pngClaiming(width: number, height: number): Buffer<ArrayBuffer> {
  const bytes = png(200);
  bytes.writeUInt32BE(width, 16);
  bytes.writeUInt32BE(height, 20);
  bytes.writeUInt32BE(crc32(bytes.subarray(12, 29)), 29);
  return bytes;
}

/** The box of this type and what follows it, moved or changed in an MP4. */
function offsetOfBox(bytes: Buffer, type: string): number {
  return bytes.indexOf(type, 0, 'latin1') - 4;
}

/** A chunk of RIFF: type, little-endian size, content, padded to an even length. */
const riffChunk = (type: string, content: Buffer) =>
  join(type, little(content.length), content, Buffer.alloc(content.length & 1));
const riff = (type: string, ...chunks: Buffer[]) => {
  const content = join(type, ...chunks);
  return join('RIFF', little(content.length), content);
};
const uint24 = (value: number) => little(value).subarray(0, 3);

/** A still WebP as one frame of an animation, with what the headers claim of canvas and frame. */
function animated(
  image: Buffer,
  canvas: { width: number; height: number },
  frame: { width: number; height: number } = canvas,
): Buffer<ArrayBuffer> {
  const extended = join(Buffer.from([2, 0, 0, 0]), uint24(canvas.width - 1), uint24(canvas.height - 1));
  const place = join(Buffer.alloc(6), uint24(frame.width - 1), uint24(frame.height - 1), Buffer.alloc(4));
  return riff(
    'WEBP',
    riffChunk('VP8X', extended),
    riffChunk('ANIM', Buffer.alloc(6)),
    riffChunk('ANMF', join(place, image.subarray(12))),
  );
}

/** A WAV of 8000 samples a second with chunks before its data, of which the sizes may be lies. */
function wav(sizes: { riff?: number; data?: number }, ...before: Buffer[]): Buffer<ArrayBuffer> {
  const bytes = riff(
    'WAVE',
    ...before,
    riffChunk('fmt ', Buffer.from('01000100401f0000401f000001000800', 'hex')),
    riffChunk('data', Buffer.alloc(900, 0x80)),
  );
  if (sizes.riff !== undefined) bytes.writeUInt32LE(sizes.riff, 4);
  if (sizes.data !== undefined) bytes.writeUInt32LE(sizes.data, bytes.indexOf('data') + 4);
  return bytes;
}

/** A FLAC whose metadata have one block more, after the stream information. */
function flacWith(type: number, size: number): Buffer<ArrayBuffer> {
  const bytes = fixture('sound.flac');
  return join(
    bytes.subarray(0, 42),
    Buffer.from([type]),
    uint32(size).subarray(1),
    Buffer.alloc(size),
    bytes.subarray(42),
  );
}

/** A PDF whose first object tells its length, and which has two end marks. */
function linearized(): Buffer<ArrayBuffer> {
  const body = pdf().subarray(9);
  const start = (length: number) =>
    `%PDF-1.4\n9 0 obj\n<< /Linearized 1 /L ${String(length).padStart(5, '0')} >>\nendobj\nstartxref\n0\n%%EOF\n`;
  return join(start(start(0).length + body.length), body);
}

/** GLB with its chunks as given. */
function glbOf(...chunks: [type: string, content: Buffer][]): Buffer<ArrayBuffer> {
  const body = join(...chunks.map(([type, content]) => join(little(content.length), type, content)));
  return join('glTF', little(2), little(12 + body.length), body);
}

const OFFICE = 'application/vnd.openxmlformats-officedocument.';

/** A zip of stored entries. */
function zipOf(...files: [name: string, content: Buffer | string][]): Buffer<ArrayBuffer> {
  const [entries, directory]: Buffer[][] = [[], []];
  let offset = 0;
  for (const [name, given] of files) {
    const content = join(given);
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(10, 0);
    fields.writeUInt32LE(crc32(content), 10);
    fields.writeUInt32LE(content.length, 14);
    fields.writeUInt32LE(content.length, 18);
    fields.writeUInt16LE(name.length, 22);
    const entry = join('PK\x03\x04', fields, name, content);
    entries?.push(entry);
    directory?.push(join('PK\x01\x02', Buffer.from([10, 0]), fields, Buffer.alloc(10), little(offset), name));
    offset += entry.length;
  }
  const listed = join(...(directory ?? []));
  const count = Buffer.from([0, 0, 0, 0, files.length, 0, files.length, 0]);
  return join(...(entries ?? []), listed, 'PK\x05\x06', count, little(listed.length), little(offset), Buffer.alloc(2));
}

function presentation(): Buffer<ArrayBuffer> {
  return zipOf(
    ['mimetype', 'application/vnd.oasis.opendocument.presentation'],
    ['content.xml', '<a/>'],
    ['META-INF/manifest.xml', '<a/>'],
  );
}

const wordParts: [string, string][] = [
  ['[Content_Types].xml', '<Types/>'],
  ['_rels/.rels', '<Relationships/>'],
  ['word/document.xml', '<document/>'],
];

function heicOfBrand(brand: string): Buffer<ArrayBuffer> {
  const bytes = fixture('photo.heic');
  return join(bytes.subarray(0, 8), brand, bytes.subarray(12));
}

const wholeSvg = `\uFEFF<?xml version="1.0" encoding="UTF-8"?>
<!-- a comment - with dashes -->
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" 'http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd'>
<?xml-stylesheet href="a.css"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox='0 0 "9" 9' >
<style><![CDATA[ a > b ]] > { } <c> ]]></style><text x = "1"
 y="2">ü &lt; &#228; &#xE4; &amp; > \u{1F389}</text><é:é/><g><g ></g ></g></svg>
<!-- after -->
`;

const moovLast = fixture('moov-last.mp4');
const mdat = offsetOfBox(moovLast, 'mdat');
const moov = offsetOfBox(moovLast, 'moov');
const mdatContent = moovLast.subarray(mdat + 8, mdat + moovLast.readUInt32BE(mdat));

export const validFiles: ValidFile[] = [
  ...(
    [
      ['a JPEG', 'photo.jpg', 'image/jpeg'],
      ['a progressive JPEG', 'progressive.jpg', 'image/jpeg'],
      ['a JPEG with restart markers', 'restart.jpg', 'image/jpeg'],
      ['a PNG', 'drawing.png', 'image/png'],
      ['an animated PNG', 'animation.png', 'image/png'],
      ['a PNG of 16 million pixels of one colour', 'one-colour.png', 'image/png'],
      ['an animated GIF', 'animation.gif', 'image/gif'],
      ['a lossy WebP', 'photo.webp', 'image/webp'],
      ['a lossless WebP', 'lossless.webp', 'image/webp'],
      ['an animated WebP', 'animation.webp', 'image/webp'],
      ['a WebP of 16 million pixels of one colour', 'one-colour.webp', 'image/webp'],
      ['an AVIF', 'photo.avif', 'image/avif'],
      ['an MP4 whose index comes last', 'moov-last.mp4', 'video/mp4'],
      ['an MP4 whose index comes first', 'moov-first.mp4', 'video/mp4'],
      ['a fragmented MP4', 'fragmented.mp4', 'video/mp4'],
      ['a QuickTime movie', 'clip.mov', 'video/quicktime'],
      ['a WebM', 'clip.webm', 'video/webm'],
      ['a live WebM of unknown sizes', 'live.webm', 'video/webm'],
      ['a WebM of sound alone', 'sound-webm.weba', 'audio/webm'],
      ['an MP3', 'sound.mp3', 'audio/mpeg'],
      ['an MP3 of variable rate with ID3v1 alone', 'vbr-id3v1.mp3', 'audio/mpeg'],
      ['a WAV', 'sound.wav', 'audio/wav'],
      ['an extensible WAV', 'extensible.wav', 'audio/wav'],
      ['a WAV written without going back to fill in sizes', 'streamed.wav', 'audio/wav'],
      ['an AIFF', 'sound.aiff', 'audio/aiff'],
      ['an AIFC', 'sound.aifc', 'audio/aiff'],
      ['a FLAC', 'sound.flac', 'audio/flac'],
      ['an Ogg Vorbis', 'vorbis.ogg', 'audio/ogg'],
      ['an Ogg Opus', 'sound.opus', 'audio/ogg'],
      ['an M4A', 'sound.m4a', 'audio/mp4'],
      ['an M4A of brand isom', 'isom-sound.m4a', 'audio/mp4'],
    ] as const
  ).map(([title, fileName, mediaType]) => ({ title, fileName, mediaType, bytes: fixture(fileName) })),
  { title: 'a GLB', fileName: 'cube.glb', mediaType: 'model/gltf-binary', bytes: glb(4000) },
  { title: 'a PDF', fileName: 'paper.pdf', mediaType: 'application/pdf', bytes: pdf() },
  {
    title: 'a PDF with something before its header',
    fileName: 'paper.pdf',
    mediaType: 'application/pdf',
    bytes: join('\n'.repeat(500), pdf()),
  },
  {
    title: 'a PDF with line ends after its end',
    fileName: 'paper.pdf',
    mediaType: 'application/pdf',
    bytes: join(pdf(), '\r\n'.repeat(100)),
  },
  {
    title: 'a JPEG with bytes appended by a phone',
    fileName: 'p.jpeg',
    mediaType: 'image/jpeg',
    bytes: join(fixture('photo.jpg'), Buffer.alloc(5000, 1)),
  },
  {
    title: 'a JPEG whose segments pass 64 KiB',
    fileName: 'p.jpg',
    mediaType: 'image/jpeg',
    bytes: padded(fixture('photo.jpg'), 180_000),
  },
  { title: 'a PNG with a large ancillary chunk', fileName: 'p.png', mediaType: 'image/png', bytes: png(200_000) },
  {
    title: 'an MP3 behind an ID3 tag of 8 KiB',
    fileName: 's.mp3',
    mediaType: 'audio/mpeg',
    bytes: join(id3(8192), fixture('vbr-id3v1.mp3')),
  },
  {
    title: 'an MP3 behind a cover picture of 200 KiB',
    fileName: 's.mp3',
    mediaType: 'audio/mpeg',
    bytes: join(id3(204_800), fixture('vbr-id3v1.mp3')),
  },
  {
    title: 'a FLAC behind an ID3 tag of 8 KiB',
    fileName: 's.flac',
    mediaType: 'audio/flac',
    bytes: join(id3(8192), fixture('sound.flac')),
  },
  {
    title: 'a FLAC behind an ID3 tag of 200 KiB',
    fileName: 's.flac',
    mediaType: 'audio/flac',
    bytes: join(id3(204_800), fixture('sound.flac')),
  },
  {
    title: 'two chained Ogg streams',
    fileName: 's.ogg',
    mediaType: 'audio/ogg',
    bytes: join(fixture('vorbis.ogg'), fixture('vorbis.ogg')),
  },
  {
    title: 'an MP4 with free, skip and uuid boxes',
    fileName: 'v.mp4',
    mediaType: 'video/mp4',
    bytes: join(moovLast, box('free', Buffer.alloc(100)), box('skip', Buffer.alloc(9)), box('uuid', Buffer.alloc(32))),
  },
  {
    title: 'an MP4 with a 64-bit box',
    fileName: 'v.m4v',
    mediaType: 'video/mp4',
    bytes: join(moovLast.subarray(0, mdat), box64('mdat', mdatContent), moovLast.subarray(moov)),
  },
  {
    title: 'an MP4 whose last box reaches to the end',
    fileName: 'v.mp4',
    mediaType: 'video/mp4',
    bytes: join(moovLast.subarray(0, mdat), moovLast.subarray(moov), uint32(0), 'mdat', mdatContent),
  },
  {
    title: 'an MP4 whose movie box comes last and reaches to the end',
    fileName: 'v.mp4',
    mediaType: 'video/mp4',
    bytes: join(moovLast.subarray(0, moov), uint32(0), moovLast.subarray(moov + 4)),
  },
  {
    title: 'an MP4 with zeros behind its last box',
    fileName: 'v.mp4',
    mediaType: 'video/mp4',
    bytes: join(moovLast, Buffer.alloc(6)),
  },
  {
    title: 'a QuickTime movie without a file type box, as old ones are',
    fileName: 'old.mov',
    mediaType: 'video/quicktime',
    bytes: join(box('wide', Buffer.alloc(0)), moovLast.subarray(mdat)),
  },
  {
    title: 'an AVIF of the general brand mif1',
    fileName: 'p.avif',
    mediaType: 'image/avif',
    bytes: join(fixture('photo.avif').subarray(0, 8), 'mif1', fixture('photo.avif').subarray(12)),
  },
  {
    title: 'a WebP of one frame in an animation',
    fileName: 'p.webp',
    mediaType: 'image/webp',
    bytes: animated(fixture('photo.webp'), { width: 96, height: 64 }),
  },
  {
    title: 'a WAV with broadcast and list chunks before its data',
    fileName: 's.wav',
    mediaType: 'audio/wav',
    bytes: wav({}, riffChunk('bext', Buffer.alloc(602)), riffChunk('LIST', Buffer.from('INFOISFT\x03\0\0\0abc\0'))),
  },
  {
    title: 'a WAV appended to while nobody could go back, as sox writes it',
    fileName: 's.wav',
    mediaType: 'audio/wav',
    bytes: wav({ riff: 0x7ffff024, data: 0x7ffff000 }),
  },
  {
    title: 'a FLAC with a cover picture of 300 KiB',
    fileName: 's.flac',
    mediaType: 'audio/flac',
    bytes: flacWith(6, 307_200),
  },
  {
    title: 'two chained Ogg streams of Opus',
    fileName: 's.opus',
    mediaType: 'audio/ogg',
    bytes: join(fixture('sound.opus'), fixture('sound.opus')),
  },
  {
    title: 'a GLB of its description alone',
    fileName: 'm.glb',
    mediaType: 'model/gltf-binary',
    bytes: glbOf(['JSON', Buffer.from('{"asset":{"version":"2.0"}} ')]),
  },
  {
    title: 'a PDF arranged for the web, with an end mark near its beginning',
    fileName: 'paper.pdf',
    mediaType: 'application/pdf',
    bytes: linearized(),
  },
  {
    title: 'a file declared by an alias',
    fileName: 'a.wav',
    declared: 'audio/x-wav',
    mediaType: 'audio/wav',
    bytes: fixture('sound.wav'),
  },
  {
    title: 'image/jpg',
    fileName: 'a.jpg',
    declared: 'image/jpg',
    mediaType: 'image/jpeg',
    bytes: fixture('photo.jpg'),
  },
  {
    title: 'audio/mp3',
    fileName: 'a.mp3',
    declared: 'audio/mp3',
    mediaType: 'audio/mpeg',
    bytes: fixture('sound.mp3'),
  },
  { title: 'video/x-m4v', fileName: 'a.m4v', declared: 'video/x-m4v', mediaType: 'video/mp4', bytes: moovLast },
  {
    title: 'audio/x-m4a',
    fileName: 'a.m4a',
    declared: 'audio/x-m4a',
    mediaType: 'audio/mp4',
    bytes: fixture('isom-sound.m4a'),
  },
  {
    title: 'a type with parameters',
    fileName: 'a.ogg',
    declared: 'audio/ogg; codecs=opus',
    mediaType: 'audio/ogg',
    bytes: fixture('sound.opus'),
  },
  {
    title: 'audio/webm by declaration',
    fileName: 'a.webm',
    declared: 'audio/webm;codecs=opus',
    mediaType: 'audio/webm',
    bytes: fixture('sound-webm.weba'),
  },
  {
    title: 'a file about which nothing was said',
    fileName: 'noextension',
    declared: 'application/octet-stream',
    mediaType: 'image/png',
    bytes: png(),
  },
  ...(
    [
      ['a HEIC', 'photo.heic', 'image/heic'],
      ['an SVG with a document type', 'graph.svg', 'image/svg+xml'],
      ['a Word document', 'document.docx', `${OFFICE}wordprocessingml.document`],
      ['an Excel workbook', 'table.xlsx', `${OFFICE}spreadsheetml.sheet`],
      ['a PowerPoint presentation', 'document.pptx', `${OFFICE}presentationml.presentation`],
      ['an OpenDocument text', 'document.odt', 'application/vnd.oasis.opendocument.text'],
      ['an OpenDocument spreadsheet', 'table.ods', 'application/vnd.oasis.opendocument.spreadsheet'],
      ['a zip', 'files.zip', 'application/zip'],
      ['a zip with a zip inside, stored', 'nested.zip', 'application/zip'],
      ['a zip with sizes after the data and a zip inside', 'streamed.zip', 'application/zip'],
      ['a zip with sizes of eight bytes', 'zip64.zip', 'application/zip'],
      ['a text', 'document.txt', 'text/plain'],
      ['a table of values', 'table.csv', 'text/csv'],
      ['a Markdown text', 'document.md', 'text/markdown'],
      ['a JSON text', 'document.json', 'application/json'],
    ] as const
  ).map(([title, fileName, mediaType]) => ({ title, fileName, mediaType, bytes: fixture(fileName) })),
  ...(
    [
      ['an OpenDocument presentation', 'a.odp', 'application/vnd.oasis.opendocument.presentation', presentation()],
      ['a HEIC of the general brand mif1', 'IMG_1.HEIC', 'image/heic', heicOfBrand('mif1')],
      ['a HEIC that another program calls HEIF', 'a.heif', 'image/heif', fixture('photo.heic'), 'image/heif'],
      ['a HEIC with the extension of a camera', 'a.HIF', 'image/heic', fixture('photo.heic')],
      [
        'a document that was declared as a zip',
        'a.docx',
        `${OFFICE}wordprocessingml.document`,
        fixture('document.docx'),
        'application/zip',
      ],
      ['a document that is kept as a zip', 'a.zip', 'application/zip', fixture('document.docx')],
      ['a table as Windows declares it', 'a.csv', 'text/csv', fixture('table.csv'), 'application/vnd.ms-excel'],
      ['a table declared as text', 'a.csv', 'text/csv', fixture('table.csv'), 'text/plain; charset=utf-8'],
      ['a text without an extension', 'LICENSE', 'text/plain', join('MIT License')],
      ['a log', 'service.log', 'text/plain', join('a line\n'.repeat(20_000))],
      ['a text that begins like a bitmap', 'cars.txt', 'text/plain', join('BMW and others')],
      ['a text that begins like a program', 'a.txt', 'text/plain', join('MZ is an abbreviation')],
      ['a text that is a page', 'page.txt', 'text/plain', join('<!DOCTYPE html><script>alert(1)</script>')],
      ['a text with a byte order mark', 'a.csv', 'text/csv', Buffer.from('\uFEFFä;ö\r\n1;2\r\n')],
      ['a text in many scripts', 'a.md', 'text/markdown', Buffer.from('ü 漢 🎉 ا\n'.repeat(9000))],
      ['a JSON number', 'a.json', 'application/json', join('-12.5e+3')],
      ['a JSON string with escapes', 'a.json', 'application/json', Buffer.from('"\\u00e4\\n\\"ü🎉"')],
      [
        'a JSON object with everything',
        'a.json',
        'application/json',
        join(' {"a": [1, -0.5, 2e9, true, false, null, {}, [], ""], "b": {"c": "\\\\"}}\n'),
      ],
      [
        'a JSON text with a byte order mark, declared as text/json',
        'a.json',
        'application/json',
        Buffer.from('\uFEFF[]'),
        'text/json',
      ],
      ['JSON at the depth that is taken', 'a.json', 'application/json', join('['.repeat(512), ']'.repeat(512))],
      ['an SVG without anything', 'a.svg', 'image/svg+xml', join('<svg/>')],
      ['an SVG with all that XML has', 'a.svg', 'image/svg+xml', Buffer.from(wholeSvg)],
      [
        'an SVG with a prefix',
        'a.svg',
        'image/svg+xml',
        join('<s:svg xmlns:s="http://www.w3.org/2000/svg"><s:g/></s:svg>'),
      ],
    ] as [string, string, string, Buffer<ArrayBuffer>, string?][]
  ).map(([title, fileName, mediaType, bytes, declared]) => ({
    title,
    fileName,
    mediaType,
    bytes,
    ...(declared !== undefined && { declared }),
  })),
  { title: 'an extension in capitals', fileName: 'IMG_0001.JPG', mediaType: 'image/jpeg', bytes: fixture('photo.jpg') },
];

const html = '<!DOCTYPE html><html><body><script>alert(1)</script></body></html>'.padEnd(3000, ' ');
const svg = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>';
const magic: Record<string, [string, Buffer]> = {
  JPEG: ['x.jpg', Buffer.from([0xff, 0xd8, 0xff, 0xe0])],
  PNG: ['x.png', png().subarray(0, 8)],
  GIF: ['x.gif', Buffer.from('GIF89a')],
  WebP: ['x.webp', join('RIFF', little(4), 'WEBP')],
  MP4: ['x.mp4', box('ftyp', Buffer.from('isom\x00\x00\x02\x00isom'))],
  AVIF: ['x.avif', box('ftyp', Buffer.from('avif\x00\x00\x00\x00avif'))],
  QuickTime: ['x.mov', box('ftyp', Buffer.from('qt  \x00\x00\x02\x00qt  '))],
  WebM: ['x.webm', fixture('clip.webm').subarray(0, 40)],
  MP3: ['x.mp3', fixture('vbr-id3v1.mp3').subarray(0, 4)],
  WAV: ['x.wav', join('RIFF', little(4), 'WAVE')],
  AIFF: ['x.aiff', join('FORM', uint32(4), 'AIFF')],
  FLAC: ['x.flac', Buffer.from('fLaC')],
  Ogg: ['x.ogg', fixture('sound.opus').subarray(0, 47)],
  GLB: ['x.glb', Buffer.from('glTF\x02\x00\x00\x00\x0c\x00\x00\x00', 'latin1')],
  PDF: ['x.pdf', Buffer.from('%PDF-1.7\n')],
  HEIC: ['x.heic', box('ftyp', Buffer.from('heic\x00\x00\x00\x00heic'))],
  zip: ['x.zip', Buffer.from('PK\x03\x04')],
  'a Word document': ['x.docx', Buffer.from('PK\x03\x04')],
};

const disguised = (fileName: string, bytes: Buffer | string, title: string): HostileFile => ({
  title,
  fileName,
  bytes: join(bytes),
  refusedBy: 'undetected',
});

export const hostileFiles: HostileFile[] = [
  ...Object.entries(magic).map(
    ([format, [fileName, bytes]]): HostileFile => ({
      title: `the magic number of ${format} alone`,
      fileName,
      bytes: Buffer.from(bytes),
      refusedBy: 'structure',
    }),
  ),
  ...Object.entries(magic).map(
    ([format, [fileName, bytes]]): HostileFile => ({
      title: `an HTML page behind the magic number of ${format}`,
      fileName,
      bytes: join(bytes, html),
      refusedBy: 'structure',
    }),
  ),
  ...validFiles
    .filter(
      ({ bytes, fileName, mediaType }) =>
        bytes.length > 100 && !/mp3|live|wav$|flac/.test(fileName) && mediaType !== 'audio/wav',
    )
    // What is cut off of these does not belong to them, or may be of any length.
    .filter(
      ({ title, mediaType }) =>
        !/after its end|appended|reaches to the end/.test(title) && !mediaType.startsWith('text'),
    )
    .slice(0, 40)
    .map(
      (file): HostileFile => ({
        title: `the first two thirds of ${file.title}`,
        fileName: file.fileName,
        ...(file.declared !== undefined && { declared: file.declared }),
        bytes: Buffer.from(file.bytes.subarray(0, Math.floor((file.bytes.length * 2) / 3))),
        refusedBy: 'structure',
      }),
    ),
  {
    title: 'a WAV that is cut',
    fileName: 'c.wav',
    bytes: Buffer.from(fixture('sound.wav').subarray(0, 6000)),
    refusedBy: 'structure',
  },
  {
    title: 'a FLAC without sound',
    fileName: 'c.flac',
    bytes: Buffer.from(fixture('sound.flac').subarray(0, 60)),
    refusedBy: 'structure',
  },
  disguised('a.png', html, 'HTML named .png'),
  disguised('a.jpg', svg, 'SVG named .jpg'),
  disguised('a.mp3', join(Buffer.from([0xff, 0xfe]), Buffer.from(html, 'utf16le')), 'HTML in UTF-16 named .mp3'),
  disguised('a.pdf', 'alert(document.cookie)', 'a script named .pdf'),
  { title: 'half a magic number', fileName: 'a.gif', bytes: Buffer.from('GIF'), refusedBy: 'structure' },
  disguised('a.png', Buffer.alloc(4096), 'zeros'),
  {
    title: 'an HTML page with ftyp at byte 4',
    fileName: 'a.mp4',
    bytes: join('<!--ftypmp42-->', html),
    refusedBy: 'structure',
  },
  {
    title: 'an ELF program named .jpg',
    fileName: 'a.jpg',
    bytes: join(Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]), Buffer.alloc(200)),
    refusedBy: 'extension-mismatch',
  },
  {
    title: 'a Windows program declared as PNG',
    fileName: 'a.png',
    declared: 'image/png',
    bytes: join('MZ', Buffer.alloc(200)),
    refusedBy: 'declared-mismatch',
  },
  {
    title: 'a zip named .pdf',
    fileName: 'a.pdf',
    bytes: join('PK\x03\x04', Buffer.alloc(100)),
    refusedBy: 'extension-mismatch',
  },
  { title: 'a PNG named .jpg', fileName: 'a.jpg', bytes: png(), refusedBy: 'extension-mismatch' },
  { title: 'a PNG named .html', fileName: 'a.html', bytes: png(), refusedBy: 'extension-mismatch' },
  { title: 'a PNG named .exe', fileName: 'a.exe', bytes: png(), refusedBy: 'extension-mismatch' },
  {
    title: 'a PNG with two extensions of which the last lies',
    fileName: 'a.png.svg',
    bytes: png(),
    refusedBy: 'extension-mismatch',
  },
  {
    title: 'a PNG declared as JPEG',
    fileName: 'a.png',
    declared: 'image/jpeg',
    bytes: png(),
    refusedBy: 'declared-mismatch',
  },
  {
    title: 'a PNG declared as HTML',
    fileName: 'a.png',
    declared: 'text/html',
    bytes: png(),
    refusedBy: 'declared-mismatch',
  },
  {
    title: 'an MP3 declared as MP4',
    fileName: 'a.mp3',
    declared: 'audio/mp4',
    bytes: fixture('sound.mp3'),
    refusedBy: 'declared-mismatch',
  },
  { title: 'a MOV named .mp4', fileName: 'a.mp4', bytes: fixture('clip.mov'), refusedBy: 'extension-mismatch' },
  { title: 'a video named .m4a', fileName: 'a.m4a', bytes: moovLast, refusedBy: 'structure' },
  {
    title: 'a video declared as audio/webm',
    fileName: 'a.webm',
    declared: 'audio/webm',
    bytes: fixture('clip.webm'),
    refusedBy: 'structure',
  },
  {
    title: 'an MP3 behind a tag, named .flac',
    fileName: 'a.flac',
    bytes: join(id3(100), fixture('vbr-id3v1.mp3')),
    refusedBy: 'structure',
  },
  {
    title: 'a PNG of 60,000 by 60,000 pixels',
    fileName: 'a.png',
    bytes: pngClaiming(60_000, 60_000),
    refusedBy: 'structure',
  },
  {
    title: 'a PNG of 16,000 by 16,000 pixels in 200 bytes',
    fileName: 'a.png',
    bytes: pngClaiming(16_000, 16_000),
    refusedBy: 'structure',
  },
  { title: 'a PNG without pixels', fileName: 'a.png', bytes: pngClaiming(0, 5), refusedBy: 'structure' },
  {
    title: 'a PNG whose header does not match its checksum',
    fileName: 'a.png',
    bytes: changed(png(), 20, 9),
    refusedBy: 'structure',
  },
  {
    title: 'a WebP of 16,383 by 16,383 pixels in 34 bytes',
    fileName: 'a.webp',
    bytes: webpBomb(),
    refusedBy: 'structure',
  },
  {
    title: 'a GIF of 16,000 by 16,000 pixels in a few bytes',
    fileName: 'a.gif',
    bytes: gifClaiming(16_000, 16_000),
    refusedBy: 'structure',
  },
  {
    title: 'a JPEG of 16,000 by 16,000 pixels in a few bytes',
    fileName: 'a.jpg',
    bytes: jpegClaiming(16_000, 16_000),
    refusedBy: 'structure',
  },
  {
    title: 'a JPEG of 65,535 by 65,535 pixels',
    fileName: 'a.jpg',
    bytes: jpegClaiming(65_535, 65_535),
    refusedBy: 'structure',
  },
  {
    title: 'an AVIF of 60,000 by 60,000 pixels',
    fileName: 'a.avif',
    bytes: avifClaiming(60_000, 60_000),
    refusedBy: 'structure',
  },
  {
    title: 'a WebP whose container claims more bytes than there are',
    fileName: 'a.webp',
    bytes: changed(fixture('photo.webp'), 6, 0xff),
    refusedBy: 'structure',
  },
  {
    title: 'a WAV that claims more sound than there is',
    fileName: 'a.wav',
    bytes: changed(fixture('sound.wav'), fixture('sound.wav').indexOf('data') + 6, 0x7f),
    refusedBy: 'structure',
  },
  {
    title: 'a GLB that claims to be longer',
    fileName: 'a.glb',
    bytes: changed(glb(400), 9, 9),
    refusedBy: 'structure',
  },
  { title: 'a GLB with something behind it', fileName: 'a.glb', bytes: join(glb(400), html), refusedBy: 'structure' },
  { title: 'a GLB of version 1', fileName: 'a.glb', bytes: changed(glb(400), 4, 1), refusedBy: 'structure' },
  {
    title: 'an MP4 box larger than the file',
    fileName: 'a.mp4',
    bytes: changed(Buffer.from(moovLast), mdat, 0x7f),
    refusedBy: 'structure',
  },
  {
    title: 'an MP4 without an index',
    fileName: 'a.mp4',
    bytes: Buffer.from(moovLast.subarray(0, moov)),
    refusedBy: 'structure',
  },
  {
    title: 'an MP4 with an index alone',
    fileName: 'a.mp4',
    bytes: join(moovLast.subarray(0, mdat), moovLast.subarray(moov)),
    refusedBy: 'structure',
  },
  { title: 'a Matroska that is no WebM', fileName: 'a.webm', bytes: matroska(), refusedBy: 'extension-mismatch' },
  {
    title: 'a PDF without a cross-reference table',
    fileName: 'a.pdf',
    bytes: join('%PDF-1.4\n', html, '%%EOF'),
    refusedBy: 'structure',
  },
  {
    title: 'a PDF of header and end alone',
    fileName: 'a.pdf',
    bytes: join('%PDF-1.4\nstartxref\n0\n%%EOF'),
    refusedBy: 'structure',
  },
  {
    title: 'a PDF whose cross-reference table lies beyond its end',
    fileName: 'a.pdf',
    bytes: join(pdf().subarray(0, pdf().lastIndexOf('startxref')), 'startxref\n99999\n%%EOF'),
    refusedBy: 'structure',
  },
  disguised('a.pdf', join('<html><script>alert(1)</script>', pdf()), 'an HTML page before a PDF'),
  disguised('a.pdf', join('\n'.repeat(1100), pdf()), 'a PDF that begins after 1024 bytes'),
  {
    title: 'an animated WebP with a frame of 16,383 by 16,383 pixels in 34 bytes',
    fileName: 'a.webp',
    bytes: animated(webpBomb(), { width: 16_383, height: 16_383 }),
    refusedBy: 'structure',
  },
  {
    title: 'an animated WebP whose image is larger than its canvas',
    fileName: 'a.webp',
    bytes: animated(fixture('photo.webp'), { width: 1, height: 1 }),
    refusedBy: 'structure',
  },
  {
    title: 'an animated WebP whose frame is larger than its canvas',
    fileName: 'a.webp',
    bytes: animated(fixture('photo.webp'), { width: 96, height: 64 }, { width: 97, height: 64 }),
    refusedBy: 'structure',
  },
  {
    title: 'an animated WebP whose frame is empty',
    fileName: 'a.webp',
    bytes: animated(Buffer.alloc(12), { width: 1, height: 1 }),
    refusedBy: 'structure',
  },
  {
    title: 'an MP4 whose media data are empty',
    fileName: 'a.mp4',
    bytes: join(moovLast.subarray(0, mdat), box('mdat', Buffer.alloc(0)), moovLast.subarray(moov)),
    refusedBy: 'structure',
  },
  {
    title: 'an MP4 whose movie box is empty',
    fileName: 'a.mp4',
    bytes: join(moovLast.subarray(0, moov), box('moov', Buffer.alloc(0))),
    refusedBy: 'structure',
  },
  {
    title: 'an MP4 with thousands of tracks inside each other',
    fileName: 'a.mp4',
    bytes: join(moovLast.subarray(0, mdat), nestedTracks(20_000)),
    refusedBy: 'structure',
  },
  {
    title: 'an MP4 with a box smaller than its header',
    fileName: 'a.mp4',
    bytes: join(moovLast, uint32(7), 'free'),
    refusedBy: 'structure',
  },
  {
    title: 'an MP4 with a 64-bit box of absurd size',
    fileName: 'a.mp4',
    bytes: join(moovLast, uint32(1), 'free', Buffer.alloc(8, 0xff)),
    refusedBy: 'structure',
  },
  {
    title: 'an MP4 with text behind its last box',
    fileName: 'a.mp4',
    bytes: join(moovLast, html),
    refusedBy: 'structure',
  },
  {
    title: 'an audio file of brand isom with a video track, declared as sound',
    fileName: 'a',
    declared: 'audio/x-m4a',
    bytes: moovLast,
    refusedBy: 'structure',
  },
  {
    title: 'a video track listed before tracks of sound, named .weba',
    fileName: 'a.weba',
    bytes: webmWithTracksTwice(),
    refusedBy: 'structure',
  },
  {
    title: 'an AVIF without pixels',
    fileName: 'a.avif',
    bytes: avifClaiming(0, 48),
    refusedBy: 'structure',
  },
  {
    title: 'an AVIF of 16,384 by 16,384 pixels in a few bytes',
    fileName: 'a.avif',
    bytes: avifClaiming(16_384, 16_384),
    refusedBy: 'structure',
  },
  {
    title: 'a JPEG without pixels',
    fileName: 'a.jpg',
    bytes: jpegClaiming(0, 64),
    refusedBy: 'structure',
  },
  {
    title: 'a JPEG of header and end alone',
    fileName: 'a.jpg',
    bytes: join(fixture('photo.jpg').subarray(0, 20), Buffer.from([0xff, 0xd9])),
    refusedBy: 'structure',
  },
  {
    title: 'a JPEG without its end',
    fileName: 'a.jpg',
    bytes: Buffer.from(fixture('photo.jpg').subarray(0, -2)),
    refusedBy: 'structure',
  },
  {
    title: 'a PNG without its end',
    fileName: 'a.png',
    bytes: Buffer.from(fixture('drawing.png').subarray(0, -12)),
    refusedBy: 'structure',
  },
  {
    title: 'a PNG without image data',
    fileName: 'a.png',
    bytes: join(fixture('drawing.png').subarray(0, 33), fixture('drawing.png').subarray(-12)),
    refusedBy: 'structure',
  },
  {
    title: 'a GIF without its trailer',
    fileName: 'a.gif',
    bytes: Buffer.from(fixture('animation.gif').subarray(0, -1)),
    refusedBy: 'structure',
  },
  {
    title: 'a WAV of format alone',
    fileName: 'a.wav',
    bytes: riff('WAVE', riffChunk('fmt ', Buffer.from('01000100401f0000401f000001000800', 'hex'))),
    refusedBy: 'structure',
  },
  {
    title: 'a WAV whose container claims more than there is',
    fileName: 'a.wav',
    bytes: wav({ riff: 2000 }),
    refusedBy: 'structure',
  },
  {
    title: 'an AIFF whose container claims more than there is',
    fileName: 'a.aiff',
    bytes: changed(fixture('sound.aiff'), 6, 0x7f),
    refusedBy: 'structure',
  },
  {
    title: 'a FLAC with fewer frames than its samples need',
    fileName: 'a.flac',
    bytes: Buffer.from(fixture('sound.flac').subarray(0, 8400)),
    refusedBy: 'structure',
  },
  {
    title: 'an MP3 of one frame',
    fileName: 'a.mp3',
    bytes: Buffer.from(fixture('vbr-id3v1.mp3').subarray(0, 200)),
    refusedBy: 'structure',
  },
  {
    title: 'an ID3 tag with an HTML page behind it',
    fileName: 'a.mp3',
    bytes: join(id3(500), html),
    refusedBy: 'structure',
  },
  {
    title: 'an ID3 tag that runs past the end',
    fileName: 'a.mp3',
    bytes: Buffer.from(id3(90_000).subarray(0, 80_000)),
    refusedBy: 'structure',
  },
  {
    title: 'a GLB that begins with its binary chunk',
    fileName: 'a.glb',
    bytes: glbOf(['BIN\0', Buffer.alloc(8)]),
    refusedBy: 'structure',
  },
  ...(
    [
      ['a zip as a Word document', 'a.docx', fixture('files.zip')],
      ['an Excel workbook as a Word document of the same magic number', 'a.docx', zipOf(...wordParts.slice(0, 2))],
      ['a Word document with macros', 'a.docx', zipOf(...wordParts, ['word/vbaProject.bin', 'x'])],
      [
        'an OpenDocument text whose type comes last',
        'a.odt',
        zipOf(
          ['content.xml', ''],
          ['META-INF/manifest.xml', ''],
          ['mimetype', 'application/vnd.oasis.opendocument.text'],
        ),
      ],
      [
        'an OpenDocument text without content',
        'a.odt',
        zipOf(['mimetype', 'application/vnd.oasis.opendocument.text'], ['META-INF/manifest.xml', '']),
      ],
      ['a zip with a page behind its end', 'a.zip', join(fixture('files.zip'), html)],
      [
        'a zip without its directory',
        'a.zip',
        Buffer.from(fixture('files.zip').subarray(0, fixture('files.zip').indexOf('PK\x01\x02'))),
      ],
      ['a zip whose directory lists an entry twice', 'a.zip', listedTwice()],
      ['a zip whose directory hides an entry', 'a.zip', hidden()],
      ['a zip that claims to unpack to a gigabyte', 'a.zip', zipBomb()],
      ['a zip whose entry is larger than the file', 'a.zip', changed(fixture('files.zip'), 21, 0x7f)],
      ['a text with a NUL byte', 'a.txt', join('text\0text')],
      ['a text in Latin-1', 'a.csv', Buffer.from('name\nM\xfcller\n', 'latin1')],
      ['a text in UTF-16', 'a.txt', join(Buffer.from([0xff, 0xfe]), Buffer.from('text', 'utf16le'))],
      ['a text that ends in the middle of a character', 'a.txt', Buffer.from(Buffer.from('text ü').subarray(0, -1))],
      ['a text that is one for 70,000 bytes', 'a.md', join('text '.repeat(14_000), Buffer.from([0xff]))],
      ['a text with half of a pair of surrogates', 'a.txt', Buffer.from('61eda08062', 'hex')],
      ['a text with a longer form of a character than needed', 'a.txt', Buffer.from('61c0af62', 'hex')],
      ...[
        '{',
        '[1,]',
        '{"a":1,}',
        '{a:1}',
        "['a']",
        '[01]',
        '[1.]',
        '[.5]',
        '[+1]',
        '[1e]',
        '[-]',
        '["\n"]',
        '["\\x"]',
        '["\\u12g4"]',
        '[nul]',
        '[]]',
        '[}',
        '[] []',
        '"',
        'NaN',
        '{"a" 1}',
        '{"a":}',
        '{1:1}',
        '[1 2]',
        '["a" "b"]',
        '',
        ' ',
      ].map((text): [string, string, Buffer<ArrayBuffer>] => [
        `JSON that is none: ${text}`,
        'a.json',
        join(text, '\n'),
      ]),
      ['JSON that is too deep', 'a.json', join('['.repeat(513), ']'.repeat(513))],
      ['JSON with an object too deep', 'a.json', join('{"a":'.repeat(100_000))],
      ...[
        '<html><svg/></html>',
        '<svg>',
        '<svg></g>',
        '<svg><g></svg></g>',
        '<svg/><svg/>',
        '<svg/>text',
        'text<svg/>',
        '<svg a=b/>',
        '<svg a/>',
        '<svg a="<"/>',
        '<svg>&own;</svg>',
        '<svg a="&own;"/>',
        '<svg><!-- </svg>',
        '<svg><![CDATA[</svg>',
        '<svg a="1"b="2"/>',
        '< svg/>',
        '<svg',
        '<svg/',
        '<!DOCTYPE html><html></html>',
        '<svg><![IF]></svg>',
        '<!DOCTYPE svg',
        '<svg><!DOCTYPE svg></svg>',
        '<![CDATA[a]]><svg/>',
        '<svgx/>',
        '<x:svg/ >',
      ].map((text): [string, string, Buffer<ArrayBuffer>] => [`SVG that is none: ${text}`, 'a.svg', join(text)]),
      [
        'an SVG whose entities grow without end',
        'a.svg',
        join('<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>'),
      ],
      [
        'an SVG with an entity from elsewhere',
        'a.svg',
        join('<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>'),
      ],
      ['an SVG that is too deep', 'a.svg', join('<svg>', '<g>'.repeat(300), '</g>'.repeat(300), '</svg>')],
      ['a page named .svg', 'a.svg', join(html)],
    ] as [string, string, Buffer<ArrayBuffer>][]
  ).map(([title, fileName, bytes]): HostileFile => ({ title, fileName, bytes, refusedBy: 'structure' })),
  { title: 'a text named .pdf', fileName: 'a.pdf', bytes: join('text'), refusedBy: 'undetected' },
  { title: 'a page named .html', fileName: 'a.html', bytes: join(html), refusedBy: 'undetected' },
  { title: 'a picture named .txt', fileName: 'a.txt', bytes: png(), refusedBy: 'extension-mismatch' },
  {
    title: 'a picture declared as JSON',
    fileName: 'a.json',
    declared: 'application/json',
    bytes: png(),
    refusedBy: 'declared-mismatch',
  },
  {
    title: 'a text declared as JSON, named .exe',
    fileName: 'a.exe',
    declared: 'application/json',
    bytes: join('{}'),
    refusedBy: 'extension-mismatch',
  },
  {
    title: 'a page named .html, declared as text',
    fileName: 'a.html',
    declared: 'text/plain',
    bytes: join(html),
    refusedBy: 'extension-mismatch',
  },
  { title: 'a zip named .jar', fileName: 'a.jar', bytes: fixture('files.zip'), refusedBy: 'extension-mismatch' },
  {
    title: 'a PDF that goes on after its end',
    fileName: 'a.pdf',
    bytes: join(pdf(), Buffer.alloc(5000, 0x20)),
    refusedBy: 'structure',
  },
];

function changed(bytes: Buffer<ArrayBuffer>, offset: number, value: number): Buffer<ArrayBuffer> {
  const copy = Buffer.from(bytes);
  copy[offset] = value;
  return copy;
}

/** A directory of two entries of which both are the first, as in bombs whose entries overlap. */
function listedTwice(): Buffer<ArrayBuffer> {
  const bytes = zipOf(['a', 'aaaa'], ['b', 'bbbb']);
  bytes.writeUInt32LE(0, bytes.lastIndexOf('PK\x01\x02') + 42);
  return bytes;
}

/** A directory without the second entry. */
function hidden(): Buffer<ArrayBuffer> {
  const bytes = zipOf(['a', 'aaaa'], ['b', 'bbbb']);
  const [second, end] = [bytes.lastIndexOf('PK\x01\x02'), bytes.lastIndexOf('PK\x05\x06')];
  const last = Buffer.from(bytes.subarray(end));
  last[8] = last[10] = 1;
  return join(bytes.subarray(0, second), last);
}

function zipBomb(): Buffer<ArrayBuffer> {
  const bytes = zipOf(['a', 'aaaa'], ['b', 'bbbb']);
  bytes.writeUInt32LE(2 ** 30, bytes.lastIndexOf('PK\x01\x02') + 24);
  return bytes;
}

/** A movie box of nothing but tracks, each inside the one before. */
function nestedTracks(depth: number): Buffer<ArrayBuffer> {
  const heads = Array.from({ length: depth }, (_, level) => join(uint32(8 * (depth - level)), level ? 'trak' : 'moov'));
  return join(...heads);
}

/** A live WebM that lists a video track, and then one of sound. */
function webmWithTracksTwice(): Buffer<ArrayBuffer> {
  const tracks = (type: number) => Buffer.from([0x16, 0x54, 0xae, 0x6b, 0x85, 0xae, 0x83, 0x83, 0x81, type]);
  const header = fixture('clip.webm').subarray(0, fixture('clip.webm').indexOf(Buffer.from('18538067', 'hex')));
  const segment = Buffer.from('18538067ff', 'hex');
  return join(header, segment, tracks(1), tracks(2), Buffer.from('1f43b67583e78100', 'hex'));
}

function webpBomb(): Buffer<ArrayBuffer> {
  const data = Buffer.alloc(14);
  data[0] = 0x2f;
  data.writeUInt32LE(16_382 | (16_382 << 14), 1);
  return join('RIFF', little(4 + 8 + data.length), 'WEBP', 'VP8L', little(data.length), data);
}

function gifClaiming(width: number, height: number): Buffer<ArrayBuffer> {
  const copy = Buffer.from(fixture('animation.gif'));
  copy.writeUInt16LE(width, 6);
  copy.writeUInt16LE(height, 8);
  return copy;
}

function jpegClaiming(width: number, height: number): Buffer<ArrayBuffer> {
  const copy = Buffer.from(fixture('photo.jpg'));
  const frame = copy.indexOf(Buffer.from([0xff, 0xc0]));
  copy.writeUInt16BE(height, frame + 5);
  copy.writeUInt16BE(width, frame + 7);
  return copy;
}

function avifClaiming(width: number, height: number): Buffer<ArrayBuffer> {
  const copy = Buffer.from(fixture('photo.avif'));
  const extents = copy.indexOf('ispe');
  copy.writeUInt32BE(width, extents + 8);
  copy.writeUInt32BE(height, extents + 12);
  return copy;
}

function matroska(): Buffer<ArrayBuffer> {
  const bytes = fixture('clip.webm');
  const at = bytes.indexOf('webm');
  return join(bytes.subarray(0, at - 1), Buffer.from([0x88]), 'matroska', bytes.subarray(at + 4));
}

/** Bytes that detection sees. */
const HEAD = 64 * 1024;

/** As uploads are validated: by the first bytes, then by all of them, in chunks. */
export async function validate(
  file: { bytes: Buffer; fileName: string; declared?: string },
  chunks: Buffer[] = [file.bytes],
): Promise<{ mediaType: string } | { refusedBy: string; detail: string }> {
  const verdict = await classify({
    head: file.bytes.subarray(0, HEAD),
    fileName: file.fileName,
    declared: file.declared,
  });
  if (verdict.outcome === 'refused') return { refusedBy: verdict.reason, detail: verdict.detail };
  const check = structureCheck(verdict.mediaType);
  for (const chunk of chunks) check.update(chunk);
  const fault = check.end();
  return fault === undefined ? { mediaType: verdict.mediaType } : { refusedBy: 'structure', detail: fault };
}
