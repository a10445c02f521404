/** Every error becomes a problem document here: ours, Fastify's, the parser's, the database's and the store's. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { errorCodes, type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { isDatabaseUnavailable } from '../database/client.ts';
import {
  ClientGone,
  Problem,
  type ProblemType,
  problemTitle,
  problemUri,
  RETRY_SOON,
  unavailable,
} from '../problems.ts';
import { type ObjectStoreRefused, ObjectStoreUnavailable, refusalIn } from '../storage/object-store.ts';
import { NoBufferFree } from '../storage/part-buffers.ts';
import { MAX_JSON_BODY } from './body-guard.ts';

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';

/** Fastify's own errors that are the client's doing. */
const fastifyProblems: Record<string, [ProblemType, string]> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    'unsupported-media-type',
    'Send the body with the Content-Type this operation documents.',
  ],
  FST_ERR_CTP_EMPTY_TYPE: ['unsupported-media-type', 'Name the Content-Type of the body.'],
  FST_ERR_CTP_BODY_TOO_LARGE: ['too-large', `A JSON body may have at most ${MAX_JSON_BODY / 1024} KiB.`],
  FST_ERR_CTP_EMPTY_JSON_BODY: ['malformed-request', 'The body is empty, but its Content-Type says JSON.'],
  FST_ERR_CTP_INVALID_JSON_BODY: [
    'malformed-request',
    'The body is not JSON, or names a field __proto__ or constructor.',
  ],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: [
    'incomplete-body',
    'The body does not have the length that Content-Length says.',
  ],
  FST_ERR_BAD_URL: ['malformed-request', 'The URL has a percent-encoding that is not UTF-8.'],
  FST_ERR_MAX_PARAM_LENGTH: ['uri-too-long', 'A segment of the URL is too long.'],
};

/** What went wrong, as the client is told. The one place where faults of the database and the object store are translated. */
export function asProblem(error: unknown): Problem | ClientGone {
  if (error instanceof Problem || error instanceof ClientGone) return error;
  const refusal = refusalIn(error);
  if (refusal) return storageRefused(refusal);
  if (error instanceof ObjectStoreUnavailable) return unavailable('object store', error);
  if (isDatabaseUnavailable(error)) return unavailable('database', error);
  if (error instanceof NoBufferFree)
    return new Problem('overloaded', {
      detail: 'The memory for uploads is taken. Try again later.',
      retryAfter: RETRY_SOON,
      cause: error,
    });
  const { code = '', statusCode } = error instanceof Error ? (error as Partial<FastifyError>) : {};
  const known = fastifyProblems[code];
  if (known) return new Problem(known[0], { detail: known[1], cause: error });
  // Others of Fastify, such as a JSON body with __proto__: all are about the request.
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new Problem('malformed-request', {
      detail: 'The request cannot be read. Check its body and header fields.',
      cause: error,
    });
  }
  return new Problem('internal-error', {
    detail: 'This is a defect of the service. It has been logged.',
    cause: error,
  });
}

/** For the operator, the log says which setting to look at. */
function storageRefused(refusal: ObjectStoreRefused): Problem {
  return new Problem('storage-refused', {
    detail:
      'The object store is not set up as the service needs it. Tell its operator; sending again does not help yet.',
    cause: new Error(`${refusal.message}: ${refusal.advice}`, { cause: refusal }),
  });
}

export function installErrorHandler(app: FastifyInstance): void {
  app.setErrorHandler((error, request, reply) => {
    const problem = asProblem(error);
    if (problem instanceof ClientGone) {
      // Nobody is there to read an answer; ending the exchange frees the socket.
      reply.hijack();
      reply.raw.destroy();
      return;
    }
    if (problem.status >= 500)
      request.log[problem.status === 503 ? 'warn' : 'error']({ err: problem.cause ?? error }, problem.message);
    sendProblem(reply, request, problem);
  });

  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0] ?? '/';
    const allowed = (['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const).filter((method) =>
      hasRoute(app, method, path),
    );
    if (allowed.length > 0) {
      sendProblem(
        reply,
        request,
        new Problem('method-not-allowed', {
          detail: `This resource has ${allowed.join(', ')}.`,
          headers: { allow: allowed.join(', ') },
        }),
      );
    } else
      sendProblem(
        reply,
        request,
        new Problem('not-found', { detail: 'There is nothing at this path. See /docs for what there is.' }),
      );
  });
}

export function sendProblem(reply: FastifyReply, request: FastifyRequest, problem: Problem): void {
  // Whatever the handler had prepared does not describe the problem.
  for (const name of [
    'content-length',
    'content-disposition',
    'content-range',
    'etag',
    'last-modified',
    'accept-ranges',
    'repr-digest',
  ])
    reply.removeHeader(name);
  reply
    .code(problem.status)
    .headers({ 'cache-control': 'no-store', 'x-request-id': request.id, ...problem.headers })
    .type(PROBLEM_MEDIA_TYPE)
    .serializer((document: unknown) => JSON.stringify(document))
    .send(problem.toDocument(request.id));
}

function hasRoute(
  app: FastifyInstance,
  method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
  path: string,
): boolean {
  try {
    return Boolean(app.findRoute({ method, url: path }) ?? matches(app, method, path));
  } catch {
    return false;
  }
}

/** `findRoute` compares patterns; a path with ids must be matched segment by segment. */
const patterns = new WeakMap<FastifyInstance, { method: string; segments: string[] }[]>();

export function rememberRoutes(app: FastifyInstance): void {
  const known: { method: string; segments: string[] }[] = [];
  patterns.set(app, known);
  app.addHook('onRoute', ({ method, url }) => {
    for (const each of [method].flat())
      if (url !== '*' && each !== 'OPTIONS') known.push({ method: each, segments: url.split('/') });
  });
}

function matches(app: FastifyInstance, method: string, path: string): boolean {
  const segments = path.split('/');
  return (patterns.get(app) ?? []).some(
    (route) =>
      route.method === method &&
      route.segments.length === segments.length &&
      route.segments.every((segment, index) =>
        segment.startsWith(':') ? segments[index] !== '' : segment === segments[index],
      ),
  );
}

/** Faults below HTTP: what cannot even be parsed gets a problem document all the same, written by hand. */
export function answerParserError(error: Error & { code?: string }, socket: Socket): void {
  if (socket.destroyed || error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const type: ProblemType =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? 'headers-too-large'
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? 'request-timeout'
        : 'malformed-request';
  const problem = new Problem(type);
  const body = JSON.stringify({
    type: problemUri(type),
    title: problemTitle(type),
    status: problem.status,
    requestId: 'none',
  });
  socket.end(
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? ''}\r\nContent-Type: ${PROBLEM_MEDIA_TYPE}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  // The other side may never close.
  setTimeout(() => socket.destroy(), 1000).unref();
}

/** Fastify's codes are part of its public API; a rename there must not turn a 4xx of ours into a 500. */
export const knownFastifyCodes = Object.keys(fastifyProblems).filter((code) => !(code in errorCodes));
