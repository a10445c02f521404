/** Everything of an owner as one archive that can be gone on with, or as pages of links. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { programSkip } from '../support/programs.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';

const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' };
const BECAUSE = { 'stowage-reason': 'he wants his data' };
const SIZE = 1000;

async function bytesOf(client: Client, path: string, headers: Record<string, string> = {}) {
  const response = await fetch(client.url + path, { headers: { ...client.headers, ...headers } });
  return { status: response.status, headers: response.headers, body: Buffer.from(await response.arrayBuffer()) };
}

/** By a program of its own, which reads it as whoever gets it does. @returns the files by their names */
function unzipped(archive: Buffer): Map<string, Buffer> {
  const directory = mkdtempSync(join(tmpdir(), 'export-'));
  try {
    writeFileSync(join(directory, 'export.zip'), archive);
    const script = `import sys, zipfile, json
z = zipfile.ZipFile('export.zip')
assert z.testzip() is None
z.extractall('files')
print(json.dumps(z.namelist()))`;
    const names: string[] = JSON.parse(
      String(execFileSync(process.env['TEST_PYTHON3'] ?? 'python3', ['-c', script], { cwd: directory })),
    );
    return new Map(names.map((name) => [name, readFileSync(join(directory, 'files', name))]));
  } finally {
    rmSync(directory, { recursive: true });
  }
}
const linesOf = (file: Buffer | undefined) =>
  String(file)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

for (const { store, skip } of storeKinds)
  describe(`an export, on ${store}`, { skip: skip || programSkip('python3') }, () => {
    let service: TestService;
    let admin: Client;
    before(async () => {
      service = await startService({ store, env });
      admin = new Client(service.url, 'admin');
    });
    after(() => service?.close());

    test('has every file byte for byte with its record, and goes on where it broke off', async () => {
      const owner = `exported-${randomUUID()}`;
      const client = new Client(service.url, owner);
      const others = new Client(service.url, `other-${randomUUID()}`);
      await others.upload(png(SIZE));
      const project = `team-${randomUUID().slice(0, 8)}`;
      await others.send('POST', '/v1/projects', { id: project, name: 'of all' });
      await others.send('PUT', `/v1/projects/${project}/members/${owner}`, { role: 'editor' });
      const sent = new Map<string, string>();
      for (let index = 0; index < 30; index++) {
        const bytes = png(SIZE, index);
        const fields = index % 10 === 9 ? { projectId: project } : {};
        const { status, body } = await client.raw(bytes, {
          name: index < 3 ? 'manifest.json.png' : 'same.png',
          fields,
        });
        assert.equal(status, 201);
        sent.set(body.id, digest(bytes));
        if (index === 5) await client.request('DELETE', `/v1/assets/${body.id}`);
      }
      const path = `/v1/admin/exports?ownerId=${owner}`;
      assert.equal((await admin.get(path)).status, 400);
      await client.get('/v1/quota');
      const asOf = new Date().toISOString();
      const whole = await bytesOf(admin, `${path}&asOf=${asOf}`, BECAUSE);
      assert.deepEqual([whole.status, whole.headers.get('content-type')], [200, 'application/zip']);
      assert.equal(Number(whole.headers.get('content-length')), whole.body.length);
      const files = unzipped(whole.body);
      const records = linesOf(files.get('assets.ndjson'));
      assert.deepEqual(new Map(records.map(({ id, file }) => [id, digest(files.get(file) ?? Buffer.alloc(0))])), sent);
      assert.deepEqual(
        JSON.parse(String(files.get('manifest.json'))).memberships.map((each: { projectId: string }) => each.projectId),
        [project],
      );
      assert.ok(linesOf(files.get('audit.ndjson')).filter(({ action }) => action === 'asset.uploaded').length === 30);
      // Broken off anywhere: within what is made, within a file, within the list at the end.
      const etag = String(whole.headers.get('etag'));
      for (const at of [100, 3000, whole.body.length >> 1, whole.body.length - 50]) {
        const range = { ...BECAUSE, range: `bytes=${at}-`, 'if-range': etag };
        const rest = await bytesOf(admin, `${path}&asOf=${asOf}`, range);
        assert.equal(rest.status, 206);
        assert.ok(rest.body.equals(whole.body.subarray(at)), `from ${at}`);
      }
      const own = unzipped((await bytesOf(client, '/v1/export')).body);
      assert.equal(linesOf(own.get('assets.ndjson')).length, 30);
      // Who has left a project gets what he has elsewhere.
      await others.request('DELETE', `/v1/projects/${project}/members/${owner}`);
      const fewer = unzipped((await bytesOf(client, `/v1/export?asOf=${asOf}`)).body);
      assert.equal(linesOf(fewer.get('assets.ndjson')).length, 27);
      assert.equal(
        linesOf(fewer.get('audit.ndjson')).some(({ projectId }) => projectId === project),
        false,
      );
      const [row] = await service.query<{ count: string }>(
        "select count(*) from audit_events where action = 'owner.exported' and owner_id = $1",
        [owner],
      );
      assert.equal(Number(row?.count), 3);
    });

    test('comes as pages of records with links that work', async () => {
      const owner = `linked-${randomUUID()}`;
      const client = new Client(service.url, owner);
      const sent = new Map<string, string>();
      for (let index = 0; index < 5; index++)
        sent.set((await client.raw(png(SIZE, index), { name: 'a.png' })).body.id, digest(png(SIZE, index)));
      const found = new Map<string, string>();
      let next: string | undefined = `/v1/admin/exports/manifest?ownerId=${owner}&limit=2`;
      for (let pages = 0; next !== undefined && pages < 5; pages++) {
        const { body, headers } = await admin.get(next, BECAUSE);
        const data = body.data as unknown as { asset: { id: string }; url: string }[];
        for (const { asset, url } of data)
          found.set(asset.id, digest(Buffer.from(await (await fetch(url)).arrayBuffer())));
        const link: string | null = headers.get('link');
        assert.equal(link !== null, body.page.hasMore);
        next = /<([^>]+)>/.exec(link ?? '')?.[1];
      }
      assert.deepEqual(found, sent);
    });

    test('comes in parts where it would be too large, and each asset is in one of them', async () => {
      const small = await startService({ beside: service, env: { ...env, MAX_ARCHIVE_SIZE: '2500' } });
      try {
        const owner = `parts-${randomUUID()}`;
        const client = new Client(small.url, owner);
        const ids = [];
        for (let index = 0; index < 5; index++)
          ids.push((await client.raw(png(SIZE, index), { name: 'a.png' })).body.id);
        await client.request('DELETE', `/v1/assets/${ids[0]}`);
        const found: string[] = [];
        let parts = 0;
        for (let next: string | undefined = '/v1/export'; next !== undefined; parts++) {
          const { body, headers } = await bytesOf(client, next);
          found.push(...linesOf(unzipped(body).get('assets.ndjson')).map(({ id }) => id));
          next = /<([^>]+)>/.exec(headers.get('link') ?? '')?.[1];
        }
        assert.equal(parts, 3);
        assert.equal(found.length, 5);
        assert.deepEqual(new Set(found), new Set(ids));
      } finally {
        await small.close();
      }
    });
  });
