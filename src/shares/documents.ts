/** What is sent and answered about shares, as the contract has it. */
import { z } from 'zod';
import { assetId, bytesCount, openEnum, projectId, timestamp } from '../http/schema-types.ts';
import { MAX_PASSWORD } from './passwords.ts';
import type { Share } from './repository.ts';

/** Assets that one share names: as many as a change of many assets takes. */
export const MAX_ASSETS = 1000;
/** Seconds: ten years, beyond which nobody means an end. */
const LONGEST = 10 * 366 * 24 * 3600;
const MAX_DOWNLOADS = 1_000_000;
/** Characters. */
const MAX_LABEL = 200;
const MAX_NOTE = 1000;

const integer = (most: number, description: string, example: number) =>
  z
    .number({ error: 'must be a number' })
    .int('must be a whole number')
    .min(1, 'must be at least 1')
    .max(most, `must be at most ${most}`)
    .meta({ override: { type: 'integer', format: 'int32', minimum: 1, maximum: most }, description, example });
/** Text that Postgres keeps and a page shows in a line, or in several. */
const words = (most: number, isPrintable: RegExp, description: string, example: string) =>
  z
    .string()
    .min(1, 'must not be empty')
    .max(most, `must have at most ${most} characters`)
    .refine((text) => text.isWellFormed() && !isPrintable.test(text), 'must be printable text')
    .meta({ override: { type: 'string', minLength: 1, maxLength: most }, description, example });

const expiresIn = integer(LONGEST, 'Seconds from now until it ends; absent: not before it is revoked', 604_800);
const password = z
  .string()
  .min(1, 'must not be empty')
  .refine((text) => Buffer.byteLength(text) <= MAX_PASSWORD, `must have at most ${MAX_PASSWORD} bytes`)
  .refine((text) => text.isWellFormed(), 'must be text')
  .meta({
    override: { type: 'string', minLength: 1, maxLength: MAX_PASSWORD },
    description: 'Needed to see anything of it. Nobody is shown it again',
    example: 'correct horse battery staple',
  });
const maxDownloads = integer(MAX_DOWNLOADS, 'Downloads after which it ends', 10);
const allow = z
  .enum(['view', 'download'], { error: 'must be view or download' })
  .meta({ id: 'ShareAllowance', description: '`view`: it is shown and played, without a way to save it' });
const label = words(MAX_LABEL, /[\p{Cc}\u2028\u2029]/u, 'What strangers read over it', 'Holiday pictures');
const note = words(MAX_NOTE, /[^\P{Cc}\n\t]/u, 'For whoever shares; strangers do not see it', 'For Grandma');
const permanent = z.boolean().meta({
  description:
    'Of one asset: it never ends by itself and needs no password, so its address may stand in feeds. It can still be revoked',
});

/** Exactly one of the three that name what is shared. */
export const newShare = z
  .strictObject({
    assetId: assetId.optional().meta({ description: 'The one asset' }),
    assetIds: z
      .array(assetId)
      .min(1, 'must name an asset')
      .max(MAX_ASSETS, `must name at most ${MAX_ASSETS}`)
      .refine((ids) => new Set(ids).size === ids.length, 'must name each once')
      .optional()
      .meta({ description: `The assets in this order, at most ${MAX_ASSETS}` }),
    projectId: projectId.optional().meta({ description: 'All that is in the project, also later' }),
    expiresIn: expiresIn.optional(),
    password: password.optional(),
    maxDownloads: maxDownloads.optional(),
    allow: allow.default('download'),
    label: label.optional(),
    note: note.optional(),
    permanent: permanent.default(false),
  })
  .meta({ id: 'ShareRequest' });

const orNone = <Schema extends z.ZodType>(schema: Schema) => schema.nullable().optional();
export const shareChanges = z
  .strictObject({
    expiresIn: orNone(expiresIn),
    password: orNone(password),
    maxDownloads: orNone(maxDownloads),
    allow: allow.optional(),
    label: orNone(label),
    note: orNone(note),
    permanent: permanent.optional(),
  })
  .refine((changes) => Object.keys(changes).length > 0, 'must change something')
  .meta({ id: 'ShareChanges' });

export const unlockRequest = z.object({ password }).meta({ id: 'ShareUnlockRequest' });
export const unlocked = z
  .object({
    expiresAt: timestamp.optional().meta({ description: 'Until then the cookie of the answer opens the share' }),
  })
  .meta({ id: 'ShareUnlocked' });

const state = openEnum(
  'ShareState',
  ['active', 'expired', 'used-up', 'revoked', 'unavailable'],
  '`unavailable`: what it leads to is in the trash, deleted or not ready, or whoever shared may not read it any more. Strangers are not told which.',
);
const counted = z
  .number()
  .int()
  .meta({ override: { type: 'integer', format: 'int64', minimum: 0 } });

