import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type SQL, sql } from '../../src/database/sql.ts';

describe('statements', () => {
  test('values become parameters, in the order in which they stand', () => {
    const statement = sql`select ${1}, ${'two'} from t where id = ${3}`;
    assert.deepEqual(statement.render(), { text: 'select $1, $2 from t where id = $3', values: [1, 'two', 3] });
  });

  test('pieces fit into each other and are counted on', () => {
    const piece = sql`name = ${'a'}`;
    const statement = sql`select ${0} where ${piece} and (${sql`${piece} or size > ${5}`})${sql``}`;
    assert.deepEqual(statement.render(), {
      text: 'select $1 where name = $2 and (name = $3 or size > $4)',
      values: [0, 'a', 'a', 5],
    });
  });

  test('an array is one parameter, and null and undefined are values', () => {
    assert.deepEqual(sql`any(${['a', 'b']}) ${null} ${undefined}`.render(), {
      text: 'any($1) $2 $3',
      values: [['a', 'b'], null, undefined],
    });
  });

  test('pieces are joined, none to nothing', () => {
    assert.equal(sql.join([], sql` and `).render().text, '');
    assert.deepEqual(sql`where ${sql.join([sql`a = ${1}`, sql.raw('b'), sql`c = ${2}`], sql` and `)}`.render(), {
      text: 'where a = $1 and b and c = $2',
      values: [1, 2],
    });
  });

  test('no value ever gets into the text, however pieces are put together', () => {
    const { statement } = fc.letrec<{ statement: [SQL, unknown[]] }>((tie) => ({
      statement: fc.oneof(
        { depthSize: 'small' },
        fc.string().map((value): [SQL, unknown[]] => [sql`x = ${value}`, [value]]),
        fc
          .tuple(
            tie('statement') as fc.Arbitrary<[SQL, unknown[]]>,
            fc.string(),
            tie('statement') as fc.Arbitrary<[SQL, unknown[]]>,
          )
          .map(([[a, before], value, [b, after]]): [SQL, unknown[]] => [
            sql`(${a} and y = ${value} or ${b})`,
            [...before, value, ...after],
          ]),
      ),
    }));
    fc.assert(
      fc.property(statement, ([piece, expected]) => {
        const { text, values } = piece.render();
        assert.deepEqual(values, expected);
        assert.match(text, /^[xy =()$\dandor]+$/);
        const numbers = [...text.matchAll(/\$(\d+)/g)].map(([, number]) => Number(number));
        assert.deepEqual(
          numbers,
          expected.map((_, index) => index + 1),
        );
      }),
    );
  });
});
