/** The audit trail over HTTP: for whom it is about, for managers of a project, and for who has the scope `audit`. */
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Caller } from '../access/caller.ts';
import { may, requireScope } from '../access/may.ts';
import { MAX_SUBJECT } from '../access/subject.ts';
import { signalOf } from '../assets/delivery.ts';
import type { AssetsRepository } from '../assets/repository.ts';
import { required } from '../assets/routes.ts';
import type { Database } from '../database/client.ts';
import type { DownloadPlaces } from '../http/download-places.ts';
import { cursorOf, pageCursor, pageLimit, wholeNumber } from '../http/keyset-cursor.ts';
import type { App } from '../http/openapi.ts';
import { nextLink, pageHeaders, pageInfo } from '../http/paging.ts';
import { assetId, projectId } from '../http/schema-types.ts';
import { standingOf } from '../projects/places.ts';
import { auditDocument, formatOf, type Hidden, type LineFormat, toDocument } from './document.ts';
import type { AuditFilters, AuditPosition, AuditQuery, AuditRepository, AuditRow, AuditScope } from './repository.ts';

interface AuditRoutesOptions {
  audit: AuditRepository;
  assets: AssetsRepository;
  database: Database;
  /** Exports have places among the downloads: each is a long answer. */
  places: DownloadPlaces;
}

/** Rows of an export that are in memory at once. */
const EXPORTED_AT_ONCE = 500;

const moment = (description: string) =>
  z.iso
    .datetime({ offset: true, error: 'must be a time as RFC 3339 writes it' })
    .transform((text) => new Date(text))
    .optional()
    .meta({ override: { type: 'string', format: 'date-time' }, description });
const page = { limit: pageLimit, cursor: pageCursor };
const auditQuery = z.strictObject({
  assetId: assetId.optional().meta({ override: { type: 'string', format: 'uuid' }, description: 'Only this asset' }),
  projectId: projectId.optional().meta({
    description: 'Only this project. A manager gets what all its members did; everybody else what is about himself',
  }),
  actor: z
    .string()
    .min(1)
    .max(MAX_SUBJECT)
    .refine((text) => text.isWellFormed() && !text.includes('\0'), 'must be text')
    .optional()
    .meta({
      override: { type: 'string', maxLength: MAX_SUBJECT },
      description: 'Only what this subject did. With your own, what you did to the assets of others comes too',
    }),
  action: z
    .string()
    .regex(/^[a-z-]{1,40}\.[a-z-]{1,40}$/, 'must be an action such as asset.trashed')
    .optional()
    .meta({ override: { type: 'string' }, description: 'Only this action', example: 'asset.trashed' }),
  since: moment('Only from this time on'),
  until: moment('Only before this time'),
  ...page,
});
const auditPage = z.object({ data: z.array(auditDocument), page: pageInfo }).meta({ id: 'AuditPage' });
const cursors = cursorOf(z.tuple([z.iso.datetime(), wholeNumber]));
const tags = ['Audit'];

/** What is asked of whom, and whether other projects are left out of the details. */
interface Question extends AuditFilters, Hidden {
  scope: AuditScope;
}

