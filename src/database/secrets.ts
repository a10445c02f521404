/** Secrets that all instances share: random, made by the migration, and never changed. */
import { eq } from 'drizzle-orm';
import type { Executor } from './client.ts';
import { build, compile, type Parameter } from './statements.ts';
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
export async function readSharedSecret(executor: Executor, name: 'object-keys'): Promise<Buffer> {
  const { rows } = await executor.run(findSecret, { name });
  const [row] = rows;
  if (row?.value.length === SECRET_BYTES) return row.value;
  throw new Error(`the table service_secrets has no sound secret ${name}: restore it from a backup of the database`);
}
