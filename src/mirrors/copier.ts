/**
 * Keeps one mirror up with the first store: takes the copies that are due from the table, makes so many at once, and writes down
 * what has come of them. Each mirror has one of its own in every process that runs jobs, with memory, connections and pauses of
 * its own; so one that stands still, is dead or full holds up nothing but itself.
 *
 * A row is claimed for the time of a lease, which is renewed while it is worked on; whoever dies leaves it to the next one. When a
 * renewal says that a copy is not wanted any more, it is given up: what was stored by then is removed by the row, which stays
 * until that is done. Nothing is undone on doubt, because a key has the same bytes whoever writes it.
 *
 * An object that cannot be copied is tried again after pauses that grow. When it is the mirror that does not work, all of it
 * pauses, and then one object tries whether it works again; the others wait without being tried.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { v4 as uuidv4 } from 'uuid';
import { type Backoff, pauseAfter } from '../backoff.ts';
import { MIN_PART } from '../config.ts';
import { eraseObjects } from '../storage/erase.ts';
import { keyIn, type Mirror } from '../storage/mirror.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { PartBuffers } from '../storage/part-buffers.ts';
import { Breaker } from './breaker.ts';
import { CopyFault, copyObject, faultsOfMirror, MAX_WHOLE } from './copy-object.ts';
import type { ClaimedCopy, CopiesRepository, CopyOutcome, EndedCopy } from './repository.ts';
import type { Yielding } from './yielding.ts';

/** Copies under way at once, and of these such as are streamed: one takes most of the memory. */
const AT_ONCE = 8;
const STREAMED_AT_ONCE = 1;
/** Claimed at once, so that a statement serves many. */
const CLAIMED = 64;
/** Removed by one request, as large as requests for deletions are; see storage/s3/delete-objects.ts. */
const REMOVED = 250;
/** Memory of the copies of a mirror: a stream takes four parts, and the rest is for small objects beside it. */
const MEMORY = 6 * MIN_PART;
/** Seconds, of a claim; and milliseconds between renewals. */
const LEASE = 60;
const RENEWAL = 15_000;
/** Outcomes are written together, so many milliseconds after the first. */
const WRITING = 200;
/** Milliseconds between looks while there is nothing to do. */
const POLL = 500;
/** Of an object, in milliseconds: from seconds to an hour. */
const objectBackoff: Backoff = { first: 2000, max: 3_600_000 };
/** Milliseconds that may pass when the service stops. */
const CLOSING_TIME = 5000;

export interface CopierOptions {
  mirror: Mirror;
  /** What is copied. */
  source: ObjectStore;
  copies: CopiesRepository;
  yielding: Yielding;
  onError: (message: string, error: unknown) => void;
  onCopied?: (bytes: number) => void;
  onFailed?: (reason: string) => void;
}

/** The copy is not wanted any more, or somebody else's. */
class CopyGivenUp extends Error {
  override name = 'CopyGivenUp';
}

interface Running {
  copy: ClaimedCopy;
  stop: AbortController;
}

export class Copier {
  readonly #options: CopierOptions;
  readonly #buffers = new PartBuffers(MEMORY, MIN_PART);
  readonly #stopping = new AbortController();
  /** Claimed, and not begun. */
  #queue: ClaimedCopy[] = [];
  readonly #running = new Map<string, Running>();
  #ended: EndedCopy[] = [];
  #writing: Promise<void> | undefined;
  readonly #copying = new Breaker();
  /** A mirror that is full lets go of what it has. */
  readonly #removing = new Breaker();
  #wake: () => void = () => {};
  #working: Promise<void> | undefined;
  #renewing: NodeJS.Timeout | undefined;

  constructor(options: CopierOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.mirror.name;
  }

  /** Whether it waits because its mirror does not work. */
  get isPaused(): boolean {
    return this.#copying.isOpen;
  }

  start(): void {
    this.#renewing = setInterval(() => void this.#renew(), RENEWAL).unref();
    this.#working = Promise.all([this.#copyOn(), this.#removeOn()]).then(() => {});
  }

