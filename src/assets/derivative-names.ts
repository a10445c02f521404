/** Names of derivatives, in addresses and as files. */
import { z } from 'zod';
import { extensionsOf } from '../validation/media-types.ts';

export const derivativeName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9.-]{0,63}$/, 'must be the name of a derivative, such as thumbnail')
  .meta({ description: 'Name of a derivative', example: 'thumbnail' });

/** `photo.jpg` becomes `photo.thumbnail.webp`. */
export function nameOfDerivative(asset: { name: string }, derivative: { name: string; mediaType: string }): string {
  const [extension = 'bin'] = extensionsOf(derivative.mediaType);
  const end = `.${derivative.name}.${extension}`;
  let stem = asset.name.replace(/\.[^.]{1,10}$/, '');
  while (Buffer.byteLength(stem + end) > 255) stem = [...stem].slice(0, -1).join('');
  return stem + end;
}
