/**
 * Projects and their members in SQL. What changes one locks its row first and reads what the caller is to it after that, so
 * two changes at once see each other: a project that has managers keeps one, and never has more members than it may.
 */
import { and, asc, count, eq, gt, isNotNull, ne, or, type SQL, sql } from 'drizzle-orm';
import { union } from 'drizzle-orm/pg-core';
import type { Caller } from '../access/caller.ts';
import { memberRank } from '../access/conditions.ts';
import type { MemberRole } from '../access/rules.ts';
import { type Actor, type AuditAction, auditFrom } from '../database/audit.ts';
import { type DatabaseHandle, type Executor, sqlConstraint } from '../database/client.ts';
import { build, compile, jsonObject, now, nowhere, type Parameter, typed, writtenOut } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';
import type { LifeCycle } from '../database/tables/life-cycle.ts';
import { projectMembers, projects } from '../database/tables/projects.ts';
import { quotas } from '../database/tables/quotas.ts';
import { projectAccount } from '../quotas/accounts.ts';
import { insertProject, type NewProject } from './making.ts';
import { isOwnOnly, type Place, roleIn } from './places.ts';
import { type FoundProject, type Member, memberColumns, type ProjectRow, projectColumns } from './project.ts';

/** Of what stands in the way of a deletion, so many are counted. */
export const MAX_COUNTED = 10_000;

const isThis = (p: Parameter<'id'>) => eq(projects.id, p('id'));
const isMember = (p: Parameter<'id' | 'subject'>) =>
  and(eq(projectMembers.projectId, p('id')), eq(projectMembers.subject, p('subject')));
/** An audit row is of who has acted: of no asset, and not of a member who has left. */
const audited = (p: Parameter<keyof Actor>) => ({
  ownerId: sql<string>`${p('callerId')}::text`.as('owner_id'),
  id: sql<null>`null::uuid`.as('asset_id'),
});

/** Uploads into it may go on meanwhile. */
const lockProject = compile('lock-project', (p: Parameter<'id'>) =>
  build.select({ id: projects.id }).from(projects).where(isThis(p)).for('no key update'),
);
const withRank = { ...projectColumns, rank: sql<number | null>`${memberRank}`.as('rank') };
const findProject = compile('find-project', (p: Parameter<'id' | 'subject'>) =>
  build
    .select(withRank)
    .from(projects)
    .leftJoin(projectMembers, and(eq(projectMembers.projectId, projects.id), eq(projectMembers.subject, p('subject'))))
    .where(isThis(p)),
);

/** Those of which he is a member, and those that his token names; of each kind no more than the page has. */
const listProjects = compile('list-projects', (p: Parameter<'subject' | 'claimed' | 'only' | 'after' | 'limit'>) => {
  const isThere = (id: SQL) =>
    and(sql`${id} > ${p('after')}`, sql`(${p('only')}::text[] is null or ${id} = any (${p('only')}::text[]))`);
  const claimed = build
    .select({ id: sql<string>`unnest(${p('claimed')}::text[])`.as('claimed_id') })
    .from(nowhere)
    .as('claimed');
  const ids = union(
    build
      .select({ id: projectMembers.projectId })
      .from(projectMembers)
      .where(and(eq(projectMembers.subject, p('subject')), isThere(sql`${projectMembers.projectId}`)))
      .orderBy(asc(projectMembers.projectId))
      .limit(p('limit')),
    build
      .select({ id: claimed.id })
      .from(claimed)
      .where(isThere(sql`${claimed.id}`)),
  ).as('ids');
  return build
    .select(withRank)
    .from(ids)
    .innerJoin(projects, eq(projects.id, ids.id))
    .leftJoin(projectMembers, and(eq(projectMembers.projectId, projects.id), eq(projectMembers.subject, p('subject'))))
    .orderBy(asc(projects.id))
    .limit(p('limit'));
});

