import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseRange, type WantedRange } from '../../src/assets/byte-range.ts';

const whole: WantedRange = { kind: 'whole' };
const unsatisfiable: WantedRange = { kind: 'unsatisfiable' };
const range = (first: number, last: number): WantedRange => ({ kind: 'range', first, last });

describe('Range', () => {
  const cases: [string, string | undefined, number, WantedRange][] = [
    ['no field is everything', undefined, 10, whole],
    ['the first bytes', 'bytes=0-4', 10, range(0, 4)],
    ['the first byte', 'bytes=0-0', 10, range(0, 0)],
    ['the last byte', 'bytes=9-9', 10, range(9, 9)],
    ['from a byte to the end', 'bytes=3-', 10, range(3, 9)],
    ['a range that is everything is still a range', 'bytes=0-', 10, range(0, 9)],
    ['an end behind the size is cut', 'bytes=3-99', 10, range(3, 9)],
    ['the last bytes', 'bytes=-3', 10, range(7, 9)],
    ['more last bytes than there are', 'bytes=-99', 10, range(0, 9)],
    ['the unit has no case', 'Bytes=1-2', 10, range(1, 2)],
    ['a start at the size', 'bytes=10-', 10, unsatisfiable],
    ['a start behind the size', 'bytes=11-12', 10, unsatisfiable],
    ['no last bytes', 'bytes=-0', 10, unsatisfiable],
    ['any start in nothing', 'bytes=0-', 0, unsatisfiable],
    ['the last bytes of nothing', 'bytes=-5', 0, whole],
    ['an end before the start is malformed', 'bytes=5-3', 10, whole],
    ['several ranges are ignored', 'bytes=0-1,3-4', 10, whole],
    ['another unit is ignored', 'lines=0-1', 10, whole],
    ['numbers of any length', `bytes=0-${'9'.repeat(400)}`, 10, range(0, 9)],
    ['starts of any length', `bytes=${'9'.repeat(400)}-`, 10, unsatisfiable],
  ];
  for (const [what, header, size, expected] of cases) {
    test(`${what}: ${header?.slice(0, 20) ?? 'absent'} of ${size}`, () =>
      assert.deepEqual(parseRange(header, size), expected));
  }

  test('what is malformed is ignored', () => {
    for (const header of [
      '',
      'bytes',
      'bytes=',
      'bytes=-',
      'bytes=a-b',
      'bytes=1',
      'bytes=0 - 1',
      'bytes=+0-1',
      'bytes=0-1x',
      'bytes=0x0-0x1',
      'bytes=--1',
      'bytes=٣-٤',
      '0-1',
      'bytes=0-1\n',
    ]) {
      assert.deepEqual(parseRange(header, 10), whole, JSON.stringify(header));
    }
  });

  test('a long field is read in no time', () => {
    // Time of the processor, which does not pass while others have it.
    const begun = process.cpuUsage();
    for (const header of [`bytes=${' '.repeat(200_000)}x`, `bytes=${'1'.repeat(200_000)}x`, ' '.repeat(200_000)])
      parseRange(header, 10);
    assert.ok(process.cpuUsage(begun).user < 500_000);
  });

  test('for all fields: a range lies within the size', () => {
    const headers = fc.oneof(
      fc.string(),
      fc.tuple(fc.nat(), fc.nat()).map(([from, to]) => `bytes=${from}-${to}`),
      fc.nat().map((suffix) => `bytes=-${suffix}`),
    );
    fc.assert(
      fc.property(headers, fc.oneof(fc.nat(20), fc.nat()), (header, size) => {
        const wanted = parseRange(header, size);
        if (wanted.kind === 'range') assert.ok(0 <= wanted.first && wanted.first <= wanted.last && wanted.last < size);
      }),
    );
  });

  test('for all ranges within the size: what is asked for is what comes out', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.nat(), (first, more, rest) => {
        const last = first + more;
        assert.deepEqual(parseRange(`bytes=${first}-${last}`, last + 1 + rest), range(first, last));
      }),
    );
  });
});
