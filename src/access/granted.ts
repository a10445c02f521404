/** What a credential may be used for, by the scopes that it names. */
import { type Scope, userScopes } from './rules.ts';

/** Those that give more, and take nothing away when no other is named. */
const additions: readonly Scope[] = ['act-for', 'admin'];
/** Those that reach beyond projects: a key that is for some projects has none of them. */
export const unboundScopes: readonly Scope[] = ['keys', 'audit', 'admin'];

/**
 * A credential that names none of the scopes has what every user has; so does one that names only what adds to it. Whoever
 * speaks for any user can do what users can anyway.
 */
export function grantedBy(named: readonly Scope[]): ReadonlySet<Scope> {
  const isLimited = named.some((scope) => !additions.includes(scope));
  return new Set(isLimited ? named : [...userScopes, ...named]);
}

/** @param isBound the key is for some projects only */
export function scopesOfKey(granted: ReadonlySet<Scope>, isBound: boolean): ReadonlySet<Scope> {
  return isBound ? new Set([...granted].filter((scope) => !unboundScopes.includes(scope))) : granted;
}

/** Of whoever is spoken for: what the credential may be used for, but not to speak for yet another. */
export function scopesActing(granted: ReadonlySet<Scope>): ReadonlySet<Scope> {
  return new Set([...granted].filter((scope) => scope !== 'act-for'));
}
