/**
 * What pages show, as the rooms that have it hand it over. A view of a share (shares/view.ts) and one of a public gallery
 * both are such a view. Addresses are paths of this service, or begin with http; whatever else is in here is shown as
 * text, whoever wrote it.
 */

export interface PagePicture {
  /** The one for whoever takes only one. */
  src: string;
  /** Of an `<img>`: `PATH 256w, PATH 384w`. */
  srcset?: string;
  /** Pixels. With both, the page does not move when the picture comes. */
  width?: number;
  height?: number;
}

export interface PageFile {
  name: string;
  mediaType: string;
  /** Bytes. */
  size: number;
  /** What stands in the place of the file. */
  kind: 'picture' | 'sound' | 'video' | 'document' | 'model' | 'file';
  /** Seconds. */
  duration?: number;
  /** Of a document. */
  pages?: number;
  /** The bytes as a browser shows or plays them; absent where it must not have them. */
  contentPath?: string;
  /** The bytes as an attachment; absent where it may only be looked at. */
  downloadPath?: string;
  /** Of pictures. */
  picture?: PagePicture;
  /** Small picture. */
  thumbnailPath?: string;
  /** Still of a video. */
  posterPath?: string;
  /** Drawing of a sound. */
  waveformPicturePath?: string;
  /** The page of this file, of a gallery that has one for each. */
  pagePath?: string;
}

/** Files to be seen. */
export interface OpenView {
  kind: 'open';
  /** Of the whole: `/s/{token}`. */
  path: string;
  /** Given by whoever shares; shown to everybody who may see the files. */
  label?: string;
  allow: 'view' | 'download';
  /** Nothing of it may stand where others look, such as Open Graph. */
  isProtected: boolean;
  /** How often its bytes are sent is counted and limited: players ask for none before somebody plays them. */
  isCounted?: boolean;
  /** RFC 3339. */
  expiresAt?: string;
  /** `asset`: exactly one file; all others are galleries. */
  of: 'asset' | 'assets' | 'project';
  /** One page of them. */
  assets: readonly PageFile[];
  /** Of all pages, where it is known. */
  count?: number;
  /** Of the page after this one. */
  nextPath?: string;
  /** This is not the first page. */
  isContinued?: boolean;
  /** All files in one. */
  archivePath?: string;
}

/** One file of a gallery, on a page of its own. */
export interface SingleView extends Omit<OpenView, 'of' | 'assets' | 'nextPath'> {
  file: PageFile;
  previousPath?: string;
  nextPath?: string;
}

/** It needs a password. */
export interface LockedView {
  kind: 'locked';
  /** Takes the form by POST: `application/x-www-form-urlencoded` with the field `password`. */
  unlockPath: string;
  /** Why there is a form again. */
  refusal?: 'wrong-password' | 'too-many-tries';
  /** Seconds until the next try. */
  retryAfter?: number;
}

/** Unknown, revoked, expired, used up: nobody is told which. */
export interface UnknownView {
  kind: 'unknown';
}

export type PageView = OpenView | LockedView | UnknownView;

export interface ProblemView {
  /** HTTP status. */
  status: number;
  /** Seconds. */
  retryAfter?: number | undefined;
  requestId: string;
}
