/**
 * Links are the same for everybody who asks within a window, so that browsers and caches know again what they have: the time
 * from which a link counts is rounded down to half of its life, counted from 1970, and so is its end. At least half of the life
 * that was asked for is always left, and never more than all of it.
 */

/** Seconds; times of links are whole seconds, so a shorter life could be over before the link is read. */
const SHORTEST_LIFE = 2;

export interface LinkWindow {
  /** The beginning of the window, which may be long ago. */
  signedAt: Date;
  /** Seconds from then on. */
  life: number;
  expiresAt: Date;
}

/** @param life seconds */
export function linkWindow(now: Date, life: number): LinkWindow {
  const seconds = Math.max(SHORTEST_LIFE, life);
  const step = Math.floor(seconds / 2);
  const since = Math.floor(now.getTime() / 1000 / step) * step;
  return { signedAt: new Date(since * 1000), life: seconds, expiresAt: new Date((since + seconds) * 1000) };
}
