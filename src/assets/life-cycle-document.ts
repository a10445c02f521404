/** What a record tells of its life cycle: how long the asset is kept, where its bytes lie, and what comes next. */
import { z } from 'zod';
import { assetTiers, restoreSpeeds } from '../database/tables/assets.ts';
import { openEnum, timestamp } from '../http/schema-types.ts';
import { MAX_DAYS } from '../validation/life-cycle.ts';
import type { Asset } from './asset.ts';

export const restoreSpeed = z.enum(restoreSpeeds, { error: 'must be expedited, standard or bulk' }).meta({
  id: 'RestoreSpeed',
  description:
    'How fast: minutes, hours or up to two days where the archive knows these; others bring everything back as soon as they can',
});

const restoreDocument = z
  .object({
    state: openEnum('ArchiveRestoreState', ['requested', 'failed'], 'How far it is.'),
    speed: openEnum('ArchiveRestoreSpeed', restoreSpeeds, 'As it was asked for.'),
    days: z
      .number()
      .int()
      .meta({
        override: { type: 'integer', minimum: 1, maximum: MAX_DAYS },
        description: 'For which it will be there',
      }),
    requestedAt: timestamp,
    reason: z.string().optional().meta({ description: 'Why it failed', example: 'speed-not-available' }),
  })
  .meta({ id: 'ArchiveRestore', description: 'Present while the bytes are brought back, or could not be' });

const nextDocument = z
  .object({
    action: openEnum('LifeCycleAction', ['archive', 'delete'], 'What will happen.'),
    at: timestamp.meta({
      description:
        'Not before then; it is later where days are counted since the last download, and that is yet to come',
    }),
    rule: openEnum(
      'LifeCycleRule',
      ['temporary', 'trash', 'policy', 'project'],
      'Who wants it so: it was uploaded as temporary, it is in the trash, or its upload policy or its project says so.',
    ),
  })
  .meta({ id: 'LifeCycleStep' });

export const lifeCycleDocument = {
  temporaryUntil: timestamp.optional().meta({
    description: 'Present while the asset is temporary: when it is deleted for good, unless somebody keeps it',
  }),
  tier: openEnum(
    'StorageTier',
    assetTiers,
    'Present while the bytes lie in the archive: they can be downloaded once they were brought back, until `restoredUntil`.',
  ).optional(),
  archivedAt: timestamp.optional().meta({ description: 'Present while the bytes lie in the archive' }),
  restore: restoreDocument.optional(),
  restoredUntil: timestamp.optional().meta({
    description: 'The bytes were brought back from the archive, and no rule archives them again before then',
  }),
  next: nextDocument.optional().meta({
    description: 'What the rules will do with the asset next, as they are now; told by `getAsset` only',
  }),
};

export function toLifeCycleDocument({ temporaryUntil, tier, archivedAt, restore, restoredUntil }: Asset) {
  if (temporaryUntil === undefined && tier === undefined && restoredUntil === undefined) return undefined;
  return {
    ...(temporaryUntil && { temporaryUntil: temporaryUntil.toISOString() }),
    ...(tier !== undefined && { tier }),
    ...(archivedAt && { archivedAt: archivedAt.toISOString() }),
    ...(restore && {
      restore: {
        state: restore.state,
        speed: restore.speed,
        days: restore.days,
        requestedAt: restore.at,
        ...(restore.reason !== undefined && { reason: restore.reason }),
      },
    }),
    ...(restoredUntil && { restoredUntil: restoredUntil.toISOString() }),
  };
}
