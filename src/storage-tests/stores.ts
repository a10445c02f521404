/** The stores that may be tested, by name. */
import type { Core } from '../core.ts';
import { ArchivingStore } from '../storage/archive/archiving-store.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { providerOf } from '../storage-providers.ts';

/** The first store. */
export const PRIMARY = 'primary';

export interface TestedStore {
  name: string;
  store: ObjectStore;
  /** Of all its keys. */
  prefix: string;
  /** Name of the provider, where it is known by the endpoint. */
  provider?: string;
}

export function testedStores({ config, store }: Pick<Core, 'config' | 'store'>): TestedStore[] {
  const first = store instanceof ArchivingStore ? store.first : store;
  const provider = first.kind === 's3' ? providerOf(config.S3_ENDPOINT)?.provider.name : undefined;
  return [{ name: PRIMARY, store: first, prefix: config.S3_KEY_PREFIX, ...(provider !== undefined && { provider }) }];
}
