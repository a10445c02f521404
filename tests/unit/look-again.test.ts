/** How often a key is looked at again, and what a look does. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ObjectStore, ObjectStoreUnavailable } from '../../src/storage/object-store.ts';
import { delayBefore, type Look, lookAgain } from '../../src/uploads/jobs/look-again.ts';
import type { UploadsRepository } from '../../src/uploads/repository.ts';
import type { UploadSessionsRepository } from '../../src/uploads/session-repository.ts';

const look: Look = { assetId: 'a', objectKey: 'key', look: 0 };

/** What the store holds under the key, and what was removed from it. */
function place({
  fate,
  uploads = [],
  hasObject = false,
  noted,
}: {
  fate: string;
  uploads?: string[];
  hasObject?: boolean;
  /** What its session says. */
  noted?: string;
}) {
  const open = new Set(uploads);
  let objects = hasObject ? 1 : 0;
  const store = {
    listMultipartUploads: async () => [...open],
    abortMultipartUpload: async (_key: string, id: string) => void open.delete(id),
    head: async () => (objects > 0 ? {} : undefined),
    deleteAll: async () => {
      objects = 0;
      return [];
    },
  } as unknown as ObjectStore;
  const repository = { fate: async () => fate } as unknown as UploadsRepository;
  const sessions = { storeUploadId: async () => noted } as unknown as UploadSessionsRepository;
  const again = (from: Look = look) =>
    lookAgain({ uploads: repository, sessions, store }, from, { signal: new AbortController().signal });
  return { store, again, left: () => [[...open], objects] };
}

describe('a key that is looked at again', () => {
  test('has its looks after a minute, ten minutes and an hour, and no more', () => {
    assert.deepEqual(
      [0, 1, 2, 3].map((which) => delayBefore(which, 60)),
      [60, 600, 3600, undefined],
    );
  });

  test('has another look after one that found something, and none after one that found nothing', async () => {
    const { again, left } = place({ fate: 'gone', uploads: ['one', 'two'], hasObject: true });
    const next = await again();
    assert.deepEqual(next, { ...look, look: 1 });
    assert.deepEqual(left(), [[], 0]);
    assert.equal(await again(next), undefined);
  });

  test('keeps the upload that goes on, and the object of an asset', async () => {
    const running = place({ fate: 'running', uploads: ['mine', 'lost'], hasObject: true });
    assert.deepEqual(await running.again({ ...look, keep: 'mine' }), { ...look, keep: 'mine', look: 1 });
    assert.deepEqual(running.left(), [['mine'], 1]);
    const stored = place({ fate: 'stored', uploads: ['mine'], hasObject: true });
    await stored.again({ ...look, keep: 'mine' });
    assert.deepEqual(stored.left(), [[], 1]);
  });

  test('keeps what its session goes on with by then, whatever it was when the answer was lost', async () => {
    const { again, left } = place({ fate: 'running', uploads: ['first', 'second'], noted: 'second' });
    assert.deepEqual(await again({ ...look, keep: 'first' }), { ...look, keep: 'first', look: 1 });
    assert.deepEqual(left(), [['second'], 0]);
  });

  test('is looked at for as long as an upload goes on of which no more is known', async () => {
    const { again, left } = place({ fate: 'running', uploads: ['mine'] });
    let next: Look | undefined = look;
    for (let count = 0; count < 5 && next; count++) next = await again(next);
    assert.deepEqual(next, { ...look, look: 2 });
    assert.deepEqual(left(), [['mine'], 0]);
  });

  test('is tried again as a job when the store keeps what is to go', async () => {
    const { store, again } = place({ fate: 'gone', hasObject: true });
    Object.assign(store, { deleteAll: async () => ['key'] });
    await assert.rejects(again(), ObjectStoreUnavailable);
  });
});
