import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { chooseFormat } from '../../src/variants/accept.ts';

describe('the format that Accept chooses', () => {
  const cases: [what: string, header: string | undefined, format: string | undefined][] = [
    ['no field', undefined, 'webp'],
    ['an empty field', '', 'webp'],
    ['anything', '*/*', 'webp'],
    ['any picture', 'image/*', 'webp'],
    ['one format', 'image/png', 'png'],
    ['capitals and spaces', ' IMAGE/JPEG ;Q=0.5 , text/html', 'jpeg'],
    ['Chrome', 'image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8', 'avif'],
    ['Firefox', 'image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5', 'avif'],
    [
      'Safari',
      'image/webp,image/avif,image/jxl,image/heic,video/*;q=0.8,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5',
      'avif',
    ],
    ['a browser of before', 'image/webp,*/*', 'webp'],
    ['a browser of long before', 'image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5', 'png'],
    ['the greater weight', 'image/avif;q=0.8,image/webp;q=0.9', 'webp'],
    ['weights with three digits', 'image/png;q=0.123,image/jpeg;q=0.124', 'jpeg'],
    ['the more specific range decides, wherever it stands', '*/*,image/webp;q=0.1', 'jpeg'],
    ['the family before anything', '*/*;q=0.1,image/*;q=0,image/png;q=0.1', 'png'],
    ['what is refused', 'image/webp;q=0,image/*', 'jpeg'],
    ['refused with all its digits', 'image/webp;q=0.000,image/jpeg;q=1.000', 'jpeg'],
    ['all but one refused', '*/*;q=0,image/avif;q=0.001', 'avif'],
    ['everything refused', '*/*;q=0', undefined],
    ['nothing of ours', 'text/html,image/gif', undefined],
    ['a weight that is none is no wish', 'image/avif;q=2,image/png', 'png'],
    ['a parameter of its own is no wish', 'image/webp;level=1,image/jpeg', 'jpeg'],
    ['nothing that can be read', ';;,,q=1', 'webp'],
    ['what follows the weight is passed over', 'image/png;q=0.5;more=1', 'png'],
  ];
  for (const [what, header, format] of cases) test(what, () => assert.equal(chooseFormat(header), format));

  test('is found in no time, however long the field is', () => {
    assert.equal(chooseFormat(`${'image/x;q=0.1,'.repeat(20_000)}image/jpeg`), 'jpeg');
  });
});
