/** Metadata where it rarely lies: behind what a segment needs, in names, among lists of samples, in what nobody points to. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import { stripMetadata, Unstrippable } from '../../src/processing/strip/strip.ts';
import { fixture } from '../support/corpus.ts';
import { exif, MARKER, markersIn } from '../support/private-files.ts';

type Part = Buffer | string;
const join = (...parts: Part[]) =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));
const number = (value: number, size = 4) => {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, 0, size);
  return bytes;
};
const says = (what: string) => `${MARKER} ${what}`;
const put = (bytes: Buffer, at: number, ...parts: Part[]) => join(bytes.subarray(0, at), ...parts, bytes.subarray(at));

/** @returns what is left, which holds nothing private and nothing more to strip */
function stripped(bytes: Buffer, mediaType: string, title: string): Buffer {
  assert.notDeepEqual(markersIn(bytes), [], title);
  const result = stripMetadata(bytes, mediaType);
  assert.ok(result, title);
  assert.deepEqual(markersIn(result), [], title);
  assert.equal(stripMetadata(result, mediaType), undefined, title);
  return result;
}
const refuses = (bytes: Buffer, mediaType: string, title: string) =>
  assert.throws(() => stripMetadata(bytes, mediaType), Unstrippable, title);

const picture = sharp({ create: { width: 24, height: 16, channels: 3, background: '#467' } });

test('a segment of a JPEG that holds more than a decoder reads is refused, as decoders do', async () => {
  const jpeg = await picture.jpeg().toBuffer();
  const scan = jpeg.indexOf(Buffer.from([0xff, 0xda]));
  const segment = (marker: number, content: string) =>
    join(Buffer.from([0xff, marker]), number(2 + content.length, 2), content);
  for (const marker of [0xcc, 0xdb, 0xc4, 0xdc, 0xdd])
    refuses(put(jpeg, scan, segment(marker, `\0\0${says('tail')}`)), 'image/jpeg', marker.toString(16));
  const hierarchical = stripped(put(jpeg, scan, segment(0xdf, says('expansion'))), 'image/jpeg', 'EXP');
  assert.ok(hierarchical.equals(jpeg));
});

test('a chunk of a PNG that is longer than any picture needs it goes, and palettes with names do', async () => {
  const png = await picture.png({ palette: false }).toBuffer();
  const clean = stripMetadata(png, 'image/png') ?? png;
  const chunk = (type: string, content: Part) => {
    const body = join(type, content);
    return join(number(body.length - 4), body, number(crc32(body)));
  };
  const data = clean.indexOf('IDAT') - 4;
  for (const type of ['gAMA', 'sBIT', 'bKGD', 'pHYs', 'cHRM', 'sPLT'])
    assert.ok(stripped(put(clean, data, chunk(type, says('x'.repeat(40)))), 'image/png', type).equals(clean), type);
  refuses(put(clean, clean.length - 12, chunk('IEND', says('end'))), 'image/png', 'IEND');
});

test('of WebP what a header holds beside its fields goes, or the file is refused', async () => {
  const webp = Buffer.from(await picture.withIccProfile('p3').webp().toBuffer());
  const chunk = (type: string, content: Part) => join(type, number(join(content).length).swap32(), content);
  const whole = (bytes: Buffer) => {
    bytes.writeUInt32LE(bytes.length - 8, 4);
    return bytes;
  };
  const clean = stripMetadata(webp, 'image/webp') ?? webp;
  const second = stripped(whole(join(clean, chunk('ICCP', says('profile!')))), 'image/webp', 'ICCP');
  assert.ok(second.equals(clean));
  stripped(whole(join(clean, chunk('ANIM', join(Buffer.alloc(6), says('animated'))))), 'image/webp', 'ANIM');
  const header = join(clean.subarray(12, 16), number(22).swap32(), clean.subarray(20, 30), says('header'));
  refuses(whole(join(clean.subarray(0, 12), header, clean.subarray(30))), 'image/webp', 'VP8X');
});

