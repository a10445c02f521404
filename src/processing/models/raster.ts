/** Which pixels a triangle covers. */
import { tooLarge } from './refusal.ts';

/**
 * Rows and pixels that are looked at for one picture: a few seconds. A scene of ordinary size needs a hundredth of it;
 * more is needed only by thousands of layers over each other.
 */
const MAX_WORK = 600_000_000;
/** Of a pixel: neighbours must not leave a gap where they meet. */
const OVERLAP = 1e-4;

/** @param b0 @param b1 shares of the first two corners */
export type Visit = (x: number, y: number, b0: number, b1: number) => void;

export class Raster {
  readonly width: number;
  readonly height: number;
  #work = 0;

  constructor(width: number, height: number) {
    this.width = width;
    this.height = height;
  }

  /** Visits each pixel whose centre lies in the triangle. @throws ModelRefused when the scene takes too long */
  cover(ax: number, ay: number, bx: number, by: number, cx: number, cy: number, visit: Visit): void {
    const area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
    if (!(Math.abs(area) > 1e-9)) return;
    // How the shares change from a pixel to the next one in its row.
    const step0 = (by - cy) / area;
    const step1 = (cy - ay) / area;
    const step2 = -step0 - step1;
    const first = Math.max(0, Math.ceil(Math.min(ay, by, cy) - 0.5 - OVERLAP));
    const last = Math.min(this.height - 1, Math.floor(Math.max(ay, by, cy) - 0.5 + OVERLAP));
    const most = Math.min(this.width - 1, Math.floor(Math.max(ax, bx, cx) - 0.5 + OVERLAP));
    const least = Math.max(0, Math.ceil(Math.min(ax, bx, cx) - 0.5 - OVERLAP));
    if (least > most) return;
    for (let y = first; y <= last; y++) {
      const py = y + 0.5;
      const row0 = ((bx - 0.5) * (cy - py) - (by - py) * (cx - 0.5)) / area;
      const row1 = ((cx - 0.5) * (ay - py) - (cy - py) * (ax - 0.5)) / area;
      const row2 = 1 - row0 - row1;
      const from = Math.max(least, begin(row0, step0), begin(row1, step1), begin(row2, step2));
      const to = Math.min(most, end(row0, step0), end(row1, step1), end(row2, step2));
      this.#work += 2 + Math.max(0, to - from);
      if (this.#work > MAX_WORK) throw tooLarge('the scene takes too long to draw');
      for (let x = Math.ceil(from - OVERLAP); x <= to + OVERLAP; x++) visit(x, y, row0 + x * step0, row1 + x * step1);
    }
  }
}

/** The first pixel of a row at which a share that changes by `step` is not negative. */
function begin(atZero: number, step: number): number {
  if (step > 0) return -atZero / step;
  return step === 0 && atZero < 0 ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY;
}

/** The last one. */
function end(atZero: number, step: number): number {
  return step < 0 ? -atZero / step : Number.POSITIVE_INFINITY;
}
