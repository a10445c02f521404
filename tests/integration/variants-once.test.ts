/** One variant is made by one maker, whatever happens to it, and whoever waits for one keeps nobody else from anything. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { look, picture } from '../support/pictures.ts';
import { launch } from '../support/processes.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

/** A store whose reads of some objects wait, and which tells what was written. */
class SlowStore {
  puts: string[] = [];
  /** Parts of keys, and what their reads wait for. */
  readonly held = new Map<string, Promise<void>>();
  reading = 0;

  wrap = (store: ObjectStore): ObjectStore =>
    new Proxy(store, {
      get: (target, verb) => {
        const value = Reflect.get(target, verb);
        if (typeof value !== 'function') return value;
        if (verb === 'put') return (...args: Parameters<ObjectStore['put']>) => this.#put(target, ...args);
        if (verb === 'get') return (...args: Parameters<ObjectStore['get']>) => this.#get(target, ...args);
        return value.bind(target);
      },
    });

  #put(store: ObjectStore, ...args: Parameters<ObjectStore['put']>) {
    this.puts.push(args[0]);
    return store.put(...args);
  }

  async #get(store: ObjectStore, ...args: Parameters<ObjectStore['get']>) {
    for (const [part, released] of this.held)
      if (args[0].includes(part)) {
        this.reading += 1;
        await released;
      }
    return store.get(...args);
  }
}

const image = (client: Client, id: string, query: string, init: RequestInit = {}) =>
  fetch(`${client.url}/v1/assets/${id}/image?${query}`, { headers: client.headers, ...init });

async function stored(client: Client, seed: number): Promise<string> {
  const { status, body } = await client.raw(await picture({ seed }), { name: 'photo.jpg' });
  assert.equal(status, 201, JSON.stringify(body));
  return body.id;
}

for (const { store, skip } of storeKinds) {
  describe(`two instances on ${store}`, { skip }, () => {
    let one: TestService;
    let two: TestService;
    const slow = new SlowStore();
    before(async () => {
      one = await startService({ store, wrapStore: slow.wrap, env: { VARIANT_LEASE: '1s' } });
      two = await startService({ beside: one, wrapStore: slow.wrap, env: { VARIANT_LEASE: '1s' } });
    });
    after(async () => {
      await two?.close();
      await one?.close();
    });

    test('make a variant once when both are asked at the same time', async () => {
      const clients = [new Client(one.url), new Client(two.url)];
      const id = await stored(new Client(one.url), 1);
      const { promise, resolve } = Promise.withResolvers<void>();
      slow.held.set(`${id}/original`, promise);
      slow.puts = [];
      const asked = clients.flatMap((client) => Array.from({ length: 5 }, () => image(client, id, 'width=200')));
      await waitUntil(() => slow.reading > 0);
      // A maker that lives is not taken for dead when its first lease has ended.
      const lease = `from derivatives where asset_id = '${id}' and state = 'making'`;
      const [first] = await one.query<{ ends: Date }>(`select lease_expires_at as ends ${lease}`);
      await waitUntil(async () => (await one.query(`select 1 ${lease} and now() > $1`, [first?.ends])).length === 1);
      slow.held.clear();
      resolve();
      const bytes = await Promise.all(
        asked.map(async (answer) => {
          const shown = await answer;
          assert.equal(shown.status, 200);
          return Buffer.from(await shown.arrayBuffer());
        }),
      );
      for (const each of bytes) assert.deepEqual(each, bytes[0]);
      assert.equal(slow.puts.length, 1);
    });

    test('go on when the asset is deleted while its variant is made, and leave nothing behind', async () => {
      const client = new Client(one.url);
      const id = await stored(client, 2);
      const { promise, resolve } = Promise.withResolvers<void>();
      slow.held.set(`${id}/original`, promise);
      slow.reading = 0;
      const asked = image(client, id, 'width=200');
      await waitUntil(() => slow.reading > 0);
      assert.equal((await client.request('DELETE', `/v1/assets/${id}?permanent=true`)).status, 204);
      slow.held.clear();
      resolve();
      const { status } = await asked;
      assert.ok(status === 404 || status === 503, String(status));
      await waitUntil(async () => {
        // Its maker is given time to end before what it may have stored is removed.
        await one.query(
          `update pgboss.job set start_after = now() where name = 'discard-derivative' and state = 'created'`,
        );
        const rows = await one.query('select 1 from derivatives where asset_id = $1', [id]);
        const keys: string[] = [];
        for await (const page of one.store.list('', {})) keys.push(...page.map(({ key }) => key));
        return rows.length === 0 && !keys.some((key) => key.includes(id));
      });
    });
  });
}

