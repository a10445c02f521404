/**
 * Compares the object store with the records, both ways, and mends what may be mended.
 *
 *   - objects without a record, older than the grace time: deleted. Two passes: the first lists everything and counts; the
 *     second looks up each again, record and object, right before it is deleted. When a run would delete more than
 *     1 % of the objects or 1,000, it deletes nothing and raises an alarm: more likely the database is the wrong one.
 *   - records without their object: looked up again, marked `lost`, and an alarm; never deleted. A lost asset whose bytes
 *     are back becomes `ready` again.
 *   - open multipart uploads without an upload in progress, older than the grace time: aborted
 *   - deletions that stand still: sent again
 *   - derivatives that stand still or belong to nobody: discarded; those without their object: made again
 *   - quotas that are not the sum of their records: recomputed under the lock of their row, while uploads run
 *   - statistics that are not: what is missing is added, while uploads run
 *
 * Only keys made like ours are looked at; whatever else is in the bucket is counted and left alone, but for what trials of the
 * store have left behind. One run at a time.
 */
import { NIL, v7 as uuidv7 } from 'uuid';
import { systemActor } from '../database/audit.ts';
import type { DatabaseHandle } from '../database/client.ts';
import { exclusively } from '../database/exclusively.ts';
import type { DerivativesRepository } from '../processing/derivatives.ts';
import { assetIdOf } from '../storage/object-key.ts';
import { type ListedObject, type ObjectStore, ObjectStoreUnavailable } from '../storage/object-store.ts';
import { objectMatches } from '../storage/verify.ts';
import { type ProbedStore, removeProbes } from './probes.ts';
import type { ReconciliationRepository, StoredRecord } from './repository.ts';

const LOCK = 7_083_201_991;
const BATCH = 500;
/** Up to so many deletions are never too many: in a small bucket, one object is more than 1 %. */
const ALWAYS_ALLOWED = 10;
const MAX_DELETED = 1000;
const SHARE_DELETED = 0.01;

export interface ReconcilerOptions {
  database: DatabaseHandle;
  records: ReconciliationRepository;
  derivatives: DerivativesRepository;
  /** Has the derivatives of an asset made again. */
  remake: (assetId: string) => Promise<unknown>;
  store: ObjectStore;
  keyPrefix: string;
  /** Other stores, in which nothing but trials is looked for. */
  others: readonly ProbedStore[];
  /** Milliseconds within which what looks wrong may be on its way to be right. */
  grace: number;
  /** Told of everything that somebody should look at. */
  onAlarm: (message: string, detail: object) => void;
}

export interface ReconcileRequest {
  dryRun?: boolean;
  /** Objects that may be deleted, instead of the rule above. */
  mostDeleted?: number;
  signal?: AbortSignal;
}

/** What was found; what was done about it, unless the run was dry or stopped. */
export interface ReconcileReport {
  objects: number;
  bytes: number;
  /** Objects whose keys are not made like ours. */
  foreignObjects: number;
  unaccountedObjects: number;
  unaccountedBytes: number;
  deletedObjects: number;
  /** Newly found to be without their bytes, and all that are. */
  newlyLostAssets: number;
  lostAssets: number;
  foundAssets: number;
  openUploads: number;
  resumedDeletions: number;
  /** Derivatives that stood still, or whose asset is not there. */
  discardedDerivatives: number;
  /** Without their object; they are made again. */
  lostDerivatives: number;
  driftedQuotas: number;
  quotaDriftBytes: number;
  driftedStatistics: number;
}

/** `stopped`: too much would have been deleted or marked lost, so nothing was. `busy`: another run is under way. */
export type ReconcileOutcome = 'done' | 'stopped' | 'busy';

export async function reconcile(
  options: ReconcilerOptions,
  request: ReconcileRequest = {},
): Promise<{ outcome: ReconcileOutcome; report: ReconcileReport }> {
  const run = new Run(options, request);
  const result = await exclusively(options.database.pool, LOCK, (signal) => run.execute(signal));
  return result === 'busy' ? { outcome: 'busy', report: run.report } : result;
}

class Run {
  readonly report: ReconcileReport = {
    objects: 0,
    bytes: 0,
    foreignObjects: 0,
    unaccountedObjects: 0,
    unaccountedBytes: 0,
    deletedObjects: 0,
    newlyLostAssets: 0,
    lostAssets: 0,
    foundAssets: 0,
    openUploads: 0,
    resumedDeletions: 0,
    discardedDerivatives: 0,
    lostDerivatives: 0,
    driftedQuotas: 0,
    quotaDriftBytes: 0,
    driftedStatistics: 0,
  };
  readonly #options: ReconcilerOptions;
  readonly #request: ReconcileRequest;
  readonly #id = uuidv7();
  readonly #startedAt = new Date();
  readonly #cutoff: Date;
  readonly #actor = systemActor('reconciler', this.#id);
  #signal = new AbortController().signal;
  #stopped = false;

