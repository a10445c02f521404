/**
 * Gives an asset other bytes: those of an upload, or those of a version that it had before.
 *
 * Whatever is uploaded in the place of other bytes is an upload like any other, with a record, a reservation and an object key
 * of its own. When all its bytes are there and checked, one transaction makes them those of the asset:
 *
 *   1. the upload is locked, then the asset: of two at once, the second one sees what the first one has made
 *   2. If-Match is judged, by the record as it is now
 *   3. the bytes that the asset has become a version, where its policy keeps versions, and the oldest of those go
 *   4. the quota changes by the difference, and the reservation is given back
 *   5. key, size, digest, type, facts, scan and name of the asset are those of the new bytes; the record of the upload goes; the
 *      audit row is written
 *   6. what was made of the former bytes is discarded; so are they, after a while, where they are not kept
 *
 * So a crash leaves all of the old or all of the new. Until then the old bytes are served, also while the new ones wait for
 * steps of processing that their policy makes necessary: the upload is accepted then, and goes on as one (`acceptedAt`), with
 * its reservation, until it is served or refused. Of two that are accepted the later one stays.
 */

import { archivedProblem } from '../assets/archived.ts';
import { type Asset, type AssetRow, recordTag, toAsset } from '../assets/asset.ts';
import { held } from '../assets/held.ts';
import type { Actor, AuditAction } from '../database/audit.ts';
import { type Executor, within } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import type { Facts, Original, ProcessingRecord, Scan } from '../database/tables/processing-record.ts';
import type { DerivativesRepository } from '../processing/derivatives.ts';
import { assetReady } from '../processing/events.ts';
import { isServable, nextStep } from '../processing/pipeline.ts';
import { stepJob } from '../processing/step-jobs.ts';
import type { LimitValues } from '../quotas/limit.ts';
import { moveCharge } from '../quotas/moving.ts';
import * as statements from './content-statements.ts';
import { ReplacementRefused } from './refusal.ts';

/** Seconds for which a replacement may wait for steps of processing; one that waits longer is ended. */
const ACCEPTED_LEASE = 7 * 24 * 3600;

/** What the record of an asset says of its bytes. */
export interface Content {
  name: string;
  size: number;
  sha256: Buffer | null;
  mediaType: string;
  objectKey: string;
  cacheControl: string | null;
  /** Absent until somebody has read them. */
  crc32?: number | null;
  scan: Scan | null;
  facts: Facts | null;
  original: Original | null;
  thumbHash: string | null;
  processing: ProcessingRecord | null;
}

/** What is known of the bytes of an upload when they are all there. */
export type ArrivedContent = Omit<Content, 'name' | 'objectKey'> & { assetType: string; cacheControl: string };

const KEPT_IN_ARCHIVE =
  'Its bytes are in the archive, and are to be kept as a version, which must be at hand. Bring them back first, by restore-from-archive.';

export type LockedAsset = AssetRow & { account: string; isHeld: boolean };

/** Why it is given other bytes, and by whom. */
interface Reason {
  action: AuditAction;
  actor: Actor;
  /** Of a version that is restored. */
  former?: number;
  /** The upload that they came by. */
  upload?: { id: string; account: string; reservedBytes: number; uploaderId: string };
  /** Of the upload, stored already; JSON. */
  derivatives?: string;
}

export interface ContentsOptions {
  /** Events and jobs. */
  outbox: Outbox;
  derivatives: DerivativesRepository;
  /** How many versions the policy of an asset type keeps. */
  kept: (assetType: string) => number;
  /** Seconds for which bytes that are not kept stay in the store. */
  grace: number;
  limits: LimitValues;
}

export class Contents {
  readonly #options: ContentsOptions;

  constructor(options: ContentsOptions) {
    this.#options = options;
  }

  /** In the transaction that begins an upload which replaces. */
  async begin(
    transaction: Executor,
    replacement: {
      uploadId: string;
      assetId: string;
      uploaderId: string;
      expectedVersion: number | null;
      name: string | null;
    },
  ): Promise<void> {
    await transaction.run(statements.insertReplacement, replacement);
  }

