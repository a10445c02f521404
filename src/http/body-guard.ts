/**
 * Bodies that nobody should wait for, or read to the end.
 *
 * - An answer may be given before the body was read: a 401, a 413, a refusal in the middle of a file. The client gets to
 *   read it only if the connection lives on for a moment, but reading on for ever would be a gift to attackers. So after
 *   such an answer at most LINGER_BYTES are taken and dropped, and after LINGER_TIME the connection is closed. Not before:
 *   a connection that is closed while bytes wait in it is reset, and who is still sending then finds that error before
 *   the answer. nginx makes a 502 of it.
 * - `Expect: 100-continue` (RFC 9110 section 10.1.1) is answered when the body is wanted, so a refused upload is never sent.
 * - A JSON body must arrive whole within a time limit; uploads have a minimum rate instead (uploads/metered-source.ts).
 */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { PassThrough, pipeline } from 'node:stream';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Problem } from '../problems.ts';

/** Bytes. */
export const MAX_JSON_BODY = 64 * 1024;
const LINGER_BYTES = 1024 * 1024;
/** Milliseconds; as long as nginx waits in the same situation (lingering_timeout). */
const LINGER_TIME = 5000;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The handler reads the body itself, as a stream, and says when it wants it (`wantBody`). */
    streamsBody?: boolean;
  }
}

const expecting = new WeakMap<IncomingMessage, ServerResponse>();
/** Expect another thing than 100-continue. */
const expectingTooMuch = new WeakSet<IncomingMessage>();

/** @param bodyTimeout milliseconds for a whole JSON body */
export function guardBodies(app: FastifyInstance, bodyTimeout: number): void {
  app.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    expecting.set(request, response);
    app.server.emit('request', request, response);
  });

  app.server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    expectingTooMuch.add(request);
    app.server.emit('request', request, response);
  });

  app.addHook('onRequest', async (request) => {
    if (expectingTooMuch.has(request.raw))
      throw new Problem('expectation-failed', { detail: 'Only Expect: 100-continue is known here.' });
    // Bodies are taken as they are: a compressed one would be validated by bytes that are not the file's.
    const encoding = request.headers['content-encoding'];
    if (encoding !== undefined && encoding !== '' && encoding.toLowerCase() !== 'identity') {
      throw new Problem('unsupported-media-type', {
        detail: 'A body with a Content-Encoding is not accepted. Send it as it is.',
        headers: { 'accept-encoding': 'identity' },
      });
    }
  });

  app.addHook('preParsing', async (request, _reply, payload) => {
    if (request.routeOptions.config.streamsBody || !hasBody(request)) return payload;
    wantBody(request);
    const guarded = new PassThrough();
    const timer = setTimeout(
      () =>
        guarded.destroy(
          Object.assign(new Problem('request-timeout', { detail: 'The body did not arrive in time.', retryAfter: 1 }), {
            statusCode: 408,
          }),
        ),
      bodyTimeout,
    );
    pipeline(payload, guarded, () => clearTimeout(timer));
    return guarded;
  });

  app.addHook('onSend', async (request, reply) => {
    const { raw } = request;
    if (raw.complete || !hasBody(request)) return;
    // RFC 9112, section 9.3: without the rest of this request, nobody could tell where the next one begins.
    reply.header('connection', 'close');
    if (expecting.has(raw)) return;
    // Asked for once, the body is ours: otherwise Node would read and drop all of it when the answer is sent.
    raw.read(0);
    // With the answer written, Node closes the connection by this.
    const socket = socketOf(raw);
    if (socket) socket.destroySoon = () => linger(raw, socket);
  });
}

/** Tells a client that waits for 100 Continue that its body is wanted. */
export function wantBody(request: FastifyRequest): void {
  const response = expecting.get(request.raw);
  if (!response) return;
  expecting.delete(request.raw);
  response.writeContinue();
}

/** Whether the request says that it has a body; a chunked one may be empty. */
export function hasBody(request: FastifyRequest): boolean {
  return hasBodyFields(request.headers);
}

export function hasBodyFields({
  'content-length': length,
  'transfer-encoding': encoding,
}: IncomingHttpHeaders): boolean {
  return encoding !== undefined || (length !== undefined && length !== '0');
}

/** The client waits for 100 Continue, and sends nothing before. */
export function isExpecting(request: IncomingMessage): boolean {
  return expecting.has(request);
}

/** Node takes the socket away from a request that was destroyed, whatever the type says. */
function socketOf(request: IncomingMessage): Socket | null {
  return request.socket;
}

/** Says that nothing more will be sent, and waits for the client to say so too. */
function linger(request: IncomingMessage, socket: Socket): void {
  if (socket.destroyed) return;
  socket.end();
  // Whoever read the body before has ended, but may have left its listeners.
  request.unpipe();
  request.removeAllListeners('readable');
  const timer = setTimeout(() => socket.destroy(), LINGER_TIME);
  let dropped = 0;
  request.on('data', (chunk: Buffer) => {
    dropped += chunk.length;
    // From here on the client cannot send: what it sees next is the answer.
    if (dropped > LINGER_BYTES) request.pause();
  });
  socket.once('close', () => clearTimeout(timer));
  request.on('error', () => {});
  request.resume();
}
