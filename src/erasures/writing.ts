/** What a receipt says, put together when all is done, and written in the transaction in which the name goes. */
import { and, asc, count, eq, sql } from 'drizzle-orm';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, type Parameter, writtenOut } from '../database/statements.ts';
import { assets, isHeld, isVisible } from '../database/tables/assets.ts';
import type { ErasureCounts } from '../database/tables/erasures.ts';
import { erasures } from '../database/tables/erasures.ts';
import type { ErasedStore } from './folders.ts';
import { type Receipt, type Remainder, type StoreReport, signReceipt } from './receipt.ts';
import { actorOfErasure, type ErasuresRepository, type RunningErasure } from './repository.ts';

/** Assets that a receipt names one by one; of more it says how many. */
const MAX_NAMED = 10_000;
const DAY = 86_400_000;

const seldom = { named: false };
const findHeld = compile(
  'find-held-assets-of-owner',
  (p: Parameter<'ownerId'>) =>
    build
      .select({ id: assets.id, holds: assets.holds, retainUntil: assets.retainUntil })
      .from(assets)
      .where(and(eq(assets.ownerId, p('ownerId')), isVisible, isHeld))
      .orderBy(asc(assets.id))
      .limit(writtenOut(MAX_NAMED)),
  seldom,
);
const countRemaining = compile(
  'count-remaining-assets-of-owner',
  (p: Parameter<'ownerId'>) =>
    build
      .select({
        assets: count(),
        held: sql<number>`count(*) filter (where ${isHeld})`.mapWith(Number).as('held'),
      })
      .from(assets)
      .where(and(eq(assets.ownerId, p('ownerId')), isVisible)),
  seldom,
);
const findCounts = compile(
  'find-erasure-counts',
  (p: Parameter<'id'>) =>
    build
      .select({ counts: erasures.counts })
      .from(erasures)
      .where(eq(erasures.id, p('id'))),
  seldom,
);

/** Assets that stay in the name of the owner. */
export interface Remaining {
  held: { assets: NonNullable<Remainder['assets']>; count: number };
}

export interface ReceiptWriterOptions {
  handle: DatabaseHandle;
  erasures: ErasuresRepository;
  stores: readonly ErasedStore[];
  /** Days; absent where nobody has said. */
  backupRetention: number | undefined;
  /** Milliseconds for which caches may have what was public. */
  publicMaxAge: number;
  /** Days for which audit rows are kept; 0 for ever. */
  auditRetention: number;
}

export class ReceiptWriter {
  readonly #options: ReceiptWriterOptions;

  constructor(options: ReceiptWriterOptions) {
    this.#options = options;
  }

  /** What is left of his assets. @returns `more` when something is there that could be deleted */
  async remaining({ ownerId, pseudonym }: RunningErasure): Promise<Remaining | 'more'> {
    const { database } = this.#options.handle;
    const [all] = (await database.run(countRemaining, { ownerId })).rows;
    if (!all || all.assets === 0) return { held: { assets: [], count: 0 } };
    if (all.assets > all.held) return 'more';
    const { rows } = await database.run(findHeld, { ownerId });
    const held = rows.map(({ id, holds, retainUntil }) => ({
      id,
      holds: Object.fromEntries(
        Object.entries(holds ?? {}).map(([name, { reason }]) => [name, reason.replaceAll(ownerId, pseudonym)]),
      ),
      ...(retainUntil && { retainUntil: retainUntil.toISOString() }),
    }));
    return { held: { assets: held, count: all.held } };
  }

  /** @param transaction in which everything else of him is gone */
  async write(transaction: Executor, erasure: RunningErasure, remaining: Remaining): Promise<void> {
    const { id, ownerId, pseudonym, projectAssets, createdAt } = erasure;
    const [row] = (await transaction.run(findCounts, { id })).rows;
    const counts = row?.counts ?? {};
    const finishedAt = new Date();
    const stores = await this.#stores(counts);
    const receipt: Receipt = {
      format: 'stowage-erasure-receipt/1',
      id,
      subject: pseudonym,
      projectAssets,
      requestedAt: createdAt.toISOString(),
      finishedAt: finishedAt.toISOString(),
      deleted: sorted(counts),
      stores,
      remains: [...this.#remains(counts, remaining, finishedAt), ...stores.flatMap(unknownVersions)],
    };
    const text = await signReceipt(transaction, receipt);
    const actor = actorOfErasure(erasure);
    const isHimself = actor.callerId === ownerId;
    const via = actor.via === `token:${ownerId}` ? `token:${pseudonym}` : actor.via;
    const because = actor.because?.replaceAll(ownerId, pseudonym) ?? null;
    const told = { ...actor, ...(isHimself && { callerId: pseudonym }), via, because };
    await this.#options.erasures.end(transaction, id, text, finishedAt, told);
  }

  async #stores(counts: ErasureCounts): Promise<StoreReport[]> {
    return Promise.all(
      this.#options.stores.map(async ({ name, store }) => ({
        name,
        kind: store.kind,
        keepsVersions: await store.keepsVersions({}),
        foldersEmpty: counts['folders'] ?? 0,
      })),
    );
  }

  #remains(counts: ErasureCounts, { held }: Remaining, finishedAt: Date): Remainder[] {
    const { backupRetention, publicMaxAge, auditRetention } = this.#options;
    const at = (milliseconds: number) => new Date(finishedAt.getTime() + milliseconds).toISOString();
    const remains: Remainder[] = [
      {
        what: 'backups',
        where: 'wherever the operator keeps backups of the database and of the object store',
        why: 'backups are not changed; whoever restores one erases again',
        ...(backupRetention !== undefined && { until: at(backupRetention * DAY) }),
      },
      {
        what: 'cached public files',
        where: 'caches of browsers and of networks, of what was public',
        why: 'they were told for how long they may keep it',
        until: at(publicMaxAge),
      },
      {
        what: 'audit trail, under the pseudonym',
        where: 'database',
        why: 'it tells what happened, and not to whom',
        count: counts['auditRows'] ?? 0,
        ...(auditRetention > 0 && { until: at((auditRetention + 31) * DAY) }),
      },
      { what: 'logs', where: 'wherever the operator keeps logs', why: 'the service does not keep them' },
    ];
    if ((counts['leftAssets'] ?? 0) > 0)
      remains.push({
        what: 'assets in projects of others, under the pseudonym',
        where: 'database and object store',
        why: 'they belong to the projects',
        count: counts['leftAssets'] ?? 0,
      });
    if (held.count > 0)
      remains.push({
        what: 'held assets',
        where: 'database and object store',
        why: 'nobody may delete them while they are held; erase the owner again when they are not',
        count: held.count,
        assets: held.assets,
      });
    return remains;
  }
}

/** What a store may keep that it did not let be looked at. */
function unknownVersions({ name, keepsVersions }: StoreReport): Remainder[] {
  if (keepsVersions !== 'unknown') return [];
  return [
    {
      what: 'older versions of objects, if there are any',
      where: `store ${name}`,
      why: 'the store does not let it be asked whether it keeps versions',
    },
  ];
}

/** In one order, and without what was not there. */
function sorted(counts: ErasureCounts): ErasureCounts {
  return Object.fromEntries(
    Object.entries(counts)
      .filter(([, value]) => (value ?? 0) > 0)
      .sort(([a], [b]) => a.localeCompare(b)),
  );
}
