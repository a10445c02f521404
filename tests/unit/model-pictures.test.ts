/** What a picture of a model shows: looked at by its pixels here, and by eye when it was made. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { drawModel } from '../../src/processing/models/picture.ts';
import { box, checkered, type Json, ModelBuilder, models, sphere } from '../support/models.ts';

const directory = mkdtempSync(join(tmpdir(), 'stowage-models-'));
after(() => rmSync(directory, { recursive: true, force: true }));

type Colour = [red: number, green: number, blue: number];

async function look(file: Buffer | ModelBuilder, width = 120, height = 90) {
  const path = join(directory, 'model.glb');
  writeFileSync(path, file instanceof ModelBuilder ? file.file() : file);
  const { pixels } = await drawModel(path, { width, height });
  assert.equal(pixels.length, width * height * 3);
  const at = (x: number, y: number): Colour => {
    const start = (Math.round(y) * width + Math.round(x)) * 3;
    return [pixels[start] ?? 0, pixels[start + 1] ?? 0, pixels[start + 2] ?? 0];
  };
  /** The box around all pixels that satisfy this. */
  const extent = (is: (colour: Colour) => boolean) => {
    const found = { left: width, right: -1, top: height, bottom: -1, count: 0 };
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        if (!is(at(x, y))) continue;
        found.left = Math.min(found.left, x);
        found.right = Math.max(found.right, x);
        found.top = Math.min(found.top, y);
        found.bottom = Math.max(found.bottom, y);
        found.count++;
      }
    return found;
  };
  return { width, height, pixels, at, extent };
}

const isColoured = ([red, green, blue]: Colour) => Math.max(red, green, blue) - Math.min(red, green, blue) > 40;
const isRed = ([red, green, blue]: Colour) => red > 1.5 * green && red > 1.5 * blue;
const isBlue = ([red, green, blue]: Colour) => blue > 1.3 * red && blue > 1.1 * green;
const isGreen = ([red, green, blue]: Colour) => green > 1.3 * red && green > 1.3 * blue;

const unlit = (colour: number[], more: Json = {}): Json => ({
  pbrMetallicRoughness: { baseColorFactor: colour, ...more },
  extensions: { KHR_materials_unlit: {} },
});
const matt = (...colour: number[]): Json => ({
  pbrMetallicRoughness: { baseColorFactor: [...colour, 1], metallicFactor: 0, roughnessFactor: 1 },
});

function only(shape: Parameters<ModelBuilder['primitive']>[0], material: Json, node: Json = {}): ModelBuilder {
  const builder = new ModelBuilder();
  builder.node({ mesh: builder.mesh(builder.primitive(shape, builder.material(material))), ...node });
  return builder;
}

/** A square that faces the camera's side, of two triangles. */
const square = (size: number, z = 0) => ({
  positions: [-size, -size, z, size, -size, z, size, size, z, -size, size, z],
  indices: [0, 1, 2, 0, 2, 3],
  places: [0, 1, 1, 1, 1, 0, 0, 0],
});

