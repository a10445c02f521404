/** Binary glTF files, made by code: small ones of every kind that a picture is made of. */
import { writeFileSync } from 'node:fs';
import sharp from 'sharp';
import { randomFrom } from './random.ts';

export type Json = Record<string, unknown>;

/** A file of a JSON and a binary chunk, whatever they hold. */
export function glbOf(json: unknown, binary: Uint8Array = new Uint8Array(0)): Buffer {
  const pad = (bytes: Uint8Array, by: string) =>
    Buffer.concat([bytes, Buffer.from(by.repeat((4 - (bytes.length % 4)) % 4))]);
  const text = pad(Buffer.from(typeof json === 'string' ? json : JSON.stringify(json)), ' ');
  const data = pad(binary, '\0');
  const chunk = (type: number, bytes: Buffer) => {
    const header = Buffer.alloc(8);
    header.writeUInt32LE(bytes.length, 0);
    header.writeUInt32LE(type, 4);
    return Buffer.concat([header, bytes]);
  };
  const chunks = Buffer.concat([chunk(0x4e4f534a, text), ...(data.length > 0 ? [chunk(0x004e4942, data)] : [])]);
  const header = Buffer.alloc(12);
  header.write('glTF', 0, 'latin1');
  header.writeUInt32LE(2, 4);
  header.writeUInt32LE(12 + chunks.length, 8);
  return Buffer.concat([header, chunks]);
}

export interface Shape {
  positions: number[];
  indices?: number[];
  normals?: number[];
  places?: number[];
  colours?: number[];
}

/** Puts a file together, array by array. */
export class ModelBuilder {
  readonly json: Json & Record<'accessors' | 'bufferViews' | 'meshes' | 'nodes' | 'materials', Json[]> = {
    asset: { version: '2.0' },
    scene: 0,
    scenes: [{ nodes: [] as number[] }],
    accessors: [],
    bufferViews: [],
    meshes: [],
    nodes: [],
    materials: [],
  };
  #binary = Buffer.alloc(0);

  view(bytes: Uint8Array): number {
    const byteOffset = this.#binary.length;
    const padding = Buffer.alloc((4 - (bytes.length % 4)) % 4);
    this.#binary = Buffer.concat([this.#binary, bytes, padding]);
    return this.json.bufferViews.push({ buffer: 0, byteOffset, byteLength: bytes.length }) - 1;
  }

