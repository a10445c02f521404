/**
 * The audit trail. A change of state and its row are written by one statement, so there is never one without the other:
 * repositories put `auditFrom(...)` into the statement that changes something.
 */

import { lte, type Placeholder, type SQL, sql, type WithSubquery } from 'drizzle-orm';
import type { PgColumn } from 'drizzle-orm/pg-core';
import { countOne } from './caller-counts.ts';
import type { Database } from './client.ts';
import { build, compile, type Parameter, typed, writtenOut } from './statements.ts';
import { auditRows } from './tables/audit.ts';

/**
 * What features write to the audit trail. Each declares its own, once as a list and by that as a type:
 * `declare module '../database/audit.ts' { interface AuditActions { notes: (typeof noteActions)[number] } }`
 */
// biome-ignore lint/suspicious/noEmptyInterface: features fill it
export interface AuditActions {}
export type AuditAction = AuditActions[keyof AuditActions];

/** Who acts, in which request. */
export interface Actor {
  callerId: string;
  requestId: string;
  /** The credential by which somebody speaks for the caller: `key:{id}` or `ticket:{id}`. */
  via: string | null;
  /** Why, in the words of whoever acts. */
  because: string | null;
}

/**
 * What the service does by itself, in which job.
 * @param part a name for it, such as `reaper`
 */
export function systemActor(part: string, jobId: string): Actor {
  return { callerId: `stowage:${part}`, requestId: `job:${jobId}`, via: null, because: null };
}

/** Rows that tell of which asset, or owner, they are. */
type Changed = WithSubquery & {
  ownerId: PgColumn | SQL.Aliased;
  id: PgColumn | SQL.Aliased;
  projectId?: PgColumn | SQL.Aliased;
};

/**
 * Writes one audit row per row of the common table expression `changed`. Pass it to `build.with` beside that.
 * @param actor parameters, so that the statement is run with the values of an `Actor`, or columns of `changed`
 * @param detail expression of type jsonb
 * @param name of the part of the statement, where one has two of them
 */
export function auditFrom(
  actor: (name: keyof Actor) => Placeholder | PgColumn | SQL.Aliased,
  changed: Changed,
  {
    action,
    detail = sql`'{}'::jsonb`,
    name = 'audit',
  }: {
    action: AuditAction | Placeholder | SQL<AuditAction> | PgColumn | SQL.Aliased;
    detail?: SQL;
    name?: string;
  },
): WithSubquery {
  const rows = build
    .select({
      action: sql<string>`${action}::text`.as('action'),
      actorId: sql<string>`${actor('callerId')}::text`.as('actor_id'),
      ownerId: changed.ownerId,
      assetId: changed.id,
      requestId: sql<string>`${actor('requestId')}::text`.as('request_id'),
      detail: detail.as('detail'),
      via: sql<string | null>`${actor('via')}::text`.as('via'),
      projectId: changed.projectId ?? sql<null>`null::text`.as('project_id'),
      reason: sql<string | null>`${actor('because')}::text`.as('reason'),
    })
    .from(changed);
  return build.$with(name, {}).as(build.insert(auditRows).select(rows).getSQL());
}

const insertEvent = compile(
  'record-event',
  (p: Parameter<'action' | 'ownerId' | 'assetId' | 'projectId' | 'detail' | keyof Actor>) =>
    build.insert(auditRows).values({
      action: p('action'),
      actorId: p('callerId'),
      ownerId: p('ownerId'),
      assetId: p('assetId'),
      requestId: p('requestId'),
      detail: p('detail'),
      via: p('via'),
      projectId: p('projectId'),
      reason: p('because'),
    }),
);

/** A row that accompanies no change of a record. */
export async function recordEvent(
  database: Database,
  event: {
    action: AuditAction;
    actor: Actor;
    ownerId: string;
    assetId?: string;
    projectId?: string;
    detail?: Record<string, unknown>;
  },
): Promise<void> {
  const { action, actor, ownerId, assetId = null, projectId = null, detail = {} } = event;
  await database.run(insertEvent, { action, ownerId, assetId, projectId, detail, ...actor });
}

/** Refusals of one caller that are written in an hour: what is refused changes nothing, and costs its sender nothing. */
export const MAX_REFUSALS = 1000;

const insertRefusal = compile('record-refusal', (p: Parameter<'action' | 'ownerId' | 'detail' | keyof Actor>) => {
  const counted = build.$with('counted').as(countOne(p, 'refusal'));
  const limit = writtenOut(MAX_REFUSALS);
  const isLast = sql`case when ${counted.count} = ${limit} then '{"furtherRefusals": "not recorded"}' else '{}' end`;
  const row = build
    .select({
      action: sql<string>`${p('action')}::text`.as('action'),
      actorId: sql<string>`${p('callerId')}::text`.as('actor_id'),
      ownerId: sql<string>`${p('ownerId')}::text`.as('owner_id'),
      assetId: sql<null>`null::uuid`.as('asset_id'),
      requestId: sql<string>`${p('requestId')}::text`.as('request_id'),
      detail: sql`${typed(p('detail'), auditRows.detail)} || ${isLast}::jsonb`.as('detail'),
      via: sql<string | null>`${p('via')}::text`.as('via'),
      projectId: sql<null>`null::text`.as('project_id'),
      reason: sql<string | null>`${p('because')}::text`.as('reason'),
    })
    .from(counted)
    .where(lte(counted.count, limit));
  return build.with(counted).insert(auditRows).select(row);
});

/**
 * The row of a refusal. It is counted by the same statement: of one caller, MAX_REFUSALS are written in an hour, the last
 * of them says so, and the rest are counted only.
 */
export async function recordRefusalEvent(
  database: Database,
  event: { action: AuditAction; actor: Actor; ownerId: string; detail: Record<string, unknown> },
): Promise<void> {
  const { action, actor, ownerId, detail } = event;
  await database.run(insertRefusal, { action, ownerId, detail, ...actor });
}
