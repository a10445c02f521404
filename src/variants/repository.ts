/**
 * What is asked of the records for each picture that is shown: the asset and its variant, by one statement. Claims, ends and
 * removals are those of every derivative (processing/derivatives.ts).
 */
import { and, desc, eq, exists, inArray, isNull, lt, type SQL, type SQLWrapper, sql } from 'drizzle-orm';
import { alias } from 'drizzle-orm/pg-core';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, accessOf, isFor } from '../access/conditions.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { Database, Executor } from '../database/client.ts';
import { build, compile, hoursAgo, jsonObject, type Parameter } from '../database/statements.ts';
import { assets, inState, isAtHand } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';

/** Hours for which the time at which a variant was asked for is not written again. */
const ASKED_PRECISION = 1;
/** Seconds for which what could not be made is not tried again. */
const FAILURE_LIFE = 600;
/** Why something failed: the picture cannot be read, so no variant of it can be made. */
export const UNREADABLE = 'refused';

/** The picture from which variants are made: ready, and not in the trash. */
export interface Picture {
  id: string;
  ownerId: string;
  name: string;
  mediaType: string;
  /** Bytes. */
  size: number;
  sha256: Buffer | null;
  objectKey: string;
  cacheControl: string | null;
  /** Its bytes can be read. */
  isAtHand: boolean;
  /** Who asks for a variant of it, where that is not just an address. */
  askedBy?: Caller;
}

export interface StoredVariant {
  id: string;
  objectKey: string;
  /** Bytes. */
  size: number;
  sha256: Buffer;
  madeAt: Date;
}

/**
 * `busy`: somebody makes it. `failed`: it could not be made a moment ago. `absent`: nobody makes it, or its maker died, or it
 * failed so long ago that it may be tried again.
 */
export type VariantState =
  | { state: 'ready'; variant: StoredVariant; isAskedAnew: boolean }
  | { state: 'failed'; reason: string }
  | { state: 'busy' | 'absent' };

export interface FoundPicture {
  picture: Picture;
  found: VariantState;
}

const pictureColumns = {
  id: assets.id,
  ownerId: assets.ownerId,
  projectId: assets.projectId,
  name: assets.name,
  mediaType: assets.mediaType,
  size: assets.size,
  sha256: assets.sha256,
  objectKey: assets.objectKey,
  cacheControl: assets.cacheControl,
};

const isFresh = (at: SQLWrapper) => sql`${at} > now() - make_interval(secs => ${sql.raw(String(FAILURE_LIFE))})`;

const others = alias(derivatives, 'others');
/** What could not be read for one variant cannot be read for another. */
const refused = build
  .select({ id: others.id })
  .from(others)
  .where(
    and(
      eq(others.assetId, assets.id),
      eq(others.kind, 'variant'),
      eq(others.state, 'failed'),
      eq(others.reason, sql.raw(`'${UNREADABLE}'`)),
      eq(others.sourceKey, assets.objectKey),
      isFresh(others.updatedAt),
    ),
  );

const variantColumns = {
  variantId: sql<string | null>`${derivatives.id}`.as('variant_id'),
  variantState: sql<string | null>`${derivatives.state}`.as('variant_state'),
  variantReason: sql<string | null>`${derivatives.reason}`.as('variant_reason'),
  variantKey: sql<string | null>`${derivatives.objectKey}`.as('variant_key'),
  variantSize: sql`${derivatives.size}`.mapWith(derivatives.size).as('variant_size'),
  variantSha256: sql`${derivatives.sha256}`.mapWith(derivatives.sha256).as('variant_sha256'),
  madeAt: sql`${derivatives.updatedAt}`.mapWith(derivatives.updatedAt).as('made_at'),
  isMaking: sql<boolean | null>`(${derivatives.leaseExpiresAt} > now())`.as('is_making'),
  isFresh: sql<boolean | null>`(${isFresh(derivatives.updatedAt)})`.as('is_fresh'),
  isAskedAnew: sql<boolean | null>`(${derivatives.askedAt} < ${hoursAgo(ASKED_PRECISION)})`.as('is_asked_anew'),
  isUnreadable: sql<
    boolean | null
  >`(case when ${derivatives.state} = 'ready' then false else ${exists(refused)} end)`.as('is_unreadable'),
};

/** Written out, no parameter: the planner takes a partial index only when it sees its condition. */
const isCurrent = sql`${derivatives.state} <> 'discarded'`;

/** One that was made of other bytes than the asset has now is none. */
const isItsVariant = (p: Parameter<'name'>) =>
  and(
    eq(derivatives.assetId, assets.id),
    eq(derivatives.name, p('name')),
    eq(derivatives.kind, 'variant'),
    isCurrent,
    eq(derivatives.sourceKey, assets.objectKey),
  );

const isShown = and(inState('ready'), isNull(assets.trashedAt));

const pictureWhere = (p: Parameter<'name'>, condition: SQL | undefined) =>
  build
    .select({ ...pictureColumns, isAtHand: isAtHand.as('is_at_hand'), ...variantColumns })
    .from(assets)
    .leftJoin(derivatives, isItsVariant(p))
    .where(and(condition, isShown));

const findVariant = compile('find-variant', (p: Parameter<'id' | 'name'>) => pictureWhere(p, eq(assets.id, p('id'))));

