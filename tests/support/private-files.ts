/**
 * Pictures and films that tell more than they show: the place, the camera's number, its owner, captions, previews, films
 * behind the picture. All are made here. What must not get out is `MARKER`, in every part, so that bytes can be searched for
 * it; places are numbers that spell it.
 */
import { crc32, deflateSync, inflateSync } from 'node:zlib';
import sharp from 'sharp';
import { fixture } from './corpus.ts';

/** Found in no file that is not private. */
export const MARKER = 'pr1v8';

export interface PrivateFile {
  title: string;
  fileName: string;
  mediaType: string;
  bytes: Buffer<ArrayBuffer>;
  /** What shows the same, as far as that can be looked at. */
  clean?: Buffer;
  /** How it is turned by what stays (Exif 1 to 8); absent where a container of its own tells it. */
  orientation?: number;
}

type Part = Buffer | string;
const join = (...parts: Part[]): Buffer<ArrayBuffer> =>
  Buffer.from(Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part))));
const number = (value: number, size: number) => {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, 0, size);
  return bytes;
};
const big = (value: number) => number(value, 4);
const little = (value: number) => Buffer.from(number(value, 4)).reverse();
const says = (what: string) => `${MARKER} ${what}`;

const WIDTH = 48;
const HEIGHT = 32;

/** Every pixel another, with a profile of wide colours. */
function picture() {
  const pixels = Buffer.from(Array.from({ length: WIDTH * HEIGHT * 3 }, (_, at) => (at * 37 + (at >> 5) * 11) % 256));
  return sharp(pixels, { raw: { width: WIDTH, height: HEIGHT, channels: 3 } }).withIccProfile('p3');
}

/** TIFF directories with texts, a maker's note, a place and a preview; Exif 3.0. */
export function exif(orientation: number, preview: Buffer = Buffer.alloc(0)): Buffer<ArrayBuffer> {
  const ascii = (text: string) => join(text, '\0');
  const place = join(...[1, 2, 3].flatMap(() => [MARKER.slice(0, 4), big(1)]));
  const exifEntries: Entry[] = [
    [0x9003, 2, ascii('2026:11:21 22:45:54')],
    [0x927c, 7, join(says('maker note'))],
    [0xa431, 2, ascii(says('serial number'))],
  ];
  const gpsEntries: Entry[] = [
    [0x0001, 2, ascii('N')],
    [0x0002, 5, place],
    [0x0004, 5, place],
    [0x001b, 7, join('ASCII\0\0\0', says('GPS method'))],
  ];
  const first = (gpsAt: number, exifAt: number): Entry[] => [
    [0x010e, 2, ascii(says('description'))],
    [0x0110, 2, ascii(says('model'))],
    [0x0112, 3, number(orientation, 2)],
    [0x013b, 2, ascii(says('artist'))],
    [0x8769, 4, big(exifAt)],
    [0x8825, 4, big(gpsAt)],
    [0x9c9b, 1, Buffer.from(says('title'), 'utf16le')],
  ];
  const exifAt = 8 + directorySize(first(0, 0));
  const gpsAt = exifAt + directorySize(exifEntries);
  const previewAt = gpsAt + directorySize(gpsEntries);
  const previewEntries = (at: number): Entry[] => [
    [0x0201, 4, big(at)],
    [0x0202, 4, big(preview.length)],
  ];
  return join(
    'MM\0*',
    big(8),
    directory(first(gpsAt, exifAt), 8, previewAt),
    directory(exifEntries, exifAt, 0),
    directory(gpsEntries, gpsAt, 0),
    directory(previewEntries(previewAt + directorySize(previewEntries(0))), previewAt, 0),
    preview,
  );
}

type Entry = [tag: number, type: number, value: Buffer];
const unitOf = (type: number) => ({ 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1 })[type] ?? 1;
const even = (length: number) => length + (length & 1);

function directorySize(entries: Entry[]): number {
  return entries.reduce((sum, [, , value]) => sum + 12 + (value.length > 4 ? even(value.length) : 0), 6);
}

function directory(entries: Entry[], at: number, next: number): Buffer {
  let dataAt = at + 6 + 12 * entries.length;
  const data: Buffer[] = [];
  const heads = entries.map(([tag, type, value]) => {
    const head = [number(tag, 2), number(type, 2), big(value.length / unitOf(type))];
    if (value.length <= 4) return join(...head, value, Buffer.alloc(4 - value.length));
    data.push(value, Buffer.alloc(value.length & 1));
    dataAt += even(value.length);
    return join(...head, big(dataAt - even(value.length)));
  });
  return join(number(entries.length, 2), ...heads, big(next), ...data);
}

