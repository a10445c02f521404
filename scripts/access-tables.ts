/** `node scripts/access-tables.ts`: writes the tables in docs/access.md from the rules of src/access/rules.ts. */
import { readFileSync, writeFileSync } from 'node:fs';
import { type Action, actions, allows, type Role, rules, type Scope, scopes, userScopes } from '../src/access/rules.ts';

const BEGIN = '<!-- rules: written by scripts/access-tables.ts -->';
const END = '<!-- end of rules -->';

/** Roles in the order of the columns; administrators are told beside the table. */
const shown = ['viewer', 'editor', 'manager', 'owner'] as const satisfies Role[];
const kinds = [
  { title: 'Assets', prefix: 'asset.' },
  { title: 'Projects', prefix: 'project.' },
  { title: 'Yourself', prefix: 'account.' },
];

/** What the rules say: a table for each kind of resource, and one of the scopes. */
export function accessTables(): string {
  const lines: string[] = [];
  for (const { title, prefix } of kinds) {
    const columns = prefix === 'asset.' ? shown : shown.filter((role) => role !== 'owner');
    const own = actions.filter((action) => action.startsWith(prefix) && isOwn(action));
    const others = actions.filter((action) => action.startsWith(prefix) && !isOwn(action));
    lines.push('', `**${title}**`, '');
    if (others.length > 0) {
      lines.push(row(['action', 'what it is', ...columns, 'scope']), row(Array(columns.length + 3).fill('---')));
      for (const action of others)
        lines.push(
          row([...named(action), ...columns.map((role) => (allows(role, action) ? 'yes' : '')), scopeOf(action)]),
        );
    }
    if (own.length > 0 && others.length > 0) lines.push('', 'For everybody:', '');
    if (own.length > 0) lines.push(row(['action', 'what it is', 'scope']), row(Array(3).fill('---')));
    for (const action of own) lines.push(row([...named(action), scopeOf(action)]));
  }
  lines.push('', '**Scopes**', '', row(['scope', 'actions', 'in tokens that name none']), row(Array(3).fill('---')));
  for (const scope of scopes) {
    const its = actions.filter((action) => rules[action].scope === scope).map((action) => `\`${action}\``);
    lines.push(row([`\`${scope}\``, its.join(', '), isUsual(scope) ? 'yes' : '']));
  }
  return `${lines.join('\n').trim()}\n`;
}

/** Done with what is the caller's own. */
const isOwn = (action: Action) => rules[action].least === 'owner';
const isUsual = (scope: Scope) => userScopes.includes(scope);
const named = (action: Action) => [`\`${action}\``, rules[action].means];
const scopeOf = (action: Action) => `\`${rules[action].scope}\``;
const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;

/** The document with the tables as they should be. @throws Error when it has lost the marks between which they stand */
export function withAccessTables(document: string): string {
  const [before, rest] = document.split(`${BEGIN}\n`);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error('docs/access.md has no marks around its tables');
  return `${before}${BEGIN}\n\n${accessTables()}\n${END}${after}`;
}

if (import.meta.main) {
  const file = new URL('../docs/access.md', import.meta.url);
  writeFileSync(file, withAccessTables(readFileSync(file, 'utf8')));
}
