/**
 * One line per request, after the answer: request id, caller, operation, bytes, duration. Never the URL, which may hold
 * a link's signature or a file name, and never a header: those hold tokens.
 */
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { v4 as uuidv4 } from 'uuid';
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
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    bytesAtStart.set(request.raw, request.raw.socket.bytesRead);
    // `onResponse` is not called for an exchange that the client broke off.
    reply.raw.once('close', () => {
      const { config } = request.routeOptions;
      const operation =
        request.routeOptions.schema?.operationId ?? (request.is404 ? 'none' : (request.routeOptions.url ?? 'none'));
      const seconds = reply.elapsedTime / 1000;
      const finished = reply.raw.writableFinished;
      metrics.request(operation, finished ? reply.statusCode : 499, seconds);
      if (config.logRequests === false) return;
      const caller = Object.getOwnPropertyDescriptor(request, 'caller')?.value?.id;
      const trace = TRACE_PARENT.exec(String(request.headers.traceparent ?? ''))?.[1];
      const { id } = request.params instanceof Object && 'id' in request.params ? request.params : { id: undefined };
      request.log.info(
        {
          ...(caller !== undefined && { caller }),
          operation,
          method: request.method,
          ...(typeof id === 'string' && /^[0-9a-f-]{36}$/i.test(id) && { assetId: id }),
          status: finished ? reply.statusCode : 499,
          bytesIn: Number(
            request.headers['content-length'] ?? request.raw.socket.bytesRead - (bytesAtStart.get(request.raw) ?? 0),
          ),
          bytesOut: Number(reply.getHeader('content-length') ?? 0),
          milliseconds: Math.round(seconds * 1000),
          ...(trace !== undefined && { trace }),
        },
        finished ? 'request' : 'request broken off',
      );
    });
  });
}
