/**
 * What a file is, told by its bytes. The client's word is only compared: what it declares and the extension of the name
 * must agree with what the bytes show, or the file is refused.
 *
 * `file-type` looks at the first 64 KiB. It knows magic numbers; whether the rest keeps the promise of the first bytes
 * is for structure.ts to say.
 */
import { fileTypeFromTokenizer, supportedMimeTypes } from 'file-type';
import { fromBuffer, type ITokenizer } from 'strtok3';
import { extensionOf } from './file-name.ts';
import { PDF_HEADER_WITHIN } from './structure/documents.ts';
import { beginsEncrypted, ENCRYPTED_EXTENSION, ENCRYPTED_TYPE, isOpaqueName } from './structure/encrypted.ts';
import { beginsLikeText } from './structure/text.ts';
import { isTextType, isZipType } from './structure.ts';

/**
 * How often detection may read; what is not known by then is undetected. A real file takes up to 32 reads, a zip of small
 * files a few for each; the worst that was built of tiny pieces would take 5,125 and 20 ms. Not a limit of time: a busy
 * process would refuse good files by it.
 */
export const MAX_READS = 500;
/** Bytes from which the media type is told. */
export const HEAD_SIZE = 64 * 1024;

/** Names that mean the same. Parameters such as `; codecs=opus` are dropped before. */
const aliases: Record<string, string> = {
  'image/jpg': 'image/jpeg',
  'image/pjpeg': 'image/jpeg',
  'image/x-png': 'image/png',
  'image/apng': 'image/png',
  'image/vnd.mozilla.apng': 'image/png',
  'image/avif-sequence': 'image/avif',
  'image/heic-sequence': 'image/heic',
  'image/heif-sequence': 'image/heif',
  'image/svg': 'image/svg+xml',
  'audio/x-wav': 'audio/wav',
  'audio/wave': 'audio/wav',
  'audio/x-pn-wav': 'audio/wav',
  'audio/vnd.wave': 'audio/wav',
  'audio/mp3': 'audio/mpeg',
  'audio/x-mp3': 'audio/mpeg',
  'audio/x-mpeg': 'audio/mpeg',
  'audio/mpeg3': 'audio/mpeg',
  'audio/x-flac': 'audio/flac',
  'audio/x-aiff': 'audio/aiff',
  'audio/opus': 'audio/ogg',
  'audio/vorbis': 'audio/ogg',
  'audio/x-ogg': 'audio/ogg',
  'application/ogg': 'audio/ogg',
  'audio/m4a': 'audio/mp4',
  'audio/x-m4a': 'audio/mp4',
  'audio/x-m4b': 'audio/mp4',
  'audio/mp4a-latm': 'audio/mp4',
  'audio/x-webm': 'audio/webm',
  'video/x-m4v': 'video/mp4',
  'video/x-mp4': 'video/mp4',
  'video/x-quicktime': 'video/quicktime',
  'video/x-matroska': 'video/matroska',
  'model/gltf.binary': 'model/gltf-binary',
  'application/x-pdf': 'application/pdf',
  'application/x-zip-compressed': 'application/zip',
  'application/x-zip': 'application/zip',
  'application/x-gzip': 'application/gzip',
  'application/x-javascript': 'text/javascript',
  'application/javascript': 'text/javascript',
  'text/xml': 'application/xml',
  'text/x-markdown': 'text/markdown',
  'text/x-web-markdown': 'text/markdown',
  'text/x-csv': 'text/csv',
  'text/comma-separated-values': 'text/csv',
  'text/x-comma-separated-values': 'text/csv',
  'application/csv': 'text/csv',
  'application/x-csv': 'text/csv',
  'text/json': 'application/json',
  'application/x-json': 'application/json',
};

