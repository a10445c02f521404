/** Files whose insides are made of as many pieces as their bytes can hold: what they cost must be in proportion to their size. */
import { crc32 } from 'node:zlib';
import { fixture } from './corpus.ts';
import { glb, pdf, png } from './files.ts';

export interface SizedFile {
  title: string;
  fileName: string;
  bytes: Buffer;
}

const bytesOf = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex');
const text = (characters: string) => Buffer.from(characters, 'latin1');

/** The head, and then the pieces again and again up to the size. */
function filled(title: string, fileName: string, head: Buffer, ...pieces: Buffer[]): (size: number) => SizedFile {
  const piece = Buffer.concat(pieces);
  return (size) => ({
    title,
    fileName,
    bytes: Buffer.concat([head, Buffer.alloc(Math.max(0, size - head.length), piece)]),
  });
}

function little(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
function big(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

const ebmlHeader = fixture('clip.webm').subarray(0, fixture('clip.webm').indexOf(bytesOf('18538067')));
const segment = bytesOf('18538067 01ffffffffffffff');
/** An element of the four bytes of this identifier, of 64 KiB less its own head. */
const element = (id: string, size: number) => Buffer.concat([bytesOf(id), bytesOf('10'), big(size).subarray(1)]);
const mp4 = fixture('moov-first.mp4');
const ftyp = mp4.subarray(0, mp4.readUInt32BE(0));
const largeBox = (type: string) => Buffer.concat([big(0x7fffff00), text(type)]);

function pngChunk(type: string): Buffer {
  const bytes = Buffer.concat([big(0), text(type), big(0)]);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, 8)), 8);
  return bytes;
}

const tracks = (piece: string) => Buffer.concat([element('1654ae6b', 0xfffc), Buffer.alloc(0xfffc, bytesOf(piece))]);
const localEntry = Buffer.concat([
  text('PK\x03\x04'),
  bytesOf('0a00 0000 0000 0000 0000 00000000 00000000 00000000 0100 0000'),
  text('a'),
]);

