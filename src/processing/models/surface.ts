/** What is seen of a part at a place of one of its triangles: colour, direction and material of the surface. */
import type { Camera } from './camera.ts';
import { type Part, readAttribute, readNormals } from './geometry.ts';
import type { Glb } from './glb.ts';
import type { Material, MaterialReader } from './materials.ts';
import type { Scene } from './scene.ts';
import type { Texture } from './textures.ts';

/** Numbers of a surface in a Float32Array. */
export const RED = 0;
export const NORMAL = 3;
export const METALLIC = 6;
export const ROUGHNESS = 7;
export const OCCLUSION = 8;
export const EMISSIVE = 9;
export const UNLIT = 12;
export const SURFACE_SIZE = 13;

interface Attributes {
  normals: Float32Array | undefined;
  colours: Float32Array | undefined;
  colourArity: number;
  places: (Float32Array | undefined)[];
}

export class Surface {
  readonly part: Part;
  readonly material: Material;
  /** Of each vertex: pixels from the left and from the top, and one over its distance. */
  readonly screen: Float32Array;
  /** The result of `look`. */
  readonly seen = new Float32Array(SURFACE_SIZE);
  readonly #attributes: Attributes;
  #a = 0;
  #b = 0;
  #c = 0;
  #facing = new Float64Array(3);
  #turned = 1;
  #uvDensity: number[] = [0, 0];

  constructor(part: Part, material: Material, attributes: Attributes, camera: Camera) {
    this.part = part;
    this.material = material;
    this.#attributes = attributes;
    this.screen = new Float32Array(part.positions.length);
    for (let vertex = 0; vertex * 3 < this.screen.length; vertex++) {
      const { x, y, nearness } = camera.project(part.positions, vertex);
      this.screen[vertex * 3] = camera.toPixelX(x);
      this.screen[vertex * 3 + 1] = camera.toPixelY(y);
      this.screen[vertex * 3 + 2] = nearness;
    }
  }

