/** Archives over HTTP: a link to several files, and the archive that it leads to. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { conditionalHeaders } from '../assets/delivery.ts';
import { type Config, MAX_LINK } from '../config.ts';
import type { App } from '../http/openapi.ts';
import { contentUrls } from '../http/public-url.ts';
import { assetId, binary, bytesCount, timestamp } from '../http/schema-types.ts';
import { Problem } from '../problems.ts';
import { checkFileName } from '../validation/file-name.ts';
import type { VariantKeys } from '../variants/keys.ts';
import type { ArchivedFile } from './archived-file.ts';
import { type ArchiveService, archiveLength, deliverArchive } from './deliver-archive.ts';
import { archiveTooLarge, checkSize } from './limits.ts';
import { MAX_LINKED, readLink, signLink } from './links.ts';

export interface ArchiveRoutesOptions {
  archives: ArchiveService;
  keys: VariantKeys;
  config: Config;
  /** Of the files of one archive. */
  maxBytes: number;
  /** Has the checksums of these assets found out, before somebody waits for them. */
  findChecksums: (ids: string[]) => Promise<void>;
}

const tags = ['Downloads'];
const BAD_COUNT = `must be 1 to ${MAX_LINKED} ids`;
const BAD_LIFE = `must be 1 to ${MAX_LINK}`;

const newArchive = z
  .strictObject({
    ids: z.array(assetId, { error: BAD_COUNT }).min(1, BAD_COUNT).max(MAX_LINKED, BAD_COUNT).meta({
      description: 'Of the assets, in the order that they have in the archive; one that is named twice is in it once',
    }),
    name: z
      .string()
      .default('files.zip')
      .meta({
        override: { type: 'string', default: 'files.zip' },
        description: 'File name of the archive; ends in .zip',
      }),
    expiresIn: z
      .number({ error: BAD_LIFE })
      .int(BAD_LIFE)
      .min(1, BAD_LIFE)
      .max(MAX_LINK, BAD_LIFE)
      .optional()
      .meta({
        override: { type: 'integer', minimum: 1, maximum: MAX_LINK },
        description: 'How long the link is valid, in seconds; at most 7 days',
        example: 3600,
      }),
  })
  .meta({ id: 'ArchiveRequest' });

const archiveLink = z
  .object({
    url: z.string().meta({
      override: { type: 'string', format: 'uri' },
      description: 'Whoever has this link can download the files; keep it secret',
      example: 'https://files.example.com/v1/archives/AZqhsnw9',
    }),
    expiresAt: timestamp,
    name: z.string(),
    files: z
      .number()
      .int()
      .meta({ override: { type: 'integer', minimum: 1 }, description: 'How many files it has' }),
    size: bytesCount.meta({ description: 'Bytes of the archive' }),
  })
  .meta({ id: 'ArchiveLink' });

const zip = { 'application/zip': { schema: binary } };

