/**
 * When the records of erased assets are gone, each folder in which they had objects is looked into: whatever is there is
 * deleted, with the older versions that a bucket keeps and with unfinished uploads. So what the receipt says of a store is
 * what the store itself has said last. Mirrors are looked into as well: a record goes when its last copy has gone.
 */
import { sql } from 'drizzle-orm';
import type { DatabaseHandle } from '../database/client.ts';
import { build, compile, isAnyOf, type Parameter } from '../database/statements.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import type { ErasureCounts } from '../database/tables/erasures.ts';
import type { JobContext } from '../jobs/job.ts';
import { inParallel } from '../storage/in-parallel.ts';
import { assetIdOf } from '../storage/object-key.ts';
import { type CallOptions, type ObjectStore, ObjectStoreUnavailable } from '../storage/object-store.ts';
import type { OwnedFiles } from './owned.ts';
import type { ErasuresRepository, RunningErasure } from './repository.ts';

/** Folders of one page, and that are looked into at once. */
const PAGE = 200;
const AT_ONCE = 8;

/** Something is still being made for these assets, by somebody who does not know yet that they are gone. */
const findMaking = compile(
  'find-derivatives-of-erased',
  (p: Parameter<'ids'>) =>
    build
      .selectDistinct({ assetId: sql<string>`${derivatives.assetId}`.as('making_for') })
      .from(derivatives)
      .where(isAnyOf(derivatives.assetId, p('ids'))),
  { named: false },
);

export interface EmptyFoldersOptions {
  handle: DatabaseHandle;
  erasures: ErasuresRepository;
  files: OwnedFiles;
  stores: readonly ErasedStore[];
  /** Of object keys. */
  prefix: string;
}

/** A store in which objects or copies of them are. */
export interface ErasedStore {
  name: string;
  /** Before the keys of objects. */
  prefix: string;
  store: ObjectStore;
}

export class EmptyFolders {
  readonly #options: EmptyFoldersOptions;

  constructor(options: EmptyFoldersOptions) {
    this.#options = options;
  }

  /** @returns false when some cannot be empty yet */
  async empty({ id: erasureId }: RunningErasure, { signal, fence }: JobContext): Promise<boolean> {
    const { stores, files, erasures } = this.#options;
    const places = await Promise.all(
      stores.map(async (place) => ({
        ...place,
        keepsVersions: (await place.store.keepsVersions({ signal })) === 'yes',
      })),
    );
    let after = '';
    let isAll = true;
    for (let looked = PAGE; looked === PAGE; ) {
      const page = await files.folders(erasureId, after, PAGE);
      looked = page.length;
      after = page.at(-1) ?? after;
      const settled = await this.#settled(page);
      isAll &&= settled.length === page.length;
      const counts: Record<string, number> = { folders: settled.length };
      await inParallel(settled, AT_ONCE, async (folder) => {
        for (const { store, prefix, keepsVersions } of places)
          for (const [name, count] of Object.entries(await look(store, prefix + folder, keepsVersions, { signal })))
            counts[name] = (counts[name] ?? 0) + (count ?? 0);
      });
      if (settled.length > 0)
        await files.dropFolders(erasureId, settled, fence, (transaction) =>
          erasures.add(transaction, erasureId, counts),
        );
    }
    return isAll;
  }

  /** Those for whose assets nothing is being made. */
  async #settled(folders: string[]): Promise<string[]> {
    const { handle, prefix } = this.#options;
    const idOf = (folder: string) => assetIdOf(prefix, `${folder}any`);
    const ids = folders.flatMap((folder) => idOf(folder) ?? []);
    const { rows } = await handle.database.run(findMaking, { ids });
    const making = new Set(rows.map(({ assetId }) => assetId));
    return folders.filter((folder) => !making.has(idOf(folder) ?? ''));
  }
}

/** @returns what was found there and removed */
async function look(
  store: ObjectStore,
  folder: string,
  keepsVersions: boolean,
  options: CallOptions,
): Promise<ErasureCounts> {
  let openUploads = 0;
  for await (const page of store.allMultipartUploads(folder, options))
    for (const { key, uploadId } of page.filter(({ key: each }) => each.startsWith(folder))) {
      await store.abortMultipartUpload(key, uploadId, options);
      openUploads += 1;
    }
  if (keepsVersions) {
    const { versions, bytes } = await store.purgeVersions(folder, options);
    return { openUploads, olderVersions: versions, olderVersionBytes: bytes };
  }
  const late: { key: string; size: number }[] = [];
  for await (const page of store.list(folder, options)) late.push(...page.filter(({ key }) => key.startsWith(folder)));
  const left =
    late.length === 0
      ? []
      : await store.deleteAll(
          late.map(({ key }) => key),
          options,
        );
  if (left.length > 0) throw new ObjectStoreUnavailable('an object was not deleted');
  return { openUploads, lateObjects: late.length, lateObjectBytes: late.reduce((sum, { size }) => sum + size, 0) };
}
