/** The statements that make a project. */
import { eq, sql } from 'drizzle-orm';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { Executor } from '../database/client.ts';
import { build, compile, jsonObject, nowhere, type Parameter, typed } from '../database/statements.ts';
import { projectMembers, projects } from '../database/tables/projects.ts';
import './audit.ts';

export interface NewProject {
  id: string;
  name: string;
  metadata: Record<string, string>;
  separate: boolean;
}

/** Who makes it. */
interface Maker {
  subject: string;
  /** As its manager. */
  joins: boolean;
  /** Projects that he may have made. */
  limit: number | undefined;
}

/** Until the end of the transaction: so two at once do not pass the limit together. */
const lockMaker = compile('lock-project-maker', (p: Parameter<'subject'>) =>
  build
    .select({
      locked: sql<string>`pg_advisory_xact_lock(hashtextextended('stowage:projects:' || ${p('subject')}::text, 0))::text`,
    })
    .from(nowhere),
);

/** One that there is already stays as it is, and nothing is returned; so it is where the limit is reached. */
const insertOne = compile(
  'insert-project',
  (p: Parameter<'id' | 'name' | 'metadata' | 'separate' | 'subject' | 'joins' | 'limit' | keyof Actor>) => {
    const madeBefore = build
      .select({ count: sql`count(*)` })
      .from(projects)
      .where(eq(projects.createdBy, p('subject')));
    const row = build
      .select({
        id: typed(p('id'), projects.id).as('id'),
        name: typed(p('name'), projects.name).as('name'),
        metadata: typed(p('metadata'), projects.metadata).as('metadata'),
        separate: typed(p('separate'), projects.separate).as('separate'),
        gallery: sql`false`.as('gallery'),
        createdBy: typed(p('subject'), projects.createdBy).as('created_by'),
        lifeCycle: sql`null::jsonb`.as('life_cycle'),
        version: sql`1`.as('version'),
        createdAt: sql`now()`.as('created_at'),
        updatedAt: sql`now()`.as('updated_at'),
      })
      .from(nowhere)
      .where(sql`${p('limit')}::integer is null or (${madeBefore}) < ${p('limit')}::integer`);
    const made = build.$with('made').as(
      build
        .insert(projects)
        .select(row)
        .onConflictDoNothing()
        .returning({
          id: sql<null>`null::uuid`.as('asset_id'),
          ownerId: projects.createdBy,
          projectId: projects.id,
          name: projects.name,
        }),
    );
    const joined = build.$with('joined', {}).as(
      build
        .insert(projectMembers)
        .select(
          build
            .select({
              projectId: made.projectId,
              subject: typed(p('subject'), projectMembers.subject).as('subject'),
              role: sql<'manager'>`'manager'`.as('role'),
              createdAt: sql<Date>`now()`.as('created_at'),
              // He is bounded by the projects that he may make.
              addedBy: sql<null>`null::text`.as('added_by'),
            })
            .from(made)
            .where(sql`${p('joins')}::boolean`),
        )
        .getSQL(),
    );
    return build
      .with(made, joined, auditFrom(p, made, { action: 'project.created', detail: jsonObject({ name: made.name }) }))
      .select({ projectId: made.projectId })
      .from(made);
  },
);

/** @returns false when there is one of this id already, or its maker has made as many as he may */
export async function insertProject(
  transaction: Executor,
  project: NewProject,
  { subject, joins, limit = undefined }: Maker,
  actor: Actor,
): Promise<boolean> {
  if (limit !== undefined) await transaction.run(lockMaker, { subject });
  const values = { ...project, subject, joins, limit: limit ?? null, ...actor };
  const { rows } = await transaction.run(insertOne, values);
  return rows.length > 0;
}
