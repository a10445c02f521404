/** The client of the SDK, with our time limits, retries and checksums. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { S3Client } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';

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
  /** Connections at most; more requests wait for one. */
  sockets: number;
  /** Told how many retries a call took, when any. */
  onRetries?: (operation: string, retries: number) => void;
}

/** Tries of one request, the first included. */
export const TRIES = 4;

/** @param endpoint absent for that of AWS in the region */
export function makeClient(options: S3Options, endpoint: string | undefined): S3Client {
  const agent = { keepAlive: true, maxSockets: options.sockets, scheduling: 'lifo' as const };
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
    requestHandler: new NodeHttpHandler({
      httpAgent: new HttpAgent(agent),
      httpsAgent: new HttpsAgent(agent),
      connectionTimeout: options.connectTimeout,
      requestTimeout: options.requestTimeout,
      throwOnRequestTimeout: true,
      // Waiting for a socket is no fault: parts in flight are bounded by us.
      socketAcquisitionWarningTimeout: options.deadline,
    }),
  });
}