export function auditRoutes(app: App, { audit, assets, database, places }: AuditRoutesOptions): void {
  app.get(
    '/v1/audit',
    {
      schema: {
        operationId: 'listAuditEvents',
        tags,
        summary: 'Read what happened, and who did it',
        description:
          'The latest first. You get what is about the assets that you have uploaded; with `projectId`, a manager gets what happened in the project; with the scope `audit` all there is. One page in keyset order; or, with `Accept: application/x-ndjson` or `Accept: text/csv`, all rows of the answer in one stream, for which each 500 rows count as a request.',
        querystring: auditQuery,
        response: { 200: auditPage },
      },
      config: {
        actions: ['account.read', 'project.audit'],
        success: { status: 200, description: 'A page of the audit trail', headers: pageHeaders },
        problems: ['missing-scope', 'too-many-downloads', 'overloaded'],
      },
    },
    async (request, reply) => {
      const { limit, cursor, ...filters } = request.query;
      const question = await questionOf(request.caller, filters);
      const format = formatOf(request.headers.accept);
      if (format) return exported(request, reply, question, format);
      return pageOf(request, reply, question);
    },
  );

  app.get(
    '/v1/assets/:id/history',
    {
      schema: {
        operationId: 'getAssetHistory',
        tags,
        summary: 'Read what happened to an asset',
        description:
          'The latest first. Who has uploaded it gets all of it; other members of its project what happened since it is in the project.',
        params: z.object({ id: assetId }),
        querystring: z.strictObject(page),
        response: { 200: auditPage },
      },
      config: {
        action: 'asset.read',
        success: { status: 200, description: 'A page of its history', headers: pageHeaders },
        problems: ['missing-scope', 'not-found'],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const asset = await required(assets.find(caller, params.id));
      const { id, ownerId } = asset;
      const isWhole = ownerId === caller.id || asset.role === 'owner' || asset.role === 'admin';
      const scope: AuditScope =
        isWhole || asset.projectId === undefined
          ? { kind: 'asset', assetId: id }
          : { kind: 'shared-asset', assetId: id, projectId: asset.projectId };
      const hidesHolds = may(caller, 'asset.hold', asset) !== 'yes';
      return pageOf(request, reply, { scope, hidesPlaces: !isWhole, hidesHolds });
    },
  );

  /** @throws Problem missing-scope */
  async function questionOf(caller: Caller, given: z.output<typeof filtersOf>): Promise<Question> {
    const { projectId, ...filters } = withoutUndefined(given);
    if (caller.scopes.has('audit') && caller.only === undefined && caller.ticket === undefined)
      return { scope: { kind: 'all' }, ...filters, ...(projectId !== undefined && { projectId }), ...nothingHidden };
    if (projectId !== undefined) {
      const standing = await standingOf(database, caller, projectId);
      if (may(caller, 'project.audit', standing) === 'yes')
        return { scope: { kind: 'project', projectId }, ...filters, hidesPlaces: true, hidesHolds: false };
    }
    requireScope(caller, 'account.read');
    const kind = filters.actor === caller.id ? 'acts' : 'own';
    const hidden = { hidesPlaces: false, hidesHolds: true };
    return { scope: { kind, caller }, ...filters, ...(projectId !== undefined && { projectId }), ...hidden };
  }

  async function pageOf(
    request: FastifyRequest & { query: { limit: number; cursor?: string | undefined } },
    reply: FastifyReply,
    { hidesPlaces, hidesHolds, ...question }: Question,
  ): Promise<z.input<typeof auditPage>> {
    const { limit, cursor } = request.query;
    const order = question.scope.kind;
    const query: AuditQuery = { ...question, limit: limit + 1 };
    if (cursor !== undefined) query.after = toPosition(cursors.decode(order, cursor));
    const rows = await audit.list(query);
    const shown = rows.slice(0, limit);
    const last = rows.length > limit ? shown.at(-1) : undefined;
    const nextCursor = last && cursors.encode(order, [last.at.toISOString(), String(last.id)]);
    if (nextCursor !== undefined) reply.header('link', nextLink(request.url, nextCursor));
    return {
      data: shown.map((row) => toDocument(row, { hidesPlaces, hidesHolds })),
      page: { ...(nextCursor !== undefined && { nextCursor }), hasMore: nextCursor !== undefined },
    };
  }

  /** All rows in one answer. A batch is read when the one before is taken: so much is in memory, and no connection is held. */
  async function exported(
    request: FastifyRequest,
    reply: FastifyReply,
    { hidesPlaces, hidesHolds, ...question }: Question,
    { contentType, fileName, head, line }: LineFormat,
  ): Promise<never> {
    await places.enter(request.caller.id, reply, signalOf(reply));
    async function* lines() {
      if (head !== '') yield head;
      let after: AuditPosition | undefined;
      do {
        const rows = await audit.list({ ...question, limit: EXPORTED_AT_ONCE, ...(after && { after }) });
        // One is counted for the request itself.
        if (after) request.countAs(2);
        if (rows.length > 0) yield rows.map((row) => line(toDocument(row, { hidesPlaces, hidesHolds }))).join('');
        after = nextOf(rows);
      } while (after);
    }
    return reply
      .header('content-type', contentType)
      .header('content-disposition', `attachment; filename="${fileName}"`)
      .header('cache-control', 'no-store')
      .serializer((body: string) => body)
      .send(Readable.from(lines(), { highWaterMark: 1 })) as never;
  }
}

const nothingHidden: Hidden = { hidesPlaces: false, hidesHolds: false };
const filtersOf = auditQuery.omit({ limit: true, cursor: true });

function nextOf(rows: readonly AuditRow[]): AuditPosition | undefined {
  const last = rows.at(-1);
  return last && rows.length === EXPORTED_AT_ONCE ? { at: last.at, id: last.id } : undefined;
}

function toPosition([at, id]: [string, string]): AuditPosition {
  return { at: new Date(at), id: BigInt(id) };
}

function withoutUndefined(filters: z.output<typeof filtersOf>): AuditFilters {
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== undefined));
}
