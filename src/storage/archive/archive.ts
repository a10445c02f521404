/**
 * The archive: where the bytes of assets go that are seldom wanted. It is another storage class of the same bucket, another
 * bucket, or a directory. An object goes there, and comes back, by a copy under a key of its own, in which one can see where
 * it lies: so whoever has the key knows which store to ask, and nothing is ever overwritten.
 */
import { createHash } from 'node:crypto';
import { keyBeside } from '../object-key.ts';
import {
  type CallOptions,
  ContentMismatch,
  type ObjectStore,
  ObjectStoreUnavailable,
  type OfflineObjects,
  type Readiness,
  type RestoreSpeed,
} from '../object-store.ts';
import type { PartBuffers } from '../part-buffers.ts';

/** Milliseconds to wait for memory: moves are few at a time, so there is some soon. */
const MEMORY_WAIT = 10 * 60_000;
/** Of keys in another store. */
const APART = 'archive-';
/** Of keys in another class of the same bucket. */
const COLD = 'cold-';

export interface ArchiveOptions {
  first: ObjectStore;
  store: ObjectStore & Partial<OfflineObjects>;
  /** It is another store; else it writes to the same bucket, in another class. */
  isApart: boolean;
  /** Its objects cannot be read before they were asked for. */
  isOffline: boolean;
}

export interface MovedBytes {
  size: number;
  /** Where somebody has read them. */
  sha256?: Buffer | undefined;
}

export interface MoveOptions extends CallOptions {
  buffers: PartBuffers;
}

/** The object that is to be moved is not there. */
export class SourceMissing extends Error {
  override name = 'SourceMissing';
}

/** Whether this is the key of an object in an archive that is a store of its own. */
export function isKeptApart(key: string): boolean {
  return key.startsWith(APART, key.lastIndexOf('/') + 1);
}

export class Archive {
  readonly #options: ArchiveOptions;

  constructor(options: ArchiveOptions) {
    this.#options = options;
  }

  /** What was brought back can be read where it lies, for some days; else it is copied to the first store. */
  get comesBackInPlace(): boolean {
    const { isApart, isOffline } = this.#options;
    return isOffline && !isApart;
  }

  /** A fresh key beside another. @param id a UUID */
  keyFor(key: string, id: string): string {
    return keyBeside(key, `${this.#options.isApart ? APART : COLD}${id}`);
  }

  /** @throws SourceMissing, ContentMismatch, ObjectStoreUnavailable; something may be left under the key `to` */
  put(from: string, to: string, bytes: MovedBytes, options: MoveOptions): Promise<Buffer | undefined> {
    const { first, store } = this.#options;
    return this.#copy({ store: first, key: from }, { store, key: to }, bytes, options);
  }

  /** The same back to the first store, once its object can be read. @returns the digest of the bytes, where they came by here */
  takeOut(from: string, to: string, bytes: MovedBytes, options: MoveOptions): Promise<Buffer | undefined> {
    const { first, store } = this.#options;
    return this.#copy({ store, key: from }, { store: first, key: to }, bytes, options);
  }

  /** Undefined when there is no such object. */
  readiness(key: string, options: CallOptions): Promise<Readiness | undefined> {
    return this.#readiness(this.#options.store, key, options);
  }

  /** @throws SpeedNotAvailable */
  async request(key: string, wish: { days: number; speed: RestoreSpeed }, options: CallOptions): Promise<void> {
    await this.#options.store.request?.(key, wish, options);
  }

  async #readiness(
    store: ObjectStore & Partial<OfflineObjects>,
    key: string,
    options: CallOptions,
  ): Promise<Readiness | undefined> {
    const found: Readiness | undefined = store.readiness
      ? await store.readiness(key, options)
      : await store.head(key, options).then((head) => head && { state: 'readable' as const, size: head.size });
    // Some servers do not tell that an object of this class must be asked for.
    if (found?.state !== 'readable' || found.until || store !== this.#options.store) return found;
    return this.#options.isOffline && store.request ? { ...found, state: 'offline' } : found;
  }

  async #copy(
    from: { store: ObjectStore; key: string },
    to: { store: ObjectStore; key: string },
    { size, sha256 }: MovedBytes,
    options: MoveOptions,
  ): Promise<Buffer | undefined> {
    const { signal } = options;
    const call = signal ? { signal } : {};
    const onServer = await to.store.copyFrom?.(from.store, from.key, to.key, { ...call, size });
    if (onServer === 'missing') throw new SourceMissing(`the object ${from.key} is not there`);
    if (onServer === 'copied') {
      await this.#compare(from, to, size, call);
      return undefined;
    }
    const written = await stream(from, to, { size, sha256 }, options);
    await this.#readBack(to, { size, sha256: written }, call);
    return written;
  }

  /** A server that copies has read the bytes itself; that it made the same of them is told by size and entity tag. */
  async #compare(
    from: { store: ObjectStore; key: string },
    to: { store: ObjectStore; key: string },
    size: number,
    options: CallOptions,
  ): Promise<void> {
    const source = await this.#readiness(from.store, from.key, options);
    const made = await this.#readiness(to.store, to.key, options);
    if (!made) throw new ObjectStoreUnavailable('what the server has copied is not there');
    if (made.size !== size) throw new ContentMismatch(`${made.size} of ${size} bytes were copied`);
    const tags = [source?.etag, made.etag].map(digestOf);
    if (tags.every((tag) => tag !== undefined) && tags[0] !== tags[1])
      throw new ContentMismatch('the server has copied other bytes');
  }

  /** What nothing else will have soon is read once more, where it can be. */
  async #readBack(
    { store, key }: { store: ObjectStore; key: string },
    { size, sha256 }: { size: number; sha256: Buffer },
    options: CallOptions,
  ): Promise<void> {
    const made = await this.#readiness(store, key, options);
    if (made?.size !== size) throw new ContentMismatch(`the copy has ${made?.size ?? 'no'} bytes instead of ${size}`);
    if (made.state !== 'readable') return;
    const body = await store.get(key, options);
    const hash = createHash('sha256');
    for await (const chunk of body?.stream ?? []) hash.update(chunk as Buffer);
    if (!hash.digest().equals(sha256)) throw new ContentMismatch('the copy has other bytes');
  }
}

async function stream(
  from: { store: ObjectStore; key: string },
  to: { store: ObjectStore; key: string },
  { size, sha256 }: MovedBytes,
  { buffers, signal }: MoveOptions,
): Promise<Buffer> {
  const call = signal ? { signal } : {};
  const head = await from.store.head(from.key, call);
  if (!head) throw new SourceMissing(`the object ${from.key} is not there`);
  const body = await from.store.get(from.key, call);
  if (!body) throw new SourceMissing(`the object ${from.key} is not there`);
  const { contentType, contentDisposition, cacheControl, metadata } = head;
  const attributes = { contentType, contentDisposition, cacheControl, metadata };
  try {
    const written = await to.store.putStream(to.key, () => body.stream, attributes, {
      ...{ buffers, wait: MEMORY_WAIT, size, ...call },
      ...(sha256 && { sha256 }),
    });
    return written.sha256;
  } finally {
    body.stream.destroy();
  }
}

/** An entity tag that is a digest of the bytes (S3 API, Object: that of one request, not of parts); undefined for others. */
function digestOf(etag: string | undefined): string | undefined {
  return /^"?([0-9a-f]{32})"?$/.exec(etag ?? '')?.[1];
}
