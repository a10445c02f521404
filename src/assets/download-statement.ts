/**
 * What is asked of the records for each download and each link: the asset, what is served of it, and the audit row, by one statement
 * for as many as are asked for. Requests that come at the same time share it (database/batcher.ts), and a page of links
 * needs no other. Each row says by itself who asks for what, and is answered as if it were alone.
 */
import { and, eq, inArray, isNotNull, isNull, ne, or, sql } from 'drizzle-orm';
import { alias } from 'drizzle-orm/pg-core';
import { type AccessParameter, type AccessValues, isFor } from '../access/conditions.ts';
import { type Actor, type AuditAction, auditFrom } from '../database/audit.ts';
import type { Database } from '../database/client.ts';
import {
  build,
  compile,
  isAnyOf,
  jsonObject,
  jsonRows,
  type Parameter,
  type Statement,
} from '../database/statements.ts';
import { assets, inState, isVisible } from '../database/tables/assets.ts';
import { auditRows } from '../database/tables/audit.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { type Asset, assetColumns, toAsset } from './asset.ts';
import type { DerivativeDocument } from './derivative-document.ts';
import { markDownload } from './download-counts.ts';
import type { FoundDerivative } from './served-derivative.ts';

/** One thing that somebody wants to have. */
export interface WantedDownload {
  id: string;
  /** What the caller is to it is asked by these. */
  access: AccessValues;
  actor: Actor;
  /** Of the audit row; absent where nothing is had yet, so that there is none. */
  action?: AuditAction;
  /** What was made of it is told, too. */
  withDerivatives?: boolean;
  /** Of the audit row. */
  detail: Record<string, unknown>;
  /** Whether it is one more download of the file: a link that is issued is none, nor is a derivative. */
  counts: boolean;
  /** Name of a derivative that is wanted instead of the file. */
  derivative?: string;
}

type WantedColumn =
  | 'at'
  | 'id'
  | 'action'
  | 'detail'
  | 'counts'
  | 'derivative'
  | 'withDerivatives'
  | AccessParameter
  | keyof Actor;

const { column: wanted, from: wantedRows } = jsonRows<WantedColumn>('wanted', {
  at: 'integer',
  id: 'uuid',
  subject: 'text',
  claims: 'jsonb',
  only: 'text[]',
  ticket: 'uuid',
  anywhere: 'boolean',
  action: 'text',
  detail: 'jsonb',
  counts: 'boolean',
  derivative: 'text',
  withDerivatives: 'boolean',
  callerId: 'text',
  requestId: 'text',
  via: 'text',
  because: 'text',
});

const { name, state, reason, kind, objectKey, mediaType, updatedAt, leaseExpiresAt } = derivatives;
/** Of the derivative that is wanted; null where there is none. */
const derivativeColumns = {
  derivativeName: sql<string | null>`${name}`.as('derivative_name'),
  derivativeState: sql<'making' | 'ready' | 'failed' | null>`${state}`.as('derivative_state'),
  derivativeReason: sql<string | null>`${reason}`.as('derivative_reason'),
  derivativeKind: sql`${kind}`.mapWith(kind).as('derivative_kind'),
  derivativeKey: sql<string | null>`${objectKey}`.as('derivative_key'),
  derivativeType: sql<string | null>`${mediaType}`.as('derivative_type'),
  derivativeUpdatedAt: sql`${updatedAt}`.mapWith(updatedAt).as('derivative_updated_at'),
  derivativeLease: sql`${leaseExpiresAt}`.mapWith(leaseExpiresAt).as('derivative_lease'),
};

const beside = alias(derivatives, 'beside');
/** As `toDerivativeDocument` makes it. */
const document = jsonObject({
  name: beside.name,
  state: beside.state,
  reason: beside.reason,
  kind: beside.kind,
  mediaType: beside.mediaType,
  size: beside.size,
  sha256: sql`encode(${beside.sha256}, 'hex')`,
  width: beside.width,
  height: beside.height,
  createdAt: sql`to_char(${beside.createdAt} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`,
});
const documents = build
  .select({ all: sql`jsonb_agg(jsonb_strip_nulls(${document}) order by ${beside.name})`.as('all_made') })
  .from(beside)
  .where(
    and(
      eq(beside.assetId, assets.id),
      eq(beside.sourceKey, assets.objectKey),
      ne(beside.state, 'discarded'),
      inArray(beside.kind, ['derivative', 'transcode']),
    ),
  );
const made = sql<DerivativeDocument[] | null>`case when ${wanted('withDerivatives')} then (${documents}) end`.as(
  'made',
);