  /** Prepares a triangle. @param first position of its first corner in `part.triangles` */
  select(first: number): void {
    const { positions, triangles } = this.part;
    this.#a = triangles[first] ?? 0;
    this.#b = triangles[first + 1] ?? 0;
    this.#c = triangles[first + 2] ?? 0;
    const edge = (to: number, axis: number) => (positions[to * 3 + axis] ?? 0) - (positions[this.#a * 3 + axis] ?? 0);
    const [ux, uy, uz] = [edge(this.#b, 0), edge(this.#b, 1), edge(this.#b, 2)];
    const [vx, vy, vz] = [edge(this.#c, 0), edge(this.#c, 1), edge(this.#c, 2)];
    let [x, y, z] = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
    const length = Math.hypot(x, y, z) || 1;
    // Both sides are drawn: many files have triangles that are turned the wrong way.
    const side = this.#isTurnedAway() ? -1 : 1;
    [x, y, z] = [(x / length) * side, (y / length) * side, (z / length) * side];
    this.#facing[0] = x;
    this.#facing[1] = y;
    this.#facing[2] = z;
    this.#turned = this.#meanNormal(0) * x + this.#meanNormal(1) * y + this.#meanNormal(2) * z < 0 ? -1 : 1;
    for (const set of [0, 1]) this.#uvDensity[set] = this.#densityOf(this.#attributes.places[set]);
  }

  /**
   * Looks at a place of the selected triangle; the result is in `seen`.
   * @param b0 @param b1 @param b2 shares of the corners, in space
   * @returns alpha
   */
  look(b0: number, b1: number, b2: number): number {
    const { seen, material } = this;
    let alpha = this.#colour(b0, b1, b2);
    // Section 3.9.4: alpha has a meaning only where the material says so.
    if (!material.isBlended) alpha = alpha < (material.cutoff ?? Number.NEGATIVE_INFINITY) ? 0 : 1;
    if (alpha === 0) return 0;
    this.#normal(b0, b1, b2);
    seen[METALLIC] = material.metallic;
    seen[ROUGHNESS] = material.roughness;
    seen[OCCLUSION] = 1;
    seen[UNLIT] = material.isUnlit ? 1 : 0;
    const map = this.#sampled(material.surfaceMap, b0, b1, b2);
    if (map) {
      seen[ROUGHNESS] = material.roughness * (map[1] ?? 1);
      seen[METALLIC] = material.metallic * (map[2] ?? 1);
    }
    const occlusion = this.#sampled(material.occlusionMap, b0, b1, b2);
    if (occlusion) seen[OCCLUSION] = occlusion[0] ?? 1;
    const emissive = this.#sampled(material.emissiveMap, b0, b1, b2);
    for (let k = 0; k < 3; k++) seen[EMISSIVE + k] = (material.emissive[k] ?? 0) * (emissive ? (emissive[k] ?? 0) : 1);
    return alpha;
  }

  /** One over the distance of a triangle's middle, about. */
  nearnessOf(first: number): number {
    let sum = 0;
    for (let k = 0; k < 3; k++) sum += this.screen[(this.part.triangles[first + k] ?? 0) * 3 + 2] ?? 0;
    return sum / 3;
  }

  /** @returns alpha */
  #colour(b0: number, b1: number, b2: number): number {
    const { seen, material } = this;
    const { colours, colourArity } = this.#attributes;
    const map = this.#sampled(material.colourMap, b0, b1, b2);
    let alpha = 1;
    for (let k = 0; k < 4; k++) {
      let value = material.colour[k] ?? 1;
      if (map) value *= map[k] ?? 1;
      if (colours && k < colourArity) value *= this.#between(colours, colourArity, k, b0, b1, b2);
      if (k < 3) seen[RED + k] = Math.max(0, value);
      else alpha = value;
    }
    return alpha;
  }

  #normal(b0: number, b1: number, b2: number): void {
    const { normals } = this.#attributes;
    let [x = 0, y = 0, z = 0] = this.#facing;
    if (normals) {
      x = this.#between(normals, 3, 0, b0, b1, b2) * this.#turned;
      y = this.#between(normals, 3, 1, b0, b1, b2) * this.#turned;
      z = this.#between(normals, 3, 2, b0, b1, b2) * this.#turned;
    }
    const length = Math.sqrt(x * x + y * y + z * z) || 1;
    this.seen[NORMAL] = x / length;
    this.seen[NORMAL + 1] = y / length;
    this.seen[NORMAL + 2] = z / length;
  }

  #sampled(map: Texture | undefined, b0: number, b1: number, b2: number): Float64Array | undefined {
    const places = map && this.#attributes.places[map.texCoord];
    if (!places) return undefined;
    const u = this.#between(places, 2, 0, b0, b1, b2);
    const v = this.#between(places, 2, 1, b0, b1, b2);
    map.sample(u, v, map.levelFor(this.#uvDensity[map.texCoord] ?? 0));
    return map.colour;
  }

  #between(values: Float32Array, arity: number, k: number, b0: number, b1: number, b2: number): number {
    return (
      b0 * (values[this.#a * arity + k] ?? 0) +
      b1 * (values[this.#b * arity + k] ?? 0) +
      b2 * (values[this.#c * arity + k] ?? 0)
    );
  }

  #meanNormal(axis: number): number {
    const { normals } = this.#attributes;
    if (!normals) return this.#facing[axis] ?? 0;
    return this.#between(normals, 3, axis, 1, 1, 1);
  }

  /** Whether its corners go round clockwise on the screen, which has its first row at the top. */
  #isTurnedAway(): boolean {
    return doubleArea(this.screen, 3, this.#a, this.#b, this.#c) > 0;
  }

  /** How much of u, v a pixel covers. */
  #densityOf(places: Float32Array | undefined): number {
    if (!places) return 0;
    const pixels = Math.abs(doubleArea(this.screen, 3, this.#a, this.#b, this.#c));
    return Math.abs(doubleArea(places, 2, this.#a, this.#b, this.#c)) / Math.max(pixels, 1e-9);
  }
}

function doubleArea(values: Float32Array, arity: number, a: number, b: number, c: number): number {
  const [ax, ay] = [values[a * arity] ?? 0, values[a * arity + 1] ?? 0];
  const [bx, by] = [values[b * arity] ?? 0, values[b * arity + 1] ?? 0];
  const [cx, cy] = [values[c * arity] ?? 0, values[c * arity + 1] ?? 0];
  return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
}

/** @throws ModelRefused */
export async function readSurface(
  glb: Glb,
  scene: Scene,
  part: Part,
  materials: MaterialReader,
  camera: Camera,
): Promise<Surface> {
  const { instance, positions } = part;
  const count = positions.length / 3;
  const colours = await readAttribute(glb, 'COLOR_0', instance, count, [3, 4]);
  const attributes = {
    normals: await readNormals(glb, scene, part),
    colours: colours?.data,
    colourArity: colours?.arity ?? 0,
    places: [
      (await readAttribute(glb, 'TEXCOORD_0', instance, count, [2]))?.data,
      (await readAttribute(glb, 'TEXCOORD_1', instance, count, [2]))?.data,
    ],
  };
  return new Surface(part, await materials.read(instance.primitive.material), attributes, camera);
}
