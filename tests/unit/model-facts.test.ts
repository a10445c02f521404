/** What is read of a binary glTF, and what is refused before anything is allocated for it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { modelFacts } from '../../src/processing/models/facts.ts';
import { drawModel } from '../../src/processing/models/picture.ts';
import { ModelRefused } from '../../src/processing/models/refusal.ts';
import { box, glbOf, type Json, ModelBuilder, models, sphere } from '../support/models.ts';

const directory = mkdtempSync(join(tmpdir(), 'stowage-models-'));
after(() => rmSync(directory, { recursive: true, force: true }));

function stored(bytes: Uint8Array): string {
  const path = join(directory, 'model.glb');
  writeFileSync(path, bytes);
  return path;
}

const frame = { width: 40, height: 30 };
const factsOf = (bytes: Uint8Array) => modelFacts(stored(bytes));
const pictureOf = (bytes: Uint8Array) => drawModel(stored(bytes), frame);

/** A box whose JSON is then changed. */
function changed(
  change: (json: Json & { [Name in keyof ModelBuilder['json']]: ModelBuilder['json'][Name] }) => void,
): Buffer {
  const builder = new ModelBuilder();
  builder.node({ mesh: builder.mesh(builder.primitive(box(1, 1, 1))) });
  change(builder.json);
  return builder.file();
}

const first = (list: unknown): Json => (list as Json[])[0] ?? {};
const primitive = (json: Json): Json => first(first(json['meshes'])['primitives']);

describe('facts of a model', () => {
  test('count what is there, and what stands at two places twice', async () => {
    const builder = new ModelBuilder();
    const mesh = builder.mesh(builder.primitive(box(1, 2, 4), builder.material({})));
    builder.mesh(builder.primitive(sphere(9, 4)));
    builder.node({ mesh });
    builder.node({ mesh, translation: [10, 0, 0], scale: [2, 1, 1] });
    builder.json['animations'] = [{ channels: [], samplers: [] }];
    assert.deepEqual(await factsOf(builder.file()), {
      triangles: 24,
      meshes: 2,
      nodes: 2,
      materials: 1,
      animations: 1,
      boundingBox: { min: [-0.5, -1, -2], max: [11, 1, 2] },
    });
  });

  test('have the box of the scene where its nodes put it', async () => {
    const { triangles, boundingBox } = await factsOf(await (models['node-tree']?.() ?? Buffer.alloc(0)));
    assert.equal(triangles, 1084);
    assert.deepEqual(boundingBox, { min: [3.7, -1.1, -0.1], max: [6.3, 2.1, 4.1] });
  });

  for (const [mode, triangles] of [
    [0, 0],
    [1, 0],
    [4, 12],
    [5, 34],
    [6, 34],
  ] as const)
    test(`count the triangles of mode ${mode}`, async () => {
      const { triangles: counted } = await factsOf(changed((json) => Object.assign(primitive(json), { mode })));
      assert.equal(counted, triangles);
    });

  test('are those of a compressed model, too', async () => {
    const compressed = changed((json) => {
      Object.assign(primitive(json), { extensions: { KHR_draco_mesh_compression: { bufferView: 0 } } });
      for (const accessor of json.accessors) delete accessor['bufferView'];
      json['extensionsRequired'] = ['KHR_draco_mesh_compression'];
    });
    const { triangles, boundingBox } = await factsOf(compressed);
    assert.deepEqual([triangles, boundingBox], [12, { min: [-0.5, -0.5, -0.5], max: [0.5, 0.5, 0.5] }]);
    await assert.rejects(pictureOf(compressed), { reason: 'unsupported-draco' });
  });

  test('come without a box where its numbers lead nowhere', async () => {
    const { boundingBox } = await factsOf(
      changed((json) =>
        Object.assign(first(json['nodes']), { scale: [1.7e308, 1.7e308, 1.7e308], translation: [1.7e308, 0, 0] }),
      ),
    );
    assert.equal(boundingBox, undefined);
  });
});