const findOwnVariant = compile('find-own-variant', (p: Parameter<'id' | 'name' | AccessParameter>) =>
  pictureWhere(p, and(eq(assets.id, p('id')), isFor(p, 'asset.download'))),
);

/** With the audit row of its download, where it is there to be downloaded. */
const downloadVariant = compile('download-variant', (p: Parameter<'id' | 'name' | AccessParameter | keyof Actor>) => {
  const found = build.$with('found').as(pictureWhere(p, and(eq(assets.id, p('id')), isFor(p, 'asset.download'))));
  const served = build
    .$with('served')
    .as(
      build
        .select({ id: found.id, ownerId: found.ownerId, projectId: found.projectId })
        .from(found)
        .where(eq(found.variantState, 'ready')),
    );
  const detail = jsonObject({ variant: sql`${p('name')}::text` });
  return build
    .with(found, served, auditFrom(p, served, { action: 'asset.downloaded', detail }))
    .select()
    .from(found);
});

const markAsked = compile('mark-variant-asked', (p: Parameter<'id'>) =>
  build
    .update(derivatives)
    .set({ askedAt: sql`now()` })
    .where(and(eq(derivatives.id, p('id')), lt(derivatives.askedAt, hoursAgo(ASKED_PRECISION)))),
);

/** Those of an asset beyond so many, the least recently asked for; two that make room at once take different ones. */
const findSurplus = compile('find-surplus-variants', (p: Parameter<'assetId' | 'limit'>) => {
  const surplus = build
    .select({ id: derivatives.id })
    .from(derivatives)
    .where(and(eq(derivatives.assetId, p('assetId')), eq(derivatives.kind, 'variant'), isCurrent))
    // What is being made comes first: it is not among the surplus while there is anything else.
    .orderBy(desc(eq(derivatives.state, sql`'making'`)), desc(derivatives.askedAt), desc(derivatives.id))
    .offset(p('limit'));
  return build
    .select({ id: derivatives.id })
    .from(derivatives)
    .where(inArray(derivatives.id, surplus))
    .for('update', { skipLocked: true });
});

export class VariantsRepository {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** @returns undefined unless the asset is ready and out of the trash */
  async find(id: string, name: string): Promise<FoundPicture | undefined> {
    const { rows } = await this.#database.run(findVariant, { id, name });
    return rows[0] && foundPicture(rows[0]);
  }

  /** The same where the caller may download it. */
  async findFor(caller: Caller, id: string, name: string): Promise<FoundPicture | undefined> {
    const { rows } = await this.#database.run(findOwnVariant, { id, name, ...accessOf(caller) });
    return rows[0] && foundPicture(rows[0]);
  }

  /** The same; where the variant is there, its download is written to the audit trail by the same statement. */
  async download(caller: Caller, id: string, name: string, actor: Actor): Promise<FoundPicture | undefined> {
    const { rows } = await this.#database.run(downloadVariant, { id, name, ...accessOf(caller), ...actor });
    return rows[0] && foundPicture(rows[0]);
  }

  async markAsked(id: string): Promise<void> {
    await this.#database.run(markAsked, { id });
  }

  /** @returns which are more than `limit` */
  async surplus(transaction: Executor, assetId: string, limit: number): Promise<string[]> {
    const { rows } = await transaction.run(findSurplus, { assetId, limit });
    return rows.map(({ id }) => id);
  }
}

type Row = {
  [Name in keyof typeof pictureColumns]: (typeof pictureColumns)[Name]['_']['data'] | null;
} & {
  isAtHand: boolean | null;
  variantId: string | null;
  variantState: string | null;
  variantReason: string | null;
  variantKey: string | null;
  variantSize: number | null;
  variantSha256: Buffer | null;
  madeAt: Date | null;
  isMaking: boolean | null;
  isFresh: boolean | null;
  isAskedAnew: boolean | null;
  isUnreadable: boolean | null;
};

function foundPicture(row: Row): FoundPicture {
  return { picture: pictureOf(row), found: stateOf(row) };
}

function pictureOf(row: Row): Picture {
  const { id, ownerId, name, mediaType, size, sha256, objectKey, cacheControl, isAtHand } = row;
  if (id === null || ownerId === null || name === null || objectKey === null)
    throw new Error('a row without its columns');
  if (mediaType === null || size === null) throw new Error(`asset ${id} is incomplete`);
  return { id, ownerId, name, mediaType, size, sha256, objectKey, cacheControl, isAtHand: isAtHand === true };
}

function stateOf(row: Row): VariantState {
  const { variantId: id, variantState: state, variantKey: objectKey, variantSize: size, variantSha256: sha256 } = row;
  if (state === 'ready') {
    if (id === null || objectKey === null || size === null || sha256 === null || row.madeAt === null)
      throw new Error(`the variant ${id} is incomplete`);
    return {
      state,
      variant: { id, objectKey, size, sha256, madeAt: row.madeAt },
      isAskedAnew: row.isAskedAnew === true,
    };
  }
  if (state === 'failed' && row.isFresh) return { state, reason: row.variantReason ?? 'refused' };
  if (row.isUnreadable) return { state: 'failed', reason: UNREADABLE };
  return { state: state === 'making' && row.isMaking ? 'busy' : 'absent' };
}
