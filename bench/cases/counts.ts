/**
 * What an operation asks of Postgres and of the object store, counted by proxies in between. These figures do not depend
 * on the machine. They may fall, and then the limit here follows; a change that makes them rise says why.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { PostgresProxy } from '../../tests/faults/postgres-proxy.ts';
import { S3Proxy } from '../../tests/faults/s3-proxy.ts';
import { png } from '../../tests/support/files.ts';
import type { Row } from '../report.ts';
import { type BenchService, KiB, MiB, type Stage } from '../stage.ts';
import type { CaseOptions } from './case.ts';

/** Milliseconds without a statement or a request after which an operation is over. */
const QUIET = 250;

/** Sends the requests that come before, calls `begin`, and sends those that are counted. */
type Operation = (client: Client, begin: () => void) => Promise<void>;

/**
 * Statements, with those that begin and end transactions, and requests to the object store. What is uploaded are pictures. Those
 * that come by one request and fit a part buffer have their thumbnail before the answer: a statement and a request to store it
 * more than without. The job for the thumbnails of the others is enqueued in the transaction that makes them assets, three
 * statements more.
 */
const operations: [name: string, statements: number, requests: number, Operation][] = [
  [
    'raw upload of 1 KiB',
    4,
    2,
    async (client, begin) => {
      begin();
      await client.raw(KiB);
    },
  ],
  [
    'form upload of 1 KiB',
    4,
    2,
    async (client, begin) => {
      begin();
      await client.form(KiB);
    },
  ],
  [
    'raw upload of 9 MiB in 2 parts',
    7,
    4,
    async (client, begin) => {
      begin();
      await client.raw(9 * MiB);
    },
  ],
  [
    'form upload of 9 MiB in 2 parts',
    7,
    4,
    async (client, begin) => {
      begin();
      await client.form(9 * MiB);
    },
  ],
  [
    'resumable upload of 1 KiB in one request',
    12,
    1,
    async (client, begin) => {
      begin();
      await client.send('POST', '/v1/resumable', client.resumable(KiB), png(KiB));
    },
  ],
  [
    'direct upload of 1 KiB: begin',
    9,
    1,
    async (client, begin) => {
      begin();
      await client.json('POST', '/v1/uploads', { fileName: 'a.png', size: KiB, contentType: 'image/png' });
    },
  ],
  [
    'direct upload of 1 KiB: complete',
    6,
    4,
    async (client, begin) => {
      const offer = await client.json('POST', '/v1/uploads', {
        fileName: 'a.png',
        size: KiB,
        contentType: 'image/png',
      });
      const [part] = offer['parts'] as { url: string }[];
      await fetch(part?.url ?? '', { method: 'PUT', body: png(KiB) });
      begin();
      await client.json('POST', `/v1/uploads/${offer['uploadId']}/complete`);
    },
  ],
  ['record', 1, 0, async (client, begin) => client.reads((id) => `/v1/assets/${id}`, begin)],
  ['list', 1, 0, async (client, begin) => client.reads(() => '/v1/assets', begin)],
  ['quota', 1, 0, async (client, begin) => client.reads(() => '/v1/quota', begin)],
  ['link', 1, 0, async (client, begin) => client.reads((id) => `/v1/assets/${id}/download`, begin)],
  ['content', 1, 1, async (client, begin) => client.reads((id) => `/v1/assets/${id}/content`, begin)],
  [
    'change of a name',
    2,
    0,
    async (client, begin) => {
      const id = await client.raw(KiB);
      begin();
      await client.json('PATCH', `/v1/assets/${id}`, { name: 'b.png' });
    },
  ],
  [
    'deletion into the trash',
    1,
    0,
    async (client, begin) => {
      const id = await client.raw(KiB);
      begin();
      await client.send('DELETE', `/v1/assets/${id}`);
    },
  ],
  [
    'deletion for good',
    4,
    0,
    async (client, begin) => {
      const id = await client.raw(KiB);
      begin();
      await client.send('DELETE', `/v1/assets/${id}?permanent=true`);
    },
  ],
  [
    'deletion of 3 for good by one request',
    4,
    0,
    async (client, begin) => {
      const ids = [await client.raw(KiB), await client.raw(KiB), await client.raw(KiB)];
      begin();
      await client.json('POST', '/v1/assets/bulk', { action: 'delete', permanent: true, ids });
    },
  ],
];

