/**
 * Every operation that changes something honours an `Idempotency-Key`; that is the rule, and a route says nothing for it. Its
 * request is claimed before the handler runs, and what was answered is written down: by the handler in the transaction of
 * what it does (`answering`), or else when the answer is sent, which suits what may happen twice without harm.
 *
 * Uploads by one request are the exception (`idempotent: 'content'`): only their bodies tell whether they are the same
 * request, so they claim their keys themselves; see `receiveOnce`.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import { z } from 'zod';
import type { Executor } from '../database/client.ts';
import { type Answer, type Claim, type Idempotency, idempotencyHeader, idempotencyKey } from './idempotency.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `content`: the route claims the key itself. `false`: what it does is the same however often it is done. */
    idempotent?: 'content' | false;
  }
  interface FastifyRequest {
    /** The right to answer the key of this request, while it runs. */
    claim: Claim | undefined;
  }
}

const changing = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);
/** Header fields that say what is to be done. How a body is framed says nothing of it. */
const decisive = ['if-match', 'if-none-match', 'upload-length', 'upload-defer-length', 'upload-metadata'] as const;
/** Header fields of an answer that belong to what it tells. */
const told = /^(content-type|content-location|location|etag|cache-control|asset-id|tus-|upload-)/;
const replayed = z.object({
  'Idempotency-Replayed': z
    .string()
    .optional()
    .meta({ description: '`true`: the first answer to this Idempotency-Key, sent again' }),
});

/** The name under which a request is remembered. */
export function operationOf({ routeOptions }: FastifyRequest): string {
  return routeOptions.schema?.operationId ?? `${routeOptions.method} ${routeOptions.url}`;
}

/** Writes the answer of a request in the transaction of what it tells; without a key, nothing. */
export function answering({ claim }: FastifyRequest): (transaction: Executor, answer: Answer) => Promise<void> {
  return async (transaction, answer) => claim?.commit(transaction, answer);
}

/** The same where a transaction is only needed for it: undefined without a key. */
export function answeringIfNamed(request: FastifyRequest): ReturnType<typeof answering> | undefined {
  return request.claim && answering(request);
}

/** Sends an answer, be it a first one or a replay; the body has the shape of the operation, or is a problem document. */
export function sendAnswer(reply: FastifyReply, { status, headers, body }: Answer): never {
  reply.code(status).headers(headers);
  // The schema of the success knows no problem documents, and what is sent again was checked when it was sent first.
  if (status >= 400) reply.serializer((document) => JSON.stringify(document));
  return reply.send(body) as never;
}

/**
 * Makes a change that is answered by 204.
 * @param change runs `commit` in its transaction; resolves with false when it found nothing to change
 * @returns whether there was something; then it is answered
 */
export async function sendNoContent(
  request: FastifyRequest,
  reply: FastifyReply,
  change: (commit: (transaction: Executor) => Promise<void>) => Promise<boolean>,
): Promise<boolean> {
  const answer = { status: 204, headers: {}, body: undefined };
  const commit = answering(request);
  const isDone = await change((transaction) => commit(transaction, answer));
  if (isDone) sendAnswer(reply, answer);
  return isDone;
}

/** Installs the rule; call before any route is registered, and before their documents are written. */
export function honourIdempotencyKeys(app: FastifyInstance, idempotency: Idempotency): void {
  app.decorateRequest('claim', undefined);
  app.addHook('onRoute', declareKey);
  app.addHook('preHandler', async (request, reply) => {
    if (!isClaimedHere(request)) return undefined;
    const key = idempotencyKey(request.headers['idempotency-key']);
    if (key === undefined) return undefined;
    const { params, query, body, headers } = request;
    const content = [params, query, body, decisive.map((name) => headers[name])];
    const claim = await idempotency.claim(request.caller, key, { operation: operationOf(request), content });
    if (claim.kind === 'replay') return sendAnswer(reply, claim.answer);
    request.claim = claim;
    return undefined;
  });
  app.addHook('onSend', async (request, reply, payload) => {
    const { claim } = request;
    if (!claim) return payload;
    request.claim = undefined;
    const headers = Object.entries(reply.getHeaders()).filter(([name]) => told.test(name));
    await claim.end({
      status: reply.statusCode,
      headers: Object.fromEntries(headers.map(([name, value]) => [name, String(value)])),
      body: typeof payload === 'string' && payload !== '' ? payload : null,
    });
    return payload;
  });
  // An answer that nobody could be sent.
  app.addHook('onResponse', async (request) => request.claim?.close());
}

/** What answers to a caller and changes something, unless its route says otherwise. */
function isClaimedHere({ routeOptions: { method, config, schema } }: FastifyRequest): boolean {
  return (
    config.idempotent === undefined &&
    config.public !== true &&
    schema?.operationId !== undefined &&
    [method].flat().some((each) => each !== undefined && changing.has(each))
  );
}

/** Puts the header field and its problems into the contract of the operation. */
function declareKey(route: RouteOptions): void {
  const { schema, config = {} } = route;
  if (![route.method].flat().some((method) => changing.has(method)) || schema?.operationId === undefined) return;
  if (config.public === true || config.idempotent === false) return;
  const { headers } = schema;
  route.schema = {
    ...schema,
    headers: headers instanceof z.ZodObject ? headers.extend(idempotencyHeader.shape) : idempotencyHeader,
  };
  const { success, problems = [] } = config;
  const successHeaders = success?.headers;
  const documented = successHeaders === undefined ? replayed : undefined;
  route.config = {
    ...config,
    problems: [...new Set([...problems, 'request-in-progress' as const, 'idempotency-key-reused' as const])],
    ...(success && {
      success: {
        ...success,
        headers:
          documented ??
          (successHeaders instanceof z.ZodObject
            ? successHeaders.extend(replayed.shape)
            : (successHeaders ?? replayed)),
      },
    }),
  };
}
