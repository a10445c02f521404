/** The quota of a project, for its members. */
import { z } from 'zod';
import { requireMay } from '../access/may.ts';
import type { Database } from '../database/client.ts';
import type { App } from '../http/openapi.ts';
import { projectId } from '../http/schema-types.ts';
import { standingOf } from '../projects/places.ts';
import { projectNotFound } from '../projects/problems.ts';
import { projectAccount } from '../quotas/accounts.ts';
import type { QuotasRepository } from '../quotas/repository.ts';
import { quotaDocument, toDocument } from '../quotas/routes.ts';

const projectQuota = z
  .object({
    projectId,
    isOwn: z.boolean().meta({
      description:
        'Whether the project has a quota of its own, of which uploads into it take. Else each takes of the quota of who uploads',
    }),
    quota: quotaDocument.optional().meta({
      description: 'The quota of the project; absent where it has none of its own and nothing was ever taken of one',
    }),
  })
  .meta({ id: 'ProjectQuota' });

export function projectQuotaRoute(
  app: App,
  { quotas, database }: { quotas: QuotasRepository; database: Database },
): void {
  app.get(
    '/v1/projects/:projectId/quota',
    {
      schema: {
        operationId: 'getProjectQuota',
        tags: ['Quotas'],
        summary: 'Get the quota of a project',
        params: z.object({ projectId }),
        response: { 200: projectQuota },
      },
      config: {
        action: 'project.read',
        success: { status: 200, description: 'The quota of the project' },
        problems: ['missing-scope', 'forbidden', 'not-found'],
      },
    },
    async ({ caller, params }) => {
      const standing = await standingOf(database, caller, params.projectId);
      if (standing.role === undefined) throw projectNotFound();
      requireMay(caller, 'project.read', standing);
      const found = await quotas.find(projectAccount(params.projectId));
      return {
        projectId: params.projectId,
        isOwn: found?.isOwn === true,
        ...(found && { quota: toDocument(found) }),
      };
    },
  );
}
