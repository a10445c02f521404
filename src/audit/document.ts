/** A row of the audit trail as people get it: in a page, as a line of JSON, as a line of CSV. */
import { z } from 'zod';
import { timestamp } from '../http/schema-types.ts';
import type { AuditRow } from './repository.ts';

export const auditDocument = z
  .object({
    at: timestamp,
    action: z.string().meta({ description: 'What was done; more may be added', example: 'asset.trashed' }),
    actorId: z.string().meta({
      description: 'Who did it: the subject of a token, or a part of the service, such as `stowage:reaper`',
      example: 'user-1',
    }),
    via: z.string().optional().meta({
      description: 'The credential by which somebody spoke for the actor: `key:` or `ticket:` and its id',
    }),
    ownerId: z.string().meta({ description: 'Who has uploaded the asset, or whom it is about', example: 'user-1' }),
    assetId: z
      .string()
      .optional()
      .meta({ override: { type: 'string', format: 'uuid' } }),
    projectId: z.string().optional().meta({ description: 'Of the asset, at that time', example: 'website' }),
    reason: z.string().optional().meta({ description: 'Why, in the words of the actor' }),
    requestId: z.string().optional().meta({ description: 'The `requestId` of the request, or the job' }),
    detail: z.record(z.string(), z.unknown()).meta({
      override: { type: 'object', additionalProperties: true },
      description: 'What else belongs to the action',
    }),
  })
  .meta({ id: 'AuditEvent' });
export type AuditDocument = z.input<typeof auditDocument>;

/** What is left out of the details. */
export interface Hidden {
  /** Who reads it may be nothing to the project that an asset came from. */
  hidesPlaces: boolean;
  /** Why an asset is held is for those who may hold it. */
  hidesHolds: boolean;
}

export function toDocument(row: AuditRow, { hidesPlaces, hidesHolds }: Hidden): AuditDocument {
  const { via, assetId, projectId, reason, requestId, detail } = row;
  const { previousProjectId, heldFor, ...others } = detail;
  return {
    at: row.at.toISOString(),
    action: row.action,
    actorId: row.actorId,
    ...(via !== null && { via }),
    ownerId: row.ownerId,
    ...(assetId !== null && { assetId }),
    ...(projectId !== null && { projectId }),
    ...(reason !== null && { reason }),
    ...(requestId !== null && { requestId }),
    detail: {
      ...others,
      ...(!hidesPlaces && previousProjectId !== undefined && { previousProjectId }),
      ...(!hidesHolds && heldFor !== undefined && { heldFor }),
    },
  };
}

/** How rows are written one by one. */
export interface LineFormat {
  contentType: string;
  fileName: string;
  /** Before the first row. */
  head: string;
  line(document: AuditDocument): string;
}

const csvColumns = [
  'at',
  'action',
  'actorId',
  'via',
  'ownerId',
  'assetId',
  'projectId',
  'reason',
  'requestId',
  'detail',
] as const;

export const lineFormats: Record<'ndjson' | 'csv', LineFormat> = {
  ndjson: {
    contentType: 'application/x-ndjson',
    fileName: 'audit.ndjson',
    head: '',
    line: (document) => `${JSON.stringify(document)}\n`,
  },
  csv: {
    contentType: 'text/csv; charset=utf-8; header=present',
    fileName: 'audit.csv',
    head: `${csvColumns.join(',')}\r\n`,
    line: (document) => `${csvColumns.map((column) => csvField(document[column])).join(',')}\r\n`,
  },
};

/** RFC 4180. What a spreadsheet would take for a formula is marked as text. */
function csvField(value: AuditDocument[keyof AuditDocument]): string {
  if (value === undefined) return '';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** What the client asks for by Accept (RFC 9110 section 12.5.1); JSON unless it names one of the others. */
export function formatOf(accept: string | undefined): LineFormat | undefined {
  const named = (accept ?? '').toLowerCase();
  if (named.includes('application/x-ndjson') || named.includes('application/ndjson')) return lineFormats.ndjson;
  return named.includes('text/csv') ? lineFormats.csv : undefined;
}
