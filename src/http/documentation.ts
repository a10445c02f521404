/** The contract over HTTP: `/openapi.json`, `/openapi.yaml`, `/openapi-3.0.json` for older generators, and `/docs`, a reference page that needs nothing from elsewhere. */
import { createHash } from 'node:crypto';
import Fastify, { type FastifyInstance } from 'fastify';
import { Problem } from '../problems.ts';
import type { App, Tag, useZod } from './openapi.ts';
import { toOpenApi30 } from './openapi-3.0.ts';

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
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } },
    });

  let json: string | undefined;
  let older: string | undefined;
  let yaml: string | undefined;
  const open = { config: { public: true } } as const;
  app.get('/openapi.json', open, async (_request, reply) => {
    json ??= JSON.stringify(await writeOpenApi());
    return reply.type('application/json').send(json);
  });
  app.get('/openapi-3.0.json', open, async (_request, reply) => {
    older ??= JSON.stringify(toOpenApi30(await writeOpenApi()));
    return reply.type('application/json').send(older);
  });
  app.get('/openapi.yaml', open, async (_request, reply) => {
    yaml ??= await openApiYaml(await writeOpenApi());
    return reply.type('application/yaml').send(yaml);
  });
  referencePage(app, writeOpenApi);
  return writeOpenApi;
}

export async function openApiYaml(document: object): Promise<string> {
  const { stringify } = await import('yaml');
  return stringify(document, { lineWidth: 120, aliasDuplicateObjects: false });
}

/**
 * Scalar's page with everything off that would ask another host for something. It is 4 MB of script, so it is loaded
 * when somebody asks for it, into an application of its own whose answers are passed on.
 */
function referencePage(app: App, writeOpenApi: () => Promise<object>): void {
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
    app.get(path, { config: { public: true } }, async (request, reply) => {
      loaded ??= load();
      const { statusCode, headers, rawPayload } = await (await loaded).inject({ method: 'GET', url: request.url });
      if (statusCode === 404)
        throw new Problem('not-found', { detail: 'The reference has no such page. It begins at /docs.' });
      const type = String(headers['content-type'] ?? '');
      // The page has one inline script, which is allowed by its hash, and inline styles.
      if (type.startsWith('text/html')) reply.header('content-security-policy', pagePolicy(rawPayload.toString()));
      if (headers.location !== undefined) reply.header('location', headers.location);
      return reply.code(statusCode).type(type).send(rawPayload);
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
