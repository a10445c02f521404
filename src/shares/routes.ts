/** Shares over HTTP, for whoever shares. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { requireScope } from '../access/may.ts';
import type { Core } from '../core.ts';
import type { App } from '../http/openapi.ts';
import { linkHeader, pageInfo, pageOf, pageQuery } from '../http/page-query.ts';
import { recordConditions } from '../http/preconditions.ts';
import { serviceUrls } from '../http/public-url.ts';
import { assetId, projectId } from '../http/schema-types.ts';
import { answering, sendAnswer, sendNoContent } from '../idempotency/requests.ts';
import { Problem } from '../problems.ts';
import { codeLook, codeSuccess, sendCode } from '../qr/answer.ts';
import { tooLongForCode } from '../qr/problems.ts';
import { newShare, type ShareDocument, shareChanges, shareDocument, toShareDocument } from './documents.ts';
import type { ShareDoor } from './door.ts';
import { shareNotFound, tooManyShares } from './problems.ts';
import type { LockedTerms, Share, SharesRepository, ShareTerms, Target } from './repository.ts';
import { pathOf } from './token.ts';

const tags = ['Shares'];
const action = 'asset.share';
const byId = z.object({
  id: z.uuid({ error: 'must be a UUID' }).meta({ override: { type: 'string', format: 'uuid' } }),
});
const page = z.object({ data: z.array(shareDocument), page: pageInfo('SharePageInfo') }).meta({ id: 'SharePage' });
const listQuery = pageQuery.extend({
  assetId: assetId
    .optional()
    .meta({ description: 'Those that name this asset; for a manager of its project, of everybody' }),
  projectId: projectId
    .optional()
    .meta({ description: 'Those of this whole project; for a manager of it, of everybody' }),
});
/** Seconds for which the code of a share is kept: the address of a share stays the same. */
const CODE_LIFE = 300;

export interface ShareRouteOptions {
  core: Core;
  shares: SharesRepository;
  door: ShareDoor;
}

export function shareRoutes(app: App, { core, shares, door }: ShareRouteOptions): void {
  const toUrl = serviceUrls(core.config);
  const documentOf = (request: FastifyRequest, share: Share): ShareDocument =>
    toShareDocument(share, share.token === undefined ? undefined : toUrl(request, pathOf(share.token)));
  const required = async (request: FastifyRequest, id: string): Promise<Share> => {
    const share = await shares.find(request.caller, id);
    if (!share) throw shareNotFound();
    return share;
  };
  const hashed = async (request: FastifyRequest, password: string) => {
    const { signal } = new AbortController();
    return door.passwords.hash(password, `caller ${request.caller.id}`, signal);
  };

  app.post(
    '/v1/shares',
    {
      schema: {
        operationId: 'createShare',
        tags,
        summary: 'Share an asset, several, or a project with strangers',
        description:
          'The answer has the address. Whoever has it reaches what is shared, as long as whoever made the share may read it, until the share expires, is used up or is revoked.',
        body: newShare,
        response: { 201: shareDocument },
      },
      config: {
        action,
        success: {
          status: 201,
          description: 'The share, with its address',
          headers: { Location: { description: 'Where it is', schema: { type: 'string' } } },
        },
        problems: [
          'forbidden',
          'not-found',
          'wrong-state',
          tooManyShares,
          'malformed-request',
          'too-large',
          'unsupported-media-type',
          'overloaded',
        ],
      },
    },
    async (request, reply) => {
      const { caller, body } = request;
      const target = targetOf(body);
      if ('projectId' in target) requireScope(caller, 'project.share');
      const { allow, label = null, note = null, maxDownloads = null, expiresIn = null, permanent } = body;
      requirePermanence({ target: 'assetId' in target ? 'asset' : 'assets' }, { ...body });
      const password = body.password === undefined ? null : await hashed(request, body.password);
      const terms: ShareTerms = { allow, label, note, password, maxDownloads, expiresIn, permanent };
      const answerOf = (id: string, document: object) => ({
        status: 201,
        headers: { location: `/v1/shares/${id}`, 'cache-control': 'no-store' },
        body: document,
      });
      const commit = answering(request);
      const id = await shares.create(caller, target, terms, actorOf(request), async (transaction, its) => {
        if (!request.claim) return;
        // What is kept under an Idempotency-Key holds no address.
        const made = await shares.find(caller, its, transaction);
        if (made) await commit(transaction, answerOf(its, toShareDocument(made, undefined)));
      });
      return sendAnswer(reply, answerOf(id, documentOf(request, await required(request, id))));
    },
  );

  app.get(
    '/v1/shares',
    {
      schema: {
        operationId: 'listShares',
        tags,
        summary: 'List shares, the latest first',
        description:
          'Those that you made; with `assetId` or `projectId` those of what you manage as well, which you may revoke. What has ended is listed for a week. Follow `nextCursor`, or the `Link` header, until `hasMore` is false.',
        querystring: listQuery,
        response: { 200: page },
      },
      config: { action, success: { status: 200, description: 'A page of shares', headers: linkHeader } },
    },
    async (request, reply) => {
      const { assetId: ofAsset, projectId: ofProject, ...query } = request.query;
      if (ofAsset !== undefined && ofProject !== undefined) throw refused('projectId', 'cannot be there with assetId');
      const of = { assetId: ofAsset, projectId: ofProject };
      const more = Object.entries(of).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
      const { rows, page: end } = await pageOf(
        reply,
        '/v1/shares',
        query,
        (wanted) => shares.list(request.caller, of, wanted),
        Object.fromEntries(more),
      );
      reply.header('cache-control', 'no-store');
      return { data: rows.map(({ share }) => documentOf(request, share)), page: end };
    },
  );

  app.get(
    '/v1/shares/:id',
    {
      schema: {
        operationId: 'getShare',
        tags,
        summary: 'Get a share: its address, its state, and how often it was used',
        params: byId,
        response: { 200: shareDocument },
      },
      config: { action, success: { status: 200, description: 'The share' }, problems: ['not-found'] },
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store');
      return documentOf(request, await required(request, request.params.id));
    },
  );

  app.patch(
    '/v1/shares/:id',
    {
      schema: {
        operationId: 'updateShare',
        tags,
        summary: 'Change a share that you made; its address stays',
        description:
          '`null` takes away what is there. Another password, or none, ends what was unlocked with the one before.',
        params: byId,
        body: shareChanges,
        response: { 200: shareDocument },
      },
      config: {
        action,
        success: { status: 200, description: 'The share' },
        problems: [
          'not-found',
          'wrong-state',
          'malformed-request',
          'too-large',
          'unsupported-media-type',
          'overloaded',
        ],
      },
    },
    async (request, reply) => {
      const { caller, params, body } = request;
      const { password: text, ...others } = body;
      const password = typeof text === 'string' ? await hashed(request, text) : text;
      const changes = present({ ...others, password });
      const answerOf = (share: Share, document: object) => ({
        status: 200,
        headers: { 'cache-control': 'no-store' },
        body: { ...document, id: share.id },
      });
      const commit = answering(request);
      const check = (before: LockedTerms & { isRevoked: boolean }) => {
        if (before.isRevoked)
          throw new Problem('wrong-state', { detail: 'The share was revoked, and stays so. Make another one.' });
        requirePermanence(before, { ...body });
      };
      const changed = await shares.update(caller, params.id, changes, actorOf(request), check, async (transaction) => {
        if (!request.claim) return;
        const share = await shares.find(caller, params.id, transaction);
        if (share) await commit(transaction, answerOf(share, toShareDocument(share, undefined)));
      });
      if (!changed) throw shareNotFound();
      const share = await required(request, params.id);
      return sendAnswer(reply, answerOf(share, documentOf(request, share)));
    },
  );

  app.delete(
    '/v1/shares/:id',
    {
      schema: {
        operationId: 'deleteShare',
        tags,
        summary: 'Revoke a share',
        description:
          'Within a second its address is unknown to every instance; downloads that have begun may end. Whoever made it may, and whoever manages what is shared.',
        params: byId,
      },
      config: { action, success: { status: 204, description: 'It is revoked' }, problems: ['not-found'] },
    },
    async (request, reply) => {
      const isRevoked = await sendNoContent(request, reply, (commit) =>
        shares.revoke(request.caller, request.params.id, actorOf(request), commit),
      );
      if (!isRevoked) throw shareNotFound();
      return reply;
    },
  );

  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/shares/:id/qr',
    schema: {
      operationId: 'getShareCode',
      tags,
      summary: 'Get the QR code of a share that you made',
      params: byId,
      querystring: z.strictObject(codeLook),
      headers: recordConditions,
    },
    config: {
      action,
      success: codeSuccess,
      problems: ['not-found', 'precondition-failed', tooLongForCode],
    },
    handler: async (request, reply) => {
      const { token } = await required(request, request.params.id);
      // Its address is not for whoever only oversees it.
      if (token === undefined) throw shareNotFound();
      return sendCode(request, reply, { ...request.query, text: toUrl(request, pathOf(token)), maxAge: CODE_LIFE });
    },
  });
}

