/** Who calls, and by what right: made of a token, an API key or a ticket, and asked by `may`. */
import type { Actor } from '../database/audit.ts';
import { type MemberRole, type Scope, userScopes } from './rules.ts';

/** The authenticated subject. What it uploads outside projects is its own: `id` is the `ownerId` of those assets. */
export interface Caller {
  id: string;
  /** What the credential may be used for. */
  scopes: ReadonlySet<Scope>;
  /** Roles that the token itself says, by project; believed without any row. */
  projects?: ReadonlyMap<string, MemberRole>;
  /** Of a key that is for some projects only: nothing else is there for it, assets without a project included. */
  only?: ReadonlySet<string>;
  /** Of an upload ticket: it sees what was uploaded with it, and nothing else. */
  ticket?: string;
  /** The credential in whose name it is that this subject speaks, for the audit trail: `key:{id}`, `ticket:{id}`. */
  via?: string;
  /** Why he asks, in his words: kept with what he changes. By it, any asset is there for an administrator. */
  reason?: string;
}

/** A user with what every user has, and no role in any project but those that members of it have given him. */
export function userNamed(id: string): Caller {
  return { id, scopes: new Set(userScopes) };
}

/** Who acts in this request, for the audit trail. */
export function actorOf({ caller, id }: { caller: Pick<Caller, 'id' | 'via' | 'reason'>; id: string }): Actor {
  return { callerId: caller.id, requestId: id, via: caller.via ?? null, because: caller.reason ?? null };
}
