/**
 * Copies one object from one store to another: by the server, where one holds both; else a small one by a buffer and one
 * request, and a larger one as a stream, in parts, out of a budget of memory. On the way its bytes are compared with what is
 * known of them, so a damaged source is never copied.
 */
import { createHash } from 'node:crypto';
import { pipeline, type Readable, Transform } from 'node:stream';
import { MIN_PART } from '../config.ts';
import type { CopyReason } from '../database/tables/mirrors.ts';
import {
  type ByteRange,
  ContentMismatch,
  type ObjectHead,
  type ObjectStore,
  ObjectStoreUnavailable,
  refusalIn,
} from '../storage/object-store.ts';
import type { PartBuffers } from '../storage/part-buffers.ts';

/** Bytes up to which an object is one request; S3 takes no smaller parts. */
export const MAX_WHOLE = MIN_PART;
/** Milliseconds to wait for memory: what is copied at once is bounded, so there is some soon. */
const MEMORY_WAIT = 10 * 60_000;

/** Those that are of the mirror, and not of the object. */
export const faultsOfMirror: readonly CopyReason[] = ['mirror-unavailable', 'mirror-refused', 'mirror-full'];

export class CopyFault extends Error {
  override name = 'CopyFault';
  readonly reason: CopyReason;

  constructor(reason: CopyReason, options?: ErrorOptions) {
    super(`the object was not copied: ${reason}`, options);
    this.reason = reason;
  }
}

export interface StoredObject {
  store: ObjectStore;
  key: string;
}

export interface KnownBytes {
  size: number;
  /** Where somebody has read them. */
  sha256?: Buffer | undefined;
}

export interface CopyOptions {
  buffers: PartBuffers;
  signal: AbortSignal;
  /** Waits before so many bytes of a stream are passed on; at once when absent. */
  pace?: (bytes: number) => Promise<void>;
}

/**
 * @returns the digest of the bytes; undefined where they did not come by here
 * @throws CopyFault; the signal's reason. Something may be left under the key of `to`, which is the same when it is repeated
 */
export async function copyObject(
  from: StoredObject,
  to: StoredObject,
  known: KnownBytes,
  options: CopyOptions,
): Promise<Buffer | undefined> {
  const { signal } = options;
  const onServer = await atMirror(signal, async () =>
    to.store.copyFrom?.(from.store, from.key, to.key, { signal, size: known.size }),
  );
  if (onServer === 'missing') throw new CopyFault('source-missing');
  if (onServer === 'copied') {
    const made = await atMirror(signal, () => to.store.head(to.key, { signal }));
    if (made?.size !== known.size) throw new CopyFault('source-damaged');
    return undefined;
  }
  const head = await atSource(signal, () => from.store.head(from.key, { signal }));
  if (!head) throw new CopyFault('source-missing');
  if (head.size !== known.size) throw new CopyFault('source-damaged');
  return known.size <= MAX_WHOLE
    ? copyWhole(from, to, known, head, options)
    : copyStream(from, to, known, head, options);
}

/** Compares what a store has with what is known of it, by reading it. @returns its digest @throws CopyFault */
export async function readCopy(
  { store, key }: StoredObject,
  { size, sha256 }: KnownBytes,
  signal: AbortSignal,
): Promise<Buffer> {
  const body = await atMirror(signal, () => store.get(key, { signal }));
  if (!body) throw new CopyFault('copy-missing');
  if (body.length !== size) {
    body.stream.destroy();
    throw new CopyFault('copy-damaged');
  }
  const hash = createHash('sha256');
  await atMirror(signal, async () => {
    for await (const chunk of body.stream) hash.update(chunk as Buffer);
  });
  const digest = hash.digest();
  if (sha256 && !digest.equals(sha256)) throw new CopyFault('copy-damaged');
  return digest;
}

