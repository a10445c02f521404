/**
 * How much of its surroundings a pixel of the picture sees: corners and gaps are darker. Only what the picture shows is
 * looked at, so it costs the same for every model.
 */
import type { Camera } from './camera.ts';
import { NORMAL, SURFACE_SIZE } from './surface.ts';

/** Of each sample of a pixel, of which there are four or nine. */
const SAMPLES = 5;
/** Share of the model's size within which things darken each other. */
const REACH = 0.16;
const STRENGTH = 1.5;
/** Cosine below which a neighbour counts as part of the same surface. */
const BIAS = 0.08;

/** What the picture shows, pixel by pixel. */
export interface Seen {
  width: number;
  height: number;
  /** One over the distance; 0 where there is no model. */
  nearness: Float32Array;
  surfaces: Float32Array;
}

export class Openness {
  readonly #seen: Seen;
  readonly #camera: Camera;
  readonly #reach: number;
  readonly #place = new Float64Array(3);

  constructor(seen: Seen, camera: Camera) {
    this.#seen = seen;
    this.#camera = camera;
    this.#reach = camera.radius * REACH;
  }

  /** From 0, closed in, to 1. */
  at(x: number, y: number): number {
    const { width, nearness, surfaces } = this.#seen;
    const pixel = y * width + x;
    const near = nearness[pixel] ?? 0;
    this.#placeOf(x, y);
    const [px = 0, py = 0, pz = 0] = this.#place;
    const normal = pixel * SURFACE_SIZE + NORMAL;
    const [nx, ny, nz] = [surfaces[normal] ?? 0, surfaces[normal + 1] ?? 0, surfaces[normal + 2] ?? 0];
    const pixels = this.#camera.pixelsAt(near) * this.#reach;
    // The samples of a pixel look in other directions each, and are averaged afterwards.
    const turn = (((x % 3) * 3 + (y % 3)) / 9) * Math.PI * 2;
    let closed = 0;
    for (let i = 0; i < SAMPLES; i++) {
      const angle = turn + i * 2.399963;
      const length = pixels * Math.sqrt((i + 0.5) / SAMPLES);
      if (!this.#placeOf(Math.round(x + length * Math.cos(angle)), Math.round(y + length * Math.sin(angle)))) continue;
      const [dx, dy, dz] = [(this.#place[0] ?? 0) - px, (this.#place[1] ?? 0) - py, (this.#place[2] ?? 0) - pz];
      const distance = Math.sqrt(dx * dx + dy * dy + dz * dz) || 1;
      const above = (dx * nx + dy * ny + dz * nz) / distance - BIAS;
      if (above > 0) closed += above * Math.max(0, 1 - distance / (this.#reach * 1.6));
    }
    return Math.max(0, 1 - (STRENGTH * closed) / SAMPLES);
  }

  /** Where in the world the surface of a pixel is. @returns false where there is none */
  #placeOf(x: number, y: number): boolean {
    const { width, height, nearness } = this.#seen;
    if (x < 0 || y < 0 || x >= width || y >= height) return false;
    const near = nearness[y * width + x] ?? 0;
    if (near === 0) return false;
    const [rayX, rayY, rayZ] = this.#camera.rayThrough(x + 0.5, y + 0.5);
    const { eye } = this.#camera;
    this.#place[0] = eye[0] + rayX / near;
    this.#place[1] = eye[1] + rayY / near;
    this.#place[2] = eye[2] + rayZ / near;
    return true;
  }
}
