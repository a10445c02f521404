/**
 * Who may do what, walked over HTTP: every operation of the contract that needs a caller, by everybody there is. What is
 * expected comes from the rules alone; an operation that is in no list here fails the first test.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { RouteOptions } from 'fastify';
import { type JWTPayload, SignJWT } from 'jose';
import { parse } from 'yaml';
import { unboundScopes } from '../../src/access/granted.ts';
import { hasScope, may } from '../../src/access/may.ts';
import { type Action, memberRoles, type Role, rules, type Scope, scopes, userScopes } from '../../src/access/rules.ts';
import { features } from '../../src/app.ts';
import { type AnyBody, Client, SECRET } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

interface Person {
  name: string;
  subject: string;
  client: Client;
  scopes: ReadonlySet<Scope>;
  /** By his token or as a member, in both projects. */
  role?: Role;
  /** Whose role the token tells sees all of a project that shows each member his own. */
  isNamedByToken: boolean;
  /** Of a key: the project that it is for. */
  only?: string;
}

interface Call {
  method: string;
  path: string;
  body?: unknown;
  /** Of a file. */
  bytes?: Buffer<ArrayBuffer>;
  headers?: Record<string, string>;
}
interface Seen {
  status: number;
  headers: string[];
  body: unknown;
}

/** What there is to be acted on. */
const places = ['own', 'team', 'separate'] as const;
type Place = (typeof places)[number];
const projectPlaces = ['team', 'separate'] as const;
const UNKNOWN_ASSET = '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';
const UNKNOWN_PROJECT = 'nobody-made-this';

async function clientOf(url: string, subject: string, claims: JWTPayload = {}): Promise<Client> {
  const token = new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).setSubject(subject).setExpirationTime('2h');
  const client = new Client(url);
  delete client.headers['x-user-id'];
  client.headers['authorization'] = `Bearer ${await token.sign(Buffer.from(SECRET))}`;
  return client;
}

async function see(client: Client, { method, path, body, bytes, headers = {} }: Call): Promise<Seen> {
  const answer =
    body === undefined
      ? await client.request(method, path, { headers, ...(bytes && { body: bytes }) })
      : await client.send(method, path, body, headers);
  const document: AnyBody | string = answer.body;
  const { requestId, ...told } = document instanceof Object ? document : { told: document, requestId: '' };
  // Whether the connection stays is another thing: what is refused before its body has come may end it.
  const names = [...answer.headers.keys()].filter((name) => name !== 'connection' && name !== 'keep-alive');
  return { status: answer.status, headers: names.sort((a, b) => a.localeCompare(b)), body: told };
}

