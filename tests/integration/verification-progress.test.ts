/** What a record tells while the bytes of its asset are read back. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Client } from '../support/client.ts';
import { glb } from '../support/files.ts';
import { startService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;
const TUS = { 'tus-resumable': '1.0.0' };

/** A store that hands objects out in small pieces, until somebody opens the gate. */
function slowly(store: ObjectStore, isOpen: () => boolean): ObjectStore {
  return new Proxy(store, {
    get(target, name, receiver) {
      if (name !== 'get') {
        const value: unknown = Reflect.get(target, name, receiver);
        return typeof value === 'function' ? value.bind(target) : value;
      }
      const get: ObjectStore['get'] = async (key, options) => {
        const found = await target.get(key, options);
        return found && { ...found, stream: Readable.from(pieces(found.stream)) };
      };
      return get;
    },
  });
  async function* pieces(stream: Readable): AsyncGenerator<Buffer> {
    for await (const chunk of stream as AsyncIterable<Buffer>)
      for (let at = 0; at < chunk.length; at += 1024) {
        if (!isOpen()) await setTimeout(20);
        yield chunk.subarray(at, at + 1024);
      }
  }
}

test('a record that is processing tells how many bytes were read back, under an entity tag of its own', async (context) => {
  let isOpen = false;
  const service = await startService({
    env: { PART_SIZE: '5MiB' },
    wrapStore: (store) => slowly(store, () => isOpen),
  });
  context.after(() => service.close());
  const client = new Client(service.url);
  const bytes = glb(7 * MiB, 1);
  const { headers } = await client.request('POST', '/v1/resumable', {
    headers: {
      ...TUS,
      'upload-length': String(bytes.length),
      'upload-metadata': `filename ${Buffer.from('m.glb').toString('base64')}`,
    },
  });
  const path = headers.get('location') ?? '';
  for (const [begin, end] of [
    [0, 6 * MiB],
    [6 * MiB, bytes.length],
  ]) {
    const { status } = await client.request('PATCH', path, {
      headers: { ...TUS, 'content-type': 'application/offset+octet-stream', 'upload-offset': String(begin) },
      body: bytes.subarray(begin, end),
    });
    assert.equal(status, 204);
  }
  const record = () => client.get(`/v1/assets/${path.split('/').at(-1)}`);
  const first = await record();
  assert.equal(first.body.state, 'processing');
  assert.ok(Number.isInteger(first.body.verifiedBytes));
  const later = await waitUntil(async () => {
    const now = await record();
    return Number(now.body.verifiedBytes) > Number(first.body.verifiedBytes) ? now : undefined;
  });
  assert.ok(Number(later?.body.verifiedBytes) < bytes.length);
  assert.notEqual(later?.headers.get('etag'), first.headers.get('etag'));
  isOpen = true;
  const ready = await waitUntil(async () => {
    const now = await record();
    return now.body.state === 'ready' ? now : undefined;
  });
  assert.equal(ready?.body.verifiedBytes, undefined);
});
