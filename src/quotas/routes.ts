/** Quotas over HTTP. */
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { MAX_SUBJECT } from '../access/subject.ts';
import type { Database } from '../database/client.ts';
import type { App } from '../http/openapi.ts';
import { bytesCount, projectId } from '../http/schema-types.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { accountNamed, ownerAccount, projectOfAccount } from './accounts.ts';
import type { Quota, QuotasRepository } from './repository.ts';
import { tierDocument, toTierDocument } from './tier-document.ts';
import { tierUsageOf } from './tier-usage.ts';

export const quotaDocument = z
  .object({
    limit: bytesCount.meta({ example: 1073741824 }),
    used: bytesCount.meta({ description: 'Bytes of all assets, the trash included', example: 48213 }),
    reserved: bytesCount.meta({ description: 'Bytes of uploads in progress', example: 0 }),
    available: bytesCount.meta({ description: 'Bytes that new uploads may have', example: 1073693611 }),
    percent: z.number().min(0).meta({
      description:
        '`used` plus `reserved` as a percentage of `limit`, to two decimals; above 100 when the limit was lowered',
      example: 0.01,
    }),
    fileCount: bytesCount.meta({
      override: { type: 'integer', format: 'int64' },
      description: 'Assets, the trash included',
      example: 1,
    }),
  })
  .meta({ id: 'Quota' });

/** A quota as callers get it. */
export function toDocument({ limit, used, reserved, fileCount }: Quota): z.input<typeof quotaDocument> {
  const taken = used + reserved;
  return {
    limit: Number(limit),
    used: Number(used),
    reserved: Number(reserved),
    available: Number(limit > taken ? limit - taken : 0n),
    percent: limit === 0n ? (taken === 0n ? 0 : 100) : Number((taken * 10_000n) / limit) / 100,
    fileCount: Number(fileCount),
  };
}

const MAX_ACCOUNT = 'owner:'.length + MAX_SUBJECT;
const account = z
  .string()
  .min(1)
  .refine(
    (text) => Buffer.byteLength(text) <= MAX_ACCOUNT && text.isWellFormed() && !/\p{Cc}/u.test(text),
    `must be 1 to ${MAX_ACCOUNT} bytes of printable text`,
  )
  .transform(accountNamed)
  .refine((text) => projectId.safeParse(projectOfAccount(text) ?? 'none').success, 'must name a project by its id')
  .meta({
    override: { type: 'string', minLength: 1, maxLength: MAX_ACCOUNT },
    description:
      'Whose quota: an owner, by the subject of his token, or `project:` and the id of a project. An owner whose subject begins with `project:` or `owner:` is named with `owner:` before it',
    example: 'user-1',
  });
const byAccount = z.object({ ownerId: account });

const ownQuota = quotaDocument
  .extend({ tier: tierDocument.optional().meta({ description: 'Absent where the service has no tiers' }) })
  .meta({ id: 'OwnQuota' });

interface QuotaRoutesOptions {
  quotas: QuotasRepository;
  database: Database;
}

export function quotaRoutes(app: App, { quotas, database }: QuotaRoutesOptions): void {
  app.get(
    '/v1/quota',
    {
      schema: {
        operationId: 'getQuota',
        tags: ['Quotas'],
        summary: 'Get your quota, and the limits of your tier',
        description:
          'What you have uploaded takes of it, but for uploads into projects that have a quota of their own: see `getProjectQuota`.',
        response: { 200: ownQuota },
      },
      config: { action: 'account.read', success: { status: 200, description: 'Your quota' } },
    },
    async ({ caller }, reply) => {
      const quota = toDocument(await quotas.get(ownerAccount(caller.id), caller));
      if (!caller.tier) return quota;
      const usage = await tierUsageOf(database, caller.id);
      const requests = reply.getHeader('ratelimit-remaining');
      const left = {
        ...usage,
        available: quota.available,
        requests: requests === undefined ? undefined : Number(requests),
      };
      return { ...quota, tier: toTierDocument(caller.tier, left) };
    },
  );

  app.get(
    '/v1/admin/quotas/:ownerId',
    {
      schema: {
        operationId: 'getOwnerQuota',
        tags: ['Administration'],
        summary: 'Get the quota of an owner or a project',
        params: byAccount,
        response: { 200: quotaDocument },
      },
      config: { scope: 'admin', success: { status: 200, description: 'The quota' }, problems: ['missing-scope'] },
    },
    async (request) => toDocument(await quotas.get(request.params.ownerId)),
  );

  app.put(
    '/v1/admin/quotas/:ownerId',
    {
      schema: {
        operationId: 'setOwnerQuota',
        tags: ['Administration'],
        summary: 'Set the quota of an owner or a project',
        description:
          'A limit below the used bytes deletes nothing; it only stops uploads. Without `limit` the default applies to the owner again. A project that is given a limit pays for what is uploaded into it from then on; what is there already, and what is still there when the limit is taken away, stays with whoever pays for it.',
        params: byAccount,
        body: z
          .strictObject({
            limit: bytesCount
              .optional()
              .meta({ description: 'In bytes; the default applies when absent', example: 10737418240 }),
          })
          .meta({ id: 'QuotaChange' }),
        response: { 200: quotaDocument },
      },
      config: {
        scope: 'admin',
        success: { status: 200, description: 'The changed quota' },
        problems: ['missing-scope', 'malformed-request', 'too-large', 'unsupported-media-type'],
      },
    },
    async (request, reply) => {
      const { params, body } = request;
      const answerOf = (quota: Quota) => ({ status: 200, headers: {}, body: toDocument(quota) });
      const commit = answering(request);
      const quota = await quotas.setLimit(params.ownerId, body.limit, actorOf(request), (transaction, changed) =>
        commit(transaction, answerOf(changed)),
      );
      return sendAnswer(reply, answerOf(quota));
    },
  );
}
