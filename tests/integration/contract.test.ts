import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { toOpenApi30 } from '../../src/http/openapi-3.0.ts';
import { openApiDocument } from '../../src/openapi-document.ts';
import { problemsByStatus, problemUri } from '../../src/problems.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const text = readFileSync(join(root, 'openapi.yaml'), 'utf8');

interface Schema {
  type?: string | string[];
  enum?: string[];
  'x-extensible-enum'?: string[];
  additionalProperties?: unknown;
  minProperties?: number;
  properties?: Record<string, Schema>;
  items?: Schema;
}

interface Operation {
  operationId?: string;
  summary?: string;
  security?: unknown[];
  parameters?: { name: string; schema: Schema }[];
  responses: Record<string, { content?: Record<string, { examples?: Record<string, { value: { type: string } }> }> }>;
}

const document: {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
} = parse(text);
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ at: `${method.toUpperCase()} ${path}`, ...operation })),
);

/** Names in generated clients: to remove or change one breaks them. What is new is added here once it must stay. */
const operationIds: Record<string, string> = {
  uploadAsset: 'POST /v1/assets',
  uploadAssets: 'POST /v1/assets/batch',
  uploadRawAsset: 'PUT /v1/assets/raw/{fileName}',
  createUpload: 'POST /v1/uploads',
  getUpload: 'GET /v1/uploads/{id}',
  signUploadParts: 'POST /v1/uploads/{id}/parts',
  completeUpload: 'POST /v1/uploads/{id}/complete',
  cancelUpload: 'DELETE /v1/uploads/{id}',
  uploadPart: 'PUT /v1/links/parts/{token}',
  createResumableUpload: 'POST /v1/resumable',
  getResumableSupport: 'OPTIONS /v1/resumable',
  getResumableUpload: 'HEAD /v1/resumable/{id}',
  continueResumableUpload: 'PATCH /v1/resumable/{id}',
  cancelResumableUpload: 'DELETE /v1/resumable/{id}',
  listAssets: 'GET /v1/assets',
  getAsset: 'GET /v1/assets/{id}',
  updateAsset: 'PATCH /v1/assets/{id}',
  deleteAsset: 'DELETE /v1/assets/{id}',
  restoreAsset: 'POST /v1/assets/{id}/restore',
  keepAsset: 'POST /v1/assets/{id}/keep',
  restoreAssetFromArchive: 'POST /v1/assets/{id}/restore-from-archive',
  listDueAssets: 'GET /v1/admin/lifecycle',
  listDueAssetsOfProject: 'GET /v1/projects/{projectId}/lifecycle',
  bulkChangeAssets: 'POST /v1/assets/bulk',
  createDownloadLink: 'GET /v1/assets/{id}/download',
  redirectToDownload: 'GET /v1/assets/{id}/download/redirect',
  downloadAsset: 'GET /v1/assets/{id}/content',
  followLink: 'GET /v1/links/{token}',
  getQuota: 'GET /v1/quota',
  setOwnerTier: 'PUT /v1/admin/owners/{ownerId}',
  getStatistics: 'GET /v1/statistics',
  getOwnerQuota: 'GET /v1/admin/quotas/{ownerId}',
  setOwnerQuota: 'PUT /v1/admin/quotas/{ownerId}',
  getJobs: 'GET /v1/admin/jobs',
  retryJobs: 'POST /v1/admin/jobs/{queue}/retry',
  getAssetCode: 'GET /v1/assets/{id}/qr',
  getProjectCode: 'GET /v1/projects/{projectId}/qr',
  createProject: 'POST /v1/projects',
  listProjects: 'GET /v1/projects',
  getProject: 'GET /v1/projects/{projectId}',
  updateProject: 'PATCH /v1/projects/{projectId}',
  deleteProject: 'DELETE /v1/projects/{projectId}',
  listProjectMembers: 'GET /v1/projects/{projectId}/members',
  setProjectMember: 'PUT /v1/projects/{projectId}/members/{subject}',
  replaceAssetContent: 'PUT /v1/assets/{id}/content',
  listAssetVersions: 'GET /v1/assets/{id}/versions',
  downloadAssetVersion: 'GET /v1/assets/{id}/versions/{number}/content',
  restoreAssetVersion: 'POST /v1/assets/{id}/versions/{number}/restore',
  deleteAssetVersion: 'DELETE /v1/assets/{id}/versions/{number}',
  removeProjectMember: 'DELETE /v1/projects/{projectId}/members/{subject}',
};

