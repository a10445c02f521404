/** Lines of the log that come in crowds: one a second of each kind, which says how many were left out. */

const PAUSE = 1000;
/** Kinds that are known at once; then all are forgotten. */
const MAX_KINDS = 100;

export class LogThrottle {
  readonly #kinds = new Map<string, { until: number; leftOut: number }>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** @param write writes the line, with what it is to tell beside */
  log(kind: string, write: (more: { leftOut?: number }) => void): void {
    const now = this.#now();
    const last = this.#kinds.get(kind);
    if (last && last.until > now) {
      last.leftOut += 1;
      return;
    }
    if (this.#kinds.size >= MAX_KINDS) this.#kinds.clear();
    this.#kinds.set(kind, { until: now + PAUSE, leftOut: 0 });
    write(last && last.leftOut > 0 ? { leftOut: last.leftOut } : {});
  }
}
