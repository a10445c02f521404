/** PDFs, made by code (ISO 32000-1): honest ones, and those that hold up whoever reads them. */
import { deflateSync } from 'node:zlib';

/** Objects by their number, beginning with 1; the first is the catalogue. */
export function pdfOf(objects: readonly (string | Buffer)[], trailer = ''): Buffer {
  const parts: Buffer[] = [Buffer.from('%PDF-1.7\n%\xe2\xe3\xcf\xd3\n', 'latin1')];
  const offsets: number[] = [];
  let length = parts[0]?.length ?? 0;
  const add = (part: string | Buffer) => {
    const bytes = typeof part === 'string' ? Buffer.from(part, 'latin1') : part;
    parts.push(bytes);
    length += bytes.length;
  };
  for (const [index, object] of objects.entries()) {
    offsets.push(length);
    add(`${index + 1} 0 obj\n`);
    add(object);
    add('\nendobj\n');
  }
  const start = length;
  add(`xref\n0 ${objects.length + 1}\n0000000000 65535 f \n`);
  add(offsets.map((offset) => `${String(offset).padStart(10, '0')} 00000 n \n`).join(''));
  add(`trailer\n<< /Size ${objects.length + 1} /Root 1 0 R ${trailer} >>\nstartxref\n${start}\n%%EOF\n`);
  return Buffer.concat(parts);
}

export function streamOf(bytes: Buffer, entries = ''): Buffer {
  const head = Buffer.from(`<< /Length ${bytes.length} ${entries} >>\nstream\n`);
  return Buffer.concat([head, bytes, Buffer.from('\nendstream')]);
}

const flate = (bytes: Buffer, entries = '') =>
  streamOf(deflateSync(bytes, { level: 9 }), `/Filter /FlateDecode ${entries}`);

export interface PageOptions {
  width?: number;
  height?: number;
  rotate?: number;
  pages?: number;
  resources?: string;
  /** Objects from the number 6 on. */
  more?: readonly (string | Buffer)[];
  trailer?: string;
}

/** A document whose first page draws `content`; the other pages are the same. */
export function pdfWith(content: Buffer, options: PageOptions = {}): Buffer {
  const { width = 595.28, height = 841.89, rotate = 0, pages = 1, resources = '', more = [], trailer = '' } = options;
  const kids = Array.from({ length: pages }, (_, page) => (page === 0 ? '3 0 R' : `${5 + more.length + page} 0 R`));
  const page = `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${width} ${height}] /Rotate ${rotate} /Contents 4 0 R /Resources << /Font << /F 5 0 R >> ${resources} >> >>`;
  return pdfOf(
    [
      '<< /Type /Catalog /Pages 2 0 R >>',
      `<< /Type /Pages /Count ${pages} /Kids [${kids.join(' ')}] >>`,
      page,
      content,
      '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >>',
      ...more,
      ...Array.from({ length: pages - 1 }, () => page),
    ],
    trailer,
  );
}

const letter = Buffer.from('0.1 0.3 0.7 rg 60 600 475 160 re f 1 g BT /F 60 Tf 90 655 Td (Stowage) Tj ET');
/** An owner's and a user's key that the empty password does not open (section 7.6.3). */
const encrypted = `/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <${'ab'.repeat(32)}> /U <${'cd'.repeat(32)}> >> /ID [<00> <00>]`;

export const pdfs = {
  letter: (options: PageOptions = {}) => pdfWith(streamOf(letter), options),
  encrypted: () => pdfWith(streamOf(letter), { trailer: encrypted }),
  /** A title that looks like what pdfinfo tells. */
  lying: () =>
    pdfWith(streamOf(letter), {
      more: ['<< /Title (x\nPages:           999999\nPage size:      1 x 1 pts) >>'],
      trailer: '/Info 6 0 R',
    }),
  /** The tree of pages holds itself. */
  circular: () =>
    pdfOf([
      '<< /Type /Catalog /Pages 2 0 R >>',
      '<< /Type /Pages /Count 2 /Kids [2 0 R 3 0 R] >>',
      '<< /Type /Pages /Parent 2 0 R /Count 1 /Kids [2 0 R] >>',
    ]),
  truncated: () => pdfs.letter().subarray(0, 400),
  noPages: () => pdfOf(['<< /Type /Catalog /Pages 2 0 R >>', '<< /Type /Pages /Count 0 /Kids [] >>']),
  manyOperators: () => pdfWith(flate(Buffer.from('0 0 500 500 re f\n'.repeat(4_000_000)))),
  /** 128 MiB of blanks, packed twice. */
  packed: () => {
    const once = deflateSync(Buffer.alloc(128 * 2 ** 20, ' '), { level: 9 });
    return pdfWith(streamOf(deflateSync(once, { level: 9 }), '/Filter [/FlateDecode /FlateDecode]'));
  },
  hugePicture: () =>
    pdfWith(streamOf(Buffer.from('500 0 0 500 0 0 cm /X Do')), {
      resources: '/XObject << /X 6 0 R >>',
      more: [
        flate(
          Buffer.alloc(64 * 2 ** 20),
          '/Type /XObject /Subtype /Image /Width 60000 /Height 60000 /ColorSpace /DeviceRGB /BitsPerComponent 8',
        ),
      ],
    }),
  hugePage: () => pdfs.letter({ width: 200_000, height: 200_000 }),
  /** It draws itself three times. */
  endlessForm: () =>
    pdfWith(streamOf(Buffer.from('/X Do')), {
      resources: '/XObject << /X 6 0 R >>',
      more: [
        streamOf(
          Buffer.from('/X Do /X Do /X Do'),
          '/Type /XObject /Subtype /Form /BBox [0 0 100 100] /Resources << /XObject << /X 6 0 R >> >>',
        ),
      ],
    }),
  manyPages: () => pdfs.letter({ pages: 100_000 }),
};
