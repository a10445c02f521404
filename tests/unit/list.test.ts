import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { userNamed } from '../../src/access/caller.ts';
import { type ListQuery, listStatement } from '../../src/assets/list.ts';

const usual: ListQuery = {
  scope: { kind: 'own', caller: userNamed('o') },
  trashed: false,
  sort: 'createdAt',
  order: 'desc',
  limit: 51,
};

describe('the statement of a page', () => {
  test('is prepared where it is usual: no filter, 50 assets', () => {
    const { statement, values } = listStatement(usual);
    assert.equal(statement.name, 'list-createdAt-desc');
    assert.match(statement.text, / limit 51\)/);
    assert.ok(statement.bind(values).every((value) => value === 'o' || value === null || value === false));
    const { statement: next } = listStatement({
      ...usual,
      after: { value: '1', id: '2' },
      trashed: true,
      sort: 'size',
    });
    assert.equal(next.name, 'list-size-desc-trashed-after');
  });

  test('is planned for its values otherwise', () => {
    const filters: Partial<ListQuery>[] = [
      { limit: 11 },
      { projectId: 'p' },
      { assetType: 'image' },
      { state: 'ready' },
      { mediaType: 'image/png' },
      { mediaType: 'image/*' },
      { name: 'a' },
    ];
    const statements = filters.map((filter) => listStatement({ ...usual, ...filter }).statement);
    assert.deepEqual(new Set(statements.map(({ name }) => name)), new Set([undefined]));
    assert.equal(new Set(statements.map(({ text }) => text)).size, filters.length);
  });

  test('takes its filters and where it goes on as values', () => {
    const query = {
      ...usual,
      limit: 3,
      projectId: 'p',
      mediaType: 'image/*',
      name: 'A',
      after: { value: 'v', id: 'i' },
    };
    const { statement, values } = listStatement(query);
    assert.deepEqual(statement.bind(values).slice(-8), ['v', 'i', 'p', 'image', 'image', 'A', 'A', 3]);
  });

  test('is compiled once for all pages of one shape, as long as it is asked for', () => {
    const ask = (ownerId: string) =>
      listStatement({
        ...usual,
        scope: { kind: 'own', caller: userNamed(ownerId) },
        projectId: ownerId,
        limit: 2,
      }).statement;
    const first = ask('a');
    assert.equal(ask('b'), first);
    for (const sort of ['createdAt', 'name', 'size'] as const)
      for (const order of ['asc', 'desc'] as const)
        for (let mask = 0; mask < 64; mask++) {
          const given = (bit: number) => (mask & bit) !== 0;
          listStatement({
            ...usual,
            sort,
            order,
            limit: 2,
            trashed: given(32),
            ...(given(1) && { projectId: 'p' }),
            ...(given(2) && { assetType: 'image' }),
            ...(given(4) && { state: 'ready' }),
            ...(given(8) && { mediaType: 'image/png' }),
            ...(given(16) && { name: 'a' }),
          });
        }
    // There are too many shapes to keep all; that one was compiled anew.
    assert.notEqual(ask('a'), first);
    assert.equal(ask('a').text, first.text);
  });
});
