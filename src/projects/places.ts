/**
 * Where an upload or a moved asset goes: into a project in which the caller may put something, into one that this makes, or
 * into none, where it is its owner's alone. And who pays for it there.
 */
import { eq, exists, isNotNull, sql } from 'drizzle-orm';
import { type Caller, type TicketTerms, userNamed } from '../access/caller.ts';
import { memberRank } from '../access/conditions.ts';
import { requireMay } from '../access/may.ts';
import { allows, type Role, rankOf, roleAt } from '../access/rules.ts';
import type { Actor } from '../database/audit.ts';
import { type Database, type Executor, sqlConstraint } from '../database/client.ts';
import { build, compile, type Parameter } from '../database/statements.ts';
import { projectMembers, projects } from '../database/tables/projects.ts';
import { quotas } from '../database/tables/quotas.ts';
import { Problem } from '../problems.ts';
import { ownerAccount, projectAccount } from '../quotas/accounts.ts';
import { insertProject } from './making.ts';
import { madeTooMany, projectNotFound } from './problems.ts';

export interface Place {
  /** Absent: in no project. */
  projectId?: string;
  /** Nobody has made the project yet. */
  isNew: boolean;
  /** Projects that the caller may have made, where that is bounded. */
  projectLimit?: number;
  /** Whose quota it takes of: that of the project where it has one of its own, else that of who uploads. */
  account: string;
}

export interface PlacesOptions {
  database: Database;
  /** Who may make a project, also by naming it. */
  creation: 'anyone' | 'admin';
  /** Projects that a caller may have made; 0 for no limit. */
  perCaller: number;
}

/** Role and settings of a project, as one caller has them. */
export interface Standing {
  exists: boolean;
  role: Role | undefined;
  /** It shows him only what he has uploaded himself. */
  ownOnly: boolean;
  hasQuota: boolean;
}

const findStanding = compile('find-standing', (p: Parameter<'projectId' | 'subject' | 'account'>) =>
  build
    .select({
      rank: sql<number | null>`${memberRank}`.as('rank'),
      separate: projects.separate,
      hasQuota: sql<boolean>`${exists(
        build
          .select({ account: quotas.account })
          .from(quotas)
          .where(sql`${eq(quotas.account, p('account'))} and ${isNotNull(quotas.limitBytes)}`),
      )}`.as('has_quota'),
    })
    .from(projects)
    .leftJoin(
      projectMembers,
      sql`${eq(projectMembers.projectId, projects.id)} and ${eq(projectMembers.subject, p('subject'))}`,
    )
    .where(eq(projects.id, p('projectId'))),
);

export class Places {
  readonly #options: PlacesOptions;

  constructor(options: PlacesOptions) {
    this.#options = options;
  }

