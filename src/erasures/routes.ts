/** Erasures over HTTP, for administrators; and for everybody the keys by which receipts are verified. */
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { isSubject, MAX_SUBJECT } from '../access/subject.ts';
import type { Executor } from '../database/client.ts';
import { erasureSteps, projectAssetFates } from '../database/tables/erasures.ts';
import { cursorOf, pageCursor, pageLimit, storableText, wholeNumber } from '../http/keyset-cursor.ts';
import type { App } from '../http/openapi.ts';
import { nextLink, pageHeaders, pageInfo } from '../http/paging.ts';
import { openEnum, timestamp } from '../http/schema-types.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { Problem } from '../problems.ts';
import type { Pseudonyms } from './pseudonyms.ts';
import { receiptKeys } from './receipt.ts';
import type { ErasureRow, ErasuresRepository } from './repository.ts';

const subject = z
  .string()
  .refine(isSubject, `must be 1 to ${MAX_SUBJECT} bytes of printable text`)
  .meta({
    override: { type: 'string', minLength: 1, maxLength: MAX_SUBJECT },
    description: 'Subject of the tokens of the owner',
    example: 'user-1',
  });
const erasureDocument = z
  .object({
    id: z.string().meta({ override: { type: 'string', format: 'uuid' }, description: 'UUIDv7' }),
    subject: z.string().meta({
      description: 'Pseudonym of the owner: what stands where he was named. The service makes it of his id',
      example: 'erased:Hq3mDk0bX8vY2sTn5cJwRg',
    }),
    state: openEnum('ErasureState', ['running', 'done'], 'How it is with the erasure.'),
    step: openEnum('ErasureStep', erasureSteps, 'What is being done, or was done last.'),
    projectAssets: openEnum(
      'ErasedProjectAssets',
      projectAssetFates,
      'What becomes of assets in projects that others have a part in.',
    ),
    counts: z.record(z.string(), z.number()).meta({
      override: { type: 'object', additionalProperties: { type: 'integer', format: 'int64' } },
      description:
        'Rows, objects and bytes that were deleted or changed so far, by what they are of; later versions may add some',
      example: { assets: 120, assetBytes: 73400320 },
    }),
    createdAt: timestamp,
    finishedAt: timestamp.optional(),
  })
  .meta({ id: 'Erasure' });

function toDocument(erasure: ErasureRow): z.input<typeof erasureDocument> {
  const { id, pseudonym, state, step, projectAssets, counts, createdAt, finishedAt } = erasure;
  return {
    id,
    subject: pseudonym,
    state,
    step,
    projectAssets,
    counts: Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, count ?? 0])),
    createdAt: createdAt.toISOString(),
    ...(finishedAt && { finishedAt: finishedAt.toISOString() }),
  };
}

const byId = z.object({
  id: z.uuid({ error: 'must be a UUID' }).meta({ override: { type: 'string', format: 'uuid' } }),
});
const cursors = cursorOf(z.tuple([wholeNumber, storableText]));
const ORDER = 'createdAt.desc';
const admin = { scope: 'admin' } as const;
const tags = ['Administration'];

export interface ErasureRoutesOptions {
  erasures: ErasuresRepository;
  pseudonyms: Pseudonyms;
  database: Executor;
}

