/** What clients are told about what may be uploaded is what is accepted. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { validFiles } from '../support/corpus.ts';
import { startService, type TestService } from '../support/service.ts';

interface Policies {
  data: {
    assetType: string;
    types: { mediaType: string; extensions: string[] }[];
    maxBytes: number;
    allowUndetected: boolean;
    metadata: string;
    expireAfterDays?: number;
  }[];
}

async function policiesOf(service: TestService): Promise<Policies['data']> {
  const { status, body } = await new Client(service.url).get('/v1/policies');
  assert.equal(status, 200);
  return (body as unknown as Policies).data;
}

describe('GET /v1/policies', () => {
  let service: TestService;
  before(async () => {
    service = await startService({
      policies: {
        model: null,
        report: {
          mediaTypes: ['application/x-report', 'text/plain'],
          maxBytes: 77,
          allowUndetected: true,
          expireAfterDays: 9,
        },
      },
      env: { MAX_FILE_SIZE: '20MiB', UPLOADS_PER_HOUR: '0' },
    });
  });
  after(() => service.close());

  test('lists the policies in their order, with types, extensions and the size that holds in the end', async () => {
    const data = await policiesOf(service);
    const names = data.map(({ assetType }) => assetType);
    assert.deepEqual(names, ['image', 'video', 'audio', 'document', 'text', 'archive', 'encrypted', 'report']);
    const [image] = data;
    assert.equal(image?.maxBytes, 10 * 1024 ** 2);
    assert.equal(image.metadata, 'strip');
    assert.deepEqual(image.types[0], {
      mediaType: 'image/jpeg',
      extensions: ['jpg', 'jpeg', 'jpe', 'jfif', 'pjpeg', 'pjp'],
    });
    assert.equal(data.find(({ assetType }) => assetType === 'video')?.maxBytes, 20 * 1024 ** 2);
    assert.deepEqual(data.at(-1), {
      assetType: 'report',
      kind: 'files',
      types: [
        { mediaType: 'application/x-report', extensions: [] },
        { mediaType: 'text/plain', extensions: ['txt', 'text', 'log', 'md'] },
      ],
      maxBytes: 77,
      allowUndetected: true,
      public: false,
      metadata: 'keep',
      deleteAfterDays: 9,
      expireAfterDays: 9,
      daysSince: 'upload',
      retention: 'permanent',
      scan: 'off',
    });
  });

  test('what it lists is accepted, by each of its extensions', async () => {
    const client = new Client(service.url);
    for (const { assetType, types } of await policiesOf(service))
      for (const { mediaType, extensions } of types) {
        const file = validFiles.find((each) => each.mediaType === mediaType && each.bytes.length < 77_000);
        if (!file || assetType === 'report') continue;
        for (const extension of extensions) {
          const options = { name: `a.${extension}`, type: mediaType, fields: { assetType } };
          const { status, body } = await client.raw(file.bytes, options);
          assert.equal(status, 201, `${options.name}: ${JSON.stringify(body)}`);
          assert.equal(body.mediaType, mediaType);
        }
      }
  });
});
