/**
 * One line per request, after the answer: request id, caller, operation, bytes, duration. Never the URL, which may hold
 * a link's signature or a file name, and never a header: those hold tokens.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { v4 as uuidv4 } from 'uuid';
import { callerIdOf } from './authentication.ts';
import { LogThrottle } from './log-throttle.ts';
import type { Metrics } from './metrics.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `false`: not logged, as probes are. */
    logRequests?: boolean;
  }
}

/** A client's X-Request-Id is taken when it is harmless. */
export function requestIdOf(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[A-Za-z0-9._-]{1,128}$/.test(given) ? given : uuidv4();
}

/** W3C Trace Context: version, trace id, parent id, flags. */
const TRACE_PARENT = /^[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

export function logRequests(app: FastifyInstance, metrics: Metrics): void {
  const bytesAtStart = new WeakMap<IncomingMessage, number>();
  const throttle = new LogThrottle();
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    bytesAtStart.set(request.raw, request.raw.socket.bytesRead);
    // `onResponse` is not called for an exchange that the client broke off.
    reply.raw.once('close', () => {
      const { config } = request.routeOptions;
      const finished = reply.raw.writableFinished;
      const seconds = reply.elapsedTime / 1000;
      metrics.request(operationOf(request), finished ? reply.statusCode : 499, seconds);
      if (config.logRequests === false) return;
      const log = (more: object) =>
        request.log.info(
          { ...told(request, reply, bytesAtStart), ...more },
          finished ? 'request' : 'request broken off',
        );
      // Refusals of those who ask too much are many, and all alike.
      if (finished && (reply.statusCode === 429 || reply.statusCode === 503))
        throttle.log(`${reply.statusCode} ${reply.problem}`, log);
      else log({});
    });
  });
}

/** What a line says of a request. */
function told(request: FastifyRequest, reply: FastifyReply, bytesAtStart: WeakMap<IncomingMessage, number>) {
  const { raw, headers } = request;
  const caller = callerIdOf(request);
  const trace = TRACE_PARENT.exec(String(headers.traceparent ?? ''))?.[1];
  // Node takes the socket away from a request that was destroyed, whatever the type says.
  const socket: Socket | null = raw.socket;
  const read = (socket?.bytesRead ?? 0) - (bytesAtStart.get(raw) ?? 0);
  return {
    ...(caller !== undefined && { caller }),
    operation: operationOf(request),
    method: request.method,
    ...subjectOf(request, reply),
    status: reply.raw.writableFinished ? reply.statusCode : 499,
    ...(reply.problem !== undefined && { problem: reply.problem }),
    bytesIn: Number(headers['content-length'] ?? Math.max(0, read)),
    bytesOut: Number(reply.getHeader('content-length') ?? 0),
    milliseconds: Math.round(reply.elapsedTime),
    ...(trace !== undefined && { trace }),
  };
}

function operationOf(request: FastifyRequest): string {
  const { schema, url } = request.routeOptions;
  return schema?.operationId ?? (request.is404 ? 'none' : (url ?? 'none'));
}

/** What ids are of, by the word that comes before them in addresses; an upload is the asset that it becomes. */
const subjects = {
  assets: 'assetId',
  uploads: 'assetId',
  resumable: 'assetId',
  keys: 'keyId',
  tickets: 'ticketId',
  scans: 'scanId',
} as const;
const addressed = new RegExp(
  `/(${Object.keys(subjects).join('|')})/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![^/?])`,
  'i',
);

/** What the request is about, by its path; what it has made is in the answer. */
function subjectOf(request: FastifyRequest, reply: FastifyReply): Record<string, string> {
  const asset = reply.getHeader('asset-id');
  for (const address of [request.url, `/assets/${asset}`, String(reply.getHeader('location') ?? '')]) {
    const [, word = '', id] = addressed.exec(address) ?? [];
    const name = Object.entries(subjects).find(([each]) => each === word.toLowerCase())?.[1];
    if (name !== undefined && id !== undefined) return { [name]: id };
  }
  return {};
}
