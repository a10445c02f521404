/** The contract over HTTP: `/openapi.json`, `/openapi.yaml`, and `/docs`, a reference page that needs nothing from elsewhere. */
import { createHash } from 'node:crypto';
import scalar from '@scalar/fastify-api-reference';
import { stringify } from 'yaml';
import type { App, useZod } from './openapi.ts';

const description = `Stowage stores the files of an application: streamed in, checked by their bytes, counted against a quota, and handed out
by short-lived links. Every error is a problem document (RFC 9457) whose \`type\` is stable. Sizes are bytes, times are
RFC 3339 in UTC, ids are UUIDv7.`;

/** Call after all routes are registered. @returns a function that writes the OpenAPI document */
export async function documentation(
  app: App,
  write: ReturnType<typeof useZod>,
  version: string,
): Promise<() => object> {
  const writeOpenApi = () =>
    write({
      openapi: '3.1.0',
      info: { title: 'Stowage', version, description, license: { name: 'MIT', identifier: 'MIT' } },
      servers: [{ url: '/', description: 'Where this document comes from' }],
      security: [{ bearer: [] }],
      tags: [
        { name: 'Uploads', description: 'Ways in' },
        { name: 'Assets', description: 'The catalogue' },
        { name: 'Downloads', description: 'Ways out' },
        { name: 'Quotas', description: 'What an owner may store, and does' },
        { name: 'Administration', description: 'Needs the scope `admin`' },
      ],
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } },
    });

  let json: string | undefined;
  let yaml: string | undefined;
  const open = { config: { public: true } } as const;
  app.get('/openapi.json', open, async (_request, reply) => {
    json ??= JSON.stringify(writeOpenApi());
    return reply.type('application/json').send(json);
  });
  app.get('/openapi.yaml', open, async (_request, reply) => {
    yaml ??= openApiYaml(writeOpenApi());
    return reply.type('application/yaml').send(yaml);
  });
  await referencePage(app, writeOpenApi);
  return writeOpenApi;
}

export function openApiYaml(document: object): string {
  return stringify(document, { lineWidth: 120, aliasDuplicateObjects: false });
}

/** Scalar's page with everything off that would ask another host for something. */
async function referencePage(app: App, writeOpenApi: () => object): Promise<void> {
  await app.register(async (scope) => {
    scope.addHook('onRoute', (route) => {
      route.config = { ...route.config, public: true };
    });
    // The page has one inline script, which is allowed by its hash, and inline styles.
    scope.addHook('onSend', async (_request, reply, payload) => {
      const type = String(reply.getHeader('content-type') ?? '');
      if (type.startsWith('text/html') && typeof payload === 'string')
        reply.header('content-security-policy', pagePolicy(payload));
      return payload;
    });
    await scope.register(scalar, {
      routePrefix: '/docs',
      configuration: {
        content: () => writeOpenApi() as Record<string, unknown>,
        withDefaultFonts: false,
        telemetry: false,
        showDeveloperTools: 'never',
        hideClientButton: true,
        agent: { disabled: true },
        mcp: { disabled: true },
      },
    });
  });
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
