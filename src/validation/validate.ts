/** What intake judges a file by, whatever door it came through: the policy it falls under, its type, and its room in the quota. */
import { Problem } from '../problems.ts';
import type { QuotasRepository } from '../quotas/repository.ts';
import { classify, normaliseMediaType } from './media-types.ts';
import type { UploadPolicies, UploadPolicy } from './upload-policies.ts';

/** Bytes from which the media type is judged. */
export const HEAD_SIZE = 64 * 1024;

const problemOf = {
  undetected: 'undetected-type',
  'declared-mismatch': 'declared-mismatch',
  'extension-mismatch': 'extension-mismatch',
} as const;

/** What is known of a file before its bytes are. */
export interface Claims {
  fileName: string;
  /** As the client named it; absent when it said nothing. */
  declaredType?: string | undefined;
  /** The policy the caller chose. */
  named?: UploadPolicy | undefined;
}

export interface Judgement {
  mediaType: string;
  policy: UploadPolicy;
}

/**
 * Judges what the client says against what the bytes show.
 * @param head the first HEAD_SIZE bytes, or all there are
 * @throws Problem
 */
export async function judgeType(
  policies: UploadPolicies,
  { fileName, declaredType, named }: Claims,
  head: Buffer,
): Promise<Judgement> {
  const verdict = await classify({
    head: head.subarray(0, HEAD_SIZE),
    fileName,
    declared: declaredType,
    allowUndetected: named ? named.allowUndetected : policies.allowUndetected,
  });
  if (verdict.outcome === 'refused') throw new Problem(problemOf[verdict.reason], { detail: verdict.detail });
  const { mediaType } = verdict;
  return { mediaType, policy: policyFor(policies, named, mediaType) };
}

function policyFor(policies: UploadPolicies, named: UploadPolicy | undefined, mediaType: string): UploadPolicy {
  const policy = named ? (named.mediaTypes.includes(mediaType) ? named : undefined) : policies.allowing(mediaType);
  if (policy) return policy;
  throw typeNotAllowed(policies, named, mediaType);
}

/** @throws Problem */
export function policyNamed(policies: UploadPolicies, assetType: string): UploadPolicy {
  const policy = policies.named(assetType);
  if (policy) return policy;
  const detail = `There is no upload policy of this name. There are ${policies.all.map((each) => each.assetType).join(', ')}.`;
  throw new Problem('invalid-parameter', { detail, errors: [{ parameter: 'assetType', detail }] });
}

/**
 * Bytes a file may have, by what the client says of it. The declared type must agree with the bytes in the end, so it may
 * already tell the limit, or that there is no hope.
 * @throws Problem when no policy would allow it
 */
export function limitFor(
  policies: UploadPolicies,
  assetType: string | undefined,
  declaredType: string | undefined,
): number {
  const named = assetType === undefined ? undefined : policyNamed(policies, assetType);
  const declared = normaliseMediaType(declaredType);
  if (declared === undefined) return named?.maxBytes ?? policies.largest;
  return policyFor(policies, named, declared).maxBytes;
}

/** @throws Problem */
export function refuseBeyond(limit: number, bytes: number): void {
  if (bytes <= limit) return;
  throw new Problem('too-large', {
    detail: `A file of this type may have at most ${limit} bytes. Send a smaller one.`,
  });
}

function typeNotAllowed(policies: UploadPolicies, named: UploadPolicy | undefined, mediaType: string): Problem {
  const allowed = named ? named.mediaTypes : policies.all.flatMap((each) => each.mediaTypes);
  const where = named ? `The asset type ${named.assetType} allows` : 'Allowed are';
  return new Problem('type-not-allowed', {
    detail: `The file is ${mediaType}. ${where} ${[...new Set(allowed)].join(', ')}.`,
  });
}

export function emptyFile(): Problem {
  return new Problem('empty-file', { detail: 'The file has no bytes. Send a file that has some.' });
}

export function damaged(fault: string): Problem {
  return new Problem('damaged-file', { detail: fault });
}

export function digestMismatch(found: Buffer): Problem {
  return new Problem('digest-mismatch', {
    detail: `The SHA-256 of the bytes is ${found.toString('hex')}. Send the file again.`,
  });
}

export async function quotaExceeded(
  quotas: Pick<QuotasRepository, 'get'>,
  ownerId: string,
  bytes: number,
): Promise<Problem> {
  const { limit, used, reserved } = await quotas.get(ownerId);
  const available = limit > used + reserved ? limit - used - reserved : 0n;
  return new Problem('quota-exceeded', {
    detail: `${bytes} more bytes are needed and ${available} of ${limit} are available. Delete assets for good or ask for a larger quota.`,
  });
}
