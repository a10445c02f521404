/**
 * How much a caller may do. A tier is a name and its limits, from the file that TIERS names; a caller has one by what an
 * administrator has said of him, else by the claim of his token, else the one that is called `default`.
 *
 * The administrator counts for more: he speaks of one caller, later than whoever made the token, and is heard before it
 * expires; and what he has said holds for keys, tickets and those who are spoken for, which have no token.
 *
 * What an administrator has said is remembered for half a second from when the database was asked. So a change is heard by
 * every instance within a second, and however many requests there are of a caller, there are two statements a second.
 */
import { eq } from 'drizzle-orm';
import { LRUCache } from 'lru-cache';
import { ownerAccount } from '../database/accounts.ts';
import type { Database } from '../database/client.ts';
import { build, compile, type Parameter } from '../database/statements.ts';
import { quotas } from '../database/tables/quotas.ts';
import { Problem, type ProblemOptions } from '../problems.ts';
import type { Caller } from './caller.ts';

/** In the order in which documents list them. */
export const limitNames = [
  'quota',
  'maxFileSize',
  'uploadsPerHour',
  'requestsPerMinute',
  'maxLinkTtl',
  'variantsPerMinute',
  'transcodes',
  'membersPerProject',
] as const;
export type LimitName = (typeof limitNames)[number];

/** Bytes of the quota and of a file, seconds of a link; else a number. 0 uploads or requests: no limit. */
export type TierLimits = Readonly<Record<LimitName, number>>;

/** Of whoever has no other. */
export const DEFAULT_TIER = 'default';
/** Who has given it. */
export const tierGivers = ['administrator', 'token', 'default'] as const;

export interface Tier {
  name: string;
  limits: TierLimits;
  givenBy: (typeof tierGivers)[number];
}

/** Milliseconds, from when the database was asked. */
export const TIER_TTL = 500;
const MAX_OWNERS = 2000;
/** Names that are no tiers, of which one is told once. */
const MAX_UNKNOWN = 100;

const findTier = compile('find-tier', (p: Parameter<'account'>) =>
  build
    .select({ tier: quotas.tier })
    .from(quotas)
    .where(eq(quotas.account, p('account'))),
);

interface Known {
  /** As an administrator has named it. */
  tier: string | null;
  /** Milliseconds of the monotonic clock. */
  until: number;
}

export interface TiersOptions {
  /** By name, one of them DEFAULT_TIER; absent where there is no file: then nobody has a tier. */
  limits?: ReadonlyMap<string, TierLimits> | undefined;
  database: Database;
  onError: (message: string, error: unknown) => void;
  /** Milliseconds of a monotonic clock. */
  clock?: () => number;
}

export class Tiers {
  readonly #options: TiersOptions;
  readonly #clock: () => number;
  /** Kept beyond their time, for when the database does not answer. */
  readonly #known = new LRUCache<string, Known>({ max: MAX_OWNERS });
  readonly #asking = new Map<string, Promise<string | null>>();
  readonly #unknown = new Set<string>();

  constructor(options: TiersOptions) {
    this.#options = options;
    this.#clock = options.clock ?? (() => performance.now());
  }

