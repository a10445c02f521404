/** What is exported of somebody, in SQL: his assets in an order that does not change, and what is written about him. */
import { and, asc, desc, eq, lt, type SQL, sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, accessOf, isFor } from '../access/conditions.ts';
import { archivedColumns } from '../archives/archived-file.ts';
import { type Asset, assetColumns, toAsset } from '../assets/asset.ts';
import type { Database } from '../database/client.ts';
import { build, compile, isAnyOf, type Parameter, writtenOut } from '../database/statements.ts';
import { assets, isVisible, listed } from '../database/tables/assets.ts';
import { auditEvents } from '../database/tables/audit.ts';
import { apiKeys, tickets } from '../database/tables/credentials.ts';
import { projectMembers, projects } from '../database/tables/projects.ts';
import { quotas } from '../database/tables/quotas.ts';
import { shares } from '../database/tables/shares.ts';
import { assetVersions } from '../database/tables/versions.ts';

const seldom = { named: false };
/** Rows of each kind of record; settings keep what one owner has far below. */
const MAX_RECORDS = 10_000;

/** Where a page ends: in what is listed, or in what is in the trash, which comes behind it. */
export interface ExportPosition {
  isTrashed: boolean;
  createdAt: Date;
  id: string;
}

type PageParameter = AccessParameter | 'ownerId' | 'afterTime' | 'afterId' | 'limit';
const pageOf = (name: string, isThere: SQL | undefined) =>
  compile(
    name,
    (p: Parameter<PageParameter>) =>
      build
        .select({ ...archivedColumns, state: assets.state, trashedAt: assets.trashedAt })
        .from(assets)
        .where(
          and(
            eq(assets.ownerId, p('ownerId')),
            isThere,
            isFor(p, 'asset.download'),
            sql`(${assets.createdAt}, ${assets.id}) > (${p('afterTime')}::timestamptz, ${p('afterId')}::uuid)`,
          ),
        )
        .orderBy(asc(assets.createdAt), asc(assets.id))
        .limit(p('limit')),
    seldom,
  );
const listedPage = pageOf('export-listed-assets', listed);
const trashedPage = pageOf('export-trashed-assets', and(isVisible, sql`${assets.trashedAt} is not null`));
const findRecords = compile(
  'export-asset-records',
  (p: Parameter<'ids' | 'ownerId'>) =>
    build
      .select(assetColumns)
      .from(assets)
      .where(and(isAnyOf(assets.id, p('ids')), eq(assets.ownerId, p('ownerId')), isVisible)),
  seldom,
);
const findVersions = compile(
  'export-asset-versions',
  (p: Parameter<'ids'>) =>
    build
      .select({
        assetId: assetVersions.assetId,
        number: assetVersions.number,
        name: assetVersions.name,
        mediaType: assetVersions.mediaType,
        size: assetVersions.size,
        sha256: assetVersions.sha256,
        storedAt: assetVersions.storedAt,
        replacedAt: assetVersions.replacedAt,
      })
      .from(assetVersions)
      .where(isAnyOf(assetVersions.assetId, p('ids')))
      .orderBy(asc(assetVersions.assetId), asc(assetVersions.number)),
  seldom,
);
const findMemberships = compile(
  'export-memberships',
  (p: Parameter<'ownerId'>) =>
    build
      .select({
        projectId: projectMembers.projectId,
        name: projects.name,
        role: projectMembers.role,
        since: projectMembers.createdAt,
      })
      .from(projectMembers)
      .innerJoin(projects, eq(projects.id, projectMembers.projectId))
      .where(eq(projectMembers.subject, p('ownerId')))
      .orderBy(asc(projectMembers.projectId))
      .limit(writtenOut(MAX_RECORDS)),
  seldom,
);
const findShares = compile(
  'export-shares',
  (p: Parameter<'ownerId'>) =>
    build
      .select({
        id: shares.id,
        target: shares.target,
        projectId: shares.projectId,
        allow: shares.allow,
        label: shares.label,
        note: shares.note,
        createdAt: shares.createdAt,
        expiresAt: shares.expiresAt,
        revokedAt: shares.revokedAt,
      })
      .from(shares)
      .where(eq(shares.createdBy, p('ownerId')))
      .orderBy(asc(shares.createdAt), asc(shares.id))
      .limit(writtenOut(MAX_RECORDS)),
  seldom,
);
const findKeys = compile(
  'export-keys',
  (p: Parameter<'ownerId'>) =>
    build
      .select({
        id: apiKeys.id,
        name: apiKeys.name,
        scopes: apiKeys.scopes,
        projects: apiKeys.projects,
        createdAt: apiKeys.createdAt,
        expiresAt: apiKeys.expiresAt,
        revokedAt: apiKeys.revokedAt,
      })
      .from(apiKeys)
      .where(eq(apiKeys.ownerId, p('ownerId')))
      .orderBy(asc(apiKeys.createdAt), asc(apiKeys.id))
      .limit(writtenOut(MAX_RECORDS)),
  seldom,
);
const findTickets = compile(
  'export-tickets',
  (p: Parameter<'ownerId'>) =>
    build
      .select({
        id: tickets.id,
        subject: tickets.subject,
        issuedBy: tickets.issuedBy,
        projectId: tickets.projectId,
        createdAt: tickets.createdAt,
        expiresAt: tickets.expiresAt,
        revokedAt: tickets.revokedAt,
      })
      .from(tickets)
      .where(eq(tickets.issuedBy, p('ownerId')))
      .orderBy(asc(tickets.createdAt), asc(tickets.id))
      .limit(writtenOut(MAX_RECORDS)),
  seldom,
);
const findQuota = compile(
  'export-quota',
  (p: Parameter<'account'>) =>
    build
      .select({
        limitBytes: quotas.limitBytes,
        usedBytes: quotas.usedBytes,
        fileCount: quotas.fileCount,
        tier: quotas.tier,
      })
      .from(quotas)
      .where(eq(quotas.account, p('account'))),
  seldom,
);
const { id, at, action, actorId, ownerId: auditedOwner, assetId, projectId, reason, detail } = auditEvents;
type AuditParameter = Parameter<'ownerId' | 'asOf' | 'beforeId' | 'limit'>;
/** The latest first. */
const auditRowsOf = (p: AuditParameter, isHis: SQL | undefined) =>
  build
    .select({ id, at, action, actorId, ownerId: auditedOwner, assetId, projectId, reason, detail })
    .from(auditEvents)
    .where(
      and(
        isHis,
        lt(at, sql`${p('asOf')}::timestamptz`),
        sql`${id} < coalesce(${p('beforeId')}::bigint, 9223372036854775807)`,
      ),
    )
    .orderBy(desc(id))
    .limit(p('limit'));