/** Extensions by media type; the first types are those of the default policies. */
const extensions: Record<string, readonly string[]> = {
  'image/jpeg': ['jpg', 'jpeg', 'jpe', 'jfif', 'pjpeg', 'pjp'],
  'image/png': ['png', 'apng'],
  'image/webp': ['webp'],
  'image/gif': ['gif'],
  'image/avif': ['avif', 'avifs'],
  'video/mp4': ['mp4', 'm4v', 'mp4v'],
  'video/quicktime': ['mov', 'qt'],
  'video/webm': ['webm'],
  'audio/mpeg': ['mp3', 'mpga', 'mp2', 'mp1'],
  'audio/wav': ['wav', 'wave'],
  'audio/aiff': ['aiff', 'aif', 'aifc'],
  'audio/flac': ['flac'],
  'audio/ogg': ['ogg', 'oga', 'opus', 'spx'],
  'audio/mp4': ['m4a', 'm4b', 'mp4', 'mp4a'],
  'audio/webm': ['weba', 'webm'],
  'model/gltf-binary': ['glb'],
  'application/pdf': ['pdf'],
  'video/ogg': ['ogv'],
  'video/matroska': ['mkv'],
  'image/heic': ['heic', 'heics', 'heif', 'hif'],
  'image/heif': ['heif', 'heifs', 'heic', 'hif'],
  'image/tiff': ['tif', 'tiff'],
  'image/bmp': ['bmp', 'dib'],
  'image/svg+xml': ['svg'],
  'image/x-icon': ['ico'],
  'text/markdown': ['md', 'markdown'],
  'text/plain': ['txt', 'text', 'log', 'md'],
  'text/csv': ['csv'],
  'text/html': ['html', 'htm', 'xhtml'],
  'text/css': ['css'],
  'text/javascript': ['js', 'mjs', 'cjs'],
  'application/json': ['json', 'map'],
  'application/xml': ['xml', 'xsd', 'xsl'],
  'application/zip': ['zip'],
  'application/gzip': ['gz', 'tgz'],
  'application/x-7z-compressed': ['7z'],
  'application/x-rar-compressed': ['rar'],
  'application/x-tar': ['tar'],
  'application/rtf': ['rtf'],
  'application/epub+zip': ['epub'],
  'application/vnd.openxmlformats-officedocument.wordprocessingml.document': ['docx'],
  'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet': ['xlsx'],
  'application/vnd.openxmlformats-officedocument.presentationml.presentation': ['pptx'],
  'application/vnd.oasis.opendocument.text': ['odt'],
  'application/vnd.oasis.opendocument.spreadsheet': ['ods'],
  'application/vnd.oasis.opendocument.presentation': ['odp'],
  'application/msword': ['doc'],
  'application/vnd.ms-excel': ['xls'],
  'application/vnd.ms-powerpoint': ['ppt'],
  'application/x-msdownload': ['exe', 'dll'],
  'application/x-sh': ['sh'],
  'application/wasm': ['wasm'],
  'font/ttf': ['ttf'],
  'font/otf': ['otf'],
  'font/woff': ['woff'],
  'font/woff2': ['woff2'],
  [ENCRYPTED_TYPE]: [ENCRYPTED_EXTENSION],
};
const typesByExtension = new Map<string, string>();
for (const [type, names] of Object.entries(extensions))
  for (const name of names) if (!typesByExtension.has(name)) typesByExtension.set(name, type);

/** Types that say nothing: what clients send when they do not know. */
const meaningless =
  /^(application\/octet-stream|binary\/octet-stream|application\/x-www-form-urlencoded|application\/binary|multipart\/.*)$/;

