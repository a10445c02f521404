/** Files are scanned for viruses by a real clamd: whatever way they come, and whatever becomes of clamd. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, type TestContext, test } from 'node:test';
import { EICAR, EICAR_NAME, INFECTION, INFECTION_NAME, startClamd, type TestClamd } from '../support/clamd.ts';
import { type Answer, type AnyBody, Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { spawnService } from '../support/processes.ts';
import { programSkip } from '../support/programs.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { waitUntil } from '../support/wait-until.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const TUS = { 'tus-resumable': '1.0.0' };
const skip = programSkip('clamd');
const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', PART_SIZE: '5MiB' };

/** A model with the test infection in its binary chunk, across a border of 64 KiB. */
function infectedGlb(size: number, at = 1.5 * MiB): Buffer<ArrayBuffer> {
  const bytes = glb(size);
  INFECTION.copy(bytes, Math.min(at, size - INFECTION.length) - 10);
  return bytes;
}

type Send = (client: Client, bytes: Buffer<ArrayBuffer>, name: string) => Promise<Answer<AnyBody>>;

const sendRaw: Send = (client, bytes, name) => client.raw(bytes, { name });
const sendForm: Send = (client, bytes, name) => client.upload(bytes, { name });
/** The outcome of one file of two, of which the other is good. */
const sendBatch: Send = async (client, bytes, name) => {
  const form = new FormData();
  form.append('files', new Blob([png()]), 'good.png');
  form.append('files', new Blob([bytes]), name);
  const { body, headers } = await client.request('POST', '/v1/assets/batch', { body: form });
  const results = body['results'] as { status: number; asset?: AnyBody; problem?: AnyBody }[];
  assert.equal(results[0]?.status, 201);
  const outcome = results[1];
  assert.ok(outcome);
  return { status: outcome.status, headers, body: (outcome.asset ?? outcome.problem) as AnyBody };
};
const sendDirect: Send = async (client, bytes, fileName) => {
  const contentType = fileName.endsWith('.glb') ? 'model/gltf-binary' : 'text/plain';
  const { body } = await client.send('POST', '/v1/uploads', { fileName, size: bytes.length, contentType });
  const { uploadId, partSize, parts } = body as unknown as {
    uploadId: string;
    partSize: number;
    parts: { partNumber: number; url: string; headers: Record<string, string>; size: number }[];
  };
  for (const { partNumber, url, headers, size } of parts) {
    const begin = (partNumber - 1) * partSize;
    const { ok } = await fetch(url, {
      method: 'PUT',
      headers,
      body: new Uint8Array(bytes.subarray(begin, begin + size)),
    });
    assert.ok(ok);
  }
  return client.send('POST', `/v1/uploads/${uploadId}/complete`, {});
};
const sendResumable: Send = async (client, bytes, name) => {
  const created = await client.request('POST', '/v1/resumable', {
    headers: {
      ...TUS,
      'upload-length': String(bytes.length),
      'upload-metadata': `filename ${Buffer.from(name).toString('base64')}`,
    },
  });
  const path = created.headers.get('location') ?? '';
  const half = Math.floor(bytes.length / 2);
  for (const [begin, end] of [
    [0, half],
    [half, bytes.length],
  ]) {
    const { status } = await client.request('PATCH', path, {
      headers: { ...TUS, 'content-type': 'application/offset+octet-stream', 'upload-offset': String(begin) },
      body: bytes.subarray(begin, end),
    });
    assert.equal(status, 204);
  }
  const { status, headers, body } = await client.get(`/v1/assets/${path.split('/').at(-1)}`);
  return { status: status === 200 ? 201 : status, headers, body };
};

/** The record, when it is `processing` no more. */
async function processed(client: Client, id: string): Promise<AnyBody> {
  const body = await waitUntil(async () => {
    const answer = await client.get(`/v1/assets/${id}`);
    assert.equal(answer.status, 200);
    return answer.body.state === 'processing' ? undefined : answer.body;
  });
  return body as AnyBody;
}

/** No way and no link hands any of it out. */
async function isNotServed(client: Client, id: string, links: string[] = []): Promise<void> {
  assert.equal((await client.content(id)).status, 409);
  assert.equal((await client.get(`/v1/assets/${id}/download`)).status, 409);
  assert.equal((await client.get(`/v1/assets/${id}/download/redirect`)).status, 409);
  for (const link of links) {
    const answer = await fetch(link);
    assert.ok(answer.status >= 400, `a link answers ${answer.status}`);
  }
}