export function archiveRoutes(
  app: App,
  { archives, keys, config, maxBytes, findChecksums }: ArchiveRoutesOptions,
): void {
  const urlOf = contentUrls(config);

  app.post(
    '/v1/archives',
    {
      schema: {
        operationId: 'createArchiveLink',
        tags,
        summary: `Get a link to up to ${MAX_LINKED} files as one ZIP archive`,
        description:
          'The link needs no token, so a browser can open it. It ends when it expires, or when one of the files is moved to the trash or deleted. It counts as so many requests as it has ids.',
        body: newArchive,
        response: { 200: archiveLink },
      },
      config: {
        action: 'asset.download',
        success: { status: 200, description: 'The link' },
        problems: [
          'malformed-request',
          'invalid-name',
          'not-found',
          'too-large',
          archiveTooLarge,
          'unsupported-media-type',
        ],
      },
    },
    async (request, reply) => {
      const { caller, body } = request;
      const { expiresIn = config.LINK_TTL / 1000 } = body;
      request.countAs(body.ids.length);
      // Postgres writes ids in lower case.
      const ids = [...new Set(body.ids.map((id) => id.toLowerCase()))];
      const name = archiveName(body.name);
      const expires = Math.floor(Date.now() / 1000) + expiresIn;
      const token = signLink(await keys.ring(), { expires, issuer: caller.id, name, ids });
      const files = await archives.repository.issue(
        caller,
        ids,
        { archive: nameOf(token), expiresIn, maxBytes },
        actorOf(request),
      );
      requireAll(ids, files);
      checkSize(files, maxBytes);
      const unknown = files.filter(({ crc32 }) => crc32 === undefined).map(({ id }) => id);
      if (unknown.length > 0) await findChecksums(unknown);
      reply.header('cache-control', 'no-store');
      return {
        url: urlOf(request, `/v1/archives/${token}`),
        expiresAt: new Date(expires * 1000).toISOString(),
        name,
        files: files.length,
        size: archiveLength(files),
      };
    },
  );

  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/archives/:token',
    schema: {
      operationId: 'downloadArchive',
      tags,
      summary: 'Get several files as one ZIP archive',
      description:
        'Where `createArchiveLink` leads. The files are stored in it as they are; names that are there more than once get a number. Honours one Range and conditional header fields, so a download that broke off goes on where it was.',
      security: [],
      params: z.object({ token: z.string().max(8192) }),
      headers: conditionalHeaders,
    },
    config: {
      public: true,
      servesBytes: true,
      success: {
        status: 200,
        description: 'The archive',
        content: zip,
        others: {
          '206': { description: 'The range', content: zip },
          '304': { description: 'The client has this archive already' },
        },
      },
      problems: [
        'not-found',
        'link-expired',
        'precondition-failed',
        archiveTooLarge,
        'range-not-satisfiable',
        'too-many-downloads',
        'overloaded',
      ],
    },
    handler: async (request, reply) => {
      const { token } = request.params;
      const link = readLink(await keys.ring(), token, Math.floor(Date.now() / 1000));
      if (link === 'invalid') throw new Problem('not-found', { detail: 'The link is not valid. Get a new one.' });
      if (link === 'expired') throw new Problem('link-expired', { detail: 'Get a new link.' });
      const { ids, name, issuer } = link;
      const files = await archives.repository.find(ids);
      // A smaller archive would look as if it were all.
      if (files.length < ids.length)
        throw new Problem('not-found', {
          detail: 'A file of this archive was deleted, or is in the trash. Get a new link.',
        });
      checkSize(files, maxBytes);
      return deliverArchive(archives, request, reply, {
        callerId: `address ${request.ip}`,
        name,
        files,
        beforeBytes: (begun) => {
          const { range } = request.headers;
          const detail = {
            archive: nameOf(token),
            files: files.length,
            ...(range !== undefined && { range: range.slice(0, 100) }),
          };
          const actor = { callerId: 'stowage:link', requestId: request.id, via: null, because: null };
          return archives.repository.recordDownload(issuer, begun, detail, actor);
        },
      });
    },
  });
}

/** By which the audit trail names an archive; the token itself is a secret. */
function nameOf(token: string): string {
  return createHash('sha256').update(token).digest('base64url').slice(0, 16);
}

/** @throws Problem invalid-name */
function archiveName(name: string): string {
  const checked = checkFileName(name);
  const detail = checked.ok
    ? /\.zip$/i.test(checked.name)
      ? undefined
      : 'The name must end in .zip.'
    : checked.detail;
  if (checked.ok && detail === undefined) return checked.name;
  throw new Problem('invalid-name', {
    ...(detail !== undefined && { detail, errors: [{ pointer: '/name', detail }] }),
  });
}

/** @throws Problem not-found, for ids that nobody knows, that are others' and that are not served alike */
function requireAll(ids: readonly string[], files: readonly ArchivedFile[]): void {
  const found = new Set(files.map(({ id }) => id));
  const detail = 'There is no such asset that can be downloaded.';
  const errors = ids.flatMap((id, index) => (found.has(id) ? [] : [{ pointer: `/ids/${index}`, detail }]));
  if (errors.length > 0)
    throw new Problem('not-found', {
      detail: `${errors.length} of the assets are not there, or cannot be downloaded.`,
      errors,
    });
}
