/**
 * What the fault tests stand on: a database, a bucket and a journal of their own, a proxy in front of Postgres and one in
 * front of S3, and an instance on straight ways that lives on whatever happens to the others; and the scenarios that are
 * disturbed.
 */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { patience } from '../support/patience.ts';
import { createPreparedDatabase } from '../support/postgres.ts';
import { createTestBucket, s3Settings, type TestBucket } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';
import { check } from './checker.ts';
import { Journal } from './journal.ts';
import { PostgresProxy } from './postgres-proxy.ts';
import { type S3Call, S3Proxy } from './s3-proxy.ts';

const MiB = 1024 * 1024;

/** What was there before a scenario began. */
export interface Prepared {
  ids: string[];
}

/** Something a client does, once, whatever comes in between. */
export interface Scenario {
  prepare?: () => Promise<Prepared>;
  /** What the client does; it may be told that the service is not available, or find it dead. Rejects unless it is done. */
  act: (url: string, prepared: Prepared | undefined) => Promise<void>;
  /** What it does again afterwards, until it is done. */
  again: (prepared: Prepared | undefined) => Promise<void>;
}

/** A step of a scenario: a call to S3 or a statement. */
export interface Step {
  kind: 'S3' | 'SQL';
  text: string;
  /** How many such steps came before. Steps that are under way at once come now in this order, now in another. */
  occurrence: number;
  /** Milliseconds. */
  duration: number;
  /**
   * When the step before it ended, nothing else was under way, and nobody was answered since. So to be killed before this
   * one is to be killed after that one, as far as Postgres, S3 and the client can tell.
   */
  followsAtOnce: boolean;
}

export type ScenarioName =
  | 'an upload by one request'
  | 'an upload in parts'
  | 'a direct upload'
  | 'a resumable upload'
  | 'a replacement'
  | 'a replacement by a form'
  | 'a replacement by a direct upload'
  | 'a replacement by a resumable upload'
  | 'a deletion'
  | 'a deletion of several';

/** Where fetch tells of each answer (https://undici.nodejs.org, Diagnostics Channel Support). */
const ANSWERED = 'undici:request:headers';
/** Clients that come back at the same time. */
const RETURNING = 4;

export class Rig {
  readonly s3: S3Proxy;
  readonly postgres: PostgresProxy;
  readonly databaseUrl: string;
  readonly bucket: TestBucket;
  /** Of a service behind the proxies. */
  readonly environment: Record<string, string>;
  /** Lives on, on straight ways to Postgres and S3: the other instance. */
  readonly survivor: TestService;
  readonly #journal: Journal;
  readonly #closers: (() => Promise<unknown>)[];

  private constructor(
    parts: Pick<Rig, 's3' | 'postgres' | 'databaseUrl' | 'bucket' | 'environment' | 'survivor'>,
    journal: Journal,
    closers: (() => Promise<unknown>)[],
  ) {
    this.s3 = parts.s3;
    this.postgres = parts.postgres;
    this.databaseUrl = parts.databaseUrl;
    this.bucket = parts.bucket;
    this.environment = parts.environment;
    this.survivor = parts.survivor;
    this.#journal = journal;
    this.#closers = closers;
  }

  static async open(env: Record<string, string> = {}): Promise<Rig> {
    const closers: (() => Promise<unknown>)[] = [];
    const settings = s3Settings();
    assert.ok(settings);
    const directory = await mkdtemp(join(tmpdir(), 'stowage-faults-'));
    closers.push(() => rm(directory, { recursive: true, force: true }));
    const database = await createPreparedDatabase();
    closers.push(() => database.drop());
    const databaseUrl = database.url;
    const bucket = await createTestBucket();
    closers.push(() => bucket.drop());
    const s3 = await new S3Proxy(settings.endpoint).listen();
    closers.push(() => s3.close());
    const postgres = await new PostgresProxy(databaseUrl).listen();
    closers.push(() => postgres.close());
    const policies = join(directory, 'policies.json');
    await writeFile(policies, JSON.stringify({ kept: { mediaTypes: ['image/png'], maxBytes: 10_000, versions: 1 } }));
    const shared = {
      UPLOAD_POLICIES: policies,
      S3_BUCKET: bucket.bucket,
      S3_REGION: settings.region,
      S3_ACCESS_KEY_ID: settings.accessKeyId,
      S3_SECRET_ACCESS_KEY: settings.secretAccessKey,
      S3_FORCE_PATH_STYLE: 'true',
      PART_SIZE: '5MiB',
      ...patience,
      // So long that no renewal is among the steps, however busy the machine is; `settle` lets the time pass.
      UPLOAD_LEASE: '1h',
      RECONCILE_GRACE: '0s',
      REQUESTS_PER_MINUTE: '0',
      UPLOADS_PER_HOUR: '0',
      LOG_LEVEL: 'error',
      ...env,
    };
    const environment = { ...shared, DATABASE_URL: postgres.replaceIn(databaseUrl), S3_ENDPOINT: s3.url };
    const survivor = await startService({ databaseUrl, env: { ...shared, S3_ENDPOINT: settings.endpoint } });
    closers.push(() => survivor.close());
    const parts = { s3, postgres, databaseUrl, bucket, environment, survivor };
    const rig = new Rig(parts, new Journal(join(directory, 'journal')), closers);
    // Something that must outlive all of it.
    await rig.store(survivor.url, 'bystander', png(3000, 99), randomUUID());
    return rig;
  }

