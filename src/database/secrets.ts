/**
 * Secrets that all instances share: random, made by a migration. That of object keys never changes. Keys that sign are
 * replaced: each is named after the moment from which it signs, `{what}/{seconds since 1970}`.
 */
import { eq, like } from 'drizzle-orm';
import type { Executor } from './client.ts';
import { build, compile, isAnyOf, type Parameter } from './statements.ts';
import { serviceSecrets } from './tables/secrets.ts';

const SECRET_BYTES = 32;

const findSecret = compile(
  'find-secret',
  (p: Parameter<'name'>) =>
    build
      .select({ value: serviceSecrets.value })
      .from(serviceSecrets)
      .where(eq(serviceSecrets.name, p('name'))),
  { named: false },
);

/** @throws Error when the secret is missing or damaged: going on with another one would be worse than not to start */
export async function readSharedSecret(executor: Executor, name: 'object-keys' | 'pseudonyms'): Promise<Buffer> {
  const { rows } = await executor.run(findSecret, { name });
  const [row] = rows;
  if (row?.value.length === SECRET_BYTES) return row.value;
  throw new Error(`the table service_secrets has no sound secret ${name}: restore it from a backup of the database`);
}

/** A key that signs. */
export interface SigningKey {
  /** Seconds since 1970: before, nothing is signed with it. */
  since: number;
  value: Buffer;
}

const findSigningKeys = compile(
  'find-signing-keys',
  (p: Parameter<'names'>) =>
    build
      .select({ name: serviceSecrets.name, value: serviceSecrets.value })
      .from(serviceSecrets)
      .where(like(serviceSecrets.name, p('names'))),
  { named: false },
);

const insertSigningKey = compile(
  'insert-signing-key',
  (p: Parameter<'name' | 'value'>) => build.insert(serviceSecrets).values({ name: p('name'), value: p('value') }),
  { named: false },
);

const deleteSigningKeys = compile(
  'delete-signing-keys',
  (p: Parameter<'names'>) => build.delete(serviceSecrets).where(isAnyOf(serviceSecrets.name, p('names'))),
  { named: false },
);

/** @returns newest first @throws Error when there is none, or one is damaged */
export async function readSigningKeys(executor: Executor, what: string): Promise<SigningKey[]> {
  const { rows } = await executor.run(findSigningKeys, { names: `${what}/%` });
  const keys = rows.map(({ name, value }) => ({ since: Number(name.slice(what.length + 1)), value }));
  if (keys.length > 0 && keys.every(({ since, value }) => Number.isSafeInteger(since) && value.length === SECRET_BYTES))
    return keys.sort((a, b) => b.since - a.since);
  throw new Error(`the table service_secrets has no sound keys ${what}: restore it from a backup of the database`);
}

export async function addSigningKey(executor: Executor, what: string, { since, value }: SigningKey): Promise<void> {
  await executor.run(insertSigningKey, { name: `${what}/${since}`, value });
}

export async function dropSigningKeys(executor: Executor, what: string, keys: readonly SigningKey[]): Promise<void> {
  await executor.run(deleteSigningKeys, { names: keys.map(({ since }) => `${what}/${since}`) });
}
