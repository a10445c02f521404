import { type SQL, sql } from 'drizzle-orm';
import { bigint, boolean, check, index, integer, jsonb, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { bytea, moment } from './columns.ts';
import { type HeldFor, retentionModes } from './holds.ts';
import type { Facts, Original, ProcessingRecord, Scan } from './processing-record.ts';
import { projects } from './projects.ts';

/** `ready` alone is served. `uploading` and `deleting` are never shown: such an upload is no asset yet, or none any more. */
export const assetStates = ['uploading', 'processing', 'ready', 'rejected', 'lost', 'deleting'] as const;
export const visibleStates = ['processing', 'ready', 'rejected', 'lost'] as const;
export type AssetState = (typeof assetStates)[number];
export const assetTiers = ['archive'] as const;
export const retentions = ['temporary', 'permanent'] as const;
export type Retention = (typeof retentions)[number];

export const restoreSpeeds = ['expedited', 'standard', 'bulk'] as const;
export type RestoreSpeed = (typeof restoreSpeeds)[number];
/** That the bytes of an archived asset are brought back. */
export interface ArchiveRestore {
  state: 'requested' | 'failed';
  speed: RestoreSpeed;
  /** For which they are to be there. */
  days: number;
  /** When it was asked for. */
  at: string;
  /** Why it failed; a word of ours. */
  reason?: string;
}

const literals = (states: readonly AssetState[]) => sql.raw(states.map((state) => `'${state}'`).join(', '));
/** As partial indexes have it. */
export const visible = sql`state in (${literals(visibleStates)})`;
export const listed = sql`${visible} and trashed_at is null`;
const listedInProject = sql`${listed} and project_id is not null`;

export const assets = pgTable(
  'assets',
  {
    id: uuid('id').primaryKey(),
    ownerId: text('owner_id').notNull(),
    projectId: text('project_id').references(() => projects.id),
    name: text('name').notNull(),
    state: text('state', { enum: assetStates }).notNull(),
    /** These are known from the moment the bytes are stored and checked; the digest only where the bytes were read. */
    assetType: text('asset_type'),
    mediaType: text('media_type'),
    size: bigint('size', { mode: 'number' }),
    sha256: bytea('sha256'),
    /** Why it was rejected; a problem type. */
    reason: text('reason'),
    metadata: jsonb('metadata').$type<Record<string, string>>().notNull().default({}),
    /** Opaque, fresh for every upload, written once. */
    objectKey: text('object_key').notNull(),
    cacheControl: text('cache_control'),
    /**
     * Its bytes were put by one request, and nothing else was ever written to the store for it: so there is no unfinished
     * upload and nothing beside its object to look for when it is deleted. Absent where that is not known.
     */
    storedWhole: boolean('stored_whole'),
    /** Counts the changes of the record; the entity tag is made of it. */
    version: integer('version').notNull().default(1),
    createdAt: moment('created_at').notNull(),
    updatedAt: moment('updated_at').notNull(),
    trashedAt: moment('trashed_at'),
    /** Of an upload: bytes held in the owner's `reserved`, and when the upload counts as abandoned. */
    reservedBytes: bigint('reserved_bytes', { mode: 'number' }).notNull().default(0),
    leaseExpiresAt: moment('lease_expires_at'),
    /** While it is `processing`: bytes that were read back. */
    verifiedBytes: bigint('verified_bytes', { mode: 'number' }),
    /** What steps of processing have found out, and how far they are; see processing/record.ts. */
    scan: jsonb('scan').$type<Scan>(),
    facts: jsonb('facts').$type<Facts>(),
    original: jsonb('original').$type<Original>(),
    thumbHash: text('thumb_hash'),
    processing: jsonb('processing').$type<ProcessingRecord>(),
    /** Whose quota it takes of; absent where that is its owner's. See `accountOf` in quotas/accounts.ts. */
    account: text('account'),
    /** The ticket that it was uploaded with. */
    ticketId: uuid('ticket_id'),
    /** Counts the contents that it has had. */
    contentVersion: integer('content_version').notNull().default(1),
    /** When it was given the bytes that it has; absent while it has its first. */
    contentAt: moment('content_at'),
    /** Bytes of its former contents that are kept; see `asset_versions`. */
    versionBytes: bigint('version_bytes', { mode: 'number' }).notNull().default(0),
    /** Of the bytes under `objectKey`, for archives; absent until somebody has read them, as after direct uploads. */
    crc32: bigint('crc32', { mode: 'number' }),
    /**
     * It is public while `publishedIn` is the project that it is in, or empty text where that is none: whoever moves it,
     * by whatever statement, does not take it into the gallery of another project. See `isPublished`.
     */
    publishedIn: text('published_in'),
    publishedAt: moment('published_at'),
    /** When it ceased to be public: caches may have it for a while. */
    unpublishedAt: moment('unpublished_at'),
    /** Its folder: empty, or ended by `/`. */
    path: text('path').notNull().default(''),
    /** Each once, in order. */
    tags: text('tags').array().notNull().default([]),
    /** Why nobody may delete it, by the names of the holds; null, never empty, where there is none. */
    holds: jsonb('holds').$type<HeldFor>(),
    /** Until then nobody may delete it either; what has passed is kept for the record. */
    retainUntil: moment('retain_until'),
    /** Who may shorten that: see `retentionModes`. */
    retentionMode: text('retention_mode', { enum: retentionModes }),
    /** What its uploader has said; absent: what its upload policy says. */
    retention: text('retention', { enum: retentions }),
    /** It is temporary, and is deleted then unless somebody keeps it. */
    temporaryUntil: moment('temporary_until'),
    /** Where its bytes lie; absent: where they can be read at once. */
    tier: text('tier', { enum: assetTiers }),
    archivedAt: moment('archived_at'),
    /** What was asked for of an archived asset, while it is not there. */
    restore: jsonb('restore').$type<ArchiveRestore>(),
    /** Until when the bytes of an archived asset can be read, or those that were brought back stay where they are. */
    restoredUntil: moment('restored_until'),
  },
  () => [
    check('assets_state', sql`state in (${literals(assetStates)})`),
    check(
      'assets_complete',
      sql`state in ('uploading', 'deleting') or (size is not null and media_type is not null and asset_type is not null)`,
    ),
    check('assets_reservation', sql`reserved_bytes >= 0 and (state = 'uploading' or reserved_bytes = 0)`),
    // One index per order of the list, and per filter that narrows it; see the EXPLAIN tests in tests/integration/list-scale.test.ts.
    index('assets_by_created').using('btree', sql`owner_id`, sql`created_at`, sql`id`).where(listed),
    index('assets_by_name').using('btree', sql`owner_id`, sql`lower(name) collate "C"`, sql`id`).where(listed),
    index('assets_by_size').using('btree', sql`owner_id`, sql`size`, sql`id`).where(listed),
    index('assets_by_project').using('btree', sql`owner_id`, sql`project_id`, sql`created_at`, sql`id`).where(listed),
    index('assets_by_asset_type')
      .using('btree', sql`owner_id`, sql`asset_type`, sql`created_at`, sql`id`)
      .where(listed),
    index('assets_by_media_type')
      .using('btree', sql`owner_id`, sql`media_type`, sql`created_at`, sql`id`)
      .where(listed),
    // The same for a project, over all its members.
    index('assets_of_project_by_created')
      .using('btree', sql`project_id`, sql`created_at`, sql`id`)
      .where(listedInProject),
    index('assets_of_project_by_name')
      .using('btree', sql`project_id`, sql`lower(name) collate "C"`, sql`id`)
      .where(listedInProject),
    index('assets_of_project_by_size').using('btree', sql`project_id`, sql`size`, sql`id`).where(listedInProject),
    index('assets_of_project_trashed')
      .using('btree', sql`project_id`, sql`created_at`, sql`id`)
      .where(sql`${visible} and trashed_at is not null and project_id is not null`),
    // Of the foreign key: whether anything is left in a project.
    index('assets_of_project').using('btree', sql`project_id`).where(sql`project_id is not null`),
    index('assets_of_ticket')
      .using('btree', sql`ticket_id`, sql`created_at`, sql`id`)
      .where(sql`ticket_id is not null`),
    index('assets_trashed')
      .using('btree', sql`owner_id`, sql`created_at`, sql`id`)
      .where(sql`${visible} and trashed_at is not null`),
    index('assets_trashed_since').using('btree', sql`trashed_at`).where(sql`${visible} and trashed_at is not null`),
    index('assets_open_uploads')
      .using('btree', sql`owner_id`, sql`created_at`, sql`id`)
      .where(sql`state = 'uploading'`),
    index('assets_uploading').using('btree', sql`lease_expires_at`).where(sql`state = 'uploading'`),
    index('assets_processing').using('btree', sql`created_at`).where(sql`state = 'processing'`),
    index('assets_deleting').using('btree', sql`updated_at`).where(sql`state = 'deleting'`),
  ],
);

/** As the indexes of paths have it: what lies in no folder is in none of them. */
export const hasPath = sql`path <> ''`;

/**
 * The name without case and accents, by which parts of names are found. Most names are ASCII, and cost nothing but that
 * they are counted. Immutable, so that an index can hold it: `unaccent` is not.
 */
export const foldedName = folded(sql.raw('assets.name'));

/** @param text expression; of a parameter too, so that what is looked for is folded alike */
export function folded(text: SQL): SQL {
  return sql`case when octet_length(${text}) = char_length(${text}) then lower(${text})
    else lower(regexp_replace(normalize(${text}, nfd), '[\\u0300-\\u036f]', '', 'g')) end`;
}

/** Where an asset belongs, as the search index knows it: one entry for each, so that a search reads what is of its place. */
export const searchLabels = sql.raw(
  "array_remove(array['owner:' || assets.owner_id, 'project:' || assets.project_id, 'in:' || assets.path], null)",
);

/** That an asset is in one of these states. Written out, no parameters: the planner takes a partial index only when it sees them. */
export function inState(...states: [AssetState, ...AssetState[]]): SQL {
  return sql`${assets.state} in (${literals(states)})`;
}

/** That it was made public, where it is now. Whether anything is served says `isServedToAll`. */
export const isPublished = sql<boolean>`(${assets.publishedIn} is not null and ${assets.publishedIn} = coalesce(${assets.projectId}, ''))`;

/** That its bytes can be read at once: they are not archived, or were brought back. */
export const isAtHand = sql<boolean>`(${assets.tier} is null or ${assets.restoredUntil} > now())`;

/** That its bytes are there for everybody, as far as the record says; its upload policy must allow it, too. */
export const isServedToAll = sql`(${isPublished} and ${inState('ready')} and ${assets.trashedAt} is null)`;

export const isVisible = inState(...visibleStates);

/**
 * That a hold stands, or its retention. Every statement that deletes, purges, expires or replaces bytes has `isFree` of the
 * asset in its own condition. Both read the row of the asset and nothing else: a statement that has waited for that row judges
 * its condition again by the row as it is then, but sees other tables as they were before (PostgreSQL documentation, 13.2.1
 * Read Committed Isolation Level). So of a hold and a deletion that come at once, the second one finds what the first has done.
 */
export const isHeld = sql<boolean>`(${assets.holds} is not null or coalesce(${assets.retainUntil} > now(), false))`;
export const isFree = sql<boolean>`(not ${isHeld})`;
/** That it is, or its retention has ended: as the index of held assets has it, which knows no time. */
export const mayBeHeld = sql`(${assets.holds} is not null or ${assets.retainUntil} is not null)`;

/** That it goes through steps of processing: as an asset, or as an upload that is to take the place of the bytes of one. */
export const isInProcessing = sql`(${inState('processing', 'ready')} or (${inState('uploading')} and ${assets.processing} is not null))`;