for (const { store, skip: noStore } of storeKinds)
  describe(`files are scanned, on ${store}`, { skip: skip || noStore }, () => {
    let clamd: TestClamd;
    let service: TestService;
    let client: Client;
    const owner = () => client.headers['x-user-id'] ?? '';
    before(async () => {
      clamd = await startClamd();
      service = await startService({
        store,
        env: { ...env, CLAMD: clamd.socket },
        policies: { unscanned: { mediaTypes: ['text/markdown'], maxBytes: MiB, scan: 'off' } },
      });
    });
    after(async () => {
      await service?.close();
      await clamd?.close();
    });
    beforeEach(() => {
      client = new Client(service.url, `owner-${randomUUID()}`);
    });

    const keys = async () => {
      const found: string[] = [];
      for await (const page of service.store.list('', {})) found.push(...page.map(({ key }) => key));
      return found;
    };
    const auditOf = (action: string) =>
      service.query<{ detail: Record<string, unknown> }>(
        'select detail from audit_events where owner_id = $1 and action = $2',
        [owner(), action],
      );
    const infections = async (trigger: string) => {
      const text = await service.service.metrics.registry.metrics();
      return Number(new RegExp(`stowage_infections_total\\{trigger="${trigger}"\\} (\\d+)`).exec(text)?.[1]);
    };

    test('a small clean file is ready at once, and its record says who found it clean', async () => {
      for (const send of [sendRaw, sendForm, sendBatch]) {
        const { status, body } = await send(client, png(), 'photo.png');
        assert.equal(status, 201);
        assert.equal(body.state, 'ready');
        assert.equal(body.scan?.verdict, 'clean');
        assert.match(String(body.scan?.engine), /^ClamAV \d/);
        assert.ok(Date.parse(String(body.scan?.at)) > 0);
      }
    });

    test('a small infected file is refused by its name, and nothing of it is stored', async () => {
      const before = await infections('upload');
      const stored = (await keys()).length;
      for (const [index, send] of [sendRaw, sendForm].entries())
        for (const [bytes, name, signature] of [
          [EICAR, 'eicar.txt', EICAR_NAME],
          [infectedGlb(256 * KiB, 64 * KiB), 'model.glb', INFECTION_NAME],
        ] as const) {
          const { status, body } = await send(client, Buffer.from(bytes), name);
          assert.equal(status, 422, `${index} ${name}`);
          assert.equal(body.type, 'urn:stowage:problem:infected');
          assert.equal(body.signature, signature);
        }
      assert.equal((await keys()).length, stored);
      assert.deepEqual(await service.query('select id from assets where owner_id = $1', [owner()]), []);
      const refusals = await auditOf('upload.refused');
      assert.equal(refusals.length, 4);
      assert.ok(refusals.every(({ detail }) => detail['reason'] === 'infected' && detail['signature'] !== undefined));
      assert.equal(await infections('upload'), before + 4);
      const inBatch = await sendBatch(client, Buffer.from(EICAR), 'eicar.txt');
      assert.equal(inBatch.status, 422);
      assert.equal(inBatch.body.type, 'urn:stowage:problem:infected');
      assert.equal((await keys()).length, stored + 1);
    });

    test('a larger, direct or resumable file is scanned by a job; an infected one is never served, its bytes go, its quota is free', async () => {
      const stored = (await keys()).length;
      const before = await infections('job');
      const bytes = infectedGlb(3 * MiB);
      const small = infectedGlb(100 * KiB, 50 * KiB);
      const sent = await Promise.all([
        sendRaw(client, bytes, 'raw.glb'),
        sendForm(client, bytes, 'form.glb'),
        sendDirect(client, bytes, 'direct.glb'),
        sendDirect(client, small, 'small.glb'),
        sendResumable(client, bytes, 'tus.glb'),
      ]);
      for (const { status, body } of sent) {
        assert.equal(status, 201, JSON.stringify(body));
        assert.notEqual(body.state, 'ready');
        const record = await processed(client, body.id);
        assert.equal(record.state, 'rejected');
        assert.equal(record.reason, 'infected');
        assert.equal(record.scan?.verdict, 'infected');
        assert.equal(record.scan?.signature, INFECTION_NAME);
        await isNotServed(client, body.id);
      }
      assert.equal(await infections('job'), before + sent.length);
      const rejections = await auditOf('asset.rejected');
      assert.deepEqual(
        rejections.map(({ detail }) => detail),
        sent.map(() => ({ reason: 'infected', signature: INFECTION_NAME })),
      );
      await waitUntil(async () => (await keys()).length === stored);
      const quota = await client.get('/v1/quota');
      assert.equal(quota.body['used'], 0);
      assert.equal(quota.body['reserved'], 0);
      const { report } = await service.service.reconcile({ dryRun: false });
      assert.equal(report.driftedQuotas, 0, JSON.stringify(report));
      assert.equal(report.driftedStatistics, 0, JSON.stringify(report));
      for (const { body } of sent)
        assert.equal((await client.request('DELETE', `/v1/assets/${body.id}?permanent=true`)).status, 204);
      const after = await client.get('/v1/quota');
      assert.deepEqual([after.body['used'], after.body['fileCount']], [0, 0]);
    });

    test('a larger clean file is ready when the job has scanned it', async () => {
      for (const send of [sendRaw, sendDirect, sendResumable]) {
        const { status, body } = await send(client, glb(2 * MiB), 'model.glb');
        assert.equal(status, 201);
        const record = await processed(client, body.id);
        assert.equal(record.state, 'ready');
        assert.equal(record.scan?.verdict, 'clean');
        assert.equal((await client.content(body.id)).status, 200);
      }
    });

    test('a policy may leave scanning out; its files say so', async () => {
      const fields = { assetType: 'unscanned' };
      const { status, body } = await client.raw(Buffer.from(EICAR), {
        name: 'eicar.md',
        type: 'text/markdown',
        fields,
      });
      assert.equal(status, 201, JSON.stringify(body));
      assert.equal(body.state, 'ready');
      assert.equal(body.scan?.verdict, 'off');
      const { body: policies } = await client.get('/v1/policies');
      const scans = (policies.data as unknown as { assetType: string; scan: string }[]).map(({ scan }) => scan);
      assert.deepEqual(new Set(scans), new Set(['required', 'off']));
    });
  });

