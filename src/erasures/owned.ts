/**
 * What somebody has uploaded, as an erasure goes through it: uploads that are not finished are ended; an asset is deleted for
 * good, or is held and stays, or belongs to a project and stays there under the pseudonym. An asset in a project is the
 * project's (see docs/access.md): whoever leaves it leaves his assets to it. Where nobody else is a member of it, it was his.
 */
import { and, count, eq, exists, gt, ne, type SQL, sql } from 'drizzle-orm';
import { nextVersion } from '../assets/conditions.ts';
import { actorColumns, deletion } from '../assets/deletion.ts';
import { deleteObjectJob } from '../assets/jobs/delete-object.ts';
import { ownerAccount } from '../database/accounts.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import { build, compile, isAnyOf, type Parameter, writtenOut } from '../database/statements.ts';
import { assets, inState, isHeld, isVisible, listed } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { type ErasureCounts, erasedFolders } from '../database/tables/erasures.ts';
import { projectMembers } from '../database/tables/projects.ts';
import { assetVersions } from '../database/tables/versions.ts';
import { moveCharge } from '../quotas/moving.ts';
import type { Fence, RunningErasure } from './repository.ts';

/** What becomes of an asset. */
export type Fate = 'erase' | 'leave' | 'held';

const seldom = { named: false };
const NIL = '00000000-0000-0000-0000-000000000000';

/** That others have a part in the project that it is in, and it is not to go. */
const stays = (p: Parameter<'ownerId' | 'leaves' | 'rolesByClaim'>): SQL => {
  const others = exists(
    build
      .select({ role: projectMembers.role })
      .from(projectMembers)
      .where(and(eq(projectMembers.projectId, assets.projectId), ne(projectMembers.subject, p('ownerId')))),
  );
  return sql`(${p('leaves')}::boolean and ${assets.projectId} is not null and (${p('rolesByClaim')}::boolean or ${others}))`;
};

/** In the order of the index of what is listed, and of that of what is in the trash. */
const findOwned = (name: string, isThere: SQL) =>
  compile(
    name,
    (p: Parameter<'ownerId' | 'leaves' | 'rolesByClaim' | 'afterTime' | 'afterId' | 'limit'>) =>
      build
        .select({
          id: assets.id,
          createdAt: assets.createdAt,
          fate: sql<Fate>`case when ${stays(p)} then 'leave' when ${isHeld} then 'held' else 'erase' end`.as('fate'),
        })
        .from(assets)
        .where(
          and(
            eq(assets.ownerId, p('ownerId')),
            isThere,
            sql`(${assets.createdAt}, ${assets.id}) > (${p('afterTime')}::timestamptz, ${p('afterId')}::uuid)`,
          ),
        )
        .orderBy(assets.createdAt, assets.id)
        .limit(p('limit')),
    seldom,
  );
const findListed = findOwned('find-listed-assets-of-owner', listed);
const findTrashed = findOwned(
  'find-trashed-assets-of-owner',
  and(isVisible, sql`${assets.trashedAt} is not null`) ?? sql``,
);

