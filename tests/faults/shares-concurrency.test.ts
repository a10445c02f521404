/** Shares under 200 parallel requests on two instances: no download too many, none lost, and none after a revocation. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { ask, share, shareOf } from '../support/shares.ts';

const PARALLEL = 200;
/** Shares that an asset may be in. */
const PER_ASSET = 7;
/** Milliseconds after which no instance believes a share that was revoked. */
const BELIEVED = 1000;

describe('shares on two instances', () => {
  let service: TestService;
  let other: TestService;
  let alice: Client;

  before(async () => {
    const env = {
      REQUESTS_PER_MINUTE: '0',
      PUBLIC_REQUESTS_PER_MINUTE: '0',
      DOWNLOADS_PER_CALLER: '400',
      DOWNLOADS_AT_ONCE: '400',
      SHARES_PER_ASSET: String(PER_ASSET),
    };
    service = await startService({ env });
    other = await startService({ beside: service, env });
    alice = new Client(service.url);
  });
  after(async () => {
    await other.close();
    await service.close();
  });

  const made = async (terms: object) => {
    const { body } = await alice.raw(png());
    return { ...(await share(alice, { assetId: body.id, ...terms })), assetId: body.id };
  };
  const at = (index: number, token: string) => `${(index % 2 ? service : other).url}/s/${token}/content`;
  const times = <Result>(count: number, work: (index: number) => Promise<Result>) =>
    Promise.all(Array.from({ length: count }, (_, index) => work(index)));
  const countOf = (answers: { status: number }[], status: number) =>
    answers.filter((answer) => answer.status === status).length;

  for (const maxDownloads of [1, 50, 199])
    test(`of ${PARALLEL} that want a file, ${maxDownloads} get it`, async () => {
      const { id, token, assetId } = await made({ maxDownloads });
      const answers = await times(PARALLEL, (index) => ask(at(index, token)));
      assert.deepEqual([countOf(answers, 200), countOf(answers, 404)], [maxDownloads, PARALLEL - maxDownloads]);
      assert.ok(answers.every(({ status, bytes }) => status !== 200 || bytes.equals(Buffer.from(png()))));
      const { downloads, state } = await shareOf(alice, id);
      assert.deepEqual([downloads, state], [maxDownloads, 'used-up']);
      assert.equal((await alice.get(`/v1/assets/${assetId}`)).body.downloadCount, maxDownloads);
    });

  test('without a limit each is counted', async () => {
    const { id, token } = await made({});
    const answers = await times(PARALLEL, (index) => ask(at(index, token)));
    assert.deepEqual([countOf(answers, 200), (await shareOf(alice, id)).downloads], [PARALLEL, PARALLEL]);
  });

  for (const terms of [{ maxDownloads: 20 }, {}])
    test(`the ranges of one visitor are one download, however many come at once: ${JSON.stringify(terms)}`, async () => {
      const { id, token } = await made(terms);
      const visitors = 20;
      const answers = await times(PARALLEL, (index) => {
        const visitor = Math.floor((index * visitors) / PARALLEL);
        return ask(at(index, token), {
          headers: { range: `bytes=${index % 7}-`, 'user-agent': `player ${visitor}` },
        });
      });
      assert.deepEqual([countOf(answers, 206), (await shareOf(alice, id)).downloads], [PARALLEL, visitors]);
    });

  test('an asset is in no more shares than it may be, however many make one at once', async () => {
    await alice.send('POST', '/v1/projects', { id: 'shared', name: 'Shared' });
    const makers = ['alice', 'bob', 'carol', 'dave'].map((name) => new Client(service.url, `maker-${name}`));
    for (const maker of makers) {
      const path = `/v1/projects/shared/members/${maker.headers['x-user-id']}`;
      const { status, body } = await alice.send('PUT', path, { role: 'editor' });
      assert.ok(status < 300, JSON.stringify(body));
    }
    const ids = await times(3, async () => (await alice.raw(png(), { fields: { projectId: 'shared' } })).body.id);
    const [first = '', second = '', third = ''] = ids;
    // Each names them in an order of its own.
    const named = [{ assetId: first }, { assetIds: [first, second] }, { assetIds: [third, second, first] }];
    const answers = await times(80, async (index) => {
      const maker = makers[index % makers.length] ?? alice;
      const place = new Client((index % 2 ? service : other).url, maker.headers['x-user-id']);
      return place.send('POST', '/v1/shares', named[index % named.length] ?? {});
    });
    assert.deepEqual([countOf(answers, 201), countOf(answers, 403)], [PER_ASSET, 80 - PER_ASSET]);
    const refused = answers.find(({ status }) => status === 403)?.body;
    assert.equal(refused?.type, 'urn:stowage:problem:too-many-shares');
    assert.match(String(refused?.detail), new RegExp(`The asset ${first} is in ${PER_ASSET} shares`));
    const [{ count } = { count: 0 }] = await service.query<{ count: number }>(
      'select count(*)::integer as count from share_assets where asset_id = $1',
      [first],
    );
    assert.equal(count, PER_ASSET);
  });

  test('who has begun in time may end, and nobody else', async () => {
    const { id, token } = await made({ maxDownloads: 5 });
    const from = (visitor: number, range: string) =>
      ask(at(visitor, token), { headers: { range, 'user-agent': `player ${visitor}` } });
    const first = await times(40, (visitor) => from(visitor, 'bytes=0-9'));
    const begun = first.flatMap(({ status }, visitor) => (status === 206 ? [visitor] : []));
    assert.equal(begun.length, 5);
    const second = await times(40, (visitor) => from(visitor, 'bytes=10-'));
    assert.deepEqual(
      second.flatMap(({ status }, visitor) => (status === 206 ? [visitor] : [])),
      begun,
    );
    assert.equal((await shareOf(alice, id)).downloads, 5);
  });

  test('a second after a revocation nobody gets it on any instance', async () => {
    const { id, token } = await made({});
    const begun: { at: number; status: number }[] = [];
    let isOver = false;
    const loop = async (index: number) => {
      while (!isOver) {
        const began = performance.now();
        const { status } = await ask(at(index, token), { method: index % 3 ? 'GET' : 'HEAD' });
        begun.push({ at: began, status });
      }
    };
    const loops = times(PARALLEL, loop);
    while (begun.length < PARALLEL) await new Promise(setImmediate);
    assert.equal((await alice.request('DELETE', `/v1/shares/${id}`)).status, 204);
    const revokedAt = performance.now();
    const isLater = ({ at: began }: { at: number }) => began > revokedAt + BELIEVED;
    while (begun.filter(isLater).length < PARALLEL / 4) await new Promise((resolve) => setTimeout(resolve, 20));
    isOver = true;
    await loops;
    assert.ok(begun.some(({ status }) => status === 200));
    assert.equal(countOf(begun.filter(isLater), 200), 0);
    assert.ok(begun.every(({ status }) => status === 200 || status === 404));
  });
});
