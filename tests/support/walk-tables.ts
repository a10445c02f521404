/** Where a text occurs in the whole database, whatever tables it has. */
import type { TestService } from './service.ts';

/**
 * Looks into every row of every table, of features and of pg-boss, as text.
 * @returns the tables that have it somewhere, partitions by the name of their table, with how many rows
 */
export async function tablesNaming(service: TestService, text: string): Promise<Record<string, number>> {
  const tables = await service.query<{ name: string; root: string }>(
    `select c.oid::regclass::text as name, coalesce(i.inhparent, c.oid)::regclass::text as root
     from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_inherits i on i.inhrelid = c.oid
     where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg_toast%'`,
  );
  const found: Record<string, number> = {};
  for (const { name, root } of tables) {
    // A row as text, and as JSON: in it what is inside of JSON is escaped as it is there.
    const [row] = await service.query<{ count: string }>(
      `select count(*) from ${name} as each where position($1 in each::text) > 0 or position($1 in to_jsonb(each)::text) > 0`,
      [text],
    );
    if (Number(row?.count) > 0) found[root] = (found[root] ?? 0) + Number(row?.count);
  }
  return found;
}
