/**
 * Variants: pictures in the size and the format that somebody asks for. Each is made once, when it is asked for first, and
 * kept as an object beside its original; the least recently asked for go when there are too many of one picture. Pages show
 * them by signed addresses, which browsers and CDNs may keep: other bytes have another address.
 */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { variantActions } from './audit.ts';
import { VariantRoutes } from './routes.ts';
import { variantsOf } from './sending.ts';
import { variantSettings } from './settings.ts';

export const variants: Feature<Core> = {
  name: 'variants',
  tags: [{ name: 'Pictures', description: 'Pictures in other sizes and formats' }],
  settings: variantSettings,
  auditActions: variantActions,
  routes: (app, core) => new VariantRoutes(core).register(app),
  gauges: (core) => [
    {
      name: 'stowage_variants_making',
      help: 'Variants that are being made',
      read: () => variantsOf(core).maker.load.making,
    },
    {
      name: 'stowage_variants_waiting',
      help: 'Variants that wait until it is their turn to be made',
      read: () => variantsOf(core).maker.load.waiting,
    },
  ],
};