describe('a model is refused', () => {
  const cases: [what: string, reason: string, file: () => Buffer][] = [
    ['that is empty', 'damaged', () => Buffer.alloc(0)],
    ['that is text', 'damaged', () => Buffer.from('a text that is longer than a header')],
    [
      'of version 1',
      'damaged',
      () =>
        withBytes(
          changed(() => {}),
          4,
          1,
        ),
    ],
    ['that is cut off', 'damaged', () => changed(() => {}).subarray(0, 500)],
    ['whose JSON is none', 'damaged', () => glbOf('{"nodes": [')],
    ['whose JSON is another', 'damaged', () => glbOf({ nodes: 'many' })],
    [
      'with a circle of nodes',
      'damaged',
      () => nodesOf([{ children: [1] }, { children: [2] }, { children: [1] }], [0]),
    ],
    [
      'with a node that is its own child',
      'damaged',
      () => changed((json) => Object.assign(first(json.nodes), { children: [0] })),
    ],
    ['with a node of two parents', 'damaged', () => nodesOf([{}, { children: [0] }, { children: [0] }], [1, 2])],
    [
      'with a node that is not there',
      'damaged',
      () => changed((json) => Object.assign(first(json.nodes), { children: [7] })),
    ],
    ['that is too deep', 'too-large', () => chain(600)],
    [
      'with more nodes than it may have',
      'too-large',
      () => glbOf({ scenes: [{ nodes: [] }], nodes: Array.from({ length: 100_001 }, () => ({})) }),
    ],
    ['with primitives beyond number', 'too-large', () => multiplied(2000, 60)],
    [
      'whose count is a lie',
      'damaged',
      () => changed((json) => Object.assign(first(json.accessors), { count: 4_000_000_000 })),
    ],
    [
      'whose view reaches beyond the data',
      'damaged',
      () => changed((json) => Object.assign(first(json.bufferViews), { byteLength: 1e9, byteOffset: 1e9 })),
    ],
    [
      'whose stride reaches beyond the view',
      'damaged',
      () => changed((json) => Object.assign(first(json.bufferViews), { byteStride: 252 })),
    ],
    [
      'whose offset is negative',
      'damaged',
      () => changed((json) => Object.assign(first(json.bufferViews), { byteOffset: -4 })),
    ],
    [
      'with an accessor of no known kind',
      'damaged',
      () => changed((json) => Object.assign(first(json.accessors), { componentType: 5130 })),
    ],
    [
      'whose data lie at an address',
      'damaged',
      () => withBuffer({ uri: 'http://127.0.0.1:9/secret', byteLength: 1e6 }),
    ],
  ];
  for (const [what, reason, file] of cases)
    test(what, async () => {
      await assert.rejects(factsOf(file()), (error) => error instanceof ModelRefused && error.reason === reason);
      await assert.rejects(pictureOf(file()), (error) => error instanceof ModelRefused && error.reason === reason);
    });

  const drawn: typeof cases = [
    ['without triangles', 'nothing-to-draw', () => glbOf({ scenes: [{ nodes: [0] }], nodes: [{}] })],
    [
      'of one place',
      'nothing-to-draw',
      () => changed((json) => Object.assign(first(json.nodes), { scale: [0, 0, 0] })),
    ],
    [
      'compressed by meshopt',
      'unsupported-meshopt',
      () => changed((json) => Object.assign(json, { extensionsRequired: ['EXT_meshopt_compression'] })),
    ],
    [
      'with a view compressed by meshopt',
      'unsupported-meshopt',
      () =>
        changed((json) =>
          Object.assign(first(json.bufferViews), { extensions: { EXT_meshopt_compression: { buffer: 0 } } }),
        ),
    ],
    [
      'with KTX2 textures',
      'unsupported-ktx2',
      () => changed((json) => Object.assign(json, { extensionsRequired: ['KHR_texture_basisu'] })),
    ],
    [
      'that requires what is not known',
      'unsupported-extension',
      () => changed((json) => Object.assign(json, { extensionsRequired: ['ACME_shapes'] })),
    ],
    [
      'with corners that are not there',
      'damaged',
      () => changed((json) => Object.assign(json.accessors.at(-1) ?? {}, { bufferView: 0, count: 24 })),
    ],
    ['with more triangles than it may have', 'too-large', () => multiplied(1000, 1, sphere(1, 24))],
    [
      'with attributes of another number',
      'damaged',
      () => changed((json) => Object.assign(json.accessors[1] ?? {}, { count: 3 })),
    ],
    ['with a skin that is not there', 'damaged', () => skinned((json) => Object.assign(json, { skins: [] }))],
    [
      'with a joint that is not there',
      'damaged',
      () => skinned((json) => Object.assign(first(json['skins']), { joints: [0, 9] })),
    ],
  ];
  for (const [what, reason, file] of drawn)
    test(`as a picture: ${what}`, async () => {
      await assert.rejects(pictureOf(file()), (error) => error instanceof ModelRefused && error.reason === reason);
      await factsOf(file());
    });
});

