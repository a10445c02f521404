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
import { nextLink, pageInfo } from '../http/paging.ts';
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

const common = {
  format: z.enum(['zip', 'manifest'], { error: 'must be zip or manifest' }).meta({ id: 'ExportFormat' }).default('zip'),
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
  limit: pageLimit,
  cursor: pageCursor,
};
const ownerId = z
  .string()
  .refine(isSubject, `must be 1 to ${MAX_SUBJECT} bytes of printable text`)
  .meta({ override: { type: 'string', minLength: 1, maxLength: MAX_SUBJECT }, example: 'user-1' });
const cursors = cursorOf(z.tuple([z.enum(['listed', 'trashed']), wholeNumber, storableText]));
const ORDER = 'export';
const description =
  'By default a ZIP archive: `manifest.json` with what is written about the owner, `assets.ndjson` and `versions.ndjson` with the records, `audit.ndjson` with what happened, and the files. It honours one Range and conditional header fields, so a download that broke off goes on where it was. A part has up to 10,000 files and `MAX_ARCHIVE_SIZE` bytes; the header field `Link` with rel="next" leads to the next one. With `format=manifest` pages of records with download links.';
const success = {
  status: 200,
  description: 'A part of the archive, or a page of the manifest',
  headers: { Link: { description: 'The next part or page, with rel="next"', schema: { type: 'string' as const } } },
  content: { 'application/zip': { schema: binary } },
  others: {
    '206': { description: 'The range', content: { 'application/zip': { schema: binary } } },
    '304': { description: 'The client has this part already' },
  },
};
const problems = [
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
  query: { format: 'zip' | 'manifest'; asOf?: Date | undefined; limit: number; cursor?: string | undefined };
}

export function exportRoutes(app: App, options: ExportRoutesOptions): void {
  app.get(
    '/v1/admin/exports',
    {
      schema: {
        operationId: 'exportOwner',
        tags: ['Administration'],
        summary: 'Export everything of an owner',
        description: `${description} Say why in the header field \`Stowage-Reason\`.`,
        querystring: z.strictObject({ ownerId, ...common }),
        headers: conditionalHeaders,
        response: { 200: exportPage },
      },
      config: { scope: 'admin', success, problems: ['missing-scope', ...problems] },
    },
    async (request, reply) => {
      const { caller, query } = request;
      if (caller.reason === undefined)
        throw new Problem('invalid-parameter', {
          detail: 'Stowage-Reason is needed: it is kept in the audit trail with the export.',
          errors: [{ parameter: 'Stowage-Reason', detail: 'is needed' }],
        });
      return answer(options, request, reply, { ownerId: query.ownerId, caller, query });
    },
  );

  app.get(
    '/v1/export',
    {
      schema: {
        operationId: 'exportOwn',
        tags: ['Downloads'],
        summary: 'Export everything of your own',
        description: `${description} It has what you have uploaded and may still download.`,
        querystring: z.strictObject(common),
        headers: conditionalHeaders,
        response: { 200: exportPage },
      },
      config: { action: 'asset.download', success, problems: ['forbidden', ...problems] },
    },
    async (request, reply) => {
      const { caller, query } = request;
      if (caller.only || caller.ticket !== undefined)
        throw new Problem('forbidden', {
          detail: 'This credential is for some of your assets only. Export with another one.',
        });
      return answer(options, request, reply, { ownerId: caller.id, caller, query });
    },
  );
}

async function answer(
  options: ExportRoutesOptions,
  request: FastifyRequest,
  reply: FastifyReply,
  asked: Asked,
): Promise<z.input<typeof exportPage>> {
  const { cursor, format } = asked.query;
  const after = cursor === undefined ? undefined : positionIn(cursor);
  if (format === 'manifest') return manifestPage(options, request, reply, asked, after);
  const { caller, ownerId: owner, query } = asked;
  // Whoever asks again a moment later gets the same.
  const asOf = query.asOf ?? new Date(new Date().setUTCHours(0, 0, 0, 0));
  const { files, next } = await bundleOf(options.exports, {
    ownerId: owner,
    caller,
    asOf,
    after,
    maxBytes: options.maxBytes,
  });
  if (next) reply.header('link', nextLink(request.url, cursorTo(next)));
  const sent = await deliverArchive(options.archives, request, reply, {
    callerId: caller.id,
    name: 'export.zip',
    files,
    beforeBytes: (begun) => (begun[0]?.name === 'manifest.json' ? record(options, request, asked) : Promise.resolve()),
  });
  return sent as never;
}

async function manifestPage(
  options: ExportRoutesOptions,
  request: FastifyRequest,
  reply: FastifyReply,
  asked: Asked,
  after: ExportPosition | undefined,
): Promise<z.input<typeof exportPage>> {
  const { exports, issuer } = options;
  const { ownerId: owner, caller, query } = asked;
  const found = await exports.page(owner, caller, after, query.limit + 1);
  const page = found.slice(0, query.limit);
  if (after === undefined) await record(options, request, asked);
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
  const last = found.length > query.limit ? page.at(-1) : undefined;
  const nextCursor = last && cursorTo({ isTrashed: last.trashedAt !== null, createdAt: last.createdAt, id: last.id });
  if (nextCursor !== undefined) reply.header('link', nextLink(request.url, nextCursor));
  reply.header('cache-control', 'no-store');
  return { owner, data, page: { ...(nextCursor !== undefined && { nextCursor }), hasMore: nextCursor !== undefined } };
}

function record(
  { database }: ExportRoutesOptions,
  request: FastifyRequest,
  { ownerId: owner, query }: Asked,
): Promise<void> {
  const detail = { format: query.format };
  return recordEvent(database, { action: 'owner.exported', actor: actorOf(request), ownerId: owner, detail });
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
