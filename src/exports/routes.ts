/** Exports over HTTP: of any owner for administrators, and of himself for everybody. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf, type Caller } from '../access/caller.ts';
import { isSubject, MAX_SUBJECT } from '../access/subject.ts';
import { type ArchiveService, deliverArchive } from '../archives/deliver-archive.ts';
import { assetDocument, toDocument } from '../assets/asset.ts';
import { conditionalHeaders } from '../assets/delivery.ts';
import type { LinkIssuer } from '../assets/issued-links.ts';
import { recordEvent } from '../database/audit.ts';
import type { Database } from '../database/client.ts';
import { cursorOf, pageCursor, pageLimit, storableText, wholeNumber } from '../http/keyset-cursor.ts';
import type { App } from '../http/openapi.ts';
import { nextLink, pageHeaders, pageInfo } from '../http/paging.ts';
import { binary, bytesCount, timestamp } from '../http/schema-types.ts';
import { Problem } from '../problems.ts';
import { bundleOf } from './bundle.ts';
import type { ExportPosition, ExportsRepository } from './repository.ts';

const versionDocument = z
  .object({
    number: z
      .number()
      .int()
      .meta({ override: { type: 'integer', minimum: 1 } }),
    name: z.string(),
    mediaType: z.string(),
    size: bytesCount,
    sha256: z.string().optional(),
    storedAt: timestamp,
    replacedAt: timestamp,
    path: z.string().meta({ description: 'Where its bytes are, for who may read the asset' }),
  })
  .meta({ id: 'ExportedVersion' });
const exportPage = z
  .object({
    owner: z.string(),
    data: z.array(
      z
        .object({
          asset: assetDocument,
          url: z
            .string()
            .optional()
            .meta({
              override: { type: 'string', format: 'uri' },
              description:
                'Download link; absent where there is nothing to be downloaded, or the asset is in the trash',
            }),
          expiresAt: timestamp.optional(),
          versions: z.array(versionDocument).meta({ description: 'Former contents that are kept' }),
        })
        .meta({ id: 'ExportedAsset' }),
    ),
    page: pageInfo,
  })
  .meta({ id: 'ExportPage' });

/** Of an archive. */
const archiveQuery = {
  asOf: z.iso
    .datetime({ offset: true, error: 'must be a time as RFC 3339 writes it' })
    .transform((text) => new Date(text))
    // Until then more rows come, and what is sent would not be what was measured.
    .refine((time) => time.getTime() <= Date.now(), 'must not lie in the future')
    .optional()
    .meta({
      override: { type: 'string', format: 'date-time' },
      description:
        'Audit rows before this time are exported; by default those of the days that are over (UTC), so that a download can go on all day',
    }),
  cursor: pageCursor,
};
/** Of a page of the manifest. */
const pageQuery = { limit: pageLimit, cursor: pageCursor };
const ownerId = z
  .string()
  .refine(isSubject, `must be 1 to ${MAX_SUBJECT} bytes of printable text`)
  .meta({ override: { type: 'string', minLength: 1, maxLength: MAX_SUBJECT }, example: 'user-1' });
const cursors = cursorOf(z.tuple([z.enum(['listed', 'trashed']), wholeNumber, storableText]));
const ORDER = 'export';
const ofArchive =
  'A ZIP archive: `manifest.json` with what is written about the owner, `assets.ndjson` and `versions.ndjson` with the records, `audit.ndjson` with what happened, and the files. It honours one Range and conditional header fields, so a download that broke off goes on where it was. A part has up to 10,000 files and `MAX_ARCHIVE_SIZE` bytes; the header field `Link` with rel="next" leads to the next one.';
const ofManifest = 'Pages of records, each with a download link and the former versions that are kept.';
const zip = { 'application/zip': { schema: binary } };
const archiveSuccess = {
  status: 200,
  description: 'A part of the archive',
  headers: { Link: { description: 'The next part, with rel="next"', schema: { type: 'string' as const } } },
  content: zip,
  others: {
    '206': { description: 'The range', content: zip },
    '304': { description: 'The client has this part already' },
  },
};
const manifestSuccess = { status: 200, description: 'A page of the manifest', headers: pageHeaders };
const archiveProblems = [
  'invalid-parameter',
  'precondition-failed',
  'range-not-satisfiable',
  'too-many-downloads',
  'overloaded',
] as const;

