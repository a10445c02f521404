/** The mirrors that the database knows, which every stored object is copied to: those of the configuration, and former ones. */
import { eq } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, type Parameter } from '../database/statements.ts';
import { mirrors } from '../database/tables/mirrors.ts';
import type { Mirror } from '../storage/mirror.ts';

const listMirrors = compile('list-mirrors', () => build.select().from(mirrors).orderBy(mirrors.name));
const addMirror = compile(
  'add-mirror',
  (p: Parameter<'name' | 'place'>) =>
    build
      .insert(mirrors)
      .values({ name: p('name'), place: p('place') })
      .onConflictDoNothing(),
  { named: false },
);
const findPlace = compile(
  'find-place-of-mirror',
  (p: Parameter<'name'>) =>
    build
      .select({ place: mirrors.place })
      .from(mirrors)
      .where(eq(mirrors.name, p('name'))),
  { named: false },
);

export interface KnownMirror {
  name: string;
  place: string;
  createdAt: Date;
}

export async function knownMirrors(executor: Executor): Promise<KnownMirror[]> {
  return (await executor.run(listMirrors, {})).rows;
}

/**
 * Writes down the mirrors of the configuration: from here on, whatever is stored is to be copied to them.
 * @throws Error when one of them was at another place before: the table says that the copies are there
 */
export async function makeKnown(executor: Executor, configured: readonly Mirror[]): Promise<void> {
  for (const { name, place } of configured) {
    await executor.run(addMirror, { name, place });
    const { rows } = await executor.run(findPlace, { name });
    if (rows[0]?.place === place) continue;
    throw new Error(
      `the mirror ${name} was at ${rows[0]?.place} and is now at ${place}: give the new place another name, or have the old one forgotten (DELETE /v1/admin/mirrors/${name})`,
    );
  }
}