/**
 * The assets that are there for who wants them, with `at`, the place among those wanted. What is `served` has its audit row;
 * of the others the record tells why.
 */
export const findForDownload = compile('find-for-download', (p: Parameter<'wanted' | 'ids'>) => {
  const isNamed = and(
    eq(derivatives.assetId, assets.id),
    eq(derivatives.name, wanted('derivative')),
    eq(derivatives.sourceKey, assets.objectKey),
    ne(derivatives.state, 'discarded'),
    ne(derivatives.kind, 'replacement'),
  );
  const isServed = and(
    inState('ready'),
    isNull(assets.trashedAt),
    or(isNull(wanted('derivative')), eq(derivatives.state, 'ready')),
  );
  const found = build.$with('found').as(
    build
      .select({
        at: sql<number>`${wanted('at')}`.as('at'),
        served: sql<boolean>`coalesce(${isServed}, false)`.as('served'),
        action: sql<string | null>`${wanted('action')}`.as('action'),
        detail: sql`${wanted('detail')}`.mapWith(auditRows.detail).as('audit_detail'),
        callerId: sql<string>`${wanted('callerId')}`.as('caller_id'),
        requestId: sql<string>`${wanted('requestId')}`.as('request_id'),
        via: sql<string | null>`${wanted('via')}`.as('via'),
        because: sql<string | null>`${wanted('because')}`.as('because'),
        counts: sql<boolean>`${wanted('counts')}`.as('counts'),
        made,
        ...assetColumns,
        ...derivativeColumns,
      })
      .from(wantedRows(p('wanted')))
      .innerJoin(assets, eq(assets.id, wanted('id')))
      .leftJoin(derivatives, isNamed)
      // The planner takes a hundred to be wanted, and reads small tables whole for them; of a list of ids it thinks better.
      .where(and(isAnyOf(assets.id, p('ids')), isFor(wanted, 'asset.download'), isVisible)),
  );
  const served = build.$with('served').as(
    build
      .select()
      .from(found)
      .where(and(sql`${found.served}`, isNotNull(found.action))),
  );
  const actor = (name: keyof Actor) => served[name];
  return build
    .with(
      found,
      served,
      auditFrom(actor, served, { action: served.action, detail: sql`${served.detail}` }),
      markDownload(served, sql`${served.counts}`),
    )
    .select()
    .from(found);
});

/** The value of the parameter. */
export function wantedValue(downloads: readonly WantedDownload[]): string {
  return JSON.stringify(
    downloads.map(({ id, access, actor, action, detail, counts, derivative, withDerivatives = false }, at) => ({
      at,
      id,
      ...access,
      ...actor,
      action,
      detail,
      counts,
      derivative,
      withDerivatives,
    })),
  );
}

type RowOf<Of> = Of extends Statement<never, infer Row> ? Row : never;

/** What was found for somebody who wants it. */
export interface FoundDownload {
  asset: Asset;
  /** It may be had, and that is recorded. */
  served: boolean;
  /** All that was made of the bytes that it has now, where that is wanted. */
  made: DerivativeDocument[];
  /** Of the bytes that the asset has now, ready or not; absent where none is wanted, or there is none. */
  derivative?: FoundDerivative & { name: string; objectKey: string; mediaType: string | null };
}

/** @returns an outcome for each, in their order; undefined where there is no such asset for the caller */
export async function findEach(
  database: Database,
  wanted: readonly WantedDownload[],
): Promise<(FoundDownload | undefined)[]> {
  const outcomes = new Array<FoundDownload | undefined>(wanted.length).fill(undefined);
  const ids = wanted.map(({ id }) => id);
  const { rows } = await database.run(findForDownload, { wanted: wantedValue(wanted), ids });
  for (const row of rows) outcomes[row.at] = toFound(row);
  return outcomes;
}

function toFound(row: RowOf<typeof findForDownload>): FoundDownload {
  const found: FoundDownload = { asset: toAsset(row), served: row.served, made: row.made ?? [] };
  const {
    derivativeState: state,
    derivativeKind: kind,
    derivativeKey: objectKey,
    derivativeUpdatedAt: updatedAt,
  } = row;
  const { derivativeName: name } = row;
  if (name === null || state === null || kind === null || objectKey === null || updatedAt === null) return found;
  const { derivativeReason: reason, derivativeType: mediaType, derivativeLease: leaseExpiresAt } = row;
  return { ...found, derivative: { name, state, kind, objectKey, updatedAt, reason, mediaType, leaseExpiresAt } };
}