  /** What is under way is given up, and handed back. */
  async close(): Promise<void> {
    this.#stopping.abort(new CopyGivenUp('the service is stopping'));
    clearInterval(this.#renewing);
    for (const { stop } of this.#running.values()) stop.abort(this.#stopping.signal.reason);
    this.#wake();
    await Promise.race([this.#working, delay(CLOSING_TIME, undefined, { ref: false })]);
    for (const copy of this.#queue) this.#ended.push({ copy, outcome: { kind: 'given-up', begun: false } });
    this.#queue = [];
    while (this.#ended.length > 0) await this.#write();
  }

  async #copyOn(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      if (this.#copying.pause > 0) await this.#idle(this.#copying.pause);
      if (!this.#queue.some((copy) => this.#mayBegin(copy))) await this.#claim();
      if (!this.#begin()) await this.#idle(POLL);
    }
    await this.#allEnded();
  }

  /** Takes what is due; of a mirror that does not work, one that tries. */
  async #claim(): Promise<void> {
    const isTrying = this.isPaused;
    const limit = isTrying ? 1 : CLAIMED - this.#queue.length;
    if (this.#stopping.signal.aborted || this.#running.size >= (isTrying ? 1 : AT_ONCE) || limit === 0) return;
    const claimed = await this.#quietly('copies cannot be claimed', () =>
      this.#options.copies.claim(this.name, uuidv4(), LEASE, limit),
    );
    this.#queue.push(...(claimed ?? []));
  }

  /** Begins as many as there are places. @returns false when there is nothing more to begin now */
  #begin(): boolean {
    let began = false;
    while (this.#running.size < AT_ONCE) {
      const index = this.#queue.findIndex((copy) => this.#mayBegin(copy));
      const [copy] = index < 0 ? [] : this.#queue.splice(index, 1);
      if (!copy) break;
      void this.#run(copy);
      began = true;
    }
    return began && this.#running.size < AT_ONCE;
  }

  #mayBegin({ size, objectKey }: ClaimedCopy): boolean {
    if (this.#running.has(objectKey)) return false;
    if (size <= MAX_WHOLE) return true;
    const streamed = [...this.#running.values()].filter(({ copy }) => copy.size > MAX_WHOLE);
    return streamed.length < STREAMED_AT_ONCE;
  }

  async #run(copy: ClaimedCopy): Promise<void> {
    const running: Running = { copy, stop: new AbortController() };
    this.#running.set(copy.objectKey, running);
    const outcome = await this.#copy(running);
    this.#running.delete(copy.objectKey);
    this.#ended.push({ copy, outcome });
    this.#writing ??= this.#writeSoon();
    this.#wake();
  }

  async #copy({ copy, stop }: Running): Promise<CopyOutcome> {
    const { mirror, source, yielding } = this.#options;
    const { objectKey, size, sha256, attempts } = copy;
    let begun = false;
    try {
      await yielding.begin(copy.behindSince, stop.signal);
      begun = true;
      const key = keyIn(mirror, objectKey);
      // Whoever has tried before may have left parts.
      if (attempts > 1 && size > MAX_WHOLE) await this.#dropParts(key, stop.signal);
      const from = { store: source, key: objectKey };
      const pace = (bytes: number) => yielding.pass(copy.behindSince, bytes, stop.signal);
      const options = { buffers: this.#buffers, signal: stop.signal, pace };
      const digest = await copyObject(from, { store: mirror.store, key }, { size, sha256 }, options);
      this.#worked();
      this.#options.onCopied?.(size);
      return { kind: 'copied', sha256: digest };
    } catch (error) {
      if (stop.signal.aborted) return { kind: 'given-up', begun };
      return this.#failed(copy, error);
    }
  }

  #failed({ attempts, assetId }: ClaimedCopy, error: unknown): CopyOutcome {
    const reason = error instanceof CopyFault ? error.reason : 'failed';
    const { name } = this;
    this.#options.onFailed?.(reason);
    this.#options.onError(`objects could not be copied to the mirror ${name}: ${reason}`, error);
    if (faultsOfMirror.includes(reason)) this.#stumbled();
    else if (reason === 'source-damaged')
      this.#options.onError(`an object is not what the record of the asset ${assetId} says, and was not copied`, error);
    return { kind: 'failed', reason, pause: pauseAfter(attempts, objectBackoff) / 1000 };
  }

  async #dropParts(key: string, signal: AbortSignal): Promise<void> {
    const { store } = this.#options.mirror;
    try {
      for (const uploadId of await store.listMultipartUploads(key, { signal }))
        await store.abortMultipartUpload(key, uploadId, { signal });
    } catch (error) {
      signal.throwIfAborted();
      throw new CopyFault('mirror-unavailable', { cause: error });
    }
  }

  /** The mirror works: what has failed because of it is tried at once. */
  #worked(): void {
    if (!this.#copying.worked()) return;
    void this.#quietly('copies that had failed cannot be tried again', () => this.#options.copies.hurry(this.name));
    this.#wake();
  }

  /** The mirror does not work: what was claimed is handed back. */
  #stumbled(): void {
    if (!this.#copying.failed()) return;
    for (const copy of this.#queue) this.#ended.push({ copy, outcome: { kind: 'given-up', begun: false } });
    this.#queue = [];
    this.#writing ??= this.#writeSoon();
  }

  /** Until somebody has something to do, or the time is over. */
  async #idle(milliseconds: number): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      timer.unref();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #allEnded(): Promise<void> {
    while (this.#running.size > 0) await delay(10);
    await this.#writing;
  }

  async #writeSoon(): Promise<void> {
    await delay(WRITING, undefined, { signal: this.#stopping.signal }).catch(() => {});
    await this.#write();
    this.#writing = undefined;
    if (this.#ended.length > 0) this.#writing = this.#writeSoon();
  }

  /** What cannot be written is done again when its lease is over. */
  async #write(): Promise<void> {
    const ended = this.#ended;
    this.#ended = [];
    if (ended.length === 0) return;
    const unknown = await this.#quietly('outcomes of copies cannot be written', () =>
      this.#options.copies.end(this.name, ended),
    );
    const stored = new Set(ended.filter(({ outcome }) => leavesSomething(outcome)).map(({ copy }) => copy.objectKey));
    const left = (unknown ?? []).filter((key) => stored.has(key));
    if (left.length > 0)
      await this.#quietly('copies that nobody wants any more cannot be removed', () => this.#erase(left));
  }

  /** @returns the keys that may be there still */
  async #erase(objectKeys: readonly string[], sizes?: ReadonlyMap<string, number>): Promise<ReadonlySet<string>> {
    const { mirror } = this.#options;
    const byKey = new Map(objectKeys.map((objectKey) => [keyIn(mirror, objectKey), objectKey]));
    const objects = [...byKey].map(([key, objectKey]) => ({
      key,
      isWhole: (sizes?.get(objectKey) ?? Number.POSITIVE_INFINITY) <= MAX_WHOLE,
    }));
    const faults = await eraseObjects(mirror.store, objects, { signal: this.#stopping.signal });
    return new Set([...faults.keys()].flatMap((key) => byKey.get(key) ?? []));
  }

  async #renew(): Promise<void> {
    const { copies } = this.#options;
    const held = [...this.#queue, ...Array.from(this.#running.values(), ({ copy }) => copy)];
    if (held.length === 0) return;
    const wanted = await this.#quietly('claims of copies cannot be renewed', () =>
      copies.renew(this.name, held, LEASE),
    );
    if (!wanted) return;
    for (const { objectKey } of held)
      if (!wanted.has(objectKey)) this.#running.get(objectKey)?.stop.abort(new CopyGivenUp('the copy is not wanted'));
  }

  /** Removes copies of what was deleted. */
  async #removeOn(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const removed = await this.#quietly('copies cannot be removed', () => this.#remove());
      const pause = removed === REMOVED ? 0 : POLL;
      await delay(pause, undefined, { signal: this.#stopping.signal, ref: false }).catch(() => {});
    }
  }

  /** @returns how many were removed */
  async #remove(): Promise<number> {
    const { copies } = this.#options;
    if (this.#removing.pause > 0) return 0;
    const leaving = await copies.claimLeaving(this.name, LEASE, this.#removing.isOpen ? 1 : REMOVED);
    if (leaving.length === 0) return 0;
    const keys = leaving.map(({ objectKey }) => objectKey);
    const sizes = new Map(leaving.map(({ objectKey, size }) => [objectKey, size]));
    const left = await this.#erase(keys, sizes).catch((error) => {
      this.#options.onError(`copies could not be removed from the mirror ${this.name}`, error);
      return new Set(keys);
    });
    const gone = keys.filter((key) => !left.has(key));
    if (gone.length > 0) await copies.forgetLeaving(this.name, gone);
    if (left.size > 0) {
      const tries = Math.max(...leaving.map(({ attempts }) => attempts));
      const pause = this.#stopping.signal.aborted ? 0 : pauseAfter(tries, objectBackoff) / 1000;
      await copies.putOffLeaving(this.name, [...left], pause);
    }
    if (gone.length === 0) this.#removing.failed();
    else if (this.#removing.worked()) await copies.hurryLeaving(this.name);
    return gone.length;
  }

  async #quietly<Result>(message: string, work: () => Promise<Result>): Promise<Result | undefined> {
    try {
      return await work();
    } catch (error) {
      this.#options.onError(message, error);
      return undefined;
    }
  }
}

function leavesSomething(outcome: CopyOutcome): boolean {
  return outcome.kind !== 'given-up' || outcome.begun;
}
