/** Matrices of 4 x 4, column by column as in glTF, and vectors of three. */
import type { GltfNode } from './gltf.ts';

export type Matrix = Float64Array;
export type Vector = readonly [x: number, y: number, z: number];

export const identity = (): Matrix => Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1);

export function multiply(a: Matrix, b: Matrix): Matrix {
  const product = new Float64Array(16);
  for (let column = 0; column < 4; column++)
    for (let row = 0; row < 4; row++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += (a[k * 4 + row] ?? 0) * (b[column * 4 + k] ?? 0);
      product[column * 4 + row] = sum;
    }
  return product;
}

/** Where a node stands within its parent (glTF 2.0 specification, section 3.5.3). */
export function localMatrix({ matrix, translation, rotation, scale }: GltfNode): Matrix {
  if (matrix) return Float64Array.from(matrix);
  const [tx = 0, ty = 0, tz = 0] = translation ?? [];
  const [x = 0, y = 0, z = 0, w = 1] = rotation ?? [];
  const [sx = 1, sy = 1, sz = 1] = scale ?? [];
  return Float64Array.of(
    (1 - 2 * (y * y + z * z)) * sx,
    2 * (x * y + z * w) * sx,
    2 * (x * z - y * w) * sx,
    0,
    2 * (x * y - z * w) * sy,
    (1 - 2 * (x * x + z * z)) * sy,
    2 * (y * z + x * w) * sy,
    0,
    2 * (x * z + y * w) * sz,
    2 * (y * z - x * w) * sz,
    (1 - 2 * (x * x + y * y)) * sz,
    0,
    tx,
    ty,
    tz,
    1,
  );
}

export function transformPoint(matrix: Matrix, [x, y, z]: Vector): Vector {
  const [a = 0, b = 0, c = 0, , d = 0, e = 0, f = 0, , g = 0, h = 0, i = 0, , tx = 0, ty = 0, tz = 0] = matrix;
  return [a * x + d * y + g * z + tx, b * x + e * y + h * z + ty, c * x + f * y + i * z + tz];
}

/**
 * Turns normals as the matrix turns surfaces: its transposed inverse but for the length, which is the matrix of
 * cofactors. A matrix that mirrors has a negative determinant; the sign keeps normals on their side.
 */
export function normalMatrix(matrix: Matrix): Matrix {
  const [a = 0, b = 0, c = 0, , d = 0, e = 0, f = 0, , g = 0, h = 0, i = 0] = matrix;
  const [x, y, z] = [e * i - f * h, f * g - d * i, d * h - e * g];
  const side = a * x + b * y + c * z < 0 ? -1 : 1;
  const second = [c * h - b * i, a * i - c * g, b * g - a * h] as const;
  const third = [b * f - c * e, c * d - a * f, a * e - b * d] as const;
  return Float64Array.of(x, y, z, 0, ...second, 0, ...third, 0, 0, 0, 0, side).map((value) => value * side);
}

export const dot = (a: Vector, b: Vector) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

export function normalise([x, y, z]: Vector): Vector {
  const length = Math.hypot(x, y, z) || 1;
  return [x / length, y / length, z / length];
}
