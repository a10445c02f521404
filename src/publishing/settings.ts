/** Variables of public assets. */
import { z } from 'zod';
import { optional, setting } from '../config.ts';

const group = 'Links';

export const publishingSettings = {
  CDN_PURGE_URL: setting(
    group,
    optional(z.url({ protocol: /^https?$/, error: 'must be an http:// or https:// URL' })),
    undefined,
    'Where to POST what caches are to forget of public assets that changed or are not public any more.',
  ),
  CDN_PURGE_TOKEN: setting(
    group,
    optional(z.string().regex(/^[\x21-\x7e]{16,}$/, 'must have at least 16 printable characters')),
    undefined,
    'Sent with it, as Authorization: Bearer.',
  ),
} as const;
