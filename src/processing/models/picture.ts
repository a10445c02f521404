/**
 * The picture of a model. Its opaque triangles are drawn into a buffer that holds the nearest surface of each pixel,
 * two or three times as wide and high as the picture; the surfaces are lit; what is transparent is laid over them from
 * the back to the front; and each pixel of the picture is the mean of its light.
 */
import { boxAround, Camera } from './camera.ts';
import { checkExtensions, type GeometryLimits, readGeometry } from './geometry.ts';
import { type Glb, withGlb } from './glb.ts';
import { Ground } from './ground.ts';
import { Studio } from './lighting.ts';
import { MaterialReader } from './materials.ts';
import { Openness, type Seen } from './openness.ts';
import { Raster } from './raster.ts';
import { ModelRefused } from './refusal.ts';
import { readScene } from './scene.ts';
import { readSurface, SURFACE_SIZE, type Surface } from './surface.ts';
import type { Frame, Picture } from './tasks.ts';

export const DRAW_LIMITS: GeometryLimits = { triangles: 2_000_000, vertices: 3_000_000 };
/** Pixels up to which a picture has nine samples of each; a larger one has four. */
const SMALL = 140_000;
/** A sample takes 68 bytes: 131 MB. */
const MAX_SAMPLES = 1_920_000;

/** @throws ModelRefused */
export function drawModel(path: string, frame: Frame, limits = DRAW_LIMITS): Promise<Picture> {
  const pixels = frame.width * frame.height;
  const samples = pixels <= SMALL ? 3 : 2;
  if (pixels * samples ** 2 > MAX_SAMPLES) throw new RangeError('the picture would have too many pixels');
  const large = { width: frame.width * samples, height: frame.height * samples };
  return withGlb(path, async (glb) => reduce(await drawLarge(glb, large, limits), frame, samples));
}

/** @returns light of each pixel, linear */
async function drawLarge(glb: Glb, frame: Frame, limits: GeometryLimits): Promise<Float32Array> {
  checkExtensions(glb);
  const scene = readScene(glb);
  const geometry = await readGeometry(glb, scene, limits);
  const box = boxAround(geometry);
  const camera = new Camera(box);
  camera.frame(geometry, frame);
  const canvas = new Canvas(camera, frame);
  const materials = new MaterialReader(glb);
  const veils: Surface[] = [];
  for (const part of geometry.parts) {
    const surface = await readSurface(glb, scene, part, materials, camera);
    if (surface.material.isBlended) veils.push(surface);
    else canvas.drawOpaque(surface);
  }
  if (veils.length === 0 && canvas.isEmpty)
    throw new ModelRefused('nothing-to-draw', 'nothing of the scene can be seen');
  canvas.light(new Ground(geometry, box, camera, frame.height));
  canvas.drawVeils(veils);
  return canvas.colours;
}

class Canvas {
  readonly colours: Float32Array;
  readonly #seen: Seen;
  readonly #camera: Camera;
  readonly #studio: Studio;
  readonly #raster: Raster;

  constructor(camera: Camera, { width, height }: Frame) {
    this.#camera = camera;
    this.#studio = new Studio(camera);
    this.#raster = new Raster(width, height);
    this.colours = new Float32Array(width * height * 3);
    const nearness = new Float32Array(width * height);
    this.#seen = { width, height, nearness, surfaces: new Float32Array(width * height * SURFACE_SIZE) };
  }

  get isEmpty(): boolean {
    return !this.#seen.nearness.some((near) => near > 0);
  }

  drawOpaque(surface: Surface): void {
    const { nearness, surfaces } = this.#seen;
    for (let first = 0; first < surface.part.triangles.length; first += 3)
      this.#cover(surface, first, (pixel, near) => {
        nearness[pixel] = near;
        surfaces.set(surface.seen, pixel * SURFACE_SIZE);
      });
  }

  /** Makes light of what is seen. */
  light(ground: Ground): void {
    const { width, height, nearness, surfaces } = this.#seen;
    const openness = new Openness(this.#seen, this.#camera);
    const { colour } = this.#studio;
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const pixel = y * width + x;
        if (nearness[pixel]) this.#studio.light(surfaces, pixel * SURFACE_SIZE, openness.at(x, y));
        else ground.light(x + 0.5, y + 0.5, colour);
        this.colours.set(colour, pixel * 3);
      }
  }

  /** Triangles that let light through, the farthest first. */
  drawVeils(veils: readonly Surface[]): void {
    const order = veils.flatMap((surface) =>
      Array.from({ length: surface.part.triangles.length / 3 }, (_, triangle) => ({
        surface,
        first: triangle * 3,
        near: surface.nearnessOf(triangle * 3),
      })),
    );
    order.sort((a, b) => a.near - b.near);
    const { colour } = this.#studio;
    for (const { surface, first } of order)
      this.#cover(surface, first, (pixel, _near, alpha) => {
        this.#studio.light(surface.seen, 0, 1);
        const share = Math.min(1, alpha);
        for (let k = 0; k < 3; k++) {
          const at = pixel * 3 + k;
          this.colours[at] = (this.colours[at] ?? 0) * (1 - share) + (colour[k] ?? 0) * share;
        }
      });
  }

  /** Visits the pixels in which nothing is nearer than a triangle. */
  #cover(surface: Surface, first: number, take: (pixel: number, near: number, alpha: number) => void): void {
    const { screen, part } = surface;
    const { width, nearness } = this.#seen;
    const a = (part.triangles[first] ?? 0) * 3;
    const b = (part.triangles[first + 1] ?? 0) * 3;
    const c = (part.triangles[first + 2] ?? 0) * 3;
    const nearA = screen[a + 2] ?? 0;
    const nearB = screen[b + 2] ?? 0;
    const nearC = screen[c + 2] ?? 0;
    const x = (at: number) => screen[at] ?? 0;
    const y = (at: number) => screen[at + 1] ?? 0;
    let isSelected = false;
    this.#raster.cover(x(a), y(a), x(b), y(b), x(c), y(c), (column, row, b0, b1) => {
      const b2 = 1 - b0 - b1;
      const here = b0 * nearA + b1 * nearB + b2 * nearC;
      const pixel = row * width + column;
      if (!(here > (nearness[pixel] ?? 0))) return;
      // Most triangles of a fine mesh are hidden, or lie between the centres of pixels.
      if (!isSelected) surface.select(first);
      isSelected = true;
      // Shares on the screen become shares in space: what is farther away is smaller.
      const alpha = surface.look((b0 * nearA) / here, (b1 * nearB) / here, (b2 * nearC) / here);
      if (alpha > 0) take(pixel, here, alpha);
    });
  }
}

/** The mean of each square of pixels, as sRGB (IEC 61966-2-1). */
function reduce(colours: Float32Array, { width, height }: Frame, samples: number): Picture {
  const pixels = new Uint8Array(width * height * 3);
  const stride = width * samples * 3;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let k = 0; k < 3; k++) {
        let sum = 0;
        for (let row = 0; row < samples; row++)
          for (let column = 0; column < samples; column++)
            sum += colours[(y * samples + row) * stride + (x * samples + column) * 3 + k] ?? 0;
        pixels[(y * width + x) * 3 + k] = Math.round(255 * encoded(sum / samples ** 2));
      }
  return { width, height, pixels };
}

function encoded(light: number): number {
  const within = Math.max(0, Math.min(1, light));
  return within <= 0.0031308 ? 12.92 * within : 1.055 * within ** (1 / 2.4) - 0.055;
}
