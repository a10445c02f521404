/** Links for downloads: the same for all who ask in a window, for one asset or for two hundred. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type AnyBody, Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { picture } from '../support/pictures.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const UNKNOWN = '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';
/** So long that nobody meets the end of a window between two requests of a test, but once in three days. */
const LIFE = 604_800;

interface LinkResult {
  id: string;
  status: number;
  url?: string;
  expiresAt?: string;
  problem?: { type: string; detail?: string; requestId: string };
}
const resultsOf = ({ body }: { body: AnyBody }) => body['results'] as LinkResult[];

for (const { store, skip } of storeKinds)
  describe(`links, ${store}`, { skip }, () => {
    let service: TestService;
    let ann: Client;
    let ben: Client;
    before(async () => {
      service = await startService({
        store,
        env: { DERIVATIVES: 'true', REQUESTS_PER_MINUTE: '0' },
      });
      [ann, ben] = [new Client(service.url, 'ann'), new Client(service.url, 'ben')];
    });
    after(() => service.close());

    const linkOf = async (client: Client, id: string, query = '') => {
      const { status, body } = await client.get(`/v1/assets/${id}/download?expiresIn=${LIFE}${query}`);
      assert.equal(status, 200, JSON.stringify(body));
      return { url: String(body['url']), expiresAt: String(body['expiresAt']) };
    };
    /** What is asked of the database meanwhile; none is sent before `first` is done. */
    const statementsDuring = async (work: () => Promise<unknown>, first?: () => Promise<unknown>): Promise<number> => {
      const { pool } = service.database;
      const query = pool.query.bind(pool);
      let asked = 0;
      const counted = async (...parameters: Parameters<typeof query>) => {
        asked += 1;
        await first?.();
        return query(...parameters);
      };
      Object.assign(pool, { query: counted });
      try {
        await work();
      } finally {
        Object.assign(pool, { query });
      }
      return asked;
    };

    test('are the same for all who may see the asset, on all instances, and lead to its bytes until they end', async () => {
      const member = { projectId: 'shared' };
      const { body } = await ann.upload(png(3000), { fields: member });
      assert.equal((await ann.send('PUT', '/v1/projects/shared/members/ben', { role: 'viewer' })).status, 200);
      const beside = await startService({ beside: service, env: { REQUESTS_PER_MINUTE: '0' } });
      try {
        const first = await linkOf(ann, body.id);
        assert.deepEqual(await linkOf(ben, body.id), first);
        const elsewhere = await linkOf(new Client(beside.url, 'ben'), body.id);
        assert.equal(new URL(elsewhere.url).search, new URL(first.url).search);
        assert.equal(new URL(elsewhere.url).pathname, new URL(first.url).pathname);
        assert.equal(elsewhere.expiresAt, first.expiresAt);
        const left = (Date.parse(first.expiresAt) - Date.now()) / 1000;
        assert.ok(left >= LIFE / 2 && left <= LIFE, String(left));
        const answer = await fetch(first.url);
        assert.equal(answer.status, 200);
        assert.equal((await answer.arrayBuffer()).byteLength, 3000);
        assert.match(answer.headers.get('cache-control') ?? '', /max-age=[1-9]/);
        assert.notEqual((await linkOf(ann, body.id, '&disposition=attachment')).url, first.url);
      } finally {
        await beside.close();
      }
    });

    test('say when they end: as the link itself has it', async () => {
      const { body } = await ann.upload(png(3000));
      const { url, expiresAt } = await linkOf(ann, body.id);
      const { searchParams: query, pathname } = new URL(url);
      const ends =
        store === 's3'
          ? Date.parse((query.get('X-Amz-Date') ?? '').replace(/^(....)(..)(..T..)(..)/, '$1-$2-$3:$4:')) +
            Number(query.get('X-Amz-Expires')) * 1000
          : JSON.parse(
              Buffer.from(pathname.split('/').at(-1) ?? '', 'base64url')
                .toString()
                .replace(/\].*$/s, ']'),
            )[1] * 1000;
      assert.equal(new Date(ends).toISOString(), expiresAt);
    });

    test('of a derivative are found by one statement, as those of the file', async () => {
      const { body } = await ann.upload(await picture({ width: 400, height: 300, format: 'png' }));
      await waitUntil(async () => (await ann.get(`/v1/assets/${body.id}/derivatives/thumbnail`)).status === 200);
      let linked = '';
      const asked = await statementsDuring(async () => {
        const { url } = await linkOf(ann, body.id, '&derivative=thumbnail');
        assert.equal((await linkOf(ann, body.id, '&derivative=thumbnail')).url, url);
        assert.notEqual((await linkOf(ann, body.id)).url, url);
        assert.deepEqual(
          resultsOf(
            await ann.send('POST', '/v1/links', { ids: [body.id], derivative: 'thumbnail', expiresIn: LIFE }),
          ).map((each) => each.url),
          [url],
        );
        linked = url;
      });
      assert.equal(asked, 4);
      const answer = await fetch(linked);
      assert.equal(answer.headers.get('content-type'), 'image/webp');
      assert.match(answer.headers.get('content-disposition') ?? '', /thumbnail\.webp/);
    });

    test('of two hundred assets come by one statement, each with its outcome and its audit row', async () => {
      const uploaded = await ann.upload(png(3000));
      await service.query(
        `insert into assets select (jsonb_populate_record(a, jsonb_build_object('id', gen_random_uuid(), 'object_key', 'copies/' || n))).*
         from assets a, generate_series(1, 199) n where id = $1`,
        [uploaded.body.id],
      );
      const { body: page } = await ann.get('/v1/assets?limit=200');
      const all = (page['data'] as { id: string; size: number }[]).map(({ id }) => id).slice(0, 197);
      const trashed = (await ann.upload(png(300))).body.id;
      await ann.request('DELETE', `/v1/assets/${trashed}`);
      const bens = (await ben.upload(png(300))).body.id;
      const ids = [UNKNOWN, ...all, bens, trashed.toUpperCase()];
      let answer: Awaited<ReturnType<Client['send']>> | undefined;
      const asked = await statementsDuring(async () => {
        answer = await ann.send('POST', '/v1/links', { ids });
      });
      assert.ok(answer);
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
      assert.equal(asked, 1);
      const results = resultsOf(answer);
      assert.deepEqual(
        results.map(({ id }) => id),
        ids.map((id) => id.toLowerCase()),
      );
      assert.deepEqual(
        results.map(({ status }) => status),
        [404, ...all.map(() => 200), 404, 409],
      );
      // Somebody else's is told as what there never was, to the letter.
      assert.deepEqual(results.at(-2)?.problem, results[0]?.problem);
      const single = await ann.get(`/v1/assets/${all[5]}/download`);
      assert.equal(results[6]?.url, single.body['url']);
      const rows = await service.query<{ assets: number; rows: number }>(
        `select count(distinct asset_id)::integer as assets, count(*)::integer as rows from audit_events
         where action = 'asset.link-issued' and request_id = $1`,
        [answer.headers.get('x-request-id')],
      );
      assert.deepEqual(rows, [{ assets: all.length, rows: all.length }]);
    });

    test('of what cannot be linked to are refused by field', async () => {
      const refused: [object, string][] = [
        [{ ids: [] }, '/ids'],
        [{ ids: Array.from({ length: 201 }, () => UNKNOWN) }, '/ids'],
        [{ ids: ['x'] }, '/ids/0'],
        [{ ids: [UNKNOWN], derivative: '../x' }, '/derivative'],
        [{ ids: [UNKNOWN], expiresIn: 604_801 }, '/expiresIn'],
        [{ ids: [UNKNOWN], expiresIn: 0 }, '/expiresIn'],
        [{ ids: [UNKNOWN], disposition: 'x' }, '/disposition'],
        [{ ids: [UNKNOWN], more: 1 }, '/more'],
      ];
      for (const [body, pointer] of refused) {
        const answer = await ann.send('POST', '/v1/links', body);
        assert.equal(answer.status, 400, JSON.stringify(body));
        assert.equal(answer.body.errors?.[0]?.pointer, pointer);
      }
    });

    test('are told by lists that are asked for them, with what was made of each asset, by one statement more', async () => {
      const cleo = new Client(service.url, 'cleo');
      const { body } = await cleo.upload(await picture({ width: 300, height: 200, format: 'png' }));
      const { body: other } = await cleo.upload(png(300));
      await waitUntil(async () => (await cleo.get(`/v1/assets/${body.id}/derivatives/thumbnail`)).status === 200);
      const { body: made } = await cleo.get(`/v1/assets/${body.id}/derivatives`);
      const { body: link } = await cleo.get(`/v1/assets/${body.id}/download`);
      const issued = () =>
        service.query("select 1 from audit_events where action = 'asset.link-issued' and actor_id = 'cleo'");
      const [{ length: before }] = [await issued()];
      type Told = { id: string; link?: { url: string }; derivatives?: object[] };
      let data: Told[] = [];
      const pageOf = async (query: string) => {
        const answer = await cleo.get(`/v1/assets${query}`);
        assert.equal(answer.status, 200, JSON.stringify(answer.body));
        data = answer.body['data'] as Told[];
        return data.find(({ id }) => id === body.id);
      };
      const plain = await statementsDuring(() => pageOf(''));
      assert.ok(data.every((each) => !('link' in each) && !('derivatives' in each)));
      const including = await statementsDuring(() => pageOf('?include=links,derivatives'));
      assert.equal(including, plain + 1);
      assert.equal(data.length, 2);
      const told = data.find(({ id }) => id === body.id);
      assert.deepEqual(told?.link, { url: link['url'], expiresAt: link['expiresAt'] });
      assert.deepEqual(told?.derivatives, made['data']);
      assert.ok(data.find(({ id }) => id === other.id)?.link);
      assert.equal((await issued()).length, before + 2);
      const without = await pageOf('?include=derivatives');
      assert.deepEqual(without?.derivatives, made['data']);
      assert.equal(without?.link, undefined);
      // Nobody was given a link.
      assert.equal((await issued()).length, before + 2);
      await cleo.request('DELETE', `/v1/assets/${other.id}`);
      assert.equal((await pageOf('?include=links&trashed=true')) ?? data[0]?.link, undefined);
      for (const include of ['', 'x', 'links,links', 'links,'])
        assert.equal(
          (await cleo.get(`/v1/assets?include=${include}`)).body.errors?.[0]?.parameter?.split('.')[0],
          'include',
        );
      await service.query(
        `insert into assets select (jsonb_populate_record(a, jsonb_build_object('id', gen_random_uuid()))).*
         from assets a, generate_series(1, 120) where id = $1`,
        [body.id],
      );
      const { body: long } = await cleo.get('/v1/assets?limit=200&include=links');
      assert.deepEqual(
        [(long['data'] as object[]).length, (long['page'] as { hasMore: boolean }).hasMore],
        [100, true],
      );
    });

    test('that are asked for at once are found together, each as if it were alone', async () => {
      const { body } = await ann.upload(png(3000));
      const others = (await ben.upload(png(300))).body.id;
      const { server } = service.service.app;
      let arrived = 0;
      const allArrived = Promise.withResolvers<void>();
      const onRequest = () => {
        arrived += 1;
        if (arrived === 60) setImmediate(allArrived.resolve);
      };
      server.on('request', onRequest);
      // The first waits for its answer until all of them are there, however slowly they come.
      const asked = await statementsDuring(
        async () => {
          const answers = await Promise.all(
            Array.from({ length: 60 }, (_, index) =>
              (index % 3 === 2 ? ben : ann).get(`/v1/assets/${index % 3 === 1 ? others : body.id}/download`),
            ),
          );
          for (const [index, { status, body: told }] of answers.entries()) {
            assert.equal(status, index % 3 === 0 ? 200 : 404);
            if (status === 200) assert.equal((told['asset'] as { id: string }).id, body.id);
          }
        },
        () => allArrived.promise,
      );
      server.off('request', onRequest);
      assert.ok(asked < 60, `${asked} statements`);
    });
  });
