/** Transcodes over HTTP: asked for, followed, taken back. What was made is a derivative, and served as one. */

import { z } from 'zod';
import { requireMay } from '../access/may.ts';
import { limitedBy, type Tier, tierWords } from '../access/tiers.ts';
import { archivedProblem } from '../assets/archived.ts';
import type { Asset } from '../assets/asset.ts';
import { derivativeName } from '../assets/derivative-names.ts';
import { downloadable } from '../assets/issued-links.ts';
import { AssetsRepository } from '../assets/repository.ts';
import { required } from '../assets/routes.ts';
import type { Core } from '../core.ts';
import type { App } from '../http/openapi.ts';
import { assetId, bytesCount, openEnum, timestamp } from '../http/schema-types.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { Problem, RETRY_SOON } from '../problems.ts';
import { type Claim, type Derivative, DerivativesRepository } from '../processing/derivatives.ts';
import { formats, nameOf, type Target, TRANSCODE_FORMATS, targetFrom } from '../processing/media/formats.ts';
import { toolboxOf } from '../processing/toolbox.ts';
import { newRequest, sendTranscode, transcodeJob } from './job.ts';
import {
  checkAllowed,
  limitsOf,
  targetOptions,
  tooMany,
  tooManyTranscodes,
  transcodeImpossible,
  transcodeNotAllowed,
  transcodeSettings,
  transcodesWaiting,
} from './limits.ts';
import { countTranscodes, takeTurn } from './repository.ts';

const tags = ['Derivatives'];

/** Seconds for which a transcode may wait for a worker; then whoever asks for it again has it made anew. */
const WAITING_LEASE = 24 * 3600;

const listed = (numbers: readonly number[] = []) => numbers.join(', ');
const format = z.enum(TRANSCODE_FORMATS, { error: `must be one of ${TRANSCODE_FORMATS.join(', ')}` }).meta({
  id: 'TranscodeFormat',
  description:
    'Of sound, or the sound of a film: `mp3`, `aac` (in m4a), `opus` (in WebM), `flac`, `wav` (16 bits). Of a film: `mp4` (H.264 and AAC)',
});
const bitrate = z.number({ error: 'must be a number' }).int('must be a whole number');
const height = z.number({ error: 'must be a number' }).int('must be a whole number');
const asked = z
  .strictObject({
    format,
    bitrate: bitrate.optional().meta({
      description: `Kilobits per second. mp3: ${listed(formats.mp3.bitrate?.allowed)}; aac: ${listed(formats.aac.bitrate?.allowed)}; opus: ${listed(formats.opus.bitrate?.allowed)}. When absent 128, of opus 96`,
      example: 128,
    }),
    height: height.optional().meta({
      description: `Pixels, of mp4: ${listed(formats.mp4.height?.allowed)}; 720 when absent. A film is never enlarged`,
    }),
  })
  .meta({ id: 'TranscodeRequest', example: { format: 'mp3', bitrate: 128 } });

const transcodeId = derivativeName.meta({ description: 'Name of the transcode', example: 'mp3-128k' });
const document = z
  .object({
    id: transcodeId,
    format,
    bitrate: bitrate.optional().meta({ description: 'Kilobits per second' }),
    height: height.optional().meta({ description: 'Pixels, as asked for' }),
    state: openEnum(
      'TranscodeState',
      ['waiting', 'running', 'ready', 'failed'],
      'What is `ready` is served as the derivative of this name.',
    ),
    progress: z.number().int().min(0).max(100).meta({ description: 'Per cent', example: 40 }),
    reason: z.string().optional().meta({ description: 'Why it failed, in one word', example: 'timed-out' }),
    mediaType: z.string().optional().meta({ description: 'When it is ready', example: 'audio/mpeg' }),
    size: bytesCount.optional(),
    createdAt: timestamp,
    updatedAt: timestamp,
  })
  .meta({ id: 'Transcode' });
const documents = z.object({ data: z.array(document) }).meta({ id: 'Transcodes' });

function toDocument(row: Derivative): z.input<typeof document> {
  const { name, state, progress, reason, mediaType, size, createdAt, updatedAt } = row;
  return {
    id: name,
    ...targetOptions.parse(row.options),
    state: state === 'making' ? (progress === null ? 'waiting' : 'running') : state,
    progress: state === 'ready' ? 100 : (progress ?? 0),
    ...(reason !== null && { reason }),
    ...(mediaType !== null && { mediaType }),
    ...(size !== null && { size }),
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  };
}