/** @throws Problem invalid-parameter unless exactly one is named */
function targetOf({ assetId: one, assetIds: several, projectId: all }: z.output<typeof newShare>): Target {
  const named: Target[] = [
    ...(one === undefined ? [] : [{ assetId: one }]),
    ...(several === undefined ? [] : [{ assetIds: several }]),
    ...(all === undefined ? [] : [{ projectId: all }]),
  ];
  const [target] = named;
  if (target && named.length === 1) return target;
  throw refused('/assetId', 'must be there, or assetIds, or projectId, and only one of them');
}

/** @throws Problem invalid-parameter when it would be permanent and end all the same */
function requirePermanence(
  before: { target: LockedTerms['target'] } & Partial<LockedTerms>,
  changes: {
    permanent?: boolean | undefined;
    expiresIn?: number | null | undefined;
    password?: string | null | undefined;
    maxDownloads?: number | null | undefined;
  },
): void {
  if (!(changes.permanent ?? before.permanent)) return;
  const { target, hasPassword = false, expiresAt = null, maxDownloads = null } = before;
  const hasAfter = (change: unknown, had: boolean) => (change === undefined ? had : change !== null);
  if (target !== 'asset') throw refused('/permanent', 'must be false: it is for one asset');
  if (hasAfter(changes.expiresIn, expiresAt !== null)) throw refused('/permanent', 'must be false with expiresIn');
  if (hasAfter(changes.password, hasPassword)) throw refused('/permanent', 'must be false with a password');
  if (hasAfter(changes.maxDownloads, maxDownloads !== null))
    throw refused('/permanent', 'must be false with maxDownloads');
}

function refused(where: string, detail: string): Problem {
  const place = where.startsWith('/') ? { pointer: where } : { parameter: where };
  return new Problem('invalid-parameter', { detail: `${where}: ${detail}.`, errors: [{ ...place, detail }] });
}

function present<T extends object>(members: T): { [Name in keyof T]?: Exclude<T[Name], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as {
    [Name in keyof T]?: Exclude<T[Name], undefined>;
  };
}
