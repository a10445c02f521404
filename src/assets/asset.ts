/** The asset: a stored file with its record. This is its one shape in memory, in SQL and in the API. */
import { createHash } from 'node:crypto';
import { getTableColumns } from 'drizzle-orm';
import { z } from 'zod';
import { type ArchiveRestore, type AssetState, assets } from '../database/tables/assets.ts';
import type { HeldFor, RetentionMode } from '../database/tables/holds.ts';
import type { Facts, Original, ProcessingRecord, Scan } from '../database/tables/processing-record.ts';
import { binaryDigest, bytesCount, openEnum, timestamp } from '../http/schema-types.ts';
import { copyDocument } from '../mirrors/copy-document.ts';
import { derivativeDocument } from './derivative-document.ts';
import { heldDocument, toHeldDocument } from './held.ts';
import { lifeCycleDocument, toLifeCycleDocument } from './life-cycle-document.ts';
import { linkDocument } from './link-document.ts';
import { processingDocument, toProcessingDocument } from './processing-document.ts';

export interface Asset {
  id: string;
  ownerId: string;
  projectId?: string;
  name: string;
  state: AssetState;
  assetType: string;
  mediaType: string;
  /** Bytes. */
  size: number;
  /** Absent when nobody named it and the bytes never passed through the service. */
  sha256?: Buffer;
  /** Why it was rejected; a problem type. */
  reason?: string;
  metadata: Record<string, string>;
  /** Its folder: empty, or ended by `/`. */
  path: string;
  /** Each once, in order. */
  tags: readonly string[];
  objectKey: string;
  cacheControl: string;
  version: number;
  /** Counts the contents that it has had. */
  contentVersion: number;
  /** When it was given the bytes that it has, where those are not its first. */
  contentAt?: Date;
  /** Bytes of its former contents that are kept. */
  versionBytes: number;
  createdAt: Date;
  updatedAt: Date;
  trashedAt?: Date;
  /** While it is `processing`: bytes that were read back. */
  verifiedBytes?: number;
  /** Of the answer to an upload that is to replace its bytes: those wait for their processing, and it has still the others. */
  awaitsReplacement?: true;
  /** What steps of processing have found out, and how far they are. */
  scan?: Scan;
  facts?: Facts;
  original?: Original;
  thumbHash?: string;
  processing?: ProcessingRecord;
  /** Since when it is public; absent: it is not. */
  publishedAt?: Date;
  /** When it ceased to be. */
  unpublishedAt?: Date;
  /** Why nobody may delete it, by the names of the holds. */
  holds?: HeldFor;
  /** Until then nobody may either, also where that has passed. */
  retainUntil?: Date;
  retentionMode?: RetentionMode;
  /** It is temporary until then. */
  temporaryUntil?: Date;
  /** Where its bytes lie; absent: where they can be read at once. */
  tier?: 'archive';
  archivedAt?: Date;
  /** It is archived, and somebody wants it back. */
  restore?: ArchiveRestore;
  restoredUntil?: Date;
}

const { reservedBytes, leaseExpiresAt, storedWhole, account, ticketId, crc32, retention, ...columns } =
  getTableColumns(assets);
/** Columns of a whole asset, for `select` and `returning`; the others are of its upload and of its end. */
export const assetColumns = columns;

export type AssetRow = Omit<
  typeof assets.$inferSelect,
  'reservedBytes' | 'leaseExpiresAt' | 'storedWhole' | 'account' | 'ticketId' | 'crc32' | 'retention'
>;

/** Bytes of what was sent, which may be more than is served. */
export function sentSize({ size, original }: Asset): number {
  return original?.size ?? size;
}