  floats(type: string, values: readonly number[], more: Json = {}): number {
    const arity = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4, MAT4: 16 }[type] ?? 1;
    const bufferView = this.view(new Uint8Array(Float32Array.from(values).buffer));
    return (
      this.json.accessors.push({ bufferView, componentType: 5126, type, count: values.length / arity, ...more }) - 1
    );
  }

  integers(values: readonly number[], type = 'SCALAR', arity = 1): number {
    const bufferView = this.view(new Uint8Array(Uint32Array.from(values).buffer));
    return this.json.accessors.push({ bufferView, componentType: 5125, type, count: values.length / arity }) - 1;
  }

  material(material: Json): number {
    return this.json.materials.push(material) - 1;
  }

  primitive({ positions, indices, normals, places, colours }: Shape, material?: number): Json {
    const axis = (k: number) => positions.filter((_, at) => at % 3 === k);
    const box = (of: (values: number[]) => number) => [0, 1, 2].map((k) => Math.fround(of(axis(k))));
    const attributes: Json = {
      POSITION: this.floats('VEC3', positions, {
        min: box((values) => values.reduce((a, b) => Math.min(a, b))),
        max: box((values) => values.reduce((a, b) => Math.max(a, b))),
      }),
    };
    if (normals) attributes['NORMAL'] = this.floats('VEC3', normals);
    if (places) attributes['TEXCOORD_0'] = this.floats('VEC2', places);
    if (colours) attributes['COLOR_0'] = this.floats('VEC3', colours);
    return {
      attributes,
      ...(indices && { indices: this.integers(indices) }),
      ...(material !== undefined && { material }),
    };
  }

  mesh(...primitives: Json[]): number {
    return this.json.meshes.push({ primitives }) - 1;
  }

  /** @param inScene false for nodes that are children of others */
  node(node: Json, inScene = true): number {
    const id = this.json.nodes.push(node) - 1;
    if (inScene) (this.json['scenes'] as { nodes: number[] }[])[0]?.nodes.push(id);
    return id;
  }

  /** @returns number of the texture */
  picture(bytes: Uint8Array, mimeType: string, sampler?: Json): number {
    const list = (name: string) => {
      this.json[name] ??= [];
      return this.json[name] as Json[];
    };
    const source = list('images').push({ bufferView: this.view(bytes), mimeType }) - 1;
    const at = sampler && list('samplers').push(sampler) - 1;
    return list('textures').push({ source, ...(at !== undefined && { sampler: at }) }) - 1;
  }

  get binary(): Buffer {
    return this.#binary;
  }

  file(): Buffer {
    return glbOf({ ...this.json, buffers: [{ byteLength: this.#binary.length }] }, this.#binary);
  }
}

/** Corners of a box, with a face each of its own. */
export function box(width: number, height: number, depth: number): Shape {
  const faces: [number[], number[], number[]][] = [
    [
      [0, 0, 1],
      [1, 0, 0],
      [0, 1, 0],
    ],
    [
      [0, 0, -1],
      [-1, 0, 0],
      [0, 1, 0],
    ],
    [
      [1, 0, 0],
      [0, 0, -1],
      [0, 1, 0],
    ],
    [
      [-1, 0, 0],
      [0, 0, 1],
      [0, 1, 0],
    ],
    [
      [0, 1, 0],
      [1, 0, 0],
      [0, 0, -1],
    ],
    [
      [0, -1, 0],
      [1, 0, 0],
      [0, 0, 1],
    ],
  ];
  const half = [width / 2, height / 2, depth / 2];
  const shape = { positions: [] as number[], indices: [] as number[], normals: [] as number[], places: [] as number[] };
  for (const [normal, right, up] of faces) {
    const first = shape.positions.length / 3;
    for (const [u, v] of [
      [-1, -1],
      [1, -1],
      [1, 1],
      [-1, 1],
    ] as const) {
      for (let k = 0; k < 3; k++)
        shape.positions.push(((normal[k] ?? 0) + (right[k] ?? 0) * u + (up[k] ?? 0) * v) * (half[k] ?? 0));
      shape.normals.push(...normal);
      shape.places.push((u + 1) / 2, (1 - v) / 2);
    }
    shape.indices.push(first, first + 1, first + 2, first, first + 2, first + 3);
  }
  return shape;
}

/** @param isSmooth with normals; else its facets show */
export function sphere(radius: number, rings: number, isSmooth = true): Shape {
  const shape: Shape = { positions: [], indices: [], normals: [], places: [] };
  for (let ring = 0; ring <= rings; ring++)
    for (let step = 0; step <= rings * 2; step++) {
      const [polar, around] = [(ring / rings) * Math.PI, (step / rings) * Math.PI];
      const normal = [Math.sin(polar) * Math.sin(around), Math.cos(polar), Math.sin(polar) * Math.cos(around)];
      shape.positions.push(...normal.map((value) => value * radius));
      shape.normals?.push(...normal);
      shape.places?.push(step / rings / 2, ring / rings);
    }
  const row = rings * 2 + 1;
  for (let ring = 0; ring < rings; ring++)
    for (let step = 0; step < rings * 2; step++) {
      const at = ring * row + step;
      shape.indices?.push(at, at + row, at + row + 1, at, at + row + 1, at + 1);
    }
  if (!isSmooth) delete shape.normals;
  return shape;
}

/** A hilly square whose colour tells the height. */
function terrain(side: number): Shape {
  const shape = { positions: [] as number[], indices: [] as number[], colours: [] as number[] };
  const height = (x: number, z: number) =>
    0.22 * Math.sin(x * 3.1) * Math.cos(z * 2.3) + 0.1 * Math.sin(x * 7 + z * 5) + 0.05 * Math.cos(z * 13 - x * 4);
  for (let row = 0; row <= side; row++)
    for (let column = 0; column <= side; column++) {
      const [x, z] = [(column / side) * 4 - 2, (row / side) * 4 - 2];
      const y = height(x, z);
      shape.positions.push(x, y, z);
      shape.colours.push(...(y < -0.12 ? [0.05, 0.2, 0.45] : y < 0.12 ? [0.12, 0.35, 0.08] : [0.75, 0.72, 0.7]));
    }
  for (let row = 0; row < side; row++)
    for (let column = 0; column < side; column++) {
      const at = row * (side + 1) + column;
      shape.indices.push(at, at + side + 1, at + 1, at + 1, at + side + 1, at + side + 2);
    }
  return shape;
}

const plain = (r: number, g: number, b: number, more: Json = {}): Json => ({
  pbrMetallicRoughness: { baseColorFactor: [r, g, b, 1], metallicFactor: 0, roughnessFactor: 0.6, ...more },
});

/** Squares of two colours with a mark in a corner, so that it shows which way up it is. */
export function checkered(side = 256): Promise<Buffer> {
  const pixels = Buffer.alloc(side * side * 3);
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++) {
      const isMark = x < side / 4 && y < side / 4;
      const isDark = (Math.floor((x * 8) / side) + Math.floor((y * 8) / side)) % 2 === 0;
      pixels.set(isMark ? [220, 40, 40] : isDark ? [40, 70, 120] : [245, 235, 210], (y * side + x) * 3);
    }
  return sharp(pixels, { raw: { width: side, height: side, channels: 3 } })
    .png()
    .toBuffer();
}

/** Each a file, by what it shows. */
export const models: Record<string, () => Promise<Buffer>> = {
  'textured-cube': async () => {
    const builder = new ModelBuilder();
    const texture = builder.picture(await checkered(), 'image/png');
    const material = builder.material({
      pbrMetallicRoughness: { baseColorTexture: { index: texture }, metallicFactor: 0, roughnessFactor: 0.7 },
    });
    builder.node({ mesh: builder.mesh(builder.primitive(box(1, 1, 1), material)) });
    return builder.file();
  },
  sphere: async () => {
    const builder = new ModelBuilder();
    const material = builder.material(plain(0.8, 0.1, 0.05, { roughnessFactor: 0.3 }));
    builder.node({ mesh: builder.mesh(builder.primitive(sphere(1, 24), material)) });
    return builder.file();
  },
  'faceted-sphere': async () => {
    const builder = new ModelBuilder();
    builder.node({ mesh: builder.mesh(builder.primitive(sphere(1, 10, false))) });
    return builder.file();
  },
  terrain: async () => {
    const builder = new ModelBuilder();
    builder.node({ mesh: builder.mesh(builder.primitive(terrain(120), builder.material(plain(1, 1, 1)))) });
    return builder.file();
  },
  'node-tree': async () => {
    const builder = new ModelBuilder();
    const wood = builder.mesh(builder.primitive(box(1, 1, 1), builder.material(plain(0.55, 0.3, 0.12))));
    const legs = [-1, 1].flatMap((x) =>
      [-1, 1].map((z) =>
        builder.node({ mesh: wood, translation: [x * 0.9, -0.55, z * 0.5], scale: [0.12, 1, 0.12] }, false),
      ),
    );
    const ball = builder.mesh(builder.primitive(sphere(0.25, 16), builder.material(plain(0.1, 0.5, 0.3))));
    const top = builder.node({ mesh: wood, scale: [2.1, 0.12, 1.3] }, false);
    const lamp = builder.node({ mesh: ball, translation: [0.4, 0.3, 0] }, false);
    // Turned by 90 degrees round Y.
    builder.node({
      children: [...legs, top, lamp],
      rotation: [0, Math.SQRT1_2, 0, Math.SQRT1_2],
      translation: [5, 1, 2],
      scale: [2, 2, 2],
    });
    return builder.file();
  },
  'tall-column': async () => {
    const builder = new ModelBuilder();
    builder.node({ mesh: builder.mesh(builder.primitive(box(0.2, 6, 0.2), builder.material(plain(0.2, 0.3, 0.7)))) });
    return builder.file();
  },
  'far-away': async () => {
    const builder = new ModelBuilder();
    const mesh = builder.mesh(builder.primitive(sphere(1, 20), builder.material(plain(0.9, 0.6, 0.1))));
    builder.node({ mesh, translation: [3_000_000, -2_000_000, 5_000_000] });
    return builder.file();
  },
  plane: async () => {
    const builder = new ModelBuilder();
    const texture = builder.picture(await checkered(), 'image/png');
    const material = builder.material({
      doubleSided: true,
      pbrMetallicRoughness: { baseColorTexture: { index: texture }, metallicFactor: 0 },
    });
    const positions = [-1, 0, 0, 1, 0, 0, 1, 1.2, 0, -1, 1.2, 0];
    const places = [0, 1, 1, 1, 1, 0, 0, 0];
    builder.node({
      mesh: builder.mesh(builder.primitive({ positions, places, indices: [0, 1, 2, 0, 2, 3] }, material)),
    });
    return builder.file();
  },
  'metal-and-glass': async () => {
    const builder = new ModelBuilder();
    const gold = builder.material({
      pbrMetallicRoughness: { baseColorFactor: [1, 0.76, 0.33, 1], metallicFactor: 1, roughnessFactor: 0.2 },
    });
    const chrome = builder.material({
      pbrMetallicRoughness: { baseColorFactor: [0.9, 0.9, 0.9, 1], metallicFactor: 1, roughnessFactor: 0.05 },
    });
    const glass = builder.material({
      alphaMode: 'BLEND',
      pbrMetallicRoughness: { baseColorFactor: [0.3, 0.6, 0.9, 0.35], metallicFactor: 0, roughnessFactor: 0.1 },
    });
    const glow = builder.material({ ...plain(0, 0, 0), emissiveFactor: [0.1, 0.9, 0.4] });
    const ball = (material: number) => builder.mesh(builder.primitive(sphere(0.5, 24), material));
    builder.node({ mesh: ball(gold), translation: [-1.1, 0.5, 0] });
    builder.node({ mesh: ball(chrome), translation: [0, 0.5, 0] });
    builder.node({ mesh: ball(glass), translation: [1.1, 0.5, 0.2] });
    builder.node({ mesh: builder.mesh(builder.primitive(box(0.3, 0.3, 0.3), glow)), translation: [1.1, 0.15, -0.6] });
    builder.node({
      mesh: builder.mesh(builder.primitive(box(4, 0.1, 2.4), builder.material(plain(0.5, 0.5, 0.52)))),
      translation: [0, -0.05, 0],
    });
    return builder.file();
  },
  town: async () => {
    const builder = new ModelBuilder();
    const random = randomFrom(7);
    const house = builder.mesh(builder.primitive(box(1, 1, 1), builder.material(plain(0.85, 0.83, 0.8))));
    for (let x = 0; x < 10; x++)
      for (let z = 0; z < 10; z++) {
        const height = 0.3 + random() ** 3 * 4;
        builder.node({ mesh: house, translation: [x * 1.4, height / 2, z * 1.4], scale: [1, height, 1] });
      }
    return builder.file();
  },
};

if (import.meta.main)
  for (const [name, make] of Object.entries(models)) writeFileSync(`${process.argv[2]}/${name}.glb`, await make());