  /** Names of all tiers; none where there is no file. */
  get names(): string[] {
    return [...(this.#options.limits?.keys() ?? [])];
  }

  /** Bytes, by the name of the tier; absent where there is no file. */
  get quotas(): Readonly<Record<string, number>> | undefined {
    const { limits } = this.#options;
    return limits && Object.fromEntries([...limits].map(([name, { quota }]) => [name, quota]));
  }

  /** What a caller has; undefined where there are no tiers. */
  async of({ id, claimedTier }: Pick<Caller, 'id' | 'claimedTier'>): Promise<Tier | undefined> {
    if (!this.#options.limits) return undefined;
    return this.decide(await this.#given(id), claimedTier);
  }

  /** What an owner has who does not ask himself; if he asks, that is what he has. */
  async ofOwner(ownerId: string, caller?: Pick<Caller, 'id' | 'tier'>): Promise<Tier | undefined> {
    return caller?.id === ownerId && caller.tier ? caller.tier : this.of({ id: ownerId });
  }

  /** @param given by an administrator */
  decide(given: string | null, claimed?: string): Tier | undefined {
    const { limits } = this.#options;
    if (!limits) return undefined;
    return (
      this.#named(given ?? undefined, 'administrator') ??
      this.#named(claimed, 'token') ??
      this.#named(DEFAULT_TIER, 'default')
    );
  }

  /** A name that no tier has, because the file or the issuer has changed, says nothing. */
  #named(name: string | undefined, givenBy: Tier['givenBy']): Tier | undefined {
    if (name === undefined) return undefined;
    const limits = this.#options.limits?.get(name);
    if (limits) return { name, limits, givenBy };
    if (!this.#unknown.has(name) && this.#unknown.size < MAX_UNKNOWN) {
      this.#unknown.add(name);
      const where = givenBy === 'token' ? 'a token names' : 'an owner was given';
      this.#options.onError(`${where} the tier ${JSON.stringify(name)}, which is not in the file TIERS`, undefined);
    }
    return undefined;
  }

  async #given(ownerId: string): Promise<string | null> {
    const known = this.#known.get(ownerId);
    if (known && known.until > this.#clock()) return known.tier;
    return this.#asking.get(ownerId) ?? this.#ask(ownerId, known);
  }

  /** Whoever cannot be looked up has what he had: what he asks for needs the database anyway, or can do without. */
  #ask(ownerId: string, before: Known | undefined): Promise<string | null> {
    const { database, onError } = this.#options;
    const until = this.#clock() + TIER_TTL;
    const asking = database
      .run(findTier, { account: ownerAccount(ownerId) })
      .then(({ rows }) => {
        const tier = rows[0]?.tier ?? null;
        this.#known.set(ownerId, { tier, until });
        return tier;
      })
      .catch((error) => {
        onError('the tier of a caller could not be looked up', error);
        const tier = before?.tier ?? null;
        // His next requests do not wait for that, too.
        this.#known.set(ownerId, { tier, until: this.#clock() + TIER_TTL });
        return tier;
      })
      .finally(() => this.#asking.delete(ownerId));
    this.#asking.set(ownerId, asking);
    return asking;
  }
}

/** What a problem says of a limit that is one of a tier. */
export function limitedBy(
  tier: Pick<Tier, 'name'> | undefined,
  limit: LimitName,
): Pick<ProblemOptions, 'limit' | 'tier'> {
  return tier ? { limit, tier: tier.name } : {};
}

/** For the end of a detail. */
export function tierWords(tier: Pick<Tier, 'name'> | undefined): string {
  return tier ? ` That is the limit of the tier ${tier.name}.` : '';
}

/**
 * Seconds that a link lives.
 * @param asked by the client, if at all
 * @param usual where he has not asked
 * @throws Problem invalid-parameter, when it is more than the tier allows
 */
export function linkLifeOf({ tier }: Pick<Caller, 'tier'>, asked: number | undefined, usual: number): number {
  const most = tier?.limits.maxLinkTtl ?? Number.POSITIVE_INFINITY;
  if (asked === undefined) return Math.min(usual, most);
  if (asked <= most) return asked;
  const detail = `must be at most ${most}`;
  throw new Problem('invalid-parameter', {
    detail: `expiresIn ${detail}.${tierWords(tier)}`,
    errors: [{ parameter: 'expiresIn', detail }],
    ...limitedBy(tier, 'maxLinkTtl'),
  });
}

/** What upload policies are bounded by. */
export function sizeBoundOf({ tier }: Pick<Caller, 'tier'>): { maxFileSize: number; tier: string } | undefined {
  return tier && { maxFileSize: tier.limits.maxFileSize, tier: tier.name };
}