const eraseAssets = compile(
  'erase-assets',
  (p: Parameter<'ids' | 'ownerId' | keyof Actor>) => {
    const chosen = build.$with('chosen').as(
      build
        .select({ id: assets.id, ...actorColumns(p) })
        .from(assets)
        .where(and(isAnyOf(assets.id, p('ids')), eq(assets.ownerId, p('ownerId')), isVisible))
        .orderBy(assets.id)
        .for('update'),
    );
    return deletion(chosen, 'asset.erased');
  },
  seldom,
);
/** Where the objects of marked assets may lie: all that an asset ever had lies below a folder of its id. */
const folderOf = (key: SQL) => sql<string>`regexp_replace(${key}, '(/assets/[^/]+/).*$', '\\1')`;
const measureErased = compile(
  'measure-erased-assets',
  (p: Parameter<'erasureId' | 'ids'>) => {
    const objects = build.$with('objects').as(
      build
        .select({
          key: sql<string>`${assets.objectKey}`.as('key'),
          size: sql<number>`coalesce(${assets.size}, 0)`.as('bytes'),
          kind: sql<string>`'original'`.as('kind'),
        })
        .from(assets)
        .where(isAnyOf(assets.id, p('ids')))
        .unionAll(
          build
            .select({ key: sql`${assetVersions.objectKey}`, size: sql`${assetVersions.size}`, kind: sql`'version'` })
            .from(assetVersions)
            .where(isAnyOf(assetVersions.assetId, p('ids'))) as never,
        )
        .unionAll(
          build
            .select({
              key: sql`${derivatives.objectKey}`,
              size: sql`coalesce(${derivatives.size}, 0)`,
              kind: sql`'derivative'`,
            })
            .from(derivatives)
            .where(isAnyOf(derivatives.assetId, p('ids'))) as never,
        ),
    );
    const folders = build.$with('folders', {}).as(
      build
        .insert(erasedFolders)
        .select(
          build
            .selectDistinct({
              erasureId: sql<string>`${p('erasureId')}::uuid`.as('erasure_id'),
              folder: folderOf(sql`${objects.key}`).as('folder'),
            })
            .from(objects),
        )
        .onConflictDoNothing()
        .getSQL(),
    );
    return build
      .with(objects, folders)
      .select({
        kind: objects.kind,
        objects: count().as('objects'),
        bytes: sql<number>`sum(${objects.size})`.mapWith(Number).as('sum'),
      })
      .from(objects)
      .groupBy(objects.kind);
  },
  seldom,
);
/** They are of their project from now on, by whomever they were uploaded. */
const leaveAssets = compile(
  'leave-assets-to-projects',
  (p: Parameter<'ids' | 'ownerId' | 'account' | 'pseudonym' | keyof Actor>) => {
    const chosen = build.$with('chosen').as(
      build
        .select({
          id: assets.id,
          isCharged:
            sql<boolean>`coalesce(${assets.account}, ${assets.ownerId}) in (${p('ownerId')}, ${p('account')})`.as(
              'is_charged',
            ),
        })
        .from(assets)
        .where(and(isAnyOf(assets.id, p('ids')), eq(assets.ownerId, p('ownerId')), isVisible))
        .orderBy(assets.id)
        .for('update'),
    );
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({
          ...nextVersion,
          ownerId: sql`${p('pseudonym')}`,
          account: sql`nullif(${assets.account}, ${p('account')})`,
        })
        .from(chosen)
        .where(eq(assets.id, chosen.id))
        .returning({
          id: assets.id,
          ownerId: assets.ownerId,
          projectId: assets.projectId,
          bytes: sql<number>`${assets.size} + ${assets.versionBytes}`.mapWith(Number).as('bytes'),
          isCharged: sql<boolean>`${chosen.isCharged}`.as('charged'),
        }),
    );
    return build
      .with(chosen, changed, auditFrom(p, changed, { action: 'asset.owner-erased' }))
      .select({ id: changed.id, bytes: changed.bytes, isCharged: changed.isCharged })
      .from(changed);
  },
  seldom,
);
/** Not `listed`, which has a partial index of its own. */
const findUploading = compile(
  'find-uploads-of-owner',
  (p: Parameter<'ownerId' | 'limit'>) =>
    build
      .select({ id: assets.id, objectKey: assets.objectKey })
      .from(assets)
      .where(and(eq(assets.ownerId, p('ownerId')), inState('uploading')))
      .limit(p('limit')),
  seldom,
);
const addFolder = compile(
  'add-erased-folder',
  (p: Parameter<'erasureId' | 'folder'>) =>
    build
      .insert(erasedFolders)
      .values({ erasureId: p('erasureId'), folder: p('folder') })
      .onConflictDoNothing(),
  seldom,
);
/** Records whose bytes a job still removes. */
const findRemaining = compile(
  'find-assets-of-owner-in-deletion',
  (p: Parameter<'ownerId'>) =>
    build
      .select({ id: assets.id })
      .from(assets)
      .where(and(eq(assets.ownerId, p('ownerId')), inState('deleting')))
      .limit(writtenOut(1)),
  seldom,
);
const findFolders = compile(
  'find-erased-folders',
  (p: Parameter<'erasureId' | 'after' | 'limit'>) =>
    build
      .select({ folder: erasedFolders.folder })
      .from(erasedFolders)
      .where(and(eq(erasedFolders.erasureId, p('erasureId')), gt(erasedFolders.folder, p('after'))))
      .orderBy(erasedFolders.folder)
      .limit(p('limit')),
  seldom,
);
const dropFolders = compile(
  'drop-erased-folders',
  (p: Parameter<'erasureId' | 'folders'>) =>
    build
      .delete(erasedFolders)
      .where(and(eq(erasedFolders.erasureId, p('erasureId')), isAnyOf(erasedFolders.folder, p('folders')))),
  seldom,
);

export interface OwnedPage {
  /** How many were looked at. */
  looked: number;
  last: { createdAt: Date; id: string } | undefined;
}

type Counted = (transaction: Executor, counts: ErasureCounts) => Promise<unknown>;

export class OwnedFiles {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Outbox;
  readonly #rolesByClaim: boolean;