/** Calls of operations on an asset. `fresh`: on a copy, because it is another one afterwards. */
interface AssetCall {
  action?: Action;
  fresh?: 'ready' | 'trashed';
  /** It goes where a key for some projects is for nothing. */
  leavesProjects?: boolean;
  call: (id: string) => Call;
}
const assetCalls: Record<string, AssetCall> = {
  getAsset: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}` }) },
  updateAsset: {
    fresh: 'ready',
    call: (id) => ({ method: 'PATCH', path: `/v1/assets/${id}`, body: { metadata: { a: 'b' } } }),
  },
  'updateAsset, moved': {
    fresh: 'ready',
    action: 'asset.move',
    leavesProjects: true,
    call: (id) => ({ method: 'PATCH', path: `/v1/assets/${id}`, body: { projectId: null } }),
  },
  'updateAsset, published': {
    fresh: 'ready',
    action: 'asset.publish',
    call: (id) => ({ method: 'PATCH', path: `/v1/assets/${id}`, body: { visibility: 'private' } }),
  },
  deleteAsset: {
    fresh: 'ready',
    action: 'asset.write',
    call: (id) => ({ method: 'DELETE', path: `/v1/assets/${id}` }),
  },
  'deleteAsset for good': {
    fresh: 'ready',
    action: 'asset.delete',
    call: (id) => ({ method: 'DELETE', path: `/v1/assets/${id}?permanent=true` }),
  },
  restoreAsset: { fresh: 'trashed', call: (id) => ({ method: 'POST', path: `/v1/assets/${id}/restore` }) },
  listDerivatives: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/derivatives` }) },
  downloadDerivative: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/derivatives/thumbnail` }) },
  createDownloadLink: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/download` }) },
  keepAsset: { call: (id) => ({ method: 'POST', path: `/v1/assets/${id}/keep` }) },
  restoreAssetFromArchive: {
    call: (id) => ({ method: 'POST', path: `/v1/assets/${id}/restore-from-archive`, body: {} }),
  },
  redirectToDownload: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/download/redirect` }) },
  downloadAsset: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/content` }) },
  getVariant: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/image?width=8` }) },
  createVariantLink: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/variants/link?width=8` }) },
  createTranscode: {
    call: (id) => ({ method: 'POST', path: `/v1/assets/${id}/transcodes`, body: { format: 'mp3' } }),
  },
  listTranscodes: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/transcodes` }) },
  getTranscode: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/transcodes/mp3` }) },
  deleteTranscode: { call: (id) => ({ method: 'DELETE', path: `/v1/assets/${id}/transcodes/mp3` }) },
  getAssetHistory: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/history` }) },
  getAssetCode: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/qr` }) },
  createArchiveLink: { call: (id) => ({ method: 'POST', path: '/v1/archives', body: { ids: [id] } }) },
  createShare: { call: (assetId) => ({ method: 'POST', path: '/v1/shares', body: { assetId } }) },
  'createShare of several': {
    action: 'asset.share',
    call: (id) => ({ method: 'POST', path: '/v1/shares', body: { assetIds: [id] } }),
  },
  holdAsset: {
    fresh: 'ready',
    call: (id) => ({ method: 'PUT', path: `/v1/assets/${id}/hold`, body: { name: 'claim', reason: 'a claim' } }),
  },
  // There is none; who may take one off is told so.
  removeAssetHold: { call: (id) => ({ method: 'DELETE', path: `/v1/assets/${id}/hold/claim?reason=settled` }) },
  retainAsset: {
    fresh: 'ready',
    call: (id) => {
      const retainUntil = new Date(Date.now() + 3_600_000).toISOString();
      return { method: 'PUT', path: `/v1/assets/${id}/retention`, body: { retainUntil, mode: 'governance' } };
    },
  },
  replaceAssetContent: {
    fresh: 'ready',
    call: (id) => ({ method: 'PUT', path: `/v1/assets/${id}/content`, bytes: png() }),
  },
  'uploadAsset, in the place of another': {
    fresh: 'ready',
    action: 'asset.write',
    call: (id) => {
      const form = `--b\r\ncontent-disposition: form-data; name="replaces"\r\n\r\n${id}\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n`;
      const bytes = Buffer.concat([Buffer.from(form), png(), Buffer.from('\r\n--b--\r\n')]);
      const headers = { 'content-type': 'multipart/form-data; boundary=b' };
      return { method: 'POST', path: '/v1/assets', bytes, headers };
    },
  },
  'createUpload, in the place of another': {
    action: 'asset.write',
    call: (replaces) => {
      const body = { fileName: 'a.png', contentType: 'image/png', size: 200, replaces };
      return { method: 'POST', path: '/v1/uploads', body };
    },
  },
  'createResumableUpload, in the place of another': {
    action: 'asset.write',
    call: (id) => {
      const text = (value: string) => Buffer.from(value).toString('base64');
      const metadata = `filename ${text('a.png')},replaces ${text(id)}`;
      const headers = { 'tus-resumable': '1.0.0', 'upload-length': '200', 'upload-metadata': metadata };
      return { method: 'POST', path: '/v1/resumable', headers };
    },
  },
  listAssetVersions: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/versions` }) },
  // There is none; who may not do it is told so, or of no asset, before.
  downloadAssetVersion: { call: (id) => ({ method: 'GET', path: `/v1/assets/${id}/versions/1/content` }) },
  restoreAssetVersion: { call: (id) => ({ method: 'POST', path: `/v1/assets/${id}/versions/1/restore` }) },
  deleteAssetVersion: { call: (id) => ({ method: 'DELETE', path: `/v1/assets/${id}/versions/1` }) },
};

const bulkActions: { body: object; action: Action; fresh: 'ready' | 'trashed' }[] = [
  { body: { action: 'trash' }, action: 'asset.write', fresh: 'ready' },
  { body: { action: 'restore' }, action: 'asset.write', fresh: 'trashed' },
  { body: { action: 'delete', permanent: true }, action: 'asset.delete', fresh: 'ready' },
  { body: { action: 'tag', addTags: ['seen'] }, action: 'asset.write', fresh: 'ready' },
  { body: { action: 'move', path: 'seen/' }, action: 'asset.write', fresh: 'ready' },
];

/** Calls of operations on a project. Those that would change who is what are refused for another reason. */
const projectCalls: Record<string, { action?: Action; call: (id: string) => Call }> = {
  getProject: { call: (id) => ({ method: 'GET', path: `/v1/projects/${id}` }) },
  updateProject: { call: (id) => ({ method: 'PATCH', path: `/v1/projects/${id}`, body: { metadata: { a: 'b' } } }) },
  // It is not empty.
  deleteProject: { call: (id) => ({ method: 'DELETE', path: `/v1/projects/${id}` }) },
  listProjectMembers: { call: (id) => ({ method: 'GET', path: `/v1/projects/${id}/members` }) },
  setProjectMember: {
    call: (id) => ({ method: 'PUT', path: `/v1/projects/${id}/members/guest`, body: { role: 'viewer' } }),
  },
  'removeProjectMember, another': {
    action: 'project.manage',
    call: (id) => ({ method: 'DELETE', path: `/v1/projects/${id}/members/nobody-at-all` }),
  },
  getProjectQuota: { call: (id) => ({ method: 'GET', path: `/v1/projects/${id}/quota` }) },
  listDueAssetsOfProject: { call: (id) => ({ method: 'GET', path: `/v1/projects/${id}/lifecycle` }) },
  getTrashEmptying: { call: (id) => ({ method: 'GET', path: `/v1/trash?projectId=${id}` }) },
  emptyTrash: { call: (id) => ({ method: 'DELETE', path: `/v1/trash?projectId=${id}` }) },
  getProjectCode: { call: (id) => ({ method: 'GET', path: `/v1/projects/${id}/qr` }) },
  'createShare of a project': {
    action: 'project.share',
    call: (projectId) => ({ method: 'POST', path: '/v1/shares', body: { projectId } }),
  },
  uploadAsset: {
    call: (id) => {
      const form = `--b\r\ncontent-disposition: form-data; name="projectId"\r\n\r\n${id}\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n`;
      const bytes = Buffer.concat([Buffer.from(form), png(), Buffer.from('\r\n--b--\r\n')]);
      return {
        method: 'POST',
        path: '/v1/assets',
        bytes,
        headers: { 'content-type': 'multipart/form-data; boundary=b' },
      };
    },
  },
  uploadRawAsset: { call: (id) => ({ method: 'PUT', path: `/v1/assets/raw/a.png?projectId=${id}`, bytes: png() }) },
  createUpload: {
    call: (projectId) => ({
      method: 'POST',
      path: '/v1/uploads',
      body: { fileName: 'a.png', contentType: 'image/png', size: 200, projectId },
    }),
  },
  createResumableUpload: {
    call: (id) => {
      const text = (value: string) => Buffer.from(value).toString('base64');
      return {
        method: 'POST',
        path: '/v1/resumable',
        headers: {
          'tus-resumable': '1.0.0',
          'upload-length': '200',
          'upload-metadata': `filename ${text('a.png')},projectId ${text(id)}`,
        },
      };
    },
  },
};

/** Calls of operations on an upload in progress, by the kind of the upload. */
const tus = { 'tus-resumable': '1.0.0' };
const uploadCalls: Record<string, { kind: 'direct' | 'resumable'; call: (id: string) => Call }> = {
  getUpload: { kind: 'direct', call: (id) => ({ method: 'GET', path: `/v1/uploads/${id}` }) },
  signUploadParts: {
    kind: 'direct',
    call: (id) => ({ method: 'POST', path: `/v1/uploads/${id}/parts`, body: { partNumbers: [1] } }),
  },
  completeUpload: { kind: 'direct', call: (id) => ({ method: 'POST', path: `/v1/uploads/${id}/complete` }) },
  cancelUpload: { kind: 'direct', call: (id) => ({ method: 'DELETE', path: `/v1/uploads/${id}` }) },
  getResumableUpload: {
    kind: 'resumable',
    call: (id) => ({ method: 'HEAD', path: `/v1/resumable/${id}`, headers: tus }),
  },
  continueResumableUpload: {
    kind: 'resumable',
    call: (id) => ({
      method: 'PATCH',
      path: `/v1/resumable/${id}`,
      headers: { ...tus, 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' },
      bytes: png().subarray(0, 10),
    }),
  },
  cancelResumableUpload: {
    kind: 'resumable',
    call: (id) => ({ method: 'DELETE', path: `/v1/resumable/${id}`, headers: tus }),
  },
};

/** Calls of operations on a share: for who made it, and, but for those on its address, for who manages what is shared. */
const shareCalls: Record<string, { isOverseen: boolean; call: (id: string) => Call }> = {
  getShare: { isOverseen: true, call: (id) => ({ method: 'GET', path: `/v1/shares/${id}` }) },
  getShareCode: { isOverseen: false, call: (id) => ({ method: 'GET', path: `/v1/shares/${id}/qr` }) },
  updateShare: {
    isOverseen: false,
    call: (id) => ({ method: 'PATCH', path: `/v1/shares/${id}`, body: { label: 'Another' } }),
  },
  deleteShare: { isOverseen: true, call: (id) => ({ method: 'DELETE', path: `/v1/shares/${id}` }) },
};

/** For everybody who has the scope: what they answer is the caller's own. */
const ownCalls: Record<string, Call> = {
  listAssets: { method: 'GET', path: '/v1/assets' },
  listUploads: { method: 'GET', path: '/v1/uploads' },
  listProjects: { method: 'GET', path: '/v1/projects' },
  getQuota: { method: 'GET', path: '/v1/quota' },
  getStatistics: { method: 'GET', path: '/v1/statistics' },
  // Some of these assets have no bytes.
  exportOwn: { method: 'HEAD', path: '/v1/export' },
  listOwnExport: { method: 'GET', path: '/v1/export/manifest' },
  listUploadPolicies: { method: 'GET', path: '/v1/policies' },
  listShares: { method: 'GET', path: '/v1/shares' },
};
/** Walked by tests of their own: below, and in audit-trail.test.ts. */
const others = [
  'uploadAssets',
  'bulkChangeAssets',
  'createDownloadLinks',
  'createProject',
  'removeProjectMember',
  'listAuditEvents',
];

interface Operation {
  operationId: string;
  security?: unknown[];
  responses: Record<string, { content?: Record<string, { examples?: Record<string, { value: { type?: string } }> }> }>;
}
const contract: { paths: Record<string, Record<string, Operation>> } = parse(
  readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8'),
);
const closed = Object.values(contract.paths).flatMap((methods) =>
  Object.values(methods).filter(({ operationId, security }) => operationId !== undefined && security?.length !== 0),
);

/** Problems that the contract lists, by operation. */
const declared = new Map(
  Object.values(contract.paths)
    .flatMap((methods) => Object.values(methods))
    .map(({ operationId, responses = {} }) => [
      operationId,
      new Set(
        Object.values(responses)
          .flatMap(({ content = {} }) => Object.values(content))
          .flatMap(({ examples = {} }) => Object.values(examples))
          .map(({ value }) => value.type),
      ),
    ]),
);

describe('who may do what', () => {
  /** Of problems that were told: the operation and the type. */
  const told = new Map<string, [operationId: string, type: string]>();
  let service: TestService;
  let people: Person[];
  let root: Client;
  const routes = new Map<string, RouteOptions>();
  /** One asset in each place. */
  const assetIn = new Map<Place, string>();

  const personNamed = (name: string) => {
    const person = people.find((each) => each.name === name);
    assert.ok(person, name);
    return person;
  };
  /** The action of an operation, as its route tells. */
  const actionOf = (operation: string): Action => {
    const [operationId = ''] = operation.split(/[ ,]/);
    const action = routes.get(operationId)?.config?.action;
    assert.ok(action, operation);
    return action;
  };

  before(async () => {
    // Every route is seen as it is registered.
    const seen = features.map((feature) => ({
      ...feature,
      routes: (
        app: Parameters<NonNullable<typeof feature.routes>>[0],
        core: Parameters<NonNullable<typeof feature.routes>>[1],
      ) => {
        app.addHook('onRoute', (route) => {
          if (route.schema?.operationId !== undefined && route.method !== 'HEAD')
            routes.set(route.schema.operationId, route);
          else if (route.schema?.operationId !== undefined && !routes.has(route.schema.operationId))
            routes.set(route.schema.operationId, route);
        });
        app.addHook('onResponse', async ({ routeOptions }, reply) => {
          const operationId = routeOptions.schema?.operationId;
          if (operationId !== undefined && reply.problem !== undefined)
            told.set(`${operationId} ${reply.problem}`, [operationId, `urn:stowage:problem:${reply.problem}`]);
        });
        return feature.routes?.(app, core);
      },
    }));
    service = await startService({
      features: seen,
      env: {
        AUTH_JWT_SECRET: SECRET,
        AUTH_PROJECTS_CLAIM: 'projects',
        // So a project that nobody has made is not made by naming it.
        PROJECT_CREATION: 'admin',
        PROJECT_URL_TEMPLATE: 'https://app.example.com/{projectId}',
        REQUESTS_PER_MINUTE: '0',
        UPLOADS_PER_HOUR: '0',
        SHARES_PER_ASSET: '1000',
        IDEMPOTENCY_KEYS_PER_HOUR: '0',
      },
    });
    const { url } = service;
    root = await clientOf(url, 'root', { scope: 'admin' });
    for (const [id, isSeparate] of [
      ['team', false],
      ['separate', true],
    ] as const) {
      const { status } = await root.send('POST', '/v1/projects', { id, name: id, separate: isSeparate });
      assert.equal(status, 201);
      for (const [subject, role] of [
        ...memberRoles.map((each) => [each, each]),
        ['removed', 'editor'],
        ['uploader', 'editor'],
      ])
        assert.equal((await root.send('PUT', `/v1/projects/${id}/members/${subject}`, { role })).status, 200);
    }
    const person = async (
      name: string,
      claims: JWTPayload & { granted?: Scope[] } = {},
      role?: Role,
      subject = name,
    ) => {
      const { granted = [...userScopes], ...rest } = claims;
      return {
        name,
        subject,
        client: await clientOf(url, subject, { scope: granted.join(' '), ...rest }),
        scopes: new Set(granted),
        ...(role && { role }),
        isNamedByToken: 'projects' in rest,
      };
    };
    people = [
      await person('owner'),
      ...(await Promise.all(memberRoles.map((role) => person(role, {}, role)))),
      await person('uploader', {}, 'editor'),
      await person('removed'),
      await person('stranger'),
      ...(await Promise.all(
        memberRoles.map((role) => person(`${role} by token`, { projects: { team: role, separate: role } }, role)),
      )),
      ...(await Promise.all(
        userScopes.map((scope) => person(`manager for ${scope}`, { granted: [scope] }, 'manager', 'manager')),
      )),
    ];
    const bound = userScopes.filter((scope) => !unboundScopes.includes(scope));
    for (const only of projectPlaces) {
      const { status, body } = await personNamed('manager').client.send('POST', '/v1/keys', {
        name: only,
        scopes: bound,
        projects: [only],
      });
      assert.equal(status, 201, JSON.stringify(body));
      const client = new Client(url);
      delete client.headers['x-user-id'];
      client.headers['authorization'] = `Bearer ${body['secret']}`;
      const key = { name: `a key for ${only}`, subject: 'manager', client, scopes: new Set(bound), only };
      people.push({ ...key, role: 'manager', isNamedByToken: false });
    }
    const store = async (place: Place, uploader: string, fields: Record<string, string>) => {
      const { status, body } = await personNamed(uploader).client.raw(png(), { fields });
      assert.equal(status, 201, JSON.stringify(body));
      assetIn.set(place, body.id);
    };
    await store('own', 'owner', {});
    // What somebody who has left has uploaded is the project's.
    await store('team', 'removed', { projectId: 'team' });
    await store('separate', 'uploader', { projectId: 'separate' });
    for (const id of projectPlaces)
      assert.equal((await root.request('DELETE', `/v1/projects/${id}/members/removed`)).status, 204);
    // Of copies of the assets, which are deleted one after the other.
    await service.query('update quotas set used_bytes = 1000000, file_count = 10000');
  });
  after(async () => {
    await service.close();
    const undeclared = [...told.values()].filter(([operationId, type]) => !declared.get(operationId)?.has(type));
    assert.deepEqual(undeclared, [], 'told, and not in the contract');
  });

  /** What somebody is to a project. */
  function roleIn(id: string, { role, only }: Person): Role | undefined {
    return only === undefined || only === id ? role : undefined;
  }

  /** What somebody is to an asset. */
  function roleOn(place: Place, { name, role, isNamedByToken, only }: Person): Role | undefined {
    if (only !== undefined && place !== only) return undefined;
    if (place === 'own') return name === 'owner' ? 'owner' : undefined;
    if (place === 'team' || isNamedByToken || role === 'manager') return role;
    return name === 'uploader' ? 'owner' : undefined;
  }

  /** Another asset that is like the one in this place. */
  async function copyOf(place: Place, state: 'ready' | 'trashed'): Promise<string> {
    const id = randomUUID();
    const changes = { id, object_key: `copies/${id}`, trashed_at: state === 'trashed' ? '2026-01-01T00:00:00Z' : null };
    await service.query(
      'insert into assets select (jsonb_populate_record(a, $2::jsonb)).* from assets a where id = $1',
      [assetIn.get(place), JSON.stringify(changes)],
    );
    return id;
  }

  /** As somebody sees it: nothing tells what is hidden from what there never was. */
  function verdictOf(seen: Seen, unknown: Seen): 'yes' | 'no' | 'hidden' {
    if (seen.status === 403) return 'no';
    try {
      assert.deepEqual(seen, unknown);
      return 'hidden';
    } catch {
      return 'yes';
    }
  }

  function check(
    person: Person,
    action: Action,
    role: Role | undefined,
    seen: Seen,
    unknown: Seen,
    what: string,
    leavesProjects = false,
  ): void {
    const isLacking = !hasScope(person, action) || (leavesProjects && person.only !== undefined);
    const expected = isLacking ? 'no' : may(person, action, { role });
    const said = `${what} by ${person.name}: ${JSON.stringify(seen)}`;
    assert.equal(verdictOf(seen, unknown), expected, said);
    if (expected === 'yes') assert.ok(seen.status < 500, said);
    if (isLacking) assert.deepEqual(unknown, seen, `${said} whatever it is done to`);
    if (expected === 'hidden') assert.equal(seen.status, 404, said);
  }

  test('every operation that needs a caller says what it does, and is walked here', () => {
    const walked = new Set(
      [assetCalls, projectCalls, uploadCalls, shareCalls, ownCalls]
        .flatMap((calls) => Object.keys(calls))
        .map((name) => name.split(/[ ,]/)[0])
        .concat(others),
    );
    for (const { operationId } of closed) {
      const config = routes.get(operationId)?.config;
      assert.ok(config, operationId);
      const says = [config.scope, config.action, config.actions].filter((each) => each !== undefined);
      assert.equal(says.length, 1, `${operationId} must have an action or a scope`);
      assert.ok(config.scope !== undefined || walked.has(operationId), `${operationId} is not walked`);
    }
    const known = new Set(closed.map(({ operationId }) => operationId));
    for (const operationId of walked) assert.ok(known.has(operationId ?? ''), operationId);
  });

  for (const [operation, { action, fresh, leavesProjects, call }] of Object.entries(assetCalls))
    test(`of assets: ${operation}`, async () => {
      for (const person of people) {
        const unknown = await see(person.client, call(UNKNOWN_ASSET));
        for (const place of places) {
          const id = fresh ? await copyOf(place, fresh) : assetIn.get(place);
          const seen = await see(person.client, call(id ?? ''));
          const [its, what] = [action ?? actionOf(operation), `${operation}, ${place}`];
          check(person, its, roleOn(place, person), seen, unknown, what, leavesProjects);
        }
      }
    });

  for (const { body, action, fresh } of bulkActions)
    test(`of many assets: ${JSON.stringify(body)}`, async () => {
      for (const person of people) {
        const ids = [UNKNOWN_ASSET, ...(await Promise.all(places.map((place) => copyOf(place, fresh))))];
        const answer = await person.client.send('POST', '/v1/assets/bulk', { ...body, ids });
        const mayAtAll = person.scopes.has(rules[action].scope);
        assert.equal(answer.status, mayAtAll ? 200 : 403, person.name);
        if (!mayAtAll) continue;
        const results = answer.body['results'] as { id: string; status: number; problem?: object }[];
        const [unknown, ...outcomes] = results.map(({ status, problem = {} }) => ({
          status,
          headers: [],
          body: problem,
        }));
        assert.ok(unknown);
        for (const [index, place] of places.entries()) {
          const outcome = outcomes[index];
          assert.ok(outcome);
          check(person, action, roleOn(place, person), outcome, unknown, place);
        }
      }
    });

  test('of many assets: links', async () => {
    for (const person of people) {
      const ids = [UNKNOWN_ASSET, ...places.map((place) => assetIn.get(place))];
      const answer = await person.client.send('POST', '/v1/links', { ids });
      const mayAtAll = person.scopes.has(rules['asset.download'].scope);
      assert.equal(answer.status, mayAtAll ? 200 : 403, person.name);
      if (!mayAtAll) continue;
      const results = answer.body['results'] as { id: string; status: number; url?: string; problem?: object }[];
      const [unknown, ...outcomes] = results.map(({ status, url, problem = { url } }) => ({
        status,
        headers: [],
        body: problem,
      }));
      assert.ok(unknown);
      for (const [index, place] of places.entries()) {
        const outcome = outcomes[index];
        assert.ok(outcome);
        check(person, 'asset.download', roleOn(place, person), outcome, unknown, place);
      }
    }
  });

  for (const [operation, { action, call }] of Object.entries(projectCalls))
    test(`of projects: ${operation}`, async () => {
      for (const person of people) {
        const unknown = await see(person.client, call(UNKNOWN_PROJECT));
        for (const id of projectPlaces)
          check(
            person,
            action ?? actionOf(operation),
            roleIn(id, person),
            await see(person.client, call(id)),
            unknown,
            `${operation}, ${id}`,
          );
      }
    });

  test('of projects: each file of uploadAssets', async () => {
    for (const person of people) {
      const upload = async (projectId: string) => {
        const form = new FormData();
        form.append('projectId', projectId);
        form.append('files', new Blob([png()]), 'a.png');
        const { status, body } = await person.client.request('POST', '/v1/assets/batch', { body: form });
        if (status !== 200) return { status, headers: [], body: { type: body.type } };
        const [result] = body['results'] as { status: number; problem?: { type: string; detail: string } }[];
        assert.ok(result, JSON.stringify(body));
        const { type, detail } = result.problem ?? {};
        return { status: result.status, headers: [], body: { type, detail } };
      };
      const unknown = await upload(UNKNOWN_PROJECT);
      for (const id of projectPlaces) {
        const seen = await upload(id);
        check(person, 'asset.upload', roleIn(id, person), seen, unknown, id);
      }
    }
  });

  test('of projects: removeProjectMember, oneself', async () => {
    for (const person of people) {
      const subject = encodeURIComponent(person.subject);
      const leave = (id: string) =>
        see(person.client, { method: 'DELETE', path: `/v1/projects/${id}/members/${subject}` });
      const unknown = await leave(UNKNOWN_PROJECT);
      for (const id of projectPlaces) {
        if (person.role && !person.isNamedByToken) {
          const back = await root.send('PUT', `/v1/projects/${id}/members/${subject}`, { role: person.role });
          assert.equal(back.status, 200);
        }
        const seen = await leave(id);
        check(person, 'project.leave', roleIn(id, person), seen, unknown, id);
        if (person.role && !person.isNamedByToken)
          await root.send('PUT', `/v1/projects/${id}/members/${subject}`, { role: person.role });
      }
    }
  });

  for (const [operation, { kind, call }] of Object.entries(uploadCalls))
    test(`of uploads in progress: ${operation}`, async () => {
      const begin = async (): Promise<string> => {
        const { client } = personNamed('uploader');
        const create = projectCalls[kind === 'direct' ? 'createUpload' : 'createResumableUpload'];
        const { method, path, body, headers = {} } = create?.call('team') ?? assert.fail();
        const begun = body
          ? await client.send(method, path, body, headers)
          : await client.request(method, path, { headers });
        assert.equal(begun.status, 201, JSON.stringify(begun.body));
        return begun.headers.get('location')?.split('/').at(-1) ?? '';
      };
      for (const person of people) {
        const unknown = await see(person.client, call(UNKNOWN_ASSET));
        const seen = await see(person.client, call(await begin()));
        const role = person.name === 'uploader' ? 'editor' : undefined;
        check(person, actionOf(operation), role, seen, unknown, operation);
      }
    });

  for (const [operation, { isOverseen, call }] of Object.entries(shareCalls))
    test(`of shares: ${operation}`, async () => {
      const makers: Record<Place, string> = { own: 'owner', team: 'editor', separate: 'uploader' };
      const shareIn = async (place: Place): Promise<string> => {
        const { client } = personNamed(makers[place]);
        const made = await client.send('POST', '/v1/shares', { assetId: assetIn.get(place) });
        assert.equal(made.status, 201, JSON.stringify(made.body));
        return made.body.id;
      };
      for (const person of people) {
        const unknown = await see(person.client, call(UNKNOWN_ASSET));
        for (const place of places) {
          const isMaker = person.name === makers[place];
          const isManager = place !== 'own' && roleOn(place, person) === 'manager';
          const role = isMaker || (isOverseen && isManager) ? 'owner' : undefined;
          const seen = await see(person.client, call(await shareIn(place)));
          check(person, 'asset.share', role, seen, unknown, `${operation}, ${place}`);
          if (isManager && !isMaker) assert.ok(!JSON.stringify(seen).includes('/s/'), 'the address is its maker’s');
        }
      }
    });

  test('an upload ticket uploads where it is for, sees what became of that, and is refused all else alike', async () => {
    const issuer = personNamed('editor').client;
    const { body } = await issuer.send('POST', '/v1/tickets', { projectId: 'team', expiresIn: 3600 });
    const client = new Client(service.url);
    delete client.headers['x-user-id'];
    client.headers['authorization'] = `Bearer ${body['token']}`;
    const its = (await client.raw(png())).body.id;
    assert.ok(its);
    const ticket = { scopes: new Set<Scope>(), ticket: body.id };
    /** As may says, of what is its own, what is foreign, and what there never was. */
    const walk = async (action: Action, [own, foreign, none]: readonly [Call, Call, Call], what: string) => {
      const [seen, other, unknown] = [await see(client, own), await see(client, foreign), await see(client, none)];
      assert.deepEqual(other, unknown, `${what}: what is foreign is as what there never was`);
      const expected = hasScope(ticket, action) ? 'yes' : 'no';
      assert.equal(seen.status === 403 ? 'no' : seen.status === 404 ? 'hidden' : 'yes', expected, what);
      if (expected === 'no') assert.deepEqual(seen, unknown, what);
    };
    for (const [operation, { action, call }] of Object.entries(assetCalls)) {
      const calls = [call(its), call(assetIn.get('team') ?? ''), call(UNKNOWN_ASSET)] as const;
      if (operation !== 'downloadDerivative' && operation !== 'getTranscode')
        await walk(action ?? actionOf(operation), calls, operation);
    }
    for (const [operation, { action, call }] of Object.entries(projectCalls))
      await walk(action ?? actionOf(operation), [call('team'), call('separate'), call(UNKNOWN_PROJECT)], operation);
    const begin = async (by: Client, kind: 'direct' | 'resumable') => {
      const create = projectCalls[kind === 'direct' ? 'createUpload' : 'createResumableUpload'];
      const { method, path, body: sent, headers = {} } = create?.call('team') ?? assert.fail();
      const begun = sent ? await by.send(method, path, sent, headers) : await by.request(method, path, { headers });
      return begun.headers.get('location')?.split('/').at(-1) ?? '';
    };
    for (const [operation, { kind, call }] of Object.entries(uploadCalls)) {
      const calls = [
        call(await begin(client, kind)),
        call(await begin(personNamed('editor').client, kind)),
        call(UNKNOWN_ASSET),
      ] as const;
      await walk(actionOf(operation), calls, operation);
    }
    for (const [operation, call] of Object.entries(ownCalls)) {
      const { status } = await see(client, call);
      assert.equal(status, hasScope(ticket, actionOf(operation)) ? 200 : 403, operation);
    }
    assert.deepEqual(
      (await client.get('/v1/assets')).body.data.map(({ id }) => id).includes(assetIn.get('team') ?? ''),
      false,
    );
    for (const { operationId } of closed) {
      const route = routes.get(operationId);
      if (route?.config?.scope === undefined) continue;
      const method = String([route.method].flat()[0]);
      const path = route.url.replace(/:\w+/g, UNKNOWN_ASSET);
      const { status, body: refused } = await client.send(method, path, method === 'GET' ? undefined : {});
      assert.deepEqual([status, refused.type], [403, 'urn:stowage:problem:forbidden'], operationId);
    }
  });

  test('what is the caller’s own is answered to everybody with the scope', async () => {
    for (const [operation, call] of Object.entries(ownCalls))
      for (const person of people) {
        const { status } = await see(person.client, call);
        const { scope } = rules[actionOf(operation)];
        // It is of all that he has, and the key for some of it.
        const isBeyond = person.only !== undefined && actionOf(operation) === 'account.read';
        assert.equal(status, person.scopes.has(scope) && !isBeyond ? 200 : 403, `${operation} by ${person.name}`);
      }
  });

  test('where only administrators make projects, everybody else is refused whom no token makes an editor', async () => {
    for (const person of people)
      for (const id of ['team', UNKNOWN_PROJECT]) {
        const { status } = await person.client.send('POST', '/v1/projects', { id, name: 'A' });
        const isEditor = person.isNamedByToken && person.role !== 'viewer' && id === 'team';
        assert.equal(status, isEditor ? 409 : 403, `${id} by ${person.name}`);
      }
  });

  test('operations of administrators are refused to everybody else, whatever scopes he has', async () => {
    const all = await clientOf(service.url, 'nearly', { scope: scopes.filter((scope) => scope !== 'admin').join(' ') });
    for (const { operationId } of closed) {
      const route = routes.get(operationId);
      if (route?.config?.scope !== 'admin') continue;
      const path = route.url.replace(/:\w+/g, UNKNOWN_ASSET);
      const { status, body } = await all.send(String(route.method), path, route.method === 'GET' ? undefined : {});
      assert.deepEqual([status, body.type], [403, 'urn:stowage:problem:missing-scope'], operationId);
    }
  });
});
