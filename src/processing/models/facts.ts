/** What a model holds, from its JSON alone: nothing is drawn, and compressed models have facts too. */
import { withGlb } from './glb.ts';
import type { Gltf } from './gltf.ts';
import { transformPoint, type Vector } from './matrix.ts';
import { type Instance, readScene } from './scene.ts';

export interface ModelFacts {
  /** Triangles of the scene; a mesh that stands at two places counts twice. */
  triangles: number;
  meshes: number;
  nodes: number;
  materials: number;
  animations: number;
  /**
   * Encloses the scene at rest, in metres (glTF 2.0 specification, section 3.4); absent when nothing is told about it.
   */
  boundingBox?: { min: Vector; max: Vector };
}

/** @throws ModelRefused */
export function modelFacts(path: string): Promise<ModelFacts> {
  return withGlb(path, async (glb) => {
    const { gltf } = glb;
    const { instances } = readScene(glb);
    const boundingBox = boxOf(gltf, instances);
    return {
      triangles: instances.reduce((sum, { triangles }) => sum + triangles, 0),
      meshes: gltf.meshes?.length ?? 0,
      nodes: gltf.nodes?.length ?? 0,
      materials: gltf.materials?.length ?? 0,
      animations: gltf.animations?.length ?? 0,
      ...(boundingBox && { boundingBox }),
    };
  });
}

/** Of the boxes that accessors must tell (section 3.6.2.5), each turned to where it stands. */
function boxOf(gltf: Gltf, instances: Instance[]): { min: Vector; max: Vector } | undefined {
  const low = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  const high = low.map((value) => -value);
  for (const { primitive, world } of instances) {
    const accessor = gltf.accessors?.[primitive.attributes['POSITION'] ?? -1];
    if (accessor?.min?.length !== 3 || accessor.max?.length !== 3) continue;
    const scale = accessor.normalized ? (ranges.get(accessor.componentType) ?? 1) : 1;
    const corners = [accessor.min, accessor.max];
    for (let corner = 0; corner < 8; corner++) {
      const at = (axis: number) => (corners[(corner >> axis) & 1]?.[axis] ?? 0) / scale;
      transformPoint(world, [at(0), at(1), at(2)]).forEach((value, axis) => {
        low[axis] = Math.min(low[axis] ?? value, value);
        high[axis] = Math.max(high[axis] ?? value, value);
      });
    }
  }
  const [x0 = 0, y0 = 0, z0 = 0] = low;
  const [x1 = 0, y1 = 0, z1 = 0] = high;
  // A matrix may hold numbers that lead nowhere; JSON has no word for what comes of them.
  if (![x0, y0, z0, x1, y1, z1].every(Number.isFinite)) return undefined;
  return { min: rounded([x0, y0, z0]), max: rounded([x1, y1, z1]) };
}

/** The file has numbers of single precision; what comes behind it is noise of the calculation. */
const rounded = ([x, y, z]: Vector): Vector => [digits(x), digits(y), digits(z)];
const digits = (value: number) => Number(value.toPrecision(7));

/** What normalized integers are divided by (section 3.6.2.2). */
const ranges = new Map([
  [5120, 127],
  [5121, 255],
  [5122, 32_767],
  [5123, 65_535],
]);
