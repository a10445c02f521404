/**
 * A client generated from openapi.yaml, as an application would have it: the program below is type-checked against the
 * client and then run against a service. So the contract says enough, says it rightly, and in a way that generators know.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createClient } from '@hey-api/openapi-ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));

/** Prints what it got, as JSON. `file` comes last, because form fields are sent in the order of the object. */
const program = `
import { readFileSync } from 'node:fs';
import { client } from './sdk/client.gen.ts';
import {
  createDownloadLink, deleteAsset, downloadAsset, getAsset, listAssets, updateAsset, uploadAsset, uploadAssets, uploadRawAsset,
  type Asset, type Problem,
} from './sdk/index.ts';

client.setConfig({ baseUrl: process.argv[2] ?? '', headers: { 'x-user-id': 'sdk' } });
const bytes = readFileSync('photo.png');
const photo = (name: string) => new File([bytes], name, { type: 'image/png' });
const sizeOf = (asset: Asset): number => asset.size;

const byForm = await uploadAsset({ body: { projectId: 'web', metadata: '{"album":"summer"}', file: photo('form.png') }, throwOnError: true });
const raw = await uploadRawAsset({ path: { fileName: 'raw 1%.png' }, query: { projectId: 'web' }, body: photo('x'), throwOnError: true });
const batch = await uploadAssets({ body: { projectId: 'other', files: [photo('a.png'), photo('b.jpg')] }, throwOnError: true });
const listed = await listAssets({ query: { projectId: 'web', sort: 'name', order: 'asc', limit: 10 }, throwOnError: true });
const { id } = byForm.data;
const link = await createDownloadLink({ path: { id }, query: { expiresIn: 60 }, throwOnError: true });
const linked = await (await fetch(link.data.url)).arrayBuffer();
const content = await downloadAsset({ path: { id }, parseAs: 'blob', throwOnError: true });
const renamed = await updateAsset({ path: { id }, body: { name: 'summer.png' }, throwOnError: true });
const refusedRename = await updateAsset({ path: { id }, body: { name: 'summer.pdf' } });
const refusal: Problem | undefined = refusedRename.error;
const removed = await deleteAsset({ path: { id }, query: { permanent: true }, throwOnError: true });
const missing = await getAsset({ path: { id } });
const problem: Problem | undefined = missing.error;

console.log(JSON.stringify({
  form: byForm.data,
  formStatus: byForm.response.status,
  rawName: raw.data.name,
  rawSize: sizeOf(raw.data),
  batch: batch.data.results.map(({ status, fileName, problem }) => [status, fileName, problem?.type]),
  names: listed.data.data.map((asset) => asset.name),
  hasMore: listed.data.page.hasMore,
  linked: bytes.equals(Buffer.from(linked)),
  content: bytes.equals(Buffer.from(await (content.data as Blob).arrayBuffer())),
  renamed: renamed.data.name,
  refusal: [refusal?.status, refusal?.type],
  removed: removed.response.status,
  problem: [problem?.status, problem?.type],
}));
`;

describe('a client generated from openapi.yaml', () => {
  let service: TestService;
  let directory = '';
  before(async () => {
    // Not below node_modules, where Node strips no types.
    directory = await mkdtemp(join(tmpdir(), 'stowage-test-sdk-'));
    await createClient({
      input: join(root, 'openapi.yaml'),
      output: { path: join(directory, 'sdk'), module: { extension: '.ts' } },
      plugins: ['@hey-api/client-fetch', '@hey-api/typescript', '@hey-api/sdk'],
      logs: { level: 'silent' },
    });
    await writeFile(join(directory, 'package.json'), '{"type":"module"}');
    await writeFile(join(directory, 'application.ts'), program);
    await writeFile(join(directory, 'photo.png'), png(5000));
    service = await startService();
  });
  after(async () => {
    await service?.close();
    await rm(directory, { recursive: true, force: true });
  });

  test('has types that an application compiles with', async () => {
    const compiler = createRequire(import.meta.url).resolve('typescript/bin/tsc');
    const flags =
      '--noEmit --strict --skipLibCheck --target es2024 --module nodenext --allowImportingTsExtensions --types node';
    const typeRoots = join(dirname(createRequire(import.meta.url).resolve('@types/node/package.json')), '..');
    const lib = ['--lib', 'es2024,dom,dom.iterable'];
    const args = [compiler, ...flags.split(' '), '--typeRoots', typeRoots, ...lib, 'application.ts'];
    const { stdout } = await run(process.execPath, args, { cwd: directory }).catch((error) => error);
    assert.equal(stdout, '');
  });

  test('uploads, lists, links, downloads, renames, deletes, and reads problems', async () => {
    const { stdout } = await run(process.execPath, ['application.ts', service.url], { cwd: directory });
    const { form, ...rest } = JSON.parse(stdout);
    assert.equal(form.name, 'form.png');
    assert.equal(form.projectId, 'web');
    assert.deepEqual(form.metadata, { album: 'summer' });
    assert.equal(form.mediaType, 'image/png');
    assert.deepEqual(rest, {
      formStatus: 201,
      rawName: 'raw 1%.png',
      rawSize: 5000,
      batch: [
        [201, 'a.png', null],
        [415, 'b.jpg', 'urn:stowage:problem:extension-mismatch'],
      ],
      names: ['form.png', 'raw 1%.png'],
      hasMore: false,
      linked: true,
      content: true,
      renamed: 'summer.png',
      refusal: [400, 'urn:stowage:problem:invalid-name'],
      removed: 204,
      problem: [404, 'urn:stowage:problem:not-found'],
    });
  });
});
