import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  FITS,
  FORMATS,
  LADDER,
  POSITIONS,
  parse,
  QUALITIES,
  serialise,
  stepFor,
  type VariantOptions,
} from '../../src/variants/options.ts';
import { srcsetOf, stepsOf } from '../../src/variants/srcset.ts';

/** Every combination that an address may have, each once. */
function* combinations(): Generator<VariantOptions> {
  const sizes = [undefined, ...LADDER];
  for (const width of sizes)
    for (const height of sizes)
      for (const fit of FITS)
        for (const position of fit === 'cover' ? POSITIONS : (['centre'] as const))
          for (const format of FORMATS)
            for (const quality of format === 'png' ? ([80] as const) : QUALITIES) {
              const isBoxed = width !== undefined && height !== undefined;
              if (fit === 'inside' ? width === undefined && height === undefined : !isBoxed) continue;
              yield {
                ...(width !== undefined && { width }),
                ...(height !== undefined && { height }),
                fit,
                position,
                quality,
                format,
              };
            }
}

describe('the spelling of a variant', () => {
  test('every combination has one, which is of no other combination and reads back as it was', () => {
    const spellings = new Set<string>();
    for (const options of combinations()) {
      const text = serialise(options);
      assert.deepEqual(parse(text), options, text);
      spellings.add(text);
    }
    const boxes = 13 * 13 * (6 + 1 + 1) + 2 * 13;
    assert.equal(spellings.size, boxes * (3 * 5 + 1));
  });

  const examples: [string, VariantOptions][] = [
    ['w512.webp', { width: 512, fit: 'inside', position: 'centre', quality: 80, format: 'webp' }],
    ['h16.png', { height: 16, fit: 'inside', position: 'centre', quality: 80, format: 'png' }],
    [
      'w512-h384-cover-top-q70.webp',
      { width: 512, height: 384, fit: 'cover', position: 'top', quality: 70, format: 'webp' },
    ],
    [
      'w96-h96-contain-q40.avif',
      { width: 96, height: 96, fit: 'contain', position: 'centre', quality: 40, format: 'avif' },
    ],
  ];
  for (const [text, options] of examples) test(text, () => assert.deepEqual(parse(text), options));

  const refused: [string, string[]][] = [
    ['another order', ['h512-w512.webp', 'w512-cover-h512.webp', 'w512-h512-top-cover.webp', 'w512-q70-h512.webp']],
    ['what is usual, written out', ['w512-inside.webp', 'w512-q80.webp', 'w512-h512-cover-centre.webp']],
    ['numbers in another way', ['w0512.webp', 'w+512.webp', 'w512.0.webp', 'w5e2.webp', 'w０５１２.webp']],
    ['sizes beside the ladder', ['w511.webp', 'w640.webp', 'w0.webp', 'w4096.webp', 'w99999.webp', 'w512-h500.webp']],
    ['qualities beside the five', ['w512-q1.webp', 'w512-q75.webp', 'w512-q100.webp', 'w512-q.webp']],
    ['a quality of PNG', ['w512-q70.png']],
    ['half a box to fill', ['w512-cover.webp', 'h512-contain.webp']],
    ['a position of what is not cut', ['w512-h512-top.webp', 'w512-h512-contain-top.webp', 'w512-attention.webp']],
    ['unknown words', ['w512-h512-fill.webp', 'w512-h512-cover-middle.webp', 'w512.jpg', 'w512.gif', 'w512.svg']],
    ['letters of another size', ['W512.webp', 'w512.WEBP', 'w512-h512-Cover.webp']],
    ['joints', ['w512h512.webp', 'w512--h512.webp', '-w512.webp', 'w512-.webp', 'w512..webp', 'w512.webp.webp']],
    ['nothing', ['', '.webp', 'webp', 'cover.webp', 'q70.webp', 'w.webp']],
    ['more around it', [' w512.webp', 'w512.webp ', 'w512.webp\n', 'w512.webp\0', '/w512.webp', 'w512.webp?']],
    ['twice the same', ['w512-w512.webp', 'w512-h512-h512.webp', 'w512-h512-cover-cover.webp']],
  ];
  for (const [what, texts] of refused)
    test(`is not ${what}`, () => {
      for (const text of texts) assert.equal(parse(text), undefined, JSON.stringify(text));
    });

  test('whatever text is read is the one spelling of what it means', () => {
    const all = [...combinations()].map(serialise);
    const near = fc
      .tuple(fc.constantFrom(...all), fc.nat(), fc.nat(3), fc.constantFrom(...'wh-q.0158coverpng'))
      .map(([text, at, remove, insert]) => {
        const place = at % (text.length + 1);
        return text.slice(0, place) + insert + text.slice(place + remove);
      });
    fc.assert(
      fc.property(fc.oneof(near, fc.string({ unit: 'binary' })), (text) => {
        const options = parse(text);
        return options === undefined || serialise(options) === text;
      }),
      { numRuns: 20_000 },
    );
  });
});

describe('the ladder', () => {
  test('has the next step for every size, and its last for what is larger', () => {
    assert.deepEqual(
      [1, 16, 17, 640, 2048, 9999].map((size) => stepFor(LADDER, size)),
      [16, 16, 32, 768, 2048, 2048],
    );
  });
});

describe('the steps of one picture', () => {
  const inside: VariantOptions = { width: 2048, fit: 'inside', position: 'centre', quality: 80, format: 'webp' };
  const names = (options: VariantOptions, original = {}) =>
    stepsOf(options, original).map((step) => `${serialise(step.options)} ${step.width}`);

  test('are the whole ladder where nothing is known of the original', () => {
    assert.deepEqual(
      stepsOf(inside, {}).map(({ width }) => width),
      [...LADDER],
    );
  });

  test('end with the original, and tell how wide it is', () => {
    assert.deepEqual(names(inside, { width: 300, height: 200 }).slice(-3), [
      'w192.webp 192',
      'w256.webp 256',
      'w384.webp 300',
    ]);
  });

  test('end with the width that was asked for', () => {
    assert.equal(names({ ...inside, width: 96 }).at(-1), 'w96.webp 96');
  });

  test('keep the shape of a box', () => {
    assert.deepEqual(names({ ...inside, width: 1024, height: 768, fit: 'cover' }), [
      ...['w128-h96-cover.webp 128', 'w256-h192-cover.webp 256', 'w512-h384-cover.webp 512'],
      'w1024-h768-cover.webp 1024',
    ]);
  });

  test('have the width that is left inside a box', () => {
    assert.deepEqual(names({ ...inside, width: 64, height: 64 }, { width: 400, height: 800 }), [
      'w16-h16.webp 8',
      'w32-h32.webp 16',
      'w64-h64.webp 32',
    ]);
  });

  test('are one string for an <img>', () => {
    const text = srcsetOf([
      { url: '/a', width: 16 },
      { url: '/b', width: 32 },
    ]);
    assert.equal(text, '/a 16w, /b 32w');
  });
});
