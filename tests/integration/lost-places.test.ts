/** Who loses his place in a project while he uploads into it does not finish, by no way, and leaves nothing. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { type Answer, type AnyBody, Client, SECRET } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const SIZE = 400;
const bytes = png(SIZE);

let service: TestService;
let manager: Client;
before(async () => {
  service = await startService({ env: { AUTH_JWT_SECRET: SECRET, AUTH_PROJECTS_CLAIM: 'projects' } });
  manager = await personOf('manager', {}, 'assets:read assets:write projects act-for');
});
after(() => service.close());

async function personOf(subject: string, projects: object = {}, scope?: string): Promise<Client> {
  const claims = { projects, ...(scope !== undefined && { scope }) };
  const token = new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).setSubject(subject).setExpirationTime('1h');
  const client = new Client(service.url);
  delete client.headers['x-user-id'];
  client.headers['authorization'] = `Bearer ${await token.sign(Buffer.from(SECRET))}`;
  return client;
}

/** A project with an editor. */
async function placed(): Promise<{
  projectId: string;
  subject: string;
  editor: Client;
  role(role?: string): Promise<void>;
}> {
  const [projectId, subject] = [`p-${randomUUID()}`, `editor-${randomUUID()}`];
  assert.equal((await manager.send('POST', '/v1/projects', { id: projectId, name: 'A' })).status, 201);
  const role = async (to?: string) => {
    const path = `/v1/projects/${projectId}/members/${subject}`;
    const { status } =
      to === undefined ? await manager.request('DELETE', path) : await manager.send('PUT', path, { role: to });
    assert.ok(status < 300);
  };
  await role('editor');
  return { projectId, subject, editor: await personOf(subject), role };
}

/** No record, no reservation, no object. */
async function nothingLeft(projectId: string, subject: string): Promise<void> {
  await waitUntil(
    async () => (await service.query('select id from assets where project_id = $1', [projectId])).length === 0,
  );
  const [quota] = await service.query<{ reserved: string; used: string }>(
    'select reserved_bytes as reserved, used_bytes as used from quotas where owner_id = $1',
    [subject],
  );
  assert.deepEqual([Number(quota?.reserved ?? 0), Number(quota?.used ?? 0)], [0, 0]);
  for await (const page of service.store.list(`projects/${projectId}/`, {})) assert.deepEqual(page, []);
}

/** The answer to an upload into a project that nobody has made, but for its request id. */
async function unknown(editor: Client): Promise<unknown[]> {
  const foreign = `p-${randomUUID()}`;
  const other = await personOf('somebody else');
  await other.send('POST', '/v1/projects', { id: foreign, name: 'A' });
  return told(await editor.raw(bytes, { fields: { projectId: foreign } }));
}
function told({ status, body: { requestId: _, ...body } }: Answer<AnyBody>): unknown[] {
  return [status, body];
}

const tus = (
  client: Client,
  method: string,
  path: string,
  headers: Record<string, string>,
  body?: Uint8Array<ArrayBuffer>,
) =>
  client.request(method, `/v1/resumable${path}`, {
    headers: {
      'tus-resumable': '1.0.0',
      ...(body && { 'content-type': 'application/offset+octet-stream' }),
      ...headers,
    },
    ...(body && { body }),
  });

