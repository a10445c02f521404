/** What keeps the bytes of an asset, as its row has it: beside the asset and not in a table of its own, see `isHeld`. */

/**
 * `governance`: an administrator may shorten it, for a reason. `compliance`: nobody may. The words, and what they mean, are
 * those of S3 Object Lock (S3 user guide, "Retention modes").
 */
export const retentionModes = ['governance', 'compliance'] as const;
export type RetentionMode = (typeof retentionModes)[number];

export interface HoldRecord {
  reason: string;
  /** Subject of who has set it. */
  by: string;
  /** RFC 3339. */
  at: string;
  /** An administrator has set it: only one takes it off. */
  byAdministrator?: true;
}

/** By the names of the holds. */
export type HeldFor = Record<string, HoldRecord>;
