import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { metadataBytes } from '../../src/http/schema-types.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

const LIMIT = 8192;
/** Of exactly so many bytes as it is stored: not as many characters. */
function metadataOf(bytes: number): Record<string, string> {
  const entries = Object.fromEntries(
    Array.from({ length: 9 }, (_, index) => [`key${index}`, `\u00e9${'x'.repeat(800)}`]),
  );
  const rest = bytes - metadataBytes({ ...entries, rest: '' });
  assert.ok(rest >= 0 && rest <= 1024);
  return { ...entries, rest: 'x'.repeat(rest) };
}

describe('metadata', () => {
  let service: TestService;
  let client: Client;
  before(async () => {
    service = await startService({ env: { UPLOADS_PER_HOUR: '0', REQUESTS_PER_MINUTE: '0' } });
    client = new Client(service.url, 'keeper');
  });
  after(() => service.close());

  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const tus = (metadata: object) =>
    client.request('POST', '/v1/resumable', {
      headers: {
        'tus-resumable': '1.0.0',
        'upload-length': '300',
        'upload-metadata': `filename ${base64('t.png')},metadata ${base64(JSON.stringify(metadata))}`,
      },
    });
  const ways: [string, (metadata: object) => Promise<{ status: number }>][] = [
    ['a form', (metadata) => client.upload(png(300, 1), { fields: { metadata: JSON.stringify(metadata) } })],
    ['a raw upload', (metadata) => client.raw(png(300, 1), { fields: { metadata: JSON.stringify(metadata) } })],
    [
      'a direct upload',
      (metadata) =>
        client.send('POST', '/v1/uploads', { fileName: 'd.png', size: 300, contentType: 'image/png', metadata }),
    ],
    ['a resumable upload', tus],
    [
      'a change',
      async (metadata) => {
        const { body } = await client.raw(png(300, 2));
        return client.send('PATCH', `/v1/assets/${body.id}`, { metadata });
      },
    ],
  ];
  for (const [way, send] of ways)
    test(`of ${way} may have 8 KiB as JSON and no byte more`, async () => {
      assert.ok([200, 201].includes((await send(metadataOf(LIMIT))).status));
      assert.equal((await send(metadataOf(LIMIT + 1))).status, 400);
    });

  test('for all entries: their bytes are those that Postgres stores', async () => {
    const text = fc.string({ unit: 'binary', maxLength: 20 }).filter((each) => !each.includes('\0'));
    await fc.assert(
      fc.asyncProperty(fc.dictionary(text, text, { maxKeys: 10, noNullPrototype: true }), async (entries) => {
        const [row] = await service.query<{ bytes: number }>('select octet_length($1::jsonb::text) as bytes', [
          JSON.stringify(entries),
        ]);
        assert.equal(metadataBytes(entries), row?.bytes);
      }),
      { numRuns: 200 },
    );
  });

  test('that is larger from before is still read and listed, and kept by changes of the rest', async () => {
    const { body } = await client.raw(png(300, 3));
    const large = { a: 'x'.repeat(50_000) };
    await service.query('update assets set metadata = $2 where id = $1', [body.id, JSON.stringify(large)]);
    assert.deepEqual((await client.get(`/v1/assets/${body.id}`)).body.metadata, large);
    const renamed = await client.send('PATCH', `/v1/assets/${body.id}`, { name: 'r.png' });
    assert.equal(renamed.status, 200);
    assert.deepEqual(renamed.body.metadata, large);
    assert.equal((await client.get(`/v1/assets?name=r.png`)).body.data.length, 1);
  });

  test('of a change keeps every name, or refuses it', async () => {
    const { body } = await client.raw(png(300, 4));
    for (const name of ['__proto__', '\\u005f_proto__'])
      for (const value of ['"x"', '{"a":"b"}', 'null']) {
        const answer = await client.request('PATCH', `/v1/assets/${body.id}`, {
          body: `{"metadata":{"${name}":${value},"kept":"yes"}}`,
          headers: { 'content-type': 'application/json' },
        });
        assert.equal(answer.status, 400, name);
      }
    assert.deepEqual((await client.get(`/v1/assets/${body.id}`)).body.metadata, {});
    const names = { constructor: 'a', prototype: 'b', toString: 'c', hasOwnProperty: 'd' };
    const answer = await client.send('PATCH', `/v1/assets/${body.id}`, { metadata: names });
    assert.deepEqual(answer.body.metadata, names);
  });
});
