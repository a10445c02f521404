/** Scans of stored files over HTTP, for administrators. */
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import type { App } from '../http/openapi.ts';
import { assetType, openEnum, timestamp } from '../http/schema-types.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { Problem } from '../problems.ts';
import { scanInProgress } from '../scanning/problems.ts';
import type { RescansRepository, ScanRow } from './repository.ts';

const count = z
  .number()
  .int()
  .min(0)
  .meta({ override: { type: 'integer', format: 'int64', minimum: 0 } });
const scanDocument = z
  .object({
    id: z.string().meta({ override: { type: 'string', format: 'uuid' }, description: 'UUIDv7' }),
    state: openEnum('StoredScanState', ['running', 'done', 'cancelled'], 'How it is with the scan.'),
    before: timestamp,
    assetType: assetType.optional(),
    found: count.optional().meta({ description: 'Files that are to be scanned; absent until they were counted' }),
    scanned: count.meta({ description: 'Files that were scanned, infected ones too' }),
    infected: count.meta({ description: 'Files that are infected, and were taken out of service' }),
    notScanned: count.meta({ description: 'Files that could not be scanned; they stay as they are' }),
    createdAt: timestamp,
    finishedAt: timestamp.optional(),
  })
  .meta({ id: 'StoredScan' });
const TIME = 'must be a time such as 2026-11-01T00:00:00Z';
/** RFC 3339; Postgres knows no year 0. */
const timeOfScan = z.iso
  .datetime({ offset: true, error: TIME })
  .refine((text) => Date.parse(text) >= 0, 'must not lie before 1970')
  .meta({ override: { type: 'string', format: 'date-time' }, example: '2026-11-20T12:00:00.000Z' });
const byId = z.object({
  id: z.uuid({ error: 'must be a UUID' }).meta({ override: { type: 'string', format: 'uuid' } }),
});

function toDocument(scan: ScanRow): z.input<typeof scanDocument> {
  const { id, state, before, found, scanned, infected, notScanned, createdAt, finishedAt } = scan;
  return {
    id,
    state,
    before: before.toISOString(),
    ...(scan.assetType !== null && { assetType: scan.assetType }),
    ...(found !== null && { found }),
    scanned,
    infected,
    notScanned,
    createdAt: createdAt.toISOString(),
    ...(finishedAt && { finishedAt: finishedAt.toISOString() }),
  };
}

const admin = { scope: 'admin' } as const;

export interface RescanRoutesOptions {
  scans: RescansRepository;
  hasScanner: boolean;
  /** Asset types whose files are scanned. */
  scannedTypes: readonly string[];
}

export function rescanRoutes(app: App, { scans, hasScanner, scannedTypes }: RescanRoutesOptions): void {
  app.post(
    '/v1/admin/scans',
    {
      schema: {
        operationId: 'scanStoredFiles',
        tags: ['Administration'],
        summary: 'Scan stored files again, in the background',
        description:
          'With the signatures that the scanner has now. Infected files are taken out of service: they are `rejected`, their bytes are deleted. One scan runs at a time.',
        body: z
          .strictObject({
            before: timeOfScan.meta({ description: 'Files that were scanned before this time, or never, are scanned' }),
            assetType: assetType.optional().meta({ description: 'Only files of this asset type' }),
          })
          .meta({ id: 'StoredScanRequest' }),
        response: { 202: scanDocument },
      },
      config: {
        ...admin,
        success: {
          status: 202,
          description: 'The scan was begun',
          headers: { Location: { description: 'Where its progress is told', schema: { type: 'string' } } },
        },
        problems: [
          'missing-scope',
          'malformed-request',
          'invalid-parameter',
          'too-large',
          'unsupported-media-type',
          'not-implemented',
          scanInProgress,
        ],
      },
    },
    async (request, reply) => {
      if (!hasScanner) throw new Problem('not-implemented', { detail: 'There is no virus scanner: CLAMD is not set.' });
      const before = new Date(request.body.before);
      if (before.getTime() > Date.now()) throw invalid('before', 'must not lie in the future');
      const { assetType } = request.body;
      if (assetType !== undefined && !scannedTypes.includes(assetType))
        throw invalid(
          'assetType',
          `must be one whose files are scanned: ${scannedTypes.join(', ') || 'there is none'}`,
        );
      const answerOf = (scan: ScanRow) => ({
        status: 202,
        headers: { location: `/v1/admin/scans/${scan.id}` },
        body: toDocument(scan),
      });
      const commit = answering(request);
      const wanted = { id: uuidv7(), before, assetType };
      const scan = await scans.begin(wanted, actorOf(request), (transaction, row) =>
        commit(transaction, answerOf(row)),
      );
      if (!scan) throw new Problem(scanInProgress, { detail: 'Wait until it has ended, or cancel it.' });
      return sendAnswer(reply, answerOf(scan));
    },
  );

  app.get(
    '/v1/admin/scans',
    {
      schema: {
        operationId: 'listStoredFileScans',
        tags: ['Administration'],
        summary: 'List the scans of stored files, the latest first',
        response: {
          200: z
            .object({ data: z.array(scanDocument).meta({ description: 'At most 100' }) })
            .meta({ id: 'StoredScans' }),
        },
      },
      config: { ...admin, success: { status: 200, description: 'The scans' }, problems: ['missing-scope'] },
    },
    async () => ({ data: (await scans.list()).map(toDocument) }),
  );

  app.get(
    '/v1/admin/scans/:id',
    {
      schema: {
        operationId: 'getStoredFileScan',
        tags: ['Administration'],
        summary: 'Get the progress of a scan of stored files',
        params: byId,
        response: { 200: scanDocument },
      },
      config: {
        ...admin,
        success: { status: 200, description: 'The scan' },
        problems: ['missing-scope', 'not-found'],
      },
    },
    async (request) => toDocument(await found(scans, request.params.id)),
  );

  app.delete(
    '/v1/admin/scans/:id',
    {
      schema: {
        operationId: 'cancelStoredFileScan',
        tags: ['Administration'],
        summary: 'Cancel a scan of stored files',
        description: 'What was found until then stays as it is. One that has ended stays so.',
        params: byId,
      },
      config: {
        ...admin,
        success: { status: 204, description: 'The scan does not go on' },
        problems: ['missing-scope', 'not-found'],
      },
    },
    async (request, reply) => {
      const answer = { status: 204, headers: {}, body: undefined };
      const commit = answering(request);
      const { id } = request.params;
      if (!(await scans.cancel(id, actorOf(request), (transaction) => commit(transaction, answer))))
        await found(scans, id);
      return sendAnswer(reply, answer);
    },
  );
}

async function found(scans: RescansRepository, id: string): Promise<ScanRow> {
  const scan = await scans.find(id);
  if (scan) return scan;
  throw new Problem('not-found', { detail: 'There is no scan with this id.' });
}

function invalid(field: string, detail: string): Problem {
  return new Problem('invalid-parameter', {
    detail: `${field} ${detail}.`,
    errors: [{ pointer: `/${field}`, detail }],
  });
}
