/** Storage tests over HTTP, for administrators. */
import { z } from 'zod';
import { probeSteps } from '../doctor/storage-probe.ts';
import type { App } from '../http/openapi.ts';
import { openEnum, timestamp } from '../http/schema-types.ts';
import { Problem } from '../problems.ts';
import { storageTestRunning } from './problems.ts';
import { PRIMARY, type TestedStore } from './stores.ts';
import type { StorageTester } from './tester.ts';

const storeName = z.string().min(1).max(64).meta({ example: PRIMARY });
const stepDocument = z
  .object({
    name: openEnum('StorageTestStepName', probeSteps, 'What was tried.'),
    outcome: openEnum(
      'StorageTestOutcome',
      ['ok', 'failed', 'skipped'],
      '`skipped`: it is not needed, or could not be tried because of what failed before.',
    ),
    permission: z
      .string()
      .optional()
      .meta({ description: 'The permission that is missing, as S3 calls it', example: 's3:GetObject' }),
    detail: z.string().meta({ description: 'What was found, and what to do' }),
  })
  .meta({ id: 'StorageTestStep' });
const testDocument = z
  .object({
    store: storeName.meta({ description: 'Name of the store' }),
    kind: openEnum('StoreKind', ['s3', 'disk'], 'What it is.'),
    provider: z
      .string()
      .optional()
      .meta({ description: 'Who runs it, where the endpoint tells', example: 'Cloudflare R2' }),
    ok: z.boolean().meta({ description: 'Whether no step failed' }),
    startedAt: timestamp,
    finishedAt: timestamp,
    steps: z.array(stepDocument),
    leftBehind: z
      .number()
      .int()
      .min(0)
      .meta({
        override: { type: 'integer', minimum: 0 },
        description: 'Objects of the test that could not be removed; the reconciler removes them when they are old',
      }),
  })
  .meta({ id: 'StorageTest' });

export interface StorageTestRoutesOptions {
  tester: StorageTester;
  stores: readonly TestedStore[];
}

export function storageTestRoutes(app: App, { tester, stores }: StorageTestRoutesOptions): void {
  app.post(
    '/v1/admin/storage-tests',
    {
      schema: {
        operationId: 'testStorage',
        tags: ['Administration'],
        summary: 'Test a store: write, read, range, parts, list and delete',
        description:
          'Does once what the service does with a store, on objects of its own that are removed again, and names each permission that is missing. It takes up to 45 seconds; one test runs at a time.',
        body: z
          .strictObject({
            store: storeName.optional().meta({
              description: `Name of the store: \`${PRIMARY}\`, the first one, when absent; or that of a mirror, or \`archive\``,
            }),
          })
          .meta({ id: 'StorageTestRequest' }),
        response: { 200: testDocument },
      },
      config: {
        scope: 'admin',
        success: { status: 200, description: 'What was found; also when steps failed' },
        problems: [
          'missing-scope',
          'malformed-request',
          'invalid-parameter',
          'too-large',
          'unsupported-media-type',
          storageTestRunning,
          'too-many-requests',
        ],
      },
    },
    async ({ body: { store: name = PRIMARY } }) => {
      const tested = named(stores, name);
      const startedAt = new Date().toISOString();
      const { steps, leftBehind } = await tester.test(tested);
      return {
        store: name,
        kind: tested.store.kind,
        ...(tested.provider !== undefined && { provider: tested.provider }),
        ok: steps.every(({ outcome }) => outcome !== 'failed'),
        startedAt,
        finishedAt: new Date().toISOString(),
        steps,
        leftBehind,
      };
    },
  );
}

/** @throws Problem invalid-parameter */
function named(stores: readonly TestedStore[], name: string): TestedStore {
  const found = stores.find((each) => each.name === name);
  if (found) return found;
  const detail = `There is no store of this name. There are ${stores.map((each) => each.name).join(', ')}.`;
  throw new Problem('invalid-parameter', { detail, errors: [{ pointer: '/store', detail }] });
}
