/** The versions of assets in the database: listed and found by whoever may read the asset, restored and deleted under its lock. */
import { and, desc, eq, isNull, lt, sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, accessOf, isFor } from '../access/conditions.ts';
import type { Asset } from '../assets/asset.ts';
import { nextVersion } from '../assets/conditions.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { retryStatement } from '../database/retry.ts';
import { build, compile, jsonObject, type Parameter, typed } from '../database/statements.ts';
import { assets, isVisible } from '../database/tables/assets.ts';
import { assetVersions, replacements } from '../database/tables/versions.ts';
import type { DerivativesRepository } from '../processing/derivatives.ts';
import type { StepRules } from '../processing/pipeline.ts';
import { plan } from '../processing/pipeline.ts';
import type { LimitValues } from '../quotas/limit.ts';
import * as contents from './content-statements.ts';
import type { Content, Contents, LockedAsset } from './contents.ts';

/** Milliseconds for which a change waits for a lost connection, or for others that were faster. */
const PATIENCE = 2000;
/** Days for which it is told what became of an upload that replaced: no upload, and no look after one, lives longer. */
const KEPT_DAYS = 8;
/** Rows that one statement removes. */
const BATCH = 1000;

export type VersionRow = typeof assetVersions.$inferSelect;

const listVersions = compile('list-versions', (p: Parameter<'id' | 'before' | 'limit'>) =>
  build
    .select()
    .from(assetVersions)
    .where(
      and(
        eq(assetVersions.assetId, p('id')),
        lt(assetVersions.number, sql`coalesce(${p('before')}::integer, 2147483647)`),
      ),
    )
    .orderBy(desc(assetVersions.number))
    .limit(p('limit')),
);

const findVersion = compile('find-version', (p: Parameter<'id' | 'number' | AccessParameter>) =>
  build
    .select({
      assetId: assetVersions.assetId,
      ownerId: assets.ownerId,
      projectId: assets.projectId,
      name: assetVersions.name,
      mediaType: assetVersions.mediaType,
      size: assetVersions.size,
      sha256: assetVersions.sha256,
      objectKey: assetVersions.objectKey,
      cacheControl: assetVersions.cacheControl,
      storedAt: assetVersions.storedAt,
    })
    .from(assetVersions)
    .innerJoin(assets, eq(assets.id, assetVersions.assetId))
    .where(
      and(
        eq(assetVersions.assetId, p('id')),
        eq(assetVersions.number, p('number')),
        isFor(p, 'asset.download'),
        isVisible,
        isNull(assets.trashedAt),
      ),
    ),
);

const writeDeletion = compile(
  'write-version-deletion',
  (p: Parameter<'id' | 'versionBytes' | 'number' | 'size' | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({ ...nextVersion, versionBytes: typed(p('versionBytes'), assets.versionBytes) })
        .where(eq(assets.id, p('id')))
        .returning({ id: assets.id, ownerId: assets.ownerId, projectId: assets.projectId, name: assets.name }),
    );
    const detail = jsonObject({
      name: changed.name,
      version: sql`${p('number')}::integer`,
      size: sql`${p('size')}::bigint`,
    });
    return build
      .with(changed, auditFrom(p, changed, { action: 'asset.version-deleted', detail }))
      .select({ id: changed.id })
      .from(changed);
  },
);

const forgetReplacements = compile(
  'forget-replacements',
  () => {
    const old = build
      .select({ uploadId: replacements.uploadId })
      .from(replacements)
      .leftJoin(assets, eq(assets.id, replacements.uploadId))
      .where(
        and(
          lt(replacements.begunAt, sql`now() - make_interval(days => ${sql.raw(String(KEPT_DAYS))})`),
          isNull(assets.id),
        ),
      )
      .limit(sql.raw(String(BATCH)) as never);
    return build.delete(replacements).where(sql`${replacements.uploadId} in ${old}`);
  },
  { named: false },
);

/** `gone`: there is no such version (any more); `changed`: the record has another version; `trashed`; `held`. */
export type Refused = 'gone' | 'changed' | 'trashed' | 'held';

type WithAsset = (transaction: Executor, asset: Asset) => Promise<void>;

