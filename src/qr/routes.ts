/** QR codes over HTTP. */
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { linkLifeOf } from '../access/tiers.ts';
import { contentDisposition } from '../assets/content-disposition.ts';
import { expiresIn } from '../assets/downloads.ts';
import { servable } from '../assets/issued-links.ts';
import type { AssetsRepository } from '../assets/repository.ts';
import { required } from '../assets/routes.ts';
import { dispositionOf } from '../assets/serving.ts';
import type { Database } from '../database/client.ts';
import type { DownloadLinks, Link } from '../http/download-links.ts';
import type { App } from '../http/openapi.ts';
import { conditionsOf, evaluateConditions, recordConditions } from '../http/preconditions.ts';
import { assetId, binary, projectId } from '../http/schema-types.ts';
import { assetNotFound, defineProblem, Problem } from '../problems.ts';
import { standingOf } from '../projects/places.ts';
import { projectNotFound } from '../projects/problems.ts';
import { type CodeFormat, MAX_TEXT, makeCode, toPng, toSvg, WRITER } from './code.ts';
import type { PageTemplate } from './templates.ts';

export const noProjectPage = defineProblem('no-project-page', {
  status: 404,
  title: 'The service does not know the pages of projects',
});
export const tooLongForCode = defineProblem('too-long-for-code', {
  status: 422,
  title: 'The address is too long for a QR code',
});

export interface QrRoutesOptions {
  database: Database;
  assets: AssetsRepository;
  /** Seconds that a link lives when the caller names none. */
  linkLife: number;
  links: DownloadLinks;
  /** Of an asset; its code is that of a download link when absent. */
  assetPage: PageTemplate | undefined;
  projectPage: PageTemplate | undefined;
}

const MIN_SIZE = 64;
const MAX_SIZE = 2048;
const SIZE = `must be ${MIN_SIZE} to ${MAX_SIZE}`;
/** Seconds for which the code of a page is kept by clients; settings may change the page. */
const PAGE_LIFE = 3600;

const look = {
  format: z
    .enum(['svg', 'png'], { error: 'must be svg or png' })
    .meta({ id: 'CodeFormat' })
    .default('svg')
    .meta({ description: 'Media type of the picture' }),
  size: z
    .string()
    .regex(/^\d{1,4}$/, SIZE)
    .transform(Number)
    .refine((n) => n >= MIN_SIZE && n <= MAX_SIZE, SIZE)
    .default(512)
    .meta({
      override: { type: 'integer', minimum: MIN_SIZE, maximum: MAX_SIZE, default: 512 },
      description: 'Pixels on each side, with the quiet zone of 4 modules',
    }),
};

const codeHeaders = z.object({
  ETag: z.string(),
  'Cache-Control': z.string().meta({ example: 'private, max-age=3600' }),
});
const success = {
  status: 200,
  description: 'The picture',
  headers: codeHeaders,
  content: { 'image/svg+xml': { schema: binary }, 'image/png': { schema: binary } },
  others: { '304': { description: 'The client has this picture already', headers: codeHeaders } },
};

interface Wanted {
  text: string;
  format: CodeFormat;
  size: number;
  /** Seconds. */
  maxAge: number;
}

