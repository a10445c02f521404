/** The trash as a whole over HTTP. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { requireMay } from '../access/may.ts';
import { reasonQuery } from '../access/reason.ts';
import type { Database } from '../database/client.ts';
import type { App } from '../http/openapi.ts';
import { bytesCount, openEnum, projectId, timestamp } from '../http/schema-types.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { Problem } from '../problems.ts';
import { standingOf } from '../projects/places.ts';
import { projectNotFound } from '../projects/problems.ts';
import type { Emptying, TrashPlace, TrashRepository } from './repository.ts';

const count = bytesCount.meta({ override: { type: 'integer', format: 'int64', minimum: 0 } });
const emptyingDocument = z
  .object({
    projectId: z
      .string()
      .optional()
      .meta({ description: 'Whose trash it is; absent for your own', example: 'website' }),
    state: openEnum('TrashEmptyingState', ['running', 'done'], 'How it is with it.'),
    found: count.optional().meta({ description: 'Assets that are to be deleted; absent until they were counted' }),
    deleted: count.meta({ description: 'Assets that were deleted' }),
    held: count.optional().meta({
      description: 'Assets that stay in the trash because a hold or their retention stands; counted with `found`',
    }),
    createdAt: timestamp,
    finishedAt: timestamp.optional(),
  })
  .meta({ id: 'TrashEmptying' });

function toDocument(emptying: Emptying): z.input<typeof emptyingDocument> {
  const { state, found, deleted, held, createdAt, finishedAt } = emptying;
  return {
    ...(emptying.projectId !== null && { projectId: emptying.projectId }),
    state,
    ...(found !== null && { found }),
    deleted,
    ...(held !== null && { held }),
    createdAt: createdAt.toISOString(),
    ...(finishedAt && { finishedAt: finishedAt.toISOString() }),
  };
}

const trashQuery = z.strictObject({
  projectId: projectId.optional().meta({ description: 'The trash of this project, whose manager you must be' }),
  reason: reasonQuery,
});
const tags = ['Assets'];

export function trashRoutes(app: App, { trash, database }: { trash: TrashRepository; database: Database }): void {
  app.delete(
    '/v1/trash',
    {
      schema: {
        operationId: 'emptyTrash',
        tags,
        summary: 'Delete for good what is in the trash',
        description:
          'A job deletes what was in the trash when you asked: of your own assets those that are in no project, or all of a project. While it is running, asking again takes in what came into the trash since. `getTrashEmptying` tells how far it is.',
        querystring: trashQuery,
        response: { 202: emptyingDocument },
      },
      config: {
        action: 'asset.delete',
        success: {
          status: 202,
          description: 'The trash is being emptied',
          headers: { Location: { description: 'Where its progress is told', schema: { type: 'string' } } },
        },
        problems: ['forbidden', 'not-found'],
      },
    },
    async (request, reply) => {
      const place = await placeOf(database, request, request.query.projectId);
      const commit = answering(request);
      const answerOf = (emptying: Emptying) => ({
        status: 202,
        headers: {
          location: `/v1/trash${emptying.projectId === null ? '' : `?projectId=${emptying.projectId}`}`,
        },
        body: toDocument(emptying),
      });
      const emptying = await trash.begin(place, actorOf(request), (transaction, row) =>
        commit(transaction, answerOf(row)),
      );
      return sendAnswer(reply, answerOf(emptying));
    },
  );

  app.get(
    '/v1/trash',
    {
      schema: {
        operationId: 'getTrashEmptying',
        tags,
        summary: 'Get how far the trash was emptied',
        description:
          'The emptying that is running, or the last one. What is in the trash, `listAssets` tells with `trashed`.',
        querystring: trashQuery,
        response: { 200: emptyingDocument },
      },
      config: {
        action: 'asset.delete',
        success: { status: 200, description: 'The emptying' },
        problems: ['forbidden', 'not-found'],
      },
    },
    async (request) => {
      const emptying = await trash.find(await placeOf(database, request, request.query.projectId));
      if (emptying) return toDocument(emptying);
      throw new Problem('not-found', { detail: 'Nobody has emptied this trash yet.' });
    },
  );
}

/** @throws Problem not-found, of a project that is none for the caller; forbidden */
async function placeOf(
  database: Database,
  { caller }: FastifyRequest,
  projectId: string | undefined,
): Promise<TrashPlace> {
  if (projectId === undefined) {
    if (caller.only)
      throw new Problem('forbidden', { detail: 'This key is for projects. Name one of them as projectId.' });
    return { ownerId: caller.id };
  }
  const { exists, role } = await standingOf(database, caller, projectId);
  if (!exists || role === undefined) throw projectNotFound();
  requireMay(caller, 'asset.delete', { role });
  return { projectId };
}
