import { sql } from 'drizzle-orm';
import { boolean, check, index, integer, jsonb, pgTable, primaryKey, text } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';
import type { LifeCycle } from './life-cycle.ts';

/** Assets that several people have together. */
export const projects = pgTable(
  'projects',
  {
    id: text('id').primaryKey(),
    name: text('name').notNull(),
    metadata: jsonb('metadata').$type<Record<string, string>>().notNull().default({}),
    /** Members see only what they have uploaded themselves; managers see all. */
    separate: boolean('separate').notNull().default(false),
    /** Everybody may look at what is public in it. */
    gallery: boolean('gallery').notNull().default(false),
    createdBy: text('created_by').notNull(),
    /** What becomes of its assets with time; absent: what their upload policies say. */
    lifeCycle: jsonb('life_cycle').$type<LifeCycle>(),
    /** Counts the changes of the record; the entity tag is made of it. */
    version: integer('version').notNull().default(1),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  // Of the count of what one caller has made.
  () => [index('projects_by_maker').using('btree', sql`created_by`)],
);

/** Who belongs to a project, and as what. */
export const projectMembers = pgTable(
  'project_members',
  {
    projectId: text('project_id')
      .notNull()
      .references(() => projects.id, { onDelete: 'cascade' }),
    subject: text('subject').notNull(),
    role: text('role', { enum: ['viewer', 'editor', 'manager'] }).notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    /** Who is counted for it; absent where that is an administrator, and on rows of earlier versions. */
    addedBy: text('added_by'),
  },
  (table) => [
    primaryKey({ columns: [table.projectId, table.subject] }),
    check('project_members_role', sql`role in ('viewer', 'editor', 'manager')`),
    index('project_members_by_subject').using('btree', sql`subject`, sql`project_id`),
    index('project_members_by_adder').using('btree', sql`added_by`).where(sql`added_by is not null`),
  ],
);
