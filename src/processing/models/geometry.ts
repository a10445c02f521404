/**
 * The triangles of a scene in world space, at rest: skins are in the pose that the file gives their joints, and neither
 * animations nor morph targets move anything.
 */
import { readFloats, readIntegers, type Values } from './accessors.ts';
import type { Glb } from './glb.ts';
import { type Matrix, multiply, normalMatrix, transformPoint, type Vector } from './matrix.ts';
import { damaged, ModelRefused, tooLarge } from './refusal.ts';
import { type Instance, isDraco, type Scene, trianglesOf } from './scene.ts';

export interface GeometryLimits {
  /** Of the scene; a mesh that stands at two places counts twice. */
  triangles: number;
  /** Of the scene; vertices that primitives share count once. */
  vertices: number;
}

/** How often the vertices of a scene may be gone through; more is needed by files that cut one mesh into hundreds. */
const SHARES = 8;

/** Triangles of one primitive where it stands. */
export interface Part {
  instance: Instance;
  /** Three numbers each, less `origin`: single precision is fine near zero only. */
  positions: Float32Array;
  /** Three corners each; every one of them exists. */
  triangles: Uint32Array;
}

export interface Geometry {
  parts: Part[];
  /** What positions count from. */
  origin: Vector;
}

/** What extensions a file may require: those that are drawn, and those without which the picture is nearly the same. */
const KNOWN_EXTENSIONS =
  /^(KHR_mesh_quantization|KHR_texture_transform|KHR_lights_punctual|KHR_materials_\w+|EXT_texture_(webp|avif)|KHR_animation_pointer|KHR_xmp_json_ld)$/;

/** @throws ModelRefused when a required extension is one without which the model cannot be drawn */
export function checkExtensions({ gltf }: Glb): void {
  for (const name of gltf.extensionsRequired ?? []) {
    if (name === 'KHR_draco_mesh_compression') throw draco();
    if (/^(EXT|KHR)_meshopt_compression$/.test(name))
      throw new ModelRefused('unsupported-meshopt', 'the meshes are compressed by meshopt');
    if (name === 'KHR_texture_basisu') throw new ModelRefused('unsupported-ktx2', 'the textures are KTX2');
    if (!KNOWN_EXTENSIONS.test(name))
      throw new ModelRefused('unsupported-extension', `the file requires ${name.slice(0, 100)}`);
  }
}

const draco = () => new ModelRefused('unsupported-draco', 'the meshes are compressed by Draco');

/** @throws ModelRefused */
export async function readGeometry(glb: Glb, scene: Scene, limits: GeometryLimits): Promise<Geometry> {
  const drawn = scene.instances.filter(({ triangles }) => triangles > 0);
  const total = drawn.reduce((sum, { triangles }) => sum + triangles, 0);
  if (total > limits.triangles) throw tooLarge(`the scene has more than ${limits.triangles} triangles`);
  checkShares(glb, drawn, limits);
  const reader = new PositionReader(glb, scene, limits.vertices);
  const parts: Part[] = [];
  for (const instance of drawn) {
    // A file may bring the same meshes uncompressed for those who do not know Draco.
    if (isDraco(instance.primitive) && !hasOwnBytes(glb, instance)) throw draco();
    const positions = await reader.read(instance);
    const triangles = await readTriangles(glb, instance, positions.length / 3, limits);
    if (triangles.length > 0) parts.push({ instance, positions, triangles });
  }
  return { parts, origin: reader.origin };
}

/** Primitives that share vertices keep none of them in memory twice, but each goes through all of them. */
function checkShares({ gltf }: Glb, drawn: readonly Instance[], { vertices }: GeometryLimits): void {
  const shares = drawn.reduce(
    (sum, { primitive }) => sum + (gltf.accessors?.[primitive.attributes['POSITION'] ?? -1]?.count ?? 0),
    0,
  );
  if (shares > vertices * SHARES) throw tooLarge(`the primitives go through more than ${vertices * SHARES} vertices`);
}

const hasOwnBytes = ({ gltf }: Glb, { primitive }: Instance) =>
  gltf.accessors?.[primitive.attributes['POSITION'] ?? -1]?.bufferView !== undefined;

async function readTriangles(
  glb: Glb,
  { primitive }: Instance,
  vertices: number,
  limits: GeometryLimits,
): Promise<Uint32Array> {
  const corners =
    primitive.indices === undefined
      ? inOrder(vertices)
      : await readIntegers(glb, primitive.indices, 1, limits.triangles * 3);
  for (const corner of corners) if (corner >= vertices) throw damaged(`there is no vertex ${corner}`);
  return trianglesOf(primitive.mode, corners);
}

function inOrder(vertices: number): Uint32Array {
  const corners = new Uint32Array(vertices);
  for (let corner = 0; corner < vertices; corner++) corners[corner] = corner;
  return corners;
}

/** Primitives often share their vertices, so those of a node are kept until the next node. */
class PositionReader {
  origin: Vector = [0, 0, 0];
  readonly #glb: Glb;
  readonly #scene: Scene;
  readonly #most: number;
  #vertices = 0;
  #hasOrigin = false;
  #node = -1;
  #ofNode = new Map<number, Float32Array>();

