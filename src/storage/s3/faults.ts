/** What the SDK and S3 servers say when a call fails, in the words of the port. */
import { S3ServiceException } from '@aws-sdk/client-s3';
import { NoSuchUpload, ObjectStoreUnavailable } from '../object-store.ts';

/** What stores answer when the bytes that arrived are not the ones that were signed; the SDK gives up on them. */
const damages = new Set(['BadDigest', 'XAmzContentSHA256Mismatch', 'XAmzContentChecksumMismatch']);

const multipartOperations = new Set(['UploadPart', 'ListParts', 'CompleteMultipartUpload', 'AbortMultipartUpload']);

/**
 * `NoSuchUpload`; the error itself where it says that an object is missing; else `ObjectStoreUnavailable`, whose cause it is:
 * nobody knows what the server did, or a later try may not meet the fault.
 */
export function translateFault(operation: string, error: unknown): unknown {
  if (error instanceof S3ServiceException) {
    // Ceph calls an upload that is gone a missing key.
    if (error.name === 'NoSuchUpload' || (isMissing(error) && multipartOperations.has(operation)))
      return new NoSuchUpload(`${operation}: no such upload`);
    if (isMissing(error)) return error;
    // Wrong credentials, a missing bucket, clock skew, throttling, 5xx: the store cannot be used as it is.
  }
  return new ObjectStoreUnavailable(`${operation} failed`, { cause: error });
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
