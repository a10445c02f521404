/** The members of projects over HTTP. */
import { z } from 'zod';
import { actorOf, type Caller } from '../access/caller.ts';
import { requireMay } from '../access/may.ts';
import { reasonQuery } from '../access/reason.ts';
import type { MemberRole } from '../access/rules.ts';
import { limitedBy, tierWords } from '../access/tiers.ts';
import type { App } from '../http/openapi.ts';
import {
  decodeTextCursor,
  encodeTextCursor,
  nextLink,
  pageCursor,
  pageEnd,
  pageHeaders,
  pageInfo,
  pageLimit,
} from '../http/paging.ts';
import { projectId } from '../http/schema-types.ts';
import type { Answer } from '../idempotency/idempotency.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { Problem } from '../problems.ts';
import { addedTooMany, lastManager, tooManyMembers } from './problems.ts';
import { type Member, memberDocument, memberRole, memberSubject, toMemberDocument } from './project.ts';
import type { Membership, ProjectsRepository } from './repository.ts';
import { foundProject, tags } from './routes.ts';

const byId = z.object({ projectId });
const bySubject = z.object({ projectId, subject: memberSubject });
/** Of cursors. */
const ORDER = 'members.subject';

export interface MemberRoutesOptions {
  projects: ProjectsRepository;
  /** Members that a project may have. */
  maxMembers: number;
  /** Members of all projects that a caller may have added; 0 for no limit. */
  perCaller: number;
}

export function memberRoutes(app: App, { projects, maxMembers, perCaller }: MemberRoutesOptions): void {
  app.get(
    '/v1/projects/:projectId/members',
    {
      schema: {
        operationId: 'listProjectMembers',
        tags,
        summary: 'List the members of a project',
        description:
          'In the order of their subjects; those that only tokens name are not known here. Where a project is `separate`, who is no manager sees himself alone. Follow `nextCursor`, or the `Link` header with rel="next", until `hasMore` is false.',
        params: byId,
        querystring: z.strictObject({ limit: pageLimit, cursor: pageCursor }),
        response: {
          200: z.object({ data: z.array(memberDocument), page: pageInfo }).meta({ id: 'ProjectMemberPage' }),
        },
      },
      config: {
        action: 'project.read',
        success: { status: 200, description: 'A page of members', headers: pageHeaders },
        problems: ['not-found'],
      },
    },
    async (request, reply) => {
      const { caller, params, query } = request;
      const after = query.cursor === undefined ? {} : { after: decodeTextCursor(ORDER, query.cursor) };
      const { id, ownOnly } = await foundProject(projects, caller, params.projectId);
      const alone = ownOnly ? caller.id : undefined;
      const rows = await projects.members(id, alone, { ...after, limit: query.limit + 1 });
      const shown = rows.slice(0, query.limit);
      const last = rows.length > query.limit ? shown.at(-1) : undefined;
      const nextCursor = last && encodeTextCursor(ORDER, last.subject);
      if (nextCursor !== undefined) reply.header('link', nextLink(request.url, nextCursor));
      return { data: shown.map(toMemberDocument), page: pageEnd(nextCursor) };
    },
  );

  app.put(
    '/v1/projects/:projectId/members/:subject',
    {
      schema: {
        operationId: 'setProjectMember',
        tags,
        summary: 'Make somebody a member of a project, or change the role of a member',
        description: 'Managers only. A project that has managers keeps one.',
        params: bySubject,
        querystring: z.strictObject({ reason: reasonQuery }),
        body: z.strictObject({ role: memberRole }).meta({ id: 'ProjectMemberChange' }),
        response: { 200: memberDocument },
      },
      config: {
        action: 'project.manage',
        success: { status: 200, description: 'The member' },
        problems: [
          'malformed-request',
          'forbidden',
          tooManyMembers,
          addedTooMany,
          'not-found',
          lastManager,
          'too-large',
          'unsupported-media-type',
        ],
      },
    },
    async (request, reply) => {
      const { caller, params, body } = request;
      const { projectId: id, subject } = params;
      const commit = answering(request);
      const answer = await projects.alone(id, async (transaction): Promise<Answer> => {
        requireMay(caller, 'project.manage', await foundProject(projects, caller, id, transaction));
        const previous = await projects.member(transaction, id, subject);
        if (previous?.role !== body.role) {
          requireRoom(await projects.membership(transaction, id), previous, body.role, { caller, maxMembers });
          // Administrators are not bounded.
          const addedBy = perCaller === 0 || caller.scopes.has('admin') ? undefined : caller.id;
          if (!previous && addedBy !== undefined) requireFew(await projects.added(transaction, addedBy), perCaller);
          const change = { subject, role: body.role, previousRole: previous?.role, addedBy };
          await projects.setMember(transaction, id, change, actorOf(request));
        }
        const member = await projects.member(transaction, id, subject);
        if (!member) throw new Error('a member that was set is not there');
        const made: Answer = { status: 200, headers: {}, body: toMemberDocument(member) };
        await commit(transaction, made);
        return made;
      });
      return sendAnswer(reply, answer);
    },
  );

  app.delete(
    '/v1/projects/:projectId/members/:subject',
    {
      schema: {
        operationId: 'removeProjectMember',
        tags,
        summary: 'Remove a member from a project, or leave it',
        description:
          'Managers remove anybody, and every member himself. What a member has uploaded stays in the project. A project that has managers keeps one.',
        params: bySubject,
        querystring: z.strictObject({ reason: reasonQuery }),
      },
      config: {
        action: 'project.leave',
        success: { status: 204, description: 'Is no member any more' },
        problems: ['forbidden', 'not-found', lastManager],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const { projectId: id, subject } = params;
      const commit = answering(request);
      const answer: Answer = { status: 204, headers: {} };
      await projects.alone(id, async (transaction) => {
        const project = await foundProject(projects, caller, id, transaction);
        requireMay(caller, subject === caller.id ? 'project.leave' : 'project.manage', project);
        const member = await projects.member(transaction, id, subject);
        if (!member) throw noSuchMember();
        requireManager(await projects.membership(transaction, id), member);
        await projects.removeMember(transaction, id, subject, actorOf(request));
        await commit(transaction, answer);
      });
      return sendAnswer(reply, answer);
    },
  );
}

/** @throws Problem too-many-members, last-manager */
function requireRoom(
  membership: Membership,
  previous: Member | undefined,
  role: MemberRole,
  { caller: { tier }, maxMembers }: { caller: Caller; maxMembers: number },
): void {
  if (!previous && membership.members >= (tier?.limits.membersPerProject ?? maxMembers))
    throw new Problem(tooManyMembers, {
      detail: `It has ${membership.members} members. Remove one first.${tierWords(tier)}`,
      ...limitedBy(tier, 'membersPerProject'),
    });
  if (previous && role !== 'manager') requireManager(membership, previous);
}

/** @throws Problem added-too-many-members */
function requireFew(added: number, perCaller: number): void {
  if (added < perCaller) return;
  throw new Problem(addedTooMany, {
    detail: `You have added ${added} members to projects, and may add no more. Remove some, or ask who runs the service.`,
  });
}

/** Where one manager is left, he stays. @throws Problem last-manager */
function requireManager({ managers }: Membership, { role }: Member): void {
  if (role === 'manager' && managers <= 1)
    throw new Problem(lastManager, { detail: 'Make somebody else a manager first, or delete the project.' });
}

function noSuchMember(): Problem {
  return new Problem('not-found', {
    detail: 'There is no such member. Whose role only a token tells is none: change the token.',
    errors: [{ parameter: 'subject', detail: 'is not a member of the project' }],
  });
}