const box = (type: string, ...parts: Part[]) => join(number(8 + join(...parts).length), type, ...parts);
const foreign = () =>
  join(box('udta', says('user data')), box('uuid', Buffer.alloc(16, 7), says('XMP')), box('free', says('free')));

/** Puts boxes at the end of the first box at a path; of `stsd` and `dref` they are counted. */
function insert(file: Buffer, path: readonly string[], added: Buffer): Buffer {
  const places: number[] = [];
  let at = 0;
  let end = file.length;
  for (const type of path) {
    while (file.toString('latin1', at + 4, at + 8) !== type) {
      at += file.readUInt32BE(at);
      if (at >= end) throw new RangeError(`there is no ${path.join('/')}`);
    }
    places.push(at);
    end = at + file.readUInt32BE(at);
    at += ['meta'].includes(type) ? 12 : ['stsd', 'dref'].includes(type) ? 16 : 8;
  }
  const result = put(file, end, added);
  for (const place of places) result.writeUInt32BE(result.readUInt32BE(place) + added.length, place);
  return result;
}

describe('boxes', () => {
  test('that belong elsewhere go from wherever they are, and nothing moves', () => {
    const film = fixture('moov-last.mp4');
    const [track, information] = [
      ['moov', 'trak'],
      ['moov', 'trak', 'mdia', 'minf'],
    ] as const;
    for (const path of [
      ...[['moov'], track, [...track, 'edts'], [...track, 'mdia'], information, [...information, 'dinf']],
      ...[
        [...information, 'stbl'],
        [...information, 'stbl', 'stsd'],
        [...information, 'stbl', 'stsd', 'avc1'],
      ],
    ]) {
      const bytes = insert(film, path, foreign());
      assert.equal(stripped(bytes, 'video/mp4', path.join('/')).length, bytes.length);
    }
    const linked = insert(film, [...information, 'dinf', 'dref'], box('url ', number(0), says('file:///home/me')));
    stripped(linked, 'video/mp4', 'dref');
    stripped(
      join(film, box('mfra', box('uuid', says('XMP')), box('mfro', number(0), number(16)))),
      'video/mp4',
      'mfra',
    );
    stripped(join(film, box('wide', says('wide')), box('free', number(0))), 'video/mp4', 'wide');
  });

  test('do not tell the names that a camera gave its tracks and its encoder; what all write stays', () => {
    const film = fixture('moov-last.mp4');
    const handler = film.indexOf('hdlr') + 4;
    assert.equal(film.toString('latin1', handler + 24, handler + 36), 'VideoHandler');
    const named = Buffer.from(film);
    named.write(says('Cam').slice(0, 12).padEnd(12), handler + 24, 'latin1');
    stripped(named, 'video/mp4', 'hdlr');
    const encoded = Buffer.from(film);
    encoded.write(`\x0c${says('Cam 9')}`, film.indexOf('avc1', film.indexOf('stsd')) + 46, 'latin1');
    stripped(encoded, 'video/mp4', 'avc1');
    const clean = stripMetadata(film, 'video/mp4') ?? film;
    assert.equal(clean.toString('latin1', handler + 24, handler + 36), 'VideoHandler');
  });

  test('of a picture: names of items go, and what its media data hold that no item points to', async () => {
    for (const [name, mediaType] of [
      ['photo.heic', 'image/heic'],
      ['photo.avif', 'image/avif'],
    ] as const) {
      const bytes = fixture(name);
      const unused = stripped(join(bytes, box('mdat', exif(6), says('unused'))), mediaType, name);
      assert.ok(unused.subarray(0, bytes.length).equals(bytes));
    }
    const heic = fixture('photo.heic');
    const entry = heic.indexOf('infe') - 4;
    const named = insertName(heic, entry, says('camera'));
    const result = stripped(named, 'image/heic', 'infe');
    assert.equal(result.length, named.length);
  });
});