export interface ExportRoutesOptions {
  exports: ExportsRepository;
  archives: ArchiveService;
  issuer: LinkIssuer;
  database: Database;
  /** Of the files of one part. */
  maxBytes: number;
}

interface Asked {
  ownerId: string;
  /** By whose right. */
  caller: Caller;
  after: ExportPosition | undefined;
}

export function exportRoutes(app: App, options: ExportRoutesOptions): void {
  app.get(
    '/v1/admin/exports',
    {
      schema: {
        operationId: 'exportOwner',
        tags: ['Administration'],
        summary: 'Export everything of an owner as an archive',
        description: `${ofArchive} Say why in the header field \`Stowage-Reason\`.`,
        querystring: z.strictObject({ ownerId, ...archiveQuery }),
        headers: conditionalHeaders,
      },
      config: { scope: 'admin', success: archiveSuccess, problems: ['missing-scope', ...archiveProblems] },
    },
    async (request, reply) =>
      sendArchive(options, request, reply, ofOwner(request, request.query.ownerId), request.query.asOf),
  );

  app.get(
    '/v1/admin/exports/manifest',
    {
      schema: {
        operationId: 'listOwnerExport',
        tags: ['Administration'],
        summary: 'Export everything of an owner as pages of links',
        description: `${ofManifest} Say why in the header field \`Stowage-Reason\`.`,
        querystring: z.strictObject({ ownerId, ...pageQuery }),
        response: { 200: exportPage },
      },
      config: { scope: 'admin', success: manifestSuccess, problems: ['missing-scope', 'invalid-parameter'] },
    },
    async (request, reply) =>
      manifestPage(options, request, reply, ofOwner(request, request.query.ownerId), request.query.limit),
  );

  app.get(
    '/v1/export',
    {
      schema: {
        operationId: 'exportOwn',
        tags: ['Downloads'],
        summary: 'Export everything of your own as an archive',
        description: `${ofArchive} It has what you have uploaded and may still download.`,
        querystring: z.strictObject(archiveQuery),
        headers: conditionalHeaders,
      },
      config: { action: 'account.read', success: archiveSuccess, problems: ['forbidden', ...archiveProblems] },
    },
    async (request, reply) => sendArchive(options, request, reply, ofHimself(request), request.query.asOf),
  );

  app.get(
    '/v1/export/manifest',
    {
      schema: {
        operationId: 'listOwnExport',
        tags: ['Downloads'],
        summary: 'Export everything of your own as pages of links',
        description: `${ofManifest} It has what you have uploaded and may still download.`,
        querystring: z.strictObject(pageQuery),
        response: { 200: exportPage },
      },
      config: { action: 'account.read', success: manifestSuccess, problems: ['forbidden', 'invalid-parameter'] },
    },
    async (request, reply) => manifestPage(options, request, reply, ofHimself(request), request.query.limit),
  );
}

type ExportRequest = FastifyRequest & { query: { cursor?: string | undefined } };

function afterOf({ query }: ExportRequest): ExportPosition | undefined {
  return query.cursor === undefined ? undefined : positionIn(query.cursor);
}

/** @throws Problem invalid-parameter without a reason */
function ofOwner(request: ExportRequest, owner: string): Asked {
  const { caller } = request;
  if (caller.reason !== undefined) return { ownerId: owner, caller, after: afterOf(request) };
  throw new Problem('invalid-parameter', {
    detail: 'Stowage-Reason is needed: it is kept in the audit trail with the export.',
    errors: [{ parameter: 'Stowage-Reason', detail: 'is needed' }],
  });
}

/** @throws Problem forbidden by a credential that is for less */
function ofHimself(request: ExportRequest): Asked {
  const { caller } = request;
  if (!caller.only && caller.ticket === undefined) return { ownerId: caller.id, caller, after: afterOf(request) };
  throw new Problem('forbidden', {
    detail: 'This credential is for some of your assets only. Export with another one.',
  });
}

