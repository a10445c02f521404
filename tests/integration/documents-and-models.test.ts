/** PDFs and models through the programs that read them, honest ones and those that hold them up. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import sharp from 'sharp';
import type { DerivativeDocument } from '../../src/assets/derivative-document.ts';
import { documentMakerWithin } from '../../src/processing/documents/maker.ts';
import type { Maker, MakerWork } from '../../src/processing/maker.ts';
import { modelMaker } from '../../src/processing/models/maker.ts';
import { Pictures } from '../../src/processing/pictures/pictures.ts';
import { ChildPool } from '../../src/processing/tools/child-pool.ts';
import { openSandbox, type Sandbox, ToolError } from '../../src/processing/tools/sandbox.ts';
import { Client } from '../support/client.ts';
import { box, type Json, ModelBuilder, models } from '../support/models.ts';
import { pdfs } from '../support/pdfs.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

/** What a machine has on which poppler is not installed. */
const nothing: Sandbox = {
  has: () => false,
  run: () => Promise.reject(new ToolError('not-installed', 'there are no programs')),
};
const thumbnail = new Map([['thumbnail', { width: 400, height: 300 }]]);
const isRefusal = (error: unknown) => error instanceof ToolError && error.fault !== 'aborted';

const bombs = ['manyOperators', 'packed', 'hugePicture', 'endlessForm'] as const;
const made = new Map<string, Buffer>();
/** Made once for both engines: packing takes longer than reading. */
function bomb(name: (typeof bombs)[number]): Buffer {
  const bytes = made.get(name) ?? pdfs[name]();
  made.set(name, bytes);
  return bytes;
}

let scratch: string;
let pool: ChildPool;
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'stowage-documents-'));
  pool = new ChildPool({ size: 2, memory: 640 * 2 ** 20, cpuSeconds: 600, recycleAfter: 100, scratch });
});
after(async () => {
  await pool.close();
  await rm(scratch, { recursive: true, force: true });
});

async function workOn(bytes: Uint8Array, sandbox: Sandbox): Promise<MakerWork> {
  const directory = join(scratch, randomUUID());
  const path = join(directory, 'file');
  await mkdir(join(directory, 'made'), { recursive: true });
  await writeFile(path, bytes);
  const file = { path, directory: join(directory, 'made'), [Symbol.asyncDispose]: async () => {} };
  const tools = { sandbox: Promise.resolve(sandbox), pool, pictures: new Pictures(pool) };
  return { asset: { ownerId: 'reader' }, file, tools, signal: new AbortController().signal } as unknown as MakerWork;
}

async function pictureOf(maker: Maker, work: MakerWork) {
  const { made } = await maker.make(thumbnail, work);
  const picture = made.get('thumbnail');
  assert.ok(typeof picture === 'object' && Buffer.isBuffer(picture.content));
  const { width, height, format } = await sharp(picture.content).metadata();
  assert.deepEqual([picture.width, picture.height, picture.mediaType], [width, height, `image/${format}`]);
  return { ...picture, content: picture.content };
}

for (const engine of ['poppler', 'PDFium'] as const)
  describe(`PDFs by ${engine}`, () => {
    const patient = documentMakerWithin(60);
    let sandbox: Sandbox;
    before(async () => {
      sandbox = engine === 'poppler' ? await openSandbox() : nothing;
    });

    test('tell their pages and the size of the first, as it is shown', async () => {
      const factsOf = async (bytes: Buffer) => (await patient.readFacts(await workOn(bytes, sandbox)))?.facts;
      assert.deepEqual(await factsOf(pdfs.letter()), { pages: 1, pageWidth: 595.28, pageHeight: 841.89 });
      assert.deepEqual(await factsOf(pdfs.letter({ pages: 3, rotate: 90 })), {
        pages: 3,
        pageWidth: 841.89,
        pageHeight: 595.28,
      });
      assert.deepEqual(await factsOf(pdfs.lying()), { pages: 1, pageWidth: 595.28, pageHeight: 841.89 });
    });

    test('show their first page', async () => {
      const { width, height, mediaType, content } = await pictureOf(
        patient,
        await workOn(pdfs.letter({ pages: 2 }), sandbox),
      );
      assert.ok(width === 212 && height === 300 && mediaType === 'image/webp');
      const { data } = await sharp(content).raw().toBuffer({ resolveWithObject: true });
      const at = (x: number, y: number) => [...data.subarray((y * 212 + x) * 3, (y * 212 + x) * 3 + 3)];
      // A blue field in the upper part of a white page.
      const [red = 0, , blue = 0] = at(30, 40);
      assert.ok(blue - red > 100, String(at(30, 40)));
      assert.ok(Math.min(...at(100, 250)) > 250);
    });

    test('that need a password say so', async () => {
      const work = await workOn(pdfs.encrypted(), sandbox);
      await assert.rejects(patient.readFacts(work), { reason: 'encrypted' });
      await assert.rejects(patient.make(thumbnail, work), { reason: 'encrypted' });
    });

    test('that cannot be read are refused', async () => {
      for (const name of ['truncated', 'noPages'] as const)
        await assert.rejects(patient.make(thumbnail, await workOn(pdfs[name](), sandbox)), { reason: 'refused' });
    });

    test('whose pages are a circle have no picture, and their facts no size', async () => {
      const work = await workOn(pdfs.circular(), sandbox);
      const { facts } = (await patient.readFacts(work)) ?? {};
      assert.equal(facts?.pageWidth, undefined);
      await assert.rejects(patient.make(thumbnail, work), { reason: 'refused' });
    });

    test('of huge pages or thousands of them have a picture that fits', async () => {
      for (const [name, size] of [
        ['hugePage', [300, 300]],
        ['manyPages', [212, 300]],
      ] as const) {
        const { width, height } = await pictureOf(patient, await workOn(pdfs[name](), sandbox));
        assert.deepEqual([width, height], size, name);
      }
    });

    const endless = engine === 'poppler' ? 'manyOperators' : 'endlessForm';
    for (const name of bombs)
      test(`that are a bomb (${name}) cost their picture and nothing else`, async () => {
        const work = await workOn(bomb(name), sandbox);
        const outcome = await pictureOf(documentMakerWithin(1), work).catch((error: unknown) => error);
        // Out of time or out of memory: whichever comes first on this machine.
        if (name === endless) assert.ok(outcome instanceof ToolError, String(outcome));
        assert.ok(isRefusal(outcome) || (outcome instanceof Object && 'content' in outcome), String(outcome));
        assert.ok(await pictureOf(patient, await workOn(pdfs.letter(), sandbox)));
      });
  });