  async close(): Promise<void> {
    for (const close of this.#closers.reverse()) await close();
  }

  /** Nothing is disturbed any more. */
  heal(): void {
    this.s3.heal();
    this.postgres.heal();
  }

  // -------------------------------------------------------------------------------------------------- the scenarios

  /** @returns what makes one more of it, each for an owner of its own */
  scenario(name: ScenarioName): () => Scenario {
    // All of one scenario send the same bytes.
    const file = name === 'an upload by one request' ? png(4000, 1) : glb(11 * MiB, 2);
    const makers: Record<ScenarioName, () => Scenario> = {
      'an upload by one request': () => this.#uploading(file),
      'an upload in parts': () => this.#uploading(file),
      'a direct upload': () => this.#direct(file),
      'a resumable upload': () => this.#resumable(file),
      'a replacement': () => this.#replacing('put'),
      'a replacement by a form': () => this.#replacing('form'),
      'a replacement by a direct upload': () => this.#replacing('direct'),
      'a replacement by a resumable upload': () => this.#replacing('resumable'),
      'a deletion': () => this.#deleting(1),
      'a deletion of several': () => this.#deleting(4),
    };
    return makers[name];
  }

  #uploading(file: Buffer<ArrayBuffer>): Scenario {
    const [owner, key] = [`owner-${randomUUID()}`, randomUUID()];
    return {
      act: async (url) => void (await this.store(url, owner, file, key)),
      again: async () => {
        await untilDone(() => this.store(this.survivor.url, owner, file, key));
        const { body } = await new Client(this.survivor.url, owner).get('/v1/assets');
        assert.equal(body.data.length, 1, 'the same request has made two assets');
      },
    };
  }