/** Begins an upload and sends what comes before its end. @returns what ends it */
type Way = (editor: Client, projectId: string) => Promise<() => Promise<Answer<AnyBody>>>;
const ways: Record<string, Way> = {
  direct: async (editor, projectId) => {
    const file = { fileName: 'a.png', contentType: 'image/png', size: SIZE, projectId };
    const { body } = await editor.send('POST', '/v1/uploads', file);
    const [part] = body['parts'] as { url: string }[];
    assert.ok((await fetch(part?.url ?? '', { method: 'PUT', body: bytes })).ok);
    return () => editor.send('POST', `/v1/uploads/${body['uploadId']}/complete`, undefined);
  },
  resumable: async (editor, projectId) => {
    const metadata = `filename ${btoa('a.png')},projectId ${btoa(projectId)}`;
    const begun = await tus(editor, 'POST', '', { 'upload-length': String(SIZE), 'upload-metadata': metadata });
    const path = `/${begun.headers.get('location')?.split('/').at(-1)}`;
    const half = await tus(editor, 'PATCH', path, { 'upload-offset': '0' }, bytes.subarray(0, 200));
    assert.equal(half.status, 204, JSON.stringify(half.body));
    return () => tus(editor, 'PATCH', path, { 'upload-offset': '200' }, bytes.subarray(200));
  },
  'of one slow request': async (editor, projectId) => {
    const rest = Promise.withResolvers<void>();
    const body = new ReadableStream({
      start: async (sink) => {
        sink.enqueue(bytes.subarray(0, 200));
        await rest.promise;
        sink.enqueue(bytes.subarray(200));
        sink.close();
      },
    });
    const began = performance.now();
    const answer = editor.request('PUT', `/v1/assets/raw/a.png?projectId=${projectId}`, {
      body,
      duplex: 'half',
    } as RequestInit & { headers?: Record<string, string> });
    // What he is to the project counts for a second.
    await waitUntil(() => performance.now() - began > 1200);
    return () => {
      rest.resolve();
      return answer;
    };
  },
};

describe('an upload into a project', () => {
  for (const [way, begin] of Object.entries(ways)) {
    test(`${way}, of whoever is removed meanwhile, is unknown at its end, and nothing is left`, async () => {
      const { projectId, subject, editor, role } = await placed();
      const end = await begin(editor, projectId);
      await role();
      assert.deepEqual(told(await end()), await unknown(editor));
      await nothingLeft(projectId, subject);
      const rows = await service.query<{ action: string; detail: { reason: string } }>(
        'select action, detail from audit_events where project_id = $1 and actor_id = $2',
        [projectId, subject],
      );
      assert.ok(rows.every(({ action, detail }) => action === 'upload.refused' && detail.reason === 'not-found'));
    });

    test(`${way}, of whoever becomes a viewer meanwhile, is forbidden at its end, and nothing is left`, async () => {
      const { projectId, subject, editor, role } = await placed();
      const end = await begin(editor, projectId);
      await role('viewer');
      const { status, body } = await end();
      assert.deepEqual([status, body.type], [403, 'urn:stowage:problem:forbidden']);
      await nothingLeft(projectId, subject);
    });

    test(`${way}, of whoever stays, becomes an asset`, async () => {
      const { projectId, editor } = await placed();
      const end = await begin(editor, projectId);
      assert.ok((await end()).status < 300);
      assert.equal((await editor.get(`/v1/assets?projectId=${projectId}`)).body.data.length, 1);
    });
  }

  test('by a ticket ends with the right of who gave it out', async () => {
    const { projectId, subject, editor, role } = await placed();
    const { body } = await editor.send('POST', '/v1/tickets', { projectId, expiresIn: 60 });
    const page = new Client(service.url);
    page.headers['authorization'] = `Bearer ${body['token']}`;
    const end = await ways['resumable']?.(page, projectId);
    await role();
    const refused = await end?.();
    assert.deepEqual([refused?.status, refused?.body.type], [403, 'urn:stowage:problem:forbidden']);
    await nothingLeft(projectId, subject);
  });

  test('by a role of the token ends with a token that has it', async () => {
    const { projectId } = await placed();
    const subject = `claimed-${randomUUID()}`;
    const claimed = await personOf(subject, { [projectId]: 'editor' });
    const end = await ways['direct']?.(claimed, projectId);
    const later = await personOf(subject);
    claimed.headers['authorization'] = later.headers['authorization'] ?? '';
    assert.deepEqual(told((await end?.()) ?? assert.fail()), await unknown(later));
    await nothingLeft(projectId, subject);
  });
});