/** Gives the item a name; the places of its bytes move with it. */
function insertName(heic: Buffer, entry: number, name: string): Buffer {
  const end = entry + heic.readUInt32BE(entry);
  const result = put(heic, end - 1, name);
  const list = heic.indexOf('iinf') - 4;
  for (const at of [heic.indexOf('meta') - 4, list, entry])
    result.writeUInt32BE(result.readUInt32BE(at) + name.length, at);
  // One item, whose place begins with a base of four bytes.
  const places = result.indexOf('iloc') + 4;
  assert.deepEqual([result.readUInt8(places), (result.readUInt16BE(places + 4) >> 4) & 15], [0, 4]);
  result.writeUInt32BE(result.readUInt32BE(places + 12) + name.length, places + 12);
  return result;
}

describe('addresses in a drawing that hold a picture', async () => {
  const photo = await picture.jpeg().toBuffer();
  const secret = put(photo, 2, Buffer.from([0xff, 0xe1]), number(8 + exif(1).length, 2), 'Exif\0\0', exif(1));
  const digits = secret.toString('base64');
  const svg = (inner: string) =>
    Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">${inner}<rect width="9"/></svg>`);
  const image = (address: string) => svg(`<image href="${address}"/>`);

  for (const [title, bytes] of [
    ['as usual', image(`data:image/jpeg;base64,${digits}`)],
    ['without a media type', image(`data:;base64,${digits}`)],
    ['as anything', image(`data:application/octet-stream;base64,${digits}`)],
    ['with spaces', image(` data:image/jpeg ; base64 , ${digits}`)],
    ['in capitals', image(`DATA:IMAGE/JPEG;base64,${digits}`)],
    ['in lines', image(`data:image/jpeg;base64,${digits.replace(/.{60}/g, '$&&#10;')}`)],
    ['within references', svg(`<g style="fill:url(&quot;data:image/jpeg;base64,${digits}&quot;)"/>`)],
    ['in a style', svg(`<style>rect{fill:url( 'data:image/jpeg;base64,${digits}' )}</style>`)],
  ] as const)
    test(`${title} lose what it tells, and end where they ended`, () => {
      const result = stripped(bytes, 'image/svg+xml', title).toString();
      const [, end = ''] =
        /;base64\s*,\s*[\w+/=]*(&#10;|.{0,12})/i.exec(bytes.toString().replaceAll('&#10;', '')) ?? [];
      assert.ok(result.includes(`${photo.toString('base64').slice(-12).replace(/=+$/, '')}`), result);
      assert.ok(result.includes(end), result);
    });

  test('are refused where only a browser would see them', () => {
    for (const address of [
      ...[`data&#58;image/jpeg;base64,${digits}`, `&#x64;ata:image/jpeg;base64,${digits}`],
      ...[`da&#10;ta:image/jpeg;base64,${digits}`, `data:image&#47;jpeg;base64,${digits}`],
      `data:image/jpeg;base64,${digits.slice(0, 40)}@${digits.slice(40)}`,
      `data:image/jpeg,${[...secret].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')}`,
    ])
      refuses(image(address), 'image/svg+xml', address.slice(0, 30));
    refuses(svg(`<style>rect{fill:url("data\\3a image/jpeg;base64,${digits}")}</style>`), 'image/svg+xml', 'a style');
  });

  test('and those that hold none stay: fonts, drawings without secrets, words', () => {
    for (const inner of [
      `<style>@font-face{src:url(data:font/woff2;base64,d09GMgABAAAAAA)}</style>`,
      `<style>g{fill:url("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'%3E%3C/svg%3E")}</style>`,
      `<text>data: 1, 2 and metadata: 3, 4 &amp; more</text>`,
      `<image href="data:image/jpeg;base64,${photo.toString('base64')}"/>`,
    ])
      assert.equal(stripMetadata(svg(inner), 'image/svg+xml'), undefined, inner);
  });
});
