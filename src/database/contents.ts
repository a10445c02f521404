/**
 * What a database of ours holds, as the catalog tells it: what a backup takes, and what a restore puts back. The tables
 * themselves are those of the migrations, so only rows are taken. So they go into any Postgres that the service takes, of a
 * lower version too, and no program of the server is needed.
 */
import { and, eq, exists, inArray, isNotNull, not, type SQL, sql } from 'drizzle-orm';
import { alias } from 'drizzle-orm/pg-core';
import type { Columns } from './bulk.ts';
import type { Executor } from './client.ts';
import { build, compile, nowhere, type Parameter } from './statements.ts';
import { pgAttributes, pgClasses, pgConstraints, pgDepend, pgNamespaces, pgSequences } from './tables/catalogs.ts';

/** Where the migrations make tables. */
const OURS = 'public';
const once = { named: false };

const isOfExtension = exists(
  build
    .select({ object: pgDepend.object })
    .from(pgDepend)
    .where(and(eq(pgDepend.object, pgClasses.oid), eq(pgDepend.kind, 'e'))),
);
const inSchema = eq(pgNamespaces.oid, pgClasses.namespace);

const findTables = compile(
  'list-tables-of-backup',
  () =>
    build
      .select({
        table: sql<string>`${pgClasses.name}`,
        columns: sql<string[]>`array(${build
          .select({ name: sql`${pgAttributes.name}::text` })
          .from(pgAttributes)
          .where(
            and(
              eq(pgAttributes.relation, pgClasses.oid),
              sql`${pgAttributes.number} > 0`,
              not(pgAttributes.isDropped),
              eq(pgAttributes.generated, ''),
            ),
          )
          .orderBy(pgAttributes.number)})`,
      })
      .from(pgClasses)
      .innerJoin(pgNamespaces, inSchema)
      .where(
        and(
          eq(pgNamespaces.name, OURS),
          inArray(pgClasses.kind, ['r', 'p']),
          // What is unlogged is of use for hours, and empty after a crash.
          eq(pgClasses.persistence, 'p'),
          not(pgClasses.isPartition),
          not(isOfExtension),
        ),
      )
      .orderBy(pgClasses.name),
  once,
);
const referenced = alias(pgClasses, 'referenced');
const findReferences = compile(
  'list-references-of-backup',
  () =>
    build
      .selectDistinct({ table: sql<string>`${pgClasses.name}`, references: sql<string>`${referenced.name}` })
      .from(pgConstraints)
      .innerJoin(pgClasses, eq(pgClasses.oid, pgConstraints.relation))
      .innerJoin(referenced, eq(referenced.oid, pgConstraints.references))
      .where(eq(pgConstraints.kind, 'f')),
  once,
);
const findSequences = compile(
  'list-sequences-of-backup',
  () =>
    build
      .select({ name: sql<string>`${pgSequences.name}`, value: sql<string>`${pgSequences.lastValue}::text` })
      .from(pgSequences)
      .where(and(eq(pgSequences.schema, OURS), isNotNull(pgSequences.lastValue))),
  once,
);
const setSequence = compile(
  'set-sequence',
  (p: Parameter<'name' | 'value'>) =>
    build
      .select({
        value: sql`setval(format('%I.%I', ${OURS}::text, ${p('name')}::text)::regclass, ${p('value')}::bigint)`,
      })
      .from(nowhere),
  once,
);
const countRelations = compile(
  'count-relations',
  () =>
    build
      .select({ count: sql`count(*)`.mapWith(Number) })
      .from(pgClasses)
      .innerJoin(pgNamespaces, inSchema)
      .where(
        and(
          // Schemas of the server itself, temporary ones among them.
          sql`${pgNamespaces.name} !~ '^pg_' and ${pgNamespaces.name} <> 'information_schema'`,
          inArray(pgClasses.kind, ['r', 'p', 'v', 'm', 'S', 'f']),
          not(isOfExtension),
        ),
      ),
  once,
);

/** The value that a sequence has given last. */
export interface SequenceValue {
  name: string;
  value: string;
}

/** Whether there is nothing in the database but what extensions have made. */
export async function isEmptyDatabase(executor: Executor): Promise<boolean> {
  const { rows } = await executor.run(countRelations, {});
  return rows[0]?.count === 0;
}

/** The tables whose rows a backup takes. Each comes after those that it refers to. */
export async function listTables(executor: Executor): Promise<Columns[]> {
  const { rows: tables } = await executor.run(findTables, {});
  const { rows: references } = await executor.run(findReferences, {});
  const byName = new Map(tables.map((each) => [each.table, each]));
  const sorted = new Set<Columns>();
  const visit = (table: Columns, under: readonly string[]) => {
    if (sorted.has(table) || under.includes(table.table)) return;
    for (const { table: from, references: to } of references) {
      const target = byName.get(to);
      if (from === table.table && target) visit(target, [...under, from]);
    }
    sorted.add(table);
  };
  for (const table of tables) visit(table, []);
  return [...sorted];
}

/** Read last: a sequence belongs to no snapshot, so it tells at least what the rows before it need. */
export async function listSequences(executor: Executor): Promise<SequenceValue[]> {
  return (await executor.run(findSequences, {})).rows;
}

export async function setSequences(executor: Executor, sequences: readonly SequenceValue[]): Promise<void> {
  for (const sequence of sequences) await executor.run(setSequence, { ...sequence });
}

/**
 * Runs `load`, which fills the tables, while their triggers are off and their rows gone: what migrations have put into new
 * tables, a backup has too, and what triggers would count, is counted in it already. In a transaction.
 * @param tables as `listTables` has them
 */
export async function refill(executor: Executor, tables: readonly Columns[], load: () => Promise<void>): Promise<void> {
  const run = (statement: SQL) =>
    executor.run(
      compile('refill', () => statement, once),
      {},
    );
  for (const table of tables) await run(sql`alter table ${nameOf(table)} disable trigger user`);
  for (const table of tables.toReversed()) await run(sql`delete from ${nameOf(table)}`);
  await load();
  for (const table of tables) await run(sql`alter table ${nameOf(table)} enable trigger user`);
}

/** For `BulkConnection.copyOut`: all rows of a table, those of its partitions too. */
export function selectRows(table: Columns): string {
  const columns = sql.join(
    table.columns.map((name) => sql.identifier(name)),
    sql`, `,
  );
  return compile('select-rows', () => sql`select ${columns} from ${nameOf(table)}`, once).text;
}

function nameOf({ table }: Columns): SQL {
  return sql`${sql.identifier(OURS)}.${sql.identifier(table)}`;
}
