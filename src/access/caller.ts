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
  /** The administrator's reason, by which any asset is there for him. */
  reason?: string;
}

/** A user with what every user has, and no role in any project but those that members of it have given him. */
export function userNamed(id: string): Caller {
  return { id, scopes: new Set(userScopes) };
}

/** Who acts in this request, for the audit trail. */
export function actorOf(request: { caller: Pick<Caller, 'id' | 'via'>; id: string }): Actor {
  return { callerId: request.caller.id, requestId: request.id, via: request.caller.via ?? null };
}
