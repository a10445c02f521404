/** Variants of pictures: what callers and pages get, and what is kept of it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { systemActor } from '../../src/database/audit.ts';
import { processingRepository } from '../../src/processing/run-step.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { rotateKeys } from '../../src/variants/keys.ts';
import { Client } from '../support/client.ts';
import { pdf, png } from '../support/files.ts';
import { look, photoWithSecrets, picture, pixelAt } from '../support/pictures.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

interface Shown {
  status: number;
  headers: Headers;
  bytes: Buffer;
}

/** Without a token. */
async function follow(url: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Shown> {
  const response = await fetch(url, { method, headers });
  return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) };
}

class Visitor extends Client {
  image(id: string, query: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Shown> {
    return follow(`${this.url}/v1/assets/${id}/image?${query}`, { ...this.headers, ...headers }, method);
  }

  async stored(bytes: Buffer<ArrayBuffer>, name = 'photo.jpg'): Promise<string> {
    const { status, body } = await this.raw(bytes, { name });
    assert.equal(status, 201, JSON.stringify(body));
    return body.id;
  }

  async link(id: string, query: string): Promise<Record<string, unknown> & { url: string }> {
    const { status, body } = await this.get(`/v1/assets/${id}/variants/link?${query}`);
    assert.equal(status, 200, JSON.stringify(body));
    return body as unknown as Record<string, unknown> & { url: string };
  }
}

const problemOf = ({ bytes }: Shown) => JSON.parse(bytes.toString()) as { type: string; detail: string };

/** Counts what is written to and fetched from the store. */
function counting(counts: Record<string, number>) {
  return (store: ObjectStore): ObjectStore =>
    new Proxy(store, {
      get: (target, verb) => {
        const value = Reflect.get(target, verb);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => {
          counts[String(verb)] = (counts[String(verb)] ?? 0) + 1;
          return value.apply(target, args);
        };
      },
    });
}

for (const { store, skip } of storeKinds) {
  describe(`variants on ${store}`, { skip }, () => {
    let service: TestService;
    let alice: Visitor;
    let id: string;
    const counts: Record<string, number> = {};
    before(async () => {
      service = await startService({ store, wrapStore: counting(counts), env: { VARIANTS_PER_ASSET: '100' } });
      alice = new Visitor(service.url);
      id = await alice.stored(await picture());
    });
    after(() => service?.close());

    const rows = (assetId: string) =>
      service.query<{ name: string; state: string; object_key: string }>(
        `select name, state, object_key from derivatives where asset_id = $1 order by name`,
        [assetId],
      );
    const objectsOf = async (assetId: string) => {
      const keys: string[] = [];
      for await (const page of service.store.list('', {})) keys.push(...page.map(({ key }) => key));
      return keys.filter((key) => key.includes(assetId));
    };

    const shapes: [query: string, format: string, width: number, height: number][] = [
      ['width=640&height=480&fit=cover', 'webp', 640, 480],
      ['width=640&height=480&fit=contain&format=png', 'png', 640, 480],
      ['width=640&height=480', 'webp', 640, 427],
      ['width=333&format=jpeg&quality=55', 'jpeg', 333, 222],
      ['height=100&format=avif', 'heif', 150, 100],
      ['width=4096', 'webp', 1200, 800],
      ['', 'webp', 1200, 800],
    ];
    for (const [query, format, width, height] of shapes)
      test(`${query || 'without a size'} is ${width} x ${height}`, async () => {
        const shown = await alice.image(id, query);
        assert.equal(shown.status, 200, shown.bytes.toString());
        const made = await look(shown.bytes);
        assert.deepEqual([made.format, made.width, made.height], [format, width, height]);
        assert.equal(shown.headers.get('content-type'), `image/${format === 'heif' ? 'avif' : format}`);
        assert.equal(shown.headers.get('content-length'), String(shown.bytes.length));
      });

    test('one is made once and kept as an object', async () => {
      const fresh = await alice.stored(await picture({ seed: 1 }));
      const before = counts['put'] ?? 0;
      const [one, two] = [await alice.image(fresh, 'width=256'), await alice.image(fresh, 'width=256')];
      assert.deepEqual(one.bytes, two.bytes);
      assert.equal(one.headers.get('etag'), two.headers.get('etag'));
      assert.equal(counts['put'], before + 1);
      const [row, ...others] = await rows(fresh);
      assert.deepEqual([row?.name, row?.state, others], ['w256.webp', 'ready', []]);
      assert.equal((await service.store.head(row?.object_key ?? '', {}))?.size, one.bytes.length);
    });

    test('many requests at once make it once', async () => {
      const fresh = await alice.stored(await picture({ seed: 2 }));
      const before = counts['put'] ?? 0;
      const all = await Promise.all(Array.from({ length: 20 }, () => alice.image(fresh, 'width=128')));
      assert.deepEqual(
        all.map(({ status }) => status),
        all.map(() => 200),
      );
      assert.equal(counts['put'], before + 1);
    });

    test('an address shows it without a token, for ever, by every kind of request', async () => {
      const { url, variant } = await alice.link(id, 'width=512&height=384&fit=cover&position=top');
      assert.equal(variant, 'w512-h384-cover-top.webp');
      assert.ok(url.startsWith(`${service.url}/v1/variants/${id}/`), url);
      const whole = await follow(url);
      assert.equal(whole.status, 200, whole.bytes.toString());
      assert.equal(whole.headers.get('cache-control'), 'private, max-age=31536000, immutable');
      assert.match(
        whole.headers.get('content-disposition') ?? '',
        /^inline; filename="photo\.w512-h384-cover-top\.webp"/,
      );
      const made = await look(whole.bytes);
      assert.deepEqual([made.format, made.width, made.height], ['webp', 512, 384]);
      const etag = whole.headers.get('etag') ?? '';
      assert.equal(etag, `"${createHash('sha256').update(whole.bytes).digest('hex')}"`);

      const head = await follow(url, {}, 'HEAD');
      assert.deepEqual([head.status, head.bytes.length], [200, 0]);
      assert.equal(head.headers.get('content-length'), String(whole.bytes.length));
      const known = await follow(url, { 'if-none-match': etag });
      assert.deepEqual([known.status, known.bytes.length], [304, 0]);
      const part = await follow(url, { range: 'bytes=10-19', 'if-range': etag });
      assert.equal(part.status, 206);
      assert.deepEqual(part.bytes, whole.bytes.subarray(10, 20));
      assert.equal((await follow(url, { range: 'bytes=9999999-' })).status, 416);
      assert.equal((await follow(url, { 'if-match': '"other"' })).status, 412);
    });

    test('one whose object was lost is made again', async () => {
      const { url } = await alice.link(id, 'width=192');
      const first = await follow(url);
      const lost = (await rows(id)).find(({ name }) => name === 'w192.webp');
      await service.store.delete(lost?.object_key ?? '', {});
      const second = await follow(url);
      assert.equal(second.status, 200, second.bytes.toString());
      assert.deepEqual(second.bytes, first.bytes);
      const again = (await rows(id)).find(({ name, state }) => name === 'w192.webp' && state === 'ready');
      assert.notEqual(again?.object_key, lost?.object_key);
    });

    test('what is rejected after all loses them', async () => {
      const infected = await alice.stored(await picture({ seed: 8 }));
      const { url } = await alice.link(infected, 'width=64');
      assert.equal((await follow(url)).status, 200);
      await service.query(`update assets set processing = '{"scan":{"state":"waiting"}}' where id = $1`, [infected]);
      const [row] = await service.query<{ object_key: string }>('select object_key from assets where id = $1', [
        infected,
      ]);
      const { core } = service.service;
      const recorded = await processingRepository(core).end(
        infected,
        {
          name: 'scan',
          outcome: { kind: 'rejected', reason: 'infected', removesBytes: true },
          objectKey: row?.object_key ?? '',
        },
        systemActor('test', 'one'),
        async () => {},
      );
      assert.equal(recorded, 'recorded');
      assert.equal((await follow(url)).status, 404);
      assert.equal((await alice.image(infected, 'width=64')).status, 409);
      await waitUntil(async () => (await objectsOf(infected)).length === 0);
    });

    test('the trash ends it at once; deleting removes it', async () => {
      const fresh = await alice.stored(await picture({ seed: 3 }));
      const { url } = await alice.link(fresh, 'width=64');
      assert.equal((await follow(url)).status, 200);
      await alice.image(fresh, 'width=65');
      assert.equal((await objectsOf(fresh)).length, 3);
      assert.equal((await alice.request('DELETE', `/v1/assets/${fresh}`)).status, 204);
      assert.equal((await follow(url)).status, 404);
      assert.equal((await alice.image(fresh, 'width=64')).status, 409);
      assert.equal((await alice.request('POST', `/v1/assets/${fresh}/restore`)).status, 200);
      assert.equal((await follow(url)).status, 200);
      assert.equal((await alice.request('DELETE', `/v1/assets/${fresh}?permanent=true`)).status, 204);
      assert.equal((await follow(url)).status, 404);
      assert.equal((await alice.image(fresh, 'width=64')).status, 404);
      await waitUntil(async () => (await objectsOf(fresh)).length === 0 && (await rows(fresh)).length === 0);
    });
  });
}

describe('variants', () => {
  let service: TestService;
  let alice: Visitor;
  let id: string;
  before(async () => {
    service = await startService({ env: { VARIANTS_PER_ASSET: '3', VARIANT_CACHE: 'public' } });
    alice = new Visitor(service.url);
    id = await alice.stored(await picture());
  });
  after(() => service?.close());

  const names = async (assetId: string) =>
    (
      await service.query<{ name: string }>(
        `select name from derivatives where asset_id = $1 and state <> 'discarded' order by name`,
        [assetId],
      )
    ).map(({ name }) => name);

  test('are upright, in sRGB, and tell nothing of their sender', async () => {
    const secret = await alice.stored(await photoWithSecrets());
    for (const format of ['webp', 'avif', 'jpeg', 'png']) {
      const { bytes } = await alice.image(secret, `width=100&height=100&format=${format}`);
      const made = await look(bytes);
      assert.deepEqual([made.width, made.height, made.orientation ?? 1], [67, 100, 1], format);
      assert.deepEqual(
        [made.exif, made.xmp, made.iptc, made.icc],
        [undefined, undefined, undefined, undefined],
        format,
      );
      assert.ok(!bytes.includes('SECRET'), format);
    }
  });

  test('with margins have clear ones, or white ones in a JPEG', async () => {
    const { bytes: clear } = await alice.image(id, 'width=100&height=100&fit=contain&format=png');
    assert.equal((await pixelAt(clear, 50, 2))[3], 0);
    assert.equal((await pixelAt(clear, 50, 50))[3], 255);
    const { bytes: white } = await alice.image(id, 'width=100&height=100&fit=contain&format=jpeg');
    assert.ok((await pixelAt(white, 50, 2)).every((value) => value > 250));
  });

  const wishes: [accept: string | undefined, type: string][] = [
    ['image/avif,image/webp,*/*;q=0.8', 'image/avif'],
    ['image/webp;q=0.5,image/png', 'image/png'],
    [undefined, 'image/webp'],
  ];
  for (const [accept, type] of wishes)
    test(`format=auto is ${type} for ${accept ?? 'anything'}`, async () => {
      const shown = await alice.image(id, 'width=32&format=auto', accept === undefined ? {} : { accept });
      assert.equal(shown.headers.get('content-type'), type);
      assert.match(shown.headers.get('vary') ?? '', /\bAccept\b/);
    });

  test('format=auto has nothing for who takes none; another format asks nobody', async () => {
    const shown = await alice.image(id, 'width=32&format=auto', { accept: 'text/html, image/*;q=0' });
    assert.deepEqual([shown.status, problemOf(shown).type], [406, 'urn:stowage:problem:not-acceptable']);
    const fixed = await alice.image(id, 'width=32&format=jpeg', { accept: 'text/html' });
    assert.equal(fixed.headers.get('content-type'), 'image/jpeg');
    assert.doesNotMatch(fixed.headers.get('vary') ?? '', /\bAccept\b/);
  });

  const wrong = [
    ...['width=0', 'width=4097', 'width=-1', 'width=1.5', 'width=x', 'height=99999', 'width=10&width=20', 'w=10'],
    ...[
      'width=10&fit=fill',
      'width=10&fit=cover',
      'height=10&fit=contain',
      'width=10&format=gif',
      'width=10&quality=0',
    ],
    ...['width=10&quality=101', 'width=10&height=10&fit=cover&position=middle'],
  ];
  for (const query of wrong)
    test(`${query} is refused`, async () => {
      const shown = await alice.image(id, query);
      assert.deepEqual([shown.status, problemOf(shown).type], [400, 'urn:stowage:problem:invalid-parameter']);
    });

  test('have addresses of sizes on the ladder only', async () => {
    const { variant } = await alice.link(id, 'width=500&height=300&fit=cover&quality=50&format=jpeg');
    assert.equal(variant, 'w512-h384-cover-q55.jpeg');
    for (const query of ['', 'width=2049', 'width=512&format=auto', 'srcset=true&height=512', 'width=512&expiresIn=0'])
      assert.equal((await alice.get(`/v1/assets/${id}/variants/link?${query}`)).status, 400, query);
  });

  test('that are new are so many in a minute for the pictures of one owner; those that are there are served', async () => {
    const bounded = await startService({ beside: service, env: { VARIANTS_PER_MINUTE: '3' } });
    try {
      const greedy = new Visitor(bounded.url, 'greedy');
      const own = await greedy.stored(await picture());
      for (const width of [10, 11, 12]) assert.equal((await greedy.image(own, `width=${width}`)).status, 200);
      const refused = await greedy.image(own, 'width=13');
      assert.deepEqual([refused.status, problemOf(refused).type], [429, 'urn:stowage:problem:too-many-requests']);
      const seconds = Number(refused.headers.get('retry-after'));
      assert.ok(seconds > 0 && seconds <= 20, `${seconds}`);
      const { url } = await greedy.link(own, 'width=64');
      assert.equal((await fetch(new URL(url, bounded.url))).status, 429);
      assert.equal((await greedy.image(own, 'width=12')).status, 200);
      const modest = new Visitor(bounded.url, 'modest');
      assert.equal((await modest.image(await modest.stored(await picture()), 'width=10')).status, 200);
    } finally {
      await bounded.close();
    }
  });

  test('of one picture have one srcset, up to the size of the original', async () => {
    await service.query(`update assets set facts = '{"width": 1200, "height": 800}' where id = $1`, [id]);
    const { srcset, steps, url } = await alice.link(id, 'srcset=true');
    assert.ok(Array.isArray(steps) && typeof srcset === 'string');
    assert.deepEqual(
      steps.map((step) => step.width),
      [16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1200],
    );
    assert.equal(srcset, steps.map((step) => `${step.url} ${step.width}w`).join(', '));
    assert.equal(url, steps.at(-1).url);
    for (const step of [steps[2], steps.at(-1)]) {
      const shown = await follow(step.url);
      assert.equal(shown.headers.get('cache-control'), 'public, max-age=31536000, immutable');
      assert.equal((await look(shown.bytes)).width, step.width);
    }
  });

  test('have one address within half of its life, of which between half and all is left', async () => {
    const [one, two] = [await alice.link(id, 'width=16'), await alice.link(id, 'width=16')];
    assert.equal(one.url, two.url);
    const expiresAt = Date.parse(String(one['expiresAt']));
    assert.equal(expiresAt % (12 * 3_600_000), 0);
    assert.ok(expiresAt - Date.now() >= 12 * 3_600_000 && expiresAt - Date.now() <= 24 * 3_600_000);
  });

  test('have one answer for every address that is none, and ask the database nothing for a wrong signature', async () => {
    const { url } = await alice.link(id, 'width=16');
    const unknown = (await alice.link(await alice.stored(png(400, 9), 'a.png'), 'width=16')).url;
    await alice.request('DELETE', `/v1/assets/${unknown.split('/')[5]}?permanent=true`);
    const wrongRevision = url.replace(/\/[0-9a-f]{16}\//, '/0123456789abcdef/');
    const all = [
      unknown,
      wrongRevision,
      ...[`${url}x`, url.slice(0, -1), url.replace('w16', 'w32'), url.replace('.webp', '.avif'), `${url}&a=b`],
      ...[url.replace(/\?.*/, ''), url.replace('exp=', 'exp=9')],
      ...[`${service.url}/v1/variants/x/y/z?exp=1&sig=2`, url.replace('/w16', '/%7716')],
    ];
    const answers = await Promise.all(all.map((each) => follow(each)));
    for (const [index, answer] of answers.entries()) {
      assert.equal(answer.status, 404, all[index]);
      const { requestId: _, ...body } = JSON.parse(answer.bytes.toString());
      assert.deepEqual(body, {
        type: 'urn:stowage:problem:not-found',
        title: 'There is no such resource',
        status: 404,
        detail: 'The address is not valid. Get a new one.',
      });
      assert.equal(answer.headers.get('cache-control'), 'no-store');
    }
    const twice = await follow(url.replace(/exp=\d+/, 'exp=1&exp=2'));
    assert.equal(twice.status, 400, 'whatever the address is of, a parameter is there once');
    const { database } = service.service.core.database;
    const run = database.run;
    let statements = 0;
    database.run = (statement, values) => {
      statements += 1;
      return run(statement, values);
    };
    try {
      await follow(url.replace('sig=', 'sig=A').slice(0, -1));
      assert.equal(statements, 0);
      await follow(url);
      assert.equal(statements, 1);
    } finally {
      database.run = run;
    }
  });

  test('of others, and of no asset, are as unknown to callers', async () => {
    const bob = new Visitor(service.url, 'bob');
    const nobody = '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';
    const bodies = [];
    for (const [who, asset] of [[bob, id] as const, [alice, nobody] as const]) {
      const shown = await who.image(asset, 'width=16');
      const { requestId: _, ...image } = JSON.parse(shown.bytes.toString());
      const { requestId: __, ...link } = (await who.get(`/v1/assets/${asset}/variants/link?width=16`)).body;
      bodies.push([shown.status, image, link]);
    }
    assert.equal(bodies[0]?.[0], 404);
    assert.deepEqual(bodies[0], bodies[1]);
  });

  test('are made of pictures alone', async () => {
    const document = await alice.stored(pdf(), 'a.pdf');
    const shown = await alice.image(document, 'width=16');
    assert.deepEqual([shown.status, problemOf(shown).type], [404, 'urn:stowage:problem:derivative-unavailable']);
    assert.match(problemOf(shown).detail, /application\/pdf/);
    assert.equal((await alice.get(`/v1/assets/${document}/variants/link?width=16`)).status, 404);
  });

  test('make room for others: the least recently asked for go, with their objects', async () => {
    const fresh = await alice.stored(await picture({ seed: 4 }));
    const asked = (name: string, minutes: number) =>
      service.query(
        `update derivatives set asked_at = now() - make_interval(mins => $3) where asset_id = $1 and name = $2`,
        [fresh, name, minutes],
      );
    for (const width of [10, 20, 30]) await alice.image(fresh, `width=${width}`);
    await asked('w10.webp', 50);
    await asked('w20.webp', 90);
    await asked('w30.webp', 80);
    // Asked for again, so that another one is the oldest; to the hour, this is not written at each request.
    await alice.image(fresh, 'width=20');
    const [gone] = await service.query<{ object_key: string }>(
      `select object_key from derivatives where asset_id = $1 and name = 'w30.webp'`,
      [fresh],
    );
    await waitUntil(
      async () =>
        (
          await service.query(
            `select 1 from derivatives where asset_id = $1 and name = 'w20.webp' and asked_at > now() - interval '1 minute'`,
            [fresh],
          )
        ).length === 1,
    );
    await alice.image(fresh, 'width=40');
    assert.deepEqual(await names(fresh), ['w10.webp', 'w20.webp', 'w40.webp']);
    await waitUntil(async () => (await service.store.head(gone?.object_key ?? '', {})) === undefined);
    assert.equal((await alice.image(fresh, 'width=30')).status, 200);
    assert.equal((await names(fresh)).length, 3);
  });

  test('note once an hour that they were asked for', async () => {
    const fresh = await alice.stored(await picture({ seed: 5 }));
    await alice.image(fresh, 'width=10');
    const time = () =>
      service.query<{ asked_at: string }>('select asked_at from derivatives where asset_id = $1', [fresh]);
    await service.query(`update derivatives set asked_at = now() - interval '59 minutes' where asset_id = $1`, [fresh]);
    const before = await time();
    await alice.image(fresh, 'width=10');
    await alice.image(fresh, 'width=10');
    assert.deepEqual(await time(), before);
  });

  test('of what cannot be read are not tried again for a while, in no size', async () => {
    const fresh = await alice.stored(await picture({ seed: 6 }));
    const [row] = await service.query<{ object_key: string }>('select object_key from assets where id = $1', [fresh]);
    const attributes = { contentType: 'a/b', contentDisposition: 'inline', cacheControl: 'private', metadata: {} };
    const bytes = Buffer.from('this is no picture at all');
    await service.store.put(row?.object_key ?? '', bytes, attributes, {
      sha256: createHash('sha256').update(bytes).digest(),
    });
    for (const width of [50, 50, 60]) {
      const shown = await alice.image(fresh, `width=${width}`);
      assert.deepEqual([shown.status, problemOf(shown).type], [404, 'urn:stowage:problem:derivative-unavailable']);
      assert.match(problemOf(shown).detail, /cannot be read/);
    }
    assert.deepEqual(await names(fresh), ['w50.webp']);
    await service.query(`update derivatives set updated_at = now() - interval '11 minutes' where asset_id = $1`, [
      fresh,
    ]);
    await alice.image(fresh, 'width=60');
    assert.deepEqual(await names(fresh), ['w50.webp', 'w60.webp']);
  });

  test('are in the audit trail as links and as downloads of callers', async () => {
    const fresh = await alice.stored(await picture({ seed: 7 }));
    const { url } = await alice.link(fresh, 'width=16');
    await follow(url);
    await alice.image(fresh, 'width=17');
    const { headers } = await alice.image(fresh, 'width=17');
    await alice.image(fresh, 'width=17', { 'if-none-match': headers.get('etag') ?? '' });
    await alice.image(fresh, 'width=17', {}, 'HEAD');
    await alice.image(fresh, 'width=17', { range: 'bytes=0-3' });
    const found = await service.query<{ action: string; detail: object }>(
      `select action, detail from audit_events where asset_id = $1 and action <> 'asset.uploaded' order by id`,
      [fresh],
    );
    const download = { action: 'asset.downloaded', detail: { variant: 'w17.webp' } };
    assert.deepEqual(found, [
      { action: 'asset.variant-link-issued', detail: { variant: 'w16.webp', expiresIn: 86_400 } },
      download,
      download,
      download,
    ]);
  });

  test('keep their addresses when the key is replaced, and lose them when it is replaced at once', async () => {
    const { url } = await alice.link(id, 'width=96');
    await rotateKeys(service.database, { atOnce: false });
    await assert.rejects(rotateKeys(service.database, { atOnce: false }), /a moment ago/);
    const second = await startService({ beside: service });
    try {
      const there = url.replace(service.url, second.url);
      assert.equal((await follow(there)).status, 200);
      assert.equal((await new Visitor(second.url).link(id, 'width=96')).url, there);
    } finally {
      await second.close();
    }
    await rotateKeys(service.database, { atOnce: true });
    const third = await startService({ beside: service });
    try {
      assert.equal((await follow(url.replace(service.url, third.url))).status, 404);
      assert.equal((await follow((await new Visitor(third.url).link(id, 'width=96')).url)).status, 200);
    } finally {
      await third.close();
    }
  });
});
