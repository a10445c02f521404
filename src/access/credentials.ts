/**
 * Whose API key or upload ticket a secret is. Each is looked up by its digest, and remembered for half a second from when
 * the database was asked: so one that was revoked, anywhere, is refused by every instance within a second, and no instance
 * has to hear of it. Many requests with one secret ask once.
 *
 * That there is none of a digest is remembered for longer: digests of 32 random bytes do not come into being later.
 */
import { and, eq, gt, isNull, or, sql } from 'drizzle-orm';
import { LRUCache } from 'lru-cache';
import type { Database } from '../database/client.ts';
import { build, compile, now, type Parameter } from '../database/statements.ts';
import { apiKeys, tickets } from '../database/tables/credentials.ts';
import type { Caller } from './caller.ts';
import { type CredentialKind, digestOf, kindOfSecret } from './credential-secret.ts';
import { grantedBy, scopesOfKey } from './granted.ts';
import { isScope } from './rules.ts';

/** Milliseconds, from when the database was asked. */
export const CREDENTIAL_TTL = 500;
const ABSENT_TTL = 60_000;
const MAX_CREDENTIALS = 10_000;

const isGood = (table: typeof apiKeys | typeof tickets) =>
  and(isNull(table.revokedAt), or(isNull(table.expiresAt), gt(table.expiresAt, now)));

const thisHour = sql`date_trunc('hour', now())`;
const isUnusedThisHour = sql`(${apiKeys.lastUsedAt} is null or ${apiKeys.lastUsedAt} < ${thisHour})`;

const findKey = compile('find-key-by-digest', (p: Parameter<'digest'>) =>
  build
    .select({
      id: apiKeys.id,
      ownerId: apiKeys.ownerId,
      scopes: apiKeys.scopes,
      projects: apiKeys.projects,
      isUnused: sql<boolean>`${isUnusedThisHour}`.as('is_unused'),
    })
    .from(apiKeys)
    .where(and(eq(apiKeys.digest, p('digest')), isGood(apiKeys))),
);

/** Once an hour for each key: so it is no row that all instances wait for. */
const noteUse = compile('note-key-use', (p: Parameter<'id'>) =>
  build
    .update(apiKeys)
    .set({ lastUsedAt: thisHour })
    .where(and(eq(apiKeys.id, p('id')), isUnusedThisHour)),
);

const findTicket = compile('find-ticket-by-digest', (p: Parameter<'digest'>) =>
  build
    .select({
      id: tickets.id,
      subject: tickets.subject,
      issuedBy: tickets.issuedBy,
      byClaim: tickets.byClaim,
      projectId: tickets.projectId,
      assetType: tickets.assetType,
      mediaTypes: tickets.mediaTypes,
      maxFileSize: tickets.maxFileSize,
      metadata: tickets.metadata,
    })
    .from(tickets)
    .where(and(eq(tickets.digest, p('digest')), isGood(tickets))),
);

interface Known {
  caller: Caller;
  /** Milliseconds of the monotonic clock. */
  until: number;
}

export interface CredentialsOptions {
  database: Database;
  onError: (message: string, error: unknown) => void;
  /** Milliseconds of a monotonic clock. */
  clock?: () => number;
}

export class Credentials {
  readonly #options: CredentialsOptions;
  readonly #clock: () => number;
  /** Kept beyond their time: whoever had a good one a moment ago is looked up before strangers are. */
  readonly #known = new LRUCache<string, Known>({ max: MAX_CREDENTIALS });
  readonly #absent = new LRUCache<string, true>({ max: MAX_CREDENTIALS, ttl: ABSENT_TTL });
  readonly #asking = new Map<string, Promise<Caller | undefined>>();

  constructor(options: CredentialsOptions) {
    this.#options = options;
    this.#clock = options.clock ?? (() => performance.now());
  }

  /** The caller, when the secret was good within the last half second. */
  recall(secret: string): Caller | undefined {
    const found = this.#known.get(nameOf(secret));
    return found && found.until > this.#clock() ? found.caller : undefined;
  }

  /** Whether the secret was good when it was last looked up here. */
  wasGood(secret: string): boolean {
    return this.#known.has(nameOf(secret));
  }

  /** @returns undefined for one that is unknown, damaged, revoked or expired */
  async find(secret: string): Promise<Caller | undefined> {
    const kind = kindOfSecret(secret);
    if (kind === undefined) return undefined;
    const name = nameOf(secret);
    if (this.#absent.has(name)) return undefined;
    const recalled = this.recall(secret);
    if (recalled) return recalled;
    const asking = this.#asking.get(name) ?? this.#ask(kind, name, digestOf(secret));
    return asking;
  }

  #ask(kind: CredentialKind, name: string, digest: Buffer): Promise<Caller | undefined> {
    const until = this.#clock() + CREDENTIAL_TTL;
    const asking = (kind === 'key' ? this.#findKey(digest) : this.#findTicket(digest))
      .then((caller) => {
        if (caller) this.#known.set(name, { caller, until });
        else {
          this.#known.delete(name);
          this.#absent.set(name, true);
        }
        return caller;
      })
      .finally(() => this.#asking.delete(name));
    this.#asking.set(name, asking);
    return asking;
  }

  async #findKey(digest: Buffer): Promise<Caller | undefined> {
    const { rows } = await this.#options.database.run(findKey, { digest });
    const [row] = rows;
    if (!row) return undefined;
    const { id, ownerId, projects, isUnused } = row;
    if (isUnused) this.#noteUse(id);
    const only = projects ? new Set(projects) : undefined;
    const scopes = scopesOfKey(grantedBy(row.scopes.filter(isScope)), only !== undefined);
    return { id: ownerId, scopes, ...(only && { only }), via: `key:${id}` };
  }

  /** Nobody waits for it. */
  #noteUse(id: string): void {
    const { database, onError } = this.#options;
    database.run(noteUse, { id }).catch((error) => onError('the use of an API key could not be noted', error));
  }

  async #findTicket(digest: Buffer): Promise<Caller | undefined> {
    const { rows } = await this.#options.database.run(findTicket, { digest });
    const [row] = rows;
    if (!row) return undefined;
    const { id, subject, issuedBy, byClaim, projectId, assetType, mediaTypes, maxFileSize, metadata } = row;
    return {
      id: subject,
      scopes: new Set(),
      ticket: id,
      via: `ticket:${id}`,
      terms: {
        ...{ issuedBy, byClaim, metadata },
        ...(projectId !== null && { projectId }),
        ...(assetType !== null && { assetType }),
        ...(mediaTypes !== null && { mediaTypes }),
        ...(maxFileSize !== null && { maxFileSize }),
      },
    };
  }
}

/** What is remembered is no secret. */
function nameOf(secret: string): string {
  return digestOf(secret).toString('base64');
}
