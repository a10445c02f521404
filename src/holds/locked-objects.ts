/** What the object store is to keep of an asset. */
import { eq, sql } from 'drizzle-orm';
import type { DatabaseHandle } from '../database/client.ts';
import { build, compile, type Parameter } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';
import { assetVersions } from '../database/tables/versions.ts';
import type { ObjectLock } from '../storage/object-store.ts';

const findLocked = compile('find-objects-to-lock', (p: Parameter<'id'>) =>
  build
    .select({
      objectKey: assets.objectKey,
      holds: assets.holds,
      retainUntil: assets.retainUntil,
      retentionMode: assets.retentionMode,
      versions: sql<string[]>`array(${build
        .select({ key: assetVersions.objectKey })
        .from(assetVersions)
        .where(eq(assetVersions.assetId, assets.id))
        .orderBy(assetVersions.number)})`.as('versions'),
    })
    .from(assets)
    .where(eq(assets.id, p('id'))),
);

export interface LockedRecord {
  keys: string[];
  lock: ObjectLock;
}

export class LockedObjects {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /** @returns undefined when there is no such asset any more */
  async find(id: string): Promise<LockedRecord | undefined> {
    const [row] = (await this.#handle.database.run(findLocked, { id })).rows;
    if (!row) return undefined;
    const { objectKey, versions, holds, retainUntil: until, retentionMode: mode } = row;
    return { keys: [objectKey, ...versions], lock: { isHeld: holds !== null, ...(until && mode && { until, mode }) } };
  }
}
