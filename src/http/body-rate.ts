/**
 * Every body has a lowest rate, whoever reads it: a form between its parts as well as a file. Counted are the bytes of the
 * body, and not what frames them: sizes and extensions of chunks and trailers (RFC 9112 section 7.1) may come as they like
 * and keep nothing alive. Time counts while the body is wanted and nothing of it is there to be read.
 *
 * Uploads and JSON bodies have limits of their own that answer first, by problems of their own; this one is for the rest.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { hasBodyFields, isExpecting } from './body-guard.ts';
import { Pace } from './pace.ts';

/** Milliseconds. */
const LOOK_EVERY = 1000;
/** How much longer than the limits of uploads. */
const PATIENCE = 1.5;

export interface BodyRateOptions {
  /** Bytes per second; 0 for no limit. */
  minimumRate: number;
  /** Milliseconds of waiting before anything must have come. */
  grace: number;
  /** Answers and closes the connection. */
  onSlow: (request: IncomingMessage) => void;
}

interface Body {
  pace: Pace;
  at: number;
  response: ServerResponse;
}

export class BodyRate {
  readonly #options: BodyRateOptions;
  readonly #bodies = new Map<IncomingMessage, Body>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: BodyRateOptions) {
    this.#options = options;
  }

  watch(request: IncomingMessage, response: ServerResponse): void {
    const { minimumRate: rate, grace } = this.#options;
    if (rate === 0 || !hasBodyFields(request.headers)) return;
    const pace = new Pace({ rate, grace: grace * PATIENCE });
    const push = request.push;
    request.push = (chunk: Buffer | null, encoding) => {
      if (chunk) pace.moved(chunk.length);
      return push.call(request, chunk, encoding);
    };
    this.#bodies.set(request, { pace, at: performance.now(), response });
    response.once('close', () => {
      this.#bodies.delete(request);
      if (this.#bodies.size === 0) this.#stop();
    });
    this.#timer ??= setInterval(() => this.#look(), Math.min(LOOK_EVERY, grace / 4)).unref();
  }

  #look(): void {
    const now = performance.now();
    for (const [request, body] of this.#bodies) {
      const waited = now - body.at;
      body.at = now;
      if (!isAwaited(request)) continue;
      body.pace.waited(waited);
      if (body.pace.balance > 0) continue;
      this.#bodies.delete(request);
      this.#options.onSlow(request);
    }
  }

  #stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** Somebody reads it, all that came was read, and it is not at its end. */
function isAwaited(request: IncomingMessage): boolean {
  return !request.complete && request.readableFlowing !== null && request.readableLength === 0 && !isExpecting(request);
}
