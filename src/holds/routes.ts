/** Holds and retention over HTTP. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf, type Caller } from '../access/caller.ts';
import { requireMay } from '../access/may.ts';
import { reasonQuery, reasonText } from '../access/reason.ts';
import { type Asset, assetDocument, recordTag, toDocument } from '../assets/asset.ts';
import { toHeldDocument } from '../assets/held.ts';
import type { AssetsRepository } from '../assets/repository.ts';
import { entityTagHeader, required } from '../assets/routes.ts';
import type { Executor } from '../database/client.ts';
import { retentionModes } from '../database/tables/holds.ts';
import type { App } from '../http/openapi.ts';
import { assetId } from '../http/schema-types.ts';
import type { Answer } from '../idempotency/idempotency.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { Problem } from '../problems.ts';
import { tooManyHolds } from './problems.ts';
import { type HoldsRepository, MAX_HOLDS } from './repository.ts';

const NAME = 'must be 1 to 64 of a-z, A-Z, 0-9, dot, underscore and hyphen, and begin with a letter or digit';
const holdName = z
  .string({ error: NAME })
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, NAME)
  .meta({
    override: { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' },
    description: 'Name of the hold; everybody who may read the record sees it',
    example: 'claim-1711',
  });
const TIME = 'must be a time such as 2030-01-01T00:00:00Z';
const until = z.iso
  .datetime({ offset: true, error: TIME })
  .transform((text) => new Date(text))
  .refine((moment) => moment.getUTCFullYear() >= 1970 && moment.getUTCFullYear() <= 9999, TIME)
  .meta({
    override: { type: 'string', format: 'date-time' },
    description: 'Until when; an administrator ends a retention by a time that has passed',
    example: '2030-01-01T00:00:00Z',
  });

const holdBody = z
  .strictObject({
    name: holdName,
    reason: reasonText.meta({
      description: 'Why; those who may set holds see it, and the audit trail has it',
      example: 'copyright claim 1711',
    }),
  })
  .meta({ id: 'AssetHoldRequest' });
const retentionBody = z
  .strictObject({
    retainUntil: until,
    mode: z
      .enum(retentionModes, { error: 'must be governance or compliance' })
      .meta({ id: 'RetentionModeRequest' })
      .meta({ description: '`governance`: an administrator may shorten it. `compliance`: nobody may, whoever asks' }),
  })
  .meta({ id: 'AssetRetentionRequest' });

const byId = z.object({ id: assetId });
const withReason = z.strictObject({ reason: reasonQuery });
const tags = ['Holds'];
const gone: Answer = { status: 204, headers: {} };

export interface HoldRoutesOptions {
  holds: HoldsRepository;
  assets: AssetsRepository;
}

export function holdRoutes(app: App, { holds, assets }: HoldRoutesOptions): void {
  app.put(
    '/v1/assets/:id/hold',
    {
      schema: {
        operationId: 'holdAsset',
        tags,
        summary: 'Hold an asset, so that nobody deletes it',
        description: `While a hold stands nobody deletes or replaces the bytes of the asset or of its versions, whatever the way: the answer is 409 \`held\`. Managers of the project and administrators set holds, at most ${MAX_HOLDS} by name. The same name with the same reason changes nothing; with another reason it has that one. An administrator who names no other reason for the audit trail acts by that of the hold.`,
        params: byId,
        querystring: withReason,
        body: holdBody,
        response: { 200: assetDocument },
      },
      config: {
        action: 'asset.hold',
        success: { status: 200, description: 'The record, with all its holds', headers: entityTagHeader },
        problems: ['malformed-request', 'forbidden', 'not-found', tooManyHolds, 'too-large', 'unsupported-media-type'],
      },
    },
    async (request, reply) => {
      const { params, body } = request;
      const acting = { id: request.id, caller: actingBy(request.caller, body.reason) };
      const held = await change(acting.caller, params.id, () =>
        holds.set(acting.caller, params.id, body, actorOf(acting), committing(request, answerOf)),
      );
      return sendAnswer(reply, answerOf(held));
    },
  );

  app.delete(
    '/v1/assets/:id/hold/:name',
    {
      schema: {
        operationId: 'removeAssetHold',
        tags,
        summary: 'Take a hold off an asset',
        description:
          'It needs a reason, as `?reason=` or in `Stowage-Reason`. The hold that an administrator has set is taken off by an administrator. Nothing is deleted by it; what was put off while the asset was held goes on.',
        params: z.object({ id: assetId, name: holdName }),
        querystring: withReason,
      },
      config: {
        action: 'asset.hold',
        success: { status: 204, description: 'It is off' },
        problems: ['forbidden', 'not-found'],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      await change(caller, params.id, () => {
        if (caller.reason === undefined) throw reasonNeeded();
        return holds.remove(
          caller,
          params.id,
          params.name,
          actorOf(request),
          committing(request, () => gone),
        );
      });
      return sendAnswer(reply, gone);
    },
  );

  app.put(
    '/v1/assets/:id/retention',
    {
      schema: {
        operationId: 'retainAsset',
        tags,
        summary: 'Retain an asset until a time',
        description:
          'Until then it is held as by a hold. Managers of the project and administrators retain assets and make their retention longer. `governance` is shortened by administrators who name a reason, and may become `compliance`; `compliance` is shortened by nobody, and ends by time alone. How far ahead it may go is bounded by `MAX_RETENTION_DAYS`.',
        params: byId,
        querystring: withReason,
        body: retentionBody,
        response: { 200: assetDocument },
      },
      config: {
        action: 'asset.hold',
        success: { status: 200, description: 'The record, with its retention', headers: entityTagHeader },
        problems: ['malformed-request', 'forbidden', 'not-found', 'held', 'too-large', 'unsupported-media-type'],
      },
    },
    async (request, reply) => {
      const { caller, params, body } = request;
      const wanted = { retainUntil: body.retainUntil, retentionMode: body.mode };
      const retained = await change(caller, params.id, () =>
        holds.retain(caller, params.id, wanted, actorOf(request), committing(request, answerOf)),
      );
      return sendAnswer(reply, answerOf(retained));
    },
  );

  /** What does nothing is asked why; whoever changed the asset meanwhile was faster, and it is judged again. */
  async function change(caller: Caller, id: string, make: () => Promise<Asset | undefined>): Promise<Asset> {
    for (;;) {
      requireMay(caller, 'asset.hold', await required(assets.find(caller, id)));
      const changed = await make();
      if (changed) return changed;
    }
  }
}

/** An administrator needs a reason to act at all. Of others it stays in the hold: the history is read by all who see the asset. */
function actingBy(caller: Caller, reason: string): Caller {
  return caller.scopes.has('admin') && caller.reason === undefined ? { ...caller, reason } : caller;
}

/** Who sets holds sees all of them. */
function answerOf(asset: Asset): Answer {
  const body = { ...toDocument(asset), ...toHeldDocument(asset, true) };
  return { status: 200, headers: { etag: recordTag(asset) }, body };
}

function committing(request: FastifyRequest, answer: (asset: Asset) => Answer) {
  const commit = answering(request);
  return (transaction: Executor, asset: Asset) => commit(transaction, answer(asset));
}

function reasonNeeded(): Problem {
  const detail = 'must say why the hold is taken off';
  return new Problem('invalid-parameter', {
    detail: `reason ${detail}, here or in Stowage-Reason.`,
    errors: [{ parameter: 'reason', detail }],
  });
}
