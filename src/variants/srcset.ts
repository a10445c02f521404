/** The ladder of one picture, as `srcset` of an `<img>` takes it (HTML Living Standard, "Srcset attributes"). */
import { LADDER, type VariantOptions } from './options.ts';

/** A step of the ladder. */
export interface Step {
  options: VariantOptions;
  /** Pixels that the variant really has across, which is what a width descriptor must say. */
  width: number;
}

/** The original in pixels, where it is known. */
export interface OriginalSize {
  width?: number | undefined;
  height?: number | undefined;
}

/**
 * Every step up to the width that is asked for, in the shape that is asked for. Where the original is known, nothing that
 * would only be the original again.
 * @param options the largest; with a height, steps at which the shape has both sides on the ladder
 */
export function stepsOf(options: VariantOptions, original: OriginalSize): Step[] {
  const { width: largest = 0 } = options;
  const steps: Step[] = [];
  for (const width of LADDER) {
    if (width > largest) break;
    const sized = atWidth(options, width);
    if (!sized) continue;
    const shown = shownWidth(sized, original);
    if (shown === steps.at(-1)?.width) break;
    steps.push({ options: sized, width: shown });
  }
  return steps;
}

/** The same shape at another width; undefined when its height is not on the ladder. */
function atWidth(options: VariantOptions, width: number): VariantOptions | undefined {
  if (options.height === undefined || options.width === undefined) return { ...options, width };
  const height = LADDER.find((step) => step * (options.width ?? 0) === width * (options.height ?? 0));
  return height === undefined ? undefined : { ...options, width, height };
}

function shownWidth({ width = 0, height, fit }: VariantOptions, original: OriginalSize): number {
  if (fit !== 'inside' || original.width === undefined || original.height === undefined) return width;
  const scale = Math.min(1, width / original.width, height === undefined ? 1 : height / original.height);
  return Math.max(1, Math.round(original.width * scale));
}

/** @param steps addresses with their widths, all different */
export function srcsetOf(steps: readonly { url: string; width: number }[]): string {
  return steps.map(({ url, width }) => `${url} ${width}w`).join(', ');
}
