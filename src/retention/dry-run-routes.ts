/** What the rules would do: of all assets for administrators, of a project for its managers. */
import { z } from 'zod';
import { requireMay } from '../access/may.ts';
import { reasonQuery } from '../access/reason.ts';
import { lifeCycleActions, lifeCycleRuleNames, type StepValues } from '../assets/life-cycle-step.ts';
import type { Database } from '../database/client.ts';
import type { App } from '../http/openapi.ts';
import {
  decodeCursor,
  encodeCursor,
  nextLink,
  pageCursor,
  pageEnd,
  pageHeaders,
  pageInfo,
  pageLimit,
} from '../http/paging.ts';
import { bytesCount, openEnum, projectId, timestamp } from '../http/schema-types.ts';
import { standingOf } from '../projects/places.ts';
import { projectNotFound } from '../projects/problems.ts';
import type { DueStep, LookPosition, LooksRepository } from './looks.ts';

const DAY = 24 * 3600 * 1000;
const MAX_AHEAD = 365;
const AHEAD = `must be 0 to ${MAX_AHEAD}`;
const ORDER = 'createdAt.life-cycle';

const dueDocument = z
  .object({
    assetId: z.string().meta({ override: { type: 'string', format: 'uuid' } }),
    name: z.string(),
    uploadedBy: z.string(),
    projectId: z.string().optional(),
    assetType: z.string().optional(),
    size: bytesCount.optional(),
    action: openEnum('DueAction', lifeCycleActions, 'What would be done with it.'),
    at: timestamp.meta({ description: 'Since when, or from when on' }),
    rule: openEnum('DueRule', lifeCycleRuleNames, 'Which rule wants it so.'),
  })
  .meta({ id: 'DueAsset' });
const duePage = z.object({ data: z.array(dueDocument), page: pageInfo }).meta({ id: 'DueAssetPage' });

const query = z.strictObject({
  days: z
    .string()
    .regex(/^\d{1,3}$/, AHEAD)
    .transform(Number)
    .refine((days) => days <= MAX_AHEAD, AHEAD)
    .default(0)
    .meta({
      override: { type: 'integer', minimum: 0, maximum: MAX_AHEAD, default: 0 },
      description: 'What would be done within so many days; 0 for what is due now',
    }),
  limit: pageLimit.meta({
    override: { type: 'integer', minimum: 1, maximum: 200, default: 50 },
    description: 'Assets that are looked at for a page; it has those of them for which something would be done',
  }),
  cursor: pageCursor,
});

const description =
  'Nothing is changed. A page may have fewer assets than `limit`, even none, and yet others follow. What something holds is left alone when its time comes.';

export interface DryRunOptions {
  looks: LooksRepository;
  rules: StepValues;
  database: Database;
}

export function dryRunRoutes(app: App, { looks, rules, database }: DryRunOptions): void {
  app.get(
    '/v1/admin/lifecycle',
    {
      schema: {
        operationId: 'listDueAssets',
        tags: ['Administration'],
        summary: 'List what the rules of the life cycle would do',
        description,
        querystring: query,
        response: { 200: duePage },
      },
      config: {
        scope: 'admin',
        success: { status: 200, description: 'A page of assets, in the order of time', headers: pageHeaders },
        problems: ['missing-scope'],
      },
    },
    async (request, reply) => {
      const { days, limit, cursor } = request.query;
      const page = await looks.dueOfAll(inDays(days), rules, { after: positionOf(cursor), limit });
      return toPage(page, request.url, (link) => reply.header('link', link));
    },
  );

  app.get(
    '/v1/projects/:projectId/lifecycle',
    {
      schema: {
        operationId: 'listDueAssetsOfProject',
        tags: ['Projects'],
        summary: 'List what the rules of the life cycle would do with the assets of a project',
        description,
        params: z.object({ projectId }),
        querystring: query.safeExtend({ reason: reasonQuery }),
        response: { 200: duePage },
      },
      config: {
        action: 'project.manage',
        success: { status: 200, description: 'A page of assets, the first ones first', headers: pageHeaders },
        problems: ['forbidden', 'not-found'],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const standing = await standingOf(database, caller, params.projectId);
      if (!standing.exists || standing.role === undefined) throw projectNotFound();
      requireMay(caller, 'project.manage', { role: standing.role });
      const { days, limit, cursor } = request.query;
      const after = positionOf(cursor);
      const page = await looks.dueOfProject(params.projectId, inDays(days), rules, { after, limit });
      return toPage(page, request.url, (link) => reply.header('link', link));
    },
  );
}

function inDays(days: number): Date {
  return new Date(Date.now() + days * DAY);
}

function positionOf(cursor: string | undefined): LookPosition | undefined {
  if (cursor === undefined) return undefined;
  const { value, id } = decodeCursor(ORDER, cursor);
  return { at: new Date(value), id };
}

function toPage(
  { due, next }: { due: DueStep[]; next?: LookPosition },
  url: string,
  onNext: (link: string) => void,
): z.input<typeof duePage> {
  // As Postgres writes it, by which cursors are checked.
  const value = next?.at.toISOString().replace('T', ' ').replace('Z', '+00');
  const nextCursor = next && value !== undefined ? encodeCursor(ORDER, { value, id: next.id }) : undefined;
  if (nextCursor !== undefined) onNext(nextLink(url, nextCursor));
  return { data: due.map(toDocument), page: pageEnd(nextCursor) };
}

function toDocument({ id, name, ownerId, projectId: its, assetType, size, action, at, rule }: DueStep) {
  return {
    assetId: id,
    name,
    uploadedBy: ownerId,
    ...(its !== null && { projectId: its }),
    ...(assetType !== null && { assetType }),
    ...(size !== null && { size }),
    action,
    at: at.toISOString(),
    rule,
  };
}