const expensive = [
  filled('WebM of tracks of two-byte elements', 'a.webm', Buffer.concat([ebmlHeader, segment]), tracks('ec80')),
  filled(
    'WebM of tracks of entries of two-byte elements',
    'a.webm',
    Buffer.concat([ebmlHeader, segment]),
    tracks('ae82ec80'),
  ),
  filled('WebM of tracks of empty entries', 'a.webm', Buffer.concat([ebmlHeader, segment]), tracks('ae80')),
  filled(
    'WebM of one entry of two-byte elements',
    'a.webm',
    Buffer.concat([ebmlHeader, segment, element('1654ae6b', 0xfffc), bytesOf('ae 10fff7')]),
    bytesOf('ec80'),
  ),
  filled('WebM of two-byte elements', 'a.webm', Buffer.concat([ebmlHeader, segment]), bytesOf('ec80')),
  filled(
    'WebM of twelve-byte elements of nothing',
    'a.webm',
    Buffer.concat([ebmlHeader, segment]),
    bytesOf('1254c367 0100000000000000'),
  ),
  filled('WebM of empty tracks', 'a.webm', Buffer.concat([ebmlHeader, segment]), bytesOf('1654ae6b80')),
  filled('WebM of clusters of a byte', 'a.webm', Buffer.concat([ebmlHeader, segment]), bytesOf('1f43b6758100')),
  filled('MP4 of empty boxes', 'a.mp4', ftyp, text('\0\0\0\x08free')),
  filled('MP4 of 64-bit boxes', 'a.mp4', ftyp, bytesOf('00000001 66726565 0000000000000010')),
  filled('MP4 of empty movie boxes', 'a.mp4', ftyp, text('\0\0\0\x08moov')),
  filled('MP4 of empty tracks', 'a.mp4', Buffer.concat([ftyp, largeBox('moov')]), text('\0\0\0\x08trak')),
  filled(
    'MP4 of tracks of media of empty boxes',
    'a.mp4',
    Buffer.concat([ftyp, largeBox('moov'), big(0x7ffffe00), text('trak'), big(0x7ffffd00), text('mdia')]),
    text('\0\0\0\x08minf'),
  ),
  filled(
    'MP4 of handlers',
    'a.mp4',
    Buffer.concat([ftyp, largeBox('moov'), big(0x7ffffe00), text('trak'), big(0x7ffffd00), text('mdia')]),
    bytesOf('00000014 68646c72 0000000000000000 736f756e'),
  ),
  filled(
    'AVIF of empty properties',
    'a.avif',
    Buffer.concat([
      fixture('photo.avif').subarray(0, 32),
      largeBox('meta'),
      big(0),
      big(0x7ffffe00),
      text('iprp'),
      big(0x7ffffd00),
      text('ipco'),
    ]),
    text('\0\0\0\x08pixi'),
  ),
  filled(
    'AVIF of sizes',
    'a.avif',
    Buffer.concat([
      fixture('photo.avif').subarray(0, 32),
      largeBox('meta'),
      big(0),
      big(0x7ffffe00),
      text('iprp'),
      big(0x7ffffd00),
      text('ipco'),
    ]),
    bytesOf('00000014 69737065 00000000 00000040 00000040'),
  ),
  filled('PNG of empty chunks', 'a.png', png(200).subarray(0, 33), pngChunk('teXt')),
  filled('PNG of empty data', 'a.png', png(200).subarray(0, 33), pngChunk('IDAT')),
  filled('APNG of frames', 'a.png', png(200).subarray(0, 33), pngChunk('fdAT')),
  filled('JPEG of empty segments', 'a.jpg', bytesOf('ffd8'), bytesOf('ffe00002')),
  filled('JPEG of bare markers', 'a.jpg', bytesOf('ffd8ffe00002'), bytesOf('ffd0')),
  filled('JPEG of filling', 'a.jpg', bytesOf('ffd8ffe00002'), bytesOf('ff')),
  filled('JPEG of false ends', 'a.jpg', fixture('photo.jpg').subarray(0, -2), bytesOf('ff00')),
  filled(
    'GIF of blocks of a byte',
    'a.gif',
    Buffer.concat([text('GIF89a'), bytesOf('01000100000000 21fe')]),
    bytesOf('0100'),
  ),
  filled(
    'GIF of empty extensions',
    'a.gif',
    Buffer.concat([text('GIF89a'), bytesOf('01000100000000')]),
    bytesOf('21fe00'),
  ),
  filled(
    'GIF of long lists of blocks',
    'a.gif',
    Buffer.concat([text('GIF89a'), bytesOf('01000100000000 21fe')]),
    bytesOf('0141'),
  ),
  filled(
    'GIF of images',
    'a.gif',
    Buffer.concat([text('GIF89a'), bytesOf('01000100000000')]),
    bytesOf('2c 00000000 0100 0100 00 02 00'),
  ),
  filled(
    'WebP of empty chunks',
    'a.webp',
    Buffer.concat([text('RIFF'), little(0x7ffffff0), text('WEBPVP8X'), little(10), Buffer.alloc(10)]),
    Buffer.concat([text('XMP '), little(0)]),
  ),
  filled(
    'WebP of empty frames',
    'a.webp',
    Buffer.concat([text('RIFF'), little(0x7ffffff0), text('WEBPVP8X'), little(10), Buffer.alloc(10)]),
    Buffer.concat([text('ANMF'), little(16), Buffer.alloc(16)]),
  ),
  filled(
    'WAV of empty chunks',
    'a.wav',
    Buffer.concat([text('RIFF'), little(0x7ffffff0), text('WAVE')]),
    Buffer.concat([text('LIST'), little(0)]),
  ),
  filled(
    'WAV of formats',
    'a.wav',
    Buffer.concat([text('RIFF'), little(0x7ffffff0), text('WAVE')]),
    bytesOf('666d7420 10000000 01000100401f0000401f000001000800'),
  ),
  filled(
    'AIFF of empty chunks',
    'a.aiff',
    Buffer.concat([text('FORM'), big(0x7ffffff0), text('AIFF')]),
    Buffer.concat([text('MARK'), big(0)]),
  ),
  filled('FLAC of empty metadata', 'a.flac', fixture('sound.flac').subarray(0, 42), bytesOf('01000000')),
  filled('FLAC behind empty tags', 'a.flac', text('fLaC').subarray(0, 0), bytesOf('494433 0300 00 00000000')),
  filled(
    'Ogg of empty pages',
    'a.ogg',
    fixture('sound.opus').subarray(0, 47),
    Buffer.concat([text('OggS'), Buffer.alloc(23)]),
  ),
  filled(
    'Ogg of pages of empty packets',
    'a.ogg',
    fixture('sound.opus').subarray(0, 47),
    Buffer.concat([text('OggS'), Buffer.alloc(22), bytesOf('ff'), Buffer.alloc(255)]),
  ),
  filled(
    'Ogg of packets of a byte',
    'a.ogg',
    fixture('sound.opus').subarray(0, 47),
    Buffer.concat([text('OggS'), Buffer.alloc(22), bytesOf('0101'), text('a')]),
  ),
  filled('MP3 behind empty tags', 'a.mp3', Buffer.alloc(0), bytesOf('494433 0300 00 00000000')),
  filled(
    'MP3 of beginnings of frames',
    'a.mp3',
    Buffer.concat([bytesOf('494433 0300 00 00000000')]),
    bytesOf('fffb9000'),
  ),
  filled('MP3 of synchronisation alone', 'a.mp3', Buffer.concat([bytesOf('494433 0300 00 00000000')]), bytesOf('ff')),
  filled('PDF of openings', 'a.pdf', text('%PDF-1.4 '), text('<<')),
  filled('PDF of openings that look linearized', 'a.pdf', text('%PDF-1.4 obj '), text('<</Linearized ')),
  filled('PDF of almost objects', 'a.pdf', text('%PDF-1.4 '), text('ob')),
  filled('PDF of almost tables', 'a.pdf', text('%PDF-1.4 obj '), text('startxref\n')),
  filled(
    'GLB of empty chunks',
    'a.glb',
    Buffer.concat([text('glTF'), little(2), little(0x7ffffff0), little(4), text('JSON{}  ')]),
    bytesOf('00000000 42494e00'),
  ),
  filled('zip of empty entries', 'a.zip', Buffer.alloc(0), localEntry),
  filled(
    'zip of entries of unknown size',
    'a.zip',
    Buffer.alloc(0),
    Buffer.concat([
      localEntry.subarray(0, 6),
      bytesOf('0800'),
      localEntry.subarray(8),
      text('PK\x07\x08'),
      Buffer.alloc(12),
    ]),
  ),
  filled(
    'zip of one entry of almost ends',
    'a.zip',
    Buffer.concat([localEntry.subarray(0, 6), bytesOf('0800'), localEntry.subarray(8)]),
    text('PK\x07\x08'),
    Buffer.alloc(8),
  ),
  filled(
    'zip of a directory of empty entries',
    'a.zip',
    localEntry,
    Buffer.concat([text('PK\x01\x02'), Buffer.alloc(42)]),
  ),
  filled('SVG of empty elements', 'a.svg', text('<svg>'), text('<g/>')),
  filled('SVG of pairs', 'a.svg', text('<svg>'), text('<g></g>')),
  filled('SVG of attributes', 'a.svg', text('<svg '), text("a='' ")),
  filled('SVG of comments', 'a.svg', text('<svg>'), text('<!---->')),
  filled('SVG of almost ends of comments', 'a.svg', text('<svg><!--'), text('- ')),
  filled('SVG of references', 'a.svg', text('<svg>'), text('&lt;')),
  filled('SVG of elements inside each other', 'a.svg', text('<svg>'), text('<g>')),
  filled('SVG of a long name', 'a.svg', text('<svg><'), text('g')),
  filled('JSON of numbers', 'a.json', text('['), text('1,')),
  filled('JSON of empty lists', 'a.json', text('['), text('[],')),
  filled('JSON of lists inside each other', 'a.json', text(''), text('[')),
  filled('JSON of escapes', 'a.json', text('["'), text('\\n')),
  filled('JSON of empty strings', 'a.json', text('['), text('"",')),
  filled('JSON of white space', 'a.json', text('['), text(' ')),
  filled('JSON of a long number', 'a.json', text('['), text('1')),
  filled('JSON of words', 'a.json', text('['), text('null,')),
  filled('text of four-byte characters', 'a.txt', text(''), Buffer.from('🎉')),
  filled('text of two-byte characters', 'a.csv', text('a'), Buffer.from('ü')),
];

