/** Statistics over HTTP. */
import { z } from 'zod';
import type { App } from '../http/openapi.ts';
import { bytesCount } from '../http/schema-types.ts';
import { type Dimension, MAX_VALUES, type UsageRepository } from './repository.ts';

const group = z
  .object({
    value: z.string().optional().meta({ description: 'Absent for assets without a project' }),
    count: bytesCount.meta({ override: { type: 'integer', format: 'int64' }, description: 'Assets' }),
    bytes: bytesCount,
  })
  .meta({ id: 'StatisticsGroup' });
const statisticsDocument = z
  .object({
    byAssetType: z.array(group),
    byMediaType: z.array(group),
    byProject: z.array(group).meta({
      description: `At most ${MAX_VALUES}, the first in the order of their names`,
    }),
    hasMoreProjects: z.boolean().meta({ description: 'Whether there are projects beside those told' }),
    metadataBytes: bytesCount.meta({ description: 'Metadata of all your assets, as JSON' }),
    byDay: z
      .array(group)
      .meta({ description: 'By day of upload in UTC, the last 30 days; days without uploads are left out' }),
  })
  .meta({ id: 'Statistics' });

export function usageRoutes(app: App, { usage }: { usage: UsageRepository }): void {
  app.get(
    '/v1/statistics',
    {
      schema: {
        operationId: 'getStatistics',
        tags: ['Quotas'],
        summary: 'Get count and bytes of your assets by asset type, media type, project and day',
        response: { 200: statisticsDocument },
      },
      config: { action: 'account.read', success: { status: 200, description: 'Your statistics' } },
    },
    async (request) => {
      const rows = await usage.statistics(request.caller.id);
      const rowsOf = (dimension: Dimension) => rows.filter((row) => row.dimension === dimension);
      const of = (dimension: Dimension) =>
        rowsOf(dimension)
          .slice(0, MAX_VALUES)
          .map(({ value, count, bytes }) => ({ ...(value !== null && { value }), count, bytes }));
      return {
        byAssetType: of('assetType'),
        byMediaType: of('mediaType'),
        byProject: of('project'),
        hasMoreProjects: rowsOf('project').length > MAX_VALUES,
        metadataBytes: rowsOf('metadata')[0]?.bytes ?? 0,
        byDay: of('day'),
      };
    },
  );
}