  /** Where the caller may put something. @throws Problem not-found, of a project that is none for him; forbidden */
  async of(caller: Caller, projectId: string | undefined): Promise<Place> {
    if (caller.terms) return this.#ofTicket(caller, caller.terms);
    if (projectId === undefined) {
      if (caller.only)
        throw new Problem('forbidden', { detail: 'This key is for projects. Name one of them as projectId.' });
      return { isNew: false, account: ownerAccount(caller.id) };
    }
    const standing = await standingOf(this.#options.database, caller, projectId);
    if (standing.exists) {
      if (standing.role === undefined) throw projectNotFound();
      requireMay(caller, 'asset.upload', standing);
    } else if (!this.mayMake(caller, projectId)) throw projectNotFound();
    const account = standing.hasQuota ? projectAccount(projectId) : ownerAccount(caller.id);
    return { projectId, isNew: !standing.exists, account, ...this.limitOf(caller, projectId) };
  }

  /** Where its ticket says, as long as the project is there and who gave the ticket out may upload there. */
  async #ofTicket(caller: Caller, { projectId, issuedBy, byClaim }: TicketTerms): Promise<Place> {
    if (projectId === undefined) return { isNew: false, account: ownerAccount(caller.id) };
    const standing = await standingOf(this.#options.database, userNamed(issuedBy), projectId);
    if (!standing.exists) throw projectNotFound();
    if (!byClaim && !(standing.role && allows(standing.role, 'asset.upload')))
      throw new Problem('forbidden', {
        detail: 'Who gave out the ticket may not upload into its project any more. Ask for another ticket.',
      });
    const account = standing.hasQuota ? projectAccount(projectId) : ownerAccount(caller.id);
    return { projectId, isNew: false, account };
  }

  /** Whether the caller may make a project of this id; where the token names it, it is known elsewhere already. */
  mayMake(caller: Caller, projectId: string): boolean {
    if (caller.ticket !== undefined || (caller.only && !caller.only.has(projectId))) return false;
    const claimed = caller.projects?.get(projectId);
    if (claimed !== undefined) return rankOf(claimed) >= rankOf('editor');
    return this.#options.creation === 'anyone' || caller.scopes.has('admin');
  }

  /** Administrators are not bounded, nor is what tokens name: who signs them decides on it. */
  limitOf(caller: Caller, projectId: string): Pick<Place, 'projectLimit'> {
    const { perCaller } = this.#options;
    const isFree = perCaller === 0 || caller.scopes.has('admin') || caller.projects?.has(projectId);
    return isFree ? {} : { projectLimit: perCaller };
  }
}

/** What the caller is to a project, by his token or as a member. */
export async function standingOf(database: Executor, caller: Caller, projectId: string): Promise<Standing> {
  const values = { projectId, subject: caller.id, account: projectAccount(projectId) };
  const { rows } = await database.run(findStanding, values);
  const [row] = rows;
  return {
    exists: row !== undefined,
    role: roleIn(caller, projectId, row),
    ownOnly: row !== undefined && isOwnOnly(caller, projectId, row),
    hasQuota: row?.hasQuota === true,
  };
}

/** What the caller is to a project, of which the row tells his place as a member; there may be none. */
export function roleIn(caller: Caller, projectId: string, row: { rank: number | null } | undefined): Role | undefined {
  if (caller.ticket !== undefined || (caller.only && !caller.only.has(projectId))) return undefined;
  if (row && caller.reason !== undefined && caller.scopes.has('admin')) return 'admin';
  const claimed = caller.projects?.get(projectId);
  const rank = Math.max(row?.rank ?? 0, claimed === undefined ? 0 : rankOf(claimed));
  return roleAt(rank === 0 ? null : rank);
}

/** Whether the project shows him only what is his. Whose role the token tells sees all. */
export function isOwnOnly(caller: Caller, projectId: string, row: { rank: number | null; separate: boolean }): boolean {
  const role = roleIn(caller, projectId, row);
  return row.separate && !caller.projects?.has(projectId) && role !== 'manager' && role !== 'admin';
}

/**
 * Makes the project of a place, in the transaction of what goes there; who names it first becomes its manager.
 * @throws Problem not-found, when somebody else was faster and it is none for this caller; too-many-projects
 */
export async function makeProject(
  transaction: Executor,
  { projectId, isNew, projectLimit }: Pick<Place, 'projectId' | 'isNew' | 'projectLimit'>,
  caller: Caller,
  actor: Actor,
): Promise<void> {
  if (!isNew || projectId === undefined) return;
  const joins = caller.projects?.get(projectId) === undefined;
  const project = { id: projectId, name: projectId, metadata: {}, separate: false };
  if (await insertProject(transaction, project, { subject: caller.id, joins, limit: projectLimit }, actor)) return;
  const standing = await standingOf(transaction, caller, projectId);
  if (!standing.exists && projectLimit !== undefined) throw madeTooMany(projectLimit);
  if (standing.role === undefined) throw projectNotFound();
  requireMay(caller, 'asset.upload', standing);
}

/** What was refused because its project was deleted meanwhile is told so. @returns what to throw */
export function orProjectHasGone(error: unknown): unknown {
  return sqlConstraint(error) === 'assets_project_id_projects_id_fk' ? projectNotFound() : error;
}