  /**
   * All bytes of the upload are there and checked: they take the place of the others, or wait for their processing.
   * @param stored what its object is
   * @param held called when the upload is locked, before anything is changed
   * @returns the asset as it is now; undefined when there is no such upload any more
   * @throws ReplacementRefused
   */
  async settle(
    transaction: Executor,
    uploadId: string,
    stored: ArrivedContent,
    actor: Actor,
    { derivatives = '[]', held }: { derivatives?: string; held?: (() => Promise<void>) | undefined },
  ): Promise<Asset | undefined> {
    const { rows } = await transaction.run(statements.lockReplacing, { id: uploadId });
    const [upload] = rows;
    if (!upload) return undefined;
    await held?.();
    const asset = await this.#lock(transaction, upload.assetId);
    if (!asset) throw new ReplacementRefused('not-found', { detail: 'The asset was deleted meanwhile.' });
    // It was accepted before, and the answer was lost.
    if (upload.acceptedAt) return { ...toAsset(asset), awaitsReplacement: true };
    judge(asset, upload.expectedVersion, stored.assetType);
    if (!isServable(stored.processing ?? undefined)) {
      const seen = asset.contentVersion;
      await transaction.run(statements.acceptReplacement, { ...stored, id: uploadId, lease: ACCEPTED_LEASE, seen });
      const next = nextStep(stored.processing ?? undefined);
      if (next) await this.#options.outbox.send(transaction, stepJob(next), { assetId: uploadId });
      return { ...toAsset(asset), awaitsReplacement: true };
    }
    const { objectKey, newName, original } = upload;
    const name = newName ?? asset.name;
    // Whoever finishes an abandoned upload knows what was sealed.
    const content = { ...stored, original: stored.original ?? original, objectKey, name };
    return this.give(transaction, asset, content, { action: 'asset.replaced', actor, upload, derivatives });
  }

  /**
   * An upload that was accepted has been processed, and may be served.
   * @returns why it is not, and must be ended; undefined when it is
   */
  async finish(transaction: Executor, uploadId: string, actor: Actor): Promise<string | undefined> {
    const { rows } = await transaction.run(statements.lockReplacing, { id: uploadId });
    const [upload] = rows;
    if (!upload?.acceptedAt) return undefined;
    const asset = await this.#lock(transaction, upload.assetId);
    if (!asset) return 'not-found';
    if (asset.isHeld) return 'held';
    const { id: assetId, contentVersion } = asset;
    if (contentVersion !== upload.seenVersion) {
      const values = { assetId, contentVersion, acceptedAt: upload.acceptedAt };
      if ((await transaction.run(statements.findEarlier, values)).rows.length === 0) return 'replaced-since';
    }
    const { size, mediaType } = upload;
    if (size === null || mediaType === null) throw new Error(`the upload ${uploadId} is incomplete`);
    const content = { ...upload, size, mediaType, name: upload.newName ?? asset.name };
    try {
      // What is committed with the refusal is the end of the upload, and no version of what the asset still has.
      await within(transaction, () =>
        this.give(transaction, asset, content, { action: 'asset.replaced', actor, upload }),
      );
      return undefined;
    } catch (error) {
      if (error instanceof ReplacementRefused) return error.type;
      throw error;
    }
  }

  /** The asset as it is now, which an upload has given its bytes. */
  async findReplaced(executor: Executor, uploadId: string): Promise<Asset | undefined> {
    const { rows } = await executor.run(statements.findReplaced, { uploadId });
    return rows[0] && toAsset(rows[0]);
  }

