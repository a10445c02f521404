/** The tour with the types of openapi-typescript and the client openapi-fetch. */
import { readFileSync } from 'node:fs';
import createClient from 'openapi-fetch';
import type { paths } from './contract.ts';

const [url = '', photo = ''] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url, headers: { 'x-user-id': 'openapi-fetch' } });
const bytes = readFileSync(photo);
const file = (name: string) => new File([bytes], name, { type: 'image/png' });

/** The bodies of forms are typed as text, so it takes a FormData made from what the type asks for. */
function formOf(body: object): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(body)) for (const each of [value].flat()) form.append(name, each);
  return form;
}
function ok<Data>({ data, error }: { data?: Data; error?: unknown }): NonNullable<Data> {
  if (data == null) throw new Error(JSON.stringify(error));
  return data;
}

const form = { projectId: 'web', metadata: '{"album":"summer"}', file: file('photo.png') as unknown as string };
const uploaded = ok(await client.POST('/v1/assets', { body: form, bodySerializer: formOf }));
const params = { path: { id: uploaded.id } };
const page = ok(await client.GET('/v1/assets', { params: { query: { projectId: 'web', sort: 'name', limit: 1 } } }));
const link = ok(await client.GET('/v1/assets/{id}/download', { params: { ...params, query: { expiresIn: 60 } } }));
const linked = (await (await fetch(link.url)).arrayBuffer()).byteLength;
const content = ok(await client.GET('/v1/assets/{id}/content', { params, parseAs: 'arrayBuffer' })).byteLength;
const renamed = ok(await client.PATCH('/v1/assets/{id}', { params, body: { name: 'summer.png' } }));
const cleared = ok(await client.PATCH('/v1/assets/{id}', { params, body: { projectId: null } }));
const quota = ok(await client.GET('/v1/quota'));
await client.DELETE('/v1/assets/{id}', { params });
const trash = ok(await client.GET('/v1/assets', { params: { query: { trashed: true } } }));
const restored = ok(await client.POST('/v1/assets/{id}/restore', { params }));
const files = [file('photo.png'), file('photo.jpg')] as unknown as string[];
const batch = ok(await client.POST('/v1/assets/batch', { body: { files }, bodySerializer: formOf }));
const session = ok(
  await client.POST('/v1/uploads', { body: { fileName: 'direct.png', size: bytes.length, contentType: 'image/png' } }),
);
for (const { url: at, headers, partNumber, size } of session.parts) {
  const begin = (partNumber - 1) * session.partSize;
  await fetch(at, { method: 'PUT', headers, body: bytes.subarray(begin, begin + size) });
}
const direct = ok(await client.POST('/v1/uploads/{id}/complete', { params: { path: { id: session.uploadId } } }));
const missing = await client.GET('/v1/assets/{id}', {
  params: { path: { id: '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1' } },
});

console.log(
  JSON.stringify({
    uploaded: [uploaded.name, uploaded.projectId, uploaded.metadata, uploaded.state],
    page: [page.data.length, page.page.hasMore],
    linked,
    content,
    renamed: renamed.name,
    cleared: cleared.projectId ?? null,
    quota: quota.used,
    trash: [trash.data.length, restored.trashedAt ?? null],
    batch: batch.results.map(({ status }) => status),
    direct: [direct.name, direct.state],
    problem: missing.error?.type ?? null,
  }),
);