describe('the picture of a model', () => {
  test('fills the frame, whatever its shape, its size and its place', async () => {
    for (const scale of [1e-6, 1, 1e6])
      for (const [w, h, d] of [
        [1, 1, 1],
        [0.1, 5, 0.1],
        [5, 0.1, 5],
        [6, 1, 1],
        [0.02, 1, 1],
      ] as const) {
        const node = { scale: [scale, scale, scale], translation: [scale * 7, -scale * 3, scale * 2] };
        const { width, height, extent } = await look(only(box(w, h, d), matt(0.8, 0.05, 0.05), node));
        const { left, right, top, bottom } = extent(isColoured);
        const share = Math.max((right - left + 1) / width, (bottom - top + 1) / height);
        assert.ok(share > 0.78 && share < 0.88, `${w} x ${h} x ${d}: ${share}`);
        assert.ok(Math.abs(left - (width - 1 - right)) <= 2 && Math.abs(top - (height - 1 - bottom)) <= 2);
      }
  });

  test('is the same however far from the origin the model stands', async () => {
    const near = await look(only(sphere(1, 12), matt(0.8, 0.5, 0.1)));
    const far = await look(only(sphere(1, 12), matt(0.8, 0.5, 0.1), { translation: [3e6, -2e6, 5e6] }));
    assert.ok(difference(near.pixels, far.pixels) < 1);
  });

  test('has a light and neutral ground, darker below the model', async () => {
    const { at, width, height } = await look(only(sphere(1, 16), matt(0.1, 0.2, 0.8)));
    for (const [x, y] of [
      [1, 1],
      [width - 2, 1],
      [1, height - 2],
    ] as const) {
      const colour = at(x, y);
      assert.ok(Math.min(...colour) > 200 && !isColoured(colour), String(colour));
    }
    const [shadow] = at(width / 2 + 2, height - 3);
    assert.ok(shadow < (at(2, height - 3)[0] ?? 0) - 15, String(shadow));
  });

  test('has the colours of the file, as sRGB', async () => {
    // Linear 0.5, 0.2140, 0.0513 are 188, 127, 64 in sRGB (IEC 61966-2-1).
    const { at } = await look(only(square(1), unlit([0.5, 0.21404, 0.05127, 1])));
    for (const [k, value] of at(60, 45).entries()) assert.ok(Math.abs(value - ([188, 127, 64][k] ?? 0)) <= 1);
  });

  test('shows a texture, the right way up and as the file turns it', async () => {
    const textured = async (transform?: Json) => {
      const builder = new ModelBuilder();
      const index = builder.picture(await checkered(), 'image/png');
      const baseColorTexture = { index, ...(transform && { extensions: { KHR_texture_transform: transform } }) };
      const material = builder.material(unlit([1, 1, 1, 1], { baseColorTexture }));
      builder.node({ mesh: builder.mesh(builder.primitive(square(1), material)) });
      const { extent, width, height } = await look(builder);
      const { left, right, top, bottom, count } = extent(isRed);
      assert.ok(count > 100);
      return [(left + right) / 2 < width / 2 ? 'left' : 'right', (top + bottom) / 2 < height / 2 ? 'top' : 'bottom'];
    };
    assert.deepEqual(await textured(), ['left', 'top']);
    assert.deepEqual(await textured({ scale: [-1, 1] }), ['right', 'top']);
    assert.deepEqual(await textured({ scale: [1, -1] }), ['left', 'bottom']);
    assert.deepEqual(await textured({ rotation: Math.PI }), ['right', 'bottom']);
  });

  test('never follows the address of a texture', async () => {
    const builder = only(square(1), unlit([0.1, 0.2, 0.9, 1], { baseColorTexture: { index: 0 } }));
    builder.json['images'] = [{ uri: 'file:///etc/passwd' }];
    builder.json['textures'] = [{ source: 0 }];
    assert.ok((await look(builder)).extent(isBlue).count > 1000);
  });

  test('is drawn in plain colours where a texture cannot be read', async () => {
    const builder = new ModelBuilder();
    const index = builder.picture(
      Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
      'image/png',
    );
    const material = builder.material(unlit([0.9, 0.05, 0.05, 1], { baseColorTexture: { index } }));
    builder.node({ mesh: builder.mesh(builder.primitive(square(1), material)) });
    assert.ok((await look(builder)).extent(isRed).count > 1000);
  });

  test('shows the colours of vertices', async () => {
    const colours = [1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1];
    const { extent } = await look(only({ ...square(1), colours }, unlit([1, 1, 1, 1])));
    assert.ok(extent(isRed).bottom > 70 && extent(isBlue).top < 20);
  });

  test('is smooth where the file has normals, and shows facets where it has none', async () => {
    const steps = async (isSmooth: boolean) => {
      const { at, width, height } = await look(only(sphere(1, 6, isSmooth), matt(0.6, 0.6, 0.6)), 200, 200);
      const row = Array.from({ length: 100 }, (_, x) => at(width / 4 + x, height / 2)[0]);
      return Math.max(...row.slice(1).map((value, x) => Math.abs(value - (row[x] ?? 0))));
    };
    assert.ok((await steps(false)) > 3 * (await steps(true)));
  });

  test('has soft edges', async () => {
    const { pixels, width } = await look(only(square(1), unlit([0, 0, 0, 1]), { rotation: [0, 0, 0.2, 0.98] }));
    const between = pixels.filter((value, at) => at % 3 === 0 && value > 60 && value < 180);
    assert.ok(between.length > width / 2, `${between.length}`);
  });

  test('shows the nearest surface, whatever the order', async () => {
    for (const order of [
      [0, 1],
      [1, 0],
    ]) {
      const builder = new ModelBuilder();
      const red = builder.mesh(builder.primitive(square(1, 0), builder.material(unlit([0.8, 0, 0, 1]))));
      const blue = builder.mesh(builder.primitive(square(1, -0.5), builder.material(unlit([0, 0, 0.8, 1]))));
      for (const index of order) builder.node({ mesh: [red, blue][index] ?? 0 });
      const { extent } = await look(builder);
      assert.ok(extent(isRed).count > 4 * extent(isBlue).count);
    }
  });

  test('shows both sides of a surface, and what mirrors it', async () => {
    for (const node of [{}, { rotation: [0, 1, 0, 0] }, { scale: [-1, 1, 1] }])
      assert.ok((await look(only(square(1), matt(0.8, 0.1, 0.1), node))).extent(isRed).count > 1000);
  });

  test('lets what is behind glass be seen, and leaves out what is cut away', async () => {
    const layered = async (front: Json) => {
      const builder = new ModelBuilder();
      builder.node({ mesh: builder.mesh(builder.primitive(square(1, 0.2), builder.material(front))) });
      builder.node({ mesh: builder.mesh(builder.primitive(square(1, 0), builder.material(unlit([0, 0.7, 0, 1])))) });
      return (await look(builder)).at(60, 45);
    };
    assert.ok(isRed(await layered(unlit([0.8, 0, 0, 1]))));
    assert.ok(isGreen(await layered({ ...unlit([0.8, 0, 0, 0.3]), alphaMode: 'MASK' })));
    const [red, green] = await layered({ ...unlit([0.8, 0, 0, 0.5]), alphaMode: 'BLEND' });
    assert.ok(red > 100 && green > 100, `${red}, ${green}`);
  });

  test('has skins in the pose that the file gives their joints', async () => {
    const skinned = (translation: number[]) => {
      const builder = new ModelBuilder();
      const shape = square(1);
      const primitive = builder.primitive(shape, builder.material(unlit([0.8, 0, 0, 1])));
      Object.assign(primitive['attributes'] as Json, {
        JOINTS_0: builder.integers(
          [0, 0, 1, 1].flatMap((joint) => [joint, 0, 0, 0]),
          'VEC4',
          4,
        ),
        WEIGHTS_0: builder.floats(
          'VEC4',
          [0, 0, 0, 0].flatMap(() => [1, 0, 0, 0]),
        ),
      });
      const joints = [builder.node({}), builder.node({ translation })];
      builder.json['skins'] = [{ joints }];
      builder.node({ mesh: builder.mesh(primitive), skin: 0 });
      return look(builder);
    };
    const [still, stretched] = [(await skinned([0, 0, 0])).extent(isRed), (await skinned([0, 8, 0])).extent(isRed)];
    const slimness = ({ left, right, top, bottom }: typeof still) => (bottom - top + 1) / (right - left + 1);
    assert.ok(slimness(stretched) > 3 * slimness(still));
  });

  test('draws quantized, sparse, strip and fan geometry like any other', async () => {
    const plain = await look(only(square(1), unlit([0.8, 0, 0, 1])));
    const quantized = new ModelBuilder();
    const view = quantized.view(
      new Uint8Array(
        Int16Array.from([-1, -1, 0, 0, 1, -1, 0, 0, 1, 1, 0, 0, -1, 1, 0, 0].map((n) => n * 32_767)).buffer,
      ),
    );
    Object.assign(quantized.json.bufferViews[view] ?? {}, { byteStride: 8 });
    const POSITION =
      quantized.json.accessors.push({
        bufferView: view,
        componentType: 5122,
        normalized: true,
        type: 'VEC3',
        count: 4,
      }) - 1;
    quantized.json['extensionsRequired'] = ['KHR_mesh_quantization'];
    const material = quantized.material(unlit([0.8, 0, 0, 1]));
    quantized.node({
      mesh: quantized.mesh({ attributes: { POSITION }, indices: quantized.integers([0, 1, 2, 0, 2, 3]), material }),
    });
    assert.ok(difference((await look(quantized)).pixels, plain.pixels) < 1);

    for (const [mode, indices] of [
      [5, [0, 1, 3, 2]],
      [6, [0, 1, 2, 3]],
    ] as const) {
      const builder = new ModelBuilder();
      const primitive = builder.primitive(
        { ...square(1), indices: [...indices] },
        builder.material(unlit([0.8, 0, 0, 1])),
      );
      builder.node({ mesh: builder.mesh({ ...primitive, mode }) });
      assert.ok(difference((await look(builder)).pixels, plain.pixels) < 1, `mode ${mode}`);
    }

    const sparse = new ModelBuilder();
    const bent = sparse.primitive(
      { ...square(1), positions: square(1).positions.map((n, at) => (at === 6 ? 0 : n)) },
      sparse.material(unlit([0.8, 0, 0, 1])),
    );
    const indices = sparse.view(new Uint8Array(Uint16Array.of(2).buffer));
    const values = sparse.view(new Uint8Array(Float32Array.of(1, 1, 0).buffer));
    Object.assign(sparse.json.accessors[0] ?? {}, {
      sparse: { count: 1, indices: { bufferView: indices, componentType: 5123 }, values: { bufferView: values } },
    });
    sparse.node({ mesh: sparse.mesh(bent) });
    assert.ok(difference((await look(sparse)).pixels, plain.pixels) < 1);
  });

  test('comes of every model that was looked at by eye', async () => {
    for (const [name, make] of Object.entries(models)) {
      const { pixels } = await look(await make(), 80, 60);
      const mean = pixels.reduce((sum, value) => sum + value, 0) / pixels.length;
      const spread = Math.sqrt(pixels.reduce((sum, value) => sum + (value - mean) ** 2, 0) / pixels.length);
      assert.ok(spread > 10, name);
    }
  });
});

/** Mean of the differences of all bytes. */
function difference(a: Uint8Array, b: Uint8Array): number {
  return a.reduce((sum, value, at) => sum + Math.abs(value - (b[at] ?? 0)), 0) / a.length;
}
