/**
 * Metadata of files on their way in: a file that lies in memory as a whole loses it before it is stored, so that no store
 * ever has it. What is larger waits for the step `strip`.
 */
import type { ProcessingRecord } from '../database/tables/processing-record.ts';
import { notRemovable } from '../processing/strip/problem.ts';
import { canStrip, holdsMetadata, stripInPlace, Unstrippable } from '../processing/strip/strip.ts';
import type { PartWriter } from '../storage/part-writer.ts';
import type { ValidatedType } from '../validation/file-validation.ts';
import type { UploadPolicies } from '../validation/upload-policies.ts';

export interface StrippedArrival {
  /** Whether something was taken out. */
  isChanged: boolean;
  /** That the step need not be done again. */
  ended: ProcessingRecord;
}

/**
 * @param assetTypeMayFollow another policy may still be chosen; then all that may be must agree
 * @returns undefined when nothing was decided: the step will do it, where the policy wants it
 * @throws Problem metadata-not-removable
 */
export async function stripArrival(
  writer: PartWriter,
  policies: UploadPolicies,
  { mediaType, policy }: ValidatedType,
  assetTypeMayFollow: boolean,
): Promise<StrippedArrival | undefined> {
  const possible = assetTypeMayFollow ? policies.all.filter((each) => each.mediaTypes.includes(mediaType)) : [policy];
  if (!canStrip(mediaType) || possible.some(({ metadata }) => metadata === 'keep') || !writer.isInMemory)
    return undefined;
  return refusing(async () => {
    const isChanged = await writer.rewrite((bytes) => stripInPlace(bytes, mediaType));
    return { isChanged, ended: ended() };
  });
}

/**
 * A file that must be stored as it came, and lies in memory.
 * @returns that the step need not be done, where there is nothing to take out
 * @throws Problem metadata-not-removable
 */
export async function seeWhetherClean(bytes: Buffer, { mediaType, policy }: ValidatedType): Promise<ProcessingRecord> {
  if (policy.metadata === 'keep' || !canStrip(mediaType)) return {};
  return refusing(async () => ((await holdsMetadata(bytes, mediaType)) ? {} : ended()));
}

function ended(): ProcessingRecord {
  return { strip: { state: 'done', at: new Date().toISOString() } };
}

async function refusing<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof Unstrippable ? notRemovable(error) : error;
  }
}