/** Each half by its index, in the order of it. */
const findAudit = compile(
  'export-audit-rows',
  (p: AuditParameter) =>
    auditRowsOf(p, eq(auditedOwner, p('ownerId')))
      .unionAll(auditRowsOf(p, and(eq(actorId, p('ownerId')), sql`${auditedOwner} <> ${p('ownerId')}`)))
      .orderBy(desc(id))
      .limit(p('limit')),
  seldom,
);

const NIL = '00000000-0000-0000-0000-000000000000';

export class ExportsRepository {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** The next assets of an owner that `caller` may have, as archives need them; what is in the trash comes last. */
  async page(ownerId: string, caller: Caller, after: ExportPosition | undefined, limit: number) {
    const values = { ownerId, ...accessOf(caller) };
    const positionOf = (isTrashed: boolean) => {
      const isWithin = after?.isTrashed === isTrashed;
      return { afterTime: isWithin ? after.createdAt : new Date(0), afterId: isWithin ? after.id : NIL };
    };
    const shown = after?.isTrashed
      ? []
      : (await this.#database.run(listedPage, { ...values, ...positionOf(false), limit })).rows;
    if (shown.length === limit) return shown;
    const rest = { ...values, ...positionOf(true), limit: limit - shown.length };
    return [...shown, ...(await this.#database.run(trashedPage, rest)).rows];
  }

  /** In the order of the ids; without those that have gone since. */
  async records(ownerId: string, ids: readonly string[]): Promise<Asset[]> {
    const { rows } = await this.#database.run(findRecords, { ids, ownerId });
    const byId = new Map(rows.map((row) => [row.id, toAsset(row)]));
    return ids.flatMap((id) => byId.get(id) ?? []);
  }

  async versions(ids: readonly string[]) {
    return (await this.#database.run(findVersions, { ids })).rows;
  }

  /** Beside assets: what he belongs to, what he gave out, what he may store. Nothing in it changes by being looked at. */
  async account(ownerId: string, account: string) {
    const [memberships, given, keys, issued, quota] = [
      await this.#database.run(findMemberships, { ownerId }),
      await this.#database.run(findShares, { ownerId }),
      await this.#database.run(findKeys, { ownerId }),
      await this.#database.run(findTickets, { ownerId }),
      await this.#database.run(findQuota, { account }),
    ];
    const [row] = quota.rows;
    return {
      ...(row && {
        quota: {
          ...(row.limitBytes !== null && { limit: Number(row.limitBytes) }),
          used: Number(row.usedBytes),
          fileCount: Number(row.fileCount),
          ...(row.tier !== null && { tier: row.tier }),
        },
      }),
      memberships: memberships.rows,
      shares: given.rows,
      keys: keys.rows,
      tickets: issued.rows,
    };
  }

  /** Rows that he has written or that are about him, the latest first. */
  async audit(ownerId: string, asOf: Date, beforeId: bigint | undefined, limit: number) {
    const values = { ownerId, asOf, beforeId: beforeId ?? null, limit };
    return (await this.#database.run(findAudit, values)).rows;
  }
}
