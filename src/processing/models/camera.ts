/**
 * From where a model is looked at: from the front, a little to the right and above, through a long lens, so near that
 * it fills the frame. glTF models face +Z and stand on XZ (glTF 2.0 specification, section 3.4).
 */

import type { Geometry } from './geometry.ts';
import type { Vector } from './matrix.ts';
import { damaged, ModelRefused } from './refusal.ts';
import type { Frame } from './tasks.ts';

/** Half the angle of view. A longer lens shows less depth, a shorter one bends what is near. */
const HALF_ANGLE = (13 * Math.PI) / 180;
/** Share of the frame at each side that stays free. */
const MARGIN = 0.09;

export interface Box {
  min: Vector;
  max: Vector;
}

export class Camera {
  readonly right: Vector;
  readonly up: Vector;
  readonly toEye: Vector;
  readonly centre: Vector;
  readonly eye: Vector;
  /** From the eye to the centre. */
  readonly distance: number;
  /** Half the diagonal of the model. */
  readonly radius: number;
  #zoom = 1;
  #shiftX = 0;
  #shiftY = 0;

  constructor({ min, max }: Box) {
    const size = [max[0] - min[0], max[1] - min[1], max[2] - min[2]] as const;
    const [azimuth, elevation] = viewOf(size);
    const [sineA, cosineA] = [Math.sin(azimuth), Math.cos(azimuth)];
    const [sineE, cosineE] = [Math.sin(elevation), Math.cos(elevation)];
    this.right = [cosineA, 0, -sineA];
    this.up = [-sineE * sineA, cosineE, -sineE * cosineA];
    this.toEye = [sineA * cosineE, sineE, cosineA * cosineE];
    this.centre = [(min[0] + max[0]) / 2, (min[1] + max[1]) / 2, (min[2] + max[2]) / 2];
    this.radius = Math.hypot(...size) / 2;
    this.distance = this.radius / Math.sin(HALF_ANGLE);
    const { centre, toEye, distance } = this;
    this.eye = [centre[0] + toEye[0] * distance, centre[1] + toEye[1] * distance, centre[2] + toEye[2] * distance];
  }

  /** Moves the picture so that the model fills the frame. */
  frame({ parts }: Geometry, { width, height }: Frame): void {
    const far = Number.POSITIVE_INFINITY;
    let [left, right, bottom, top] = [far, -far, far, -far];
    for (const { positions, triangles } of parts)
      for (const corner of triangles) {
        const { x, y } = this.project(positions, corner);
        if (!Number.isFinite(x + y)) continue;
        left = Math.min(left, x);
        right = Math.max(right, x);
        bottom = Math.min(bottom, y);
        top = Math.max(top, y);
      }
    const free = 1 - 2 * MARGIN;
    this.#zoom = Math.min((width * free) / (right - left), (height * free) / (top - bottom));
    this.#shiftX = width / 2 - (this.#zoom * (left + right)) / 2;
    this.#shiftY = height / 2 + (this.#zoom * (bottom + top)) / 2;
  }

  /** Where a vertex is on a plane one unit before the eye, and how near it is: one over its distance. */
  project(positions: Float32Array, vertex: number): { x: number; y: number; nearness: number } {
    const at = vertex * 3;
    const x = (positions[at] ?? 0) - this.centre[0];
    const y = (positions[at + 1] ?? 0) - this.centre[1];
    const z = (positions[at + 2] ?? 0) - this.centre[2];
    const nearness = 1 / (this.distance - (x * this.toEye[0] + y * this.toEye[1] + z * this.toEye[2]));
    return {
      x: (x * this.right[0] + z * this.right[2]) * nearness,
      y: (x * this.up[0] + y * this.up[1] + z * this.up[2]) * nearness,
      nearness,
    };
  }

  toPixelX(x: number): number {
    return this.#shiftX + x * this.#zoom;
  }

  toPixelY(y: number): number {
    return this.#shiftY - y * this.#zoom;
  }

  /** The direction in which a pixel looks, one unit forward. */
  rayThrough(pixelX: number, pixelY: number): Vector {
    const x = (pixelX - this.#shiftX) / this.#zoom;
    const y = (this.#shiftY - pixelY) / this.#zoom;
    return [
      this.right[0] * x + this.up[0] * y - this.toEye[0],
      this.up[1] * y - this.toEye[1],
      this.right[2] * x + this.up[2] * y - this.toEye[2],
    ];
  }

  /** Pixels of a length of 1 at a distance, of which one over it is given. */
  pixelsAt(nearness: number): number {
    return this.#zoom * nearness;
  }
}

/** Turns towards the broad side of what is flat, and looks at what lies from above. */
function viewOf([width, height, depth]: readonly [number, number, number]): [azimuth: number, elevation: number] {
  const broad = Math.max(width, depth, 1e-30);
  const azimuth = width < depth / 4 ? 1.05 : depth < width / 4 ? 0.42 : 0.6;
  const flatness = Math.max(0, 1 - height / (0.6 * broad));
  return [azimuth, 0.3 + 0.35 * flatness];
}

/** The box around all triangles. @throws ModelRefused when it has no size */
export function boxAround({ parts }: Geometry): Box {
  const min: [number, number, number] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  const max: [number, number, number] = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const { positions, triangles } of parts)
    for (const corner of triangles)
      for (const axis of [0, 1, 2] as const) {
        const value = positions[corner * 3 + axis] ?? 0;
        if (!Number.isFinite(value)) throw damaged('a vertex is nowhere');
        if (value < min[axis]) min[axis] = value;
        if (value > max[axis]) max[axis] = value;
      }
  if (parts.length === 0) throw new ModelRefused('nothing-to-draw', 'the scene has no triangles');
  const diagonal = Math.hypot(max[0] - min[0], max[1] - min[1], max[2] - min[2]);
  if (!(diagonal > 0)) throw new ModelRefused('nothing-to-draw', 'all triangles are at one place');
  // Numbers near the ends of single precision lead to others that are none.
  if (diagonal > 1e30 || diagonal < 1e-30) throw damaged('the scene has no size that can be drawn');
  return { min, max };
}
