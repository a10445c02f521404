/**
 * Uploads of one account change the row of its quota twice each, and would keep each other waiting from there to their
 * commits. So those that come while one begins begin together, by the next statement, and so they become assets; see
 * Batcher. An upload is none the worse for its company: where there is no room for all, or something is wrong with one
 * of them, nothing was written, and each is asked for by itself.
 */
import { type Asset, toAsset } from '../assets/asset.ts';
import type { LifeCycleValues } from '../assets/life-cycle-looks.ts';
import type { Actor } from '../database/audit.ts';
import { Batcher } from '../database/batcher.ts';
import { type Executor, isConflict, isDatabaseUnavailable } from '../database/client.ts';
import { inHexadecimal } from '../database/statements.ts';
import type { ProcessingRecord } from '../database/tables/processing-record.ts';
import type { StoredDerivative } from '../processing/keep-on-arrival.ts';
import type { LimitValues } from '../quotas/limit.ts';
import type { ArrivedContent } from '../versions/contents.ts';
import { type BeginningRow, beginUploads, type SettlingRow, settleUploads } from './arrival-statements.ts';
import type { LearnedOnTheWay, NewUpload, SettledBytes, StoredBytes } from './upload.ts';

/** Of one statement: as many as are under way at once, by default. What is said of one is at most some KiB. */
const MAX_TOGETHER = 64;

/** An upload that begins. */
export interface Beginning {
  upload: NewUpload;
  /** Bytes to be reserved. */
  size: number;
  /** What the object will be, when that is known already. */
  seal: StoredBytes | undefined;
  /** Seconds. */
  lease: number;
  limits: LimitValues;
}

/** An upload that becomes an asset. */
export interface Settling {
  id: string;
  state: 'ready' | 'processing';
  stored: SettledBytes;
  processing: ProcessingRecord | undefined;
  lifeCycle: LifeCycleValues;
  learned: Pick<LearnedOnTheWay, 'scan' | 'facts' | 'thumbHash'>;
  derivatives: readonly StoredDerivative[];
  actor: Actor;
}

export class Arrivals {
  readonly #begun: Batcher<Beginning, boolean>;
  readonly #settled: Batcher<Settling, { asset: Asset | undefined } | undefined>;

  constructor(database: Executor) {
    this.#begun = new Batcher(async (_key, uploads) => {
      const begun = await together(uploads, () => begin(database, uploads));
      return uploads.map(() => begun === true);
    }, MAX_TOGETHER);
    this.#settled = new Batcher(async (_account, uploads) => {
      const assets = await together(uploads, () => settle(database, uploads));
      return uploads.map(({ id }) => assets && { asset: assets.get(id) });
    }, MAX_TOGETHER);
  }

  /** @returns false when nothing was written: why that is has to be asked for this upload alone */
  begin(beginning: Beginning): Promise<boolean> {
    const { upload, lease, limits } = beginning;
    const { place, ownerId } = upload;
    return this.#begun.submit(JSON.stringify([place.account, ownerId, lease, limits]), beginning);
  }

  /** @returns no asset when the upload was ended; undefined when it has to be settled alone, as nothing was written */
  settle(account: string, settling: Settling): Promise<{ asset: Asset | undefined } | undefined> {
    return this.#settled.submit(account, settling);
  }
}

/** @returns undefined when it could not be done for several, and nothing was */
async function together<Result>(uploads: readonly unknown[], work: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await work();
  } catch (error) {
    if (uploads.length === 1 || isDatabaseUnavailable(error) || isConflict(error)) throw error;
    return undefined;
  }
}

/**
 * Begins uploads of one owner to one account, with one lease.
 * @returns false when the quota has no room for all of them, or the owner is being erased; then nothing was written
 */
export async function begin(executor: Executor, uploads: readonly Beginning[]): Promise<boolean> {
  const [first] = uploads;
  if (!first) return true;
  const { upload, lease, limits } = first;
  const size = uploads.reduce((sum, each) => sum + each.size, 0);
  const values = {
    uploads: JSON.stringify(uploads.map(beginningRow)),
    account: upload.place.account,
    ownerId: upload.ownerId,
    size,
    lease,
    ...limits,
  };
  return (await executor.run(beginUploads, values)).rowCount === uploads.length;
}

/** Makes uploads assets. @returns those that were still in progress, by id */
export async function settle(executor: Executor, uploads: readonly Settling[]): Promise<Map<string, Asset>> {
  const derivatives = uploads.flatMap((upload) =>
    upload.derivatives.map((each) => ({ ...each, sha256: inHexadecimal(each.sha256) })),
  );
  const { rows } = await executor.run(settleUploads, {
    uploads: JSON.stringify(uploads.map(settlingRow)),
    ids: uploads.map(({ id }) => id),
    derivatives: JSON.stringify(derivatives),
  });
  return new Map(rows.map((row) => [row.id, toAsset(row)]));
}

function beginningRow({ upload, size, seal }: Beginning): BeginningRow {
  const { id, ownerId, projectId, name, metadata, objectKey, createdAt, path, tags, retention, caller } = upload;
  const { size: storedSize, sha256, mediaType, assetType, cacheControl, original } = seal ?? {};
  return {
    ...{ id, ownerId, projectId, name, metadata, objectKey, createdAt, path, tags, retention },
    ...{ reservedBytes: size, ticketId: caller.ticket },
    ...{ storedSize, sha256: sha256 && inHexadecimal(sha256), mediaType, assetType, cacheControl, original },
  };
}

function settlingRow({ id, state, stored, processing, lifeCycle, learned, actor }: Settling): SettlingRow {
  const { size, sha256, crc32, mediaType, assetType, cacheControl, original } = stored;
  const { scan, facts, thumbHash } = learned;
  return {
    ...{
      id,
      state,
      size,
      sha256: sha256 && inHexadecimal(sha256),
      crc32,
      mediaType,
      assetType,
      cacheControl,
      original,
    },
    ...{ scan, facts, thumbHash, processing, ...lifeCycle, ...actor },
  };
}

/** What an upload that replaces brings, as the record has it. */
export function contentOf(
  { sha256, crc32, original, ...stored }: SettledBytes,
  { scan, facts, thumbHash }: LearnedOnTheWay,
  processing: ProcessingRecord | undefined,
  actor: Actor,
): ArrivedContent {
  return {
    ...stored,
    ...actor,
    ...{ sha256: sha256 ?? null, crc32: crc32 ?? null, original: original ?? null, processing: processing ?? null },
    ...{ scan: scan ?? null, facts: facts ?? null, thumbHash: thumbHash ?? null },
  };
}