export function qrRoutes(app: App, options: QrRoutesOptions): void {
  const { database, assets, linkLife, links, assetPage, projectPage } = options;

  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/assets/:id/qr',
    schema: {
      operationId: 'getAssetCode',
      tags: ['QR codes'],
      summary: 'Get the QR code of an asset',
      description:
        'The code of the page that the setting `APP_URL_TEMPLATE` names. Without this setting it is the code of a download link: whoever reads it can download the bytes, for up to `expiresIn` seconds, so do not print it.',
      params: z.object({ id: assetId }),
      querystring: z.strictObject({
        ...look,
        expiresIn: expiresIn.meta({
          description: 'How long a download link is valid, in seconds; at most 7 days. Codes of pages do not expire',
        }),
      }),
      headers: recordConditions,
    },
    config: {
      action: 'asset.download',
      success,
      problems: ['not-found', 'wrong-state', 'precondition-failed', tooLongForCode],
    },
    handler: async (request, reply) => {
      const asset = servable(await required(assets.find(request.caller, request.params.id)));
      if (!assetPage) {
        const { url, expiresAt } = await issueLink(request);
        // A code that comes from a cache still lives as long as it lay there.
        const maxAge = Math.max(0, Math.floor((expiresAt.getTime() - Date.now()) / 2000));
        return sendCode(request, reply, { ...request.query, text: url, maxAge });
      }
      if (asset.projectId === undefined && assetPage.names('projectId'))
        throw new Problem('wrong-state', { detail: 'The page of an asset is that of its project, and it has none.' });
      const text = assetPage.address({
        assetId: asset.id,
        ...(asset.projectId !== undefined && { projectId: asset.projectId }),
      });
      return sendCode(request, reply, { ...request.query, text, maxAge: PAGE_LIFE });
    },
  });

  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/projects/:projectId/qr',
    schema: {
      operationId: 'getProjectCode',
      tags: ['QR codes'],
      summary: 'Get the QR code of a project',
      description: 'The code of the page that the setting `PROJECT_URL_TEMPLATE` names.',
      params: z.object({ projectId }),
      querystring: z.strictObject(look),
      headers: recordConditions,
    },
    config: {
      action: 'project.read',
      success,
      problems: ['not-found', 'precondition-failed', noProjectPage, tooLongForCode],
    },
    handler: async (request, reply) => {
      if (!projectPage)
        throw new Problem(noProjectPage, {
          detail: 'Whoever runs the service must set PROJECT_URL_TEMPLATE to the address of such a page.',
        });
      const { role } = await standingOf(database, request.caller, request.params.projectId);
      if (role === undefined) throw projectNotFound();
      const text = projectPage.address({ projectId: request.params.projectId });
      return sendCode(request, reply, { ...request.query, text, maxAge: PAGE_LIFE });
    },
  });

  /** Like that of `createDownloadLink`, and with the same audit row. */
  async function issueLink(
    request: FastifyRequest & { params: { id: string }; query: { expiresIn?: number | undefined } },
  ): Promise<Link> {
    const { caller, params } = request;
    const life = linkLifeOf(caller, request.query.expiresIn, linkLife);
    const detail = { expiresIn: life, code: true };
    const asset = await assets.findForDownload(caller, params.id, 'asset.link-issued', actorOf(request), detail);
    // It was servable a moment ago.
    if (!asset) throw assetNotFound();
    const type = dispositionOf(asset.mediaType);
    const sign = (disposition: string) =>
      links.issue(request, asset.objectKey, {
        expiresIn: life,
        contentType: asset.mediaType,
        contentDisposition: disposition,
        cacheControl: asset.cacheControl,
      });
    const named = await sign(contentDisposition(type, asset.name));
    // A long name of foreign letters takes more room in a URL than a code has.
    return Buffer.byteLength(named.url) <= MAX_TEXT ? named : await sign(type);
  }
}

type ConditionalRequest = FastifyRequest & { headers: z.output<typeof recordConditions> };

async function sendCode(request: ConditionalRequest, reply: FastifyReply, wanted: Wanted): Promise<never> {
  const { text, format, size, maxAge } = wanted;
  const digest = createHash('sha256').update(`${WRITER}\n${format}\n${size}\n${text}`).digest('base64url');
  const tag = `"${digest.slice(0, 22)}"`;
  const outcome = evaluateConditions(conditionsOf(request.headers), tag);
  if (outcome === 'precondition-failed')
    throw new Problem('precondition-failed', { detail: 'The code is another one than If-Match wants.' });
  reply.header('etag', tag).header('cache-control', `private, max-age=${maxAge}`);
  if (outcome === 'not-modified') return reply.code(304).send() as never;
  const picture = await pictureOf(text, format, size);
  return reply.type(format === 'svg' ? 'image/svg+xml' : 'image/png').send(picture) as never;
}

/** @throws Problem too-long-for-code, invalid-parameter */
async function pictureOf(text: string, format: CodeFormat, size: number): Promise<string | Buffer> {
  if (Buffer.byteLength(text) > MAX_TEXT)
    throw new Problem(tooLongForCode, { detail: `A QR code holds ${MAX_TEXT} bytes, and the address has more.` });
  const code = makeCode(text);
  if (format === 'svg') return toSvg(code, size);
  if (size < code.modules) {
    const detail = `must be at least ${code.modules}, the modules on each side of this code, or the format svg`;
    throw new Problem('invalid-parameter', { detail: `size: ${detail}.`, errors: [{ parameter: 'size', detail }] });
  }
  return toPng(code, size);
}