export interface VersionsRepositoryOptions {
  contents: Contents;
  derivatives: DerivativesRepository;
  /** What is made of a file. */
  rules: StepRules;
  /** Seconds for which the bytes of a deleted version stay in the store. */
  grace: number;
  limits: LimitValues;
}

export class VersionsRepository {
  readonly #handle: DatabaseHandle;
  readonly #options: VersionsRepositoryOptions;

  constructor(handle: DatabaseHandle, options: VersionsRepositoryOptions) {
    this.#handle = handle;
    this.#options = options;
  }

  /** Of an asset that the caller may read; the latest first. @param before number of the last one of the page before */
  async list(id: string, before: number | undefined, limit: number): Promise<VersionRow[]> {
    const { rows } = await this.#handle.database.run(listVersions, { id, before: before ?? null, limit });
    return rows;
  }

  /** A version whose bytes the caller may get; undefined too while its asset is in the trash. */
  async find(caller: Caller, id: string, number: number) {
    const { rows } = await this.#handle.database.run(findVersion, { id, number, ...accessOf(caller) });
    return rows[0];
  }

  /**
   * Gives an asset the bytes of a version; those that it has become a version, so the quota stays as it is.
   * @param version only when the record still has this version
   */
  async restore(
    caller: Caller,
    id: string,
    number: number,
    version: number | undefined,
    actor: Actor,
    inTransaction: WithAsset,
  ): Promise<Asset | Refused> {
    return this.#change(caller, id, version, async (transaction, asset) => {
      if (asset.trashedAt) return 'trashed';
      const { rows } = await transaction.run(contents.dropVersion, { assetId: id, number });
      const [former] = rows;
      if (!former) return 'gone';
      const content: Content = { ...former, processing: this.#toDo(asset, former) };
      const reason = { action: 'asset.version-restored' as const, actor, former: number };
      const restored = await this.#options.contents.give(transaction, asset, content, reason);
      await inTransaction(transaction, restored);
      return restored;
    });
  }

  /** Deletes a version for good; its quota is free. */
  async delete(
    caller: Caller,
    id: string,
    number: number,
    version: number | undefined,
    actor: Actor,
    inTransaction: (transaction: Executor) => Promise<void>,
  ): Promise<'deleted' | Refused> {
    const { derivatives, grace, limits } = this.#options;
    return this.#change(caller, id, version, async (transaction, asset) => {
      const { rows } = await transaction.run(contents.dropVersion, { assetId: id, number });
      const [former] = rows;
      if (!former) return 'gone';
      const { size, objectKey } = former;
      const freed = { account: asset.account, more: -size, reserved: 0, ...limits };
      await transaction.run(contents.settleUse, freed);
      const versionBytes = asset.versionBytes - size;
      await transaction.run(writeDeletion, { id, versionBytes, number, size, ...actor });
      await derivatives.discardObject(id, objectKey, transaction, grace);
      await inTransaction(transaction);
      return 'deleted';
    });
  }

  /** What became of uploads that replaced is told no more. @returns how many */
  async forgetReplacements(): Promise<number> {
    return (await this.#handle.database.run(forgetReplacements, {})).rowCount;
  }

  async #change<Outcome>(
    caller: Caller,
    id: string,
    version: number | undefined,
    work: (transaction: Executor, asset: LockedAsset) => Promise<Outcome | Refused>,
  ): Promise<Outcome | Refused> {
    return retryStatement(PATIENCE, () =>
      this.#handle.transact(async (transaction) => {
        const { rows } = await transaction.run(contents.lockContentFor, { id, ...accessOf(caller) });
        const [asset] = rows;
        if (!asset) return 'gone';
        if (version !== undefined && asset.version !== version) return 'changed';
        if (asset.isHeld) return 'held';
        return work(transaction, asset);
      }),
    );
  }

  /** What is to be made of it again. What was necessary before it was served was done then. */
  #toDo({ assetType }: LockedAsset, { mediaType, size, processing }: VersionRow) {
    const planned = plan(this.#options.rules, { mediaType, size, assetType: assetType ?? '' }, {}, false);
    if (planned?.derive === undefined && planned?.facts === undefined) return processing;
    const { facts, derive } = planned;
    return { ...processing, ...(facts && processing?.facts?.state !== 'done' && { facts }), ...(derive && { derive }) };
  }
}
