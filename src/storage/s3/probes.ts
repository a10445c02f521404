/** What only the S3 API can tell of a server, for `npm run doctor`: checksums, conditional writes, CORS, its clock. */
import { randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import { connect } from 'node:tls';
import {
  DeleteObjectCommand,
  HeadBucketCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { probeFolder } from '../probe-keys.ts';
import { makeClient, type S3Options } from './client.ts';

export interface S3Facts {
  /** Whether a body that does not have the checksum it is sent with is refused; undefined when it could not be tried. */
  verifiesCrc32: boolean;
  /** Whether the trailing checksums of newer SDKs are understood (`S3_CHECKSUM=sdk`). */
  takesSdkChecksums: boolean;
  /** Whether `If-None-Match: *` keeps an object from being overwritten. */
  conditionalWrites: boolean;
  /** The Date of an answer, and when it was asked for. Milliseconds. */
  clock: { theirs: number; before: number } | undefined;
}

export async function probeS3(options: S3Options, keyPrefix: string): Promise<S3Facts> {
  const plain = makeClient({ ...options, checksum: 'crc32' }, options.endpoint);
  const sdk = makeClient({ ...options, checksum: 'sdk' }, options.endpoint);
  const Bucket = options.bucket;
  const Key = `${probeFolder(keyPrefix, 'doctor')}/probe`;
  const put = (client: S3Client, more: object) =>
    accepted(client.send(new PutObjectCommand({ Bucket, Key, Body: randomBytes(100), ...more })));
  try {
    const before = Date.now();
    const takesSdkChecksums = await put(sdk, {});
    const verifiesCrc32 = !(await put(plain, { ChecksumCRC32: 'AAAAAA==' }));
    await put(plain, {});
    const conditionalWrites = !(await put(plain, { IfNoneMatch: '*' }));
    const date = await dateOf(plain, Bucket);
    return {
      verifiesCrc32,
      takesSdkChecksums,
      conditionalWrites,
      clock: date === undefined ? undefined : { theirs: date, before },
    };
  } finally {
    await accepted(plain.send(new DeleteObjectCommand({ Bucket, Key })));
    plain.destroy();
    sdk.destroy();
  }
}

/** Why the bucket cannot be used: code, message and place of the fault. HEAD answers have no body, so the list is asked for. */
export interface S3Refusal {
  /** Of S3, or of the system. */
  code: string;
  message: string;
  status: number;
  /** Where the bucket is, when the server says so. */
  region?: string;
  /** The server does not answer over http as one of S3 does, and over https it would. */
  speaksHttps?: boolean;
}

/** @returns undefined when the bucket can be listed */
export async function probeRefusal(options: S3Options, keyPrefix: string): Promise<S3Refusal | undefined> {
  const client = makeClient(options, options.endpoint);
  try {
    await client.send(new ListObjectsV2Command({ Bucket: options.bucket, Prefix: keyPrefix, MaxKeys: 1 }));
    return undefined;
  } catch (error) {
    const refusal = refusalOf(error);
    const isPlain = options.endpoint?.startsWith('http:') && !(error instanceof S3ServiceException);
    return isPlain && (await speaksTls(options.endpoint)) ? { ...refusal, speaksHttps: true } : refusal;
  } finally {
    client.destroy();
  }
}

/** Whether a TLS handshake with the server of this URL comes to its end, whatever its certificate. */
function speaksTls(url = ''): Promise<boolean> {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  return new Promise((resolve) => {
    const socket = connect(
      { host, port: Number(port || 80), rejectUnauthorized: false, ...(isIP(host) === 0 && { servername: host }) },
      () => end(true),
    );
    const end = (answer: boolean) => {
      resolve(answer);
      socket.destroy();
    };
    socket.setTimeout(PROBE_TIME, () => end(false));
    socket.on('error', () => end(false));
    socket.on('close', () => end(false));
  });
}

function refusalOf(error: unknown): S3Refusal {
  if (error instanceof AggregateError && error.errors.length > 0) return refusalOf(error.errors[0]);
  if (!(error instanceof Error)) return { code: '', message: String(error), status: 0 };
  if (error instanceof S3ServiceException) {
    const region = regionIn(error);
    return {
      ...{ code: error.name, message: error.message, status: error.$metadata.httpStatusCode ?? 0 },
      ...(region !== undefined && { region }),
    };
  }
  if (error.cause instanceof Error) return refusalOf(error.cause);
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name;
  return { code, message: error.message, status: statusIn(error) };
}

/** AWS says it in a header field, and where the signature names another one in the answer too. */
function regionIn(error: S3ServiceException): string | undefined {
  const headers: unknown = error.$response?.headers;
  const named: unknown = headers instanceof Object ? Reflect.get(headers, 'x-amz-bucket-region') : undefined;
  const region: unknown = named ?? Reflect.get(error, 'Region');
  return typeof region === 'string' && /^[\w-]{1,64}$/.test(region) ? region : undefined;
}

/** Answers that are not XML leave no more than their status. */
function statusIn(error: Error): number {
  const metadata: unknown = '$metadata' in error ? error.$metadata : undefined;
  const status: unknown = metadata instanceof Object ? Reflect.get(metadata, 'httpStatusCode') : undefined;
  return typeof status === 'number' ? status : 0;
}

/** Milliseconds for one request of a probe. */
const PROBE_TIME = 10_000;

/**
 * Whether the server evaluates `x-amz-copy-source` on a link to a part although the link does not sign that header field.
 * Then whoever has such a link learns of any key in the bucket whether it exists. Servers that know the rule ("all x-amz
 * header fields must be signed", S3 API, Signature Version 4, canonical requests) refuse such a request.
 * @param link signs a new link to a part of `size` bytes
 * @param keys an object that exists, and one that does not
 */
export async function evaluatesCopySource(
  link: () => Promise<string>,
  size: number,
  bucket: string,
  keys: { existing: string; missing: string },
): Promise<boolean> {
  const answers: string[] = [];
  for (const key of [keys.existing, keys.missing]) {
    try {
      const answer = await fetch(await link(), {
        method: 'PUT',
        body: Buffer.alloc(size),
        headers: { 'x-amz-copy-source': `/${bucket}/${key}` },
        signal: AbortSignal.timeout(PROBE_TIME),
      });
      const text = await answer.text();
      if (text.includes('CopyPartResult')) return true;
      answers.push(`${answer.status} ${/<Code>(\w+)<\/Code>/.exec(text)?.[1] ?? ''}`);
    } catch {
      // A server that acts on the field may break off instead of reading the body.
      answers.push('no answer');
    }
  }
  return answers[0] !== answers[1] || answers.some((answer) => /NoSuchKey|^404/.test(answer));
}

/** Whether the server does it; a fault that is no refusal rejects. */
async function accepted(answer: Promise<unknown>): Promise<boolean> {
  try {
    await answer;
    return true;
  } catch (error) {
    const status = error instanceof S3ServiceException ? (error.$metadata.httpStatusCode ?? 0) : 0;
    if (status >= 400 && status < 500) return false;
    if (status === 501) return false;
    throw error;
  }
}

async function dateOf(client: S3Client, Bucket: string): Promise<number | undefined> {
  let date: string | undefined;
  const command = new HeadBucketCommand({ Bucket });
  command.middlewareStack.add(
    (next) => async (step) => {
      const result = await next(step);
      const response: unknown = result.response;
      if (response instanceof Object && 'headers' in response) date = (response.headers as { date?: string }).date;
      return result;
    },
    { step: 'deserialize', name: 'rememberDate' },
  );
  await client.send(command);
  const time = Date.parse(date ?? '');
  return Number.isNaN(time) ? undefined : time;
}

/** Whether pages of this origin may PUT to the bucket, as a browser would ask (Fetch standard, CORS-preflight fetch). */
export async function allowsOrigin(url: string, origin: string): Promise<boolean> {
  const answer = await fetch(url, {
    method: 'OPTIONS',
    headers: { origin, 'access-control-request-method': 'PUT', 'access-control-request-headers': 'content-type' },
  });
  await answer.arrayBuffer();
  const allowed = answer.headers.get('access-control-allow-origin');
  const methods = answer.headers.get('access-control-allow-methods') ?? '';
  return answer.ok && (allowed === '*' || allowed === origin) && /\bPUT\b/.test(methods);
}
