/** Many assets changed by one request, each with an outcome of its own. */
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { requireScope } from '../access/may.ts';
import { reasonQuery } from '../access/reason.ts';
import type { App } from '../http/openapi.ts';
import { assetId, projectIdOrNone } from '../http/schema-types.ts';
import type { Answer } from '../idempotency/idempotency.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { assetNotFound, Problem, problemDocument } from '../problems.ts';
import type { Place, Places } from '../projects/places.ts';
import { tooManyProjects } from '../projects/problems.ts';
import type { LimitValues } from '../quotas/limit.ts';
import { folderPath, MAX_TAGS, MAX_TAGS_BYTES, tags as tagList } from '../validation/label-types.ts';
import { type BulkResult, MAX_CHANGES } from './bulk.ts';
import type { BulkChange, BulkChanges } from './bulk-changes.ts';
import { type AssetRoutesOptions, inTrash, notInTrash } from './routes.ts';

const BAD_COUNT = `must be 1 to ${MAX_CHANGES} ids`;

const belongsTo = { projectId: 'move', path: 'move', addTags: 'tag', removeTags: 'tag' } as const;

const bulkChange = z
  .strictObject({
    action: z
      .enum(['trash', 'restore', 'delete', 'move', 'tag'], { error: 'must be trash, restore, delete, move or tag' })
      .meta({
        id: 'BulkAction',
        description:
          '`delete` does what `DELETE` does: it moves to the trash, or deletes for good with `permanent`. `trash` always moves to the trash. `move` takes a `projectId`, a `path` or both, `tag` takes `addTags`, `removeTags` or both',
      }),
    permanent: z
      .boolean({ error: 'must be true or false' })
      .default(false)
      .meta({ override: { type: 'boolean', default: false }, description: 'With `delete`: for good' }),
    projectId: projectIdOrNone.optional().meta({
      description: 'With `move`: the project they go to; null or empty text takes them out of their projects',
      example: 'website',
    }),
    path: folderPath.optional().meta({ description: 'With `move`: the folder they go to; empty for the top' }),
    addTags: tagList.optional().meta({ description: 'With `tag`: tags that they get' }),
    removeTags: tagList.optional().meta({ description: 'With `tag`: tags that are taken from them' }),
    ids: z
      .array(assetId, { error: BAD_COUNT })
      .min(1, BAD_COUNT)
      .max(MAX_CHANGES, BAD_COUNT)
      .meta({ description: 'An id that is named twice is changed once, and has the same outcome twice' }),
  })
  .superRefine((body, context) => {
    const refuse = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    if (body.permanent && body.action !== 'delete') refuse('permanent', 'belongs to the action delete');
    for (const [name, action] of Object.entries(belongsTo))
      if (body.action !== action && Object.hasOwn(body, name)) refuse(name, `belongs to the action ${action}`);
    const own = Object.entries(belongsTo).flatMap(([name, action]) => (action === body.action ? name : []));
    if (own.length > 0 && !own.some((name) => Object.hasOwn(body, name))) refuse('action', `needs ${own.join(' or ')}`);
  })
  .meta({ id: 'BulkChange' });

const bulkOutcome = z
  .object({
    results: z
      .array(
        z
          .object({
            id: z.string().meta({ override: { type: 'string', format: 'uuid' } }),
            status: z
              .number()
              .int()
              .meta({ override: { type: 'integer' }, description: '200, or the status of the problem' }),
            problem: problemDocument.optional().meta({ description: 'There when the asset was not changed' }),
          })
          .meta({ id: 'BulkResult' }),
      )
      .meta({ description: 'One per id, in the order of the request' }),
  })
  .meta({ id: 'BulkOutcome' });

export interface BulkRoutesOptions extends Pick<AssetRoutesOptions, 'deletions'> {
  changes: BulkChanges;
  places: Places;
  /** Of accounts that were given none of their own. */
  limits: LimitValues;
}