async function copyWhole(
  from: StoredObject,
  to: StoredObject,
  { size, sha256 }: KnownBytes,
  attributes: ObjectHead,
  { buffers, signal }: CopyOptions,
): Promise<Buffer> {
  const buffer = await buffers.acquire(Math.max(1, size), MEMORY_WAIT, signal);
  try {
    const body = buffer.memory.subarray(0, size);
    const all = size === 0 ? undefined : { first: 0, last: size - 1 };
    if (all) await atSource(signal, async () => fill(body, await open(from, all, signal)));
    const digest = createHash('sha256').update(body).digest();
    if (sha256 && !digest.equals(sha256)) throw new CopyFault('source-damaged');
    await atMirror(signal, () => to.store.put(to.key, body, attributesOf(attributes), { signal, sha256: digest }));
    return digest;
  } finally {
    buffer.release();
  }
}

async function fill(memory: Buffer, source: Readable): Promise<void> {
  let position = 0;
  for await (const chunk of source as AsyncIterable<Buffer>) position += chunk.copy(memory, position);
}

async function open({ store, key }: StoredObject, range: ByteRange, signal: AbortSignal): Promise<Readable> {
  const body = await store.get(key, { signal, range });
  if (!body) throw new CopyFault('source-missing');
  return body.stream;
}

async function copyStream(
  from: StoredObject,
  to: StoredObject,
  { size, sha256 }: KnownBytes,
  attributes: ObjectHead,
  { buffers, signal, pace }: CopyOptions,
): Promise<Buffer> {
  const source = await atSource(signal, () => open(from, { first: 0, last: size - 1 }, signal));
  let broken: { by: unknown } | undefined;
  source.once('error', (error) => {
    broken ??= { by: error };
  });
  try {
    const stream = () => (pace ? pipeline(source, paced(pace), () => {}) : source);
    const written = await to.store.putStream(to.key, stream, attributesOf(attributes), {
      ...{ buffers, signal, size },
      wait: MEMORY_WAIT,
      ...(sha256 && { sha256 }),
    });
    return written.sha256;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof ContentMismatch) throw new CopyFault('source-damaged', { cause: error });
    if (broken?.by === error) throw new CopyFault('source-unavailable', { cause: error });
    throw toFault(error, 'mirror-unavailable');
  } finally {
    source.destroy();
  }
}

function paced(pace: (bytes: number) => Promise<void>): Transform {
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) =>
      void pace(chunk.length).then(
        () => done(null, chunk),
        (error) => done(error),
      ),
  });
}

function attributesOf({ contentType, contentDisposition, cacheControl, metadata }: ObjectHead) {
  return { contentType, contentDisposition, cacheControl, metadata };
}

const atMirror = <Result>(signal: AbortSignal, work: () => Promise<Result>) => at('mirror-unavailable', signal, work);
const atSource = <Result>(signal: AbortSignal, work: () => Promise<Result>) => at('source-unavailable', signal, work);

async function at<Result>(unavailable: CopyReason, signal: AbortSignal, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    signal.throwIfAborted();
    throw toFault(error, unavailable);
  }
}

function toFault(error: unknown, unavailable: CopyReason): CopyFault {
  if (error instanceof CopyFault) return error;
  if (!(error instanceof ObjectStoreUnavailable)) return new CopyFault('failed', { cause: error });
  if (unavailable !== 'mirror-unavailable') return new CopyFault(unavailable, { cause: error });
  if (isFull(error)) return new CopyFault('mirror-full', { cause: error });
  return new CopyFault(refusalIn(error) ? 'mirror-refused' : unavailable, { cause: error });
}

/** How disks (errno) and S3 servers (error codes of Ceph, MinIO, SeaweedFS; HTTP 507) say that they have no room. */
const noRoom = new Set([
  'ENOSPC',
  'EDQUOT',
  'QuotaExceeded',
  'XMinioStorageFull',
  'InsufficientStorage',
  'QuotaExceededException',
]);

function isFull(error: unknown): boolean {
  for (let each = error; each instanceof Error; each = each.cause)
    if (noRoom.has(each.name) || ('code' in each && typeof each.code === 'string' && noRoom.has(each.code)))
      return true;
  return false;
}
