/**
 * How many new variants the pictures of one owner may cost in a minute, in this process. Each is a picture that is decoded, encoded, stored,
 * and removed again when there are too many of it: who goes through all widths from 1 to 4096 would have that done for ever. A bucket:
 * what was not used for a minute may be used at once, so a page full of new pictures is made without a pause.
 */
const MINUTE = 60_000;

interface Bucket {
  /** Variants that may be made at once. */
  left: number;
  /** When that was so. */
  at: number;
}

export class VariantBudget {
  readonly #usual: number;
  readonly #now: () => number;
  /** Whoever was seen longest ago comes first. */
  readonly #buckets = new Map<string, Bucket>();

  /** @param usual variants a minute, of owners whose tier does not say otherwise */
  constructor(usual: number, now = () => performance.now()) {
    this.#usual = usual;
    this.#now = now;
  }

  /** Takes one. @returns whole seconds until there is one, when there is none */
  take(ownerId: string, variantsPerMinute = this.#usual): number | undefined {
    const now = this.#now();
    const { left, at } = this.#buckets.get(ownerId) ?? { left: variantsPerMinute, at: now };
    const perMillisecond = variantsPerMinute / MINUTE;
    const there = Math.min(variantsPerMinute, left + (now - at) * perMillisecond);
    this.#forget(now);
    if (there < 1) return Math.ceil((1 - there) / perMillisecond / 1000);
    this.#buckets.delete(ownerId);
    this.#buckets.set(ownerId, { left: there - 1, at: now });
    return undefined;
  }

  /** Owners whose buckets are full again. */
  #forget(now: number): void {
    for (const [ownerId, { at }] of this.#buckets) {
      if (now - at < MINUTE) return;
      this.#buckets.delete(ownerId);
    }
  }

  /** Owners that are kept in mind. */
  get size(): number {
    return this.#buckets.size;
  }
}
