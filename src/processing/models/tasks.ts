/** What the service asks of the process that reads models. */

/** Pixels. */
export interface Frame {
  width: number;
  height: number;
}

export type ModelTask = { kind: 'facts' } | { kind: 'picture'; frame: Frame };

/** RGB as sRGB, one byte each, rows from the top. */
export interface Picture extends Frame {
  pixels: Uint8Array;
}
