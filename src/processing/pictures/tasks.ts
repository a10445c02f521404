/** What the service asks of the process that reads pictures, and what that answers. */

/** Path of a file, the bytes of a small one, or pixels that another tool made. */
export type PictureSource = string | Uint8Array | Pixels;

/** Rows from the top, without gaps; each pixel has red, green and blue, and alpha when there are four channels. */
export interface Pixels {
  pixels: Uint8Array;
  width: number;
  height: number;
  channels: 3 | 4;
}

export interface PictureFacts {
  format: 'jpeg' | 'png' | 'webp' | 'gif' | 'avif' | 'heic' | 'raw';
  /** As it is shown, upright. */
  width: number;
  height: number;
  /** As EXIF numbers them, 1 to 8; 1 is upright. */
  orientation: number;
  /** 1 unless it moves. */
  frames: number;
  hasAlpha: boolean;
}

/** The picture fits into it; it is never enlarged. */
export interface PreviewSize {
  width: number;
  height: number;
  /** WebP when absent. */
  format?: Variant['format'] | undefined;
}

/** Why there is none: it would be larger than anything may be that is neither the original nor a transcode. */
export const TOO_LARGE = 'the picture would be larger than 4 MiB';

export interface EncodedPicture {
  width: number;
  height: number;
  mediaType: string;
  bytes: Buffer;
}

export interface Previews {
  facts: PictureFacts;
  /** In the order of the sizes. */
  previews: EncodedPicture[];
  /** In base64, see https://evanw.github.io/thumbhash/. */
  thumbHash: string;
}

/** What a picture is, and its previews where they were made: they are left out when they would take long. */
export interface UnderstoodPicture {
  facts: PictureFacts;
  previews?: Omit<Previews, 'facts'>;
}

export interface Variant {
  /** Pixels; one of both may be absent. */
  width?: number;
  height?: number;
  /**
   * `cover` fills the size and crops what is beyond, `contain` fills it with borders, both exactly of the size; `inside` fits
   * into it and never enlarges.
   */
  fit: 'cover' | 'contain' | 'inside';
  /** What `cover` keeps and where `contain` puts the picture. */
  position?: 'centre' | 'top' | 'right' | 'bottom' | 'left' | 'entropy' | 'attention';
  /** 1 to 100; of PNG it says nothing. */
  quality: number;
  format: 'webp' | 'avif' | 'jpeg' | 'png';
}

export interface Reencoding {
  /** Pixels; absent for no bound. */
  maxWidth?: number;
  maxHeight?: number;
  /** 1 to 100. */
  quality: number;
  format: 'keep' | 'webp' | 'jpeg' | 'avif';
}

/** A file in the output directory. */
export interface ReencodedPicture {
  /** Of the file. */
  name: string;
  width: number;
  height: number;
  mediaType: string;
  size: number;
}

export type PictureTask =
  | { kind: 'facts'; source: PictureSource }
  | { kind: 'previews'; source: PictureSource; sizes: readonly PreviewSize[] }
  | { kind: 'understand'; source: PictureSource; sizes: readonly PreviewSize[] }
  | { kind: 'variant'; source: PictureSource; variant: Variant }
  | { kind: 'reencode'; source: PictureSource; reencoding: Reencoding };
