/**
 * Which share a token is of. Each is looked up by the digest of its token, and remembered for half a second from when the
 * database was asked: so one that was revoked, anywhere, is unknown to every instance within a second, and no instance has to
 * hear of it. That there is none is remembered as long, so that nobody can tell by the time of an answer why there is none.
 * Many requests for one share ask once.
 */
import { LRUCache } from 'lru-cache';
import type { FoundShare, ShareReach } from './reach.ts';
import { digestOf, isToken } from './token.ts';

/** Milliseconds, from when the database was asked. */
export const SHARE_TTL = 500;
const MAX_SHARES = 2000;

interface Known {
  share: FoundShare | undefined;
  /** Milliseconds of the monotonic clock. */
  until: number;
}

export class KnownShares {
  readonly #reach: Pick<ShareReach, 'find'>;
  readonly #clock: () => number;
  readonly #known = new LRUCache<string, Known>({ max: MAX_SHARES });
  readonly #asking = new Map<string, Promise<FoundShare | undefined>>();

  /** @param clock milliseconds of a monotonic clock */
  constructor(reach: Pick<ShareReach, 'find'>, clock: () => number = () => performance.now()) {
    this.#reach = reach;
    this.#clock = clock;
  }

  async find(token: string): Promise<FoundShare | undefined> {
    if (!isToken(token)) return undefined;
    const digest = digestOf(token);
    // What is remembered is no token.
    const name = digest.toString('base64');
    const known = this.#known.get(name);
    if (known && known.until > this.#clock()) return known.share;
    return this.#asking.get(name) ?? this.#ask(name, digest);
  }

  /** The next one asks the database: the share is not as it was found. */
  forget(token: string): void {
    this.#known.delete(digestOf(token).toString('base64'));
  }

  #ask(name: string, digest: Buffer): Promise<FoundShare | undefined> {
    const until = this.#clock() + SHARE_TTL;
    const asking = this.#reach
      .find(digest)
      .then((share) => {
        this.#known.set(name, { share, until });
        return share;
      })
      .finally(() => this.#asking.delete(name));
    this.#asking.set(name, asking);
    return asking;
  }
}