  /** Begun, sent part by part, completed; each of the two requests to the service under a key of its own. */
  #direct(file: Buffer<ArrayBuffer>): Scenario {
    const owner = `owner-${randomUUID()}`;
    const keys = { create: randomUUID(), complete: randomUUID() };
    const act = async (url: string) => {
      const client = new Client(url, owner);
      const fields = { fileName: 'm.glb', size: file.length, contentType: 'model/gltf-binary', sha256: digest(file) };
      const offer = await client.send('POST', '/v1/uploads', fields, { 'idempotency-key': keys.create });
      if (offer.status !== 201) throw new Refused(offer.status, offer.body);
      const id = String(offer.body['uploadId']);
      const headers = { 'idempotency-key': keys.complete };
      const complete = () => client.request('POST', `/v1/uploads/${id}/complete`, { headers });
      let { status, body } = await complete();
      if (body.type === 'urn:stowage:problem:upload-incomplete') {
        await sendParts(offer.body['parts'] as PartLink[], Number(offer.body['partSize']), file);
        ({ status, body } = await complete());
      }
      if (status !== 201) throw new Refused(status, body);
      this.#journal.write({ event: 'stored', owner, id: body.id, sha256: digest(file), size: file.length });
    };
    return {
      act,
      again: async () => {
        await untilDone(() => act(this.survivor.url));
        const { body } = await new Client(this.survivor.url, owner).get('/v1/assets');
        assert.equal(body.data.length, 1, 'the same request has made two assets');
      },
    };
  }

  /** In three requests; after a break it asks how far it is, and goes on, or begins anew where there is nothing to go on with. */
  #resumable(file: Buffer<ArrayBuffer>): Scenario {
    const owner = `owner-${randomUUID()}`;
    const tus = { 'tus-resumable': '1.0.0' };
    let path: string | undefined;
    const act = async (url: string) => {
      const client = new Client(url, owner);
      if (path === undefined) {
        const name = Buffer.from('m.glb').toString('base64');
        const headers = { ...tus, 'upload-length': String(file.length), 'upload-metadata': `filename ${name}` };
        const created = await client.request('POST', '/v1/resumable', { headers });
        if (created.status !== 201) throw new Refused(created.status, created.body);
        path = created.headers.get('location') ?? '';
      }
      const seen = await client.request('HEAD', path, { headers: tus });
      if (seen.status !== 200) throw new Refused(seen.status, seen.body);
      let offset = Number(seen.headers.get('upload-offset'));
      for (const end of [100_000, 6 * MiB, file.length]) {
        if (end <= offset) continue;
        const headers = { ...tus, 'content-type': 'application/offset+octet-stream', 'upload-offset': String(offset) };
        const { status, body } = await client.request('PATCH', path, { headers, body: file.subarray(offset, end) });
        if (status !== 204) throw new Refused(status, body);
        offset = end;
      }
      const id = path.split('/').at(-1) ?? '';
      this.#journal.write({ event: 'stored', owner, id, sha256: digest(file), size: file.length });
    };
    return {
      act,
      again: async () => {
        await untilDone(() => act(this.survivor.url));
        await waitUntil(async () => {
          const { body } = await new Client(this.survivor.url, owner).get('/v1/assets');
          assert.equal(body.data.length, 1, 'the same upload has made two assets');
          return body.data[0]?.state === 'ready';
        });
      },
    };
  }

  /** An asset is given other bytes, once; those that it had are a version then. */
  #replacing(way: 'put' | 'form' | 'direct' | 'resumable'): Scenario {
    const owner = `owner-${randomUUID()}`;
    const keys = { put: randomUUID(), create: randomUUID(), complete: randomUUID() };
    const [former, bytes] = [png(2000, 7), png(4000, 8)];
    const put = (client: Client, id: string) =>
      client.request('PUT', `/v1/assets/${id}/content`, { headers: { 'idempotency-key': keys.put }, body: bytes });
    const direct = async (client: Client, replaces: string) => {
      const declared = { size: bytes.length, contentType: 'image/png', sha256: digest(bytes) };
      const fields = { fileName: 'p.png', ...declared, replaces };
      const offer = await client.send('POST', '/v1/uploads', fields, { 'idempotency-key': keys.create });
      if (offer.status !== 201) return offer;
      const headers = { 'idempotency-key': keys.complete };
      const complete = () => client.request('POST', `/v1/uploads/${offer.body['uploadId']}/complete`, { headers });
      const first = await complete();
      if (first.body.type !== 'urn:stowage:problem:upload-incomplete') return first;
      await sendParts(offer.body['parts'] as PartLink[], Number(offer.body['partSize']), bytes);
      return complete();
    };
    const form = (client: Client, replaces: string) =>
      client.upload(bytes, { name: 'p.png', fields: { replaces }, headers: { 'idempotency-key': keys.put } });
    let path: string | undefined;
    const resumable = async (client: Client, replaces: string) => {
      const tus = { 'tus-resumable': '1.0.0' };
      if (path === undefined) {
        const [name, target] = ['p.png', replaces].map((text) => Buffer.from(text).toString('base64'));
        const metadata = { 'upload-metadata': `filename ${name},replaces ${target}` };
        const headers = { ...tus, 'upload-length': String(bytes.length), ...metadata };
        const created = await client.request('POST', '/v1/resumable', { headers });
        if (created.status !== 201) return created;
        path = created.headers.get('location') ?? '';
      }
      const seen = await client.request('HEAD', path, { headers: tus });
      if (seen.status !== 200) return seen;
      const offset = Number(seen.headers.get('upload-offset'));
      const headers = { ...tus, 'content-type': 'application/offset+octet-stream', 'upload-offset': String(offset) };
      const sent = await client.request('PATCH', path, { headers, body: bytes.subarray(offset) });
      return sent.status === 204 ? client.get(`/v1/assets/${replaces}`) : sent;
    };
    const replace = async (url: string, { ids: [id = ''] }: Prepared) => {
      this.#journal.write({ event: 'replacing', id, sha256: digest(bytes), size: bytes.length });
      const answer = await { put, form, direct, resumable }[way](new Client(url, owner), id);
      if (answer.status !== 200 && answer.status !== 201) throw new Refused(answer.status, answer.body);
      assert.deepEqual([answer.body.id, answer.body['contentVersion']], [id, 2]);
      this.#journal.write({ event: 'replaced', id });
    };
    return {
      prepare: async () => ({ ids: [await this.store(this.survivor.url, owner, former, randomUUID(), 'kept')] }),
      act: async (url, prepared) => replace(url, prepared ?? { ids: [] }),
      again: async (prepared) => {
        const { ids } = prepared ?? { ids: [] };
        await untilDone(() => replace(this.survivor.url, { ids }));
        const client = new Client(this.survivor.url, owner);
        const { body } = await client.get(`/v1/assets/${ids[0]}`);
        assert.equal(body['contentVersion'], 2, 'the same request has replaced twice');
        const version = await fetch(`${this.survivor.url}/v1/assets/${ids[0]}/versions/1/content`, {
          headers: client.headers,
        });
        assert.equal(digest(Buffer.from(await version.arrayBuffer())), digest(former));
        assert.equal((await client.get('/v1/assets')).body.data.length, 1);
      },
    };
  }

  #deleting(count: number): Scenario {
    const [owner, key] = [`owner-${randomUUID()}`, randomUUID()];
    const remove = (url: string, prepared: Prepared | undefined) => {
      const { ids = [] } = prepared ?? {};
      return count === 1 ? this.remove(url, owner, ids[0] ?? '', key) : this.removeAll(url, owner, ids, key);
    };
    return {
      prepare: async () => {
        const ids: string[] = [];
        while (ids.length < count) ids.push(await this.store(this.survivor.url, owner, png(2000, 7), randomUUID()));
        return { ids };
      },
      act: remove,
      again: (prepared) => untilDone(() => remove(this.survivor.url, prepared)),
    };
  }

  /** Uploads, and writes what was acknowledged into the journal. @returns the id */
  async store(
    url: string,
    owner: string,
    bytes: Buffer<ArrayBuffer>,
    key: string,
    assetType?: string,
  ): Promise<string> {
    const name = bytes.toString('latin1', 0, 4) === 'glTF' ? 'm.glb' : 'p.png';
    const { status, body } = await new Client(url, owner).raw(bytes, {
      name,
      headers: { 'idempotency-key': key },
      ...(assetType !== undefined && { fields: { assetType } }),
    });
    if (status !== 201) throw new Refused(status, body);
    this.#journal.write({ event: 'stored', owner, id: body.id, sha256: digest(bytes), size: bytes.length });
    return body.id;
  }

  async remove(url: string, owner: string, id: string, key: string): Promise<void> {
    this.#journal.write({ event: 'deleting', id });
    const headers = { 'idempotency-key': key };
    const answer = await new Client(url, owner).request('DELETE', `/v1/assets/${id}?permanent=true`, { headers });
    if (answer.status !== 204) throw new Refused(answer.status, answer.body);
    this.#journal.write({ event: 'deleted', id });
  }

  /** The same by one request. */
  async removeAll(url: string, owner: string, ids: string[], key: string): Promise<void> {
    for (const id of ids) this.#journal.write({ event: 'deleting', id });
    const change = { action: 'delete', permanent: true, ids };
    const headers = { 'idempotency-key': key };
    const { status, body } = await new Client(url, owner).send('POST', '/v1/assets/bulk', change, headers);
    if (status !== 200) throw new Refused(status, body);
    for (const { id, status: outcome } of body['results'] as { id: string; status: number }[]) {
      if (outcome !== 200) throw new Refused(outcome, body);
      this.#journal.write({ event: 'deleted', id });
    }
  }

  /** What a service behind the proxies does for a scenario, in order, when nothing disturbs it. */
  async stepsOf(act: () => Promise<void>): Promise<Step[]> {
    const steps: Step[] = [];
    const begun = new Map<unknown, { step: Step; at: number }>();
    let followsAtOnce = false;
    const begin = (kind: Step['kind'], text: string, key: unknown) => {
      const occurrence = steps.filter((step) => step.kind === kind && step.text === text).length;
      const step = { kind, text, occurrence, duration: 0, followsAtOnce };
      steps.push(step);
      begun.set(key, { step, at: performance.now() });
      followsAtOnce = false;
    };
    const end = (key: unknown) => {
      const found = begun.get(key);
      if (!found) return;
      found.step.duration = performance.now() - found.at;
      begun.delete(key);
      followsAtOnce = begun.size === 0;
    };
    const answered = () => {
      followsAtOnce = false;
    };
    this.s3.before = (call) => begin('S3', call.operation, call);
    this.s3.after = end;
    this.postgres.before = (statement) => {
      if (!isByTimer(statement)) begin('SQL', summary(statement), statement);
    };
    this.postgres.after = end;
    subscribe(ANSWERED, answered);
    await act();
    unsubscribe(ANSWERED, answered);
    this.heal();
    return steps;
  }

  // ---------------------------------------------------------------------------------------------------- afterwards

  /** The reaper and the reconciler go over what was left, and the clients send again; then the promises must hold. */
  async settle(left: { scenario: Scenario; prepared: Prepared | undefined }[]): Promise<void> {
    // Uploads in several requests live longer.
    const inSeveral = 'exists (select from upload_sessions where asset_id = id)';
    await this.#letLeasesEnd(`not ${inSeveral}`);
    await this.#mend();
    const waiting = [...left];
    const comeBack = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) await next.scenario.again(next.prepared);
    };
    await Promise.all(Array.from({ length: RETURNING }, comeBack));
    await this.#letLeasesEnd(inSeveral);
    await this.#mend();
    await this.nothingDeleting();
    await this.nothingMade();
    await this.assertPromises();
  }

  /** Waits for the jobs that make derivatives and remove what was left of them. */
  async nothingMade(): Promise<void> {
    await waitUntil(async () => {
      await this.survivor.query("update pgboss.job set start_after = now() where state in ('created', 'retry')");
      const waiting = `select from assets where jsonb_path_exists(processing, '$.*.state ? (@ == "waiting")')`;
      const under = "select from derivatives where state in ('making', 'discarded')";
      return (await this.survivor.query(`${waiting} union all ${under}`)).length === 0;
    });
  }

  /** As if their time had passed: of uploads, and of the keys whose requests nobody answered. */
  async #letLeasesEnd(which: string): Promise<void> {
    await this.survivor.query(
      `update assets set lease_expires_at = now() - interval '1 s' where state = 'uploading' and ${which}`,
    );
    await this.survivor.query('update idempotency_keys set lease_expires_at = now() where status is null');
  }

  async #mend(): Promise<void> {
    const { outcome } = await this.survivor.service.reconcile({ mostDeleted: 10 });
    assert.equal(outcome, 'done');
  }

  /** Waits for the jobs that delete, but not for the pauses between their tries. */
  async nothingDeleting(): Promise<void> {
    await waitUntil(async () => {
      await this.survivor.query("update pgboss.job set start_after = now() where state = 'retry'");
      return (await this.survivor.query("select 1 from assets where state = 'deleting' limit 1")).length === 0;
    });
  }

  async assertPromises(): Promise<void> {
    const { bucket, databaseUrl } = this;
    const faults = await check({
      journal: this.#journal.file,
      databaseUrl,
      bucket: bucket.bucket,
      client: bucket.client,
    });
    assert.deepEqual(faults, []);
  }
}

