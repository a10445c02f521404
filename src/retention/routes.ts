/** What somebody does about the life cycle of an asset: keeps it, or wants it back from the archive. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf, type Caller } from '../access/caller.ts';
import { requireMay } from '../access/may.ts';
import { reasonQuery } from '../access/reason.ts';
import { archivedProblem } from '../assets/archived.ts';
import { type Asset, assetDocument, recordTag, toDocument } from '../assets/asset.ts';
import { restoreSpeed } from '../assets/life-cycle-document.ts';
import type { PublicityOf } from '../assets/publicity.ts';
import type { AssetsRepository } from '../assets/repository.ts';
import { entityTagHeader, inTrash, required } from '../assets/routes.ts';
import type { ArchiveRestore } from '../database/tables/assets.ts';
import type { App } from '../http/openapi.ts';
import { assetId } from '../http/schema-types.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { Problem } from '../problems.ts';
import type { MovesRepository } from './moves.ts';

const tags = ['Assets'];
const byId = z.object({ id: assetId });
const withReason = z.strictObject({ reason: reasonQuery });
/** S3 takes more, but what is wanted for longer is no archive. */
const MAX_RESTORED = 365;
const DAYS = `must be 1 to ${MAX_RESTORED}`;

const restoreRequest = z
  .strictObject({
    speed: restoreSpeed.default('standard'),
    days: z
      .number({ error: DAYS })
      .int(DAYS)
      .min(1, DAYS)
      .max(MAX_RESTORED, DAYS)
      .default(7)
      .meta({
        override: { type: 'integer', minimum: 1, maximum: MAX_RESTORED, default: 7 },
        description: 'For how long the bytes are to be there',
      }),
  })
  .meta({ id: 'ArchiveRestoreRequest' });

export interface RetentionRoutesOptions {
  assets: AssetsRepository;
  moves: MovesRepository;
  publicityOf: PublicityOf;
  hasArchive: boolean;
}

export function retentionRoutes(app: App, { assets, moves, publicityOf, hasArchive }: RetentionRoutesOptions): void {
  const answerOf = (request: FastifyRequest, asset: Asset, status: number) => ({
    status,
    headers: { etag: recordTag(asset) },
    body: { ...toDocument(asset), ...publicityOf(request, asset) },
  });

  app.post(
    '/v1/assets/:id/keep',
    {
      schema: {
        operationId: 'keepAsset',
        tags,
        summary: 'Keep a temporary asset',
        description: 'It is not temporary any more. One that is not stays as it is.',
        params: byId,
        querystring: withReason,
        response: { 200: assetDocument },
      },
      config: {
        action: 'asset.write',
        success: { status: 200, description: 'The record', headers: entityTagHeader },
        problems: ['forbidden', 'not-found', 'wrong-state'],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const commit = answering(request);
      const kept = await moves.keep(caller, params.id, actorOf(request), (transaction, asset) =>
        commit(transaction, answerOf(request, asset, 200)),
      );
      return sendAnswer(reply, answerOf(request, kept ?? (await unchanged(caller, params.id)), 200));
    },
  );

  app.post(
    '/v1/assets/:id/restore-from-archive',
    {
      schema: {
        operationId: 'restoreAssetFromArchive',
        tags,
        summary: 'Have the bytes of an archived asset brought back',
        description:
          'The record tells how far it is: `restore` while they are brought back, `restoredUntil` when they can be downloaded. While that is under way, asking again changes nothing; when they are there, it asks for more days.',
        params: byId,
        querystring: withReason,
        body: restoreRequest,
        response: { 202: assetDocument },
      },
      config: {
        action: 'asset.write',
        success: { status: 202, description: 'The record; the bytes come later', headers: entityTagHeader },
        problems: [
          'malformed-request',
          'forbidden',
          'not-found',
          'wrong-state',
          'not-implemented',
          'too-large',
          'unsupported-media-type',
        ],
      },
    },
    async (request, reply) => {
      const { caller, params, body } = request;
      const commit = answering(request);
      const restore: ArchiveRestore = { state: 'requested', ...body, at: new Date().toISOString() };
      if (!hasArchive) {
        requireArchived(await unchanged(caller, params.id));
        throw new Problem('not-implemented', { detail: 'There is no archive: no variable ARCHIVE_... names one.' });
      }
      const asked = await moves.request(caller, params.id, restore, actorOf(request), (transaction, asset) =>
        commit(transaction, answerOf(request, asset, 202)),
      );
      return sendAnswer(reply, answerOf(request, asked ?? requireArchived(await unchanged(caller, params.id)), 202));
    },
  );

  /** The asset, of which there was nothing to change. @throws Problem */
  async function unchanged(caller: Caller, id: string): Promise<Asset> {
    const asset = await required(assets.find(caller, id));
    requireMay(caller, 'asset.write', asset);
    if (asset.trashedAt) throw inTrash();
    return asset;
  }
}

/** @throws Problem wrong-state */
function requireArchived(asset: Asset): Asset {
  if (asset.state !== 'ready')
    throw new Problem('wrong-state', { detail: `The asset is ${asset.state}, and cannot be brought back.` });
  if (asset.tier === undefined)
    throw new Problem('wrong-state', { detail: 'The asset is not in the archive: its bytes can be downloaded.' });
  return asset;
}

/** Told by all that hands out bytes. */
export const retentionProblems = [archivedProblem];
