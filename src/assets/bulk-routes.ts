/** Many assets changed by one request, each with an outcome of its own. */
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { requireScope } from '../access/may.ts';
import { reasonQuery } from '../access/reason.ts';
import type { App } from '../http/openapi.ts';
import { assetId } from '../http/schema-types.ts';
import type { Answer } from '../idempotency/idempotency.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { assetNotFound, Problem, problemDocument } from '../problems.ts';
import { type BulkResult, MAX_CHANGES } from './bulk.ts';
import { type AssetRoutesOptions, notInTrash } from './routes.ts';

const BAD_COUNT = `must be 1 to ${MAX_CHANGES} ids`;

const bulkChange = z
  .strictObject({
    action: z.enum(['trash', 'restore', 'delete'], { error: 'must be trash, restore or delete' }).meta({
      id: 'BulkAction',
      description:
        '`delete` does what `DELETE` does: it moves to the trash, or deletes for good with `permanent`. `trash` always moves to the trash',
    }),
    permanent: z
      .boolean({ error: 'must be true or false' })
      .default(false)
      .meta({ override: { type: 'boolean', default: false }, description: 'With `delete`: for good' }),
    ids: z
      .array(assetId, { error: BAD_COUNT })
      .min(1, BAD_COUNT)
      .max(MAX_CHANGES, BAD_COUNT)
      .meta({ description: 'An id that is named twice is changed once, and has the same outcome twice' }),
  })
  .refine(({ action, permanent }) => action === 'delete' || !permanent, {
    path: ['permanent'],
    error: 'belongs to the action delete',
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

export function bulkRoutes(app: App, { assets, deletions }: AssetRoutesOptions): void {
  app.post(
    '/v1/assets/bulk',
    {
      schema: {
        operationId: 'bulkChangeAssets',
        tags: ['Assets'],
        summary: `Trash, restore or delete up to ${MAX_CHANGES} assets`,
        description:
          'Each asset is changed or refused by itself; the outcomes are those of the requests for one asset. All changes are made together, or none when the request fails. It counts as so many requests as it has ids.',
        querystring: z.strictObject({ reason: reasonQuery }),
        body: bulkChange,
        response: { 200: bulkOutcome },
      },
      config: {
        actions: ['asset.write', 'asset.delete'],
        success: { status: 200, description: 'An outcome per id' },
        problems: ['malformed-request', 'too-large', 'unsupported-media-type'],
      },
    },
    async (request, reply) => {
      const { action, permanent, ids } = request.body;
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
      const change = action === 'delete' ? 'trash' : action;
      const found = await assets.changeMany(caller, distinct, change, actor, (transaction, outcomes) =>
        commit(transaction, answerTo(outcomes)),
      );
      return sendAnswer(reply, answerTo(found));
    },
  );
}

function resultOf(
  id: string,
  outcome: BulkResult | undefined,
  requestId: string,
): z.input<typeof bulkOutcome>['results'][number] {
  if (outcome === 'done') return { id, status: 200 };
  const problem = outcome === 'wrong-state' ? notInTrash() : outcome === 'forbidden' ? forbidden() : assetNotFound();
  return { id, status: problem.status, problem: problem.toDocument(requestId) };
}

function forbidden(): Problem {
  return new Problem('forbidden', { detail: 'Your role in the project of this asset does not allow it.' });
}
