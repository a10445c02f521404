import { refusalIn } from '../storage/object-store.ts';

/** One look at the configuration as it is live. */
export interface Check {
  name: string;
  /** Whether the service cannot work without it. */
  needed: boolean;
  /** Whether the checks after it say nothing when it fails. */
  stops?: boolean;
  /**
   * Resolves with what was found, or with why there is nothing to look at.
   * @throws Fault, or whatever the thing looked at throws
   */
  run: () => Promise<string | { skipped: string }>;
}

/** Says in words of ours what is wrong and what to do about it. */
export class Fault extends Error {
  override name = 'Fault';
}

export interface Verdict {
  name: string;
  verdict: 'ok' | 'failed' | 'missing' | 'skipped';
  detail: string;
}

/** Runs the checks in order. One that is needed and fails is `failed`; one that is not is `missing`. One that stops leaves the rest `skipped`. */
export async function* examine(checks: readonly Check[]): AsyncGenerator<Verdict> {
  let stoppedBy: string | undefined;
  for (const { name, needed, stops, run } of checks) {
    if (stoppedBy !== undefined) {
      yield { name, verdict: 'skipped', detail: `first see to: ${stoppedBy}` };
      continue;
    }
    try {
      const found = await run();
      if (typeof found === 'string') yield { name, verdict: 'ok', detail: found };
      else yield { name, verdict: 'skipped', detail: found.skipped };
    } catch (error) {
      if (stops) stoppedBy = name;
      yield { name, verdict: needed ? 'failed' : 'missing', detail: wordsOf(error) };
    }
  }
}

/** What S3 servers say, and what it means. */
const missingBucket =
  'the bucket does not exist: run npm run setup-bucket, or correct S3_BUCKET, S3_ENDPOINT, S3_REGION';
const refusedKeys = 'the credentials are not accepted: correct S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or the role';
const advice: Record<string, string> = {
  NotFound: missingBucket,
  NoSuchBucket: missingBucket,
  Forbidden: refusedKeys,
  '403': refusedKeys,
  AccessDenied: 'the credentials do not allow it: compare with the policy that npm run setup-bucket prints',
  InvalidAccessKeyId: refusedKeys,
  SignatureDoesNotMatch: refusedKeys,
  CredentialsProviderError:
    'there are no credentials: set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or give the machine a role',
  PermanentRedirect: 'the bucket is in another region: correct S3_REGION',
};

const unreachable = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT']);

/** The innermost cause says most; an operator may read it, clients never do. */
function wordsOf(error: unknown): string {
  if (error instanceof Fault) return error.message;
  const refusal = refusalIn(error);
  if (refusal) return refusal.advice;
  if (error instanceof AggregateError && error.errors.length > 0) return wordsOf(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  if (error.cause instanceof Error) return wordsOf(error.cause);
  const known = advice[error.name];
  if (known !== undefined) return known;
  if ('code' in error && typeof error.code === 'string' && unreachable.has(error.code))
    return `${error.message}: nobody answers there; correct DATABASE_URL or S3_ENDPOINT, whichever it is, or start the server`;
  return error.name === 'Error' ? error.message : `${error.name}: ${error.message}`;
}
