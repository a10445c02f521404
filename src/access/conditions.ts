/** What the caller is to an asset or a project, as statements find it out. */
import { and, eq, gte, type SQL, type SQLWrapper, sql } from 'drizzle-orm';
import { build, type Parameter, writtenOut } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';
import { projectMembers, projects } from '../database/tables/projects.ts';
import type { Caller } from './caller.ts';
import { type Action, allows, memberRoles, rankOf, roles, rules } from './rules.ts';

/** Parameters of a statement that selects by what the caller is. */
export type AccessParameter = 'subject' | 'claims' | 'only' | 'ticket' | 'anywhere';
/** Where a statement has them from: parameters, or columns that tell who has left something behind, such as a share. */
export type AccessSource = (name: AccessParameter) => SQLWrapper;
/** Their values, for one caller. */
export type AccessValues = Readonly<Record<AccessParameter, unknown>>;

/** The values of a caller for `roleOn`. */
export function accessOf({ id, projects: claimed, only, ticket, reason, scopes }: Caller): AccessValues {
  return {
    subject: id,
    claims:
      claimed && claimed.size > 0
        ? Object.fromEntries([...claimed].map(([project, role]) => [project, rankOf(role)]))
        : null,
    only: only ? [...only] : null,
    ticket: ticket ?? null,
    anywhere: reason !== undefined && scopes.has('admin'),
  };
}

/** The place of a member's role in the order of roles. */
export const memberRank = sql<number>`case ${projectMembers.role} ${sql.join(
  memberRoles.map((role) => sql.raw(`when '${role}' then ${rankOf(role)}`)),
  sql` `,
)} end`;
const [ownerRank, adminRank, viewerRank] = (['owner', 'admin', 'viewer'] as const).map((role) =>
  sql.raw(String(rankOf(role))),
);

/** In a project that shows each member only his own, he is the owner of those, and nothing to the others. */
const rankInProject = (p: AccessSource) =>
  build
    .select({
      rank: sql`case when ${projects.separate} and ${projectMembers.role} <> 'manager'
        then case when ${assets.ownerId} = ${p('subject')} then ${ownerRank} end else ${memberRank} end`,
    })
    .from(projectMembers)
    .innerJoin(projects, eq(projects.id, projectMembers.projectId))
    .where(and(eq(projectMembers.projectId, assets.projectId), eq(projectMembers.subject, p('subject'))));

/**
 * What the caller is to an asset: the place of the role, null where he is nothing to it. A ticket sees what was uploaded
 * with it; a key for some projects sees those.
 */
export function roleOn(p: AccessSource): SQL<number | null> {
  return sql<number | null>`case
    when ${p('anywhere')}::boolean then ${adminRank}
    when ${p('ticket')}::uuid is not null then case when ${assets.ticketId} = ${p('ticket')}::uuid then ${viewerRank} end
    when ${assets.projectId} is null then case when ${assets.ownerId} = ${p('subject')} and ${p('only')}::text[] is null then ${ownerRank} end
    when ${p('only')}::text[] is not null and ${assets.projectId} <> all (${p('only')}::text[]) then null
    else greatest((${p('claims')}::jsonb ->> ${assets.projectId})::integer, (${rankInProject(p)})) end`;
}

/** That the caller may do this to the asset, as far as roles decide; scopes are asked before any statement is run. */
export function isFor(p: AccessSource, action: Action): SQL {
  const ranks = roles.filter((role) => allows(role, action)).map(rankOf);
  const least = rankOf(rules[action].least);
  if (ranks.length === roles.length - least + 1) return gte(roleOn(p), writtenOut(least));
  return sql`${roleOn(p)} in (${sql.raw(ranks.join(', '))})`;
}

/** That the upload is the caller's: nobody else goes on with it, whatever he is to the project. */
export function isUploader(p: Parameter<AccessParameter>): SQL | undefined {
  return and(
    eq(assets.ownerId, p('subject')),
    sql`(${p('ticket')}::uuid is null or ${assets.ticketId} = ${p('ticket')}::uuid)`,
    sql`(${p('only')}::text[] is null or ${assets.projectId} = any (${p('only')}::text[]))`,
  );
}
