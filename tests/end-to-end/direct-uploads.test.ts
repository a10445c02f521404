/** Files that go straight to the object store, by signed links. On both object stores. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { partSizeFor } from '../../src/uploads/direct-uploads.ts';
import { Client } from '../support/client.ts';
import { glb, pdf, png } from '../support/files.ts';
import { insist } from '../support/insist.ts';
import { contentsOf, s3Skip } from '../support/s3.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;
const PART = 5 * MiB;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

interface Session {
  uploadId: string;
  method: string;
  partSize: number;
  partCount: number;
  parts: { partNumber: number; url: string; headers: Record<string, string>; size: number }[];
  expiresAt: string;
}

test('parts are equal, as many as S3 takes, and no smaller than they have to be', () => {
  const least = 8 * MiB;
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 * 1024 ** 4 }), (size) => {
      const partSize = partSizeFor(size, least, 10_000);
      assert.ok(partSize >= least && partSize % MiB === 0);
      assert.ok(Math.ceil(size / partSize) <= 10_000);
      assert.ok(partSize === least || Math.ceil(size / (partSize - MiB)) > 10_000);
    }),
  );
});

test('a file of 5 TiB may go straight to S3, but not through the service or onto its disk', {
  skip: s3Skip(),
}, async (context) => {
  const TiB = 1024 ** 4;
  const options = {
    policies: { model: { mediaTypes: ['model/gltf-binary'], maxBytes: 5 * TiB } },
    env: { MAX_FILE_SIZE: '5TiB', DEFAULT_QUOTA: '100TiB', PART_SIZE: '5MiB' },
  };
  const fields = { fileName: 'm.glb', size: 5 * TiB, contentType: 'model/gltf-binary' };
  const onS3 = await startService({ ...options, store: 's3' });
  context.after(() => onS3.close());
  const session = await new Client(onS3.url).send('POST', '/v1/uploads', fields);
  assert.equal(session.status, 201, JSON.stringify(session.body));
  assert.equal(session.body['partSize'], 525 * MiB);
  assert.equal(session.body['partCount'], Math.ceil((5 * TiB) / (525 * MiB)));
  const onDisk = await startService(options);
  context.after(() => onDisk.close());
  assert.equal((await new Client(onDisk.url).send('POST', '/v1/uploads', fields)).status, 413);
  const tooMuch = {
    'upload-length': String(5 * TiB),
    'upload-metadata': 'filename bS5nbGI=',
    'tus-resumable': '1.0.0',
  };
  for (const { url } of [onS3, onDisk])
    assert.equal((await new Client(url).request('POST', '/v1/resumable', { headers: tooMuch })).status, 413);
});

for (const { store, skip } of storeKinds) {
  describe(`direct uploads, on ${store}`, { skip }, () => {
    let service: TestService;
    let client: Client;
    before(async () => {
      service = await startService({
        store,
        env: {
          PART_SIZE: '5MiB',
          REQUESTS_PER_MINUTE: '0',
          UPLOADS_PER_HOUR: '0',
          DEFAULT_QUOTA: '200MiB',
          UPLOAD_LEASE: '2s',
        },
      });
    });
    after(() => service.close());
    beforeEach(() => {
      client = new Client(service.url, `owner-${randomUUID()}`);
    });

    const owner = () => client.headers['x-user-id'] ?? '';
    const create = (fields: Record<string, unknown>, headers = {}) =>
      client.send('POST', '/v1/uploads', fields, headers);
    const describeGlb = (bytes: Buffer) => ({
      fileName: 'm.glb',
      size: bytes.length,
      contentType: 'model/gltf-binary',
    });
    async function sessionFor(fields: Record<string, unknown>): Promise<Session> {
      const { status, body, headers } = await create(fields);
      assert.equal(status, 201, JSON.stringify(body));
      const session = body as unknown as Session;
      assert.equal(headers.get('location'), `/v1/uploads/${session.uploadId}`);
      return session;
    }
    async function sendParts({ parts, partSize }: Pick<Session, 'parts' | 'partSize'>, bytes: Buffer): Promise<void> {
      for (const { partNumber, url, headers, size } of parts) {
        const begin = (partNumber - 1) * partSize;
        const body = new Uint8Array(bytes.subarray(begin, begin + size));
        const answer = await fetch(url, { method: 'PUT', headers, body });
        assert.ok(answer.ok, `${answer.status} ${await answer.text()}`);
      }
    }
    const complete = (id: string, headers = {}) => client.request('POST', `/v1/uploads/${id}/complete`, { headers });
    const quota = async () => {
      const { body } = await client.get('/v1/quota');
      return { used: body['used'], reserved: body['reserved'] };
    };
    /** No record, object, part or reservation of this owner is left. */
    async function nothingLeft(): Promise<void> {
      await waitUntil(async () => {
        await service.query("update pgboss.job set start_after = now() where name = 'delete-object'");
        return (await service.query('select 1 from assets where owner_id = $1', [owner()])).length === 0;
      });
      assert.deepEqual(await quota(), { used: 0, reserved: 0 });
      if (!service.bucket) return;
      const { keys, openUploads } = await contentsOf(service.bucket);
      assert.ok(
        ![...keys, ...openUploads].some((key) => key.includes(`/${service.service.core.objectKeys.nameOf(owner())}/`)),
      );
    }

    for (const [title, bytes, fields] of [
      ['a small file is one part', png(2000, 1), { fileName: 'p.png', contentType: 'image/png' }],
      ['a large file is several', glb(12 * MiB, 2), { fileName: 'm.glb', contentType: 'model/gltf-binary' }],
    ] as const) {
      test(`${title}, and comes back as it was`, async () => {
        const project = `project-${randomUUID()}`;
        const session = await sessionFor({ ...fields, size: bytes.length, projectId: project, metadata: { a: 'b' } });
        assert.equal(session.method, 'PUT');
        assert.equal(session.partSize, PART);
        assert.equal(session.partCount, Math.ceil(bytes.length / PART));
        assert.deepEqual(
          session.parts.map(({ size }) => size).reduce((sum, size) => sum + size, 0),
          bytes.length,
        );
        assert.deepEqual(await quota(), { used: 0, reserved: bytes.length });
        assert.equal((await client.get('/v1/assets')).body.data.length, 0);
        await sendParts(session, bytes);
        const seen = await client.get(`/v1/uploads/${session.uploadId}`);
        assert.deepEqual(
          seen.body['parts'],
          session.parts.map(({ partNumber, size }) => ({ partNumber, size })),
        );
        const { status, body, headers } = await complete(session.uploadId);
        assert.equal(status, 201, JSON.stringify(body));
        assert.equal(headers.get('location'), `/v1/assets/${session.uploadId}`);
        assert.equal(body.id, session.uploadId);
        assert.equal(body.state, 'ready');
        assert.equal(body.mediaType, fields.contentType);
        assert.equal(body.projectId, project);
        assert.deepEqual(body.metadata, { a: 'b' });
        assert.equal(body.sha256, undefined);
        assert.deepEqual(await quota(), { used: bytes.length, reserved: 0 });
        const content = await client.content(body.id);
        assert.ok(content.body.equals(bytes));
        assert.equal(content.headers.get('content-type'), fields.contentType);
        const again = await client.content(body.id, { 'if-none-match': content.headers.get('etag') ?? '' });
        assert.equal(again.status, 304);
        assert.equal((await client.get(`/v1/uploads/${session.uploadId}`)).body.state, 'complete');
      });
    }

    test('links that are used again after completion change nothing', async () => {
      const bytes = png(3000, 3);
      const session = await sessionFor({ fileName: 'p.png', size: 3000, contentType: 'image/png' });
      await sendParts(session, bytes);
      const { body } = await complete(session.uploadId);
      for (const { url } of session.parts) {
        const answer = await fetch(url, { method: 'PUT', body: new Uint8Array(png(3000, 4)) });
        assert.equal(answer.status, 404);
        await answer.arrayBuffer();
      }
      assert.ok((await client.content(body.id)).body.equals(bytes));
    });

    test('a part of another size is refused, and no checksum of an empty body is in the link', async () => {
      const session = await sessionFor({ fileName: 'p.png', size: 3000, contentType: 'image/png' });
      const [part] = session.parts;
      assert.ok(part);
      assert.doesNotMatch(part.url, /checksum/i);
      for (const size of [2999, 3001]) {
        const answer = await fetch(part.url, { method: 'PUT', body: new Uint8Array(size) });
        assert.ok(answer.status >= 400, String(answer.status));
        await answer.arrayBuffer();
      }
      assert.deepEqual((await client.get(`/v1/uploads/${session.uploadId}`)).body['parts'], []);
    });

    test('parts are signed again on demand, which puts the expiry off; others are refused', async () => {
      const bytes = glb(12 * MiB, 5);
      const session = await sessionFor(describeGlb(bytes));
      const sign = (partNumbers: number[]) =>
        client.send('POST', `/v1/uploads/${session.uploadId}/parts`, { partNumbers });
      const signed = await sign([3, 1, 2]);
      assert.equal(signed.status, 200, JSON.stringify(signed.body));
      assert.ok(String(signed.body['expiresAt']) >= session.expiresAt);
      await sendParts({ parts: signed.body['parts'] as Session['parts'], partSize: session.partSize }, bytes);
      for (const [wrong, pointer] of [
        [[4], '/partNumbers/0'],
        [[0], '/partNumbers/0'],
        [[], '/partNumbers'],
      ] as const) {
        const { status, body } = await sign([...wrong]);
        assert.equal(status, 400);
        assert.equal(body.errors?.[0]?.pointer, pointer);
      }
      assert.equal((await complete(session.uploadId)).status, 201);
    });

    test('completing before all parts are there is 409, names what is missing, and ends nothing', async () => {
      const bytes = glb(12 * MiB, 6);
      const session = await sessionFor(describeGlb(bytes));
      const [first, ...rest] = session.parts;
      assert.ok(first);
      for (const [parts, missing] of [
        [[], /Missing parts: 1, 2, 3\./],
        [[first], /Missing parts: 2, 3\./],
      ] as const) {
        await sendParts({ parts: [...parts], partSize: session.partSize }, bytes);
        const { status, body } = await complete(session.uploadId);
        assert.equal(status, 409);
        assert.equal(body.type, 'urn:stowage:problem:upload-incomplete');
        assert.match(body.detail ?? '', missing);
      }
      await sendParts({ parts: rest, partSize: session.partSize }, bytes);
      assert.equal((await complete(session.uploadId)).status, 201);
    });

    test('completed twice, twenty times at once, or again under its key, it is one asset and one answer', async () => {
      const bytes = glb(6 * MiB, 7);
      const session = await sessionFor(describeGlb(bytes));
      await sendParts(session, bytes);
      const answers = await Promise.all(Array.from({ length: 20 }, () => complete(session.uploadId)));
      answers.push(await complete(session.uploadId));
      const key = { 'idempotency-key': randomUUID() };
      answers.push(await complete(session.uploadId, key));
      const replayed = await complete(session.uploadId, key);
      assert.equal(replayed.headers.get('idempotency-replayed'), 'true');
      answers.push(replayed);
      for (const { status, body } of answers) {
        assert.equal(status, 201, JSON.stringify(body));
        assert.deepEqual(body, answers[0]?.body);
      }
      assert.deepEqual(await quota(), { used: bytes.length, reserved: 0 });
      const events = await service.query(
        "select 1 from audit_events where asset_id = $1 and action = 'asset.uploaded'",
        [session.uploadId],
      );
      assert.equal(events.length, 1);
    });

    test('a declared digest is verified, and kept', async () => {
      const bytes = glb(6 * MiB, 8);
      const session = await sessionFor({ ...describeGlb(bytes), sha256: sha256(bytes) });
      await sendParts(session, bytes);
      const { status, body } = await complete(session.uploadId);
      assert.equal(status, 201);
      assert.equal(body.sha256, sha256(bytes));
      assert.match((await client.content(body.id)).headers.get('repr-digest') ?? '', /^sha-256=:/);
    });

    test('the digest of a file above 64 MiB is verified by a job, until which it is processing', async () => {
      for (const [declared, state] of [
        [undefined, 'ready'],
        ['0'.repeat(64), 'rejected'],
      ] as const) {
        const bytes = glb(65 * MiB, 9);
        const session = await sessionFor({ ...describeGlb(bytes), sha256: declared ?? sha256(bytes) });
        await sendParts(session, bytes);
        const { status, body } = await complete(session.uploadId);
        assert.equal(status, 201, JSON.stringify(body));
        assert.equal(body.state, 'processing');
        const asset = await waitUntil(async () => {
          const found = await client.get(`/v1/assets/${session.uploadId}`);
          return found.body.state === 'processing' ? undefined : found.body;
        });
        assert.equal(asset?.state, state);
        assert.equal(asset.reason, state === 'ready' ? undefined : 'digest-mismatch');
        assert.equal((await client.content(session.uploadId)).status, state === 'ready' ? 200 : 409);
        assert.equal((await client.request('DELETE', `/v1/assets/${session.uploadId}?permanent=true`)).status, 204);
      }
      await nothingLeft();
    });

    for (const [title, bytes, fields, status, type] of [
      ['of another type', pdf(), { fileName: 'p.png', contentType: 'image/png' }, 415, 'declared-mismatch'],
      [
        'of no known type',
        Buffer.alloc(3000, 'x'),
        { fileName: 'p.png', contentType: 'image/png' },
        415,
        'undetected-type',
      ],
      [
        'that are damaged',
        png(3000).subarray(0, 2990),
        { fileName: 'p.png', contentType: 'image/png' },
        422,
        'damaged-file',
      ],
      [
        'with another digest',
        png(3000),
        { fileName: 'p.png', contentType: 'image/png', sha256: '0'.repeat(64) },
        422,
        'digest-mismatch',
      ],
    ] as const) {
      test(`bytes ${title} are refused when completed, and nothing is left`, async () => {
        const session = await sessionFor({ ...fields, size: bytes.length });
        await sendParts(session, Buffer.from(bytes));
        const { status: found, body } = await complete(session.uploadId);
        assert.equal(found, status, JSON.stringify(body));
        assert.equal(body.type, `urn:stowage:problem:${type}`);
        assert.equal((await complete(session.uploadId)).status, 404);
        await nothingLeft();
        const events = await service.query('select action from audit_events where owner_id = $1', [owner()]);
        assert.deepEqual(events, [{ action: 'upload.refused' }]);
      });
    }

    for (const [fields, status, type] of [
      [{ fileName: '../p.png', size: 10, contentType: 'image/png' }, 400, 'invalid-name'],
      [{ fileName: 'p.png', size: 10, contentType: 'nonsense' }, 400, 'invalid-parameter'],
      [{ fileName: 'p.png', size: -1, contentType: 'image/png' }, 400, 'invalid-parameter'],
      [{ fileName: 'p.png', size: 1.5, contentType: 'image/png' }, 400, 'invalid-parameter'],
      [{ fileName: 'p.png', contentType: 'image/png' }, 400, 'invalid-parameter'],
      [{ fileName: 'p.png', size: 10, contentType: 'image/png', extra: 1 }, 400, 'invalid-parameter'],
      [{ fileName: 'p.png', size: 10, contentType: 'image/png', assetType: 'none' }, 400, 'invalid-parameter'],
      [{ fileName: 'p.png', size: 0, contentType: 'image/png' }, 422, 'empty-file'],
      [{ fileName: 'p.png', size: 11 * MiB, contentType: 'image/png' }, 413, 'too-large'],
      [{ fileName: 'p.png', size: 10, contentType: 'application/gzip' }, 415, 'type-not-allowed'],
      [{ fileName: 'p.pdf', size: 10, contentType: 'image/png' }, 415, 'extension-mismatch'],
      [{ fileName: 'p.png', size: 10, contentType: 'image/png', assetType: 'video' }, 415, 'type-not-allowed'],
      [{ fileName: 'm.glb', size: 201 * MiB, contentType: 'model/gltf-binary' }, 403, 'quota-exceeded'],
    ] as const) {
      test(`${JSON.stringify(fields)} is ${status} ${type} before anything is signed`, async () => {
        const { status: found, body } = await create(fields);
        assert.equal(found, status, JSON.stringify(body));
        assert.equal(body.type, `urn:stowage:problem:${type}`);
        await nothingLeft();
      });
    }

    test('cancelling leaves nothing; a complete upload cannot be cancelled', async () => {
      const bytes = glb(12 * MiB, 10);
      const session = await sessionFor(describeGlb(bytes));
      await sendParts({ ...session, parts: session.parts.slice(0, 2) }, bytes);
      const cancel = (id: string) => client.request('DELETE', `/v1/uploads/${id}`);
      assert.equal((await cancel(session.uploadId)).status, 204);
      assert.equal((await cancel(session.uploadId)).status, 404);
      assert.equal((await complete(session.uploadId)).status, 404);
      await nothingLeft();
      const other = await sessionFor(describeGlb(bytes));
      await sendParts(other, bytes);
      await complete(other.uploadId);
      const { status, body } = await cancel(other.uploadId);
      assert.equal(status, 409);
      assert.equal(body.type, 'urn:stowage:problem:wrong-state');
    });

    test('somebody else can neither see, sign, complete nor cancel it', async () => {
      const session = await sessionFor({ fileName: 'p.png', size: 3000, contentType: 'image/png' });
      const stranger = new Client(service.url, 'stranger');
      for (const id of [session.uploadId, randomUUID()]) {
        const answers = [
          await stranger.get(`/v1/uploads/${id}`),
          await stranger.send('POST', `/v1/uploads/${id}/parts`, { partNumbers: [1] }),
          await stranger.request('POST', `/v1/uploads/${id}/complete`),
          await stranger.request('DELETE', `/v1/uploads/${id}`),
        ];
        for (const { status, body } of answers) {
          assert.equal(status, 404);
          assert.equal(body.detail, 'There is no upload with this id.');
        }
      }
      // An asset that came by another route is no upload.
      const { body } = await client.raw(png(300));
      assert.equal((await complete(body.id)).status, 404);
    });

    test('the same request under the same key is the same upload', async () => {
      const key = { 'idempotency-key': randomUUID() };
      const fields = { fileName: 'p.png', size: 3000, contentType: 'image/png' };
      const first = await create(fields, key);
      const again = await create(fields, key);
      assert.equal(again.headers.get('idempotency-replayed'), 'true');
      assert.deepEqual(again.body, first.body);
      assert.equal((await create({ ...fields, size: 3001 }, key)).status, 422);
      assert.deepEqual(await quota(), { used: 0, reserved: 3000 });
    });

    test('an expired upload is 410, then reaped with its reservation', async () => {
      const bytes = png(3000, 11);
      const session = await sessionFor({ fileName: 'p.png', size: 3000, contentType: 'image/png' });
      await sendParts(session, bytes);
      await service.service.reconcile({});
      assert.deepEqual(await quota(), { used: 0, reserved: 3000 });
      await service.query("update upload_sessions set expires_at = now() - interval '1 s' where asset_id = $1", [
        session.uploadId,
      ]);
      for (const { status, body } of [
        await complete(session.uploadId),
        await client.send('POST', `/v1/uploads/${session.uploadId}/parts`, { partNumbers: [1] }),
      ]) {
        assert.equal(status, 410);
        assert.equal(body.type, 'urn:stowage:problem:upload-expired');
      }
      await service.query("update assets set lease_expires_at = now() - interval '1 s' where id = $1", [
        session.uploadId,
      ]);
      await service.service.reconcile({});
      await nothingLeft();
    });

    test('of 200 that race for the room of 100 exactly 100 are begun', async () => {
      const size = 2 * MiB;
      const answers = await Promise.all(
        Array.from({ length: 200 }, () => {
          const key = { 'idempotency-key': randomUUID() };
          return insist(() => create({ fileName: 'p.png', size, contentType: 'image/png' }, key));
        }),
      );
      const statuses = answers.map(({ status }) => status);
      assert.equal(statuses.filter((status) => status === 201).length, 100, statuses.join());
      assert.equal(statuses.filter((status) => status === 403).length, 100, statuses.join());
      assert.deepEqual(await quota(), { used: 0, reserved: 200 * MiB });
    });

    test('a part that is sent again while the upload is completed gets a right answer, and damages nothing', async () => {
      const bytes = glb(PART + 3000, 5);
      const statuses = new Map<string, number>();
      const count = (what: string) => statuses.set(what, (statuses.get(what) ?? 0) + 1);
      for (let round = 0; round < 12; round++) {
        const session = await sessionFor(describeGlb(bytes));
        await sendParts(session, bytes);
        const part = session.parts[round % 2];
        assert.ok(part);
        const begin = (part.partNumber - 1) * session.partSize;
        const again = async () => {
          const body = bytes.subarray(begin, begin + part.size);
          const { status } = await fetch(part.url, { method: 'PUT', headers: part.headers, body });
          count(`part ${status}`);
          return status;
        };
        const parts = [again(), sleep(round * 3).then(again)];
        let completed = await sleep(round * 2).then(() => complete(session.uploadId));
        for (const status of await Promise.all(parts)) assert.ok([200, 204, 404, 409].includes(status), String(status));
        count(`complete ${completed.status}`);
        assert.ok([201, 409].includes(completed.status), JSON.stringify(completed.body));
        if (completed.status === 409) {
          // Parts may have to be sent again, as it says.
          await sendParts(session, bytes);
          completed = await complete(session.uploadId);
        }
        assert.equal(completed.status, 201, JSON.stringify(completed.body));
        assert.ok((await client.content(session.uploadId)).body.equals(bytes), 'the file is damaged');
        await client.request('DELETE', `/v1/assets/${session.uploadId}?permanent=true`);
      }
      await nothingLeft();
    });

    test('complete against cancel against the reaper: an asset with its bytes, or nothing', async () => {
      for (let round = 0; round < 10; round++) {
        const bytes = png(3000, round);
        const session = await sessionFor({ fileName: 'p.png', size: 3000, contentType: 'image/png' });
        await sendParts(session, bytes);
        if (round % 3 === 0)
          await service.query("update assets set lease_expires_at = now() - interval '1 s' where id = $1", [
            session.uploadId,
          ]);
        const [completed, cancelled] = await Promise.all([
          complete(session.uploadId),
          client.request('DELETE', `/v1/uploads/${session.uploadId}`),
          service.service.reconcile({}),
        ]);
        assert.ok([201, 404, 409].includes(completed.status), `${completed.status} ${JSON.stringify(completed.body)}`);
        assert.ok([204, 404, 409].includes(cancelled.status), `${cancelled.status} ${JSON.stringify(cancelled.body)}`);
        assert.ok(!(completed.status === 201 && cancelled.status === 204));
        if (completed.status === 201) {
          assert.ok((await client.content(session.uploadId)).body.equals(bytes));
          await client.request('DELETE', `/v1/assets/${session.uploadId}?permanent=true`);
        }
      }
      await nothingLeft();
    });
  });
}