describe('a maker that is killed', () => {
  test('is replaced by another when its lease has ended, and what it began goes', async () => {
    const service = await startService({ env: { VARIANT_LEASE: '1s' } });
    try {
      const client = new Client(service.url);
      const bytes = await picture({ width: 2400, height: 1800 });
      const { body } = await client.raw(bytes, { name: 'photo.jpg' });
      const process = await launch({
        ...service.place,
        DATABASE_URL: service.databaseUrl,
        VARIANT_LEASE: '1s',
        ROLE: 'api',
      });
      const query = 'width=2300&format=avif';
      const asked = image(new Client(process.url), body.id, query).catch(() => undefined);
      const claims = () =>
        service.query<{ id: string; state: string }>('select id, state from derivatives where asset_id = $1', [
          body.id,
        ]);
      await waitUntil(async () => (await claims()).some(({ state }) => state === 'making'));
      process.child.kill('SIGKILL');
      await Promise.all([asked, process.exit]);
      const [dead] = await claims();
      assert.equal(dead?.state, 'making');
      const shown = await image(client, body.id, query);
      assert.equal(shown.status, 200, shown.ok ? '' : await shown.text());
      assert.equal((await look(Buffer.from(await shown.arrayBuffer()))).width, 2300);
      await waitUntil(async () => {
        const left = await claims();
        return left.length === 1 && left[0]?.state === 'ready' && left[0].id !== dead?.id;
      });
    } finally {
      await service.close();
    }
  });
});

describe('a page of 200 new pictures', () => {
  let service: TestService;
  const slow = new SlowStore();
  before(async () => {
    service = await startService({ wrapStore: slow.wrap, env: { VARIANTS_AT_ONCE: '4', VARIANT_WAIT: '60s' } });
  });
  after(() => service?.close());

  test('keeps nobody else from uploading, listing and seeing a picture, and is shown in the end', async () => {
    const [alice, bob] = [new Client(service.url, 'alice'), new Client(service.url, 'bob')];
    const ids = await Promise.all([3, 4, 5, 6].map((seed) => stored(alice, seed)));
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const id of ids) slow.held.set(`${id}/original`, promise);
    const page = Array.from({ length: 200 }, (_, index) =>
      image(alice, ids[index % ids.length] ?? '', `width=${20 + Math.floor(index / ids.length)}`),
    );
    const waiting = () => service.service.metrics.registry.getSingleMetric('stowage_variants_waiting');
    assert.ok(waiting());
    await waitUntil(async () =>
      /stowage_variants_waiting 19[67]/.test(await service.service.metrics.registry.metrics()),
    );

    const his = await stored(bob, 7);
    assert.equal((await bob.get('/v1/assets')).status, 200);
    assert.equal((await bob.raw(png(500, 1), { name: 'a.png' })).status, 201);
    const shown = await image(bob, his, 'width=100');
    assert.equal(shown.status, 200);
    await shown.arrayBuffer();
    assert.equal((await alice.get('/v1/assets')).status, 200);

    slow.held.clear();
    resolve();
    const statuses = await Promise.all(
      page.map(async (answer) => {
        const each = await answer;
        await each.arrayBuffer();
        return each.status;
      }),
    );
    assert.deepEqual(new Set(statuses), new Set([200]));
  });

  test('that nobody waits for any more is not made', async () => {
    const alice = new Client(service.url, 'alice');
    const id = await stored(alice, 8);
    const { promise, resolve } = Promise.withResolvers<void>();
    slow.held.set(`${id}/original`, promise);
    const left = new AbortController();
    const page = Array.from({ length: 10 }, (_, index) =>
      image(alice, id, `width=${20 + index}`, { signal: left.signal }).catch(() => undefined),
    );
    await waitUntil(async () =>
      /stowage_variants_waiting [67]$/m.test(await service.service.metrics.registry.metrics()),
    );
    left.abort();
    await Promise.all(page);
    await waitUntil(async () => /stowage_variants_waiting 0$/m.test(await service.service.metrics.registry.metrics()));
    slow.held.clear();
    resolve();
    await waitUntil(async () => /stowage_variants_making 0$/m.test(await service.service.metrics.registry.metrics()));
    const made = await service.query('select 1 from derivatives where asset_id = $1', [id]);
    assert.ok(made.length <= 4, String(made.length));
  });

  test('is told when to come back, when its turn does not come', async () => {
    const impatient = await startService({
      beside: service,
      wrapStore: slow.wrap,
      env: { VARIANTS_AT_ONCE: '1', VARIANT_WAIT: '1s' },
    });
    try {
      const alice = new Client(impatient.url, 'alice');
      const id = await stored(alice, 9);
      const { promise, resolve } = Promise.withResolvers<void>();
      slow.held.set(`${id}/original`, promise);
      const first = image(alice, id, 'width=20');
      await waitUntil(async () =>
        /stowage_variants_making 1$/m.test(await impatient.service.metrics.registry.metrics()),
      );
      const second = await image(alice, id, 'width=21');
      assert.equal(second.status, 503);
      assert.match(second.headers.get('retry-after') ?? '', /^\d+$/);
      slow.held.clear();
      resolve();
      assert.equal((await first).status, 200);
    } finally {
      await impatient.close();
    }
  });
});