  constructor(glb: Glb, scene: Scene, most: number) {
    this.#glb = glb;
    this.#scene = scene;
    this.#most = most;
  }

  async read(instance: Instance): Promise<Float32Array> {
    const index = instance.primitive.attributes['POSITION'] ?? -1;
    if (instance.node !== this.#node) this.#ofNode = new Map();
    this.#node = instance.node;
    const known = this.#ofNode.get(index);
    if (known) return known;
    const { data } = await readFloats(this.#glb, index, [3], this.#most - this.#vertices);
    this.#vertices += data.length / 3;
    const place = await placeOf(this.#glb, this.#scene, instance, data.length / 3);
    this.#place(data, place);
    this.#ofNode.set(index, data);
    return data;
  }

  #place(positions: Float32Array, place: Place): void {
    for (let vertex = 0; vertex * 3 < positions.length; vertex++) {
      const at = vertex * 3;
      const local: Vector = [positions[at] ?? 0, positions[at + 1] ?? 0, positions[at + 2] ?? 0];
      const world = transformPoint(place(vertex), local);
      if (!this.#hasOrigin) this.origin = world;
      this.#hasOrigin = true;
      positions[at] = world[0] - this.origin[0];
      positions[at + 1] = world[1] - this.origin[1];
      positions[at + 2] = world[2] - this.origin[2];
    }
  }
}

/** The matrix that brings a vertex to its place. */
type Place = (vertex: number) => Matrix;

async function placeOf(glb: Glb, scene: Scene, { primitive, skin, world }: Instance, count: number): Promise<Place> {
  const { JOINTS_0: joints, WEIGHTS_0: weights } = primitive.attributes;
  if (skin === undefined || joints === undefined || weights === undefined) return () => world;
  const bones = await readBones(glb, scene, skin);
  const owners = await readIntegers(glb, joints, 4, count);
  const shares = await readFloats(glb, weights, [4], count);
  if (owners.length !== count * 4 || shares.data.length !== count * 4) throw damaged('a skin has too few weights');
  const blended = new Float64Array(16);
  return (vertex) => {
    blended.fill(0);
    let sum = 0;
    for (let k = vertex * 4; k < vertex * 4 + 4; k++) {
      const share = shares.data[k] ?? 0;
      if (share === 0) continue;
      const bone = bones[owners[k] ?? 0];
      if (!bone) throw damaged(`a skin has no joint ${owners[k]}`);
      for (let i = 0; i < 16; i++) blended[i] = (blended[i] ?? 0) + share * (bone[i] ?? 0);
      sum += share;
    }
    if (sum === 0) return world;
    for (let i = 0; i < 16; i++) blended[i] = (blended[i] ?? 0) / sum;
    return blended;
  };
}

/** Section 3.7.3.2: a joint moves what its inverse bind matrix has brought to its origin. */
async function readBones(glb: Glb, { worlds }: Scene, index: number): Promise<Matrix[]> {
  const skin = glb.gltf.skins?.[index];
  if (!skin) throw damaged(`there is no skin ${index}`);
  const { joints, inverseBindMatrices } = skin;
  const inverse =
    inverseBindMatrices === undefined ? undefined : await readFloats(glb, inverseBindMatrices, [16], 100_000);
  return joints.map((joint, i) => {
    const world = worlds.get(joint);
    if (!world) throw damaged(`the joint ${joint} is not in the scene`);
    return inverse ? multiply(world, Float64Array.from(inverse.data.subarray(i * 16, i * 16 + 16))) : world;
  });
}

/** Normals in world space, where the file has them. They need not have the length 1. */
export async function readNormals(
  glb: Glb,
  scene: Scene,
  { instance, positions }: Part,
): Promise<Float32Array | undefined> {
  const values = await readAttribute(glb, 'NORMAL', instance, positions.length / 3, [3]);
  if (!values) return undefined;
  const { data } = values;
  const place = await placeOf(glb, scene, instance, data.length / 3);
  const isRigid = instance.skin === undefined;
  let turn = normalMatrix(instance.world);
  for (let at = 0; at < data.length; at += 3) {
    if (!isRigid) turn = normalMatrix(place(at / 3));
    const [x, y, z] = transformPoint(turn, [data[at] ?? 0, data[at + 1] ?? 0, data[at + 2] ?? 0]);
    const length = Math.hypot(x, y, z) || 1;
    data[at] = x / length;
    data[at + 1] = y / length;
    data[at + 2] = z / length;
  }
  return data;
}

/** @returns nothing when the primitive does not have it */
export async function readAttribute(
  glb: Glb,
  name: string,
  { primitive }: Instance,
  count: number,
  arities: readonly number[],
): Promise<Values | undefined> {
  const index = primitive.attributes[name];
  if (index === undefined) return undefined;
  const values = await readFloats(glb, index, arities, count);
  // Section 3.7.2.1: all attributes of a primitive have as many elements.
  if (values.data.length !== count * values.arity) throw damaged(`${name} has too few elements`);
  return values;
}