const xmp = `<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="${says('XMP place')}"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>`;

// --- JPEG ---

const segment = (marker: number, ...parts: Part[]) => {
  const content = join(...parts);
  return join(Buffer.from([0xff, marker]), number(content.length + 2, 2), content);
};

/** What cameras, telephones and programs put before the picture. */
function jpegSegments(orientation: number, preview: Buffer): Buffer {
  const iptc = join(Buffer.from([0x1c, 2, 90]), number(says('city').length, 2), says('city'));
  return join(
    segment(0xe0, 'JFXX\0\x10', says('extension preview')),
    segment(0xe1, 'Exif\0\0', exif(orientation, preview)),
    segment(0xe1, 'Exif\0\0', exif(3)),
    segment(0xe1, 'http://ns.adobe.com/xap/1.0/\0', xmp),
    segment(0xe1, 'http://ns.adobe.com/xmp/extension/\0', 'A'.repeat(32), big(xmp.length), big(0), xmp),
    segment(0xe1, 'FLIR\0\x01\0\0', says('temperatures')),
    segment(0xe2, 'MPF\0', 'MM\0*', says('multiple pictures')),
    segment(0xe3, says('APP3')),
    segment(0xeb, 'JP\0\x01', big(1), says('C2PA'), 'jumb'),
    segment(0xec, 'Ducky', says('Ducky')),
    segment(0xed, 'Photoshop 3.0\0', '8BIM', number(0x0404, 2), '\0\0', big(iptc.length), iptc),
    segment(0xfe, says('comment')),
    segment(0xfe, Buffer.from(says('wide comment'), 'utf16le')),
  );
}

/** Behind the colour profile, and a comment between its scans, where there are several. */
function privateJpeg(jpeg: Buffer, orientation: number): Buffer<ArrayBuffer> {
  const preview = join(jpeg.subarray(0, 2), segment(0xfe, says('in the preview')), jpeg.subarray(2));
  const jfif = segment(0xe0, 'JFIF\0\x01\x02\0\0\x01\0\x01\x01\x01', 'p1v');
  const scans = jpeg.indexOf(Buffer.from([0xff, 0xda]));
  const nextScan = jpeg.indexOf(Buffer.from([0xff, 0xc4]), scans);
  const split = nextScan === -1 ? jpeg.length - 2 : nextScan;
  return join(
    jpeg.subarray(0, 2),
    jfif,
    jpegSegments(orientation, preview),
    jpeg.subarray(2, split),
    nextScan === -1 ? '' : segment(0xfe, says('between scans')),
    jpeg.subarray(split),
    // What phones append: other pictures, a film, and what tells about them.
    preview,
    film(),
    says('trailer'),
  );
}

// --- PNG, WebP, GIF ---

const pngChunk = (type: string, ...parts: Part[]) => {
  const body = join(type, ...parts);
  return join(big(body.length - 4), body, big(crc32(body)));
};

function privatePng(png: Buffer, orientation: number): Buffer<ArrayBuffer> {
  const packed = deflateSync(Buffer.from(says('packed'.repeat(20))));
  const [afterHeader, end] = [33, png.length - 12];
  return join(
    png.subarray(0, afterHeader),
    pngChunk('eXIf', exif(orientation)),
    pngChunk('tEXt', 'Comment\0', says('text')),
    pngChunk('zTXt', 'Raw profile type exif\0\0', packed),
    pngChunk('iTXt', 'XML:com.adobe.xmp\0\0\0\0\0', xmp),
    pngChunk('iTXt', 'Author\0\x01\0\0\0', packed),
    pngChunk('tIME', Buffer.from('07ea0b15162d36', 'hex')),
    pngChunk('caBX', says('C2PA')),
    pngChunk('prVt', says('private chunk')),
    png.subarray(afterHeader, end),
    pngChunk('tEXt', 'Software\0', says('text behind the picture')),
    png.subarray(end),
    says('trailer'),
  );
}

const riffChunk = (type: string, ...parts: Part[]) => {
  const content = join(...parts);
  return join(type, little(content.length), content, Buffer.alloc(content.length & 1));
};

