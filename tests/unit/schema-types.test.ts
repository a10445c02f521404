import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flag, projectIdOrNone } from '../../src/http/schema-types.ts';

test('a flag in a query is true or false, also as Python writes it', () => {
  for (const text of ['true', 'True']) assert.equal(flag.parse(text), true);
  for (const text of ['false', 'False', undefined]) assert.equal(flag.parse(text), false);
  for (const text of ['TRUE', '1', 'yes', '', 'true ', 'truetrue']) assert.ok(!flag.safeParse(text).success, text);
});

test('no project is told by null or by empty text; a name of one is checked', () => {
  assert.equal(projectIdOrNone.parse(null), null);
  assert.equal(projectIdOrNone.parse(''), null);
  assert.equal(projectIdOrNone.parse('website'), 'website');
  for (const text of [' ', '-a', 'a/b', 'a'.repeat(129), '\n']) assert.ok(!projectIdOrNone.safeParse(text).success);
});
