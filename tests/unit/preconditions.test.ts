import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  conditionsOf,
  evaluateConditions,
  evaluateRead,
  matchesIfMatch,
  type ReadConditions,
  rangeApplies,
} from '../../src/http/preconditions.ts';
import { Problem } from '../../src/problems.ts';

const current = { etag: '"abc"', lastModified: new Date('1994-11-06T08:49:37.900Z') };
const same = 'Sun, 06 Nov 1994 08:49:37 GMT';
const before = 'Sun, 06 Nov 1994 08:49:36 GMT';
const later = 'Sun, 06 Nov 1994 08:49:38 GMT';

function evaluate(conditions: Partial<ReadConditions>): string {
  const none = { ifMatch: undefined, ifNoneMatch: undefined, ifModifiedSince: undefined, ifUnmodifiedSince: undefined };
  return evaluateRead({ ...none, ...conditions }, current);
}

describe('conditional reads', () => {
  const cases: [string, Partial<ReadConditions>, string][] = [
    ['no condition', {}, 'proceed'],
    ['If-Match with the tag', { ifMatch: '"abc"' }, 'proceed'],
    ['If-Match with the tag in a list', { ifMatch: '"x", "abc" ,"y"' }, 'proceed'],
    ['If-Match with *', { ifMatch: '*' }, 'proceed'],
    ['If-Match with another tag', { ifMatch: '"x"' }, 'precondition-failed'],
    ['If-Match with the tag made weak', { ifMatch: 'W/"abc"' }, 'precondition-failed'],
    ['If-Match with garbage', { ifMatch: 'abc' }, 'precondition-failed'],
    ['If-None-Match with the tag', { ifNoneMatch: '"abc"' }, 'not-modified'],
    ['If-None-Match with the tag made weak', { ifNoneMatch: 'W/"abc"' }, 'not-modified'],
    ['If-None-Match with the tag in a list', { ifNoneMatch: 'W/"x","abc"' }, 'not-modified'],
    ['If-None-Match with *', { ifNoneMatch: ' * ' }, 'not-modified'],
    ['If-None-Match with another tag', { ifNoneMatch: '"x"' }, 'proceed'],
    ['If-None-Match with a tag that holds commas', { ifNoneMatch: '"a,"abc","' }, 'proceed'],
    ['If-Modified-Since the same second', { ifModifiedSince: same }, 'not-modified'],
    ['If-Modified-Since later', { ifModifiedSince: later }, 'not-modified'],
    ['If-Modified-Since before', { ifModifiedSince: before }, 'proceed'],
    ['If-Unmodified-Since the same second', { ifUnmodifiedSince: same }, 'proceed'],
    ['If-Unmodified-Since before', { ifUnmodifiedSince: before }, 'precondition-failed'],
    ['If-Match goes before If-Unmodified-Since', { ifMatch: '"abc"', ifUnmodifiedSince: before }, 'proceed'],
    ['If-None-Match goes before If-Modified-Since', { ifNoneMatch: '"x"', ifModifiedSince: same }, 'proceed'],
    ['a failed If-Match goes before a 304', { ifMatch: '"x"', ifNoneMatch: '"abc"' }, 'precondition-failed'],
    [
      'a failed If-Unmodified-Since goes before a 304',
      { ifUnmodifiedSince: before, ifNoneMatch: '"abc"' },
      'precondition-failed',
    ],
    ['If-Match and If-None-Match both hold', { ifMatch: '"abc"', ifNoneMatch: '"abc"' }, 'not-modified'],
  ];
  for (const [what, conditions, expected] of cases) {
    test(`${what}: ${expected}`, () => assert.equal(evaluate(conditions), expected));
  }

  test('dates are read in the three forms of RFC 9110', () => {
    for (const date of [same, 'Sunday, 06-Nov-94 08:49:37 GMT', 'Sun Nov  6 08:49:37 1994']) {
      assert.equal(evaluate({ ifModifiedSince: date }), 'not-modified', date);
      assert.equal(evaluate({ ifUnmodifiedSince: date }), 'proceed', date);
    }
    assert.equal(evaluate({ ifUnmodifiedSince: 'Sunday, 06-Nov-93 08:49:37 GMT' }), 'precondition-failed');
  });

  test('a year of two digits is of this century unless that is 50 years ahead', () => {
    const year = (distance: number) => String((new Date().getUTCFullYear() + distance) % 100).padStart(2, '0');
    const now = { etag: '"abc"', lastModified: new Date() };
    const unmodifiedSince = (distance: number) =>
      evaluateRead(
        {
          ifMatch: undefined,
          ifNoneMatch: undefined,
          ifModifiedSince: undefined,
          ifUnmodifiedSince: `Sunday, 06-Nov-${year(distance)} 08:49:37 GMT`,
        },
        now,
      );
    assert.equal(unmodifiedSince(40), 'proceed');
    assert.equal(unmodifiedSince(60), 'precondition-failed');
  });

  test('what is no HTTP date is ignored', () => {
    const noDates = [
      '',
      'yesterday',
      'Monkey 1',
      '0',
      '1994-11-06T08:49:36Z',
      'Sun, 06 Nov 1994 08:49:36',
      'Sun, 06 Nov 1994 08:49:36 +0000',
      'Sun, 6 Nov 1994 08:49:36 GMT',
      'Wed, 30 Feb 1994 08:49:36 GMT',
      'Sun, 06 Nov 1994 24:49:36 GMT',
      'Sun, 32 Jan 1994 08:49:36 GMT',
      'sun, 06 nov 1994 08:49:36 gmt',
    ];
    for (const date of noDates) {
      assert.equal(evaluate({ ifUnmodifiedSince: date }), 'proceed', date);
      assert.equal(evaluate({ ifModifiedSince: date }), 'proceed', date);
    }
  });

  test('for all times: the date that was sent as Last-Modified is not modified, and a second before is', () => {
    const times = fc.date({ min: new Date('1970-01-02'), max: new Date('9999-12-30'), noInvalidDate: true });
    fc.assert(
      fc.property(times, (lastModified) => {
        const read = (date: Date) =>
          evaluateRead(
            {
              ifMatch: undefined,
              ifNoneMatch: undefined,
              ifUnmodifiedSince: undefined,
              ifModifiedSince: date.toUTCString(),
            },
            { etag: '"a"', lastModified },
          );
        assert.equal(read(lastModified), 'not-modified');
        assert.equal(read(new Date(lastModified.getTime() - 1000)), 'proceed');
        assert.ok(rangeApplies(lastModified.toUTCString(), { etag: '"a"', lastModified }));
      }),
    );
  });

  test('for all fields: nothing throws, and a list that holds the tag matches', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.array(fc.stringMatching(/^[!#-~]*$/)), (garbage, tags) => {
        evaluate({ ifMatch: garbage, ifModifiedSince: garbage });
        evaluate({ ifNoneMatch: garbage, ifUnmodifiedSince: garbage });
        assert.ok(matchesIfMatch([...tags, 'abc', ...tags].map((tag) => `"${tag}"`).join(', '), '"abc"'));
      }),
    );
  });
});