const byAsset = z.object({ id: assetId });
const byName = z.object({ id: assetId, transcodeId });

export function transcodeRoutes(app: App, core: Core): void {
  const assets = new AssetsRepository(core.database);
  const transcodes = new Transcodes(core);

  app.post(
    '/v1/assets/:id/transcodes',
    {
      schema: {
        operationId: 'createTranscode',
        tags,
        summary: 'Have sound or a film turned into another format',
        description:
          'The same request again answers with the same transcode; one that has failed is tried again. Nothing of what the original tells of itself comes along: no title, no place, no chapters.',
        params: byAsset,
        body: asked,
        response: { 202: document },
      },
      config: {
        action: 'asset.write',
        success: {
          status: 202,
          description: 'The transcode, which waits, runs or is there already',
          headers: z.object({ Location: z.string().meta({ description: 'Address of the transcode' }) }),
        },
        problems: [
          ...([
            'forbidden',
            'not-found',
            'wrong-state',
            'malformed-request',
            'too-large',
            'unsupported-media-type',
          ] as const),
          ...[archivedProblem, transcodeNotAllowed, tooManyTranscodes, transcodeImpossible, transcodesWaiting],
          ...(['not-implemented', 'overloaded'] as const),
        ],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const found = await required(assets.find(caller, params.id));
      requireMay(caller, 'asset.write', found);
      const asset = downloadable(found);
      const commit = answering(request);
      const answerOf = (row: Derivative) => ({
        status: 202,
        headers: { location: `/v1/assets/${asset.id}/transcodes/${row.name}` },
        body: toDocument(row),
      });
      const tier = await core.tiers.ofOwner(asset.ownerId, caller);
      const row = await transcodes.ask(asset, targetOf(request.body), tier, (transaction, claimed) =>
        commit(transaction, answerOf(claimed)),
      );
      return sendAnswer(reply, answerOf(row));
    },
  );

  app.get(
    '/v1/assets/:id/transcodes',
    {
      schema: {
        operationId: 'listTranscodes',
        tags,
        summary: 'List the transcodes of an asset',
        params: byAsset,
        response: { 200: documents },
      },
      config: {
        action: 'asset.read',
        success: { status: 200, description: 'The transcodes, by name' },
        problems: ['not-found'],
      },
    },
    async (request, reply) => {
      const asset = await required(assets.find(request.caller, request.params.id));
      reply.header('cache-control', 'private, no-cache');
      return { data: (await transcodes.list(asset)).map(toDocument) };
    },
  );

  app.get(
    '/v1/assets/:id/transcodes/:transcodeId',
    {
      schema: {
        operationId: 'getTranscode',
        tags,
        summary: 'Get a transcode: whether it waits, how far it is, what it has become',
        params: byName,
        response: { 200: document },
      },
      config: { action: 'asset.read', success: { status: 200, description: 'The transcode' }, problems: ['not-found'] },
    },
    async (request, reply) => {
      const asset = await required(assets.find(request.caller, request.params.id));
      reply.header('cache-control', 'private, no-cache');
      return toDocument(await transcodes.get(asset, request.params.transcodeId));
    },
  );

  app.delete(
    '/v1/assets/:id/transcodes/:transcodeId',
    {
      schema: {
        operationId: 'deleteTranscode',
        tags,
        summary: 'Delete a transcode, or stop it',
        params: byName,
      },
      config: {
        action: 'asset.write',
        success: { status: 204, description: 'It is gone' },
        problems: ['forbidden', 'not-found'],
      },
    },
    async (request, reply) => {
      const asset = await required(assets.find(request.caller, request.params.id));
      requireMay(request.caller, 'asset.write', asset);
      await transcodes.delete(asset, request.params.transcodeId);
      return reply.code(204).send();
    },
  );
}

/** @throws Problem invalid-parameter */
function targetOf({ format, bitrate, height }: z.output<typeof asked>): Target {
  const result = targetFrom({
    format,
    ...(bitrate !== undefined && { bitrate }),
    ...(height !== undefined && { height }),
  });
  if ('target' in result) return result.target;
  const { field, detail } = result.fault;
  throw new Problem('invalid-parameter', { detail, errors: [{ pointer: `/${field}`, detail }] });
}

type Committing = NonNullable<Parameters<DerivativesRepository['claim']>[1]>['inTransaction'];

class Transcodes {
  readonly #core: Core;
  readonly #derivatives: DerivativesRepository;

  constructor(core: Core) {
    this.#core = core;
    this.#derivatives = new DerivativesRepository(core.database, core.outbox);
  }

  async list(asset: Asset): Promise<Derivative[]> {
    const made = await this.#derivatives.list(asset.id);
    return made.filter(({ kind, sourceKey }) => kind === 'transcode' && sourceKey === asset.objectKey);
  }

  async get(asset: Asset, name: string): Promise<Derivative> {
    const found = await this.#derivatives.find(asset.id, name);
    if (found?.kind === 'transcode' && found.sourceKey === asset.objectKey) return found;
    throw new Problem('not-found', { detail: 'The asset has no such transcode.' });
  }

  async delete(asset: Asset, name: string): Promise<void> {
    await this.#derivatives.discard([(await this.get(asset, name)).id]);
  }

  /**
   * @param tier of the owner
   * @param committing called in the transaction in which it is asked for, when it is not there already
   * @throws Problem when it is not allowed or not possible
   */
  async ask(
    asset: Asset,
    target: Target,
    tier: Tier | undefined,
    committing: NonNullable<Committing>,
  ): Promise<Derivative> {
    const { policies, outbox } = this.#core;
    const limits = limitsOf(policies.named(asset.assetType));
    checkAllowed(target, asset, limits);
    const perOwner = tier?.limits.transcodes ?? this.#core.settings(transcodeSettings).TRANSCODES_PER_OWNER;
    if (perOwner === 0) throw noTranscodes(tier);
    await this.#checkTools();
    const request = newRequest();
    const name = nameOf(target);
    const data = { assetId: asset.id, name, request };
    const claim = await this.#derivatives.claim(
      {
        ...{ assetId: asset.id, kind: 'transcode', name, sourceKey: asset.objectKey },
        ...{ options: { ...target }, requestedBy: request },
      },
      {
        again: true,
        lease: WAITING_LEASE,
        inTransaction: async (transaction, row) => {
          const { ofAsset, ofOwner } = await countTranscodes(transaction, asset);
          if (ofAsset > limits.maxCount) throw tooMany(target, limits);
          if (ofOwner > perOwner) throw waiting(ofOwner - 1, tier);
          const turn = await takeTurn(transaction, row.id, asset.ownerId);
          await sendTranscode(outbox, transaction, { ...data, turn });
          await committing(transaction, row);
        },
      },
    );
    if (claim.outcome === 'claimed') outbox.wake(transcodeJob);
    return this.#asked(claim, asset, name);
  }

  async #asked(claim: Claim, asset: Asset, name: string): Promise<Derivative> {
    if ('derivative' in claim) return claim.derivative;
    if (claim.outcome === 'busy-elsewhere') return this.get(asset, name);
    throw new Problem('wrong-state', { detail: 'The asset has changed meanwhile. Send the request again.' });
  }

  /** Where jobs run elsewhere, nobody knows here; the transcode then fails, for this reason. */
  async #checkTools(): Promise<void> {
    if (this.#core.config.ROLE === 'api') return;
    if ((await toolboxOf(this.#core).sandbox).has('ffmpeg')) return;
    throw new Problem('not-implemented', {
      detail: 'Transcodes need ffmpeg, which is not installed on this server. Ask its operator for it.',
    });
  }
}

function noTranscodes(tier: Tier | undefined): Problem {
  return new Problem(transcodeNotAllowed, {
    detail: `Of what the owner has, nothing is transcoded.${tierWords(tier)}`,
    ...limitedBy(tier, 'transcodes'),
  });
}

function waiting(count: number, tier: Tier | undefined): Problem {
  return new Problem(transcodesWaiting, {
    detail: `${count} transcodes of yours wait or are being made. Ask again when one of them is ready.${tierWords(tier)}`,
    retryAfter: RETRY_SOON,
    ...limitedBy(tier, 'transcodes'),
  });
}