  /** Steps 3 to 6, of an asset that this transaction has locked. @throws ReplacementRefused quota-exceeded */
  async give(transaction: Executor, asset: LockedAsset, content: Content, reason: Reason): Promise<Asset> {
    const { derivatives, grace, kept } = this.#options;
    const { id, assetType } = asset;
    const keep = assetType === null ? 0 : kept(assetType);
    const isKept = keep > 0 && asset.state === 'ready';
    if (isKept && asset.tier !== null) throw new ReplacementRefused(archivedProblem, { detail: KEPT_IN_ARCHIVE });
    if (isKept) await transaction.run(statements.keepVersion, { id });
    const { rows: surplus } = await transaction.run(statements.dropSurplus, { assetId: id, keep });
    const { rows: sums } = await transaction.run(statements.sumVersions, { assetId: id });
    const versionBytes = sums[0]?.bytes ?? 0;
    await this.#charge(transaction, asset, content.size + versionBytes, reason.upload);
    const given = await this.#give(transaction, id, { ...content, versionBytes }, reason);
    await derivatives.discardOf(id, transaction);
    if (reason.upload) {
      const adopted = { uploadId: reason.upload.id, assetId: id, derivatives: reason.derivatives ?? '[]' };
      await transaction.run(statements.adoptDerivatives, adopted);
    }
    const gone = surplus.map(({ objectKey }) => objectKey);
    for (const objectKey of isKept ? gone : [...gone, asset.objectKey])
      await derivatives.discardObject(id, objectKey, transaction, grace);
    await this.#follow(transaction, asset, given);
    return given;
  }

  /** Changes the charge of an asset to what it comes to now. @throws ReplacementRefused quota-exceeded */
  async #charge(
    transaction: Executor,
    { account, size, versionBytes }: LockedAsset,
    bytes: number,
    upload: Reason['upload'],
  ): Promise<void> {
    const { limits } = this.#options;
    const reserved = upload?.reservedBytes ?? 0;
    const from = upload?.account ?? account;
    const isMoved = await moveCharge(transaction, { from, to: account, used: 0, reserved, files: 0, limits });
    const more = bytes - (size ?? 0) - versionBytes;
    const settled =
      isMoved && (await transaction.run(statements.settleUse, { account, more, reserved, ...limits })).rows;
    if (!settled || settled.length === 0)
      throw new ReplacementRefused('quota-exceeded', {
        detail: `There is no room for ${Math.max(more, 0)} bytes more in the quota that pays for the asset. Delete versions or assets for good, or ask for a larger quota.`,
      });
  }

  async #give(
    transaction: Executor,
    id: string,
    content: Content & { versionBytes: number },
    { action, actor, former, upload }: Reason,
  ): Promise<Asset> {
    const { name, size, sha256, mediaType, objectKey, cacheControl, crc32 = null, versionBytes } = content;
    const { scan, facts, original, thumbHash, processing } = content;
    const state = isServable(processing ?? undefined) ? 'ready' : 'processing';
    const { rows } = await transaction.run(statements.giveContent, {
      ...{ id, name, state, size, sha256, mediaType, objectKey, cacheControl, crc32, versionBytes },
      ...{ scan, facts, original, thumbHash, processing, action, former: former ?? null, ...actor },
      ...{ uploadId: upload?.id ?? null, by: upload?.uploaderId ?? null },
    });
    if (!rows[0]) throw new Error(`the asset ${id} was not locked, or is held`);
    return toAsset(rows[0]);
  }

  async #follow(transaction: Executor, before: LockedAsset, { id, ownerId, state, processing }: Asset): Promise<void> {
    const { outbox } = this.#options;
    const next = nextStep(processing);
    if (next) await outbox.send(transaction, stepJob(next), { assetId: id });
    if (state === 'ready' && before.state !== 'ready')
      await outbox.publish(transaction, assetReady, { assetId: id, ownerId });
  }

  async #lock(transaction: Executor, id: string): Promise<LockedAsset | undefined> {
    return (await transaction.run(statements.lockContent, { id })).rows[0];
  }
}

/** @throws ReplacementRefused when the record does not allow it, as it is now */
function judge(asset: LockedAsset, expectedVersion: number | null, assetType: string): void {
  if (asset.isHeld) {
    const { type, options } = held(toAsset(asset));
    throw new ReplacementRefused(type, options);
  }
  if (asset.trashedAt)
    throw new ReplacementRefused('wrong-state', { detail: 'The asset is in the trash. Restore it first.' });
  if (expectedVersion !== null && asset.version !== expectedVersion)
    throw new ReplacementRefused('precondition-failed', {
      detail: 'The asset was changed while its new bytes came. Read it again.',
      headers: { etag: recordTag(toAsset(asset)) },
    });
  if (asset.assetType !== assetType)
    throw new ReplacementRefused('type-not-allowed', {
      detail: `The asset is of the type ${asset.assetType}, whose upload policy does not allow these bytes.`,
    });
}
