import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  date,
  index,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { bytea, moment } from './columns.ts';

/** In the order in which they are done. */
export const erasureSteps = ['credentials', 'uploads', 'assets', 'objects', 'records', 'audit', 'end'] as const;
export type ErasureStep = (typeof erasureSteps)[number];
/** What becomes of assets in projects that others have a part in. */
export const projectAssetFates = ['leave', 'delete'] as const;

/** What was found and done so far, by what it is of. */
export type ErasureCounts = Partial<Record<string, number>>;

/** Owners who were erased, or are being erased. A row stays, under the pseudonym: it is the proof. */
export const erasures = pgTable(
  'erasures',
  {
    id: uuid('id').primaryKey(),
    /** While it is running; afterwards nobody knows it but who asks by it. */
    ownerId: text('owner_id'),
    /** Keyed digest of the owner; see erasures/pseudonyms.ts. */
    pseudonym: text('pseudonym').notNull(),
    projectAssets: text('project_assets', { enum: projectAssetFates }).notNull(),
    state: text('state', { enum: ['running', 'done'] }).notNull(),
    step: text('step', { enum: erasureSteps }).notNull(),
    requestedBy: text('requested_by').notNull(),
    requestId: text('request_id').notNull(),
    via: text('via'),
    reason: text('reason'),
    counts: jsonb('counts').$type<ErasureCounts>().notNull().default({}),
    /** Of the audit trail: all days before it are done. */
    auditDay: date('audit_day'),
    createdAt: moment('created_at').notNull().default(sql`now()`),
    finishedAt: moment('finished_at'),
    /** Signed; see erasures/receipt.ts. As text: it is the same to the byte whenever it is read. */
    receipt: text('receipt'),
  },
  () => [
    check('erasures_state', sql`state in ('running', 'done')`),
    check('erasures_owner', sql`(state = 'running') = (owner_id is not null)`),
    check('erasures_fate', sql`project_assets in ('leave', 'delete')`),
    // One of an owner at a time; and whether an owner is being erased.
    uniqueIndex('erasures_running').using('btree', sql`owner_id`).where(sql`state = 'running'`),
    index('erasures_by_pseudonym').using('btree', sql`pseudonym`, sql`created_at`),
    index('erasures_by_time').using('btree', sql`created_at`, sql`id`),
  ],
);

/** Folders of the object store in which erased assets have been: each is looked into when its records are gone. */
export const erasedFolders = pgTable(
  'erased_folders',
  {
    erasureId: uuid('erasure_id')
      .notNull()
      .references(() => erasures.id, { onDelete: 'cascade' }),
    /** Ends by a slash. */
    folder: text('folder').notNull(),
  },
  (table) => [primaryKey({ columns: [table.erasureId, table.folder] })],
);

/** Seals of the audit trail as they were before an erasure replaced names in it; append-only, see audit/reseals.ts. */
export const auditFormerSeals = pgTable(
  'audit_former_seals',
  {
    erasureId: uuid('erasure_id').notNull(),
    day: date('day').notNull(),
    rows: bigint('rows', { mode: 'number' }).notNull(),
    digest: bytea('digest').notNull(),
    sealedAt: moment('sealed_at').notNull(),
    replacedAt: moment('replaced_at').notNull().defaultNow(),
    /** The rows were as they had been sealed when the names were replaced. */
    wasIntact: boolean('was_intact').notNull(),
  },
  (table) => [primaryKey({ columns: [table.day, table.erasureId] })],
);
