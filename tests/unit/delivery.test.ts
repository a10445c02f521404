/** What is held for an answer goes with it, also when its client has gone before it begins. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import Fastify from 'fastify';
import { deliver, signalOf } from '../../src/assets/delivery.ts';
import type { DownloadPlaces } from '../../src/http/download-places.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { waitUntil } from '../support/wait-until.ts';

/** Timers that keep a process alive. */
const timers = () => process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length;

test('an object that comes for a client who has gone is let go, and nobody watches it', async (context) => {
  const opening = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<void>();
  const stream = Readable.from([Buffer.from('bytes')]);
  const store = {
    get: async () => {
      opening.resolve();
      await opened.promise;
      return { stream, length: 5 };
    },
  } as Pick<ObjectStore, 'get'> as ObjectStore;
  const places = { enter: async () => {} } as Pick<DownloadPlaces, 'enter'> as DownloadPlaces;
  const app = Fastify();
  context.after(() => app.close());
  let late: AbortSignal | undefined;
  app.get('/', async (request, reply) => {
    reply.raw.once('close', () => {
      late = signalOf(reply);
      gone.resolve();
    });
    const validators = { entityTag: '"a"', lastModified: new Date() };
    return deliver(request, reply, { store, places, callerId: 'a', key: 'key', size: 5, ...validators, headers: {} });
  });
  const url = new URL(await app.listen({ port: 0, host: '127.0.0.1' }));
  const client = connect(Number(url.port), '127.0.0.1');
  await once(client, 'connect');
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await opening.promise;
  const before = timers();
  client.destroy();
  await gone.promise;
  opened.resolve();
  await waitUntil(async () => stream.destroyed);
  assert.ok(timers() <= before, 'a timer was left');
  assert.equal(late?.aborted, true);
});
