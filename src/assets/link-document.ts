/** A link as the API shows it. */
import { z } from 'zod';
import { timestamp } from '../http/schema-types.ts';

export const linkUrl = z.string().meta({
  override: { type: 'string', format: 'uri' },
  description: 'Whoever has this link can download the bytes; keep it secret',
  example: 'https://files.example.com/v1/links/eyJr',
});
export const linkDocument = z.object({ url: linkUrl, expiresAt: timestamp }).meta({ id: 'Link' });
