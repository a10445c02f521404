/**
 * How much an account may store: what it was given itself, else what the tier has that an administrator has given its owner,
 * else what the caller's token or the default says. One expression for all statements that grant, so a changed tier counts
 * from the next one on, on every instance.
 */
import { type SQL, sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import type { Core } from '../core.ts';
import { ownerAccount } from '../database/accounts.ts';
import type { Parameter } from '../database/statements.ts';
import { quotas } from '../database/tables/quotas.ts';

/** Parameters of statements that grant. */
export type LimitParameter = 'defaultLimit' | 'tierQuotas';
/** Their values. */
export interface LimitValues {
  /** Bytes, where neither the account nor an administrator's tier says how many. */
  defaultLimit: number;
  /** Bytes by the name of the tier; null where there are none. */
  tierQuotas: Readonly<Record<string, number>> | null;
}

/** Bytes. */
export function limitOf(p: Parameter<LimitParameter>): SQL {
  return sql`coalesce(${quotas.limitBytes}, (${p('tierQuotas')}::jsonb ->> ${quotas.tier})::bigint, ${p('defaultLimit')}::bigint)`;
}

/** For accounts of which nothing is known. */
export function limitValues({ config, tiers }: Pick<Core, 'config' | 'tiers'>): LimitValues {
  return {
    defaultLimit: tiers.decide(null)?.limits.quota ?? config.DEFAULT_QUOTA,
    tierQuotas: tiers.quotas ?? null,
  };
}

/** The same for an account that may be the caller's own. */
export function limitValuesFor(
  values: LimitValues,
  account: string,
  { id, tier }: Pick<Caller, 'id' | 'tier'>,
): LimitValues {
  return tier && account === ownerAccount(id) ? { ...values, defaultLimit: tier.limits.quota } : values;
}

/** Bytes of an account that was given none itself; as `limitOf` has it. @param tier given by an administrator */
export function limitWithout(tier: string | null, { defaultLimit, tierQuotas }: LimitValues): bigint {
  return BigInt((tier === null ? undefined : tierQuotas?.[tier]) ?? defaultLimit);
}
