/** QR codes over HTTP. */
import type { FastifyRequest } from 'fastify';
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
import { recordConditions } from '../http/preconditions.ts';
import { assetId, projectId } from '../http/schema-types.ts';
import { assetNotFound, Problem } from '../problems.ts';
import { standingOf } from '../projects/places.ts';
import { projectNotFound } from '../projects/problems.ts';
import { codeLook, codeSuccess, sendCode } from './answer.ts';
import { MAX_TEXT } from './code.ts';
import { noProjectPage, tooLongForCode } from './problems.ts';
import type { PageTemplate } from './templates.ts';

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

/** Seconds for which the code of a page is kept by clients; settings may change the page. */
const PAGE_LIFE = 3600;

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
        ...codeLook,
        expiresIn: expiresIn.meta({
          description: 'How long a download link is valid, in seconds; at most 7 days. Codes of pages do not expire',
        }),
      }),
      headers: recordConditions,
    },
    config: {
      action: 'asset.download',
      success: codeSuccess,
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
      querystring: z.strictObject(codeLook),
      headers: recordConditions,
    },
    config: {
      action: 'project.read',
      success: codeSuccess,
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