/** @throws when the row is that of an upload, which has no size or digest yet */
export function toAsset(row: AssetRow): Asset {
  const { assetType, mediaType, size } = row;
  if (size === null || mediaType === null || assetType === null) {
    throw new Error(`asset ${row.id} in state ${row.state} is incomplete`);
  }
  const asset: Asset = {
    id: row.id,
    ownerId: row.ownerId,
    name: row.name,
    state: row.state,
    assetType,
    mediaType,
    size,
    metadata: row.metadata,
    path: row.path,
    tags: row.tags,
    objectKey: row.objectKey,
    cacheControl: row.cacheControl ?? 'private',
    version: row.version,
    contentVersion: row.contentVersion,
    versionBytes: row.versionBytes,
    createdAt: row.createdAt,
    updatedAt: row.updatedAt,
  };
  // Assigned, not spread: a page has dozens of rows, and that is three times as fast.
  if (row.projectId !== null) asset.projectId = row.projectId;
  if (row.sha256 !== null) asset.sha256 = row.sha256;
  if (row.contentAt !== null) asset.contentAt = row.contentAt;
  if (row.reason !== null) asset.reason = row.reason;
  if (row.trashedAt !== null) asset.trashedAt = row.trashedAt;
  if (row.verifiedBytes !== null) asset.verifiedBytes = row.verifiedBytes;
  if (row.scan !== null) asset.scan = row.scan;
  if (row.facts !== null) asset.facts = row.facts;
  if (row.original !== null) asset.original = row.original;
  if (row.thumbHash !== null) asset.thumbHash = row.thumbHash;
  if (row.processing !== null) asset.processing = row.processing;
  if (row.publishedAt !== null && row.publishedIn === (row.projectId ?? '')) asset.publishedAt = row.publishedAt;
  if (row.unpublishedAt !== null) asset.unpublishedAt = row.unpublishedAt;
  if (row.holds !== null) asset.holds = row.holds;
  if (row.retainUntil !== null) asset.retainUntil = row.retainUntil;
  if (row.retentionMode !== null) asset.retentionMode = row.retentionMode;
  if (row.temporaryUntil !== null) asset.temporaryUntil = row.temporaryUntil;
  if (row.tier !== null) asset.tier = row.tier;
  if (row.archivedAt !== null) asset.archivedAt = row.archivedAt;
  if (row.restore !== null) asset.restore = row.restore;
  if (row.restoredUntil !== null) asset.restoredUntil = row.restoredUntil;
  return asset;
}

export const assetDocument = z
  .object({
    id: z.string().meta({
      override: { type: 'string', format: 'uuid' },
      description: 'UUIDv7',
      example: '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1',
    }),
    name: z.string().meta({ description: 'File name, NFC, 1 to 255 bytes of UTF-8', example: 'photo.jpg' }),
    projectId: z.string().optional().meta({ example: 'website' }),
    uploadedBy: z.string().meta({ description: 'Subject of who has uploaded it', example: 'user-1' }),
    assetType: z.string().meta({ description: 'Upload policy the file was accepted under', example: 'image' }),
    mediaType: z.string().meta({ description: 'As detected from the bytes', example: 'image/jpeg' }),
    size: bytesCount.meta({ example: 48213 }),
    sha256: binaryDigest.optional().meta({
      description: 'SHA-256 of the bytes; absent after a direct upload that declared none',
    }),
    state: openEnum(
      'AssetState',
      ['processing', 'ready', 'rejected', 'lost'],
      'Only `ready` assets can be downloaded.',
    ),
    verifiedBytes: bytesCount.optional().meta({
      description: 'While the asset is `processing`: how many of its bytes were read back so far',
    }),
    reason: z.string().optional().meta({ description: 'Problem type for which the asset was rejected' }),
    ...processingDocument,
    contentVersion: z
      .number()
      .int()
      .meta({
        override: { type: 'integer', minimum: 1 },
        description: 'Counts the contents that the asset has had: 1, and one more each time it is given other bytes',
        example: 1,
      }),
    visibility: openEnum(
      'AssetVisibility',
      ['private', 'public'],
      'Who may get the bytes: those for whom the asset is there, or everybody, at `publicUrl`.',
    ),
    publicUrl: z
      .string()
      .optional()
      .meta({
        override: { type: 'string', format: 'uri' },
        description: 'Where the bytes of a public asset are for everybody, without a token; told while they are there',
        example: 'https://files.example.net/p/019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1/photo.jpg',
      }),
    cachedUntil: timestamp.optional().meta({
      description:
        'When the asset was public and is not served any more: until then browsers and caches may have its bytes, unless they were told to forget them',
    }),
    metadata: z
      .record(z.string(), z.string())
      .meta({ description: 'Data that the application keeps with the file', example: { album: 'summer' } }),
    path: z
      .string()
      .optional()
      .meta({ description: 'Folder that it is shown in, ended by `/`; absent at the top', example: 'photos/2026/' }),
    tags: z
      .array(z.string())
      .optional()
      .meta({ description: 'In order; absent where there are none', example: ['beach', 'summer'] }),
    ...heldDocument,
    createdAt: timestamp,
    updatedAt: timestamp,
    trashedAt: timestamp.optional().meta({ description: 'Present while the asset is in the trash' }),
    ...lifeCycleDocument,
    link: linkDocument.optional().meta({
      description: 'Download link; told by `listAssets` with `include=links`, where the asset can be downloaded',
    }),
    derivatives: z
      .array(derivativeDocument)
      .optional()
      .meta({ description: 'What was made of it; told by `listAssets` with `include=derivatives`' }),
    downloadCount: bytesCount.optional().meta({
      override: { type: 'integer', format: 'int64', minimum: 0 },
      description:
        'How often its bytes were downloaded through the service; told by `getAsset` only. A download in several ranges counts once, for the one that begins with the first byte',
    }),
    lastDownloadedAt: timestamp.optional().meta({ description: 'When last; told by `getAsset` only' }),
    copies: z
      .array(copyDocument)
      .optional()
      .meta({ description: 'Copies of its bytes in mirrors, where there are any; told by `getAsset` only' }),
  })
  .meta({ id: 'Asset' });
