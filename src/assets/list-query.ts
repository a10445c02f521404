/** What the query of a list may say. */
import { z } from 'zod';
import { pageCursor, pageLimit } from '../http/paging.ts';
import { assetType, flag, metadataEntry, projectId, repeated } from '../http/schema-types.ts';
import { folderPath, tag } from '../validation/label-types.ts';
import { sorts } from './list-conditions.ts';

/** Of tags, or of metadata. */
const MAX_PAIRS = 10;

const TIME = 'must be a time such as 2026-11-01T00:00:00Z';
/** RFC 3339; Postgres knows no year 0. */
const time = z.iso
  .datetime({ offset: true, error: TIME })
  .transform((text) => new Date(text))
  .refine((moment) => moment.getUTCFullYear() >= 1 && moment.getUTCFullYear() <= 9999, TIME)
  .transform((moment) => moment.toISOString())
  .optional();
const aboutTime = (description: string) => ({
  override: { type: 'string' as const, format: 'date-time' },
  description,
  example: '2026-11-20T12:00:00Z',
});

const BYTES = 'must be a whole number of bytes';
const bytes = z
  .string()
  .regex(/^\d{1,15}$/, BYTES)
  .transform(Number)
  .optional();
const aboutBytes = (description: string) => ({
  override: { type: 'integer' as const, format: 'int64', minimum: 0 },
  description,
});

const nameText = z
  .string()
  .min(1)
  .max(255)
  .refine((text) => text.isWellFormed() && !text.includes('\0'), 'must be text')
  .transform((text) => text.normalize('NFC'))
  .optional();

/** `album:summer`; a name that holds a colon cannot be asked for. */
const pair = z
  .string()
  .regex(/^[^:]+:/, 'must be a name and a value with a colon between them, such as album:summer')
  .transform((text): [string, string] => {
    const colon = text.indexOf(':');
    return [text.slice(0, colon), text.slice(colon + 1)];
  })
  .pipe(metadataEntry);

const atMostPairs = `must be there at most ${MAX_PAIRS} times`;

export const sortOrder = z.enum(['asc', 'desc'], { error: 'must be asc or desc' }).meta({ id: 'SortOrder' });

const filters = z.strictObject({
  projectId: projectId.optional().meta({ description: 'Only this project' }),
  assetType: assetType.optional().meta({ description: 'Only this asset type' }),
  mediaType: z
    .string()
    .regex(
      /^[a-z0-9][a-z0-9!#$&^_.+-]*\/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)$/i,
      'must be a media type such as image/png, or image/*',
    )
    .transform((text) => text.toLowerCase())
    .optional()
    .meta({
      override: { type: 'string' },
      description: 'Only this media type, or all types of a family',
      example: 'image/*',
    }),
  state: z
    .enum(['processing', 'ready', 'rejected', 'lost'], { error: 'must be processing, ready, rejected or lost' })
    .meta({ id: 'AssetStateFilter' })
    .optional()
    .meta({ description: 'Only this state' }),
  name: nameText.meta({
    override: { type: 'string' },
    description: 'Only names that begin with this text; upper and lower case are equal',
    example: 'holiday',
  }),
  nameContains: nameText.meta({
    override: { type: 'string' },
    description:
      'Only names that hold this text; upper and lower case are equal, and so are letters with and without accents. With three characters or more it is looked up in an index',
    example: 'beach',
  }),
  tag: repeated(tag, MAX_PAIRS, atMostPairs, {
    description: `Only what has this tag; given up to ${MAX_PAIRS} times, only what has all of them`,
    example: ['beach', 'summer'],
  }),
  metadata: repeated(pair, MAX_PAIRS, atMostPairs, {
    description: `Only what has this value under this name in its metadata, exactly: the name, a colon, the value. Given up to ${MAX_PAIRS} times, only what has all of them`,
    example: ['album:summer'],
  }),
  createdFrom: time.meta(aboutTime('Only what was made at this time or later')),
  createdBefore: time.meta(aboutTime('Only what was made before this time')),
  minSize: bytes.meta(aboutBytes('Only what has at least so many bytes')),
  maxSize: bytes.meta(aboutBytes('Only what has at most so many bytes')),
  path: folderPath.optional().meta({
    description:
      'Only this folder and those below it; with `delimiter` only the folder itself. Folders are of a project: without `projectId`, only what you have uploaded in no project is looked at',
    example: 'photos/2026/',
  }),
  delimiter: z
    .literal('/', { error: 'must be /' })
    .optional()
    .meta({
      override: ({ jsonSchema }) => delete jsonSchema.const,
      description:
        '`/`: what lies directly in the folder `path`, or at the top, and in `folders` the folders that lie there, which come first. Filters hold for assets, not for folders',
      example: '/',
    }),
  held: flag.meta({
    override: { type: 'boolean', default: false },
    description: 'Only what a hold or its retention keeps from being deleted',
  }),
  trashed: flag.meta({
    override: { type: 'boolean', default: false },
    description: 'Lists the trash instead of the other assets',
  }),
  sort: z.enum(sorts, { error: 'must be createdAt, name or size' }).meta({ id: 'AssetSort' }).default('createdAt'),
  order: sortOrder.default('desc'),
  limit: pageLimit,
  cursor: pageCursor,
});

/** Two ends of a range that nothing lies between are an error of who asks: he is not told that there is nothing. */
export const listQuery = filters.superRefine(({ minSize, maxSize, createdFrom, createdBefore }, context) => {
  const refuse = (names: [string, string], message: string) => {
    for (const name of names) context.addIssue({ code: 'custom', path: [name], message });
  };
  if (minSize !== undefined && maxSize !== undefined && minSize > maxSize)
    refuse(['minSize', 'maxSize'], 'contradict each other: minSize is more than maxSize');
  if (createdFrom !== undefined && createdBefore !== undefined && createdFrom >= createdBefore)
    refuse(['createdFrom', 'createdBefore'], 'contradict each other: createdFrom is not before createdBefore');
});
