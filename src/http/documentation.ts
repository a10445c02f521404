/** The contract over HTTP: `/openapi.json`, `/openapi.yaml`, `/openapi-3.0.json` for older generators, and `/docs`, a reference page that needs nothing from elsewhere. */
import { createHash } from 'node:crypto';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { Problem } from '../problems.ts';
import { pathOf } from './known-paths.ts';
import type { App, Tag, useZod } from './openapi.ts';
import { toOpenApi30 } from './openapi-3.0.ts';
import { type SharedFile, sendShared, sharedFile } from './shared-file.ts';

/** For everybody, from buffers that all answers share. */
const open = { config: { public: true, sharedAnswer: true } } as const;

const description = `Stowage stores the files of an application: streamed in, checked by their bytes, counted against a quota, and served
by short-lived links. Every error is a problem document (RFC 9457) whose \`type\` is stable. Sizes are bytes, times are
RFC 3339 in UTC, ids are UUIDv7.`;

export interface DocumentationOptions {
  /** Writes the document of all routes; see `useZod`. */
  write: ReturnType<typeof useZod>;
  version: string;
  tags: readonly Tag[];
}

/** @returns a function that writes the OpenAPI document */
export function documentation(app: App, { write, version, tags }: DocumentationOptions): () => Promise<object> {
  const writeOpenApi = () =>
    write({
      openapi: '3.1.0',
      info: { title: 'Stowage', version, description, license: { name: 'MIT', identifier: 'MIT' } },
      servers: [{ url: '/', description: 'The server that sent this document' }],
      security: [{ bearer: [] }],
      tags: [...tags],
      components: {
        securitySchemes: {
          bearer: {
            type: 'http',
            scheme: 'bearer',
            description:
              'A JWT of your issuer; an API key of a server (`stw_...`); or an upload ticket of a browser (`stt_...`), which may upload and see what became of it. Who has the scope `act-for` may send `Stowage-Subject: user-123` with any request, and speaks for that subject.',
          },
        },
      },
    });

  const files = new SharedFiles();
  app.get('/openapi.json', open, async (request, reply) =>
    files.send(request, reply, async () => [JSON.stringify(await writeOpenApi()), 'application/json; charset=utf-8']),
  );
  app.get('/openapi-3.0.json', open, async (request, reply) =>
    files.send(request, reply, async () => [
      JSON.stringify(toOpenApi30(await writeOpenApi())),
      'application/json; charset=utf-8',
    ]),
  );
  app.get('/openapi.yaml', open, async (request, reply) =>
    files.send(request, reply, async () => [await openApiYaml(await writeOpenApi()), 'application/yaml']),
  );
  referencePage(app, files, writeOpenApi);
  return writeOpenApi;
}

export async function openApiYaml(document: object): Promise<string> {
  const { stringify } = await import('yaml');
  return stringify(document, { lineWidth: 120, aliasDuplicateObjects: false });
}

/** Files by their path, made when somebody asks for them, once. */
class SharedFiles {
  readonly #files = new Map<string, Promise<SharedFile>>();

  /** @param make its content, media type and further header fields; what it throws is the answer, and is not kept */
  async send(
    request: FastifyRequest,
    reply: FastifyReply,
    make: () => Promise<[content: string | Buffer, type: string, headers?: Record<string, string>]>,
  ): Promise<FastifyReply> {
    const path = pathOf(request);
    let file = this.#files.get(path);
    if (!file) {
      file = make().then(([content, type, headers]) => sharedFile(Buffer.from(content), type, headers));
      this.#files.set(path, file);
      file.catch(() => this.#files.delete(path));
    }
    return sendShared(request, reply, await file);
  }
}

/**
 * Scalar's page with everything off that would ask another host for something. It is 4 MB of script, so it is loaded
 * when somebody asks for it, into an application of its own whose answers are kept and passed on.
 */
function referencePage(app: App, files: SharedFiles, writeOpenApi: () => Promise<object>): void {
  let loaded: Promise<FastifyInstance> | undefined;
  const load = async (): Promise<FastifyInstance> => {
    const { default: scalar } = await import('@scalar/fastify-api-reference');
    const page = Fastify();
    await page.register(scalar, {
      routePrefix: '/docs',
      configuration: {
        content: withoutTicks(JSON.parse(JSON.stringify(await writeOpenApi()))),
        withDefaultFonts: false,
        telemetry: false,
        showDeveloperTools: 'never',
        hideClientButton: true,
        agent: { disabled: true },
        mcp: { disabled: true },
      },
    });
    return page;
  };
  for (const path of ['/docs', '/docs/*']) {
    app.get(path, open, async (request, reply) => {
      // The page names its script relative to itself.
      if (pathOf(request) === '/docs') return reply.redirect('/docs/', 302);
      return files.send(request, reply, async () => {
        loaded ??= load();
        const answer = await (await loaded).inject({ method: 'GET', url: pathOf(request) });
        if (answer.statusCode !== 200)
          throw new Problem('not-found', { detail: 'The reference has no such page. It begins at /docs.' });
        const type = String(answer.headers['content-type'] ?? '');
        // The page has one inline script, which is allowed by its hash, and inline styles.
        const isPage = type.startsWith('text/html');
        return [answer.rawPayload, type, isPage ? { 'content-security-policy': pagePolicy(answer.payload) } : {}];
      });
    });
  }
}

interface ReferencedParameter {
  required?: boolean;
  example?: unknown;
  schema?: { example?: unknown; default?: unknown };
  examples?: Record<string, { value: unknown; 'x-disabled': boolean }>;
}

/** Scalar sends each parameter that has an example or a default, unless the example says that it is not ticked. */
function withoutTicks<Document extends { paths?: Record<string, Record<string, unknown>> }>(
  document: Document,
): Document {
  for (const operations of Object.values(document.paths ?? {}))
    for (const operation of Object.values(operations) as { parameters?: ReferencedParameter[] }[])
      for (const parameter of operation.parameters ?? []) {
        if (parameter.required) continue;
        const value = parameter.example ?? parameter.schema?.example ?? parameter.schema?.default ?? '';
        parameter.examples = { default: { value, 'x-disabled': true } };
        delete parameter.example;
      }
  return document;
}

function pagePolicy(page: string): string {
  const hashes = [...page.matchAll(/<script(?![^>]*\ssrc=)[^>]*>([\s\S]*?)<\/script>/g)].map(
    ([, script]) =>
      `'sha256-${createHash('sha256')
        .update(script ?? '')
        .digest('base64')}'`,
  );
  return [
    "default-src 'none'",
    `script-src 'self' ${hashes.join(' ')}`,
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}