async function sendArchive(
  options: ExportRoutesOptions,
  request: FastifyRequest,
  reply: FastifyReply,
  asked: Asked,
  asOf = startOfToday(),
): Promise<FastifyReply> {
  const { caller } = asked;
  const { files, next } = await bundleOf(options.exports, { ...asked, asOf, maxBytes: options.maxBytes });
  if (next) reply.header('link', nextLink(request.url, cursorTo(next)));
  return deliverArchive(options.archives, request, reply, {
    callerId: caller.id,
    name: 'export.zip',
    files,
    beforeBytes: async ([first]) => {
      if (first?.name === 'manifest.json' && first.make) await record(options, request, asked, 'zip');
    },
  });
}

/** So that whoever asks again later on the same day gets the same. */
function startOfToday(): Date {
  return new Date(new Date().setUTCHours(0, 0, 0, 0));
}

async function manifestPage(
  options: ExportRoutesOptions,
  request: FastifyRequest,
  reply: FastifyReply,
  asked: Asked,
  limit: number,
): Promise<z.input<typeof exportPage>> {
  const { exports, issuer } = options;
  const { ownerId: owner, caller, after } = asked;
  const found = await exports.page(owner, caller, after, limit + 1);
  const page = found.slice(0, limit);
  if (after === undefined) await record(options, request, asked, 'manifest');
  request.countAs(Math.max(1, page.length));
  const linked = page.filter(({ state, trashedAt }) => state === 'ready' && trashedAt === null).map(({ id }) => id);
  const outcomes = linked.length === 0 ? [] : await issuer.issueMany(request, linked, {});
  const links = new Map(linked.map((id, index) => [id, outcomes[index]]));
  const ids = page.map(({ id }) => id);
  const versions = await exports.versions(ids);
  const data = (await exports.records(owner, ids)).map((asset) => {
    const link = links.get(asset.id);
    return {
      asset: toDocument(asset),
      ...(link && 'url' in link && { url: link.url, expiresAt: link.expiresAt.toISOString() }),
      versions: versions.filter(({ assetId }) => assetId === asset.id).map(toVersionDocument),
    };
  });
  const last = found.length > limit ? page.at(-1) : undefined;
  const nextCursor = last && cursorTo({ isTrashed: last.trashedAt !== null, createdAt: last.createdAt, id: last.id });
  if (nextCursor !== undefined) reply.header('link', nextLink(request.url, nextCursor));
  reply.header('cache-control', 'no-store');
  return { owner, data, page: { ...(nextCursor !== undefined && { nextCursor }), hasMore: nextCursor !== undefined } };
}

async function record(
  { database }: ExportRoutesOptions,
  request: FastifyRequest,
  { ownerId: owner }: Asked,
  format: 'zip' | 'manifest',
): Promise<void> {
  await recordEvent(database, {
    action: 'owner.exported',
    actor: actorOf(request),
    ownerId: owner,
    detail: { format },
  });
}

function toVersionDocument({
  assetId,
  sha256,
  storedAt,
  replacedAt,
  ...version
}: Awaited<ReturnType<ExportsRepository['versions']>>[number]): z.input<typeof versionDocument> {
  return {
    ...version,
    ...(sha256 && { sha256: sha256.toString('hex') }),
    storedAt: storedAt.toISOString(),
    replacedAt: replacedAt.toISOString(),
    path: `/v1/assets/${assetId}/versions/${version.number}/content`,
  };
}

function cursorTo({ isTrashed, createdAt, id }: ExportPosition): string {
  return cursors.encode(ORDER, [isTrashed ? 'trashed' : 'listed', String(createdAt.getTime()), id]);
}

/** @throws Problem invalid-parameter */
function positionIn(cursor: string): ExportPosition {
  const [where, time, id] = cursors.decode(ORDER, cursor);
  if (z.uuid().safeParse(id).success) return { isTrashed: where === 'trashed', createdAt: new Date(Number(time)), id };
  const detail = 'must be the nextCursor of a page';
  throw new Problem('invalid-parameter', { detail: `cursor ${detail}.`, errors: [{ parameter: 'cursor', detail }] });
}