const updateProject = compile(
  'update-project',
  (p: Parameter<'id' | 'name' | 'metadata' | 'separate' | 'gallery' | 'rules' | 'lifeCycle' | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .update(projects)
        .set({
          name: sql`coalesce(${p('name')}, ${projects.name})`,
          metadata: sql`coalesce(${typed(p('metadata'), projects.metadata)}, ${projects.metadata})`,
          separate: sql`coalesce(${p('separate')}::boolean, ${projects.separate})`,
          gallery: sql`coalesce(${p('gallery')}::boolean, ${projects.gallery})`,
          lifeCycle: sql`case when ${p('rules')}::boolean then ${typed(p('lifeCycle'), projects.lifeCycle)} else ${projects.lifeCycle} end`,
          version: sql`${projects.version} + 1`,
          updatedAt: now,
        })
        .where(isThis(p))
        .returning({
          ...audited(p),
          projectId: projects.id,
          name: projects.name,
          separate: projects.separate,
          gallery: projects.gallery,
          lifeCycle: projects.lifeCycle,
          version: projects.version,
        }),
    );
    const { name, separate, gallery, lifeCycle } = changed;
    const rules = sql`case when ${lifeCycle} is null then '{}' else jsonb_build_object('lifeCycle', ${lifeCycle}) end`;
    const detail = sql`${jsonObject({ name, separate, gallery })} || ${rules}`;
    return build
      .with(changed, auditFrom(p, changed, { action: 'project.updated', detail }))
      .select({ version: changed.version })
      .from(changed);
  },
);

const countContent = compile('count-content-of-project', (p: Parameter<'id'>) => {
  const content = build
    .select({ state: assets.state, trashedAt: assets.trashedAt })
    .from(assets)
    .where(and(eq(assets.projectId, p('id')), ne(assets.state, 'deleting')))
    .limit(writtenOut(MAX_COUNTED))
    .as('content');
  const isUpload = sql`${content.state} = 'uploading'`;
  return build
    .select({
      assets: count(sql`case when not ${isUpload} then 1 end`).as('assets'),
      trashed: count(sql`case when ${isNotNull(content.trashedAt)} then 1 end`).as('trashed'),
      uploads: count(sql`case when ${isUpload} then 1 end`).as('uploads'),
    })
    .from(content);
});
/** Nothing takes of it any more; the next project of this id, whoever makes it, has none. */
const deleteQuota = compile('delete-quota-of-project', (p: Parameter<'account'>) =>
  build.delete(quotas).where(eq(quotas.account, p('account'))),
);
/** Their bytes are still to be removed; to their owners they are gone. */
const releaseDeleting = compile('release-deleting-assets', (p: Parameter<'id'>) =>
  build
    .update(assets)
    .set({ projectId: null })
    .where(and(eq(assets.projectId, p('id')), eq(assets.state, 'deleting'))),
);
const deleteProject = compile('delete-project', (p: Parameter<'id' | keyof Actor>) => {
  const deleted = build.$with('deleted').as(
    build
      .delete(projects)
      .where(isThis(p))
      .returning({ ...audited(p), projectId: projects.id, name: projects.name }),
  );
  return build
    .with(deleted, auditFrom(p, deleted, { action: 'project.deleted', detail: jsonObject({ name: deleted.name }) }))
    .select({ projectId: deleted.projectId })
    .from(deleted);
});

const listMembers = compile('list-members', (p: Parameter<'id' | 'alone' | 'after' | 'limit'>) =>
  build
    .select(memberColumns)
    .from(projectMembers)
    .where(
      and(
        eq(projectMembers.projectId, p('id')),
        gt(projectMembers.subject, p('after')),
        or(sql`${p('alone')}::text is null`, sql`${projectMembers.subject} = ${p('alone')}::text`),
      ),
    )
    .orderBy(asc(projectMembers.subject))
    .limit(p('limit')),
);
const findMember = compile('find-member', (p: Parameter<'id' | 'subject'>) =>
  build.select(memberColumns).from(projectMembers).where(isMember(p)),
);
const countMembers = compile('count-members', (p: Parameter<'id'>) =>
  build
    .select({
      members: count().as('members'),
      managers: count(sql`case when ${projectMembers.role} = 'manager' then 1 end`).as('managers'),
    })
    .from(projectMembers)
    .where(eq(projectMembers.projectId, p('id'))),
);