  constructor(options: ReconcilerOptions, request: ReconcileRequest) {
    this.#options = options;
    this.#request = request;
    this.#cutoff = new Date(this.#startedAt.getTime() - options.grace);
  }

  async execute(lockLost: AbortSignal): Promise<{ outcome: ReconcileOutcome; report: ReconcileReport }> {
    const { records } = this.#options;
    this.#signal = this.#request.signal ? AbortSignal.any([this.#request.signal, lockLost]) : lockLost;
    await records.begin(this.#id, this.#dry);
    try {
      await this.#list();
      await this.#deleteUnaccounted();
      await this.#markLost();
      await this.#markFound();
      await this.#abortUploads();
      await this.#removeProbes();
      this.report.resumedDeletions = await records.resumeDeletions(this.#cutoff, this.#dry);
      await this.#tendDerivatives();
      await this.#correctQuotas();
      await this.#correctStatistics();
      this.report.lostAssets = await records.countLost();
    } catch (error) {
      await records.end(this.#id, 'failed', this.report).catch(() => {});
      throw error;
    }
    const outcome = this.#stopped ? 'stopped' : 'done';
    await records.end(this.#id, outcome, this.report);
    return { outcome, report: this.report };
  }

  get #dry(): boolean {
    return this.#request.dryRun ?? false;
  }

  /** The first pass: everything there is, written down beside the records. */
  async #list(): Promise<void> {
    const { store, records, keyPrefix } = this.#options;
    for await (const page of store.list(keyPrefix, { signal: this.#signal })) {
      this.#signal.throwIfAborted();
      const ours = page.flatMap((object) => {
        const assetId = assetIdOf(keyPrefix, object.key);
        return assetId === undefined ? [] : [{ ...object, assetId }];
      });
      this.report.objects += ours.length;
      this.report.foreignObjects += page.length - ours.length;
      for (const { size } of ours) this.report.bytes += size;
      await records.note(this.#id, ours);
    }
    await records.analyze();
  }

  async #deleteUnaccounted(): Promise<void> {
    const { records, store } = this.#options;
    const { objects, bytes, accounted } = await records.countUnaccounted(this.#id, this.#cutoff);
    this.report.unaccountedObjects = objects;
    this.report.unaccountedBytes = bytes;
    if (objects === 0) return;
    const found = await this.#confirmUnaccounted();
    if (found === 'too-many') {
      this.#stop('objects without a record', { unaccounted: objects, accounted });
      return;
    }
    this.report.unaccountedObjects = found.length;
    this.report.unaccountedBytes = found.reduce((sum, { size }) => sum + size, 0);
    if (found.length === 0) return;
    if (accounted === 0 && this.#request.mostDeleted === undefined) {
      this.#stop('objects without a record', { unaccounted: found.length, accounted });
      return;
    }
    if (this.#dry) return;
    for (const object of found) {
      this.#signal.throwIfAborted();
      if (!(await this.#isStillUnaccounted(object))) continue;
      await store.delete(object.key, { signal: this.#signal });
      this.report.deletedObjects += 1;
    }
  }

  /** What was deleted in the ordinary way since it was listed is no finding. */
  async #confirmUnaccounted(): Promise<ListedObject[] | 'too-many'> {
    const { records } = this.#options;
    const found: ListedObject[] = [];
    for (let after = '', batch = [] as ListedObject[]; ; after = batch.at(-1)?.key ?? after) {
      batch = await records.unaccounted(this.#id, this.#cutoff, after, BATCH);
      for (const object of batch) {
        this.#signal.throwIfAborted();
        if (await this.#isStillUnaccounted(object)) found.push(object);
        if (this.#isTooMuch(found.length)) return 'too-many';
      }
      if (batch.length < BATCH) return found;
    }
  }

  /**
   * Looked up again, the record first: a deletion ends with it, so what is there without one was not being deleted. An
   * object of the same key can only have become newer, and then it is not old enough any more.
   */
  async #isStillUnaccounted({ key }: ListedObject): Promise<boolean> {
    const { store, records, keyPrefix } = this.#options;
    const id = assetIdOf(keyPrefix, key);
    if (id === undefined || (await records.hasRecord(id, key))) return false;
    const head = await store.head(key, { signal: this.#signal });
    return head !== undefined && head.lastModified < this.#cutoff;
  }

  async #markLost(): Promise<void> {
    const { records, store } = this.#options;
    const lost: StoredRecord[] = [];
    for (let after: string = NIL, batch = [] as StoredRecord[]; ; after = batch.at(-1)?.id ?? after) {
      batch = await records.missing(this.#id, this.#startedAt, after, BATCH);
      for (const record of batch) {
        this.#signal.throwIfAborted();
        const head = await store.head(record.objectKey, { signal: this.#signal });
        if (head?.size !== record.size) lost.push(record);
        if (lost.length > MAX_DELETED) break;
      }
      if (batch.length < BATCH || lost.length > MAX_DELETED) break;
    }
    this.report.newlyLostAssets = lost.length;
    if (lost.length === 0) return;
    if (this.#isTooMuch(lost.length)) {
      this.#stop('assets without their object', { lost: lost.length });
      return;
    }
    for (const record of lost) {
      this.#options.onAlarm('the bytes of an asset are missing', { assetId: record.id });
      if (!this.#dry) await records.mark(record, 'ready', 'lost', this.#actor);
    }
  }

  async #markFound(): Promise<void> {
    const { records, store } = this.#options;
    for (const record of await records.reappeared(this.#id)) {
      if (!(await objectMatches(store, record.objectKey, record, { signal: this.#signal }))) continue;
      this.report.foundAssets += 1;
      if (!this.#dry) await records.mark(record, 'lost', 'ready', this.#actor);
    }
  }

  async #abortUploads(): Promise<void> {
    const { store, records, keyPrefix } = this.#options;
    for await (const page of store.allMultipartUploads(keyPrefix, { signal: this.#signal })) {
      const old = page.flatMap((upload) => {
        const assetId = assetIdOf(keyPrefix, upload.key);
        return assetId !== undefined && upload.initiated < this.#cutoff ? [{ ...upload, assetId }] : [];
      });
      const live = await records.uploading(old.map(({ assetId }) => assetId));
      for (const { key, uploadId, assetId } of old) {
        this.#signal.throwIfAborted();
        if (live.has(assetId)) continue;
        this.report.openUploads += 1;
        if (!this.#dry) await store.abortMultipartUpload(key, uploadId, { signal: this.#signal });
      }
    }
  }

  /** In mirrors and the archive, too: one that does not answer is not what this run is about. */
  async #removeProbes(): Promise<void> {
    const { store, keyPrefix, others } = this.#options;
    if (this.#dry) return;
    await removeProbes({ store, prefix: keyPrefix }, this.#cutoff, { signal: this.#signal });
    for (const other of others)
      await removeProbes(other, this.#cutoff, { signal: this.#signal }).catch((error) => {
        if (!(error instanceof ObjectStoreUnavailable)) throw error;
      });
  }

  /** What stands still, or belongs to nobody, is discarded; what has lost its object is made again. */
  async #tendDerivatives(): Promise<void> {
    const { records, derivatives, remake, store } = this.#options;
    const ofNobody = await records.derivativesOfNobody(this.#cutoff);
    if (!this.#dry) await derivatives.discard(ofNobody);
    this.report.discardedDerivatives = ofNobody.length + (await derivatives.resume(this.#cutoff, this.#dry));
    for (const { id, assetId, objectKey, size, kind } of await records.missingDerivatives(this.#id, this.#startedAt)) {
      this.#signal.throwIfAborted();
      const head = await store.head(objectKey, { signal: this.#signal });
      if (head?.size === size) continue;
      this.report.lostDerivatives += 1;
      if (this.#dry) continue;
      await derivatives.discard([id]);
      if (kind === 'derivative') await remake(assetId);
    }
  }

  async #correctQuotas(): Promise<void> {
    const { records } = this.#options;
    for (const { account, bytes } of await records.drifted()) {
      this.report.driftedQuotas += 1;
      this.report.quotaDriftBytes += bytes;
      this.#options.onAlarm('a quota was not the sum of its records', { bytes });
      if (!this.#dry) await records.correctQuota(account, this.#actor);
    }
  }

  async #correctStatistics(): Promise<void> {
    const { records } = this.#options;
    const { counters, bytes } = await records.reconcileStatistics(this.#dry ? undefined : this.#actor);
    this.report.driftedStatistics = counters;
    if (counters > 0) this.#options.onAlarm('statistics were not the sum of their records', { counters, bytes });
  }

  #isTooMuch(count: number): boolean {
    const rule = Math.min(MAX_DELETED, Math.max(ALWAYS_ALLOWED, Math.floor(this.report.objects * SHARE_DELETED)));
    return count > (this.#request.mostDeleted ?? rule);
  }

  #stop(what: string, detail: object): void {
    this.#stopped = true;
    this.#options.onAlarm(`reconciliation stopped: too many ${what}`, detail);
  }
}
