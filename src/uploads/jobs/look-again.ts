/**
 * Looks again under a key, after a call to the store that makes something there had no answer: what is asked for may be
 * done yet, when everybody who would remove it has gone. It happens where an answer is lost (also one that was asked for
 * again, so that there are two multipart uploads and one of them is known), and where a process died or was frozen while
 * it sent something.
 *
 * A look ends whatever is open and of no use. One that finds nothing is the last; otherwise there is another, later. The
 * key is in the job, not in the record, so a look needs no record, and what must end at once does not wait for it.
 *
 * What an upload goes on with is what its session says at the time of the look: a resumable upload that one request has
 * begun in the store, and could not write down, is begun again by the next request, under another id.
 */
import type { JobReference } from '../../database/outbox.ts';
import type { JobContext } from '../../jobs/job.ts';
import { type CallOptions, type ObjectStore, ObjectStoreUnavailable } from '../../storage/object-store.ts';
import type { UploadsRepository } from '../repository.ts';
import type { UploadSessionsRepository } from '../session-repository.ts';

export interface Look {
  assetId: string;
  objectKey: string;
  /** Upload id, in the store, that the upload goes on with while it lives, unless its session names one. */
  keep?: string | undefined;
  /** How many looks came before. */
  look: number;
}

export const lookAgainJob: JobReference<Look> = { name: 'look-again' };

/** Looks are so much later than the first one: a minute, ten minutes, an hour. */
const DELAYS = [1, 10, 60];

/** Seconds before a look, counted from 0; undefined when there is none any more. */
export function delayBefore(look: number, first: number): number | undefined {
  const factor = DELAYS[look];
  return factor === undefined ? undefined : first * factor;
}

/** @returns the next look that there must be */
export async function lookAgain(
  { uploads, sessions, store }: { uploads: UploadsRepository; sessions: UploadSessionsRepository; store: ObjectStore },
  look: Look,
  { signal }: Pick<JobContext, 'signal'>,
): Promise<Look | undefined> {
  const { assetId, objectKey } = look;
  const fate = await uploads.fate(assetId);
  const keep = fate === 'running' ? ((await sessions.storeUploadId(assetId)) ?? look.keep) : undefined;
  // It goes on with an upload id that is not known here. When it has ended, none is of use.
  if (fate === 'running' && keep === undefined) return { ...look, look: Math.min(look.look + 1, DELAYS.length - 1) };
  const ended = await endOpenUploads(store, objectKey, keep, { signal });
  const removed = fate === 'gone' ? await removeObjects(store, objectKey, { signal }) : 0;
  return ended + removed === 0 ? undefined : { ...look, look: look.look + 1 };
}

async function endOpenUploads(
  store: ObjectStore,
  objectKey: string,
  keep: string | undefined,
  options: CallOptions,
): Promise<number> {
  const open = (await store.listMultipartUploads(objectKey, options)).filter((uploadId) => uploadId !== keep);
  for (const uploadId of open) await store.abortMultipartUpload(objectKey, uploadId, options);
  return open.length;
}

async function removeObjects(store: ObjectStore, objectKey: string, options: CallOptions): Promise<number> {
  if (!(await store.head(objectKey, options))) return 0;
  const left = await store.deleteAll([objectKey], options);
  if (left.length > 0) throw new ObjectStoreUnavailable('an object was not deleted');
  return 1;
}