/** What docs/performance.md says of them. */
export const limits = operations.map(([name, statements, requests]) => ({ name, statements, requests }));

export async function counts(stage: Stage, { say }: CaseOptions): Promise<Row[]> {
  const straight = await stage.database();
  const database = await new PostgresProxy(straight).listen();
  const store = await new S3Proxy(stage.s3.endpoint).listen();
  let statements = 0;
  const requests: string[] = [];
  database.before = () => {
    statements += 1;
  };
  store.before = ({ operation }) => {
    requests.push(operation);
  };
  const quiet = async () => {
    for (let before = -1; before !== statements + requests.length; ) {
      before = statements + requests.length;
      await delay(QUIET);
    }
  };
  const begin = () => {
    statements = 0;
    requests.length = 0;
  };
  // Without jobs, whose looks at their queues would be counted too.
  const service = await stage.service({
    databaseUrl: database.replaceIn(straight),
    s3Endpoint: store.url,
    env: { ROLE: 'api' },
  });
  const client = new Client(service);
  const rows: Row[] = [];
  for (const [name, mostStatements, mostRequests, operation] of operations) {
    // The first time, connections are made.
    await operation(client, begin);
    await quiet();
    await operation(client, begin);
    await quiet();
    say(`${name}: ${statements} statements, ${requests.length} requests ${requests.join(' ')}`);
    const row = (what: string, count: number, most: number): Row => ({
      group: 'counts',
      what: `${name}: ${what}`,
      unit: '',
      measured: [count],
      aim: { compare: '<=', value: most },
    });
    rows.push(row('statements', statements, mostStatements), row('S3 requests', requests.length, mostRequests));
  }
  await service.stop();
  await store.close();
  await database.close();
  return rows;
}

class Client {
  readonly #service: BenchService;

  constructor(service: BenchService) {
    this.#service = service;
  }

  async send(method: string, path: string, headers: Record<string, string> = {}, body?: BodyInit): Promise<Response> {
    const { url } = this.#service;
    const all = { ...this.#service.headersOf(), ...headers };
    const answer = await fetch(url + path, { method, headers: all, ...(body !== undefined && { body }) });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer;
  }

  async json(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
    const type: Record<string, string> = body ? { 'content-type': 'application/json' } : {};
    const answer = await this.send(method, path, type, body && JSON.stringify(body));
    return (await answer.json()) as Record<string, unknown>;
  }

  /** @returns the id */
  async raw(size: number): Promise<string> {
    const answer = await this.send('PUT', '/v1/assets/raw/a.png', { 'content-type': 'image/png' }, png(size));
    return ((await answer.json()) as { id: string }).id;
  }

  async form(size: number): Promise<void> {
    const form = new FormData();
    form.set('file', new File([png(size)], 'a.png', { type: 'image/png' }));
    await this.send('POST', '/v1/assets', {}, form);
  }

  resumable(size: number): Record<string, string> {
    const text = (value: string) => Buffer.from(value).toString('base64');
    return {
      'tus-resumable': '1.0.0',
      'upload-length': String(size),
      'upload-metadata': `filename ${text('a.png')},filetype ${text('image/png')}`,
      'content-type': 'application/offset+octet-stream',
    };
  }

  async reads(path: (id: string) => string, begin: () => void): Promise<void> {
    const id = await this.raw(KiB);
    begin();
    await (await this.send('GET', path(id))).arrayBuffer();
  }
}
