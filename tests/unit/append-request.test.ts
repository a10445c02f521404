/** What no client can bring about at will: a request that is overtaken while it waits. Store and database are never reached. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { userNamed } from '../../src/access/caller.ts';
import { loadConfig } from '../../src/config.ts';
import { Problem } from '../../src/problems.ts';
import { PartBuffers } from '../../src/storage/part-buffers.ts';
import { AppendRequest } from '../../src/uploads/append-request.ts';
import type { UploadContext } from '../../src/uploads/context.ts';
import { Superseded } from '../../src/uploads/takeover.ts';
import { loadUploadPolicies } from '../../src/validation/upload-policies.ts';

const PART = 64 * 1024;
const never = new AbortController().signal;

async function* nothing(): AsyncGenerator<Buffer> {}

function requestOn(buffers: PartBuffers, partSize: number, superseded: AbortController): AppendRequest {
  const config = loadConfig({});
  const context = {
    config,
    policies: loadUploadPolicies(undefined, config.MAX_FILE_SIZE),
    store: { kind: 'disk' },
    buffers,
    onError: () => {},
  } as unknown as UploadContext;
  const session = {
    kind: 'resumable',
    id: '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1',
    ownerId: 'owner',
    account: 'owner',
    caller: userNamed('owner'),
    fileName: 'm.glb',
    objectKey: 'key',
    createdAt: new Date(),
    expiresAt: new Date(Date.now() + 60_000),
    partSize,
    position: 0,
    inParts: 0,
    takes: 0,
    isHeld: false,
    isReplacing: false,
  } as const;
  const actor = { callerId: 'owner', requestId: 'request', via: null, because: null };
  return new AppendRequest(context, session, { actor, offset: 0, source: nothing(), signal: never }, superseded);
}

test('a request that is overtaken while it waits for memory is told so, and holds none', async () => {
  const buffers = new PartBuffers(PART, PART);
  const held = await buffers.acquire(PART, 0, never);
  const superseded = new AbortController();
  const running = requestOn(buffers, PART, superseded).run();
  superseded.abort(new Superseded());
  await assert.rejects(running, (error) => error instanceof Problem && error.type === 'offset-mismatch');
  held.release();
  assert.equal(buffers.inUse, 0);
});

test('an upload whose parts no buffer can hold any more is expired', () => {
  assert.throws(
    () => requestOn(new PartBuffers(PART, PART), 2 * PART, new AbortController()),
    (error) => error instanceof Problem && error.type === 'upload-expired',
  );
});
