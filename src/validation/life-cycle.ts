/** What becomes of assets with time, as upload policies and projects say it. */
import { z } from 'zod';

/** A hundred years: a date that far off can still be told. */
export const MAX_DAYS = 36_500;
const DAYS = `must be 1 to ${MAX_DAYS}`;
export const days = z.number({ error: DAYS }).int(DAYS).min(1, DAYS).max(MAX_DAYS, DAYS);

export const daysSince = ['upload', 'last-download'] as const;

/** Days are counted from when an asset was given the bytes that it has, or from when they were asked for last. */
export interface LifeCycleRules {
  archiveAfterDays?: number | undefined;
  deleteAfterDays?: number | undefined;
  /** Absent: `upload`. */
  since?: (typeof daysSince)[number] | undefined;
}

/** Why rules contradict themselves; undefined when they do not. */
export function contradictionIn({ archiveAfterDays, deleteAfterDays }: LifeCycleRules): string | undefined {
  if (archiveAfterDays === undefined || deleteAfterDays === undefined || archiveAfterDays < deleteAfterDays)
    return undefined;
  return 'archiveAfterDays must be less than deleteAfterDays: what is deleted by then need not be archived';
}

/** What an uploader may say: `permanent` where the upload policy says temporary. */
export const retention = z.enum(['temporary', 'permanent'], { error: 'must be temporary or permanent' }).meta({
  id: 'Retention',
  description:
    'How long it is kept: `temporary` assets are deleted after some days unless somebody keeps them. Absent: as the upload policy says, which is `permanent` where it says nothing',
});
