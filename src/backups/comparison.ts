/**
 * The manifest of objects against the object store, in tables that are there for one connection only: so the memory of the
 * process does not grow with their number.
 */
import { and, asc, eq, exists, getTableName, gt, isNotNull, lt, notExists, type SQL } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, nowhere, type Parameter, unnested } from '../database/statements.ts';
import {
  createComparison,
  indexComparison,
  listingOfStore as listing,
  manifestOfBackup as manifest,
} from '../database/tables/comparison.ts';
import type { ListedObject } from '../storage/object-store.ts';

export const MANIFEST_TABLE = getTableName(manifest);

const once = { named: false };

const each = (statements: SQL[], name: string) =>
  statements.map((statement, number) => compile(`${name} ${number}`, () => statement, once));
const prepare = each(createComparison, 'make-table-of-comparison');
const index = each(indexComparison, 'index-table-of-comparison');

const noteListed = compile(
  'note-listed-objects',
  (p: Parameter<'keys' | 'sizes' | 'times'>) =>
    build.insert(listing).select(
      build
        .select({
          key: unnested(p('keys'), listing.key).as('key'),
          size: unnested(p('sizes'), listing.size).as('size'),
          lastModified: unnested(p('times'), listing.lastModified).as('last_modified'),
        })
        .from(nowhere),
    ),
  once,
);
const named = {
  key: manifest.key,
  size: manifest.size,
  sha256: manifest.sha256,
  kind: manifest.kind,
  assetId: manifest.assetId,
};
const isListed = (columns: typeof manifest) =>
  build
    .select({ key: listing.key })
    .from(listing)
    .where(and(eq(listing.key, columns.key), eq(listing.size, columns.size)));
const findFound = compile(
  'find-one-object-of-backup',
  () =>
    build
      .select({ key: manifest.key })
      .from(manifest)
      .where(and(manifest.isExpected, exists(isListed(manifest))))
      .limit(1),
  once,
);
const findMissing = compile(
  'find-missing-objects-of-backup',
  (p: Parameter<'after' | 'limit'>) =>
    build
      .select(named)
      .from(manifest)
      .where(and(manifest.isExpected, gt(manifest.key, p('after')), notExists(isListed(manifest))))
      .orderBy(asc(manifest.key))
      .limit(p('limit')),
  once,
);
const findWithDigest = compile(
  'find-objects-to-verify',
  (p: Parameter<'after' | 'limit'>) =>
    build
      .select(named)
      .from(manifest)
      .where(and(manifest.isExpected, isNotNull(manifest.sha256), gt(manifest.key, p('after'))))
      .orderBy(asc(manifest.key))
      .limit(p('limit')),
  once,
);
const findUnknown = compile(
  'find-objects-that-the-backup-lacks',
  (p: Parameter<'after' | 'limit' | 'before'>) =>
    build
      .selectDistinct({ key: listing.key, size: listing.size, lastModified: listing.lastModified })
      .from(listing)
      .where(
        and(
          gt(listing.key, p('after')),
          lt(listing.lastModified, p('before')),
          notExists(build.select({ key: manifest.key }).from(manifest).where(eq(manifest.key, listing.key))),
        ),
      )
      .orderBy(asc(listing.key))
      .limit(p('limit')),
  once,
);

/** What a record of the backup says of an object. */
export interface NamedObject {
  key: string;
  size: number;
  sha256: Buffer | null;
  kind: 'original' | 'version' | 'derivative';
  assetId: string;
}

export class Comparison {
  readonly #executor: Executor;

  /** @param executor on the one connection */
  constructor(executor: Executor) {
    this.#executor = executor;
  }

  /** Makes the tables; the rows of the manifest go into MANIFEST_TABLE. */
  async begin(): Promise<void> {
    for (const statement of prepare) await this.#executor.run(statement, {});
  }

  async note(page: readonly ListedObject[]): Promise<void> {
    if (page.length === 0) return;
    await this.#executor.run(noteListed, {
      keys: page.map(({ key }) => key),
      sizes: page.map(({ size }) => size),
      times: page.map(({ lastModified }) => lastModified.toISOString()),
    });
  }

  /** To be called when both are complete. Keys that were listed twice do no harm. */
  async index(): Promise<void> {
    for (const statement of index) await this.#executor.run(statement, {});
  }

  /** Whether one object that must be there was listed with its size. */
  async foundAny(): Promise<boolean> {
    return (await this.#executor.run(findFound, {})).rows.length > 0;
  }

  /** Objects that must be there and were not listed with their size, by key. */
  async missing(after: string, limit: number): Promise<NamedObject[]> {
    return (await this.#executor.run(findMissing, { after, limit })).rows;
  }

  /** Objects that must be there and whose digest is known, by key. */
  async withDigest(after: string, limit: number): Promise<NamedObject[]> {
    return (await this.#executor.run(findWithDigest, { after, limit })).rows;
  }

  /** Objects that no record of the backup names, of those that were there `before`, by key. */
  async unknown(after: string, limit: number, before: Date): Promise<ListedObject[]> {
    return (await this.#executor.run(findUnknown, { after, limit, before })).rows;
  }
}
