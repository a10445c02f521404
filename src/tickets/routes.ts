/** Upload tickets over HTTP, for whoever gives them out. */
import { z } from 'zod';
import { actorOf, type Caller } from '../access/caller.ts';
import { may } from '../access/may.ts';
import { isSubject, MAX_SUBJECT } from '../access/subject.ts';
import type { App } from '../http/openapi.ts';
import { linkHeader, pageInfo, pageOf, pageQuery } from '../http/page-query.ts';
import { assetType, bytesCount, metadata, projectId, timestamp } from '../http/schema-types.ts';
import { answering, sendAnswer, sendNoContent } from '../idempotency/requests.ts';
import { invalidField, Problem } from '../problems.ts';
import { makeProject, type Places } from '../projects/places.ts';
import { normaliseMediaType } from '../validation/media-types.ts';
import type { UploadPolicies } from '../validation/upload-policies.ts';
import { tooManyTickets } from './problems.ts';
import type { Ticket, TicketsRepository } from './repository.ts';
import { allowedBy } from './terms.ts';

/** Seconds: a day. A page that needs longer asks for another. */
const LONGEST = 24 * 3600;
const MAX_FILES = 100_000;
const MAX_MEDIA_TYPES = 50;

const tags = ['Access'];
const atLeastOne = bytesCount.min(1, 'must be at least 1').meta({
  override: { type: 'integer', format: 'int64', minimum: 1, maximum: Number.MAX_SAFE_INTEGER },
});
const integer = (most: number, text: string) =>
  z
    .number()
    .int('must be a whole number')
    .min(1, 'must be at least 1')
    .max(most, `must be at most ${most}`)
    .meta({ override: { type: 'integer', format: 'int32', minimum: 1, maximum: most }, description: text });

const newTicket = z
  .strictObject({
    subject: z
      .string()
      .refine(isSubject, `must be 1 to ${MAX_SUBJECT} bytes of printable text`)
      .optional()
      .meta({
        override: { type: 'string', minLength: 1, maxLength: MAX_SUBJECT },
        description: 'Who uploads, and owns what is in no project; absent: you. Another one needs the scope `act-for`',
        example: 'user-123',
      }),
    projectId: projectId.optional().meta({ description: 'Where all files go' }),
    assetType: assetType.optional().meta({ description: 'The only upload policy' }),
    mediaTypes: z
      .array(z.string().max(255))
      .min(1, 'must name a media type')
      .max(MAX_MEDIA_TYPES, `must name at most ${MAX_MEDIA_TYPES}`)
      .optional()
      .meta({ description: 'The only media types, of those that upload policies allow', example: ['image/png'] }),
    maxFileSize: atLeastOne.optional().meta({ description: 'Bytes of one file' }),
    maxFiles: integer(MAX_FILES, 'Files in all').optional(),
    maxBytes: atLeastOne.optional().meta({ description: 'Bytes of all files together' }),
    metadata: metadata.optional().meta({ description: 'Given to each asset, whatever the page says' }),
    expiresIn: integer(LONGEST, 'Seconds, at most a day'),
  })
  .meta({ id: 'UploadTicketRequest' });

const fields = {
  id: z.string().meta({ override: { type: 'string', format: 'uuid' }, description: 'UUIDv7' }),
  subject: z.string(),
  projectId: projectId.optional(),
  assetType: z.string().optional(),
  mediaTypes: z.array(z.string()).optional(),
  maxFileSize: bytesCount.optional(),
  maxFiles: integer(MAX_FILES, 'Files in all').optional(),
  maxBytes: bytesCount.optional(),
  metadata: metadata.optional(),
  files: z
    .number()
    .int()
    .meta({ override: { type: 'integer', format: 'int32', minimum: 0 }, description: 'Uploaded, or being uploaded' }),
  bytes: bytesCount.meta({ description: 'Theirs' }),
  createdAt: timestamp,
  expiresAt: timestamp,
};
const ticketDocument = z.object(fields).meta({ id: 'UploadTicket' });
const createdDocument = z
  .object({
    ...fields,
    token: z.string().optional().meta({
      description:
        'Sent as `Authorization: Bearer stt_...`. Shown this once; absent where the request was sent again under its Idempotency-Key',
      example: 'stt_…',
    }),
  })
  .meta({ id: 'CreatedUploadTicket' });
