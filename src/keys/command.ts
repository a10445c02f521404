/** What `npm run key` does: the first key is made by who runs the service. */
import { unboundScopes } from '../access/granted.ts';
import { scopes as allScopes, isScope, type Scope } from '../access/rules.ts';
import { isSubject } from '../access/subject.ts';
import { duration } from '../config.ts';
import type { Actor } from '../database/audit.ts';
import type { DatabaseHandle } from '../database/client.ts';
import { KeysRepository } from './repository.ts';

export const USAGE =
  'npm run key -- --name NAME --scope SCOPE [--scope SCOPE] [--owner NAME] [--project ID] [--expires 90d]';

const operator: Actor = { callerId: 'stowage:operator', requestId: 'command', via: null, because: null };

export interface WantedKey {
  name?: string | undefined;
  scopes: readonly string[];
  projects: readonly string[];
  owner?: string | undefined;
  /** Such as 90d; absent: until it is revoked. */
  expires?: string | undefined;
}

/** @throws Error whose message says what is wrong and what to do */
export async function makeKey(
  database: DatabaseHandle,
  wanted: WantedKey,
): Promise<{ secret: string; id: string; owner: string }> {
  const { name = '', owner = name, projects } = wanted;
  if (!isSubject(name)) throw new Error(`--name is missing or not printable: it names the key. ${USAGE}`);
  if (!isSubject(owner)) throw new Error(`--owner must be printable text. ${USAGE}`);
  const scopes = scopesIn(wanted.scopes);
  const isBound = projects.length > 0;
  const beyond = scopes.find((scope) => isBound && unboundScopes.includes(scope));
  if (beyond) throw new Error(`--scope ${beyond} reaches beyond projects: leave it out, or leave --project out.`);
  const expiresIn = secondsIn(wanted.expires);
  const key = { ownerId: owner, name, scopes, expiresIn, ...(isBound && { projects }) };
  const made = await new KeysRepository(database).create(key, operator);
  if (!made) throw new Error(`${owner} has as many keys as he may have. Revoke one that is not used.`);
  return { secret: made.secret, id: made.key.id, owner };
}

/** @throws Error when the owner has no such key */
export async function revokeKey(database: DatabaseHandle, owner: string, id: string): Promise<void> {
  const isId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id);
  if (isId && (await new KeysRepository(database).revoke(owner, id, operator, async () => {}))) return;
  throw new Error(`there is no key ${id} of the owner ${owner || 'that --owner must name'}.`);
}

function scopesIn(texts: readonly string[]): Scope[] {
  const named = texts.flatMap((text) => text.split(/[\s,]+/)).filter((text) => text !== '');
  const wrong = named.find((text) => !isScope(text));
  if (wrong !== undefined || named.length === 0)
    throw new Error(`--scope ${wrong ?? 'is missing: it'} must be one of ${allScopes.join(', ')}. ${USAGE}`);
  return [...new Set(named.filter(isScope))];
}

function secondsIn(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const life = duration.safeParse(text);
  if (life.success && life.data >= 1000) return Math.floor(life.data / 1000);
  throw new Error(`--expires must be a time such as 90d. ${USAGE}`);
}
