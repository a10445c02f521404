/** Who calls, and by what right: made of a token, an API key or a ticket, and asked by `may`. */
import type { Actor } from '../database/audit.ts';
import { type MemberRole, type Scope, userScopes } from './rules.ts';
import type { Tier } from './tiers.ts';

/** The authenticated subject. What it uploads outside projects is its own: `id` is the `ownerId` of those assets. */
export interface Caller {
  id: string;
  /** What the credential may be used for. */
  scopes: ReadonlySet<Scope>;
  /** Roles that the token itself says, by project; believed without any row. */
  projects?: ReadonlyMap<string, MemberRole>;
  /** Name of the tier that the token itself says. */
  claimedTier?: string;
  /** How much he may do; absent where there are no tiers. */
  tier?: Tier;
  /** Of a key that is for some projects only: nothing else is there for it, assets without a project included. */
  only?: ReadonlySet<string>;
  /** Of an upload ticket: it sees what was uploaded with it, and nothing else. */
  ticket?: string;
  /** What may be uploaded with it, and where it goes. */
  terms?: TicketTerms;
  /** The credential in whose name it is that this subject speaks, for the audit trail: `key:{id}`, `ticket:{id}`. */
  via?: string;
  /** Why he asks, in his words: kept with what he changes. By it, any asset is there for an administrator. */
  reason?: string;
}

/** What an upload ticket says of each file; how many there may be is counted where an upload begins. */
export interface TicketTerms {
  issuedBy: string;
  /** The issuer may upload into the project by what his token said, which no row tells. */
  byClaim: boolean;
  projectId?: string;
  /** Name of the only upload policy. */
  assetType?: string;
  /** The only media types, normalised. */
  mediaTypes?: readonly string[];
  /** Bytes of one file. */
  maxFileSize?: number;
  /** Of each asset, whatever the page says. */
  metadata: Readonly<Record<string, string>>;
}

/** A user with what every user has, and no role in any project but those that members of it have given him. */
export function userNamed(id: string): Caller {
  return { id, scopes: new Set(userScopes) };
}

/** Who acts in this request, for the audit trail. */
export function actorOf({ caller, id }: { caller: Pick<Caller, 'id' | 'via' | 'reason'>; id: string }): Actor {
  return { callerId: caller.id, requestId: id, via: caller.via ?? null, because: caller.reason ?? null };
}

/**
 * Under whose name answers to Idempotency-Keys are kept. Those of a ticket or a key are its own: another credential of the
 * same subject could not have made them, perhaps, so it must not read them.
 */
export function answersOf({ id, ticket, via }: Pick<Caller, 'id' | 'ticket' | 'via'>): string {
  if (ticket !== undefined) return `ticket:${ticket}`;
  // By the length it is told where one name ends and the other begins.
  if (via !== undefined) return `via:${via.length}:${via}:${id}`;
  return /^(ticket|via|user):/.test(id) ? `user:${id}` : id;
}