/** @param size bytes of each */
export function expensiveFiles(size: number): SizedFile[] {
  return expensive.map((make) => make(size));
}

/** Files such as programs make. @param size bytes of each */
export function ordinaryFiles(size: number): SizedFile[] {
  return [
    { title: 'ordinary PNG', fileName: 'a.png', bytes: png(size) },
    { title: 'ordinary GLB', fileName: 'a.glb', bytes: glb(size) },
    {
      title: 'ordinary PDF',
      fileName: 'a.pdf',
      bytes: Buffer.concat([pdf().subarray(0, 60), Buffer.alloc(size, 'stream '), pdf().subarray(60)]),
    },
    {
      title: 'ordinary text',
      fileName: 'a.txt',
      bytes: Buffer.alloc(size, 'The quick brown fox jumps over the lazy dog.\n'),
    },
    {
      title: 'ordinary JSON',
      fileName: 'a.json',
      bytes: Buffer.concat([
        text('['),
        Buffer.alloc(size - (size % 61), text('{"id": 12345, "name": "A name of a thing", "tags": ["a", 1]},')),
        text('0]'),
      ]),
    },
    {
      title: 'ordinary SVG',
      fileName: 'a.svg',
      bytes: Buffer.concat([
        text('<svg xmlns="http://www.w3.org/2000/svg">'),
        Buffer.alloc(
          size - (size % 82),
          text('<path class="road" d="M10.25 20.5 L30 40 Q50 60 7 8 Z" stroke="#123"/>'.padEnd(82, ' ')),
        ),
        text('</svg>'),
      ]),
    },
  ];
}
