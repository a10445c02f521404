import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { glb, pdf, png } from '../support/files.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

for (const { store, skip } of storeKinds) {
  describe(`uploads on the ${store} store`, { skip }, () => {
    let service: TestService;
    let client: Client;
    before(async () => {
      service = await startService({ store });
      client = new Client(service.url);
    });
    after(() => service.close());

    test('a form upload answers 201 with the record, Location and ETag, and the same bytes come back', async () => {
      const bytes = png(5000, 1);
      const { status, body, headers } = await client.upload(bytes, {
        name: 'Übersicht.png',
        fields: { projectId: 'web', metadata: '{"album":"summer"}' },
      });
      assert.equal(status, 201);
      assert.equal(headers.get('location'), `/v1/assets/${body.id}`);
      assert.match(headers.get('etag') ?? '', /^"[\w.-]+"$/);
      assert.equal(body.name, 'Übersicht.png');
      assert.equal(body.mediaType, 'image/png');
      assert.equal(body.assetType, 'image');
      assert.equal(body.size, 5000);
      assert.equal(body.sha256, sha256(bytes));
      assert.equal(body.state, 'ready');
      assert.deepEqual(body.metadata, { album: 'summer' });
      const content = await client.content(body.id);
      assert.equal(content.status, 200);
      assert.ok(content.body.equals(bytes));
    });

    test('a raw upload takes the name from the path and the rest from the query', async () => {
      const bytes = pdf();
      const { status, body } = await client.raw(bytes, {
        name: 'report 1%.pdf',
        fields: { projectId: 'p', assetType: 'document' },
      });
      assert.equal(status, 201);
      assert.equal(body.name, 'report 1%.pdf');
      assert.equal(body.projectId, 'p');
      assert.equal(body.mediaType, 'application/pdf');
    });

    for (const size of [5 * 1024 * 1024, 8 * 1024 * 1024, 8 * 1024 * 1024 + 4, 30 * 1024 * 1024]) {
      test(`a file of ${size} bytes comes back byte by byte, by form and raw`, async () => {
        const bytes = glb(size, 7);
        for (const answer of [
          await client.upload(bytes, { name: 'm.glb' }),
          await client.raw(bytes, { name: 'm.glb' }),
        ]) {
          assert.equal(answer.status, 201, JSON.stringify(answer.body));
          assert.equal(answer.body.sha256, sha256(bytes));
          const content = await client.content(answer.body.id);
          assert.equal(sha256(content.body), sha256(bytes));
        }
      });
    }
  });
}
