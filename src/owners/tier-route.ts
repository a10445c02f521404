/** The tier of an owner, as an administrator gives it. */
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { isSubject, MAX_SUBJECT } from '../access/subject.ts';
import type { Tiers } from '../access/tiers.ts';
import type { App } from '../http/openapi.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { Problem } from '../problems.ts';
import type { OwnerRow, OwnersRepository } from './repository.ts';
import { ownerDocument, toDocument } from './routes.ts';

const byOwner = z.object({
  ownerId: z
    .string()
    .refine(isSubject, `must be 1 to ${MAX_SUBJECT} bytes of printable text`)
    .meta({
      override: { type: 'string', minLength: 1, maxLength: MAX_SUBJECT },
      description: 'Subject of the tokens of the owner',
      example: 'user-1',
    }),
});

export function tierRoute(app: App, { owners, tiers }: { owners: OwnersRepository; tiers: Tiers }): void {
  app.put(
    '/v1/admin/owners/:ownerId',
    {
      schema: {
        operationId: 'setOwnerTier',
        tags: ['Administration'],
        summary: 'Give an owner a tier, or take it away',
        description:
          'It counts for more than what his tokens say, and holds for keys, tickets and those who are spoken for, too. Every instance goes by it within a second. Without `tier` his tokens count again, or else the tier `default`.',
        params: byOwner,
        body: z
          .strictObject({
            tier: z.string().max(64).optional().meta({ description: 'One of the file `TIERS`', example: 'pro' }),
          })
          .meta({ id: 'OwnerChange' }),
        response: { 200: ownerDocument },
      },
      config: {
        scope: 'admin',
        success: { status: 200, description: 'The owner' },
        problems: ['missing-scope', 'malformed-request', 'too-large', 'unsupported-media-type'],
      },
    },
    async (request, reply) => {
      const { params, body } = request;
      requireKnown(tiers, body.tier);
      const answerOf = (owner: OwnerRow) => ({ status: 200, headers: {}, body: toDocument(owner) });
      const commit = answering(request);
      const owner = await owners.setTier(params.ownerId, body.tier, actorOf(request), (transaction, changed) =>
        commit(transaction, answerOf(changed)),
      );
      return sendAnswer(reply, answerOf(owner));
    },
  );
}

/** @throws Problem invalid-parameter */
function requireKnown({ names }: Tiers, tier: string | undefined): void {
  if (tier === undefined || names.includes(tier)) return;
  const detail = names.length === 0 ? 'is none: the service has no tiers' : `must be one of ${names.join(', ')}`;
  throw new Problem('invalid-parameter', { detail: `tier ${detail}.`, errors: [{ pointer: '/tier', detail }] });
}
