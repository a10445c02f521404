/** Projects over HTTP. */
import type { FastifyRequest } from 'fastify';
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { actorOf, type Caller } from '../access/caller.ts';
import { requireMay } from '../access/may.ts';
import { reasonQuery } from '../access/reason.ts';
import type { Executor } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
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
import { conditionsOf, evaluateConditions, type RecordConditions, recordConditions } from '../http/preconditions.ts';
import { projectId } from '../http/schema-types.ts';
import type { Answer } from '../idempotency/idempotency.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { Problem } from '../problems.ts';
import { lifeCycleChanged } from './events.ts';
import type { Places } from './places.ts';
import { madeTooMany, projectExists, projectNotEmpty, projectNotFound, tooManyProjects } from './problems.ts';
import { type FoundProject, newProject, projectDocument, projectPatch, projectTag, toDocument } from './project.ts';
import { type Content, MAX_COUNTED, ProjectFilled, type ProjectsRepository } from './repository.ts';

export const tags = ['Projects'];
const byId = z.object({ projectId });
/** Of cursors. */
const ORDER = 'projects.id';
const entityTag = {
  ETag: z.string().meta({ description: 'Entity tag of the record, for If-Match', example: '"kM2Q0b9S0kq2dZk3n0mV9A"' }),
};

export interface ProjectRoutesOptions {
  projects: ProjectsRepository;
  places: Places;
  /** Whether a project may be a public gallery. */
  allowsGalleries: boolean;
  hasArchive: boolean;
  outbox: Outbox;
}

export function projectRoutes(app: App, options: ProjectRoutesOptions): void {
  const { projects, places, allowsGalleries, hasArchive, outbox } = options;
  app.post(
    '/v1/projects',
    {
      schema: {
        operationId: 'createProject',
        tags,
        summary: 'Make a project',
        description:
          'You become its manager, unless your token says what you are to it. An upload that names a project which nobody has made makes it, too.',
        body: newProject,
        response: { 201: projectDocument },
      },
      config: {
        action: 'project.create',
        success: {
          status: 201,
          description: 'The project',
          headers: z.object({ Location: z.string().meta({ description: 'Path of the project' }), ...entityTag }),
        },
        problems: [
          'malformed-request',
          'forbidden',
          tooManyProjects,
          projectExists,
          'too-large',
          'unsupported-media-type',
        ],
      },
    },
    async (request, reply) => {
      const { caller, body } = request;
      const { id = uuidv7(), name, metadata = {}, separate = false } = body;
      if (!places.mayMake(caller, id)) throw mayNotMake(caller);
      const bound = places.limitOf(caller, id);
      const answerOf = (project: FoundProject): Answer => ({
        status: 201,
        headers: { location: `/v1/projects/${id}`, etag: projectTag(project) },
        body: toDocument(project),
      });
      const commit = answering(request);
      const project = { id, name, metadata, separate };
      const made = await projects.create(project, caller, bound, actorOf(request), (transaction, row) =>
        commit(transaction, answerOf(row)),
      );
      if (made === 'exists') throw alreadyThere();
      if (made === 'too-many') throw madeTooMany(bound.projectLimit ?? 0);
      return sendAnswer(reply, answerOf(made));
    },
  );

  app.get(
    '/v1/projects',
    {
      schema: {
        operationId: 'listProjects',
        tags,
        summary: 'List your projects',
        description:
          'Those of which you are a member and those that your token names, where somebody has made them, in the order of their ids. Follow `nextCursor`, or the `Link` header with rel="next", until `hasMore` is false.',
        querystring: z.strictObject({ limit: pageLimit, cursor: pageCursor }),
        response: { 200: z.object({ data: z.array(projectDocument), page: pageInfo }).meta({ id: 'ProjectPage' }) },
      },
      config: {
        action: 'project.read',
        success: { status: 200, description: 'A page of projects', headers: pageHeaders },
      },
    },
    async (request, reply) => {
      const { cursor, limit } = request.query;
      const after = cursor === undefined ? {} : { after: decodeTextCursor(ORDER, cursor) };
      const rows = await projects.list(request.caller, { ...after, limit: limit + 1 });
      const shown = rows.slice(0, limit);
      const last = rows.length > limit ? shown.at(-1) : undefined;
      const nextCursor = last && encodeTextCursor(ORDER, last.id);
      if (nextCursor !== undefined) reply.header('link', nextLink(request.url, nextCursor));
      return { data: shown.map(toDocument), page: pageEnd(nextCursor) };
    },
  );

  app.get(
    '/v1/projects/:projectId',
    {
      schema: {
        operationId: 'getProject',
        tags,
        summary: 'Get a project',
        params: byId,
        headers: recordConditions,
        response: { 200: projectDocument },
      },
      config: {
        action: 'project.read',
        success: {
          status: 200,
          description: 'The project',
          headers: z.object(entityTag),
          others: { '304': { description: 'The client has this record already', headers: z.object(entityTag) } },
        },
        problems: ['not-found', 'precondition-failed'],
      },
    },
    async (request, reply) => {
      const conditions = conditionsOf(request.headers);
      const project = await foundProject(projects, request.caller, request.params.projectId);
      const outcome = evaluateConditions(conditions, projectTag(project));
      if (outcome === 'precondition-failed') throw preconditionFailed(project);
      reply.header('etag', projectTag(project)).header('cache-control', 'private, no-cache');
      if (outcome === 'not-modified') return sendAnswer(reply, { status: 304, headers: {} });
      return toDocument(project);
    },
  );

  app.patch(
    '/v1/projects/:projectId',
    {
      schema: {
        operationId: 'updateProject',
        tags,
        summary: 'Change the name, the metadata, the kind or the life cycle of a project, or make it a public gallery',
        description:
          'When `separate` becomes false, all members see the assets of all, and one another. With `If-Match` the change is made only if the record is still the one you read.',
        params: byId,
        querystring: z.strictObject({ reason: reasonQuery }),
        headers: recordConditions,
        body: projectPatch,
        response: { 200: projectDocument },
      },
      config: {
        action: 'project.manage',
        success: { status: 200, description: 'The changed project', headers: z.object(entityTag) },
        problems: [
          'malformed-request',
          'forbidden',
          'public-not-allowed',
          'not-implemented',
          'not-found',
          'precondition-failed',
          'too-large',
          'unsupported-media-type',
        ],
      },
    },
    async (request, reply) => {
      const { caller, params, body } = request;
      const { name, metadata, separate, gallery, lifeCycle } = body;
      const changes = { name, separate, gallery, lifeCycle, metadata: metadata === null ? {} : metadata };
      const answer = await managing(projects, request, async (transaction) => {
        if (gallery && !allowsGalleries) throw noGalleries();
        if (lifeCycle?.archiveAfterDays !== undefined && !hasArchive) throw noArchive();
        await projects.update(transaction, params.projectId, changes, actorOf(request));
        if (lifeCycle) await outbox.publish(transaction, lifeCycleChanged, { projectId: params.projectId });
        const changed = await foundProject(projects, caller, params.projectId, transaction);
        return { status: 200, headers: { etag: projectTag(changed) }, body: toDocument(changed) };
      });
      return sendAnswer(reply, answer);
    },
  );

  app.delete(
    '/v1/projects/:projectId',
    {
      schema: {
        operationId: 'deleteProject',
        tags,
        summary: 'Delete a project that is empty',
        description:
          'Its members go with it, and its quota. While it has assets, in the trash or not, or open uploads, it is refused and told how many there are.',
        params: byId,
        querystring: z.strictObject({ reason: reasonQuery }),
        headers: recordConditions,
      },
      config: {
        action: 'project.manage',
        success: { status: 204, description: 'The project is deleted' },
        problems: ['forbidden', 'not-found', projectNotEmpty, 'precondition-failed'],
      },
    },
    async (request, reply) => {
      const id = request.params.projectId;
      try {
        const answer = await managing(projects, request, async (transaction) => {
          requireEmpty(await projects.contentOf(id, transaction));
          await projects.delete(transaction, id, actorOf(request));
          return { status: 204, headers: {} };
        });
        return sendAnswer(reply, answer);
      } catch (error) {
        if (!(error instanceof ProjectFilled)) throw error;
        throw notEmpty(await projects.contentOf(id));
      }
    },
  );
}

