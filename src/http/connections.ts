/**
 * What comes over one connection: a request at a time. Requests that a client sends without waiting for answers
 * (pipelining, RFC 9112 section 9.3.2) are begun one after the other, so each connection holds one answer in memory and
 * occupies one place of anything. Answers come in the order of requests: bytes that are no request are answered after the
 * requests before them, or not at all when these have closed the connection.
 *
 * While the process drains, each answer says `Connection: close`, so that nobody sends the next request into a connection
 * that is about to close (RFC 9112 section 9.6). So the next request comes over a new connection. The kernel resets those
 * that it has taken for the process and the process not yet from the kernel when the listener closes, so it closes in
 * a turn of the event loop in which there was none.
 */
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { mostConnections } from '../descriptors.ts';

/** Requests of one connection that may wait; whoever sends more without waiting for answers is cut off after these. */
const MAX_PIPELINED = 100;

/** Where there is never such a turn, how long it is waited for. Milliseconds. */
const LONGEST_WAIT_FOR_QUIET = 1000;

/** What a connection carries. */
interface Line {
  current: { request: IncomingMessage; response: ServerResponse } | undefined;
  waiting: { request: IncomingMessage; response: ServerResponse }[];
  /** Nothing that came after the last of those that wait is answered. */
  isBroken: boolean;
}

export interface ConnectionsOptions {
  /** Told of each request before it is handled. */
  onRequest: (request: IncomingMessage, response: ServerResponse) => void;
  /** A connection was refused, because there are as many as there may be. */
  onRefused: (most: number) => void;
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #lines = new Map<Socket, Line>();
  /** More than one where a host name has several addresses. */
  readonly #servers: Server[] = [];
  #accepted = 0;
  #draining = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** For Fastify. */
  createServer(
    handler: RequestListener,
    { http, keepAliveTimeout }: { http: object; keepAliveTimeout: number },
  ): Server {
    const server = createServer(http, (request, response) => this.#receive(handler, request, response));
    server.keepAliveTimeout = keepAliveTimeout;
    // Bodies have lowest rates instead.
    server.requestTimeout = 0;
    const most = mostConnections();
    if (Number.isFinite(most)) server.maxConnections = most;
    server.on('drop', () => this.#options.onRefused(most));
    server.on('connection', () => {
      this.#accepted += 1;
    });
    this.#servers.push(server);
    return server;
  }

  /** From now on each answer closes its connection. */
  startDraining(): void {
    this.#draining = true;
    for (const { current } of this.#lines.values()) if (current) closeAfter(current.response);
  }

  /** Closes the listeners. Connections that are open go on, also those that carry nothing: a request may be on its way to us. */
  async stopAccepting(): Promise<void> {
    const since = performance.now();
    let accepted: number;
    do {
      accepted = this.#accepted;
      // A turn of the event loop takes one connection from each listener that has any.
      await turn();
    } while (accepted !== this.#accepted && performance.now() - since < LONGEST_WAIT_FOR_QUIET);
    // What http adds to it is to close connections that carry nothing.
    for (const server of this.#servers) NetServer.prototype.close.call(server);
  }

  /**
   * Something came that cannot be parsed.
   * @param answer writes the answer and closes the connection
   */
  parsingFailed(socket: Socket, answer: () => void): void {
    const line = this.#lines.get(socket);
    const current = line?.current;
    // There is no request before it, or it is within the one that is being handled.
    if (!line || !current || (!current.request.complete && !current.response.headersSent)) {
      answer();
      return;
    }
    if (line.isBroken) return;
    line.isBroken = true;
    // Whoever reads it knows that nothing else is answered.
    closeAfter((line.waiting.at(-1) ?? current).response);
  }

  #receive(handler: RequestListener, request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const line = this.#lineOf(socket);
    if (line.isBroken) return;
    if (!line.current) {
      this.#begin(handler, line, { request, response });
      return;
    }
    line.waiting.push({ request, response });
    if (line.waiting.length < MAX_PIPELINED) return;
    line.isBroken = true;
    closeAfter(response);
  }

  #begin(handler: RequestListener, line: Line, exchange: NonNullable<Line['current']>): void {
    const { request, response } = exchange;
    line.current = exchange;
    if (this.#draining) closeAfter(response);
    response.once('close', () => {
      line.current = undefined;
      const next = line.waiting.shift();
      if (next && !request.socket.destroyed) this.#begin(handler, line, next);
      else if (line.isBroken && !request.socket.writableEnded) request.socket.destroySoon();
    });
    this.#options.onRequest(request, response);
    handler(request, response);
  }

  #lineOf(socket: Socket): Line {
    let line = this.#lines.get(socket);
    if (!line) {
      line = { current: undefined, waiting: [], isBroken: false };
      this.#lines.set(socket, line);
      socket.once('close', () => this.#lines.delete(socket));
    }
    return line;
  }
}

/** Without effect when the header fields are sent already; then the connection closes all the same. */
function closeAfter(response: ServerResponse): void {
  response.shouldKeepAlive = false;
}