/** @param isPrefixed as some writers put it, with the prefix of JPEG */
function privateWebp(webp: Buffer, orientation: number, isPrefixed: boolean): Buffer<ArrayBuffer> {
  const chunks = join(
    webp.subarray(12),
    riffChunk('EXIF', isPrefixed ? 'Exif\0\0' : '', exif(orientation)),
    riffChunk('XMP ', xmp),
    riffChunk('C2PA', says('C2PA')),
    riffChunk('PRIV', says('unknown')),
  );
  const header = chunks.indexOf('VP8X');
  chunks.writeUInt8(chunks.readUInt8(header + 8) | 0x0c, header + 8);
  return join('RIFF', little(4 + chunks.length), 'WEBP', chunks, says('trailer'));
}

const subBlocks = (text: Part) => join(Buffer.from([join(text).length]), text, '\0');

function privateGif(gif: Buffer): Buffer<ArrayBuffer> {
  const at = 13 + (gif.readUInt8(10) & 0x80 ? 3 * 2 ** ((gif.readUInt8(10) & 7) + 1) : 0);
  // XMP is not in sub-blocks: a trailer of all bytes, falling, leads a reader to the end of it.
  const magic = join('\x01', Buffer.from(Array.from({ length: 256 }, (_, index) => 255 - index)), '\0');
  return join(
    'GIF89a',
    gif.subarray(6, at),
    '!\xff\x0bXMP DataXMP',
    xmp,
    magic,
    '!\xfe',
    subBlocks(says('comment')),
    '!\xff\x0bMGKIPTC0000',
    subBlocks(says('IPTC')),
    '!\x01\x0c',
    Buffer.alloc(12),
    subBlocks(says('text')),
    gif.subarray(at, -1),
    '!\xfe',
    subBlocks(says('last comment')),
    ';',
    says('trailer'),
  );
}

// --- boxes ---

const box = (type: string, ...parts: Part[]) => {
  const content = join(...parts);
  return join(big(8 + content.length), type, content);
};
const c2pa = () => box('uuid', Buffer.from('d8fec3d61b0e483c92975828877ec481', 'hex'), says('C2PA'));

/** A box within others, by the path of their types; `meta` has four bytes before its boxes. */
function boxAt(bytes: Buffer, ...path: string[]): { at: number; end: number } {
  let found = { at: -8, end: bytes.length };
  for (const type of path) {
    let at = found.at + 8 + (bytes.toString('latin1', found.at + 4, found.at + 8) === 'meta' ? 4 : 0);
    while (bytes.toString('latin1', at + 4, at + 8) !== type) {
      at += bytes.readUInt32BE(at);
      if (at >= found.end) throw new RangeError(`there is no ${path.join('/')}`);
    }
    found = { at, end: at + bytes.readUInt32BE(at) };
  }
  return found;
}

/** Adds items to a picture of one item: ids from 2 on, with their bytes in media data of their own at the end. */
function withItems(heic: Buffer, items: { type: string; content: Buffer }[]): Buffer<ArrayBuffer> {
  const [meta, iloc, iinf] = [boxAt(heic, 'meta'), boxAt(heic, 'meta', 'iloc'), boxAt(heic, 'meta', 'iinf')];
  const entries = items.map(({ type }, index) =>
    box('infe', '\x02\0\0\0', number(index + 2, 2), '\0\0', type, '\0', type === 'mime' ? 'application/rdf+xml\0' : ''),
  );
  const grown = join(...entries).length + 18 * items.length;
  const locations = Buffer.from(heic.subarray(iloc.at + 8, iloc.end));
  locations.writeUInt16BE(1 + items.length, 6);
  locations.writeUInt32BE(locations.readUInt32BE(12) + grown, 12);
  let at = heic.length + grown + 8;
  const added = items.map(({ content }, index) => {
    at += content.length;
    return join(number(index + 2, 2), '\0\0', big(at - content.length), number(1, 2), big(0), big(content.length));
  });
  const names = heic.subarray(iinf.at + 14, iinf.end);
  const changedMeta = join(
    heic.subarray(meta.at + 8, iloc.at),
    box('iloc', locations, ...added),
    box('iinf', '\0\0\0\0', number(1 + items.length, 2), names, ...entries),
    heic.subarray(iinf.end, meta.end),
  );
  return join(
    heic.subarray(0, meta.at),
    box('meta', changedMeta),
    heic.subarray(meta.end),
    box('mdat', ...items.map(({ content }) => content)),
  );
}

