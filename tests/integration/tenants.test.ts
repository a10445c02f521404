/**
 * What is somebody else's cannot be told from what there never was: every operation of the contract that takes an id, in its
 * path, query or body, is asked for a foreign one and for one that nobody has. Status, header fields, body and statements are
 * the same. The operations come from openapi.yaml, so a new one is in it by itself; each is tried with the owner too, to
 * whom the same request must mean something.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { parse } from 'yaml';
import { Client, SECRET } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

interface Schema {
  $ref?: string;
  type?: string | string[];
  format?: string;
  enum?: unknown[];
  example?: unknown;
  examples?: unknown[];
  default?: unknown;
  minimum?: number;
  minProperties?: number;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
}
interface Operation {
  operationId: string;
  security?: unknown[];
  parameters?: { name: string; in: string; required?: boolean; schema: Schema; example?: unknown }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
}
interface Probe extends Operation {
  method: string;
  path: string;
}

const contract: { paths: Record<string, Record<string, Operation>>; components: { schemas: Record<string, Schema> } } =
  parse(readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8'));
/** Those that need a caller. */
const closed: Probe[] = Object.entries(contract.paths).flatMap(([path, methods]) =>
  Object.entries(methods)
    .filter(([, { operationId, security }]) => operationId !== undefined && security?.length !== 0)
    .map(([method, operation]) => ({ ...operation, method: method.toUpperCase(), path })),
);