const memberDetail = { subject: projectMembers.subject, role: projectMembers.role };
/** Until the end of the transaction: so two at once, in two projects, do not pass the limit together. */
const lockAdder = compile('lock-member-adder', (p: Parameter<'addedBy'>) =>
  build
    .select({
      locked: sql<string>`pg_advisory_xact_lock(hashtextextended('stowage:members:' || ${p('addedBy')}::text, 0))::text`,
    })
    .from(nowhere),
);
const countAdded = compile('count-added-members', (p: Parameter<'addedBy'>) =>
  build
    .select({ members: count().as('members') })
    .from(projectMembers)
    .where(eq(projectMembers.addedBy, p('addedBy'))),
);
const setMember = compile(
  'set-member',
  (p: Parameter<'id' | 'subject' | 'role' | 'previousRole' | 'addedBy' | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .insert(projectMembers)
        .values({ projectId: p('id'), subject: p('subject'), role: p('role'), addedBy: p('addedBy') })
        .onConflictDoUpdate({
          target: [projectMembers.projectId, projectMembers.subject],
          set: { role: sql`excluded.role` },
        })
        .returning({ ...audited(p), ...memberDetail, projectId: projectMembers.projectId }),
    );
    const detail = jsonObject({
      subject: changed.subject,
      role: changed.role,
      previousRole: sql`${p('previousRole')}::text`,
    });
    return build
      .with(changed, auditFrom(p, changed, { action: 'project.member-set', detail: sql`jsonb_strip_nulls(${detail})` }))
      .select({ subject: changed.subject })
      .from(changed);
  },
);
const removeMember = compile('remove-member', (p: Parameter<'id' | 'subject' | keyof Actor>) => {
  const removed = build.$with('removed').as(
    build
      .delete(projectMembers)
      .where(isMember(p))
      .returning({ ...audited(p), ...memberDetail, projectId: projectMembers.projectId }),
  );
  const detail = jsonObject({ subject: removed.subject, role: removed.role });
  return build
    .with(removed, auditFrom(p, removed, { action: 'project.member-removed' satisfies AuditAction, detail }))
    .select({ subject: removed.subject })
    .from(removed);
});

interface MemberChange {
  subject: string;
  role: MemberRole;
  previousRole: MemberRole | undefined;
  addedBy: string | undefined;
}

/** Of a page. */
interface PageQuery {
  /** The last one of the page before. */
  after?: string;
  limit: number;
}

/** Of its members, as many as there are. */
export interface Membership {
  members: number;
  managers: number;
}

/** What is in a project; none of them above MAX_COUNTED. */
export interface Content {
  assets: number;
  /** Of the assets. */
  trashed: number;
  uploads: number;
}

export interface ProjectChanges {
  name?: string | undefined;
  metadata?: Record<string, string> | undefined;
  separate?: boolean | undefined;
  gallery?: boolean | undefined;
  /** Null for no rules. */
  lifeCycle?: LifeCycle | null | undefined;
}