/** Each test has its own of everything, and most of its time is waiting. */
describe('while clamd is not as it should be', { skip, concurrency: true }, () => {
  interface Rig {
    clamd: TestClamd;
    proxy: TcpProxy;
    client: Client;
  }

  async function serve(context: TestContext): Promise<Rig> {
    const clamd = await startClamd({ streamMaxLength: 4 * MiB });
    const proxy = await new TcpProxy(`tcp://${clamd.address}`).listen();
    const service = await startService({ env: { ...env, CLAMD: `127.0.0.1:${proxy.port}` } });
    context.after(async () => {
      clamd.thaw();
      await service.close();
      await proxy.close();
      await clamd.close();
    });
    return { clamd, proxy, client: new Client(service.url) };
  }

  const faults: Record<string, { begin: (rig: Rig) => unknown; end: (rig: Rig) => unknown; reasons: string[] }> = {
    'is dead': {
      begin: ({ clamd }) => clamd.kill(),
      end: ({ clamd }) => clamd.start(),
      reasons: ['unreachable', 'error'],
    },
    'stands still': { begin: ({ clamd }) => clamd.freeze(), end: ({ clamd }) => clamd.thaw(), reasons: [] },
    'cannot be reached in time': {
      begin: ({ proxy }) => {
        proxy.fault = 'stall';
      },
      end: ({ proxy }) => {
        proxy.fault = 'none';
      },
      reasons: [],
    },
    'closes its connections before it answers': {
      begin: ({ proxy }) => {
        proxy.passAnswer = () => false;
      },
      end: ({ proxy }) => {
        proxy.passAnswer = () => true;
      },
      reasons: ['error'],
    },
  };
  for (const [fault, { begin, end, reasons }] of Object.entries(faults))
    test(`uploads go on while clamd ${fault}, nothing is served, and all is scanned afterwards`, async (context) => {
      const rig = await serve(context);
      const { client } = rig;
      await begin(rig);
      const sent = [];
      try {
        for (const [send, bytes, name] of [
          [sendRaw, png(), 'clean.png'],
          [sendForm, Buffer.from(EICAR), 'eicar.txt'],
          [sendRaw, infectedGlb(2 * MiB), 'model.glb'],
          [sendDirect, glb(2 * MiB), 'direct.glb'],
        ] as const) {
          const answer = await send(client, bytes, name);
          assert.equal(answer.status, 201, JSON.stringify(answer.body));
          assert.equal(answer.body.state, 'processing');
          assert.equal(answer.body.scan, undefined);
          sent.push(answer.body.id);
        }
        for (const id of sent) {
          await isNotServed(client, id);
          if (reasons.length === 0) continue;
          const waiting = await waitUntil(
            async () => (await client.get(`/v1/assets/${id}`)).body.processing?.scan?.reason,
          );
          assert.ok(reasons.includes(String(waiting)), String(waiting));
          assert.equal((await client.get(`/v1/assets/${id}`)).body.state, 'processing');
        }
      } finally {
        await end(rig);
      }
      const states = [];
      for (const id of sent) {
        const { state, scan } = await processed(client, id);
        states.push(`${state} ${scan?.verdict}`);
      }
      assert.deepEqual(states, ['ready clean', 'rejected infected', 'rejected infected', 'ready clean']);
    });

  test('what is larger than clamd takes waits, and the record says why', async (context) => {
    const { client } = await serve(context);
    for (const [send, name] of [
      [sendRaw, 'large.glb'],
      [sendResumable, 'tus.glb'],
    ] as const) {
      const { status, body } = await send(client, glb(6 * MiB), name);
      assert.equal(status, 201);
      await waitUntil(async () => {
        const { processing, state } = (await client.get(`/v1/assets/${body.id}`)).body;
        assert.equal(state, 'processing');
        return processing?.scan?.reason === 'too-large';
      });
      await isNotServed(client, body.id);
    }
  });
});

