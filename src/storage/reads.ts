/**
 * Where bytes that are handed out are read: from the first store, and while that does not answer, from a mirror. Nothing else is
 * read from mirrors: whoever deletes, verifies or reconciles looks at the first store alone.
 *
 * The first store is waited for `wait` milliseconds, once. From then on it counts as away, and nobody waits for it, until it
 * answers a probe; each second there is one.
 */
import { keyIn, type Mirror } from './mirror.ts';
import {
  type ByteRange,
  type CallOptions,
  type ObjectBody,
  type ObjectHead,
  type ObjectStore,
  ObjectStoreUnavailable,
} from './object-store.ts';

/** Milliseconds between probes of a store that is away. */
const PROBE_EVERY = 1000;
/** Milliseconds for which an answer of the first store stands, for links: nothing of it is asked for when one is signed. */
const KNOWN_FOR = 5000;

/** The header field that tells that it was not the first store. */
const SERVED_BY = 'stowage-served-by';

export interface Served {
  /** The mirror that it comes from; absent where it is the first store. */
  servedBy?: string | undefined;
}

/** What the header of an answer says of it. */
export function servedByOf({ servedBy }: Served): Record<string, string> {
  return servedBy === undefined ? {} : { [SERVED_BY]: `mirror ${servedBy}` };
}

/** Who signs a link for an object. */
export interface Signer extends Served {
  store: ObjectStore;
  key: string;
}

export interface ReadsOptions {
  store: ObjectStore;
  /** Those that may be read; none of them when it is switched off. */
  mirrors: readonly Mirror[];
  /** Milliseconds. */
  wait: number;
  onError: (message: string, error: unknown) => void;
}

export class Reads {
  readonly #options: ReadsOptions;
  #isAway = false;
  /** When the first store has last told something, be it that it works or that it is away. */
  #knownAt = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;
  #probing: NodeJS.Timeout | undefined;

  constructor(options: ReadsOptions) {
    this.#options = options;
  }

  /** Whether mirrors are read at the moment. */
  get isAway(): boolean {
    return this.#isAway;
  }

  /** As `ObjectStore.get`. @throws ObjectStoreUnavailable when neither the first store nor a mirror has given it */
  get(key: string, options: CallOptions & { range?: ByteRange }): Promise<(ObjectBody & Served) | undefined> {
    return this.#read(options, (store, signal) => store.get(this.#at(store, key), { ...options, signal }));
  }

  /** As `ObjectStore.head`. */
  head(key: string, options: CallOptions): Promise<(ObjectHead & Served) | undefined> {
    return this.#read(options, (store, signal) => store.head(this.#at(store, key), { signal }));
  }

  /** Resolves when something can be read. */
  async check(options: CallOptions): Promise<void> {
    const { store, mirrors } = this.#options;
    if (mirrors.length === 0) return store.check(options);
    await this.#learn();
    if (this.#isAway)
      await Promise.any(mirrors.map((mirror) => this.#inTime(options, (signal) => mirror.store.check({ signal }))));
  }

  /** Who is to sign a link: a mirror that has the object, while the first store is away. */
  async signerOf(key: string): Promise<Signer> {
    const { store, mirrors } = this.#options;
    // Links to a disk lead to the service, which reads where it can; to the disk of a mirror none lead.
    const signing = store.kind === 's3' ? mirrors.filter((mirror) => mirror.store.kind === 's3') : [];
    if (signing.length === 0) return { store, key };
    if (performance.now() - this.#knownAt > KNOWN_FOR) await this.#learn();
    if (this.#isAway)
      for (const mirror of signing) {
        const copy = keyIn(mirror, key);
        const head = await this.#inTime({}, (signal) => mirror.store.head(copy, { signal })).catch(() => undefined);
        if (head) return { store: mirror.store, key: copy, servedBy: mirror.name };
      }
    return { store, key };
  }

  close(): void {
    clearInterval(this.#probing);
  }

  /** Where the object lies in one of the stores. */
  #at(store: ObjectStore, key: string): string {
    const mirror = this.#options.mirrors.find((each) => each.store === store);
    return mirror ? keyIn(mirror, key) : key;
  }

  async #read<Result extends object>(
    options: CallOptions,
    read: (store: ObjectStore, signal: AbortSignal) => Promise<Result | undefined>,
  ): Promise<(Result & Served) | undefined> {
    const { store, mirrors } = this.#options;
    const { signal = new AbortController().signal } = options;
    if (mirrors.length === 0) return read(store, signal);
    let fault: unknown = new ObjectStoreUnavailable('the first store is away');
    if (!this.#isAway) {
      try {
        const found = await this.#inTime(options, (own) => read(store, own));
        this.#knownAt = performance.now();
        return found;
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof ObjectStoreUnavailable)) throw error;
        this.#leave(error);
        fault = error;
      }
    }
    for (const mirror of mirrors) {
      try {
        const found = await this.#inTime(options, (own) => read(mirror.store, own));
        if (found) return { ...found, servedBy: mirror.name };
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof ObjectStoreUnavailable)) throw error;
      }
    }
    throw fault;
  }

  /** One answer is waited for so long; what it opens may take longer. */
  async #inTime<Result>({ signal }: CallOptions, work: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
    const late = new AbortController();
    const timer = setTimeout(
      () => late.abort(new ObjectStoreUnavailable('the store did not answer in time')),
      this.#options.wait,
    );
    try {
      return await work(signal ? AbortSignal.any([signal, late.signal]) : late.signal);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Asks the first store, once for all who want to know. */
  #learn(): Promise<void> {
    this.#asking ??= this.#inTime({}, (signal) => this.#options.store.check({ signal }))
      .then(
        () => this.#return(),
        (error) => this.#leave(error),
      )
      .finally(() => {
        this.#asking = undefined;
      });
    return this.#asking;
  }

  #return(): void {
    this.#knownAt = performance.now();
    this.#isAway = false;
    clearInterval(this.#probing);
    this.#probing = undefined;
  }

  #leave(error: unknown): void {
    this.#knownAt = performance.now();
    if (!this.#isAway) this.#options.onError('the object store does not answer: files are served by mirrors', error);
    this.#isAway = true;
    this.#probing ??= setInterval(() => void this.#learn(), PROBE_EVERY).unref();
  }
}