/** A track of sensors' data, which lie at that place of the file. */
function metadataTrack(at: number, sizes: number[]): Buffer {
  const tables = box(
    'stbl',
    box('stsd', big(0), big(1), box('gpmd', Buffer.alloc(8))),
    box('stts', big(0), big(1), big(sizes.length), big(1000)),
    box('stsc', big(0), big(2), big(1), big(1), big(1), big(2), big(sizes.length - 1), big(1)),
    box('stsz', big(0), big(0), big(sizes.length), ...sizes.map(big)),
    box('stco', big(0), big(2), big(at), big(at + (sizes[0] ?? 0))),
  );
  const handler = box('hdlr', big(0), big(0), 'meta', Buffer.alloc(12), says('place of a camera\0'));
  const media = box(
    'mdia',
    box('mdhd', Buffer.alloc(12), big(1000), Buffer.alloc(8)),
    handler,
    box('minf', box('nmhd', big(0)), tables),
  );
  return box('trak', box('tkhd', Buffer.alloc(84)), media);
}

/** A film whose index comes last, so that nothing moves. */
function film(): Buffer<ArrayBuffer> {
  const clip = fixture('moov-last.mp4');
  const moov = boxAt(clip, 'moov');
  const samples = ['one', 'two', 'three'].map((name) => join(says(`sensor sample ${name}`)));
  const place = says('+59.33+018.06/');
  const userData = box(
    'udta',
    box('\xa9xyz', number(place.length, 2), number(0x15c7, 2), place),
    box('loci', big(0), number(0, 2), says('place'), '\0\x01', big(0), big(0), big(0), says('planet'), '\0\0'),
  );
  const media = box('mdat', ...samples);
  const track = metadataTrack(
    moov.at + 8,
    samples.map(({ length }) => length),
  );
  const movie = join(clip.subarray(moov.at + 8, moov.end), track, userData, box('uuid', Buffer.alloc(16), xmp));
  movie.writeUInt32BE(0xe5e5e5e5, boxAt(movie, 'mvhd').at + 12);
  return join(
    clip.subarray(0, moov.at),
    media,
    box('moov', movie),
    box('free', says('what was free')),
    box('uuid', Buffer.from('be7acfcb97a942e89c71999491e3afac', 'hex'), xmp),
    box('mpvd', says('appended film')),
  );
}

/** QuickTime keeps the place under keys. */
function quickTime(): Buffer<ArrayBuffer> {
  const clip = fixture('clip.mov');
  const moov = boxAt(clip, 'moov');
  const key = 'com.apple.quicktime.location.ISO6709';
  const meta = box(
    'meta',
    box('hdlr', Buffer.alloc(8), 'mdta', Buffer.alloc(12)),
    box('keys', big(0), big(1), big(8 + key.length), 'mdta', key),
    box('ilst', box('\0\0\0\x01', box('data', big(1), big(0), says('place')))),
  );
  return join(
    clip.subarray(0, moov.at),
    box('moov', clip.subarray(moov.at + 8, moov.end), meta),
    box('udta', says('user data')),
    box('free', big(0)),
  );
}

// --- SVG ---

