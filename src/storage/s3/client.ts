/** The client of the SDK, with our time limits, retries and checksums. */
import { S3Client } from '@aws-sdk/client-s3';
import { type PoolSizes, SocketPools } from './socket-pools.ts';

export interface S3Options {
  bucket: string;
  region: string;
  endpoint?: string;
  /** The endpoint as clients reach it, for links. */
  publicEndpoint?: string;
  /** Absent: the SDK's default credential chain. */
  credentials?: { accessKeyId: string; secretAccessKey: string; expiration?: Date };
  forcePathStyle: boolean;
  /** Links to parts sign that there is no `x-amz-copy-source`; AWS, which needs it not, refuses such links. */
  forbidCopySource?: boolean;
  storageClass?: string;
  encryption: { mode: 'none' } | { mode: 'AES256' } | { mode: 'aws:kms'; keyId?: string };
  checksum: 'crc32' | 'sha256' | 'sdk';
  /** Milliseconds: to connect, for one try, for a call with all its tries. */
  connectTimeout: number;
  requestTimeout: number;
  deadline: number;
  /** Connections at most, by what they are for; more requests wait for one. */
  sockets: PoolSizes;
  /** Told how many retries a call took, when any. */
  onRetries?: (operation: string, retries: number) => void;
}

/** Tries of one request, the first included. */
export const TRIES = 4;

/** @param endpoint absent for that of AWS in the region */
export function makeClient(options: S3Options, endpoint: string | undefined): S3Client {
  const mode = options.checksum === 'sdk' ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED';
  return new S3Client({
    region: options.region,
    forcePathStyle: options.forcePathStyle,
    ...(endpoint !== undefined && { endpoint }),
    ...(options.credentials && { credentials: options.credentials }),
    requestChecksumCalculation: mode,
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: TRIES,
    retryMode: 'standard',
    requestHandler: new SocketPools(options.sockets, {
      connectionTimeout: options.connectTimeout,
      requestTimeout: options.requestTimeout,
      throwOnRequestTimeout: true,
      // Waiting for a socket is no fault: parts in flight are bounded by us.
      socketAcquisitionWarningTimeout: options.deadline,
    }),
  });
}
