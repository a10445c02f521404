/** Who asks again at once after a refusal for too many waits for the next one. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import Fastify from 'fastify';
import { installErrorHandler } from '../../src/http/error-handler.ts';
import { RefusalPace } from '../../src/http/refusal-pace.ts';
import { Problem } from '../../src/problems.ts';

const answer = () => Object.assign(new EventEmitter(), { shouldKeepAlive: true }) as EventEmitter & ServerResponse;

test('the first are told at once, then ten a second, and none later than after five seconds', () => {
  let now = 1_000_000;
  const pace = new RefusalPace(() => now);
  for (let index = 0; index < 20; index++) assert.equal(pace.delay('a'), 0);
  for (let index = 1; index <= 50; index++) assert.equal(pace.delay('a'), index * 100);
  for (let index = 0; index < 1000; index++) assert.equal(pace.delay('a'), 5000);
  assert.equal(pace.delay('b'), 0, 'somebody else does not wait');
  now += 5000 + 2000;
  for (let index = 0; index < 20; index++) assert.equal(pace.delay('a'), 0);
  assert.equal(pace.delay('a'), 100);
});

test('whoever goes waits no longer, and the end of the process tells all', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const pace = new RefusalPace(() => 0);
  for (let index = 0; index < 20; index++) assert.equal(pace.wait('a', answer()), undefined);
  const [gone, timed, told] = [answer(), answer(), answer()];
  const waits = [gone, timed, told].map((response) => pace.wait('a', response));
  assert.equal(pace.waiting, 3);
  gone.emit('close');
  await waits[0];
  context.mock.timers.tick(200);
  await waits[1];
  assert.equal(pace.waiting, 1);
  pace.end();
  await waits[2];
  assert.equal(pace.waiting, 0);
  assert.equal(pace.wait('a', answer()), undefined);
  assert.equal(told.listenerCount('close'), 0);
});

test('where a thousand wait, the next is told at once and has to connect again', () => {
  const pace = new RefusalPace(() => 0);
  for (let index = 0; index < 1020; index++) void pace.wait('a', answer());
  const response = answer();
  assert.equal(pace.wait('a', response), undefined);
  assert.equal(response.shouldKeepAlive, false);
  pace.end();
});

test('a refusal for too many waits, with whom it is for; others do not', async () => {
  const pace = new RefusalPace();
  const keys: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  pace.wait = (key) => {
    keys.push(key);
    return promise;
  };
  const app = Fastify();
  installErrorHandler(app, pace);
  app.get('/many', async () => {
    throw new Problem('too-many-requests', { retryAfter: 3 });
  });
  app.get('/other', async () => {
    throw new Problem('not-found');
  });
  let isTold = false;
  const refused = app.inject({ url: '/many', remoteAddress: '192.0.2.1' }).then((response) => {
    isTold = true;
    return response;
  });
  assert.equal((await app.inject('/other')).statusCode, 404);
  assert.equal(isTold, false);
  assert.deepEqual(keys, ['address 192.0.2.1']);
  resolve();
  const { statusCode, headers } = await refused;
  assert.equal(statusCode, 429);
  assert.equal(headers['retry-after'], '3');
  await app.close();
});