/** Whose id it is that stands in a path. */
const kinds: [RegExp, Kind][] = [
  [/^\/v1\/assets\/\{id\}/, 'asset'],
  [/^\/v1\/projects\/\{projectId\}/, 'project'],
  [/^\/v1\/uploads\/\{id\}/, 'upload'],
  [/^\/v1\/resumable\/\{id\}/, 'resumable'],
  [/^\/v1\/keys\/\{id\}/, 'key'],
  [/^\/v1\/tickets\/\{id\}/, 'ticket'],
  [/^\/v1\/shares\/\{id\}/, 'share'],
  // Refused to everybody but administrators, whatever the id is; who may do what has a test of its own.
  [/^\/v1\/admin\//, 'administration'],
];
type Kind = 'asset' | 'project' | 'upload' | 'resumable' | 'key' | 'ticket' | 'share' | 'administration';
const UNKNOWN = '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';
/** Names in queries and bodies by which something else is named. */
const references: Record<string, Kind> = {
  projectId: 'project',
  assetId: 'asset',
  ids: 'asset',
  assetIds: 'asset',
};
/** Parameters of paths that are no ids. */
const others: Record<string, string> = {
  name: 'thumbnail',
  format: 'mp3',
  subject: 'guest',
  fileName: 'a.png',
  queue: 'scan',
  number: '1',
};
/** What a request must have that the schema of its body does not tell. */
const specialties: Record<string, { headers?: Record<string, string>; body?: object; query?: string }> = {
  updateShare: { body: { label: 'a' } },
  updateAsset: { body: { metadata: { a: 'b' } } },
  createTranscode: { body: { format: 'mp3' } },
  signUploadParts: { body: { partNumbers: [1] } },
  getVariant: { query: 'width=8' },
  createVariantLink: { query: 'width=8' },
  createUpload: { body: { fileName: 'a.png', contentType: 'image/png', size: 200 } },
};
const tus = { 'tus-resumable': '1.0.0' };

describe('what is foreign and what is unknown', () => {
  let service: TestService;
  let alice: Client;
  let bob: Client;
  /** Statements of requests, while somebody listens. */
  let statements: string[] | undefined;

  before(async () => {
    service = await startService({
      env: {
        AUTH_JWT_SECRET: SECRET,
        // So a project that nobody has made is not made by naming it.
        PROJECT_CREATION: 'admin',
        PROJECT_URL_TEMPLATE: 'https://app.example.com/{projectId}',
        REQUESTS_PER_MINUTE: '0',
        UPLOADS_PER_HOUR: '0',
        IDEMPOTENCY_KEYS_PER_HOUR: '0',
      },
    });
    [alice, bob] = await Promise.all([clientOf('alice'), clientOf('bob')]);
    listen();
    // Whatever a first request of somebody asks for, it is asked by now.
    await Promise.all([alice, bob].map((each) => each.get('/v1/assets')));
    for (const each of [alice, bob]) await each.send('POST', '/v1/archives', { ids: [UNKNOWN] });
  });
  after(() => service.close());

  async function clientOf(subject: string, scope?: string): Promise<Client> {
    const token = new SignJWT(scope === undefined ? {} : { scope }).setProtectedHeader({ alg: 'HS256' });
    const client = new Client(service.url);
    delete client.headers['x-user-id'];
    const signed = await token.setSubject(subject).setExpirationTime('2h').sign(Buffer.from(SECRET));
    client.headers['authorization'] = `Bearer ${signed}`;
    return client;
  }

  /** To what the pool of requests sends; jobs have a pool of their own. */
  function listen(): void {
    const { pool } = service.database;
    const record = (client: object) => {
      const query: unknown = Reflect.get(client, 'query');
      assert.ok(typeof query === 'function');
      Reflect.set(client, 'query', (...given: unknown[]) => {
        const [what] = given;
        statements?.push(
          typeof what === 'string' ? what : String(what instanceof Object && 'text' in what && what.text),
        );
        return query.apply(client, given);
      });
    };
    const existing: unknown = Reflect.get(pool, '_clients');
    if (Array.isArray(existing)) existing.forEach(record);
    pool.on('connect', record);
  }

  /** Something of Alice's; each time another, as some requests end it. */
  async function make(kind: Kind): Promise<string> {
    if (kind === 'administration') return 'alice';
    const answer = await made[kind]();
    assert.equal(answer.status, 201, `${kind}: ${JSON.stringify(answer.body)}`);
    return answer.body.id ?? answer.headers.get('location')?.split('/').at(-1) ?? assert.fail(kind);
  }
  const made: Record<Exclude<Kind, 'administration'>, () => ReturnType<Client['get']>> = {
    asset: () => alice.raw(png(200, 1)),
    project: async () => {
      const root = await clientOf('root', 'admin');
      const answer = await root.send('POST', '/v1/projects', { id: `p-${randomUUID()}`, name: 'A' });
      await root.send('PUT', `/v1/projects/${answer.body.id}/members/alice`, { role: 'manager' });
      return answer;
    },
    upload: () => alice.send('POST', '/v1/uploads', { fileName: 'a.png', contentType: 'image/png', size: 200 }),
    resumable: () =>
      alice.request('POST', '/v1/resumable', {
        headers: { ...tus, 'upload-length': '200', 'upload-metadata': `filename ${btoa('a.png')}` },
      }),
    key: () => alice.send('POST', '/v1/keys', { name: 'a', scopes: ['assets:read'] }),
    ticket: () => alice.send('POST', '/v1/tickets', { expiresIn: 60 }),
    share: async () => alice.send('POST', '/v1/shares', { assetId: await make('asset') }),
  };

  /** What somebody is told, without what is of this request alone; the id that was asked for stands as `ID`. */
  async function ask(client: Client, probe: Probe, id: string, given: { query?: string; body?: unknown }) {
    const { method, operationId } = probe;
    const seen: string[] = [];
    statements = seen;
    const path = pathOf(probe, id) + (given.query === undefined ? '' : `?${given.query}`);
    const headers = { ...headersOf(probe), ...specialties[operationId]?.headers };
    const answer =
      given.body instanceof Object && !(given.body instanceof Buffer)
        ? await client.send(method, path, given.body, headers)
        : await client.request(method, path, {
            headers,
            ...(given.body instanceof Buffer && { body: new Uint8Array(given.body) }),
          });
    statements = undefined;
    const { body } = answer;
    const told = [...answer.headers].filter(([name]) => !/^(date|x-request-id|ratelimit-.*|retry-after)$/.test(name));
    const neutral = (value: unknown) =>
      JSON.stringify(value)
        .replaceAll(id, 'ID')
        .replaceAll(/"requestId":"[^"]*"/g, '"requestId":""');
    return { status: answer.status, headers: neutral(told), body: neutral(body), statements: seen.map(withoutValues) };
  }

  /** A foreign one and an unknown one get the same; the owner gets something else. */
  async function probe(which: Probe, kind: Kind, requestFor: (id: string) => { query?: string; body?: unknown }) {
    const id = await make(kind);
    const unknown = kind === 'project' ? `p-${randomUUID()}` : UNKNOWN;
    const said = `${which.operationId} of a foreign ${kind}`;
    const foreign = await ask(bob, which, id, requestFor(id));
    assert.deepEqual(foreign, await ask(bob, which, unknown, requestFor(unknown)), said);
    assert.ok(foreign.status < 500, `${said}: ${foreign.status} ${foreign.body}`);
    if (kind === 'administration') return;
    const own = await ask(alice, which, id, requestFor(id));
    assert.notDeepEqual([own.status, own.body], [foreign.status, foreign.body], `${said} is no probe: ${own.body}`);
    assert.ok(own.status !== 400, `${said} is no probe: ${own.status} ${own.body}`);
  }

  for (const operation of closed.filter(({ path }) => path.includes('{')))
    test(`in the path of ${operation.operationId}`, async (context) => {
      const kind = kinds.find(([pattern]) => pattern.test(operation.path))?.[1];
      if (!kind) {
        // A name that the caller gives, or what says by itself that it is no id.
        const isId = /\{(\w*[iI]d|subject|token)\}/.test(operation.path);
        assert.ok(!isId, `say in \`kinds\` what the id in ${operation.path} is of`);
        return context.skip('takes no id');
      }
      const { query } = specialties[operation.operationId] ?? {};
      await probe(operation, kind, () => ({ body: bodyOf(operation), ...(query !== undefined && { query }) }));
      return undefined;
    });

  for (const operation of closed.filter(({ path }) => !path.startsWith('/v1/admin/')))
    for (const [name, kind] of Object.entries(references)) {
      const parameter = operation.parameters?.find((each) => each.in === 'query' && each.name === name);
      if (parameter && !operation.path.includes('{'))
        test(`in the query of ${operation.operationId}: ${name}`, async () => {
          const id = await make(kind);
          const unknown = kind === 'project' ? `p-${randomUUID()}` : UNKNOWN;
          const foreign = await ask(bob, operation, id, { query: `${name}=${id}` });
          assert.deepEqual(foreign, await ask(bob, operation, unknown, { query: `${name}=${unknown}` }));
        });
      const schema = operation.requestBody && jsonOf(operation.requestBody)?.properties?.[name];
      if (schema)
        test(`in the body of ${operation.operationId}: ${name}`, async () => {
          const own = await bobs();
          const isList = resolved(schema).type === 'array';
          const bodyFor = (id: string) => {
            const {
              ids: _ids,
              assetId: _asset,
              assetIds: _assets,
              projectId: _project,
              ...body
            } = Object(bodyOf(operation));
            // What is moved is Bob's own.
            const moved = operation.operationId === 'bulkChangeAssets' && name === 'projectId' ? [own] : [];
            return { ...body, ...(moved.length > 0 && { action: 'move', ids: moved }), [name]: isList ? [id] : id };
          };
          const path = operation.path.replace('{id}', own);
          await probeBody({ ...operation, path }, kind, bodyFor);
        });
    }

  /** As `probe`, of an operation on something of Bob's. */
  async function probeBody(which: Probe, kind: Kind, bodyFor: (id: string) => object): Promise<void> {
    const id = await make(kind);
    const unknown = kind === 'project' ? `p-${randomUUID()}` : UNKNOWN;
    const foreign = await ask(bob, which, id, { body: bodyFor(id) });
    assert.deepEqual(foreign, await ask(bob, which, unknown, { body: bodyFor(unknown) }), which.operationId);
    assert.ok(foreign.status !== 400 && foreign.status < 500, `${which.operationId} is no probe: ${foreign.body}`);
    assert.ok(!/"id":"ID".*"status":200\b(?!.*problem)/.test(foreign.body), foreign.body);
  }

  async function bobs(): Promise<string> {
    return (await bob.raw(png(200, 2))).body.id;
  }
});

/** The parameters that stand in it, and others. */
function pathOf({ path }: Probe, id: string): string {
  const named = path.replace(/\{(id|projectId|ownerId|assetId)\}/, encodeURIComponent(id));
  return named.replace(/\{(\w+)\}/g, (_, name: string) => others[name] ?? id);
}

function headersOf({ path, method }: Probe): Record<string, string> {
  if (!path.startsWith('/v1/resumable')) return {};
  return method === 'PATCH'
    ? { ...tus, 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' }
    : { ...tus, ...(method === 'POST' && { 'upload-length': '200' }) };
}

function bodyOf({ operationId, requestBody }: Probe): unknown {
  const special = specialties[operationId]?.body;
  if (special || !requestBody) return special;
  const schema = jsonOf(requestBody);
  if (schema) return leastOf(schema);
  return png(200).subarray(0, 20);
}

function jsonOf({ content }: NonNullable<Operation['requestBody']>): Schema | undefined {
  const schema = content['application/json']?.schema;
  return schema && resolved(schema);
}

function resolved(schema: Schema): Schema {
  const { $ref } = schema;
  return $ref === undefined ? schema : resolved(contract.components.schemas[$ref.split('/').at(-1) ?? ''] ?? {});
}

/** The least that the schema takes. */
function leastOf(given: Schema): unknown {
  const schema = resolved(given);
  const { enum: values, examples = [], example = examples[0], items, properties = {}, required = [] } = schema;
  const type = [schema.type].flat().find((each) => each !== 'null');
  if (values) return values[0];
  if (type === 'object') {
    const names = Object.keys(properties);
    const wanted = required.length > 0 ? required : names.slice(0, schema.minProperties ?? 0);
    return Object.fromEntries(wanted.map((name) => [name, leastOf(properties[name] ?? {})]));
  }
  if (type === 'array') return [leastOf(items ?? {})];
  if (schema.format === 'uuid') return UNKNOWN;
  if (example !== undefined) return example;
  if (schema.default !== undefined) return schema.default;
  if (type === 'integer' || type === 'number') return schema.minimum ?? 1;
  return type === 'boolean' ? true : 'a';
}

/** Of a statement, what is sent for any value. */
function withoutValues(text: string): string {
  return text.replace(/\s+/g, ' ');
}
