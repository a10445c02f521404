/**
 * How an upload ends that does not become an asset: first the record, so that nobody can make it one any more, then the
 * bytes. Behind what is done here at once stands a job that was enqueued with the change of the record, and behind
 * that the end of the lease; so nothing here has to succeed.
 */
import { type Actor, recordRefusalEvent } from '../database/audit.ts';
import type { Problem } from '../problems.ts';
import { erase } from '../storage/erase.ts';
import type { Abandoned } from '../storage/part-writer-options.ts';
import type { UploadContext } from './context.ts';
import type { EndedUpload } from './upload.ts';

/** Removes what the store may hold of an upload, and tells whether anything may be left. */
export type RemoveBytes = () => Promise<Abandoned>;

/**
 * Ends the upload and leaves nothing.
 * @returns false when it is an asset by now, or was ended by somebody else
 * @throws when the record could not be changed
 */
export async function endUpload(
  context: UploadContext,
  { id, objectKey }: { id: string; objectKey: string },
  outcome: EndedUpload,
  remove: RemoveBytes = () => eraseAll(context, objectKey),
): Promise<boolean> {
  const { uploads, onError } = context;
  if (!(await uploads.markForDeletion(id, outcome))) return false;
  try {
    if ((await remove()) === 'nothing-left') await uploads.forget(id);
  } catch (error) {
    onError('the bytes of an ended upload are left to their job', error);
  }
  return true;
}

/** The same for a request that has failed anyway. Never throws. */
export async function endFailedUpload(
  context: UploadContext,
  upload: { id: string; objectKey: string },
  outcome: EndedUpload,
): Promise<void> {
  await endUpload(context, upload, outcome).catch((error) =>
    context.onError('an upload was left to the end of its lease', error),
  );
}

/** For an upload whose record was ended by somebody else, after its object was made. Never throws. */
export async function eraseEnded(
  context: UploadContext,
  { id, objectKey }: { id: string; objectKey: string },
): Promise<void> {
  try {
    await eraseAll(context, objectKey);
    await context.uploads.forget(id);
  } catch (error) {
    context.onError('the bytes of an ended upload are left to their job', error);
  }
}

async function eraseAll({ store }: UploadContext, objectKey: string): Promise<Abandoned> {
  await erase(store, objectKey, {});
  return 'nothing-left';
}

/** Records that a file was refused before there was a record of its upload. Never throws. */
export async function recordRefusal(
  { database, onError }: Pick<UploadContext, 'database' | 'onError'>,
  actor: Actor,
  ownerId: string,
  problem: Problem,
  name?: string,
): Promise<void> {
  // Nothing more is written about who is being erased.
  if (problem.type === 'owner-under-erasure') return;
  try {
    await recordRefusalEvent(database.database, {
      action: 'upload.refused',
      actor,
      ownerId,
      detail: {
        reason: problem.type,
        ...(problem.options.signature !== undefined && { signature: problem.options.signature }),
        ...(name?.isWellFormed() && !name.includes('\0') && { name: name.slice(0, 255) }),
      },
    });
  } catch (error) {
    onError('a refused upload could not be written to the audit trail', error);
  }
}