type ProjectRequest = FastifyRequest & {
  params: { projectId: string };
  headers: z.output<typeof recordConditions>;
};

/** Does what a manager may, under the conditions of the request, while nobody else changes the project. */
async function managing(
  projects: ProjectsRepository,
  request: ProjectRequest,
  work: (transaction: Executor) => Promise<Answer>,
): Promise<Answer> {
  const { caller, params } = request;
  const conditions: RecordConditions = conditionsOf(request.headers);
  const commit = answering(request);
  return projects.alone(params.projectId, async (transaction) => {
    const project = await foundProject(projects, caller, params.projectId, transaction);
    requireMay(caller, 'project.manage', project);
    if (evaluateConditions(conditions, projectTag(project)) !== 'proceed') throw preconditionFailed(project);
    const answer = await work(transaction);
    await commit(transaction, answer);
    return answer;
  });
}

/** @throws Problem not-found */
export async function foundProject(
  projects: ProjectsRepository,
  caller: Caller,
  id: string,
  executor?: Executor,
): Promise<FoundProject> {
  const project = await projects.find(caller, id, executor);
  if (!project) throw projectNotFound();
  return project;
}

function mayNotMake(caller: Caller): Problem {
  const detail = caller.only
    ? 'This key is for some projects, and this is none of them.'
    : caller.projects?.size
      ? 'Only administrators make projects here, and who is editor or manager of them by his token.'
      : 'Only administrators make projects here. Ask one, or name a project of which you are a member.';
  return new Problem('forbidden', { detail });
}

function noGalleries(): Problem {
  return new Problem('public-not-allowed', {
    detail: 'There are no public galleries here: PUBLIC_GALLERIES is false. Ask who runs the service.',
    errors: [{ pointer: '/gallery', detail: 'must be false' }],
  });
}

function noArchive(): Problem {
  return new Problem('not-implemented', {
    detail: 'There is no archive here: no variable ARCHIVE_... names one. Ask who runs the service.',
    errors: [{ pointer: '/lifeCycle/archiveAfterDays', detail: 'must not be there' }],
  });
}

function alreadyThere(): Problem {
  return new Problem(projectExists, {
    detail: 'Choose another id, or leave it out. If it is your project, ask one of its managers.',
    errors: [{ pointer: '/id', detail: 'is taken' }],
  });
}

function preconditionFailed(project: FoundProject): Problem {
  return new Problem('precondition-failed', {
    detail: 'The project is not as If-Match or If-None-Match wants it. Read it again.',
    headers: { etag: projectTag(project) },
  });
}

function requireEmpty(content: Content): void {
  if (content.assets + content.uploads > 0) throw notEmpty(content);
}

function notEmpty({ assets, trashed, uploads }: Content): Problem {
  const atLeast = assets + uploads >= MAX_COUNTED ? 'at least ' : '';
  return new Problem(projectNotEmpty, {
    detail: `It has ${atLeast}${assets} assets, ${trashed} of them in the trash, and ${uploads} open uploads. Delete the assets for good or move them, and finish or cancel the uploads.`,
  });
}
