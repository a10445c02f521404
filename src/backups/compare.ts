/**
 * What the object store has of what a backup names, and what it has beyond. An asset whose bytes are missing becomes `lost`,
 * and is told; nothing is deleted. Where not one object is found, the bucket is more likely the wrong one: then nothing is
 * changed either.
 */
import { type Actor, systemActor } from '../database/audit.ts';
import { withBulkConnection } from '../database/bulk.ts';
import type { ReconciliationRepository } from '../reconciliation/repository.ts';
import { inParallel } from '../storage/in-parallel.ts';
import { assetIdOf } from '../storage/object-key.ts';
import type { ListedObject, ObjectStore } from '../storage/object-store.ts';
import { objectMatches } from '../storage/verify.ts';
import { Comparison, MANIFEST_TABLE, type NamedObject } from './comparison.ts';
import type { OpenedBackup } from './opened-backup.ts';

const PAGE = 500;
/** Objects that are asked for, or read, at the same time. */
const AT_ONCE = 4;

export interface CompareOptions {
  /** Of the database, which lends its memory; see comparison.ts. */
  url: string;
  backup: OpenedBackup;
  store: ObjectStore;
  keyPrefix: string;
  records: ReconciliationRepository;
  /** Reads all bytes and compares their digests, where the backup knows them. Else the sizes are compared. */
  readsBytes: boolean;
  /** What is newer has come since. */
  startedAt: Date;
  /** Told of each; `unknown` of what only the store knows. */
  onFinding: (finding: Finding) => void;
}

export type Finding =
  | { kind: 'missing' | 'damaged'; object: NamedObject }
  | { kind: 'unknown'; object: ListedObject; assetId: string };

export interface ObjectReport {
  /** Objects that must be there. */
  expected: number;
  /** Not there, or with another size. */
  missing: number;
  /** There with other bytes. */
  damaged: number;
  /** Whose digest was compared. */
  verified: number;
  /** That are there and could not be read. */
  unread: number;
  /** Assets that are `lost` now. */
  lostAssets: number;
  /** Objects with keys like ours that the backup does not name: they are newer, or their deletion was under way. */
  unknown: number;
  unknownBytes: number;
  /** Objects with other keys. */
  foreign: number;
}

export interface CompareOutcome {
  report: ObjectReport;
  /** Not one object was found, so no asset was marked. */
  isOtherStore: boolean;
}

export async function compareObjects(options: CompareOptions): Promise<CompareOutcome> {
  const { url, backup, store, keyPrefix } = options;
  return withBulkConnection(url, async ({ executor, copyIn }) => {
    const comparison = new Comparison(executor);
    await comparison.begin();
    const { objects } = backup.document;
    await backup.rows(objects, (rows) => copyIn({ table: MANIFEST_TABLE, columns: objects.columns }, rows));
    const looking = new Looking(options, comparison);
    for await (const page of store.list(keyPrefix, {})) await looking.list(page);
    await comparison.index();
    return looking.compare();
  });
}

class Looking {
  readonly #options: CompareOptions;
  readonly #comparison: Comparison;
  readonly #actor: Actor;
  readonly #report: ObjectReport;

  constructor(options: CompareOptions, comparison: Comparison) {
    const { document } = options.backup;
    this.#options = options;
    this.#comparison = comparison;
    this.#actor = systemActor('restore', document.id);
    const found = { missing: 0, damaged: 0, verified: 0, unread: 0, lostAssets: 0, unknown: 0, unknownBytes: 0 };
    this.#report = { expected: document.objects.count, ...found, foreign: 0 };
  }

  async list(page: ListedObject[]): Promise<void> {
    const ours = page.filter(({ key }) => assetIdOf(this.#options.keyPrefix, key) !== undefined);
    this.#report.foreign += page.length - ours.length;
    await this.#comparison.note(ours);
  }

  async compare(): Promise<CompareOutcome> {
    const report = this.#report;
    const isOtherStore = report.expected > 0 && !(await this.#comparison.foundAny());
    if (isOtherStore) report.missing = report.expected;
    else {
      await this.#findMissing();
      if (this.#options.readsBytes) await this.#verify();
    }
    await this.#findUnknown();
    return { report, isOtherStore };
  }

  /** Each is asked for once more: a listing may miss what comes meanwhile. */
  async #findMissing(): Promise<void> {
    const { store } = this.#options;
    await eachOf(
      (after) => this.#comparison.missing(after, PAGE),
      async (object) => {
        const head = await store.head(object.key, {});
        if (head?.size === object.size) return;
        this.#report.missing += 1;
        await this.#lose({ kind: 'missing', object });
      },
    );
  }

  async #verify(): Promise<void> {
    const { store } = this.#options;
    await eachOf(
      (after) => this.#comparison.withDigest(after, PAGE),
      async (object) => {
        const head = await store.head(object.key, {});
        // What is missing was found before.
        if (head?.size !== object.size) return;
        const matches = await this.#read(object);
        if (matches === undefined) this.#report.unread += 1;
        else this.#report.verified += 1;
        if (matches !== false) return;
        this.#report.damaged += 1;
        await this.#lose({ kind: 'damaged', object });
      },
    );
  }

  /** Undefined where it cannot be read, such as one in an archive that gives nothing at once. */
  async #read({ key, size, sha256 }: NamedObject): Promise<boolean | undefined> {
    try {
      return await objectMatches(this.#options.store, key, { size, sha256: sha256 ?? undefined }, {});
    } catch {
      return undefined;
    }
  }

  async #lose(finding: Finding & { object: NamedObject }): Promise<void> {
    this.#options.onFinding(finding);
    const { key, kind, assetId } = finding.object;
    if (kind !== 'original') return;
    const record = { id: assetId, objectKey: key };
    if (await this.#options.records.mark(record, 'ready', 'lost', this.#actor)) this.#report.lostAssets += 1;
  }

  async #findUnknown(): Promise<void> {
    const { keyPrefix, startedAt, onFinding } = this.#options;
    await eachOf(
      (after) => this.#comparison.unknown(after, PAGE, startedAt),
      async (object) => {
        this.#report.unknown += 1;
        this.#report.unknownBytes += object.size;
        onFinding({ kind: 'unknown', object, assetId: assetIdOf(keyPrefix, object.key) ?? '' });
      },
    );
  }
}

/** Page by page in the order of their keys, some at a time. */
async function eachOf<Item extends { key: string }>(
  pageAfter: (key: string) => Promise<Item[]>,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  let after = '';
  for (let page = await pageAfter(after); page.length > 0; page = await pageAfter(after)) {
    await inParallel(page, AT_ONCE, work);
    after = page.at(-1)?.key ?? after;
  }
}
