/**
 * The requests that carry objects, and links to them. A command of the SDK passes through some forty layers that work
 * out, for every request again, where the endpoint is, how to serialise and what to retry: 0.66 ms of processor time for
 * a PutObject of 1 KiB, where this file takes 0.1 (`npm run bench`). What is difficult stays the SDK's: its rules for
 * endpoints (asked once), its signer and presigner, its credentials, and its HTTP handler with all time limits.
 *
 * S3 API, "Authenticating Requests (AWS Signature Version 4)" and "Error responses".
 */
import type { ClientRequest, IncomingMessage } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { HeadBucketCommand, type S3Client, S3ServiceException } from '@aws-sdk/client-s3';
import { S3RequestPresigner } from '@aws-sdk/s3-request-presigner';
import { getEndpointFromInstructions } from '@smithy/core/endpoints';
import { buildQueryString, HttpRequest, type HttpResponse } from '@smithy/core/protocols';
import { SignatureV4 } from '@smithy/signature-v4';
import { type Backoff, pauseAfter } from '../../backoff.ts';
import { SigningHash } from './signing-hash.ts';

export interface S3Request {
  method: 'GET' | 'HEAD' | 'PUT';
  key: string;
  query?: Record<string, string>;
  /** Names in lower case. */
  headers?: Record<string, string>;
  body?: Buffer;
  /** SHA-256 of the body in hexadecimal, or UNSIGNED_PAYLOAD. */
  payloadHash?: string;
}

export interface S3Response {
  /** Names in lower case. */
  headers: Record<string, string>;
  body: IncomingMessage;
}

export const UNSIGNED_PAYLOAD = 'UNSIGNED-PAYLOAD';
const EMPTY_PAYLOAD = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
/** Of an error document; they are small. Bytes. */
const MAX_ERROR = 64 * 1024;
/** Between tries of a request. */
export const requestBackoff: Backoff = { first: 100, max: 5000 };

/** What may pass by itself (S3 API, "Error responses"): faults of the server, and requests to slow down. */
const passingStatus = new Set([429, 500, 502, 503, 504]);
const passingCodes = new Set(['RequestTimeout', 'RequestTimeTooSkewed', 'SlowDown', 'InternalError']);

/** On a request for a part: it is to be copied from another key. */
const COPY_SOURCE = 'x-amz-copy-source';

/**
 * Signs that a header field is absent: it is among the names that are signed, and no line tells its value. A server that
 * leaves out what is not there (Ceph) comes to the same signature, and to another one as soon as somebody adds the field.
 */
class AbsenceSigner extends SignatureV4 {
  protected override createCanonicalRequest(...parameters: Parameters<SignatureV4['createCanonicalRequest']>): string {
    return super.createCanonicalRequest(...parameters).replace(`\n${COPY_SOURCE}:\n`, '\n');
  }
}

interface Endpoint {
  protocol: string;
  hostname: string;
  port?: number;
  /** Of the bucket, without a slash at the end. */
  path: string;
  /** Of the header field Host. */
  host: string;
  signer: SignatureV4;
  presigner: S3RequestPresigner;
  absenceSigner: AbsenceSigner;
}

export interface S3RequestsOptions {
  client: S3Client;
  bucket: string;
  /** Tries of one request, the first included. */
  tries: number;
  onRetries?: ((operation: string, retries: number) => void) | undefined;
}

export class S3Requests {
  readonly #options: S3RequestsOptions;
  #endpoint: Promise<Endpoint> | undefined;
  /** Milliseconds by which the server's clock is ahead, once it complained. */
  #clockOffset = 0;

  constructor(options: S3RequestsOptions) {
    this.#options = options;
  }