const page = z
  .object({ data: z.array(ticketDocument), page: pageInfo('UploadTicketPageInfo') })
  .meta({ id: 'UploadTicketPage' });
const byId = z.object({
  id: z.uuid({ error: 'must be a UUID' }).meta({ override: { type: 'string', format: 'uuid' } }),
});

export interface TicketRouteOptions {
  tickets: TicketsRepository;
  places: Places;
  policies: UploadPolicies;
  /** Tickets that a caller may give out in an hour, and have at once; 0 for no limit. */
  limits: { perHour: number; atOnce: number };
}

export function ticketRoutes(app: App, { tickets, places, policies, limits }: TicketRouteOptions): void {
  app.post(
    '/v1/tickets',
    {
      schema: {
        operationId: 'createUploadTicket',
        tags,
        summary: 'Give out an upload ticket for a browser',
        description:
          'A page with its token may upload by every way within these limits, see what became of its uploads, and nothing else. A file that fails gives its place back.',
        body: newTicket,
        response: { 201: createdDocument },
      },
      config: {
        scope: 'assets:write',
        success: {
          status: 201,
          description: 'The ticket, with its token',
          headers: { Location: { description: 'Where it is', schema: { type: 'string' } } },
        },
        problems: [
          'missing-scope',
          'forbidden',
          tooManyTickets,
          'not-found',
          'malformed-request',
          'too-large',
          'unsupported-media-type',
          'too-many-requests',
        ],
      },
    },
    async (request, reply) => {
      const { caller, body } = request;
      requireSpeaksFor(caller, body.subject);
      const mediaTypes = body.mediaTypes?.map(normalised);
      requireAllowed({ ...body, mediaTypes }, policies);
      const place = await places.of(caller, body.projectId);
      const answerOf = (ticket: Ticket, token?: string) => ({
        status: 201,
        headers: { location: `/v1/tickets/${ticket.id}`, 'cache-control': 'no-store' },
        body: { ...toDocument(ticket), ...(token !== undefined && { token }) },
      });
      const wanted = {
        ...body,
        mediaTypes,
        metadata: body.metadata ?? {},
        issuedBy: caller.id,
        subject: body.subject ?? caller.id,
        byClaim: mayByClaim(caller, body.projectId),
      };
      const commit = answering(request);
      const created = await tickets.create(wanted, limits, actorOf(request), {
        before: (transaction) => makeProject(transaction, place, caller, actorOf(request)),
        // What is kept under an Idempotency-Key holds no token.
        after: (transaction, ticket) => commit(transaction, answerOf(ticket)),
      });
      if (created === 'too-many')
        throw new Problem(tooManyTickets, {
          detail: `${limits.atOnce} upload tickets of yours are good. Revoke some, or let them live shorter.`,
        });
      if ('seconds' in created)
        throw new Problem('too-many-requests', {
          detail: `At most ${limits.perHour} upload tickets an hour. Try again later.`,
          retryAfter: created.seconds,
        });
      return sendAnswer(reply, answerOf(created.ticket, created.token));
    },
  );

  app.get(
    '/v1/tickets',
    {
      schema: {
        operationId: 'listUploadTickets',
        tags,
        summary: 'List the upload tickets that you gave out, the latest first',
        description:
          'Without their tokens; those that were revoked are gone, those that have expired are shown for a day. Follow `nextCursor`, or the `Link` header, until `hasMore` is false.',
        querystring: pageQuery,
        response: { 200: page },
      },
      config: {
        scope: 'assets:write',
        success: { status: 200, description: 'A page of tickets', headers: linkHeader },
        problems: ['missing-scope'],
      },
    },
    async (request, reply) => {
      const { rows, page } = await pageOf(reply, '/v1/tickets', request.query, (query) =>
        tickets.list(request.caller, query),
      );
      return { data: rows.map(({ ticket }) => toDocument(ticket)), page };
    },
  );

  app.get(
    '/v1/tickets/:id',
    {
      schema: {
        operationId: 'getUploadTicket',
        tags,
        summary: 'Get an upload ticket that you gave out, and what was uploaded with it',
        params: byId,
        response: { 200: ticketDocument },
      },
      config: {
        scope: 'assets:write',
        success: { status: 200, description: 'The ticket' },
        problems: ['missing-scope', 'not-found'],
      },
    },
    async (request) => {
      const ticket = await tickets.find(request.caller, request.params.id);
      if (!ticket) throw ticketNotFound();
      return toDocument(ticket);
    },
  );

  app.delete(
    '/v1/tickets/:id',
    {
      schema: {
        operationId: 'deleteUploadTicket',
        tags,
        summary: 'Revoke an upload ticket',
        description: 'Within a second no instance takes it any more. What was uploaded with it stays.',
        params: byId,
      },
      config: {
        scope: 'assets:write',
        success: { status: 204, description: 'It is revoked' },
        problems: ['missing-scope', 'not-found'],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const isRevoked = await sendNoContent(request, reply, (commit) =>
        tickets.revoke(caller, params.id, actorOf(request), commit),
      );
      if (!isRevoked) throw ticketNotFound();
      return reply;
    },
  );
}

/** @throws Problem missing-scope */
function requireSpeaksFor(caller: Caller, subject: string | undefined): void {
  if (subject === undefined || subject === caller.id || caller.scopes.has('act-for')) return;
  throw new Problem('missing-scope', {
    detail: 'A ticket for somebody else needs the scope act-for.',
    errors: [{ pointer: '/subject', detail: 'is somebody else' }],
  });
}

/** Whether the caller may upload there by what his token says: then no row tells whether he still may. */
function mayByClaim(caller: Caller, project: string | undefined): boolean {
  const role = project === undefined ? undefined : caller.projects?.get(project);
  return role !== undefined && may(caller, 'asset.upload', { role }) === 'yes';
}

function normalised(text: string): string {
  return normaliseMediaType(text) ?? text;
}

/** @throws Problem invalid-parameter when nothing could be uploaded with the ticket */
function requireAllowed(
  wanted: { assetType?: string | undefined; mediaTypes?: string[] | undefined },
  policies: UploadPolicies,
): void {
  const { assetType, mediaTypes } = wanted;
  const left = allowedBy({ ...(assetType !== undefined && { assetType }) }, policies);
  if (left.length === 0)
    throw invalidField(
      '/assetType',
      `must be one of ${policies.all.map((policy) => policy.assetType).join(', ')}: there is no other upload policy`,
    );
  const wrong = mediaTypes?.findIndex((each) => !left.some((policy) => policy.mediaTypes.includes(each))) ?? -1;
  if (wrong >= 0) throw invalidField(`/mediaTypes/${wrong}`, 'must be a media type that the upload policies allow');
}

function toDocument(ticket: Ticket): z.input<typeof ticketDocument> {
  const { projectId, assetType, mediaTypes, maxFileSize, maxFiles, maxBytes, createdAt, expiresAt } = ticket;
  return {
    id: ticket.id,
    subject: ticket.subject,
    ...(projectId !== null && { projectId }),
    ...(assetType !== null && { assetType }),
    ...(mediaTypes !== null && { mediaTypes }),
    ...(maxFileSize !== null && { maxFileSize }),
    ...(maxFiles !== null && { maxFiles }),
    ...(maxBytes !== null && { maxBytes }),
    metadata: ticket.metadata,
    files: ticket.files,
    bytes: ticket.bytes,
    createdAt: createdAt.toISOString(),
    expiresAt: expiresAt.toISOString(),
  };
}

/** A foreign ticket and an unknown one get the same answer. */
function ticketNotFound(): Problem {
  return new Problem('not-found', { detail: 'There is no upload ticket with this id.' });
}
