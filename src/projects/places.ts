/**
 * Where an upload or a moved asset goes: into a project in which the caller may put something, into one that this makes, or
 * into none, where it is its owner's alone. And who pays for it there.
 */
import { eq, exists, isNotNull, sql } from 'drizzle-orm';
import { type Caller, type TicketTerms, userNamed } from '../access/caller.ts';
import { memberRank } from '../access/conditions.ts';
import { requireMay } from '../access/may.ts';
import { allows, type Role, rankOf, roleAt } from '../access/rules.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { Database, Executor } from '../database/client.ts';
import { build, compile, jsonObject, type Parameter, typed } from '../database/statements.ts';
import { projectMembers, projects } from '../database/tables/projects.ts';
import { quotas } from '../database/tables/quotas.ts';
import { Problem } from '../problems.ts';
import { ownerAccount, projectAccount } from '../quotas/accounts.ts';
import './audit.ts';

export interface Place {
  /** Absent: in no project. */
  projectId?: string;
  /** Nobody has made the project yet. */
  isNew: boolean;
  /** Whose quota it takes of: that of the project where it has one of its own, else that of who uploads. */
  account: string;
}

export interface PlacesOptions {
  database: Database;
  /** Who may make a project by naming it. */
  creation: 'anyone' | 'admin';
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

/** One that there is already stays as it is, and nothing is returned. */
const makeOne = compile('make-project', (p: Parameter<'projectId' | 'name' | 'subject' | 'joins' | keyof Actor>) => {
  const made = build.$with('made').as(
    build
      .insert(projects)
      .values({ id: p('projectId'), name: p('name'), createdBy: p('subject') })
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
          })
          .from(made)
          .where(sql`${p('joins')}::boolean`),
      )
      .getSQL(),
  );
  const detail = jsonObject({ name: made.name });
  return build
    .with(made, joined, auditFrom(p, made, { action: 'project.created', detail }))
    .select({ projectId: made.projectId })
    .from(made);
});

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
    } else if (!this.#mayMake(caller, projectId)) throw projectNotFound();
    const account = standing.hasQuota ? projectAccount(projectId) : ownerAccount(caller.id);
    return { projectId, isNew: !standing.exists, account };
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

  /** Naming a project makes it; where the token says so itself, it is known elsewhere already. */
  #mayMake(caller: Caller, projectId: string): boolean {
    if (caller.ticket !== undefined || (caller.only && !caller.only.has(projectId))) return false;
    const claimed = caller.projects?.get(projectId);
    if (claimed !== undefined) return rankOf(claimed) >= rankOf('editor');
    return this.#options.creation === 'anyone' || caller.scopes.has('admin');
  }
}

/** What the caller is to a project, by his token or as a member. */
export async function standingOf(database: Executor, caller: Caller, projectId: string): Promise<Standing> {
  const values = { projectId, subject: caller.id, account: projectAccount(projectId) };
  const { rows } = await database.run(findStanding, values);
  const [row] = rows;
  const isShown = (!caller.only || caller.only.has(projectId)) && caller.ticket === undefined;
  const claimed = caller.projects?.get(projectId);
  const rank = Math.max(row?.rank ?? 0, claimed === undefined ? 0 : rankOf(claimed));
  return {
    exists: row !== undefined,
    role: isShown ? roleAt(rank === 0 ? null : rank) : undefined,
    ownOnly: row?.separate === true && claimed === undefined && row.rank !== rankOf('manager'),
    hasQuota: row?.hasQuota === true,
  };
}

/**
 * Makes the project of a place, in the transaction of what goes there; who names it first becomes its manager.
 * @throws Problem not-found, when somebody else was faster and it is none for this caller
 */
export async function makeProject(
  transaction: Executor,
  { projectId, isNew }: Pick<Place, 'projectId' | 'isNew'>,
  caller: Caller,
  actor: Actor,
): Promise<void> {
  if (!isNew || projectId === undefined) return;
  const joins = caller.projects?.get(projectId) === undefined;
  const values = { projectId, name: projectId, subject: caller.id, joins, ...actor };
  const { rows } = await transaction.run(makeOne, values);
  if (rows.length > 0) return;
  const standing = await standingOf(transaction, caller, projectId);
  if (standing.role === undefined) throw projectNotFound();
  requireMay(caller, 'asset.upload', standing);
}

/** A foreign project and an unknown one get the same answer. */
export function projectNotFound(): Problem {
  return new Problem('not-found', {
    detail: 'There is no such project, or you are not a member of it. Ask one of its managers, or name another.',
    errors: [{ parameter: 'projectId', detail: 'is not a project of yours' }],
  });
}