describe('the contract', () => {
  test('an answer without a body has none in the contract: generated clients would read one', () => {
    for (const { at, responses } of operations)
      for (const status of ['204', '304']) assert.equal(responses?.[status]?.content, undefined, `${at} ${status}`);
  });

  test('what has a format that says it all has no pattern: the generator for Python ends at that of times', () => {
    assert.doesNotMatch(text, /format: (date-time|uuid)\n +pattern:|pattern: .*\n +format: (date-time|uuid)/);
  });

  test('no schema has the name by which clients in Go make another one', () => {
    const names = new Set(Object.keys(document.components.schemas));
    assert.deepEqual(
      [...names].filter((name) => names.has(name.replace(/^New/, '')) && name.startsWith('New')),
      [],
    );
  });

  test('openapi.yaml is what the routes say; else run npm run openapi', async () => {
    assert.equal(text, await openApiDocument());
  });

  test('redocly finds nothing to say about it', () => {
    const cli = dirname(createRequire(import.meta.url).resolve('@redocly/cli/package.json'));
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(cli, 'bin/cli.js'), 'lint', 'openapi.yaml', '--format=json'],
      {
        cwd: root,
        encoding: 'utf8',
        env: { ...process.env, REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' },
      },
    );
    assert.equal(status, 0, stdout + stderr);
    const { totals }: { totals: { errors: number; warnings: number } } = JSON.parse(stdout);
    assert.equal(totals.errors + totals.warnings, 0, stdout);
  });

  test('its schemas are what generators need: answers open for what is new, requests strict, everything named', () => {
    const schemas: Record<string, Schema> = parse(text).components.schemas;
    const requests = [
      'UploadForm',
      'BatchForm',
      'UploadRequest',
      'PartsRequest',
      'AssetPatch',
      'ProjectRequest',
      'ProjectPatch',
      'ProjectMemberChange',
      'BulkChange',
      'QuotaChange',
      'JobRetry',
    ];
    for (const name of requests) assert.equal(schemas[name]?.additionalProperties, false, name);
    for (const [name, schema] of Object.entries(schemas)) {
      const isRequest = schema.additionalProperties === false;
      assert.ok(isRequest || !('additionalProperties' in schema), name);
      for (const [property, { type, items, enum: values, properties }] of Object.entries(schema.properties ?? {})) {
        const at = `${name}.${property}`;
        assert.ok(properties === undefined && items?.properties === undefined, `${at} is an object without a name`);
        assert.equal(values, undefined, `${at} is an enum without a name`);
        assert.ok(!Array.isArray(type) || type.length === 2, at);
      }
      // A value that is new would break the clients that were generated before.
      if (/State$/.test(name)) assert.ok(schema.enum === undefined && schema['x-extensible-enum'], name);
    }
    assert.equal(schemas['AssetPatch']?.minProperties, 1);
    assert.deepEqual(schemas['AssetPatch']?.properties?.['projectId']?.type, ['string', 'null']);
  });

  test('no schema has keywords of another type, which clients would match a number against', () => {
    const kinds = Object.values(document.paths).flatMap((methods) => Object.values(methods));
    const seen = kinds.flatMap(({ parameters = [] }) => parameters).filter(({ schema }) => schema.type === 'integer');
    assert.ok(seen.length >= 3);
    for (const { name, schema } of seen) assert.ok(!('pattern' in schema) && !('maxLength' in schema), name);
  });

  test('/openapi-3.0.json is OpenAPI 3.0 without what only 3.1 knows, and has the same operations', () => {
    const older = toOpenApi30(parse(text));
    const written = JSON.stringify(older);
    assert.match(written, /"openapi":"3\.0\.3"/);
    assert.doesNotMatch(written, /"type":\[|"const":|"propertyNames":|"identifier":|"\$ref":"[^"]*",|,"\$ref"/);
    assert.match(written, /"nullable":true/);
    const paths = (older as typeof document).paths;
    assert.deepEqual(Object.keys(paths), Object.keys(document.paths));
  });

  test('has these operations under these names', () => {
    const there = Object.fromEntries(operations.map(({ operationId, at }) => [operationId, at]));
    for (const [operationId, at] of Object.entries(operationIds)) assert.equal(there[operationId], at);
  });

  for (const { at, operationId, summary, security, responses } of operations) {
    test(`${at} has a summary, one success and the problems that every operation may have`, () => {
      assert.match(operationId ?? '', /^[a-z][A-Za-z]+$/);
      assert.match(summary ?? '', /^[A-Z].{5,}[^.]$/);
      const bodies = Object.entries(responses).filter(([status, { content }]) => status.startsWith('2') && content);
      const kinds = new Set(bodies.map(([, { content = {} }]) => Object.keys(content).join()));
      assert.ok(kinds.size <= 1, 'one kind of body');
      const success = operationId === 'redirectToDownload' ? '3' : '2';
      assert.ok(Object.keys(responses).some((status) => status.startsWith(success)));
      const always = ['414', '431', '500', '503'];
      const expected = security?.length === 0 ? always : [...always, '400', '401', '429'];
      for (const status of expected) assert.ok(responses[status], `${status} is missing`);
      assert.ok(!('default' in responses));
    });
  }

  test('every problem response is a problem document whose examples are types of the catalogue', () => {
    const seen = new Set<string>();
    for (const { at, responses } of operations) {
      for (const [status, { content = {} }] of Object.entries(responses)) {
        if (!/^[45]/.test(status)) continue;
        assert.deepEqual(Object.keys(content), ['application/problem+json'], `${at} ${status}`);
        const types = (problemsByStatus().get(Number(status)) ?? []).map(problemUri);
        const examples = Object.values(content['application/problem+json']?.examples ?? {});
        assert.ok(examples.length > 0, `${at} ${status}`);
        for (const { value } of examples) {
          assert.ok(types.includes(value.type), `${at} ${status} ${value.type}`);
          seen.add(value.type);
        }
      }
    }
    assert.ok(seen.has(problemUri('quota-exceeded')) && seen.has(problemUri('digest-mismatch')));
  });
});
