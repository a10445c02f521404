import { sql } from 'drizzle-orm';
import { bigint, check, index, integer, jsonb, pgTable, text, uniqueIndex, uuid } from 'drizzle-orm/pg-core';
import { bytea, moment } from './columns.ts';

/**
 * `derivative`: named by the policy. `variant`: a picture that was asked for by its address. `transcode`: asked for.
 * `replacement`: bytes that a step puts in the place of the original.
 */
export const derivativeKinds = ['derivative', 'variant', 'transcode', 'replacement'] as const;
export type DerivativeKind = (typeof derivativeKinds)[number];
/** `discarded`: nobody sees it; a job removes its object, and then the row. */
export const derivativeStates = ['making', 'ready', 'failed', 'discarded'] as const;
export type DerivativeState = (typeof derivativeStates)[number];

const literals = (values: readonly string[]) => sql.raw(values.map((value) => `'${value}'`).join(', '));

/**
 * Objects beside the originals, a row each. The row comes before the object and goes after it, so whatever is in the store
 * has a record. It has no foreign key: what is in the making when its asset goes stays here as `discarded` until it is gone.
 */
export const derivatives = pgTable(
  'derivatives',
  {
    id: uuid('id').primaryKey(),
    assetId: uuid('asset_id').notNull(),
    kind: text('kind', { enum: derivativeKinds }).notNull(),
    /** One of an asset has it at a time; see the index. */
    name: text('name').notNull(),
    state: text('state', { enum: derivativeStates }).notNull(),
    /** Why it failed; a word of ours. */
    reason: text('reason'),
    /** Opaque, fresh for every attempt, written once. */
    objectKey: text('object_key').notNull(),
    /** Key of the object that it was made of: when the asset has another, it is made again. */
    sourceKey: text('source_key').notNull(),
    mediaType: text('media_type'),
    size: bigint('size', { mode: 'number' }),
    sha256: bytea('sha256'),
    /** Pixels. */
    width: integer('width'),
    height: integer('height'),
    /** What was asked for, of transcodes. */
    options: jsonb('options').$type<Record<string, string | number>>(),
    /** Per cent. */
    progress: integer('progress'),
    /** Who asked for it first. */
    requestedBy: text('requested_by'),
    /** While it is made: when its maker counts as dead. */
    leaseExpiresAt: moment('lease_expires_at'),
    /** Of a variant: when it was asked for, to the hour. */
    askedAt: moment('asked_at').notNull(),
    createdAt: moment('created_at').notNull(),
    updatedAt: moment('updated_at').notNull(),
  },
  () => [
    check('derivatives_kind', sql`kind in (${literals(derivativeKinds)})`),
    check('derivatives_state', sql`state in (${literals(derivativeStates)})`),
    check('derivatives_complete', sql`state <> 'ready' or (size is not null and media_type is not null)`),
    uniqueIndex('derivatives_by_name').using('btree', sql`asset_id`, sql`name`).where(sql`state <> 'discarded'`),
    index('derivatives_by_asset').using('btree', sql`asset_id`),
    index('derivatives_to_remove').using('btree', sql`updated_at`).where(sql`state in ('discarded', 'making')`),
  ],
);
