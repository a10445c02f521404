/**
 * The arrays of a glTF (glTF 2.0 specification, sections 3.6.2 and 5.1). What an accessor claims is compared with the
 * limits and with the bytes that are there before anything is allocated; the bytes are read piece by piece.
 */
import type { Glb } from './glb.ts';
import type { GltfAccessor } from './gltf.ts';
import { damaged, ModelRefused, tooLarge } from './refusal.ts';

/** Bytes that are read at once. */
const PIECE = 4 * 1024 * 1024;

interface Component {
  width: number;
  /** What a normalized integer is divided by. */
  range: number;
  read(bytes: Buffer, at: number): number;
}

/** Section 5.1.3. */
const components = new Map<number, Component>([
  [5120, { width: 1, range: 127, read: (bytes, at) => bytes.readInt8(at) }],
  [5121, { width: 1, range: 255, read: (bytes, at) => bytes.readUInt8(at) }],
  [5122, { width: 2, range: 32_767, read: (bytes, at) => bytes.readInt16LE(at) }],
  [5123, { width: 2, range: 65_535, read: (bytes, at) => bytes.readUInt16LE(at) }],
  [5125, { width: 4, range: 4_294_967_295, read: (bytes, at) => bytes.readUInt32LE(at) }],
  [5126, { width: 4, range: 1, read: (bytes, at) => bytes.readFloatLE(at) }],
]);
const arities = new Map([
  ['SCALAR', 1],
  ['VEC2', 2],
  ['VEC3', 3],
  ['VEC4', 4],
  ['MAT4', 16],
]);

export interface Values {
  data: Float32Array;
  /** Numbers of each element. */
  arity: number;
}

/** An array as it lies in the binary chunk. */
interface Layout {
  start: number;
  stride: number;
  count: number;
  arity: number;
  component: Component;
}

/**
 * An accessor by its number.
 * @throws ModelRefused when there is none, or when its bytes do not all lie in its view and in the file
 */
export function checkedAccessor(glb: Glb, index: number): GltfAccessor {
  const accessor = glb.gltf.accessors?.[index];
  if (!accessor) throw damaged(`there is no accessor ${index}`);
  layoutOf(glb, accessor);
  return accessor;
}

/** @throws ModelRefused, also when it has not one of these arities, or more elements than `most` */
export async function readFloats(glb: Glb, index: number, allowed: readonly number[], most: number): Promise<Values> {
  const accessor = checkedAccessor(glb, index);
  const { arity, scale } = shapeOf(accessor);
  if (!allowed.includes(arity)) throw damaged(`the accessor ${index} is ${accessor.type}`);
  if (accessor.count > most) throw tooLarge(`an accessor has more than ${most} elements`);
  const data = new Float32Array(accessor.count * arity);
  await fill(glb, accessor, (position, value) => {
    // Section 3.6.2.2: the lowest signed integer would be less than -1.
    data[position] = Math.max(value / scale, accessor.normalized ? -1 : Number.NEGATIVE_INFINITY);
  });
  return { data, arity };
}

/** Whole numbers: corners of triangles, or joints. @throws ModelRefused */
export async function readIntegers(glb: Glb, index: number, arity: number, most: number): Promise<Uint32Array> {
  const accessor = checkedAccessor(glb, index);
  const shape = shapeOf(accessor);
  if (shape.arity !== arity || accessor.componentType === 5126) throw damaged(`the accessor ${index} has no indices`);
  if (accessor.count > most) throw tooLarge(`an accessor has more than ${most} elements`);
  const data = new Uint32Array(accessor.count * arity);
  await fill(glb, accessor, (position, value) => {
    data[position] = value;
  });
  return data;
}

function shapeOf({ componentType, type, normalized }: GltfAccessor) {
  const component = components.get(componentType);
  const arity = arities.get(type);
  if (!component || arity === undefined) throw damaged(`an accessor is ${type} of ${componentType}`);
  return { component, arity, scale: normalized ? component.range : 1 };
}

/** @returns nothing when all its elements are zero because it has no view */
function layoutOf(glb: Glb, accessor: GltfAccessor): Layout | undefined {
  const { component, arity } = shapeOf(accessor);
  if (accessor.bufferView === undefined) return undefined;
  const { count, byteOffset = 0 } = accessor;
  return viewLayout(glb, accessor.bufferView, { byteOffset, count, arity, component });
}

function viewLayout(
  glb: Glb,
  index: number,
  { byteOffset, count, arity, component }: Omit<Layout, 'start' | 'stride'> & { byteOffset: number },
): Layout {
  const view = glb.gltf.bufferViews?.[index];
  if (!view) throw damaged(`there is no view ${index}`);
  if (view.extensions?.EXT_meshopt_compression ?? view.extensions?.KHR_meshopt_compression)
    throw new ModelRefused('unsupported-meshopt', 'the meshes are compressed by meshopt');
  // Only the first buffer lies in the file; an address of another one is not followed.
  if (view.buffer !== 0 || glb.gltf.buffers?.[0]?.uri !== undefined) throw damaged('a buffer lies outside of the file');
  const size = component.width * arity;
  const stride = view.byteStride ?? size;
  const needed = count === 0 ? 0 : byteOffset + stride * (count - 1) + size;
  const start = view.byteOffset ?? 0;
  if (needed > view.byteLength || start + view.byteLength > glb.binaryLength)
    throw damaged('an accessor reaches beyond the data');
  return { start: start + byteOffset, stride, count, arity, component };
}

type Put = (position: number, value: number) => void;

async function fill(glb: Glb, accessor: GltfAccessor, put: Put): Promise<void> {
  const layout = layoutOf(glb, accessor);
  if (layout) await readElements(glb, layout, (element, k, value) => put(element * layout.arity + k, value));
  if (accessor.sparse) await fillSparse(glb, accessor, accessor.sparse, put);
}

/** Section 3.6.2.3: some elements are replaced by others. */
async function fillSparse(
  glb: Glb,
  accessor: GltfAccessor,
  sparse: NonNullable<GltfAccessor['sparse']>,
  put: Put,
): Promise<void> {
  const { component, arity } = shapeOf(accessor);
  const { count, indices, values } = sparse;
  const indexComponent = components.get(indices.componentType);
  if (!indexComponent || count > accessor.count) throw damaged('a sparse accessor has more elements than it replaces');
  const where = { byteOffset: indices.byteOffset ?? 0, count, arity: 1, component: indexComponent };
  const what = { byteOffset: values.byteOffset ?? 0, count, arity, component };
  const targets = viewLayout(glb, indices.bufferView, where);
  const sources = viewLayout(glb, values.bufferView, what);
  const replaced = new Uint32Array(count);
  await readElements(glb, targets, (element, _k, value) => {
    if (value >= accessor.count) throw damaged('a sparse accessor replaces an element that is not there');
    replaced[element] = value;
  });
  await readElements(glb, sources, (element, k, value) => put((replaced[element] ?? 0) * arity + k, value));
}

async function readElements(
  glb: Glb,
  { start, stride, count, arity, component }: Layout,
  take: (element: number, k: number, value: number) => void,
): Promise<void> {
  const size = component.width * arity;
  const atOnce = Math.max(1, Math.floor(PIECE / stride));
  for (let first = 0; first < count; first += atOnce) {
    const elements = Math.min(atOnce, count - first);
    const bytes = await glb.read(start + first * stride, stride * (elements - 1) + size);
    for (let element = 0; element < elements; element++)
      for (let k = 0; k < arity; k++)
        take(first + element, k, component.read(bytes, element * stride + k * component.width));
  }
}
