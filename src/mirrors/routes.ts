/** Mirrors over HTTP, for administrators: how far they are, and having one forgotten. */
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { reasonQuery } from '../access/reason.ts';
import type { App } from '../http/openapi.ts';
import { bytesCount, openEnum, timestamp } from '../http/schema-types.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { Problem } from '../problems.ts';
import type { Mirror } from '../storage/mirror.ts';
import { copyReason } from './copy-document.ts';
import type { CopyFailure, KnownMirrors, MirrorStatus } from './known-mirrors.ts';
import { mirrorInUse } from './problems.ts';

const count = bytesCount.meta({ override: { type: 'integer', format: 'int64', minimum: 0 } });
const rate = z.number().min(0);
const name = z.string().meta({ description: 'Name of a mirror', example: 'mirror' });

const mirrorDocument = z
  .object({
    name,
    state: openEnum(
      'MirrorState',
      ['up-to-date', 'behind', 'lagging', 'not-configured'],
      '`lagging`: something has waited for longer than MIRROR_LAG. `not-configured`: it was, and waits to be configured again or forgotten.',
    ),
    kind: openEnum('MirrorKind', ['s3', 'disk'], 'What it is; absent while it is not configured.').optional(),
    createdAt: timestamp.meta({ description: 'Since when everything that is stored is to be copied to it' }),
    behind: z
      .object({
        objects: count.meta({ description: 'Objects without a copy' }),
        bytes: count,
        oldestAt: timestamp.optional().meta({ description: 'Since when the oldest of them waits' }),
        oldestSeconds: count.optional().meta({ description: 'Seconds since then' }),
      })
      .meta({ id: 'MirrorLag' }),
    failed: count.meta({ description: 'Of these: objects of which the last try has failed; they are tried again' }),
    leaving: count.meta({ description: 'Copies of deleted files that are still to be removed' }),
    rate: z
      .object({ objectsPerSecond: rate, bytesPerSecond: rate })
      .meta({ id: 'MirrorRate', description: 'What was copied in the last five minutes' }),
    failures: z
      .array(
        z
          .object({
            assetId: z.string(),
            at: timestamp,
            reason: copyReason.optional(),
          })
          .meta({ id: 'CopyFailure' }),
      )
      .optional()
      .meta({ description: 'Some of the objects that have failed' }),
  })
  .meta({ id: 'Mirror' });
const mirrorsDocument = z.object({ mirrors: z.array(mirrorDocument) }).meta({ id: 'Mirrors' });

const admin = { scope: 'admin' } as const;

export interface MirrorRoutesOptions {
  known: KnownMirrors;
  configured: readonly Mirror[];
  /** Milliseconds. */
  lag: number;
}

export function mirrorRoutes(app: App, { known, configured, lag }: MirrorRoutesOptions): void {
  app.get(
    '/v1/admin/mirrors',
    {
      schema: {
        operationId: 'getMirrors',
        tags: ['Administration'],
        summary: 'Get the mirrors: how far each is behind, since when, and how fast it is',
        response: { 200: mirrorsDocument },
      },
      config: { ...admin, success: { status: 200, description: 'The mirrors' }, problems: ['missing-scope'] },
    },
    async () => {
      const documents = (await known.list()).map(async (mirror) => {
        const failures = mirror.failed > 0 ? await known.failures(mirror.name) : [];
        return toDocument(mirror, failures, { configured, lag });
      });
      return { mirrors: await Promise.all(documents) };
    },
  );

  app.delete(
    '/v1/admin/mirrors/:name',
    {
      schema: {
        operationId: 'forgetMirror',
        tags: ['Administration'],
        summary: 'Have a mirror forgotten that is not configured any more',
        description:
          'Nothing is to be copied to it any more, and deletions do not wait for its copies any more. What lies there stays: remove it yourself.',
        params: z.strictObject({ name: z.string().min(1).max(32).meta({ description: 'Name of a mirror' }) }),
        querystring: z.strictObject({ reason: reasonQuery }),
      },
      config: {
        ...admin,
        success: { status: 204, description: 'The mirror is forgotten' },
        problems: ['missing-scope', 'not-found', mirrorInUse],
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      if (configured.some((mirror) => mirror.name === name))
        throw new Problem(mirrorInUse, {
          detail: `The mirror ${name} is configured here. Take it out of the configuration of all instances first, and start them again.`,
        });
      const answer = { status: 204, headers: {}, body: undefined };
      const commit = answering(request);
      if (!(await known.forget(name, actorOf(request), (transaction) => commit(transaction, answer))))
        throw new Problem('not-found', { detail: 'There is no mirror of this name.' });
      return sendAnswer(reply, answer);
    },
  );
}

function toDocument(
  { name, createdAt, behind, failed, leaving, rate }: MirrorStatus,
  failures: readonly CopyFailure[],
  { configured, lag }: { configured: readonly Mirror[]; lag: number },
): z.input<typeof mirrorDocument> {
  const { objects, bytes, oldestAt } = behind;
  const here = configured.find((mirror) => mirror.name === name);
  const age = oldestAt && Math.max(0, Date.now() - oldestAt.getTime());
  const progress = objects === 0 ? 'up-to-date' : age !== undefined && age > lag ? 'lagging' : 'behind';
  return {
    name,
    state: here ? progress : 'not-configured',
    ...(here && { kind: here.store.kind }),
    createdAt: createdAt.toISOString(),
    behind: {
      objects,
      bytes,
      ...(oldestAt && { oldestAt: oldestAt.toISOString() }),
      ...(age !== undefined && { oldestSeconds: Math.round(age / 1000) }),
    },
    failed,
    leaving,
    rate: { objectsPerSecond: round(rate.objects), bytesPerSecond: round(rate.bytes) },
    ...(failures.length > 0 && {
      failures: failures.map(({ assetId, at, reason }) => ({
        assetId,
        at: at.toISOString(),
        ...(reason !== null && { reason }),
      })),
    }),
  };
}

/** A thousandth is the least that is told. */
function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
