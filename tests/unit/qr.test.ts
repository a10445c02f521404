import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import sharp from 'sharp';
import { type Code, MAX_TEXT, makeCode, toPng, toSvg } from '../../src/qr/code.ts';
import { type PageTemplate, pageTemplate } from '../../src/qr/templates.ts';
import { readCode } from '../support/read-code.ts';

const pageOf = (text: string): PageTemplate => pageTemplate(['assetId', 'projectId']).parse(text);
const faultOf = (text: string) => pageTemplate(['projectId']).safeParse(text).error?.issues[0]?.message;

const projectIds = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$/);
const templates = fc
  .tuple(
    fc.webUrl({ withQueryParameters: true, withFragments: true }).filter((url) => !/[{}'"<>\\^`|]/.test(url)),
    fc.constantFrom('/{assetId}', '?id={assetId}', '#/app/{projectId}/{assetId}', '/{projectId}'),
  )
  .map(([url, end]) => url.replace(/[?#].*$/, '').replace(/\/$/, '') + end);

describe('the address of a page', () => {
  test('has every id where its placeholder stands, and what the template says elsewhere', () => {
    fc.assert(
      fc.property(templates, fc.uuid(), projectIds, (text, assetId, projectId) => {
        const address = pageOf(text).address({ assetId, projectId });
        assert.equal(address, text.replaceAll('{assetId}', assetId).replaceAll('{projectId}', projectId));
        assert.equal(new URL(address).origin, new URL(text).origin);
      }),
    );
  });

  test('encodes what has a meaning in a URL', () => {
    const page = pageOf('https://app.example.com/#/app/project/{projectId}');
    assert.equal(
      page.address({ projectId: 'a/b?c&d#é$&' }),
      'https://app.example.com/#/app/project/a%2Fb%3Fc%26d%23%C3%A9%24%26',
    );
  });

  test('is not made while an id is missing', () => {
    const page = pageOf('https://app.example.com/{projectId}/{assetId}');
    assert.ok(page.names('projectId'));
    assert.ok(!pageOf('https://app.example.com/{assetId}').names('projectId'));
    assert.throws(() => page.address({ assetId: 'x' }), /needs projectId/);
  });

  for (const [text, fault] of [
    ['https://app.example.com/', /names no placeholder/],
    ['https://app.example.com/{assetId}', /names \{assetId\}: the placeholders are \{projectId\}/],
    ['https://app.example.com/{projectid}', /names \{projectid\}/],
    ['https://app.example.com/{projectId', /names no placeholder/],
    ['https://app.example.com/{projectId}/{', /cannot have/],
    ['https://app.example.com/ä/{projectId}', /cannot have/],
    ['https://app.example.com/a b/{projectId}', /cannot have/],
    ['https://{projectId}.example.com/', /in the host/],
    ['https://app.example.com{projectId}', /in the host/],
    ['https://app.example.com:{projectId}/', /http:/],
    ['https://user:word@app.example.com/{projectId}', /credentials/],
    ['javascript:alert({projectId})', /no http/],
    ['ftp://app.example.com/{projectId}', /no http/],
    ['/app/{projectId}', /no http/],
    ['https:///{projectId}', /no http/],
    [`https://app.example.com/${'a'.repeat(1024)}{projectId}`, /more than 1024/],
  ] as const)
    test(`cannot be that of ${text.slice(0, 60)}`, () => {
      const message = faultOf(text) ?? '';
      assert.match(message, fault);
      assert.ok(message.startsWith(`has ${JSON.stringify(text)}`), message);
    });
});

describe('a code', () => {
  test('is read back from both pictures, whatever its text and size', async () => {
    const sizes = fc.integer({ min: 256, max: 1024 });
    await fc.assert(
      fc.asyncProperty(templates, fc.uuid(), projectIds, sizes, async (text, assetId, projectId, size) => {
        const address = pageOf(text).address({ assetId, projectId });
        const code = makeCode(address);
        assert.equal(await readCode(await toPng(code, size)), address);
        assert.equal(await readCode(Buffer.from(toSvg(code, size))), address);
      }),
      { numRuns: 25 },
    );
  });

  test('is read back at the smallest size that it fits', async () => {
    for (const length of [20, 100, 400]) {
      const text = `https://a.example/${'x'.repeat(length)}`;
      const code = makeCode(text);
      assert.equal(
        await readCode(
          await sharp(await toPng(code, code.modules))
            .resize(code.modules * 4, undefined, { kernel: 'nearest' })
            .png()
            .toBuffer(),
        ),
        text,
      );
    }
  });

  test('holds as much as the largest code does, and no more', async () => {
    const text = `https://a.example/${'x'.repeat(MAX_TEXT)}`.slice(0, MAX_TEXT);
    const code = makeCode(text);
    assert.equal(code.modules, 177 + 8);
    assert.equal(await readCode(await toPng(code, 1024)), text);
    assert.throws(() => makeCode(`${text}x`), /too long/);
  });

  test('has square modules of whole pixels and a quiet zone of four of them at least', async () => {
    const code = makeCode('https://app.example.com/#/app/project/website');
    for (const size of [64, 65, 127, 300, 512, 2048]) {
      const scale = Math.floor(size / code.modules);
      const picture = await pixelsOf(await toPng(code, size));
      assert.deepEqual([picture.width, picture.height, picture.depth], [size, size, 1]);
      const margin = Math.floor((size - code.rows.length * scale) / 2);
      assert.ok(margin >= 4 * scale);
      for (let y = 0; y < size; y++)
        for (let x = 0; x < size; x++) {
          const module = code.rows[Math.floor((y - margin) / scale)]?.[Math.floor((x - margin) / scale)] ?? false;
          if ((picture.at(x, y) === 0) !== module) assert.fail(`${size}: pixel ${x}, ${y}`);
        }
    }
  });

  test('does not become a picture that is smaller than itself', () => {
    const code = makeCode('x'.repeat(1000));
    assert.throws(() => toPng(code, code.modules - 1), RangeError);
  });

  test('as SVG is one path on white with a quiet zone, and has no blurred edges', () => {
    const code = makeCode('https://app.example.com/');
    const svg = toSvg(code, 300);
    assert.equal(svg.match(/<path /g)?.length, 1);
    assert.match(svg, /shape-rendering="crispEdges"/);
    assert.match(svg, new RegExp(`width="300" height="300" viewBox="0 0 ${code.modules} ${code.modules}"`));
    assert.deepEqual(modulesIn(svg, code), code.rows);
  });
});

async function pixelsOf(png: Buffer) {
  const { data, info } = await sharp(png).greyscale().raw().toBuffer({ resolveWithObject: true });
  return {
    width: info.width,
    height: info.height,
    /** PNG specification section 11.2.1: bits of a sample. */
    depth: png[24],
    at: (x: number, y: number) => data[(y * info.width + x) * info.channels],
  };
}

/** The modules as the path draws them. */
function modulesIn(svg: string, { modules, rows }: Code): boolean[][] {
  const drawn = rows.map((row) => row.map(() => false));
  for (const [, x, y, length] of svg.matchAll(/M(\d+) (\d+)h(\d+)v1h-\3z/g))
    for (let i = 0; i < Number(length); i++) {
      const row = drawn[Number(y) - 4];
      assert.ok(row && Number(x) + i >= 4 && Number(x) + i < modules - 4);
      row[Number(x) - 4 + i] = true;
    }
  return drawn;
}