/** @returns the canonical name without parameters; undefined when absent, malformed, or saying nothing */
export function normaliseMediaType(value: string | undefined): string | undefined {
  const match = /^\s*([a-z0-9][a-z0-9!#$&^_.+-]*\/[a-z0-9][a-z0-9!#$&^_.+-]*)\s*(;.*)?$/is.exec(value ?? '');
  const name = match?.[1]?.toLowerCase();
  if (name === undefined || meaningless.test(name)) return undefined;
  return Object.hasOwn(aliases, name) ? aliases[name] : name;
}

/** Names that clients send for want of a better one: what the extension says is better. */
const vague: Record<string, (byExtension: string) => boolean> = {
  // Of any text.
  'text/plain': isTextType,
  // Windows, where Office opens CSV.
  'application/vnd.ms-excel': (byExtension) => byExtension === 'text/csv',
  // Of any document that is a zip.
  'application/zip': isZipType,
};

/**
 * What the client says that the file is, by its declaration or else by the extension of the name.
 * @returns the canonical name; undefined when it says nothing, or nothing certain without a name
 */
export function claimedType(fileName: string | undefined, declared: string | undefined): string | undefined {
  const claimed = normaliseMediaType(declared);
  const isVague = claimed !== undefined && Object.hasOwn(vague, claimed);
  if (fileName === undefined) return isVague ? undefined : claimed;
  const extension = extensionOf(fileName);
  const byExtension = extension === undefined ? undefined : typesByExtension.get(extension);
  if (claimed === undefined) return byExtension;
  const isBetter = isVague && byExtension !== undefined && !extensionFits(fileName, claimed);
  return isBetter && vague[claimed]?.(byExtension) ? byExtension : claimed;
}

const detectable = new Set([...supportedMimeTypes].map((type) => normaliseMediaType(type)).concat(ENCRYPTED_TYPE));

/** What names of this media type may end with, the usual one first; none where nothing is known. @param mediaType canonical */
export function extensionsOf(mediaType: string): readonly string[] {
  return (Object.hasOwn(extensions, mediaType) ? extensions[mediaType] : undefined) ?? [];
}

/** Why a file of this media type may not have this name, in a sentence for the client. @param mediaType canonical */
export function findNameFault(fileName: string, mediaType: string): string | undefined {
  if (mediaType === ENCRYPTED_TYPE && !isOpaqueName(fileName))
    return `The name of an encrypted file must not tell what is in it: send 16 to 64 random hexadecimal digits and .${ENCRYPTED_EXTENSION}. Its own name travels inside.`;
  if (extensionFits(fileName, mediaType)) return undefined;
  return `The extension .${extensionOf(fileName)} does not belong to ${mediaType}. Name the file by what it is.`;
}

/** Whether a file of this name may have this media type. A name without an extension may have any. */
function extensionFits(fileName: string, mediaType: string): boolean {
  const extension = extensionOf(fileName);
  if (extension === undefined) return true;
  const known = Object.hasOwn(extensions, mediaType) ? extensions[mediaType] : undefined;
  // Of a type without a list, only the extensions of other types are known to be wrong.
  return known ? known.includes(extension) : !typesByExtension.has(extension);
}

/**
 * Tells the media type from the first bytes.
 * @param head the first bytes, of which 64 KiB matter
 * @returns the canonical name, or undefined when the bytes show nothing known, or take too many reads to tell
 */
export async function detectMediaType(head: Uint8Array, maxReads = MAX_READS): Promise<string | undefined> {
  const start = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, HEAD_SIZE));
  if (beginsEncrypted(start)) return ENCRYPTED_TYPE;
  const type = normaliseMediaType(await detectByMagic(start, maxReads));
  if (type === 'image/heif') return generalPicture(start);
  // A zip whose entries do not tell in time what else it is.
  return type ?? (isLatePdf(start) ? 'application/pdf' : isZip(start) ? 'application/zip' : undefined);
}

/** MIAF (ISO 23000-22): a file of the general brand `mif1` names among its compatible brands what it holds. */
function generalPicture(start: Buffer): string {
  const brands = start.toString('latin1', 16, Math.min(start.readUInt32BE(0), 256)).match(/.{4}/gs) ?? [];
  if (brands.some((brand) => /^avi[fs]$/.test(brand))) return 'image/avif';
  return brands.some((brand) => /^he[iv][cxms]$/.test(brand)) ? 'image/heic' : 'image/heif';
}

/** APPNOTE.TXT 4.3.7: the signature of a local file header. */
function isZip(start: Buffer): boolean {
  return start.length >= 4 && start.readUInt32LE(0) === 0x04034b50;
}

/** A PDF with something before its header, which is not a page that a browser would show. */
function isLatePdf(start: Buffer): boolean {
  const at = start.subarray(0, PDF_HEADER_WITHIN).indexOf('%PDF-');
  return at !== -1 && !/<[a-z!?]/i.test(start.toString('latin1', 0, at));
}

async function detectByMagic(head: Uint8Array, maxReads: number): Promise<string | undefined> {
  try {
    return (await fileTypeFromTokenizer(withReadLimit(fromBuffer(head), maxReads)))?.mime;
  } catch {
    // Whatever breaks the detection is not a file of a known type.
    return undefined;
  }
}

/** A loop inside the detection would never yield to a timer, but it reads: so reads are counted. */
function withReadLimit(tokenizer: ITokenizer, maxReads: number): ITokenizer {
  let reads = 0;
  return new Proxy(tokenizer, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...parameters: unknown[]) => {
        if (++reads > maxReads) throw new Error('detection reads too often');
        return Reflect.apply(value, target, parameters);
      };
    },
    set: (target, name, value) => Reflect.set(target, name, value, target),
  });
}