export function bulkRoutes(app: App, { changes, deletions, places, limits }: BulkRoutesOptions): void {
  app.post(
    '/v1/assets/bulk',
    {
      schema: {
        operationId: 'bulkChangeAssets',
        tags: ['Assets'],
        summary: `Trash, restore, delete, move or tag up to ${MAX_CHANGES} assets`,
        description:
          'Each asset is changed or refused by itself; the outcomes are those of the requests for one asset. All changes are made together, or none when the request fails. Where a move needs room in a quota, all that need it find it, or none of them is moved. It counts as so many requests as it has ids.',
        querystring: z.strictObject({ reason: reasonQuery }),
        body: bulkChange,
        response: { 200: bulkOutcome },
      },
      config: {
        actions: ['asset.write', 'asset.delete'],
        success: { status: 200, description: 'An outcome per id' },
        problems: [
          'malformed-request',
          'forbidden',
          'not-found',
          tooManyProjects,
          'too-large',
          'unsupported-media-type',
        ],
      },
    },
    async (request, reply) => {
      const { permanent, ids } = request.body;
      requireScope(request.caller, permanent ? 'asset.delete' : 'asset.write');
      request.countAs(ids.length);
      // Postgres writes ids in lower case.
      const named = ids.map((id) => id.toLowerCase());
      const commit = answering(request);
      const answerTo = (found: ReadonlyMap<string, BulkResult>): Answer => ({
        status: 200,
        headers: {},
        body: { results: named.map((id) => resultOf(id, found.get(id), request.id)) },
      });
      const { caller } = request;
      const distinct = [...new Set(named)];
      const actor = actorOf(request);
      if (permanent) {
        const deleted = await deletions.deleteMany(caller, distinct, actor, (transaction, outcomes) =>
          commit(transaction, answerTo(outcomes)),
        );
        return sendAnswer(reply, answerTo(deleted));
      }
      const change = await changeOf(request.body, (id) => places.of(caller, id), limits);
      const found = await changes.change(caller, distinct, change, actor, (transaction, outcomes) =>
        commit(transaction, answerTo(outcomes)),
      );
      return sendAnswer(reply, answerTo(found));
    },
  );
}

/** @param placeOf of a project; throws Problem where the caller may put nothing */
async function changeOf(
  { action, projectId, path, addTags = [], removeTags = [] }: z.output<typeof bulkChange>,
  placeOf: (projectId: string | undefined) => Promise<Place>,
  limits: LimitValues,
): Promise<BulkChange> {
  if (action === 'tag') return { action, add: addTags, remove: removeTags };
  if (action !== 'move') return { action: action === 'delete' ? 'trash' : action };
  const to = projectId === undefined ? undefined : await placeOf(projectId ?? undefined);
  return { action, ...(to && { to }), ...(path !== undefined && { path }), limits };
}

function resultOf(
  id: string,
  outcome: BulkResult | undefined,
  requestId: string,
): z.input<typeof bulkOutcome>['results'][number] {
  if (outcome === 'done') return { id, status: 200 };
  const problem = outcome === undefined ? assetNotFound() : problems[outcome]();
  return { id, status: problem.status, problem: problem.toDocument(requestId) };
}

const problems: Record<Exclude<BulkResult, 'done'>, () => Problem> = {
  forbidden,
  held: () =>
    new Problem('held', {
      detail: 'Something holds the asset; its record tells what. Nobody deletes it before that ends.',
    }),
  'in-trash': inTrash,
  'not-in-trash': notInTrash,
  'too-many-tags': () => {
    const detail = `would have more than ${MAX_TAGS} tags, or ${MAX_TAGS_BYTES} bytes of them`;
    return new Problem('invalid-parameter', {
      detail: `The asset ${detail}.`,
      errors: [{ pointer: '/addTags', detail }],
    });
  },
  'no-room': () =>
    new Problem('quota-exceeded', {
      detail: 'There is no room for it and the others of this request in the quota that pays for them there.',
    }),
};

function forbidden(): Problem {
  return new Problem('forbidden', { detail: 'Your role in the project of this asset does not allow it.' });
}
