import { readFileSync } from 'node:fs';

/** The statements of docs/database.md that give a role what the service needs, and no more. */
export function serviceRole(role: string): string {
  const document = readFileSync(new URL('../../docs/database.md', import.meta.url), 'utf8');
  const statements = /```sql\n-- The role of the service\n([\s\S]*?)```/.exec(document)?.[1];
  if (statements === undefined) throw new Error('docs/database.md has no statements for the role of the service');
  return statements.replaceAll('stowage_service', role);
}
