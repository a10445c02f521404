/** What becomes of a derivative that was made, when its file is none or its claim was lost meanwhile. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { keepDerivative } from '../../src/processing/keep.ts';

type Options = Parameters<typeof keepDerivative>[2];

/** What was done, in order, with a claim that is there when it is renewed, and when it is ended. */
async function kept(content: Buffer, { renewed = true, finished = true } = {}): Promise<string[]> {
  const done: string[] = [];
  const note = async (what: string) => void done.push(what);
  const options = {
    derivatives: {
      fail: (_: string, reason: string) => note(`fail ${reason}`),
      renew: async () => renewed,
      finish: async () => {
        await note('finish');
        return finished ? {} : undefined;
      },
      discard: (ids: string[]) => note(`discard ${ids}`),
    },
    core: {
      store: { putStream: (key: string) => note(`put ${key}`), delete: (key: string) => note(`delete ${key}`) },
      buffers: {},
    },
    ...{ cacheControl: 'private', maxBytes: 10 },
    context: { signal: new AbortController().signal, fence: async () => {} },
  } as unknown as Options;
  await keepDerivative({ id: 'id', objectKey: 'key' }, { content, mediaType: 'image/webp' }, options);
  return done;
}

describe('what was made', () => {
  const content = Buffer.from('ten bytes!');

  test('is stored and told', async () => {
    assert.deepEqual(await kept(content), ['put key', 'finish']);
  });

  test('fails when there is nothing of it, or too much', async () => {
    assert.deepEqual(await kept(Buffer.alloc(0)), ['fail refused']);
    assert.deepEqual(await kept(Buffer.alloc(11)), ['fail output-too-large']);
  });

  test('is not stored when its claim was lost while it was made', async () => {
    assert.deepEqual(await kept(content, { renewed: false }), []);
  });

  test('is removed when its claim was lost while it was stored', async () => {
    assert.deepEqual(await kept(content, { finished: false }), ['put key', 'finish', 'delete key', 'discard id']);
  });
});
