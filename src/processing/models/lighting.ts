/**
 * A photographer's studio: a large lamp at the left above the camera, a weaker one at the right, bright walls above and
 * a darker floor. A white surface that faces the lamp comes out white, and no colour is burnt.
 */
import type { Camera } from './camera.ts';
import { dot, normalise, type Vector } from './matrix.ts';
import { EMISSIVE, METALLIC, NORMAL, OCCLUSION, RED, ROUGHNESS, UNLIT } from './surface.ts';

const KEY = 0.78;
const FILL = 0.16;
const CEILING = 0.36;
const FLOOR = 0.2;
/** How far light reaches round a surface, as that of large lamps does. */
const WRAP = 0.2;
/** Reflection of whatever is no metal, seen straight on (glTF 2.0 specification, appendix B.2). */
const DIELECTRIC = 0.04;
/** Light above this is compressed, so that it approaches white and does not reach it. */
const KNEE = 0.72;

export class Studio {
  /** Red, green, blue of the last `light`, 0 to 1, linear. */
  readonly colour = new Float64Array(3);
  readonly #key: Vector;
  readonly #fill: Vector;
  readonly #toEye: Vector;

  constructor({ right, up, toEye }: Camera) {
    const towards = (r: number, u: number, e: number): Vector =>
      normalise([
        right[0] * r + up[0] * u + toEye[0] * e,
        right[1] * r + up[1] * u + toEye[1] * e,
        right[2] * r + up[2] * u + toEye[2] * e,
      ]);
    this.#key = towards(-0.55, 0.75, 0.6);
    this.#fill = towards(0.85, 0.1, 0.5);
    this.#toEye = toEye;
  }

  /** @param seen a surface, from `at` @param open how much of the surroundings it sees, 0 to 1 */
  light(seen: Float32Array, at: number, open: number): void {
    const { colour } = this;
    if (seen[at + UNLIT]) {
      for (let k = 0; k < 3; k++) colour[k] = Math.min(1, (seen[at + RED + k] ?? 0) + (seen[at + EMISSIVE + k] ?? 0));
      return;
    }
    const normal: Vector = [seen[at + NORMAL] ?? 0, seen[at + NORMAL + 1] ?? 0, seen[at + NORMAL + 2] ?? 0];
    const metallic = seen[at + METALLIC] ?? 0;
    const roughness = seen[at + ROUGHNESS] ?? 1;
    const arriving = open * (seen[at + OCCLUSION] ?? 1);
    const facing = Math.max(0, dot(normal, this.#toEye));
    const diffuse = this.#from(normal, 1, arriving);
    const mirrored = this.#from(reflected(this.#toEye, normal), roughness, arriving);
    const edge = (1 - facing) ** 5 * (1 - roughness) ** 2;
    for (let k = 0; k < 3; k++) {
      const own = seen[at + RED + k] ?? 0;
      const straight = DIELECTRIC * (1 - metallic) + own * metallic;
      const share = straight + (1 - straight) * edge;
      const light = own * (1 - metallic) * (1 - share) * diffuse + share * mirrored;
      colour[k] = compressed(light + (seen[at + EMISSIVE + k] ?? 0));
    }
  }

  /** Light from a direction: all around it when rough, the lamps' own brightness when smooth. */
  #from(direction: Vector, roughness: number, open: number): number {
    const key = dot(direction, this.#key);
    const fill = dot(direction, this.#fill);
    const soft = KEY * wrapped(key) * (0.4 + 0.6 * open) + FILL * wrapped(fill) * open;
    const sharpness = (1 - roughness) ** 2;
    const lamps = 2.6 * smoothStep(0.8, 0.95, key) + 0.8 * smoothStep(0.7, 0.98, fill);
    const height = 0.5 + 0.5 * direction[1];
    // In a smooth surface the line between floor and wall can be seen.
    const wall = height * (1 - sharpness) + smoothStep(0.35, 0.75, height) * sharpness;
    const around = (FLOOR + (CEILING - FLOOR) * wall) * (1 + sharpness * 0.6) * open;
    return around + soft * (1 - sharpness) + lamps * sharpness;
  }
}

const wrapped = (cosine: number) => Math.max(0, (cosine + WRAP) / (1 + WRAP));

function smoothStep(from: number, to: number, value: number): number {
  const t = Math.max(0, Math.min(1, (value - from) / (to - from)));
  return t * t * (3 - 2 * t);
}

function reflected(toEye: Vector, normal: Vector): Vector {
  const twice = 2 * dot(toEye, normal);
  return [twice * normal[0] - toEye[0], twice * normal[1] - toEye[1], twice * normal[2] - toEye[2]];
}

/** A straight line up to the knee, then a curve that goes on from it without a bend. */
function compressed(light: number): number {
  if (light <= KNEE) return light;
  const room = 1 - KNEE;
  return KNEE + room * (1 - Math.exp((KNEE - light) / room));
}