describe('models in a process of their own', () => {
  test('have facts and a picture', async () => {
    const work = await workOn(await (models['textured-cube']?.() ?? Buffer.alloc(0)), nothing);
    assert.equal((await modelMaker.readFacts(work))?.facts.triangles, 12);
    const { width, height, mediaType } = await pictureOf(modelMaker, work);
    assert.deepEqual([width, height, mediaType], [400, 300, 'image/webp']);
  });

  test('tell why there is no picture', async () => {
    const builder = new ModelBuilder();
    const primitive: Json = builder.primitive(box(1, 1, 1));
    builder.node({ mesh: builder.mesh({ ...primitive, extensions: { KHR_draco_mesh_compression: {} } }) });
    builder.json['extensionsRequired'] = ['KHR_draco_mesh_compression'];
    const work = await workOn(builder.file(), nothing);
    await assert.rejects(modelMaker.make(thumbnail, work), { fault: 'refused', reason: 'unsupported-draco' });
    assert.equal((await modelMaker.readFacts(work))?.facts.triangles, 12);
  });

  test('whose textures are bombs are drawn without them', async () => {
    const builder = new ModelBuilder();
    // IHDR of 30000 x 30000 and no data.
    const png = await sharp({ create: { width: 1, height: 1, channels: 3, background: '#fff' } })
      .png()
      .toBuffer();
    png.writeUInt32BE(30_000, 16);
    png.writeUInt32BE(30_000, 20);
    const index = builder.picture(png, 'image/png');
    const material = builder.material({ pbrMetallicRoughness: { baseColorTexture: { index } } });
    builder.node({ mesh: builder.mesh(builder.primitive(box(1, 1, 1), material)) });
    assert.ok(await pictureOf(modelMaker, await workOn(builder.file(), nothing)));
  });
});

describe('documents and models that are uploaded', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { DERIVATIVES: 'true' } });
  });
  after(() => service.close());

  async function processed(bytes: Uint8Array, name: string) {
    const client = new Client(service.url, `user-${randomUUID()}`);
    const { status, body } = await client.raw(new Uint8Array(bytes), { name });
    assert.equal(status, 201, JSON.stringify(body));
    const asset = await waitUntil(async () => {
      const { body: current } = await client.get(`/v1/assets/${body.id}`);
      return current.processing?.derive?.state === 'waiting' ? undefined : current;
    });
    assert.ok(asset);
    const list = (await client.get(`/v1/assets/${body.id}/derivatives`)).body.data as unknown as DerivativeDocument[];
    return { client, asset, list, path: `/v1/assets/${body.id}/derivatives/thumbnail` };
  }

  test('have their facts on the record and a thumbnail', async () => {
    for (const [bytes, name, facts] of [
      [pdfs.letter({ pages: 4 }), 'letter.pdf', { pages: 4, pageWidth: 595.28, pageHeight: 841.89 }],
      [await (models['tall-column']?.() ?? Buffer.alloc(0)), 'column.glb', { triangles: 12, meshes: 1, nodes: 1 }],
    ] as const) {
      const { client, asset, list, path } = await processed(bytes, name);
      assert.deepEqual({ ...asset.facts, ...facts }, asset.facts);
      assert.deepEqual(
        list.map(({ name: each, state }) => [each, state]),
        [['thumbnail', 'ready']],
      );
      const answer = await client.get(path);
      assert.deepEqual([answer.status, answer.headers.get('content-type')], [200, 'image/webp']);
    }
  });

  test('tell the reason where there is none', async () => {
    const { client, asset, list, path } = await processed(pdfs.encrypted(), 'secret.pdf');
    assert.equal(asset.state, 'ready');
    assert.equal(asset.processing?.facts?.reason, 'encrypted');
    assert.deepEqual(
      list.map(({ state, reason }) => [state, reason]),
      [['failed', 'encrypted']],
    );
    const answer = await client.get(path);
    assert.equal(answer.status, 404);
    assert.match(answer.body.detail ?? '', /encrypted/);
  });
});
