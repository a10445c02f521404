import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { gaugesOf, Metrics } from '../../src/http/metrics.ts';
import { startService, type TestService } from '../support/service.ts';

describe('metrics', () => {
  let service: TestService;
  before(async () => {
    // Without workers, nobody else asks on the second pool.
    service = await startService({ env: { ROLE: 'api', DATABASE_URL: 'postgres://unused/unused' } });
    await service.service.reconcile({});
  });
  after(() => service.close());

  const scrape = () => service.service.metrics.registry.metrics();

  test('scrapes that follow each other closely get one text, and the database is asked once for all of them', async (context) => {
    const query = context.mock.method(service.service.core.background.pool, 'query');
    const texts = await Promise.all(
      Array.from({ length: 20 }, async () => (await fetch(`${service.url}/metrics`)).text()),
    );
    assert.equal(new Set(texts).size, 1);
    assert.match(texts[0] ?? '', /^stowage_job_queue_depth\S* \d/m);
    assert.equal(query.mock.callCount(), 4);
  });

  test('a scrape runs four statements: for all queues, for all that was reconciled, for what waits to be served, for backups', async (context) => {
    const query = context.mock.method(service.service.core.background.pool, 'query');
    for (const scrapes of [1, 2]) {
      const text = await scrape();
      for (const name of ['job_queue_depth', 'job_dead_letters', 'lost_assets', 'reconciled_timestamp_seconds'])
        assert.match(text, new RegExp(`^stowage_${name}\\S* \\d`, 'm'));
      assert.equal(query.mock.callCount(), 4 * scrapes);
    }
  });

  test('a database that is away takes no other metric along', async (context) => {
    context.mock.method(service.service.core.background.pool, 'query', () => Promise.reject(new Error('away')));
    const text = await scrape();
    assert.match(text, /^stowage_active_uploads 0$/m);
    assert.match(text, /^stowage_http_request_duration_seconds_count/m);
  });

  test('gauges of one look are asked for again by the next scrape, also after a fault', async () => {
    let looks = 0;
    const metrics = new Metrics();
    const look = async () => {
      looks += 1;
      if (looks === 2) throw new Error('away');
      return looks;
    };
    const twice = (source: number) => 2 * source;
    metrics.add(
      gaugesOf(look, [
        { name: 'looks', help: 'Looks', of: (source) => source },
        { name: 'twice', help: 'Twice as many', of: twice },
        { name: 'parity', help: 'By parity', labels: ['of'], of: (n) => [{ labels: { of: 'looks' }, value: n % 2 }] },
      ]),
    );
    const values = async () =>
      [...(await metrics.registry.metrics()).matchAll(/^(looks|twice|parity\S+) (\d+)$/gm)].map(([line]) => line);
    assert.deepEqual(await values(), ['looks 1', 'twice 2', 'parity{of="looks"} 1']);
    // What was known stays.
    assert.deepEqual(await values(), ['looks 1', 'twice 2', 'parity{of="looks"} 1']);
    assert.deepEqual(await values(), ['looks 3', 'twice 6', 'parity{of="looks"} 1']);
    assert.equal(looks, 3);
  });

  test('two metrics of one name are an error', () => {
    const metrics = new Metrics();
    const gauge = { name: 'one', help: 'One', read: () => 1 };
    assert.throws(() => metrics.add([gauge, gauge]), /one/);
  });
});