export function erasureRoutes(app: App, { erasures, pseudonyms, database }: ErasureRoutesOptions): void {
  app.post(
    '/v1/admin/erasures',
    {
      schema: {
        operationId: 'eraseOwner',
        tags,
        summary: 'Delete everything of an owner for good',
        description:
          'A job does it, and writes a signed receipt when all is gone. Nothing can be uploaded for the owner meanwhile. Asked again while it runs, the answer is the erasure that is running. What he has uploaded into projects with other members belongs to these, and stays there under the pseudonym, or with `projectAssets: delete` is deleted as well. Say why in the header field `Stowage-Reason`. The answers name the pseudonym and not the owner.',
        body: z
          .strictObject({
            ownerId: subject,
            projectAssets: z
              .enum(projectAssetFates, { error: 'must be leave or delete' })
              .meta({ id: 'ErasedProjectAssets' })
              .default('leave'),
          })
          .meta({ id: 'ErasureRequest' }),
        response: { 202: erasureDocument },
      },
      config: {
        ...admin,
        success: {
          status: 202,
          description: 'The owner is being erased',
          headers: { Location: { description: 'Where its progress is told', schema: { type: 'string' } } },
        },
        problems: ['missing-scope', 'malformed-request', 'invalid-parameter', 'too-large', 'unsupported-media-type'],
      },
    },
    async (request, reply) => {
      const { ownerId, projectAssets } = request.body;
      const actor = actorOf(request);
      if (actor.because === null)
        throw new Problem('invalid-parameter', {
          detail: 'Stowage-Reason is needed: it is kept in the audit trail with the erasure.',
          errors: [{ parameter: 'Stowage-Reason', detail: 'is needed' }],
        });
      const answerOf = (erasure: ErasureRow) => ({
        status: 202,
        headers: { location: `/v1/admin/erasures/${erasure.id}` },
        body: toDocument(erasure),
      });
      const commit = answering(request);
      const wanted = { ownerId, pseudonym: await pseudonyms.of(ownerId), projectAssets };
      const erasure = await erasures.begin(wanted, actor, (transaction, row) => commit(transaction, answerOf(row)));
      return sendAnswer(reply, answerOf(erasure));
    },
  );

  app.get(
    '/v1/admin/erasures',
    {
      schema: {
        operationId: 'listErasures',
        tags,
        summary: 'List erasures, the latest first',
        querystring: z.strictObject({
          ownerId: subject.optional().meta({
            override: { type: 'string', minLength: 1, maxLength: MAX_SUBJECT },
            description: 'Only those of this owner, whose pseudonym is made of his id',
          }),
          limit: pageLimit,
          cursor: pageCursor,
        }),
        response: {
          200: z.object({ data: z.array(erasureDocument), page: pageInfo }).meta({ id: 'ErasurePage' }),
        },
      },
      config: {
        ...admin,
        success: { status: 200, description: 'A page of erasures', headers: pageHeaders },
        problems: ['missing-scope'],
      },
    },
    async (request, reply) => {
      const { ownerId, limit, cursor } = request.query;
      const [time, id] = cursor === undefined ? [] : cursors.decode(ORDER, cursor);
      const rows = await erasures.list({
        limit: limit + 1,
        ...(ownerId !== undefined && { pseudonym: await pseudonyms.of(ownerId) }),
        ...(time !== undefined &&
          id !== undefined && { before: { createdAt: new Date(Number(time)), id: uuidOf(id) } }),
      });
      const page = rows.slice(0, limit);
      const last = rows.length > limit ? page.at(-1) : undefined;
      const nextCursor = last && cursors.encode(ORDER, [String(last.createdAt.getTime()), last.id]);
      if (nextCursor !== undefined) reply.header('link', nextLink(request.url, nextCursor));
      return {
        data: page.map(toDocument),
        page: { ...(nextCursor !== undefined && { nextCursor }), hasMore: nextCursor !== undefined },
      };
    },
  );

  app.get(
    '/v1/admin/erasures/:id',
    {
      schema: {
        operationId: 'getErasure',
        tags,
        summary: 'Get the progress of an erasure',
        params: byId,
        response: { 200: erasureDocument },
      },
      config: {
        ...admin,
        success: { status: 200, description: 'The erasure' },
        problems: ['missing-scope', 'not-found'],
      },
    },
    async (request) => toDocument(await found(erasures, request.params.id)),
  );

  app.get(
    '/v1/admin/erasures/:id/receipt',
    {
      schema: {
        operationId: 'getErasureReceipt',
        tags,
        summary: 'Get the signed receipt of an erasure that is done',
        description:
          'What was deleted, when, from which stores, and what remains where and until when. It is the same to the byte each time. `signature.value` is an Ed25519 signature of the member `receipt`, written without spaces, by a key of `listReceiptKeys`.',
        params: byId,
      },
      config: {
        ...admin,
        success: {
          status: 200,
          description: 'The receipt',
          content: { 'application/json': { schema: { type: 'object' } } },
        },
        problems: ['missing-scope', 'not-found', 'wrong-state'],
      },
    },
    async (request, reply) => {
      const { receipt } = await found(erasures, request.params.id);
      if (receipt === null)
        throw new Problem('wrong-state', { detail: 'The erasure is still running. Wait until it is done.' });
      reply.header('cache-control', 'no-store').type('application/json; charset=utf-8');
      return reply.send(receipt as never);
    },
  );

  app.get(
    '/v1/receipt-keys',
    {
      schema: {
        operationId: 'listReceiptKeys',
        tags,
        summary: 'Get the public keys by which receipts are verified',
        security: [],
        response: {
          200: z
            .object({
              data: z.array(
                z
                  .object({
                    keyId: z.string().meta({ description: 'First 16 digits of the SHA-256 of the key' }),
                    algorithm: z.literal('Ed25519').meta({ override: { type: 'string' } }),
                    publicKey: z.string().meta({ description: 'PEM' }),
                  })
                  .meta({ id: 'ReceiptKey' }),
              ),
            })
            .meta({ id: 'ReceiptKeys' }),
        },
      },
      config: { public: true, success: { status: 200, description: 'The keys' }, problems: [] },
    },
    async () => ({ data: await receiptKeys(database) }),
  );
}

async function found(erasures: ErasuresRepository, id: string): Promise<ErasureRow> {
  const erasure = await erasures.find(id);
  if (erasure) return erasure;
  throw new Problem('not-found', { detail: 'There is no erasure with this id.' });
}

/** @throws Problem invalid-parameter */
function uuidOf(text: string): string {
  if (z.uuid().safeParse(text).success) return text;
  const detail = 'must be the nextCursor of a page';
  throw new Problem('invalid-parameter', { detail: `cursor ${detail}.`, errors: [{ parameter: 'cursor', detail }] });
}
