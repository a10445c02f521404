/** `node scripts/readme-configuration.ts`: writes the table of configuration in README.md from the settings of src/config.ts and of the features. */
import { readFileSync, writeFileSync } from 'node:fs';
import { features } from '../src/app.ts';
import { settingsByGroup } from '../src/config.ts';
import { settingsOf } from '../src/feature.ts';

const BEGIN = '<!-- configuration: written by scripts/readme-configuration.ts -->';
const END = '<!-- end of configuration -->';

/** One table per group of settings. */
export function configurationTables(): string {
  const lines: string[] = [];
  for (const [group, entries] of settingsByGroup(settingsOf(features))) {
    lines.push('', `**${group}**`, '', '| variable | default | meaning |', '|---|---|---|');
    for (const [name, { default: defaultValue, meaning }] of entries) {
      const fallback = defaultValue === undefined || defaultValue === '' ? '' : `\`${defaultValue}\``;
      lines.push(`| \`${name}\` | ${fallback} | ${meaning.replaceAll('|', '\\|')} |`);
    }
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