  /** @param rolesByClaim roles in projects come from tokens too, so no row tells who else is in one */
  constructor(handle: DatabaseHandle, outbox: Outbox, rolesByClaim: boolean) {
    this.#handle = handle;
    this.#outbox = outbox;
    this.#rolesByClaim = rolesByClaim;
  }

  /** Does with the next `limit` assets what is to be done, in one transaction. */
  async next(
    erasure: RunningErasure,
    actor: Actor,
    where: { isTrashed: boolean; after: OwnedPage['last']; limit: number },
    { fence, counted }: { fence: Fence; counted: Counted },
  ): Promise<OwnedPage> {
    const { isTrashed, after, limit } = where;
    const { ownerId, projectAssets } = erasure;
    const { rows } = await this.#handle.database.run(isTrashed ? findTrashed : findListed, {
      ownerId,
      leaves: projectAssets === 'leave',
      rolesByClaim: this.#rolesByClaim,
      afterTime: after?.createdAt ?? new Date(0),
      afterId: after?.id ?? NIL,
      limit,
    });
    const idsOf = (fate: Fate) => rows.filter((row) => row.fate === fate).map(({ id }) => id);
    if (rows.length > 0)
      await this.#handle.transact(async (transaction) => {
        await fence(transaction);
        const erased = await this.#erase(transaction, erasure, idsOf('erase'), actor);
        const left = await this.#leave(transaction, erasure, idsOf('leave'), actor);
        await counted(transaction, { ...erased, ...left });
      });
    return { looked: rows.length, last: rows.at(-1) ?? after };
  }

  async #erase(
    transaction: Executor,
    { id: erasureId, ownerId }: RunningErasure,
    ids: string[],
    actor: Actor,
  ): Promise<ErasureCounts> {
    if (ids.length === 0) return {};
    const { rows: erased } = await transaction.run(eraseAssets, { ids, ownerId, ...actor });
    const measured = { erasureId, ids: erased.map(({ id }) => id) };
    const { rows } = await transaction.run(measureErased, measured);
    const jobs = erased.map(({ id }) => ({ assetId: id }));
    await this.#outbox.sendAll(transaction, deleteObjectJob, jobs);
    const of = (kind: string) => rows.find((row) => row.kind === kind) ?? { objects: 0, bytes: 0 };
    return {
      assets: erased.length,
      assetBytes: of('original').bytes,
      versions: of('version').objects,
      versionBytes: of('version').bytes,
      derivatives: of('derivative').objects,
      derivativeBytes: of('derivative').bytes,
    };
  }

  async #leave(
    transaction: Executor,
    { ownerId, pseudonym }: RunningErasure,
    ids: string[],
    actor: Actor,
  ): Promise<ErasureCounts> {
    if (ids.length === 0) return {};
    const account = ownerAccount(ownerId);
    const { rows } = await transaction.run(leaveAssets, { ids, ownerId, account, pseudonym, ...actor });
    const charged = rows.filter(({ isCharged }) => isCharged);
    const used = charged.reduce((sum, { bytes }) => sum + bytes, 0);
    // What is there already is not refused.
    const limits = { defaultLimit: Number.MAX_SAFE_INTEGER, tierQuotas: null };
    const charge = { from: account, to: pseudonym, used, reserved: 0, files: charged.length, limits };
    if (charged.length > 0 && !(await moveCharge(transaction, charge)))
      throw new Error('the account of an erased owner has a limit');
    return { leftAssets: rows.length };
  }

  /** Uploads that are not finished. */
  async uploading(ownerId: string, limit: number): Promise<{ id: string; objectKey: string }[]> {
    return (await this.#handle.database.run(findUploading, { ownerId, limit })).rows;
  }

  /** The folder of an upload, in the transaction that ends it. */
  async noteFolder(transaction: Executor, erasureId: string, objectKey: string): Promise<void> {
    const folder = objectKey.slice(0, objectKey.lastIndexOf('/') + 1);
    await transaction.run(addFolder, { erasureId, folder });
  }

  /** Whether jobs still remove bytes of this owner. */
  async isInDeletion(ownerId: string): Promise<boolean> {
    return (await this.#handle.database.run(findRemaining, { ownerId })).rows.length > 0;
  }

  /** Folders that are to be looked into. */
  async folders(erasureId: string, after: string, limit: number): Promise<string[]> {
    const { rows } = await this.#handle.database.run(findFolders, { erasureId, after, limit });
    return rows.map(({ folder }) => folder);
  }

  /** They are empty, for good. */
  async dropFolders(
    erasureId: string,
    folders: string[],
    fence: Fence,
    counted: (transaction: Executor) => Promise<unknown>,
  ) {
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      const { rowCount } = await transaction.run(dropFolders, { erasureId, folders });
      if (rowCount > 0) await counted(transaction);
    });
  }
}