describe('when the patience with clamd has ended', { skip }, () => {
  let clamd: TestClamd;
  let service: TestService;
  let client: Client;
  before(async () => {
    clamd = await startClamd({ streamMaxLength: 64 * KiB });
    service = await startService({
      env: { ...env, CLAMD: clamd.address, SCAN_PATIENCE: '1s' },
      policies: { trusted: { mediaTypes: ['model/gltf-binary'], maxBytes: 10 * MiB, scan: 'best-effort' } },
    });
    client = new Client(service.url);
  });
  after(async () => {
    await service?.close();
    await clamd?.close();
  });

  for (const [why, size] of [
    ['is too large', 300 * KiB],
    ['has nobody to scan it', 10 * KiB],
  ] as const)
    test(`a file that ${why} is rejected; under best-effort it is served, and its record says that nobody has scanned it`, async () => {
      if (size < 64 * KiB) await clamd.kill();
      const required = await client.raw(glb(size), { name: 'required.glb' });
      const bestEffort = await client.raw(glb(size), { name: 'trusted.glb', fields: { assetType: 'trusted' } });
      assert.deepEqual([required.status, bestEffort.status], [201, 201]);
      assert.deepEqual([required.body.state, bestEffort.body.state], ['processing', 'processing']);
      const rejected = await processed(client, required.body.id);
      assert.deepEqual(
        [rejected.state, rejected.reason, rejected.scan?.verdict],
        ['rejected', 'not-scanned', 'not-scanned'],
      );
      await isNotServed(client, required.body.id);
      const served = await processed(client, bestEffort.body.id);
      assert.deepEqual([served.state, served.reason, served.scan?.verdict], ['ready', undefined, 'not-scanned']);
      assert.equal((await client.content(bestEffort.body.id)).status, 200);
    });
});

test('a policy that asks for scans without a scanner stops the start, and says which', async (context) => {
  const directory = await mkdtemp(join(tmpdir(), 'stowage-test-'));
  context.after(() => rm(directory, { recursive: true }));
  const file = join(directory, 'policies.json');
  await writeFile(file, JSON.stringify({ letter: { mediaTypes: ['text/plain'], maxBytes: 9, scan: 'required' } }));
  const { exit, output } = spawnService({ UPLOAD_POLICIES: file, DATA_DIR: directory });
  assert.equal(await exit, 1);
  assert.match(output(), /letter\.scan is required.*CLAMD/);
});