export const shareDocument = z
  .object({
    id: z.string().meta({ override: { type: 'string', format: 'uuid' }, description: 'UUIDv7' }),
    url: z
      .string()
      .optional()
      .meta({
        override: { type: 'string', format: 'uri' },
        description:
          'Whoever has this address reaches what is shared. Told to whoever made the share only; absent where the request was sent again under its Idempotency-Key',
        example: 'https://files.example.com/s/aXk3mQ0eQ1uT2vR5wY8zLw',
      }),
    state,
    createdBy: z.string().meta({ description: 'Subject of who made it' }),
    assetId: assetId.optional(),
    assetIds: z.array(assetId).optional().meta({ description: 'Of several assets; not in lists' }),
    assetCount: counted.optional().meta({ description: 'Of several assets' }),
    projectId: projectId.optional(),
    allow,
    label: label.optional(),
    note: note.optional(),
    hasPassword: z.boolean(),
    permanent: z.boolean(),
    maxDownloads: maxDownloads.optional(),
    downloads: counted.meta({ description: 'The ranges of one download count once' }),
    lastUsedAt: timestamp.optional().meta({ description: 'When the last download began' }),
    createdAt: timestamp,
    updatedAt: timestamp,
    expiresAt: timestamp.optional(),
    revokedAt: timestamp.optional(),
  })
  .meta({ id: 'Share' });
export type ShareDocument = z.input<typeof shareDocument>;

export function stateOf(share: Pick<Share, 'revokedAt' | 'isExpired' | 'maxDownloads' | 'downloads' | 'isReachable'>) {
  if (share.revokedAt) return 'revoked';
  if (share.isExpired) return 'expired';
  if (share.maxDownloads !== null && share.downloads >= share.maxDownloads) return 'used-up';
  return share.isReachable ? 'active' : 'unavailable';
}

/** @param url absent for whoever is not shown it */
export function toShareDocument(share: Share, url: string | undefined): ShareDocument {
  const { assetIds, target, projectId: project, label: its, note: own, maxDownloads: most } = share;
  const [only] = assetIds;
  return {
    id: share.id,
    ...(url !== undefined && { url }),
    state: stateOf(share),
    createdBy: share.createdBy,
    ...(target === 'asset' && only !== undefined && { assetId: only }),
    // Of a share of several, others than its maker see only how many there are.
    ...(target === 'assets' && { assetCount: share.assetCount }),
    ...(target === 'assets' && share.isMine && assetIds.length > 0 && { assetIds }),
    ...(project !== null && { projectId: project }),
    allow: share.allow,
    ...(its !== null && { label: its }),
    ...(own !== null && share.isMine && { note: own }),
    hasPassword: share.hasPassword,
    permanent: share.permanent,
    ...(most !== null && { maxDownloads: most }),
    downloads: share.downloads,
    ...(share.lastUsedAt && { lastUsedAt: share.lastUsedAt.toISOString() }),
    createdAt: share.createdAt.toISOString(),
    updatedAt: share.updatedAt.toISOString(),
    ...(share.expiresAt && { expiresAt: share.expiresAt.toISOString() }),
    ...(share.revokedAt && { revokedAt: share.revokedAt.toISOString() }),
  };
}

const path = z.string().meta({ description: 'Path, to be added to the address of the service' });
const pixels = z
  .number()
  .int()
  .meta({ override: { type: 'integer', minimum: 0 }, description: 'Pixels' });
/** One file of a share. */
export const sharedAsset = z
  .object({
    id: z.string().meta({ override: { type: 'string', format: 'uuid' } }),
    name: z.string(),
    mediaType: z.string(),
    size: bytesCount,
    createdAt: timestamp,
    kind: openEnum('SharedKind', ['picture', 'sound', 'video', 'document', 'model', 'file'], 'How it can be shown.'),
    duration: z.number().optional().meta({ description: 'Seconds' }),
    pages: z
      .number()
      .int()
      .optional()
      .meta({ override: { type: 'integer', minimum: 0 } }),
    thumbHash: z.string().optional().meta({ description: 'Base64 (ThumbHash)' }),
    contentPath: path.optional().meta({ description: 'The bytes as they are shown or played, with Range' }),
    downloadPath: path.optional().meta({ description: 'The bytes as an attachment; absent in a share for looking' }),
    isArchived: z
      .literal(true)
      .optional()
      .meta({
        override: { type: 'boolean' },
        description:
          'Present while the bytes are in the archive: they cannot be had until somebody has brought them back',
      }),
    picture: z
      .object({
        src: path,
        srcset: z.string().optional().meta({ description: 'For the attribute `srcset` of an `<img>`' }),
        width: pixels.optional(),
        height: pixels.optional(),
      })
      .optional()
      .meta({ id: 'SharedPicture' }),
    thumbnailPath: path.optional(),
    posterPath: path.optional(),
    waveformPicturePath: path.optional(),
    waveformPath: path.optional(),
    pagePath: path.optional().meta({ description: 'The file by itself; of a share of several' }),
  })
  .meta({ id: 'SharedAsset' });

/** See view.ts. */
export const sharedView = z
  .object({
    kind: openEnum('SharedViewKind', ['open'], 'What is told of the share.'),
    path,
    label: z.string().optional(),
    allow,
    isProtected: z.boolean().meta({ description: 'It has a password' }),
    expiresAt: timestamp.optional(),
    of: openEnum('ShareTarget', ['asset', 'assets', 'project'], 'What is shared.'),
    assets: z.array(sharedAsset).meta({ description: 'One page of them' }),
    nextPath: path.optional().meta({ description: 'Of the page after this one, while more follow' }),
    nextCursor: z.string().optional(),
    archivePath: path.optional().meta({ description: 'All files in one' }),
  })
  .meta({ id: 'SharedView' });
