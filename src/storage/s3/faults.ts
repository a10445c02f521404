/** What the SDK and S3 servers say when a call fails, in the words of the port. */
import { S3ServiceException } from '@aws-sdk/client-s3';
import { NoSuchUpload, ObjectStoreRefused, ObjectStoreUnavailable, PartsChanged } from '../object-store.ts';

/** What stores answer when the bytes that arrived are not the ones that were signed; the SDK gives up on them. */
const damages = new Set(['BadDigest', 'XAmzContentSHA256Mismatch', 'XAmzContentChecksumMismatch']);

/** What stores answer to a completion whose parts are not those that arrived (S3 API, CompleteMultipartUpload). */
const changedParts = new Set(['InvalidPart', 'InvalidPartOrder']);

/** Answers below 500 that a later try may not get (S3 API, "Error responses"). */
const passing = new Set([
  ...['RequestTimeout', 'RequestTimeTooSkewed', 'IncompleteBody', 'OperationAborted', 'ConditionalRequestConflict'],
  ...[
    'SlowDown',
    'Throttling',
    'ThrottlingException',
    'TooManyRequestsException',
    'TooManyRequests',
    'RequestLimitExceeded',
  ],
  // Temporary credentials are fetched again.
  ...['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired', 'KMS.ThrottlingException'],
]);
const passingStatuses = new Set([408, 409, 425, 429]);

const keys = 'the credentials are not accepted: correct S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or the role';
const encryption = 'the encryption is refused: correct S3_SSE and S3_SSE_KMS_KEY_ID, or the rights to the key';
const region = 'the bucket is in another region: correct S3_REGION';
/** By code; what is not here may be told by the operation. */
const advice: Record<string, string> = {
  InvalidStorageClass: 'the storage class is not known to the server: correct S3_STORAGE_CLASS',
  InvalidEncryptionAlgorithmError: encryption,
  ServerSideEncryptionConfigurationNotFoundError: encryption,
  NoSuchBucket: 'the bucket does not exist: run npm run setup-bucket, or correct S3_BUCKET, S3_ENDPOINT, S3_REGION',
  AccessDenied: 'the credentials do not allow it: compare with the policy that npm run setup-bucket prints',
  InvalidAccessKeyId: keys,
  InvalidSecurity: keys,
  InvalidToken: keys,
  SignatureDoesNotMatch: keys,
  PermanentRedirect: region,
  AuthorizationHeaderMalformed: region,
  QuotaExceeded: 'the bucket is full by a quota of the server: raise it',
};
/** These carry how an object is to be kept. */
const creations = new Set(['PutObject', 'CreateMultipartUpload']);

const multipartOperations = new Set(['UploadPart', 'ListParts', 'CompleteMultipartUpload', 'AbortMultipartUpload']);

/**
 * `NoSuchUpload`; the error itself where it says that an object is missing; `PartsChanged`; `ObjectStoreRefused` for what no
 * later try would get; else `ObjectStoreUnavailable`, whose cause it is: nobody knows what the server did, or a later try may
 * not meet the fault.
 */
export function translateFault(operation: string, error: unknown): unknown {
  if (error instanceof S3ServiceException) {
    // Ceph calls an upload that is gone a missing key.
    if (error.name === 'NoSuchUpload' || (isMissing(error) && multipartOperations.has(operation)))
      return new NoSuchUpload(`${operation}: no such upload`);
    if (isMissing(error)) return error;
    if (operation === 'CompleteMultipartUpload' && changedParts.has(error.name))
      return new PartsChanged(`${operation}: a part is not the one that arrived`, { cause: error });
    if (isLasting(error))
      return new ObjectStoreRefused(`${operation} was refused: ${error.name}`, adviceOn(operation, error), {
        cause: error,
        isDenied: isDenied(error),
      });
    // Clock skew, throttling, 5xx: a later try may be answered.
  }
  return new ObjectStoreUnavailable(`${operation} failed`, { cause: error });
}

/** Whether the same request would be refused again. */
function isLasting(error: S3ServiceException): boolean {
  const status = error.$metadata.httpStatusCode ?? 0;
  if (passing.has(error.name) || damages.has(error.name) || passingStatuses.has(status)) return false;
  return (status >= 300 && status < 500) || status === 501;
}

/** Not by the key itself or by its signature; an answer to HEAD does not tell. */
function isDenied({ name, $metadata }: S3ServiceException): boolean {
  return $metadata.httpStatusCode === 403 && advice[name] !== keys;
}

function adviceOn(operation: string, { name, $metadata }: S3ServiceException): string {
  const known = advice[name];
  if (known !== undefined) return known;
  if (/kms/i.test(name)) return encryption;
  // An answer to HEAD has no body that would tell which of the two it is.
  if ($metadata.httpStatusCode === 403) return `${keys}; or they do not allow it: run npm run setup-bucket`;
  if (creations.has(operation))
    return `the server answers ${name}: it may not know what S3_STORAGE_CLASS, S3_SSE or S3_CHECKSUM ask for`;
  return `the server answers ${name} to ${operation}: it may not be an S3 server, or not know this request`;
}

/** Whether the server says that there is no such object. */
export function isMissing(error: unknown): boolean {
  return (
    error instanceof S3ServiceException &&
    (error.name === 'NoSuchKey' || (error.name === 'NotFound' && error.$metadata.httpStatusCode === 404))
  );
}

/** Whether a translated fault is that the bytes arrived as others: then they may be sent again. */
export function isDamage(fault: unknown): boolean {
  const cause = fault instanceof Error ? fault.cause : undefined;
  return cause instanceof S3ServiceException && damages.has(cause.name);
}