  /**
   * Sends a request, again after faults that may pass by themselves. The body of the answer must be read or resumed.
   * @throws S3ServiceException for an answer that is no success; whatever the connection failed with
   */
  async send(operation: string, request: S3Request, signal: AbortSignal): Promise<S3Response> {
    const { tries, onRetries } = this.#options;
    for (let attempt = 1; ; attempt++) {
      let fault: unknown;
      let date: string | undefined;
      try {
        const answer = await this.#try(request, signal);
        if (answer.statusCode < 300) return { headers: answer.headers, body: answer.body as IncomingMessage };
        date = answer.headers['date'];
        fault = await refusal(operation, answer, attempt);
        // An answer may come before all of the body was sent; the caller wants its memory back.
        const { req } = answer.body as IncomingMessage & { req: ClientRequest };
        if (!req.writableFinished) req.destroy();
      } catch (error) {
        signal.throwIfAborted();
        fault = error;
      }
      if (attempt === tries || !this.#mayPass(fault, date)) throw fault;
      onRetries?.(operation, 1);
      await delay(pauseAfter(attempt, requestBackoff), undefined, { signal });
    }
  }

  /**
   * A link that anybody can follow.
   * @param life seconds, from `signedAt` or from now on
   * @param signedHeaders what the request must carry, exactly
   */
  async presign(
    request: Pick<S3Request, 'method' | 'key' | 'query'>,
    { expiresIn, signedAt }: { expiresIn: number; signedAt?: Date },
    signedHeaders: Record<string, string> = {},
  ): Promise<string> {
    const endpoint = await this.#resolveEndpoint();
    // Whatever stands among the header fields is signed, but Content-Type; the body is not (UNSIGNED-PAYLOAD).
    const unsigned = this.#request(endpoint, { ...request, headers: signedHeaders });
    const signingDate = this.#now(signedAt?.getTime());
    const { path, query } = await endpoint.presigner.presign(unsigned, { expiresIn, signingDate });
    return `${endpoint.protocol}//${endpoint.host}${path}?${buildQueryString(query ?? {})}`;
  }

  /** A link as `presign` makes it, to which nobody can add `x-amz-copy-source`. For servers that understand this. */
  async presignWithoutCopySource(
    request: Pick<S3Request, 'method' | 'key' | 'query'>,
    expiresIn: number,
    signedHeaders: Record<string, string> = {},
  ): Promise<string> {
    const endpoint = await this.#resolveEndpoint();
    const headers = { ...signedHeaders, 'x-amz-content-sha256': UNSIGNED_PAYLOAD, [COPY_SOURCE]: '' };
    const unsigned = this.#request(endpoint, { ...request, headers });
    const unhoistableHeaders = new Set([COPY_SOURCE]);
    const signingDate = this.#now();
    const { path, query } = await endpoint.absenceSigner.presign(unsigned, {
      expiresIn,
      signingDate,
      unhoistableHeaders,
    });
    return `${endpoint.protocol}//${endpoint.host}${path}?${buildQueryString(query ?? {})}`;
  }

  async #try(request: S3Request, signal: AbortSignal): Promise<HttpResponse> {
    const endpoint = await this.#resolveEndpoint();
    const { headers, payloadHash = EMPTY_PAYLOAD } = request;
    const unsigned = this.#request(endpoint, {
      ...request,
      headers: { ...headers, 'x-amz-content-sha256': payloadHash },
    });
    const signed = await endpoint.signer.sign(unsigned, { signingDate: this.#now() });
    const { response } = await this.#options.client.config.requestHandler.handle(signed as HttpRequest, {
      abortSignal: signal,
    });
    return response as HttpResponse;
  }

  #request(endpoint: Endpoint, { method, key, query = {}, headers = {}, body }: S3Request): HttpRequest {
    const { protocol, hostname, port, path, host } = endpoint;
    return new HttpRequest({
      method,
      protocol,
      hostname,
      ...(port !== undefined && { port }),
      path: `${path}/${key.split('/').map(percentEncoded).join('/')}`,
      query,
      headers: { host, ...headers, ...(body && { 'content-length': String(body.length) }) },
      body,
    });
  }

  #resolveEndpoint(): Promise<Endpoint> {
    this.#endpoint ??= this.#findEndpoint().catch((error) => {
      this.#endpoint = undefined;
      throw error;
    });
    return this.#endpoint;
  }

  /** Where the bucket is and how requests to it are signed, by the rules of the SDK. */
  async #findEndpoint(): Promise<Endpoint> {
    const { client, bucket } = this.#options;
    const { config } = client;
    const { url, properties } = await getEndpointFromInstructions(
      { Bucket: bucket },
      HeadBucketCommand,
      // The client is typed narrower than what the SDK itself hands over here.
      config as unknown as Parameters<typeof getEndpointFromInstructions>[2],
    );
    const [scheme] = (properties?.['authSchemes'] ?? []) as { signingRegion?: string; signingName?: string }[];
    const signing = {
      service: scheme?.signingName ?? 's3',
      region: scheme?.signingRegion ?? config.region,
      credentials: config.credentials,
      sha256: SigningHash,
      // S3 signs the path as it stands.
      uriEscapePath: false,
      applyChecksum: false,
    };
    return {
      protocol: url.protocol,
      hostname: url.hostname,
      ...(url.port !== '' && { port: Number(url.port) }),
      path: url.pathname.replace(/\/$/, ''),
      host: url.host,
      signer: new SignatureV4(signing),
      presigner: new S3RequestPresigner(signing),
      absenceSigner: new AbsenceSigner(signing),
    };
  }

  /** @param time by our clock; milliseconds */
  #now(time = Date.now()): Date {
    return new Date(time + this.#clockOffset);
  }

  /** @param date as the server has it, when it answered */
  #mayPass(fault: unknown, date: string | undefined): boolean {
    if (!(fault instanceof S3ServiceException)) return true;
    if (fault.name === 'RequestTimeTooSkewed') {
      const serverTime = Date.parse(date ?? '');
      if (Number.isNaN(serverTime)) return false;
      this.#clockOffset = serverTime - Date.now();
    }
    return passingStatus.has(fault.$metadata.httpStatusCode ?? 0) || passingCodes.has(fault.name);
  }
}

/** What the server says, as the SDK would. */
async function refusal(operation: string, answer: HttpResponse, attempts: number): Promise<S3ServiceException> {
  const { statusCode, headers } = answer;
  // Read to its end even where there is nothing to read: only then is the connection free again.
  const text = await start(answer.body as IncomingMessage);
  const code = /<Code>([^<]{1,200})<\/Code>/.exec(text)?.[1];
  return new S3ServiceException({
    name: code ?? (statusCode === 404 ? 'NotFound' : `Status${statusCode}`),
    message: /<Message>([^<]{1,1000})<\/Message>/.exec(text)?.[1] ?? `${operation}: ${statusCode}`,
    $fault: statusCode < 500 ? 'client' : 'server',
    $metadata: {
      httpStatusCode: statusCode,
      attempts,
      ...(headers['x-amz-request-id'] !== undefined && { requestId: headers['x-amz-request-id'] }),
    },
  });
}

/** The first bytes of a body as text, all of it read so that the connection can be used again. */
async function start(body: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of body) if (text.length < MAX_ERROR) text += String(chunk);
  return text;
}

/** RFC 3986 section 2.1: everything but unreserved characters. */
function percentEncoded(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