export type AssetDocument = z.input<typeof assetDocument>;

/** The record as those see it who may read it: no object key. */
export function toDocument(asset: Asset): AssetDocument {
  const { id, name, projectId, assetType, mediaType, size, metadata, path, tags, state } = asset;
  if (state === 'uploading' || state === 'deleting') throw new Error(`asset ${id} is ${state} and has no document`);
  return {
    id,
    name,
    ...(projectId !== undefined && { projectId }),
    uploadedBy: asset.ownerId,
    assetType,
    mediaType,
    size,
    ...(asset.sha256 && { sha256: asset.sha256.toString('hex') }),
    state,
    ...(state === 'processing' && { verifiedBytes: asset.verifiedBytes ?? 0 }),
    ...(asset.reason !== undefined && { reason: asset.reason }),
    ...toProcessingDocument(asset),
    contentVersion: asset.contentVersion,
    visibility: asset.publishedAt ? 'public' : 'private',
    metadata,
    ...(path !== '' && { path }),
    ...(tags.length > 0 && { tags: [...tags] }),
    ...toHeldDocument(asset),
    createdAt: asset.createdAt.toISOString(),
    updatedAt: asset.updatedAt.toISOString(),
    ...(asset.trashedAt && { trashedAt: asset.trashedAt.toISOString() }),
    ...toLifeCycleDocument(asset),
  };
}

/**
 * Entity tag of the record (RFC 9110 section 8.8.3); changes with every change of the record. What somebody may have
 * changed is before the point, and what processing has found out since behind it: see `isOfVersion`.
 * @param more that is told with the record and changes by itself
 */
export function recordTag(asset: Asset, more?: string): string {
  const { id, version, verifiedBytes, scan, processing, tier, restore, restoredUntil } = asset;
  const archive = (tier ?? restoredUntil) && JSON.stringify([tier, restore, restoredUntil]);
  const progress = [verifiedBytes, scan?.at, processing && JSON.stringify(processing), archive, more].filter(
    (part) => part !== undefined,
  );
  const suffix = progress.length === 0 ? '' : `.${shortDigest(progress.join()).slice(0, 8)}`;
  return `"${shortDigest(`${id}.${version}`)}${suffix}"`;
}

/**
 * Whether a tag is of this version of the record, however far its processing was: facts and thumbnails that come by
 * themselves, a moment after an upload, are no change that a condition on a change of the record guards against.
 */
export function isOfVersion(tag: string, asset: Asset): boolean {
  return tag.startsWith(`"${shortDigest(`${asset.id}.${asset.version}`)}`);
}

function shortDigest(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 22);
}

/** Entity tag of the bytes: their digest, or what stands for it, as a key is written once. */
export function contentTag(asset: Asset): string {
  const digest = asset.sha256 ?? createHash('sha256').update(asset.objectKey).digest();
  return `"${digest.toString('hex')}"`;
}
