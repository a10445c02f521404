/** The stores that may be tested, by name. */
import type { Core } from '../core.ts';
import { ArchivingStore } from '../storage/archive/archiving-store.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { providerOf } from '../storage-providers.ts';

/** The first store, and the archive, where that is a store of its own; a mirror of the same name is not reached. */
export const PRIMARY = 'primary';
const ARCHIVE = 'archive';

export interface TestedStore {
  name: string;
  store: ObjectStore;
  /** Of all its keys. */
  prefix: string;
  /** Name of the provider, where it is known by the endpoint. */
  provider?: string;
}

export function testedStores({ config, store, mirrors }: Pick<Core, 'config' | 'store' | 'mirrors'>): TestedStore[] {
  const first = store instanceof ArchivingStore ? store.first : store;
  const provider = first.kind === 's3' ? providerOf(config.S3_ENDPOINT)?.provider.name : undefined;
  const prefix = config.S3_KEY_PREFIX;
  return [
    { name: PRIMARY, store: first, prefix, ...(provider !== undefined && { provider }) },
    ...(store instanceof ArchivingStore && store.apart ? [{ name: ARCHIVE, store: store.apart, prefix }] : []),
    ...mirrors.map(({ name, store: mirror, prefix: own }) => ({ name, store: mirror, prefix: own })),
  ];
}
