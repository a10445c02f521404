/** Links for a page full of assets, by one request. */
import { z } from 'zod';
import type { App } from '../http/openapi.ts';
import { assetId, timestamp } from '../http/schema-types.ts';
import { Problem, problemDocument } from '../problems.ts';
import { derivativeName } from './derivative-names.ts';
import { disposition, linkLifetime } from './downloads.ts';
import type { IssuedLink, LinkIssuer } from './issued-links.ts';
import { linkUrl } from './link-document.ts';

/** As many as a page of a list has. */
const MAX_LINKS = 200;
const BAD_COUNT = `must be 1 to ${MAX_LINKS} ids`;

const wishes = z
  .strictObject({
    ids: z
      .array(assetId, { error: BAD_COUNT })
      .min(1, BAD_COUNT)
      .max(MAX_LINKS, BAD_COUNT)
      .meta({ description: 'An id that is named twice has the same outcome twice' }),
    derivative: derivativeName.optional().meta({
      description: 'Of this derivative of each asset, instead of the file itself',
      example: 'thumbnail',
    }),
    disposition,
    expiresIn: linkLifetime.optional(),
  })
  .meta({ id: 'LinkWishes' });

const issued = z
  .object({
    results: z
      .array(
        z
          .object({
            id: z.string().meta({ override: { type: 'string', format: 'uuid' } }),
            status: z
              .number()
              .int()
              .meta({ override: { type: 'integer' }, description: '200, or the status of the problem' }),
            url: linkUrl.optional(),
            expiresAt: timestamp.optional(),
            problem: problemDocument.optional().meta({ description: 'There when there is no link' }),
          })
          .meta({ id: 'LinkResult' }),
      )
      .meta({ description: 'One per id, in the order of the request' }),
  })
  .meta({ id: 'IssuedLinks' });

export function manyLinksRoute(app: App, issuer: LinkIssuer): void {
  app.post(
    '/v1/links',
    {
      schema: {
        operationId: 'createDownloadLinks',
        tags: ['Downloads'],
        summary: `Get download links for up to ${MAX_LINKS} assets`,
        description:
          'Each link is the one that `createDownloadLink` gives. Each asset has an outcome of its own; one that is not there for you is unknown. It counts as so many requests as it has ids.',
        body: wishes,
        response: { 200: issued },
      },
      config: {
        action: 'asset.download',
        // Asked again, it gives the same links, or those of the next window; a kept answer would have ended.
        idempotent: false,
        success: { status: 200, description: 'An outcome per id' },
        problems: ['malformed-request', 'too-large', 'unsupported-media-type'],
      },
    },
    async (request, reply) => {
      const { ids, ...each } = request.body;
      request.countAs(ids.length);
      // Postgres writes ids in lower case.
      const named = ids.map((id) => id.toLowerCase());
      const distinct = [...new Set(named)];
      const outcomes = await issuer.issueMany(request, distinct, each);
      const byId = new Map(distinct.map((id, index) => [id, outcomes[index]]));
      reply.header('cache-control', 'no-store');
      return { results: named.map((id) => resultOf(id, byId.get(id), request.id)) };
    },
  );
}

function resultOf(
  id: string,
  outcome: IssuedLink | Problem | undefined,
  requestId: string,
): z.input<typeof issued>['results'][number] {
  if (!outcome) throw new Error(`the asset ${id} has no outcome`);
  if (outcome instanceof Problem) return { id, status: outcome.status, problem: outcome.toDocument(requestId) };
  return { id, status: 200, url: outcome.url, expiresAt: outcome.expiresAt.toISOString() };
}
