/**
 * Holds attacked by every operation of the contract that changes something, by everybody who may do most. What is done to a
 * held asset either is refused, or leaves its bytes and those of its versions as they were.
 */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { parse } from 'yaml';
import { type Answer, type AnyBody, Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const base64 = (text: string) => Buffer.from(text).toString('base64');
const TUS = { 'tus-resumable': '1.0.0' };
const because = { 'stowage-reason': 'a test' };
const pictures = { mediaTypes: ['image/png'], maxBytes: 100_000, metadata: 'keep' };
const policies = { kept: { ...pictures, versions: 2 } };
const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', REPLACED_GRACE: '0s', RECONCILE_GRACE: '0s' };
const [first, second, other] = [png(300, 1), png(300, 2), png(300, 3)];

/** What is attacked: the second bytes of an asset, of which the first are a version. */
interface Target {
  id: string;
  project: string;
  owner: string;
  /** The uploader of a personal asset, or a manager of its project. */
  client: Client;
  /** The same caller as an administrator, who names a reason. */
  root: Client;
  /** Uploads in its place that were begun, all bytes sent, before it was held. */
  direct: string;
  resumable: string;
}
type Attack = (target: Target) => Promise<Answer<AnyBody>[]>;

const held = [409, 'urn:stowage:problem:held'];
const refused = (answers: readonly Answer<AnyBody>[]) => {
  for (const { status, body } of answers) assert.deepEqual([status, body.type], held, JSON.stringify(body));
};
/** By the caller, and by him as an administrator: refused. */
const both =
  (call: (client: Client, target: Target) => Promise<Answer<AnyBody>>): Attack =>
  async (target) => {
    const answers = [await call(target.client, target), await call(target.root, target)];
    refused(answers);
    return answers;
  };
/** What may be done, or is refused for another reason. */
const harmless =
  (call: (client: Client, target: Target) => Promise<Answer<AnyBody>>): Attack =>
  async (target) => [await call(target.root, target)];
const bulk = (client: Client, body: object) => client.send('POST', '/v1/assets/bulk', body);

async function finishedResumable(client: Client, { resumable }: Target, rest = other.subarray(100)) {
  const headers = { ...TUS, 'content-type': 'application/offset+octet-stream', 'upload-offset': '100' };
  return client.request('PATCH', resumable, { headers, body: rest });
}

const attacks: Record<string, Attack> = {
  uploadAsset: both((client, { id }) => client.upload(other, { name: 'photo.png', fields: { replaces: id } })),
  replaceAssetContent: both((client, { id }) => client.request('PUT', `/v1/assets/${id}/content`, { body: other })),
  createUpload: both((client, { id: replaces }) =>
    client.send('POST', '/v1/uploads', { fileName: 'a.png', size: 300, contentType: 'image/png', replaces }),
  ),
  completeUpload: async (target) => {
    const answer = await target.client.request('POST', `/v1/uploads/${target.direct}/complete`);
    refused([answer]);
    return [answer];
  },
  createResumableUpload: both((client, { id }) =>
    client.request('POST', '/v1/resumable', {
      headers: {
        ...TUS,
        'upload-length': '300',
        'upload-metadata': `filename ${base64('a.png')},replaces ${base64(id)}`,
      },
    }),
  ),
  continueResumableUpload: async (target) => {
    const answer = await finishedResumable(target.client, target);
    assert.equal(answer.status, 409, JSON.stringify(answer.body));
    return [answer];
  },
  updateAsset: harmless((client, { id }) =>
    client.send('PATCH', `/v1/assets/${id}`, { name: 'other.png', metadata: { a: 'b' }, tags: ['t'], path: 'p/' }),
  ),
  deleteAsset: async (target) => {
    const answers: Answer<AnyBody>[] = [];
    for (const client of [target.client, target.root])
      for (const query of ['', '?permanent=true', '?permanent=false'])
        answers.push(await client.request('DELETE', `/v1/assets/${target.id}${query}`));
    refused(answers);
    return answers;
  },
  restoreAsset: harmless((client, { id }) => client.request('POST', `/v1/assets/${id}/restore`)),
  bulkChangeAssets: async (target) => {
    const answers: Answer<AnyBody>[] = [];
    for (const client of [target.client, target.root])
      for (const body of [{ action: 'trash' }, { action: 'delete' }, { action: 'delete', permanent: true }])
        answers.push(await bulk(client, { ...body, ids: [target.id, target.id.toUpperCase()] }));
    for (const { status, body } of answers) {
      assert.equal(status, 200);
      for (const result of body['results'] as { status: number }[]) assert.equal(result.status, 409);
    }
    await bulk(target.root, { action: 'tag', addTags: ['bulk'], ids: [target.id] });
    return answers;
  },
  emptyTrash: async ({ client, root, project }) => {
    const answers = [
      await client.request('DELETE', '/v1/trash'),
      await root.request('DELETE', `/v1/trash?projectId=${project}`),
    ];
    await waitUntil(async () => (await client.get('/v1/trash')).body.state === ('done' as never));
    return answers;
  },
  restoreAssetVersion: both((client, { id }) => client.request('POST', `/v1/assets/${id}/versions/1/restore`)),
  deleteAssetVersion: both((client, { id }) => client.request('DELETE', `/v1/assets/${id}/versions/1`)),
  deleteProject: harmless((client, { project }) => client.request('DELETE', `/v1/projects/${project}`)),
  removeProjectMember: harmless((client, { project, owner }) =>
    client.request('DELETE', `/v1/projects/${project}/members/${owner}`),
  ),
  updateProject: harmless((client, { project }) =>
    client.send('PATCH', `/v1/projects/${project}`, { metadata: { a: 'b' } }),
  ),
  setOwnerQuota: harmless((client, { owner }) => client.send('PUT', `/v1/admin/quotas/${owner}`, { limit: 0 })),
  holdAsset: harmless((client, { id }) =>
    client.send('PUT', `/v1/assets/${id}/hold`, { name: 'another', reason: 'another' }),
  ),
  removeAssetHold: harmless((client, { id }) =>
    client.request('DELETE', `/v1/assets/${id}/hold/no-such-hold?reason=settled`),
  ),
  retainAsset: harmless((client, { id }) =>
    client.send('PUT', `/v1/assets/${id}/retention`, { retainUntil: '2001-01-01T00:00:00Z', mode: 'governance' }),
  ),
  cancelUpload: harmless((client, { direct }) => client.request('DELETE', `/v1/uploads/${direct}`)),
  cancelResumableUpload: harmless((client, { resumable }) => client.request('DELETE', resumable, { headers: TUS })),
  signUploadParts: harmless((client, { direct }) =>
    client.send('POST', `/v1/uploads/${direct}/parts`, { partNumbers: [1] }),
  ),
  deleteTranscode: harmless((client, { id }) => client.request('DELETE', `/v1/assets/${id}/transcodes/mp3`)),
  retryJobs: harmless((client) => client.request('POST', '/v1/admin/jobs/delete-object/retry')),
  keepAsset: harmless((client, { id }) => client.request('POST', `/v1/assets/${id}/keep`)),
  restoreAssetFromArchive: harmless((client, { id }) =>
    client.send('POST', `/v1/assets/${id}/restore-from-archive`, { speed: 'bulk', days: 1 }),
  ),
  eraseOwner: async ({ root, owner }) => [await root.send('POST', '/v1/admin/erasures', { ownerId: owner })],
};
/** They make something new, or change who may do what: bytes that are there are none of their affair. */
const unconcerned = new Set([
  ...['uploadAssets', 'uploadRawAsset', 'uploadPart', 'createDownloadLinks', 'createArchiveLink', 'createProject'],
  ...['setProjectMember', 'createApiKey', 'deleteApiKey', 'createUploadTicket', 'deleteUploadTicket', 'createShare'],
  ...['updateShare', 'deleteShare', 'unlockShare', 'createTranscode', 'setOwnerTier'],
  // Of an infected file see held-processing.test.ts.
  ...['scanStoredFiles', 'cancelStoredFileScan'],
  // It forgets what it knows of copies, and tries a store out under a prefix of its own.
  ...['forgetMirror', 'testStorage'],
]);

const contract: { paths: Record<string, Record<string, { operationId?: string }>> } = parse(
  readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8'),
);
const changing = Object.values(contract.paths).flatMap((methods) =>
  Object.entries(methods).flatMap(([method, { operationId }]) =>
    operationId !== undefined && !['get', 'head', 'options'].includes(method) ? operationId : [],
  ),
);

test('every operation that changes something is an attack, or has nothing to do with bytes that are there', () => {
  assert.deepEqual(
    changing.filter((operation) => !(operation in attacks) && !unconcerned.has(operation)),
    [],
    'add it to this test',
  );
  for (const operation of [...Object.keys(attacks), ...unconcerned])
    assert.ok(changing.includes(operation), `${operation} is no operation any more`);
});

describe('what is held', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ policies, env });
  });
  after(() => service.close());

  async function prepared(): Promise<Target> {
    const owner = `user-${randomUUID()}`;
    const project = `project-${randomUUID()}`;
    const client = new Client(service.url, owner);
    const root = new Client(service.url, owner);
    Object.assign(root.headers, because);
    const uploaded = await client.raw(first, { fields: { assetType: 'kept', projectId: project } });
    assert.equal(uploaded.status, 201, JSON.stringify(uploaded.body));
    const { id } = uploaded.body;
    assert.equal((await client.request('PUT', `/v1/assets/${id}/content`, { body: second })).status, 200);
    const declared = { size: other.length, contentType: 'image/png', sha256: sha256(other) };
    const begun = await client.send('POST', '/v1/uploads', { fileName: 'a.png', ...declared, replaces: id });
    const [part] = begun.body['parts'] as { url: string }[];
    assert.ok((await fetch(part?.url ?? '', { method: 'PUT', body: other })).ok);
    const metadata = `filename ${base64('a.png')},replaces ${base64(id)}`;
    const created = await client.request('POST', '/v1/resumable', {
      headers: { ...TUS, 'upload-length': String(other.length), 'upload-metadata': metadata },
    });
    const resumable = created.headers.get('location') ?? '';
    const headers = { ...TUS, 'content-type': 'application/offset+octet-stream', 'upload-offset': '0' };
    assert.equal((await client.request('PATCH', resumable, { headers, body: other.subarray(0, 100) })).status, 204);
    const holding = await client.send('PUT', `/v1/assets/${id}/hold`, { name: 'claim', reason: 'a claim' });
    assert.equal(holding.status, 200, JSON.stringify(holding.body));
    return { id, project, owner, client, root, direct: String(begun.body['uploadId']), resumable };
  }

  /** By the store itself: whoever is removed from a project does not see it any more. */
  async function isWhole({ id }: Target): Promise<void> {
    const [row] = await service.query<{ key: string; former: string; state: string; trashed_at: Date | null }>(
      `select a.object_key as key, v.object_key as former, a.state, a.trashed_at from assets a
          join asset_versions v on v.asset_id = a.id and v.number = 1 where a.id = $1`,
      [id],
    );
    assert.ok(row, 'the record and its version are there');
    assert.deepEqual([row.state, row.trashed_at], ['ready', null]);
    for (const [key, bytes] of [
      [row.key, second],
      [row.former, first],
    ] as const) {
      const body = await service.store.get(key, {});
      assert.ok(body, 'the object is there');
      assert.equal(sha256(Buffer.concat(await body.stream.toArray())), sha256(bytes));
    }
  }
  const jobsAreDone = () =>
    waitUntil(
      async () =>
        (
          await service.query(
            "select from pgboss.job where name in ('delete-object', 'discard-derivative', 'empty-trash', 'erase-owner') and state in ('created', 'active', 'retry')",
          )
        ).length === 0,
    );

  const targets: Target[] = [];
  for (const [operation, attack] of Object.entries(attacks))
    test(`keeps its bytes from ${operation}`, async () => {
      const target = await prepared();
      targets.push(target);
      for (const { status, body } of await attack(target)) assert.ok(status < 500, JSON.stringify(body));
      await isWhole(target);
    });

  test('is whole after all of them, the jobs, the reaper and the reconciler', async () => {
    await jobsAreDone();
    await service.service.reap();
    await service.service.reconcile({});
    await jobsAreDone();
    for (const target of targets) await isWhole(target);
  });
});
