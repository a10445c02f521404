/**
 * Which paths there are and which methods each has, for 404, 405, OPTIONS and `Allow` (RFC 9110 section 10.2.1). A
 * word that stands in a path of ours is no id: `/v1/assets/batch` is not the asset `batch`, whatever method is asked for.
 */
import type { FastifyContextConfig, FastifyInstance, FastifyRequest } from 'fastify';
import { Problem } from '../problems.ts';
import type { RefusalLimit } from './refusal-limit.ts';

interface Node {
  children: Map<string, Node>;
  parameter?: Node;
  rest?: Node;
  methods: Set<string>;
  /** Of the first route at this path. */
  config?: FastifyContextConfig;
}

const nodeOf = (): Node => ({ children: new Map(), methods: new Set() });
/** In the order in which they are told; others follow. */
const ORDER = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];

export class KnownPaths {
  readonly #root = nodeOf();

  /** Takes down each route that is registered from now on. */
  constructor(app: FastifyInstance) {
    app.addHook('onRoute', ({ method, url, config }) => this.#add(url, [method].flat(), config));
  }

  /** @returns the methods of the resource; undefined when there is none at this path */
  methodsOf(path: string): string[] | undefined {
    const methods = this.#find(path)?.methods;
    return methods && methods.size > 0 ? sorted(methods) : undefined;
  }

  /** What is configured for the path, whatever method is asked for: OPTIONS has no route. */
  configFor(request: FastifyRequest): FastifyContextConfig | undefined {
    return request.is404 ? this.#find(pathOf(request))?.config : request.routeOptions.config;
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const segment of segmentsOf(path)) {
      const { children, parameter, rest }: Node = node;
      node = children.get(segment) ?? (segment === '' ? undefined : parameter);
      if (!node) return rest;
    }
    return node;
  }

  /** @throws Problem not-found, method-not-allowed */
  require(request: FastifyRequest): void {
    const methods = this.methodsOf(pathOf(request));
    if (!methods)
      throw new Problem('not-found', { detail: 'There is nothing at this path. See /docs for what there is.' });
    if (methods.includes(request.method)) return;
    throw new Problem('method-not-allowed', {
      detail: `This resource has ${methods.join(', ')}.`,
      headers: { allow: allowOf(methods) },
    });
  }

  #add(url: string, methods: string[], config: FastifyContextConfig | undefined): void {
    let node = this.#root;
    for (const segment of segmentsOf(url)) {
      if (segment === '*') node = node.rest ??= nodeOf();
      else if (segment.startsWith(':')) node = node.parameter ??= nodeOf();
      else {
        const child = node.children.get(segment) ?? nodeOf();
        node.children.set(segment, child);
        node = child;
      }
    }
    for (const method of methods) if (method !== 'OPTIONS') node.methods.add(method);
    if (config) node.config ??= config;
  }
}

/** Answers OPTIONS, and refuses what there is not, before anything else is done for it. */
export function answerUnknown(app: FastifyInstance, paths: KnownPaths, refusals: RefusalLimit): void {
  const refuse = (request: FastifyRequest) => {
    refusals.count(request.ip);
    paths.require(request);
  };
  app.addHook('onRequest', async (request, reply) => {
    if (request.method === 'OPTIONS') {
      // The route that has its own answer gives it.
      if (!request.is404) return;
      if (request.url !== '*' && !paths.methodsOf(pathOf(request))) refuse(request);
      return reply.code(204).send();
    }
    if (request.is404 || !paths.methodsOf(pathOf(request))?.includes(request.method)) refuse(request);
  });
  app.setNotFoundHandler((request) => paths.require(request));
}

/** Every resource answers OPTIONS. */
export function allowOf(methods: readonly string[]): string {
  return [...methods, 'OPTIONS'].join(', ');
}

/** Of the request, without its query. */
export function pathOf({ url }: Pick<FastifyRequest, 'url'>): string {
  return url.split(/[?#]/, 1)[0] ?? '/';
}

/** A slash at the end makes no difference. */
function segmentsOf(path: string): string[] {
  return path.replace(/(?<=.)\/$/, '').split('/');
}

function sorted(methods: Set<string>): string[] {
  const rank = (method: string) => (ORDER.includes(method) ? ORDER.indexOf(method) : ORDER.length);
  return [...methods].sort((a, b) => rank(a) - rank(b));
}