/** An answer that is not the one hoped for. */
export class Refused extends Error {
  override name = 'Refused';
  readonly status: number;

  constructor(status: number, body: unknown) {
    super(`${status}: ${JSON.stringify(body)}`);
    this.status = status;
  }
}

interface PartLink {
  partNumber: number;
  url: string;
  size: number;
}

/** Milliseconds for which a client waits for the store, which may never answer, before it begins anew. */
const PART_PATIENCE = 30_000;

async function sendParts(parts: PartLink[], partSize: number, file: Buffer<ArrayBuffer>): Promise<void> {
  for (const { partNumber, url, size } of parts) {
    const begin = (partNumber - 1) * partSize;
    const body = file.subarray(begin, begin + size);
    const answer = await fetch(url, { method: 'PUT', body, signal: AbortSignal.timeout(PART_PATIENCE) });
    if (!answer.ok) throw new Refused(answer.status, await answer.text());
  }
}

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Does it again until it is done: the one before may have to end first, or a busy machine may have made it a 503. */
async function untilDone(act: () => Promise<unknown>): Promise<void> {
  await waitUntil(() => act().then(() => true));
}

/** @returns what is asked for each step that begins, and is true when it is the one that was recorded */
export function lookoutFor({ kind, text, occurrence }: Step): {
  call: (call: S3Call) => boolean;
  statement: (statement: string) => boolean;
} {
  let seen = 0;
  return {
    call: ({ operation }) => kind === 'S3' && operation === text && seen++ === occurrence,
    statement: (statement) => kind === 'SQL' && summary(statement) === text && seen++ === occurrence,
  };
}

/** What the job queue does now and then by itself: it looks at its tables but for the jobs, which no step does alone. */
function isByTimer(statement: string): boolean {
  return /\bpgboss\./.test(statement) && !/\bpgboss\.job/.test(statement);
}

function summary(statement: string): string {
  return statement.replace(/\s+/g, ' ').trim().slice(0, 60);
}
