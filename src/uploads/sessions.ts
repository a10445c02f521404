/**
 * Upload sessions: uploads whose bytes come in several requests, direct or resumable. This is what both have in common:
 * how they begin, how they are found, and how they end. A session has its record `uploading` from its first moment on; it
 * ends as an asset, or with its lease.
 */
import type { Caller } from '../access/caller.ts';
import { sizeBoundOf } from '../access/tiers.ts';
import type { Asset } from '../assets/asset.ts';
import type { Actor } from '../database/audit.ts';
import type { ProcessingRecord } from '../database/tables/processing-record.ts';
import { Problem, type ProblemType } from '../problems.ts';
import { metadataNotRemovable } from '../processing/strip/problem.ts';
import { quotaExceeded } from '../quotas/quota-exceeded.ts';
import { byteProblems } from '../validation/file-validation.ts';
import { UploadPolicies } from '../validation/upload-policies.ts';
import { ReplacementRefused } from '../versions/refusal.ts';
import { leaseOf, type UploadContext } from './context.ts';
import { endFailedUpload, endUpload } from './ending.ts';
import type { FoundSession, NewSession, SessionKind, UploadSession } from './session-repository.ts';
import type { EndedUpload, InTransaction, NewUpload, SettledBytes, SettledUpload } from './upload.ts';

/**
 * Reserves the quota, and writes down the record and the session.
 * @param size bytes to reserve; 0 where the size is left open
 * @throws Problem quota-exceeded
 */
export async function beginSession(
  context: UploadContext,
  record: NewUpload,
  session: NewSession,
  size: number,
  lease = (session.expiresAt.getTime() - record.createdAt.getTime()) / 1000 + leaseOf(context),
): Promise<void> {
  const { uploads, sessions, quotas } = context;
  const begun = await uploads.begin(record, size, {
    lease,
    inTransaction: (transaction) => sessions.insert(transaction, record.id, session),
  });
  if (!begun) throw await quotaExceeded(quotas, record.place.account, size, record.caller);
}

/** A session of this owner, or the asset it has become. @throws Problem not-found */
export async function findSession(
  { sessions }: UploadContext,
  kind: SessionKind,
  caller: Caller,
  id: string,
): Promise<FoundSession> {
  const found = await sessions.find(kind, caller, id);
  if (!found) throw uploadNotFound();
  return found;
}

/** The upload policies as they were agreed on, whatever the settings say now. */
export function policiesOf({ policies }: Pick<UploadContext, 'policies'>, session: UploadSession): UploadPolicies {
  const agreed = session.policies ?? policies;
  // By what it was agreed on; but who is refused is told of his tier.
  return new UploadPolicies(agreed.all, sizeBoundOf(session.caller));
}

/** @throws Problem upload-expired */
export function requireLive(session: UploadSession): UploadSession {
  if (session.expiresAt.getTime() > Date.now()) return session;
  throw new Problem('upload-expired', { detail: 'The upload has expired. Begin a new one.' });
}

/**
 * Makes the session an asset, whose object is whole. Without a known digest, or with one that is still to be compared, it
 * is `processing` until a job has read it back.
 * @param ended steps that need not be done
 * @returns undefined when the upload was ended by somebody else
 */
export function settleSession(
  { uploads }: UploadContext,
  { id, isReplacing }: Pick<UploadSession, 'id' | 'isReplacing'>,
  stored: SettledBytes,
  actor: Actor,
  {
    verified,
    inTransaction,
    held,
    ended = {},
  }: {
    verified: boolean;
    inTransaction?: InTransaction<Asset> | undefined;
    held?: SettledUpload['held'];
    ended?: ProcessingRecord;
  },
): Promise<Asset | undefined> {
  const learned = { needsVerification: !verified, ended };
  return uploads.settle({ id, isReplacing, held }, stored, actor, inTransaction, learned);
}

/** What was refused because its caller has lost his place in the project. */
const withoutPlace = new WeakSet<Problem>();

/**
 * Who has no right to upload into the project any more does not finish what he has begun there: as for one who begins now,
 * it is unknown to him, or forbidden. `endIfRefused` then leaves nothing of it.
 * @throws Problem not-found; forbidden
 */
export async function requirePlace({ places }: UploadContext, { caller, projectId }: UploadSession): Promise<void> {
  if (projectId === undefined) return;
  try {
    await places.of(caller, projectId);
  } catch (error) {
    if (error instanceof Problem && error.status < 500) withoutPlace.add(error);
    throw error;
  }
}

/** Ends the session where its bytes, or its caller, are refused for good. Never throws. @returns whether that is so */
export async function endIfRefused(
  context: UploadContext,
  session: UploadSession,
  actor: Actor,
  error: unknown,
): Promise<boolean> {
  if (!(error instanceof Problem)) return false;
  const isOfBytes = (type: ProblemType) => byteProblems.has(type) || type === metadataNotRemovable;
  const isForGood = isOfBytes(error.type) || error instanceof ReplacementRefused || withoutPlace.has(error);
  if (!isForGood) return false;
  await endFailedUpload(context, session, { action: 'upload.refused', reason: error.type, actor });
  return true;
}

/** Ends the session because its client wants so, and leaves nothing. @returns false when somebody else was faster */
export function cancelSession(context: UploadContext, session: UploadSession, actor: Actor): Promise<boolean> {
  const outcome: EndedUpload = { action: 'upload.aborted', reason: 'cancelled', actor };
  return endUpload(context, session, outcome);
}

/** A foreign id and an unknown one get the same answer. */
export function uploadNotFound(): Problem {
  return new Problem('not-found', { detail: 'There is no upload with this id.' });
}

export function uploadComplete(): Problem {
  return new Problem('wrong-state', { detail: 'The upload is complete. Delete the asset instead.' });
}
