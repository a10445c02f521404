/**
 * What a stranger sees of a share: the JSON at its address, and what a page of it is made of. Whatever is not in here, such as
 * who shared it, its note and its counts, no stranger is told.
 *
 * All addresses are absolute paths without a host (`/s/...`), so that they hold wherever the share was reached; but those of
 * bytes on a page, where bytes have a host of their own (content-host.ts).
 */

/** How a file can be shown: what a page puts in its place. `file`: not at all, it is only named. */
export type SharedKind = 'picture' | 'sound' | 'video' | 'document' | 'model' | 'file';

/** A picture in several sizes. */
export interface SharedPicture {
  /** The one for whoever takes only one. */
  src: string;
  /** As the attribute of an `<img>` takes it; absent where there is one size. */
  srcset?: string;
  /** Pixels of the original, upright; absent where they are not known. */
  width?: number;
  height?: number;
}

/** One file of a share. */
export interface SharedAsset {
  id: string;
  name: string;
  mediaType: string;
  /** Bytes. */
  size: number;
  /** RFC 3339. */
  createdAt: string;
  kind: SharedKind;
  /** Seconds, of sound and video. */
  duration?: number;
  /** Of a document. */
  pages?: number;
  /** 25 bytes or so, Base64: a blurred picture until the real one is there (ThumbHash). */
  thumbHash?: string;
  /**
   * The bytes as a browser shows or plays them, with Range. Absent where it must not have them: of a picture in a share that
   * is only looked at, and of what browsers cannot show there.
   */
  contentPath?: string;
  /** The bytes as an attachment; absent in a share that is only looked at. */
  downloadPath?: string;
  /** Of pictures. */
  picture?: SharedPicture;
  /** Small picture; of pictures, videos, documents and models that have one. */
  thumbnailPath?: string;
  /** Still of a video. */
  posterPath?: string;
  /** Drawing (SVG) of a sound, and its numbers (JSON of audiowaveform). */
  waveformPicturePath?: string;
  waveformPath?: string;
  /** The file by itself, as JSON or as a page; of a share of several. */
  pagePath?: string;
}

interface Shared {
  /** Of the share itself: `/s/{token}`. */
  path: string;
}

/** A share that is open: it needs no password, or was unlocked. */
export interface OpenShareView extends Shared {
  kind: 'open';
  /** What whoever shared it calls it. */
  label?: string;
  /** `view`: it is shown and played; there are no downloads. */
  allow: 'view' | 'download';
  /** It has a password: nothing of it may stand where others look, such as Open Graph. */
  isProtected: boolean;
  /** RFC 3339; absent: until it is revoked. */
  expiresAt?: string;
  /** `asset`: exactly one file, and `assets` has it. */
  of: 'asset' | 'assets' | 'project';
  /** One page of them, in their order; may be empty. */
  assets: SharedAsset[];
  /** Of the page after this one; absent on the last. */
  nextPath?: string;
  /** The cursor in it. */
  nextCursor?: string;
  /** All files in one; absent where there is one file or there are no downloads. */
  archivePath?: string;
}

/** It needs a password. Nothing else is told. */
export interface LockedShareView extends Shared {
  kind: 'locked';
  /** Where the form goes: `POST`, field `password`. */
  unlockPath: string;
  /** Why there is a form again: the password was wrong, or there were too many tries. */
  refusal?: 'wrong-password' | 'too-many-tries';
  /** Seconds until the next try, of too many. */
  retryAfter?: number;
}

/** Unknown, revoked, expired, used up, or nothing is left in it: nobody is told which. */
export interface UnknownShareView {
  kind: 'unknown';
}

export type ShareView = OpenShareView | LockedShareView | UnknownShareView;
