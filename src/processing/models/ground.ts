/** What a model stands on: a light floor that becomes the wall without an edge, and its soft shadow. */
import type { Box, Camera } from './camera.ts';
import type { Geometry } from './geometry.ts';
import { Raster } from './raster.ts';

/** Pixels on each side of the floor. */
const SIDE = 192;
/** Of the floor that is kept: half of its side in halves of the model's. */
const REACH = 1.7;
const DARKEST = 0.55;
/** Light of the background, linear: at the top and at the bottom of the picture. */
const TOP = [0.9, 0.91, 0.925] as const;
const BOTTOM = [0.74, 0.755, 0.775] as const;

export class Ground {
  readonly #shade: Float32Array;
  readonly #camera: Camera;
  readonly #height: number;
  readonly #half: number;
  readonly #floor: number;

  /** @param height pixels of the picture */
  constructor(geometry: Geometry, box: Box, camera: Camera, height: number) {
    this.#camera = camera;
    this.#height = height;
    this.#floor = box.min[1];
    this.#half = (REACH * Math.max(box.max[0] - box.min[0], box.max[2] - box.min[2], camera.radius * 0.2)) / 2;
    const shade = castShadow(geometry, camera, { floor: this.#floor, half: this.#half });
    const blurs = [2, 8].map((radius) => blurred(shade, radius));
    this.#shade = shade.map((_, at) => blurs.reduce((sum, blur) => sum + (blur[at] ?? 0), 0) / blurs.length);
  }

  /** Light of a pixel that shows no model. */
  light(x: number, y: number, colour: Float64Array): void {
    const share = Math.min(1, Math.max(0, y / this.#height));
    const bright = 1 - DARKEST * this.#shadeAt(x, y);
    for (let k = 0; k < 3; k++) colour[k] = ((TOP[k] ?? 1) * (1 - share) + (BOTTOM[k] ?? 1) * share) * bright;
  }

  #shadeAt(x: number, y: number): number {
    const { eye, centre } = this.#camera;
    const ray = this.#camera.rayThrough(x, y);
    if (!(ray[1] < 0)) return 0;
    const along = (this.#floor - eye[1]) / ray[1];
    const u = toSide(eye[0] + ray[0] * along - centre[0], this.#half) - 0.5;
    const v = toSide(eye[2] + ray[2] * along - centre[2], this.#half) - 0.5;
    if (!(u >= 0 && v >= 0 && u < SIDE - 1 && v < SIDE - 1)) return 0;
    const [left, top] = [Math.floor(u), Math.floor(v)];
    const at = top * SIDE + left;
    const mix = (from: number) =>
      (this.#shade[from] ?? 0) * (1 - (u - left)) + (this.#shade[from + 1] ?? 0) * (u - left);
    return mix(at) * (1 - (v - top)) + mix(at + SIDE) * (v - top);
  }
}

const toSide = (offset: number, half: number) => ((offset + half) / (2 * half)) * SIDE;

/** Light comes from all over the ceiling: what is near the floor darkens it, what is high above does not. */
function castShadow(
  { parts }: Geometry,
  { centre, radius }: Camera,
  { floor, half }: { floor: number; half: number },
): Float32Array {
  const shade = new Float32Array(SIDE * SIDE);
  const raster = new Raster(SIDE, SIDE);
  const fade = radius * 0.45;
  for (const { positions, triangles } of parts)
    for (let first = 0; first < triangles.length; first += 3) {
      const a = (triangles[first] ?? 0) * 3;
      const b = (triangles[first + 1] ?? 0) * 3;
      const c = (triangles[first + 2] ?? 0) * 3;
      const x = (at: number) => toSide((positions[at] ?? 0) - centre[0], half);
      const z = (at: number) => toSide((positions[at + 2] ?? 0) - centre[2], half);
      const weight = (at: number) => Math.exp((floor - (positions[at + 1] ?? 0)) / fade);
      const wa = weight(a);
      const wb = weight(b);
      const wc = weight(c);
      raster.cover(x(a), z(a), x(b), z(b), x(c), z(c), (column, row, b0, b1) => {
        const at = row * SIDE + column;
        shade[at] = Math.max(shade[at] ?? 0, b0 * wa + b1 * wb + (1 - b0 - b1) * wc);
      });
    }
  return shade;
}

/** Three means in a row come close to a bell curve. */
function blurred(shade: Float32Array, radius: number): Float32Array {
  let result = shade;
  for (let pass = 0; pass < 3; pass++) result = meanOf(meanOf(result, radius, 1, SIDE), radius, SIDE, 1);
  return result;
}

function meanOf(values: Float32Array, radius: number, step: number, stride: number): Float32Array {
  const means = new Float32Array(values.length);
  for (let line = 0; line < SIDE; line++) {
    const at = (i: number) => (i < 0 || i >= SIDE ? 0 : (values[line * stride + i * step] ?? 0));
    let sum = 0;
    for (let i = -radius; i < radius; i++) sum += at(i);
    for (let i = 0; i < SIDE; i++) {
      sum += at(i + radius);
      means[line * stride + i * step] = sum / (2 * radius + 1);
      sum -= at(i - radius);
    }
  }
  return means;
}
