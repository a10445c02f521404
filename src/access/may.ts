/** The one decision about access. Every route comes here, by `may` itself or by a statement that selects by `roleIn`. */
import { Problem } from '../problems.ts';
import type { Caller } from './caller.ts';
import { type Action, allows, type Role, rules } from './rules.ts';

/** `hidden`: for this caller it does not exist, and nothing may tell it from what does not. */
export type Verdict = 'yes' | 'no' | 'hidden';

/** What is acted on. The role is what the caller is to it, as statements tell; absent where he is nothing to it. */
export interface Resource {
  role?: Role | undefined;
}

/** What a ticket may do with what was uploaded by it, and with its project. */
const ticketActions: readonly Action[] = ['asset.read', 'asset.upload'];

export function may(caller: Pick<Caller, 'scopes' | 'ticket'>, action: Action, { role }: Resource): Verdict {
  if (role === undefined) return 'hidden';
  return hasScope(caller, action) && allows(role, action) ? 'yes' : 'no';
}

/** Whether an upload ticket may do this to what is its own; of what it may not, it is told at the door. */
export function isForTickets(action: Action | undefined): boolean {
  return action !== undefined && ticketActions.includes(action);
}

/** Whether the credential may be used for this at all, whatever it is done to. */
export function hasScope({ scopes, ticket }: Pick<Caller, 'scopes' | 'ticket'>, action: Action): boolean {
  if (ticket !== undefined) return isForTickets(action);
  return scopes.has(rules[action].scope) || scopes.has('admin');
}

/** Where the action is known only from what is asked. @throws Problem missing-scope */
export function requireScope(caller: Pick<Caller, 'scopes' | 'ticket'>, action: Action): void {
  if (hasScope(caller, action)) return;
  const { scope } = rules[action];
  throw new Problem('missing-scope', {
    detail: `This needs the scope ${scope}.`,
    headers: { 'www-authenticate': `Bearer realm="stowage", error="insufficient_scope", scope="${scope}"` },
  });
}

/** @throws Problem forbidden when the resource is there for the caller, and he may not do this to it */
export function requireMay(caller: Pick<Caller, 'scopes' | 'ticket'>, action: Action, resource: Resource): void {
  if (may(caller, action, resource) === 'yes') return;
  throw new Problem('forbidden', { detail: reasonOf(caller, action, resource) });
}

function reasonOf(caller: Pick<Caller, 'scopes' | 'ticket'>, action: Action, { role }: Resource): string {
  const { least, scope } = rules[action];
  if (caller.ticket !== undefined) return 'An upload ticket is for uploads and what became of them.';
  if (!hasScope(caller, action)) return `This needs the scope ${scope}.`;
  return `This needs the role ${least}; you have ${role ?? 'none'}. Ask a manager of the project.`;
}
