/**
 * What a scene shows: its nodes, each with the place it has in the world, and the primitives of their meshes. Nodes
 * form trees (glTF 2.0 specification, section 3.5.2), so each is visited once; a node that is met again is part of a
 * circle.
 */
import { checkedAccessor } from './accessors.ts';
import type { Glb } from './glb.ts';
import type { GltfPrimitive } from './gltf.ts';
import { identity, localMatrix, type Matrix, multiply } from './matrix.ts';
import { damaged, ModelRefused, tooLarge } from './refusal.ts';

/** A building with each screw as a node has tens of thousands. */
const MAX_NODES = 100_000;
/** Deeper trees come from programs that went wrong; a skeleton has some 30 levels. */
const MAX_DEPTH = 500;
const MAX_INSTANCES = 100_000;

/** Modes of primitives (section 5.24.4). */
const TRIANGLES = 4;
const TRIANGLE_STRIP = 5;

/** A primitive at one place. */
export interface Instance {
  primitive: GltfPrimitive;
  node: number;
  world: Matrix;
  skin?: number;
  triangles: number;
}

export interface Scene {
  instances: Instance[];
  /** Of all nodes that the scene shows, by their number. */
  worlds: Map<number, Matrix>;
}

/** @throws ModelRefused */
export function readScene(glb: Glb): Scene {
  const worlds = placeNodes(glb);
  const instances: Instance[] = [];
  for (const [id, world] of worlds) {
    const node = glb.gltf.nodes?.[id];
    if (node?.mesh === undefined) continue;
    const mesh = glb.gltf.meshes?.[node.mesh];
    if (!mesh) throw damaged(`there is no mesh ${node.mesh}`);
    if (instances.length + mesh.primitives.length > MAX_INSTANCES)
      throw tooLarge(`the scene has more than ${MAX_INSTANCES} primitives`);
    for (const primitive of mesh.primitives) {
      const triangles = countTriangles(glb, primitive);
      instances.push({ primitive, node: id, world, triangles, ...(node.skin !== undefined && { skin: node.skin }) });
    }
  }
  return { instances, worlds };
}

function placeNodes({ gltf }: Glb): Map<number, Matrix> {
  const { nodes = [] } = gltf;
  if (nodes.length > MAX_NODES) throw tooLarge(`the file has more than ${MAX_NODES} nodes`);
  const worlds = new Map<number, Matrix>();
  const waiting = rootsOf(gltf).map((id) => ({ id, parent: identity(), depth: 0 }));
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const { id, parent, depth } = next;
    const node = nodes[id];
    if (!node) throw damaged(`there is no node ${id}`);
    if (worlds.has(id)) throw damaged(`the node ${id} has two places`);
    if (depth > MAX_DEPTH) throw tooLarge(`the nodes are nested more than ${MAX_DEPTH} deep`);
    const world = multiply(parent, localMatrix(node));
    worlds.set(id, world);
    const { children = [] } = node;
    // Each is visited once, so more of them than nodes are left is a circle.
    if (waiting.length + children.length > nodes.length) throw damaged('a node has two places');
    for (const child of children) waiting.push({ id: child, parent: world, depth: depth + 1 });
  }
  return worlds;
}

/** Of the scene that is shown first; without scenes, the nodes that no other one has. */
function rootsOf({ scene = 0, scenes = [], nodes = [] }: Glb['gltf']): number[] {
  const shown = scenes[scene];
  if (shown) return shown.nodes ?? [];
  if (scenes.length > 0) throw damaged(`there is no scene ${scene}`);
  const children = new Set(nodes.flatMap((node) => node.children ?? []));
  return [...nodes.keys()].filter((id) => !children.has(id));
}

/** As the accessors say; they are compared with the bytes, unless a compression hides these. */
function countTriangles(glb: Glb, primitive: GltfPrimitive): number {
  const { mode = TRIANGLES, attributes, indices } = primitive;
  const corners = indices ?? attributes['POSITION'];
  if (mode < TRIANGLES || corners === undefined) return 0;
  const read = isDraco(primitive) ? accessorAt : checkedUnlessMeshopt;
  // A box is read of the positions, so these are looked at even where the corners are counted.
  if (attributes['POSITION'] !== undefined) read(glb, attributes['POSITION']);
  const { count } = read(glb, corners);
  return mode === TRIANGLES ? Math.floor(count / 3) : Math.max(0, count - 2);
}

/** The corners of triangles, three each, of what the mode makes of them (section 3.7.2.1). */
export function trianglesOf(mode: number | undefined, corners: Uint32Array): Uint32Array {
  if (mode === undefined || mode === TRIANGLES) return corners.subarray(0, corners.length - (corners.length % 3));
  const triangles = new Uint32Array(Math.max(0, corners.length - 2) * 3);
  for (let i = 0; i + 2 < corners.length; i++) {
    const odd = i % 2;
    const [a, b, c] = mode === TRIANGLE_STRIP ? [i, i + 1 + odd, i + 2 - odd] : [i + 1, i + 2, 0];
    triangles.set([corners[a] ?? 0, corners[b] ?? 0, corners[c] ?? 0], i * 3);
  }
  return triangles;
}

export const isDraco = ({ extensions }: GltfPrimitive) => extensions?.KHR_draco_mesh_compression !== undefined;

function accessorAt({ gltf }: Glb, index: number) {
  const accessor = gltf.accessors?.[index];
  if (!accessor) throw damaged(`there is no accessor ${index}`);
  return accessor;
}

function checkedUnlessMeshopt(glb: Glb, index: number) {
  try {
    return checkedAccessor(glb, index);
  } catch (error) {
    if (error instanceof ModelRefused && error.reason === 'unsupported-meshopt') return accessorAt(glb, index);
    throw error;
  }
}
