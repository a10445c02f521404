/** What the columns of an asset hold of its processing, as JSON. Written by us alone; told to clients as it is. */

/** In the order in which they are done; a later one never runs on bytes that an earlier one has refused. */
export const stepNames = ['verify', 'scan', 'strip', 'reencode', 'facts', 'derive'] as const;
export type StepName = (typeof stepNames)[number];

/**
 * `waiting`: it has a job; where it was put off, `reason` says why, and `at` when for the first time. `done`; `failed`: it could not be done, for `reason`, and is not tried again by itself;
 * `skipped`: there was nothing to do, for `reason`.
 */
export interface StepRecord {
  state: 'waiting' | 'done' | 'failed' | 'skipped';
  /** A word of ours, such as `timed-out`. */
  reason?: string;
  /** When it ended; RFC 3339. */
  at?: string;
}
export type ProcessingRecord = { [Name in StepName]?: StepRecord };

/** What the virus scanner said. */
export interface Scan {
  verdict: 'clean' | 'infected' | 'not-scanned' | 'off';
  /** Name and version of the scanner and its signatures, as it tells them. */
  engine?: string;
  /** What was found. */
  signature?: string;
  /** RFC 3339. */
  at: string;
}

/** What was sent, where that is not what is served. */
export interface Original {
  /** Bytes. */
  size: number;
  /** Hexadecimal. */
  sha256: string;
}

/** What a file holds; which of them there are depends on its media type. */
export interface Facts {
  /** Pixels, as it is shown: after orientation. */
  width?: number;
  height?: number;
  /** EXIF orientation, 1 to 8, as it was sent. */
  orientation?: number;
  frames?: number;
  hasAlpha?: boolean;
  /** Seconds. */
  duration?: number;
  /** Bits per second. */
  bitRate?: number;
  videoCodec?: string;
  audioCodec?: string;
  channels?: number;
  /** Hertz. */
  sampleRate?: number;
  framesPerSecond?: number;
  pages?: number;
  /** Of the first page, as it is shown: points, 1/72 inch. */
  pageWidth?: number;
  pageHeight?: number;
  triangles?: number;
  meshes?: number;
  nodes?: number;
  materials?: number;
  animations?: number;
  /** Corners of the box around the model, in its own units: x, y, z. */
  boundingBox?: { min: number[]; max: number[] };
}
