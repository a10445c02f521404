/**
 * Connections to the store, kept apart by what they are for: bytes that go up, bytes that come down, calls that are small,
 * and probes. However many of one kind are under way, and however slowly they go, the others find a connection; so a
 * service whose downloads are all taken takes uploads, and is ready.
 */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { HttpHandlerOptions, HttpRequest, HttpResponse } from '@smithy/core/protocols';
import { NodeHttpHandler, type NodeHttpHandlerOptions } from '@smithy/node-http-handler';

export type Pool = 'uploads' | 'downloads' | 'calls' | 'probes';
/** Connections at most. */
export type PoolSizes = Readonly<Record<Pool, number>>;

/** The HTTP handler of a client; each pool is made when it is first needed. */
export class SocketPools {
  readonly metadata = { handlerProtocol: 'http/1.1' };
  readonly #sizes: PoolSizes;
  readonly #options: Omit<NodeHttpHandlerOptions, 'httpAgent' | 'httpsAgent'>;
  readonly #handlers = new Map<Pool, NodeHttpHandler>();

  constructor(sizes: PoolSizes, options: Omit<NodeHttpHandlerOptions, 'httpAgent' | 'httpsAgent'>) {
    this.#sizes = sizes;
    this.#options = options;
  }

  handle(request: HttpRequest, options?: HttpHandlerOptions): Promise<{ response: HttpResponse }> {
    return this.#handler(poolOf(request)).handle(request, options);
  }

  destroy(): void {
    for (const handler of this.#handlers.values()) handler.destroy();
    this.#handlers.clear();
  }

  /** The SDK sets nothing after the client was made. */
  updateHttpClientConfig(): void {}

  httpHandlerConfigs(): NodeHttpHandlerOptions {
    return this.#options;
  }

  #handler(pool: Pool): NodeHttpHandler {
    let handler = this.#handlers.get(pool);
    if (!handler) {
      const agent = { keepAlive: true, maxSockets: this.#sizes[pool], scheduling: 'lifo' as const };
      handler = new NodeHttpHandler({
        ...this.#options,
        httpAgent: new HttpAgent(agent),
        httpsAgent: new HttpsAgent(agent),
      });
      this.#handlers.set(pool, handler);
    }
    return handler;
  }
}

/** By what the request carries: every key of ours has a slash in it, so what has none is the bucket itself. */
function poolOf({ method, path, query }: HttpRequest): Pool {
  if (method === 'PUT') return 'uploads';
  const isList = query !== undefined && ('uploads' in query || 'uploadId' in query || 'list-type' in query);
  const isObject = path.split('/').filter((segment) => segment !== '').length > 2;
  if (method === 'GET' && isObject && !isList) return 'downloads';
  return method === 'HEAD' && !isObject ? 'probes' : 'calls';
}
