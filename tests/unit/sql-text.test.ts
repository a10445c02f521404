/** SQL is built over the tables, so that a renamed column is found by the type checker. No text of it stands elsewhere. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { getTableColumns, getTableName, is } from 'drizzle-orm';
import { PgTable } from 'drizzle-orm/pg-core';
import ts from 'typescript';

const src = fileURLToPath(new URL('../../src/', import.meta.url));

interface Text {
  at: string;
  text: string;
  /** What stands before a template, such as `sql`. */
  tag?: string;
}

const textsOf = (file: string, source: string): Text[] => {
  const parsed = ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true);
  const texts: Text[] = [];
  const visit = (node: ts.Node): void => {
    const at = () => `${file}:${parsed.getLineAndCharacterOfPosition(node.getStart()).line + 1}`;
    if (ts.isTemplateExpression(node) || ts.isStringLiteralLike(node)) {
      const text = ts.isTemplateExpression(node)
        ? [node.head.text, ...node.templateSpans.map(({ literal }) => literal.text)].join(' ')
        : node.text;
      const { parent } = node;
      // sql.raw('...') makes SQL of text too.
      const isRaw = ts.isCallExpression(parent) && parent.expression.getText() === 'sql.raw';
      const tag = ts.isTaggedTemplateExpression(parent) ? parent.tag.getText() : isRaw ? 'sql' : undefined;
      texts.push({ at: at(), text, ...(tag !== undefined && { tag: tag.replace(/<.*/s, '') }) });
    }
    ts.forEachChild(node, visit);
  };
  visit(parsed);
  return texts;
};

const statement =
  /^\s*(select\b.*\bfrom\b|select\s+(\d|\w+\()|(insert|merge)\s+into\b|update\s+\S+\s+set\b|delete\s+from\b|with\s+\S+\s+as\s*\(|truncate\s+\S|analyze\s+\S|(create|alter|drop)\s+(table|index|database|schema|role|user|function|trigger)\b|lock\s+table\b|(listen|notify)\s+\w+$|explain\s|copy\s+\S+\s+(from|to)\b)/is;
/** A sentence begins with one capital letter. */
const isStatement = ({ text, tag }: Text) => tag !== 'sql' && statement.test(text) && !/^[A-Z][a-z]/.test(text);

const tables: PgTable[] = [];
for (const file of globSync('database/tables/*.ts', { cwd: src })) {
  const module: Record<string, unknown> = await import(`../../src/${file}`);
  for (const value of Object.values(module)) if (is(value, PgTable)) tables.push(value);
}
/** Names that mean nothing but a table or a column of ours. */
const ourNames = new Set(
  tables.flatMap((table) => [getTableName(table), ...Object.values(getTableColumns(table)).map(({ name }) => name)]),
);
const snake = [...ourNames].filter((name) => /^[a-z]+(_[a-z]+)+$/.test(name));
const named = new RegExp(`\\b(${snake.join('|')})\\b`);
const namesColumn = ({ text, tag }: Text) => tag === 'sql' && named.test(text);

const files = globSync('**/*.ts', { cwd: src });
const texts = files.flatMap((file) => textsOf(file, readFileSync(`${src}${file}`, 'utf8')));

describe('the source', () => {
  test('has no text of SQL but pieces for the builder', () => {
    assert.ok(files.length > 50);
    assert.deepEqual(texts.filter(isStatement), []);
  });

  test('names no column or table within such pieces, outside of the tables', () => {
    assert.ok(texts.filter(({ tag }) => tag === 'sql').length > 20);
    const outside = texts.filter(({ at }) => !at.startsWith('database/tables/'));
    assert.deepEqual(outside.filter(namesColumn), []);
  });
});

describe('what is looked for', () => {
  const found = (source: string, rule: (text: Text) => boolean) => textsOf('source.ts', source).filter(rule).length;

  test('is found in strings and templates', () => {
    for (const source of [
      "client.query('select id from assets where id = $1', [id])",
      'client.query(`\n  insert into assets values (1)`)',
      'text`update assets set size = 1`',
      "const s = 'DELETE FROM assets'",
      'query(`with a as (select 1) select 1`)',
      "query('select 1')",
      "query('select pg_advisory_lock($1)')",
      "query('truncate assets')",
      `query(\`create database \${name}\`)`,
    ])
      assert.equal(found(source, isStatement), 1, source);
    for (const source of [
      'sql`select 1`',
      'sql<number>`select 1`',
      "'Select a file from the list.'.length",
      "'With `redirect=true`'",
      "'Set the quota of an owner'",
      "const name = 'delete-object'",
      '// select id from assets\n1',
    ])
      assert.equal(found(source, isStatement), 0, source);
  });

  test('is found in pieces for the builder', () => {
    for (const source of [
      `sql\`\${a} = owner_id\``,
      'sql<string>`max(created_at)`',
      "sql.raw('object_key')",
      'sql`from resumable_x, upload_counts`',
    ])
      assert.equal(found(source, namesColumn), 1, source);
    for (const source of [`sql\`\${assets.ownerId} = 1\``, "const name = 'owner_id'", "x.as('owner_id')"])
      assert.equal(found(source, namesColumn), 0, source);
  });
});
