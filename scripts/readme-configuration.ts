/** `node scripts/readme-configuration.ts`: writes the table of configuration in README.md from the settings in src/config.ts. */
import { readFileSync, writeFileSync } from 'node:fs';
import { settings } from '../src/config.ts';

const BEGIN = '<!-- configuration: written by scripts/readme-configuration.ts -->';
const END = '<!-- end of configuration -->';

interface Row {
  group: string;
  default?: string;
  meaning: string;
}

/** One table per group of settings. */
export function configurationTables(): string {
  const lines: string[] = [];
  let group = '';
  for (const [name, setting] of Object.entries<Row>(settings)) {
    if (setting.group !== group) {
      group = setting.group;
      lines.push('', `**${group}**`, '', '| variable | default | meaning |', '|---|---|---|');
    }
    const fallback = setting.default ? `\`${setting.default}\`` : '';
    lines.push(`| \`${name}\` | ${fallback} | ${setting.meaning.replaceAll('|', '\\|')} |`);
  }
  return `${lines.join('\n').trim()}\n`;
}

/** The README with the tables as they should be. @throws Error when it has lost the marks between which they stand */
export function withConfiguration(readme: string): string {
  const [before, rest] = readme.split(`${BEGIN}\n`);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error('README.md has no marks around its configuration');
  return `${before}${BEGIN}\n\n${configurationTables()}\n${END}${after}`;
}

if (import.meta.main) {
  const file = new URL('../README.md', import.meta.url);
  writeFileSync(file, withConfiguration(readFileSync(file, 'utf8')));
}