export type Classification =
  | { outcome: 'accepted'; mediaType: string }
  | {
      outcome: 'refused';
      reason: 'undetected' | 'declared-mismatch' | 'extension-mismatch';
      detail: string;
      detected?: string;
    };

export interface Unclassified {
  /** The first 64 KiB, or all there is. */
  head: Uint8Array;
  fileName: string;
  /** Content-Type as the client named it. */
  declared: string | undefined;
  /** Whether bytes without a known type may be taken for what they are declared to be. */
  allowUndetected?: boolean;
}

/** Compares what the client declares with what the bytes show. */
export async function classify({
  head,
  fileName,
  declared,
  allowUndetected = false,
}: Unclassified): Promise<Classification> {
  const claim = claimedType(fileName, declared);
  // Text may begin like anything: `BM` is no picture there.
  if (claim !== undefined && isTextType(claim) && beginsLikeText(head)) return withFittingName(fileName, claim);
  const detected = await detectMediaType(head);
  const isDeclared = normaliseMediaType(declared) !== undefined;
  // Text about which nothing is said, such as LICENSE.
  if (detected === undefined && claim === undefined && !allowUndetected && isPlainText(fileName, head))
    return { outcome: 'accepted', mediaType: 'text/plain' };
  if (detected === undefined) return classifyUndetected(fileName, isDeclared ? claim : undefined, allowUndetected);
  const mediaType = claim !== undefined && alternatives(detected, head).includes(claim) ? claim : detected;
  if (isDeclared && claim !== mediaType) {
    return {
      outcome: 'refused',
      reason: 'declared-mismatch',
      detected,
      detail: `The bytes are ${mediaType}, but ${claim} was declared. Declare what the file is, or nothing.`,
    };
  }
  return withFittingName(fileName, mediaType, detected);
}

function isPlainText(fileName: string, head: Uint8Array): boolean {
  return extensionOf(fileName) === undefined && head.length > 0 && beginsLikeText(head);
}

function withFittingName(fileName: string, mediaType: string, detected?: string): Classification {
  const detail = findNameFault(fileName, mediaType);
  if (detail === undefined) return { outcome: 'accepted', mediaType };
  return {
    outcome: 'refused',
    reason: 'extension-mismatch',
    ...(detected !== undefined && { detected }),
    detail: `The bytes are ${mediaType}. ${detail}`,
  };
}

/** One magic number for all documents of the older Office. */
const compoundFiles = ['application/msword', 'application/vnd.ms-excel', 'application/vnd.ms-powerpoint'];

/** Containers whose first bytes do not tell what is in them: the client may say, and structure.ts holds it to its word. */
function alternatives(detected: string, head: Uint8Array): string[] {
  if (detected === 'video/mp4') return ['audio/mp4'];
  if (detected === 'video/webm') return ['audio/webm'];
  // A long ID3 tag hides what follows; it is mostly, but not always, MP3.
  if (detected === 'audio/mpeg' && Buffer.from(head.buffer, head.byteOffset, 3).equals(Buffer.from('ID3')))
    return ['audio/flac'];
  if (detected === 'application/x-cfb') return compoundFiles;
  // What a phone calls HEIC, another program may call HEIF, of which it is a kind.
  if (detected === 'image/heic' || detected === 'image/heif') return ['image/heic', 'image/heif'];
  if (detected === 'application/zip') return Object.keys(extensions).filter(isZipType);
  if (isZipType(detected)) return ['application/zip'];
  return [];
}

function classifyUndetected(fileName: string, claimed: string | undefined, allowed: boolean): Classification {
  const extension = extensionOf(fileName);
  const mediaType =
    claimed ?? (extension === undefined ? undefined : typesByExtension.get(extension)) ?? 'application/octet-stream';
  if (isTextType(mediaType)) {
    return {
      outcome: 'refused',
      reason: 'undetected',
      detail: `The bytes are no text in UTF-8, as those of ${mediaType} must be. Save the file in that encoding.`,
    };
  }
  // Such a file would have been recognised if it were one.
  if (!allowed || detectable.has(mediaType)) {
    return {
      outcome: 'refused',
      reason: 'undetected',
      detail: 'The bytes show no known media type. Check that the file is whole and of an allowed type.',
    };
  }
  const detail = findNameFault(fileName, mediaType);
  if (detail !== undefined) return { outcome: 'refused', reason: 'extension-mismatch', detail };
  return { outcome: 'accepted', mediaType };
}
