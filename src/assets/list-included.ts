/**
 * What a list tells of its assets beside their records, where it is asked for: a link to each, and what was made of it. Both come by one
 * statement more, whatever the page has.
 */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Caller } from '../access/caller.ts';
import { Problem } from '../problems.ts';
import type { AssetDocument } from './asset.ts';
import type { LinkIssuer } from './issued-links.ts';

/** Assets of a page that has more than records: so it has at most twice the bytes of another. */
export const MAX_INCLUDING = 100;
/** Derivatives of one asset that a list tells. */
const MAX_DERIVATIVES = 16;

const parts = ['links', 'derivatives'] as const;
const BAD_PARTS = 'must be links, derivatives, or both with a comma';

/** To be added to the query of a list. */
export const includeQuery = {
  include: z
    .string()
    .transform((text) => text.split(','))
    .pipe(z.array(z.enum(parts, { error: BAD_PARTS }), { error: BAD_PARTS }))
    .refine((all) => new Set(all).size === all.length, BAD_PARTS)
    .optional()
    .meta({
      override: { type: 'string', enum: ['links', 'derivatives', 'links,derivatives'] },
      description: `What else to tell of each asset: \`links\` is a download link, as \`createDownloadLinks\` gives it, and counts as so many requests; \`derivatives\` is what was made of it, ${MAX_DERIVATIVES} at most. Such a page has at most ${MAX_INCLUDING} assets`,
      example: 'links,derivatives',
    }),
};
type Parts = readonly (typeof parts)[number][];

/** Adds them to the documents of a page. */
export async function includeIn(
  request: FastifyRequest & { caller: Caller },
  documents: readonly AssetDocument[],
  { include, issuer }: { include: Parts | undefined; issuer: LinkIssuer },
): Promise<AssetDocument[]> {
  if (include === undefined || documents.length === 0) return [...documents];
  const [withLinks, withDerivatives] = parts.map((part) => include.includes(part));
  if (withLinks) request.countAs(documents.length);
  const ids = documents.map(({ id }) => id);
  const found = await issuer.describe(request, ids, {
    withLinks: withLinks === true,
    withDerivatives: withDerivatives === true,
  });
  return documents.map((document, index) => {
    const { link, derivatives } = found[index] ?? {};
    return {
      ...document,
      ...(link && !(link instanceof Problem) && { link: { url: link.url, expiresAt: link.expiresAt.toISOString() } }),
      ...(derivatives && { derivatives: derivatives.slice(0, MAX_DERIVATIVES) }),
    };
  });
}
