import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decodeCursor, encodeCursor } from '../../src/http/paging.ts';
import { Problem } from '../../src/problems.ts';

const id = '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';
const isRefused = (error: unknown) => error instanceof Problem && error.status === 400;
const forge = (content: unknown) => Buffer.from(JSON.stringify(content)).toString('base64url');

describe('a cursor', () => {
  test('leads back to where it was made, in any time zone', () => {
    for (const [order, value] of [
      ['createdAt.desc', '2026-11-21 16:25:43.661+00'],
      ['createdAt.asc', '2024-02-29 23:59:59+05:30'],
      ['createdAt.asc', '1890-01-01 00:00:00.1-00:25:21'],
      ['size.asc', '9007199254740991'],
      ['name.desc', 'h\u00e9 "quoted" \u{1f600}.png'],
    ] as const)
      assert.deepEqual(decodeCursor(order, encodeCursor(order, { value, id })), { value, id });
  });

  test('is refused with a moment that Postgres would not take', () => {
    const moments = [
      '2026-02-30 00:00:00+00',
      '2026-02-29 00:00:00+00',
      '2026-13-01 00:00:00+00',
      '2026-00-01 00:00:00+00',
      '2026-01-00 00:00:00+00',
      '0000-01-01 00:00:00+00',
      '0000-12-31 23:59:59.999+00',
      '294277-01-01 00:00:00+00',
      '99999-01-01 00:00:00+00',
      '+275760-09-13 00:00:00+00',
      '0044-03-15 00:00:00+00 BC',
      '2026-01-01 24:00:00+00',
      '2026-01-01 00:60:00+00',
      '2026-01-01 00:00:60+00',
      '2026-01-01 00:00:00+16',
      '2026-01-01 00:00:00+99:99',
      '2026-01-01 00:00:00+00:60',
      '2026-01-01T00:00:00Z',
      '2026-01-01 00:00:00',
      '2026-01-01',
      '2026-01-01 00:00:00.1234567+00',
      '\u0662\u0660\u0662\u0666-01-01 00:00:00+00',
      'infinity',
      '-infinity',
      'now',
      'NaN',
      '',
      '0',
    ];
    for (const value of moments)
      assert.throws(() => decodeCursor('createdAt.desc', forge(['createdAt.desc', value, id])), isRefused, value);
  });

  test('is refused with another type or size of anything', () => {
    const sizes = ['-1', '1e3', '0x10', '1.5', ' 1', '99999999999999999', 'NaN', 'Infinity', ''];
    for (const value of sizes)
      assert.throws(() => decodeCursor('size.asc', forge(['size.asc', value, id])), isRefused, value);
    const order = 'name.asc';
    const contents = [
      null,
      true,
      1,
      'name.asc',
      {},
      [],
      [order],
      [order, 'a'],
      [order, 'a', id, 'more'],
      [order, null, id],
      [order, 1, id],
      [order, ['a'], id],
      [order, { toString: 'a' }, id],
      [order, 'a', null],
      [order, 'a', ''],
      [order, 'a', `{${id}}`],
      [order, 'a\0', id],
      [order, '\ud800', id],
      [order, 'x'.repeat(1201), id],
      [null, 'a', id],
      ['name.desc', 'a', id],
    ];
    for (const content of contents)
      assert.throws(() => decodeCursor(order, forge(content)), isRefused, JSON.stringify(content));
    for (const text of ['["name.asc",NaN,1]', '[', '\u0000', '['.repeat(3000)])
      assert.throws(() => decodeCursor(order, Buffer.from(text).toString('base64url')), isRefused);
  });

  test('for all changes of its text: it is refused, or says as exactly where to go on', () => {
    const orders = fc.constantFrom(
      ['createdAt.desc', '2026-11-21 16:25:43.661+00'],
      ['size.asc', '1234'],
      ['name.asc', 'holiday.png'],
    );
    const changes = fc.record({
      at: fc.nat(200),
      removed: fc.nat(3),
      added: fc.string({ unit: 'binary', maxLength: 3 }),
    });
    fc.assert(
      fc.property(orders, fc.array(changes, { minLength: 1, maxLength: 3 }), ([order = '', value = ''], edits) => {
        const whole = encodeCursor(order, { value, id });
        let text = whole;
        for (const { at, removed, added } of edits) text = text.slice(0, at) + added + text.slice(at + removed);
        try {
          assert.equal(encodeCursor(order, decodeCursor(order, text)), text);
        } catch (error) {
          assert.ok(isRefused(error), String(error));
          assert.notEqual(text, whole);
        }
      }),
      { numRuns: 3000 },
    );
  });
});
