/** Every error becomes a problem document here: ours, Fastify's, the parser's, the database's and the store's. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { errorCodes, type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { isConflict, isDatabaseUnavailable } from '../database/client.ts';
import { ClientGone, Problem, type ProblemType, RETRY_SOON, unavailable } from '../problems.ts';
import { type ObjectStoreRefused, ObjectStoreUnavailable, refusalIn } from '../storage/object-store.ts';
import { NoBufferFree } from '../storage/part-buffers.ts';
import { callerIdOf } from './authentication.ts';
import { MAX_JSON_BODY } from './body-guard.ts';
import type { CrossOrigin } from './cross-origin.ts';
import { LogThrottle } from './log-throttle.ts';
import { networkOf } from './refusal-limit.ts';
import type { RefusalPace } from './refusal-pace.ts';

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';
/** A request whose header fields are too large has a URL that is, when this much of it is its first line. Bytes. */
const MAX_REQUEST_LINE = 8 * 1024;

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
  if (lacksDescriptors(error))
    return new Problem('overloaded', {
      detail: 'The service has no file descriptors left. Try again later.',
      retryAfter: RETRY_SOON,
      cause: error,
    });
  if (error instanceof ObjectStoreUnavailable) return unavailable('object store', error);
  if (isDatabaseUnavailable(error) || isConflict(error)) return unavailable('database', error);
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

/** EMFILE and ENFILE (open(2)), wherever they are wrapped: the limit of this process, or of the machine. */
function lacksDescriptors(error: unknown, depth = 5): boolean {
  if (!(error instanceof Error) || depth === 0) return false;
  if ('code' in error && (error.code === 'EMFILE' || error.code === 'ENFILE')) return true;
  return lacksDescriptors(error.cause, depth - 1);
}

declare module 'fastify' {
  interface FastifyReply {
    /** Type of the problem that is the answer. */
    problem?: ProblemType;
  }
  interface FastifyContextConfig {
    /** Sends a page instead of the problem document, to whoever wants one; false for others. The status is set already. */
    sendProblemPage?: (request: FastifyRequest, reply: FastifyReply, problem: Problem) => boolean;
  }
}

export function installErrorHandler(app: FastifyInstance, pace: RefusalPace): void {
  app.decorateReply('problem', undefined);
  const throttle = new LogThrottle();
  /** What is answered by 503 comes in crowds: the database is away, or there is too much to do. */
  const logFault = (request: FastifyRequest, problem: Problem, error: unknown) => {
    if (problem.status !== 503) request.log.error({ err: error }, problem.message);
    else throttle.log(problem.message, (more) => request.log.warn({ err: error, ...more }, problem.message));
  };
  app.setErrorHandler((error, request, reply) => {
    const problem = asProblem(error);
    if (problem instanceof ClientGone) {
      // Nobody is there to read an answer; ending the exchange frees the socket.
      reply.hijack();
      reply.raw.destroy();
      return;
    }
    reply.problem = problem.type;
    // What is not implemented (501) was asked for; it is no fault of the service.
    if (problem.status >= 500 && problem.status !== 501) logFault(request, problem, problem.cause ?? error);
    const told = problem.status === 429 ? pace.wait(refusedOf(request), reply.raw) : undefined;
    if (!told) {
      sendProblem(reply, request, problem);
      return;
    }
    return told.then(() => {
      sendProblem(reply, request, problem);
      return reply;
    });
  });
}

/** Who is refused: the caller, or whoever has the address. */
function refusedOf(request: FastifyRequest): string {
  const callerId = callerIdOf(request);
  return callerId === undefined ? `address ${networkOf(request.ip)}` : `caller ${callerId}`;
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
  reply.code(problem.status).headers({ 'cache-control': 'no-store', 'x-request-id': request.id, ...problem.headers });
  if (request.routeOptions.config.sendProblemPage?.(request, reply, problem)) return;
  reply
    .type(PROBLEM_MEDIA_TYPE)
    .serializer((document: unknown) => JSON.stringify(document))
    .send(problem.toDocument(request.id));
}

/** Of Node's parser, llhttp. */
interface ParserError extends Error {
  code?: string;
  /** In a few words of the parser's own, such as `Invalid header value char`. */
  reason?: unknown;
  rawPacket?: unknown;
}

/** Faults below HTTP: what cannot even be parsed gets a problem document all the same, written by hand. */
export function answerParserError(error: ParserError, socket: Socket, crossOrigin: CrossOrigin): void {
  if (socket.destroyed || error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const start = Buffer.isBuffer(error.rawPacket) ? error.rawPacket.toString('latin1') : '';
  const type = parserProblem(error.code, start);
  const problem = new Problem(type, { detail: parserDetail(type, error) });
  const body = JSON.stringify(problem.toDocument('none'));
  const origin = /^origin:[ \t]*([^\s]+)[ \t]*$/im.exec(start)?.[1];
  const fields = {
    'Content-Type': PROBLEM_MEDIA_TYPE,
    'Content-Length': String(Buffer.byteLength(body)),
    'Cache-Control': 'no-store',
    Connection: 'close',
    ...crossOrigin.fieldsFor(origin),
  };
  const head = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? ''}\r\n${head.join('')}\r\n${body}`);
  // The other side may never close.
  setTimeout(() => socket.destroy(), 1000).unref();
}

/** A body came too slowly, and whoever reads it does not end it. */
export function answerTimeout(socket: Socket, crossOrigin: CrossOrigin): void {
  const error = Object.assign(new Error('the body is too slow'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' });
  answerParserError(error, socket, crossOrigin);
}

/** @param start of what could not be parsed */
function parserProblem(code: string | undefined, start: string): ProblemType {
  const [line = ''] = start.split('\n', 1);
  if (code === 'HPE_HEADER_OVERFLOW') return line.length > MAX_REQUEST_LINE ? 'uri-too-long' : 'headers-too-large';
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'request-timeout';
  // RFC 9110 section 9.1: a method that is not known.
  if (code === 'HPE_INVALID_METHOD' && /^[A-Z][A-Z-]* \S+ HTTP\/1\.[01]\r?$/.test(line)) return 'not-implemented';
  return 'malformed-request';
}

function parserDetail(type: ProblemType, { reason }: ParserError): string {
  if (type === 'uri-too-long') return 'The URL is too long.';
  if (type === 'headers-too-large') return 'The header fields are too large together.';
  if (type === 'request-timeout') return 'The request did not arrive in time.';
  if (type === 'not-implemented') return 'There is no such method here.';
  return typeof reason === 'string' ? `The request cannot be read: ${reason}.` : 'The request cannot be read.';
}

/** Fastify's codes are part of its public API; a rename there must not turn a 4xx of ours into a 500. */
export const knownFastifyCodes = Object.keys(fastifyProblems).filter((code) => !(code in errorCodes));