function drawing(jpeg: Buffer): Buffer<ArrayBuffer> {
  const embedded = jpeg.toString('base64').replace(/.{76}/g, '$&&#10;');
  return Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>
<?${says('instruction')}?>
<!-- ${says('comment')} -->
<svg xmlns="http://www.w3.org/2000/svg" xmlns:i="http://inkscape.example" xmlns:d="http://purl.org/dc/elements/1.1/"
  xmlns:xlink="http://www.w3.org/1999/xlink" width="${WIDTH}" height="${HEIGHT}" i:docname="/home/${says('path')}.svg">
<title>à la carte</title><metadata><d:creator>${says('creator')}<metadata/></d:creator></metadata>
<i:view name="${says('editor')}"><rect/></i:view><i:empty a="${says('editor')}"/>
<style><![CDATA[rect { fill: url(data:image/jpeg;base64,${jpeg.toString('base64')}) }]]></style>
<rect width="9" height="9" fill="#123"/><image xlink:href="data:image/jpeg;base64,${embedded}" width="9" height="9"/>
</svg>
`);
}

let made: Promise<PrivateFile[]> | undefined;

/** The corpus; made once. */
export function privateFiles(): Promise<PrivateFile[]> {
  made ??= makeFiles();
  return made;
}

async function makeFiles(): Promise<PrivateFile[]> {
  const file = (
    title: string,
    fileName: string,
    mediaType: string,
    bytes: Buffer,
    more: Partial<PrivateFile> = {},
  ) => ({
    title,
    fileName,
    mediaType,
    bytes: Buffer.from(bytes),
    ...more,
  });
  const jpeg = await picture().jpeg({ quality: 80 }).toBuffer();
  const progressive = await picture().jpeg({ quality: 80, progressive: true }).toBuffer();
  const png = await picture().png().toBuffer();
  const lossy = await picture().webp({ quality: 70 }).toBuffer();
  const lossless = await picture().webp({ lossless: true }).toBuffer();
  const avif = await picture()
    .withXmp(xmp)
    .withExif({ IFD0: { Artist: says('artist') } })
    .avif({ effort: 0 })
    .toBuffer();
  const [animated, gif] = [fixture('animation.png'), fixture('animation.gif')];
  const exifItem = { type: 'Exif', content: join(big(6), 'Exif\0\0', exif(6)) };
  const heic = withItems(fixture('photo.heic'), [exifItem, { type: 'mime', content: Buffer.from(xmp) }]);
  return [
    file('a baseline JPEG', 'a.jpg', 'image/jpeg', privateJpeg(jpeg, 6), { clean: jpeg, orientation: 6 }),
    file('a progressive JPEG', 'b.jpg', 'image/jpeg', privateJpeg(progressive, 8), {
      ...{ clean: progressive, orientation: 8 },
    }),
    file('an upright JPEG', 'c.jpg', 'image/jpeg', privateJpeg(jpeg, 1), { clean: jpeg, orientation: 1 }),
    file('a PNG', 'd.png', 'image/png', privatePng(png, 3), { clean: png, orientation: 3 }),
    file('an animated PNG', 'e.png', 'image/png', privatePng(animated, 1), { clean: animated, orientation: 1 }),
    file('a lossy WebP', 'f.webp', 'image/webp', privateWebp(lossy, 6, true), { clean: lossy, orientation: 6 }),
    file('a lossless WebP', 'g.webp', 'image/webp', privateWebp(lossless, 7, false), {
      ...{ clean: lossless, orientation: 7 },
    }),
    file('an animated GIF', 'h.gif', 'image/gif', privateGif(gif), { clean: gif }),
    file('an AVIF', 'i.avif', 'image/avif', join(avif, c2pa()), { clean: avif }),
    file('an HEIC', 'j.heic', 'image/heic', join(heic, c2pa(), box('mpvd', says('appended film')))),
    file('an SVG', 'k.svg', 'image/svg+xml', drawing(privateJpeg(jpeg, 1))),
    file('a film', 'l.mp4', 'video/mp4', film()),
    file('a film of QuickTime', 'm.mov', 'video/quicktime', quickTime()),
  ];
}

/** Where the marker is in a file: as it is, in UTF-16, packed by zlib, or in base64. Empty when it is nowhere. */
export function markersIn(bytes: Buffer, depth = 0): string[] {
  const wide = Buffer.from(MARKER, 'utf16le');
  const spellings: [string, Buffer][] = [
    ['text', Buffer.from(MARKER)],
    ['numbers', Buffer.from(MARKER.slice(0, 4))],
    ['UTF-16', wide],
    ['UTF-16 of the other order', Buffer.from(wide).swap16()],
  ];
  const found = spellings.flatMap(([how, spelling]) => (bytes.includes(spelling) ? [how] : []));
  if (depth === 2) return found;
  for (const packed of unpacked(bytes)) found.push(...markersIn(packed, depth + 1).map((how) => `packed ${how}`));
  const text = bytes.toString('latin1').replace(/&#10;|\s/g, '');
  for (const [, encoded = ''] of text.matchAll(/base64,([A-Za-z0-9+/=]+)/g))
    found.push(...markersIn(Buffer.from(encoded, 'base64'), depth + 1).map((how) => `base64 ${how}`));
  return [...new Set(found)];
}

/** Whatever zlib can unpack, wherever it begins; RFC 1950: the method is 8, and the head a multiple of 31. */
function* unpacked(bytes: Buffer): Generator<Buffer> {
  for (let at = bytes.indexOf(0x78); at !== -1; at = bytes.indexOf(0x78, at + 1)) {
    if (at + 2 > bytes.length || bytes.readUInt16BE(at) % 31 !== 0) continue;
    try {
      yield inflateSync(bytes.subarray(at), { finishFlush: 2, maxOutputLength: 2 ** 24 });
    } catch {
      // No zlib after all.
    }
  }
}