describe('whatever a file says', () => {
  test('it is a picture or a refusal, and takes no more memory than the limits allow', async () => {
    const names = ['textured-cube', 'node-tree', 'metal-and-glass'];
    const files = await Promise.all(names.map(async (name) => (await models[name]?.()) ?? Buffer.alloc(0)));
    const before = process.memoryUsage();
    const outcomes = { drawn: 0, refused: 0 };
    const change = fc.record({
      // Whole numbers are spread evenly; doubles are mostly next to zero.
      at: fc.integer({ min: 0, max: 1_000_000 }).map((n) => n / 1_000_000),
      value: fc.integer({ min: 0, max: 255 }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(
          ...files,
          skinned(() => {}),
        ),
        fc.array(change, { minLength: 1, maxLength: 12 }),
        fc.boolean(),
        async (file, changes, isOfJson) => {
          const bytes = Buffer.from(file);
          const jsonEnd = 20 + bytes.readUInt32LE(12);
          const [from, length] = isOfJson ? [0, jsonEnd] : [jsonEnd, bytes.length - jsonEnd];
          for (const { at, value } of changes) bytes[from + Math.floor(at * (length - 1))] = value;
          await modelFacts(stored(bytes)).catch(expectRefusal);
          await drawModel(stored(bytes), { width: 16, height: 12 }).then(
            () => outcomes.drawn++,
            (error: unknown) => {
              expectRefusal(error);
              outcomes.refused++;
            },
          );
        },
      ),
      { numRuns: 400 },
    );
    assert.ok(outcomes.drawn > 20 && outcomes.refused > 20, JSON.stringify(outcomes));
    assert.ok(process.memoryUsage().arrayBuffers - before.arrayBuffers < 200 * 2 ** 20);
  });

  test('numbers in its JSON may be any', async () => {
    const numbers = fc.oneof(fc.constantFrom(-1, 0.5, 1e9, 2 ** 32, 2 ** 53, 1e308, -1e308), fc.integer(), fc.double());
    const json = glbJson(skinned(() => {}));
    const places = numbersIn(json.value);
    await fc.assert(
      fc.asyncProperty(fc.nat(places.length - 1), numbers, async (at, value) => {
        const copy = structuredClone(json.value);
        places[at]?.(copy, value);
        const file = glbOf(copy, json.binary);
        await modelFacts(stored(file)).catch(expectRefusal);
        await drawModel(stored(file), { width: 16, height: 12 }).catch(expectRefusal);
      }),
      { numRuns: 300 },
    );
  });
});

function expectRefusal(error: unknown): void {
  if (!(error instanceof ModelRefused)) throw error;
}

function withBytes(file: Buffer, at: number, value: number): Buffer {
  file.writeUInt32LE(value, at);
  return file;
}

function nodesOf(nodes: Json[], roots: number[]): Buffer {
  return glbOf({ scenes: [{ nodes: roots }], nodes });
}

function chain(length: number): Buffer {
  const nodes = Array.from({ length }, (_, id) => (id + 1 < length ? { children: [id + 1] } : {}));
  return nodesOf(nodes, [0]);
}

/** So many nodes that show a mesh of so many primitives, which are all the same. */
function multiplied(nodes: number, primitives: number, shape = box(1, 1, 1)): Buffer {
  const builder = new ModelBuilder();
  const one = builder.primitive(shape);
  const mesh = builder.mesh(...Array.from({ length: primitives }, () => one));
  for (let id = 0; id < nodes; id++) builder.node({ mesh });
  return builder.file();
}

function withBuffer(buffer: Json): Buffer {
  const builder = new ModelBuilder();
  builder.node({ mesh: builder.mesh(builder.primitive(box(1, 1, 1))) });
  return glbOf({ ...builder.json, buffers: [buffer] }, builder.binary);
}

/** A column whose upper half follows a joint. */
function skinned(change: (json: Json) => void): Buffer {
  const builder = new ModelBuilder();
  const shape = box(1, 4, 1);
  const primitive = builder.primitive(shape);
  const vertices = shape.positions.length / 3;
  const upper = Array.from({ length: vertices }, (_, vertex) => ((shape.positions[vertex * 3 + 1] ?? 0) > 0 ? 1 : 0));
  Object.assign(primitive['attributes'] as Json, {
    JOINTS_0: builder.integers(
      upper.flatMap((joint) => [joint, 0, 0, 0]),
      'VEC4',
      4,
    ),
    WEIGHTS_0: builder.floats(
      'VEC4',
      upper.flatMap(() => [1, 0, 0, 0]),
    ),
  });
  const still = builder.node({});
  const moved = builder.node({ translation: [3, 0, 0] });
  builder.json['skins'] = [{ joints: [still, moved] }];
  builder.node({ mesh: builder.mesh(primitive), skin: 0 });
  change(builder.json);
  return builder.file();
}

function glbJson(file: Buffer): { value: Json; binary: Buffer } {
  const length = file.readUInt32LE(12);
  return { value: JSON.parse(file.toString('utf8', 20, 20 + length)), binary: file.subarray(28 + length) };
}

/** What sets each number of a document. */
function numbersIn(value: unknown): ((copy: Json, number: number) => void)[] {
  const found: ((copy: Json, number: number) => void)[] = [];
  const visit = (part: unknown, path: string[]) => {
    if (typeof part === 'number') found.push((copy, number) => set(copy, path, number));
    else if (part instanceof Object) for (const [name, inner] of Object.entries(part)) visit(inner, [...path, name]);
  };
  visit(value, []);
  return found;
}

function set(copy: Json, path: readonly string[], number: number): void {
  const last = path.at(-1) ?? '';
  const parent = path.slice(0, -1).reduce<Json>((part, name) => part[name] as Json, copy);
  parent[last] = number;
}