export class ProjectsRepository {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /** Runs `work` in a transaction in which nobody else changes the project, if there is one. */
  async alone<Result>(id: string, work: (transaction: Executor) => Promise<Result>): Promise<Result> {
    return this.#handle.transact(async (transaction) => {
      await transaction.run(lockProject, { id });
      return work(transaction);
    });
  }

  /** A project that is there for the caller. */
  async find(
    caller: Caller,
    id: string,
    executor: Executor = this.#handle.database,
  ): Promise<FoundProject | undefined> {
    const { rows } = await executor.run(findProject, { id, subject: caller.id });
    return rows[0] && found(caller, rows[0]);
  }

  /** In the order of their ids. */
  async list(caller: Caller, { after = '', limit }: PageQuery): Promise<FoundProject[]> {
    const { rows } = await this.#handle.database.run(listProjects, {
      subject: caller.id,
      claimed: [...(caller.projects?.keys() ?? [])],
      only: caller.only ? [...caller.only] : null,
      after,
      limit,
    });
    return rows.flatMap((row) => found(caller, row) ?? []);
  }

  /**
   * Makes a project; who makes it becomes its manager, unless his token says what he is.
   * @param inTransaction what belongs into the same transaction
   * @returns what stands in the way, if anything does
   */
  async create(
    project: NewProject,
    caller: Caller,
    { projectLimit: limit }: Pick<Place, 'projectLimit'>,
    actor: Actor,
    inTransaction: (transaction: Executor, made: FoundProject) => Promise<void>,
  ): Promise<FoundProject | 'exists' | 'too-many'> {
    return this.#handle.transact(async (transaction) => {
      const maker = { subject: caller.id, joins: !caller.projects?.has(project.id), limit };
      const isMade = await insertProject(transaction, project, maker, actor);
      const { rows } = await transaction.run(findProject, { id: project.id, subject: caller.id });
      const made = rows[0] && found(caller, rows[0]);
      if (!isMade || !made) return rows.length > 0 ? 'exists' : 'too-many';
      await inTransaction(transaction, made);
      return made;
    });
  }

  async update(transaction: Executor, id: string, changes: ProjectChanges, actor: Actor): Promise<void> {
    const { name = null, metadata = null, separate = null, gallery = null, lifeCycle = null } = changes;
    const rules = changes.lifeCycle !== undefined;
    await transaction.run(updateProject, { id, name, metadata, separate, gallery, rules, lifeCycle, ...actor });
  }

  async contentOf(id: string, executor: Executor = this.#handle.database): Promise<Content> {
    const { rows } = await executor.run(countContent, { id });
    return rows[0] ?? { assets: 0, trashed: 0, uploads: 0 };
  }

  /**
   * Deletes a project that is empty, with its members and its quota.
   * @throws ProjectFilled when an upload into it has begun meanwhile
   */
  async delete(transaction: Executor, id: string, actor: Actor): Promise<void> {
    // Before the project: an upload takes of the quota first, too, and would wait for this while this waits for it.
    await transaction.run(deleteQuota, { account: projectAccount(id) });
    await transaction.run(releaseDeleting, { id });
    try {
      await transaction.run(deleteProject, { id, ...actor });
    } catch (error) {
      throw sqlConstraint(error) === 'assets_project_id_projects_id_fk' ? new ProjectFilled() : error;
    }
  }

  /** In the order of their subjects. @param alone the only one who is told */
  async members(id: string, alone: string | undefined, { after = '', limit }: PageQuery): Promise<Member[]> {
    const values = { id, alone: alone ?? null, after, limit };
    return (await this.#handle.database.run(listMembers, values)).rows;
  }

  async member(transaction: Executor, id: string, subject: string): Promise<Member | undefined> {
    return (await transaction.run(findMember, { id, subject })).rows[0];
  }

  async membership(transaction: Executor, id: string): Promise<Membership> {
    const { rows } = await transaction.run(countMembers, { id });
    return rows[0] ?? { members: 0, managers: 0 };
  }

  /** Members of all projects that somebody has added; nobody adds more for him before the transaction ends. */
  async added(transaction: Executor, addedBy: string): Promise<number> {
    await transaction.run(lockAdder, { addedBy });
    return (await transaction.run(countAdded, { addedBy })).rows[0]?.members ?? 0;
  }

  /** @param addedBy who is counted for a new member, if anybody is */
  async setMember(
    transaction: Executor,
    id: string,
    { subject, role, previousRole, addedBy }: MemberChange,
    actor: Actor,
  ): Promise<void> {
    const values = { id, subject, role, previousRole: previousRole ?? null, addedBy: addedBy ?? null };
    await transaction.run(setMember, { ...values, ...actor });
  }

  async removeMember(transaction: Executor, id: string, subject: string, actor: Actor): Promise<void> {
    await transaction.run(removeMember, { id, subject, ...actor });
  }
}

/** The project is not empty any more. */
export class ProjectFilled extends Error {
  override name = 'ProjectFilled';
}

function found(caller: Caller, { rank, ...project }: ProjectRow & { rank: number | null }): FoundProject | undefined {
  const row = { rank, separate: project.separate };
  const role = roleIn(caller, project.id, row);
  return role && { ...project, role, ownOnly: isOwnOnly(caller, project.id, row) };
}