describe('If-Match alone', () => {
  test('is compared strongly', () => {
    assert.ok(matchesIfMatch('"1"', '"1"'));
    assert.ok(matchesIfMatch('*', '"1"'));
    assert.ok(!matchesIfMatch('W/"1"', '"1"'));
    assert.ok(!matchesIfMatch('W/"1"', 'W/"1"'));
    assert.ok(!matchesIfMatch('"11", "2"', '"1"'));
    assert.ok(!matchesIfMatch('', '"1"'));
  });
});

describe('If-Range', () => {
  test('a range holds without it, with the same strong tag, or with exactly the same date', () => {
    for (const ifRange of [undefined, '"abc"', same]) assert.ok(rangeApplies(ifRange, current), ifRange);
  });

  test('a range does not hold with anything else', () => {
    for (const ifRange of ['"x"', 'W/"abc"', before, later, '*', '', 'abc', '"abc", "x"'])
      assert.ok(!rangeApplies(ifRange, current), ifRange);
  });
});

describe('conditions on a record', () => {
  const evaluateRecord = (ifMatch: string | undefined, ifNoneMatch: string | undefined) =>
    evaluateConditions(conditionsOf({ 'if-match': ifMatch, 'if-none-match': ifNoneMatch }), '"abc"');

  test('If-Match is compared strongly, If-None-Match weakly, and If-Match goes first', () => {
    for (const header of ['*', ' * ', '"abc"', '"x", "abc"', ',,"abc" ,\t"y",', '"a,b","abc"', 'W/"x", "abc"']) {
      assert.equal(evaluateRecord(header, undefined), 'proceed', header);
      assert.equal(evaluateRecord(undefined, header), 'not-modified', header);
      assert.equal(evaluateRecord('"x"', header), 'precondition-failed', header);
    }
    for (const header of ['"x"', '"ABC"', '""', '"abc,"', '"a" , "b"', '"*"']) {
      assert.equal(evaluateRecord(header, undefined), 'precondition-failed', header);
      assert.equal(evaluateRecord(undefined, header), 'proceed', header);
    }
    assert.equal(evaluateRecord('W/"abc"', undefined), 'precondition-failed');
    assert.equal(evaluateRecord(undefined, 'W/"abc"'), 'not-modified');
  });

  const malformed = ['', ' ', ',', 'abc', '"abc', 'abc"', "'abc'", 'w/"abc"', 'W/ "abc"', '"a" "b"', '"a"x', '"a", *'];
  for (const header of [...malformed, '*, "a"', '**', '"a\u0000"', '"a"b"', '" "', 'W/', 'null'])
    test(`${JSON.stringify(header)} is malformed`, () => {
      const isRefused = (error: unknown) => error instanceof Problem && error.status === 400;
      assert.throws(() => evaluateRecord(header, undefined), isRefused);
      assert.throws(() => evaluateRecord(undefined, header), isRefused);
    });

  test('for all fields: they are read in a time that grows with their length', () => {
    for (const hostile of [' '.repeat(16_000), `"a"${' '.repeat(16_000)}x`, ','.repeat(16_000), '"'.repeat(16_001)]) {
      const start = process.cpuUsage();
      assert.throws(() => evaluateRecord(hostile, undefined), Problem);
      assert.ok(process.cpuUsage(start).user < 100_000);
    }
  });
});
