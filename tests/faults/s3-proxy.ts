/**
 * Stands between the service and a real S3 server and breaks what it is told to break. It passes requests on as they are,
 * with their Host, so signatures and presigned links stay valid.
 */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { reset } from '../support/sockets.ts';

export type S3Fault =
  /** 503 SlowDown; the server is never asked. */
  | 'unavailable'
  /** 403 QuotaExceeded, as Ceph answers when a bucket has no room; the server is never asked. */
  | 'full'
  /** The connection is reset before the server is asked. */
  | 'reset before'
  /** The connections are reset when half of the request is through. */
  | 'reset within'
  /** The server does it; its answer is lost. */
  | 'reset after'
  /** Nobody ever answers; the server is never asked. */
  | 'stall'
  /** The server does it, and nobody ever hears of it. */
  | 'stall after'
  /** The answer takes half a second more. */
  | 'slow'
  /** The answer ends in the middle of its body. */
  | 'cut body'
  /** One byte of the request's body is another one. */
  | 'corrupt request'
  /** One byte of the answer's body is another one. */
  | 'corrupt answer'
  /** 200 with an error document, as CompleteMultipartUpload and DeleteObjects may answer; the server is never asked. */
  | 'error in 200';

export interface S3Call {
  operation: string;
  method: string;
  url: string;
}

const SLOWNESS = 500;

export class S3Proxy {
  readonly #target: URL;
  readonly #server: Server;
  /** Asked for every call before it is passed on. */
  faultFor: (call: S3Call) => S3Fault | undefined = () => undefined;
  /** Awaited before a call is passed on, and when the server has answered it. Rejecting drops the call. */
  before: (call: S3Call) => Promise<void> | void = () => {};
  after: (call: S3Call) => Promise<void> | void = () => {};
  /** While true, connections are reset at once: the server is dead. */
  dead = false;
  /** While true, nothing is answered. */
  frozen = false;
  port = 0;

  constructor(target: string) {
    this.#target = new URL(target);
    this.#server = createServer((asked, answer) => {
      const { socket } = asked;
      this.#pass(asked, answer).catch(() => reset(socket));
    });
    this.#server.on('connection', (socket) => {
      socket.on('error', () => {});
      if (this.dead) reset(socket);
    });
    this.#server.keepAliveTimeout = 0;
  }

  async listen(): Promise<this> {
    await new Promise<void>((listening) => this.#server.listen(0, '127.0.0.1', listening));
    const address = this.#server.address();
    if (typeof address === 'object' && address) this.port = address.port;
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Passes everything on again. */
  heal(): void {
    this.faultFor = () => undefined;
    this.before = () => {};
    this.after = () => {};
    this.dead = false;
    this.frozen = false;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
  }

  async #pass(asked: IncomingMessage, answer: ServerResponse): Promise<void> {
    if (this.dead) throw new Error('dead');
    const call = callOf(asked);
    await this.before(call);
    const fault = this.faultFor(call);
    if (fault === 'reset before') throw new Error(fault);
    if (fault === 'stall' || this.frozen) return;
    if (fault === 'unavailable' || fault === 'full' || fault === 'error in 200') {
      const body = Buffer.concat(await asked.toArray()).toString();
      const refusal = refusals[fault];
      answer.writeHead(refusal?.status ?? 200, { 'content-type': 'application/xml' });
      answer.end(`<?xml version="1.0" encoding="UTF-8"?>${refusal?.document ?? errorIn200(call, body)}`);
      return;
    }
    const upstream = request({
      host: this.#target.hostname,
      port: this.#target.port,
      method: asked.method ?? 'GET',
      path: asked.url ?? '/',
      headers: asked.headers,
    });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      upstream.once('response', resolve);
      upstream.once('error', reject);
    });
    answered.catch(() => {});
    answer.once('close', () => upstream.destroy());
    await this.#passBody(asked, upstream, fault);
    const response = await answered;
    if (this.frozen || fault === 'stall after') {
      await response.resume().toArray();
      return;
    }
    if (fault === 'reset after') {
      await response.toArray();
      throw new Error(fault);
    }
    await this.after(call);
    if (this.dead) throw new Error('dead');
    if (fault === 'slow') await delay(SLOWNESS);
    await this.#passAnswer(response, answer, fault);
  }

  async #passBody(
    asked: IncomingMessage,
    upstream: ReturnType<typeof request>,
    fault: S3Fault | undefined,
  ): Promise<void> {
    const length = Number(asked.headers['content-length'] ?? 0);
    let passed = 0;
    for await (const chunk of asked as AsyncIterable<Buffer>) {
      if (fault === 'reset within' && passed + chunk.length >= length / 2) {
        upstream.destroy();
        throw new Error(fault);
      }
      if (fault === 'corrupt request' && passed === 0) flip(chunk);
      passed += chunk.length;
      if (!upstream.write(chunk)) await drained(upstream);
    }
    upstream.end();
  }

  async #passAnswer(response: IncomingMessage, answer: ServerResponse, fault: S3Fault | undefined): Promise<void> {
    answer.writeHead(response.statusCode ?? 502, response.headers);
    let passed = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      if (fault === 'cut body') {
        answer.write(chunk.subarray(0, chunk.length / 2), () => answer.socket?.destroy());
        return;
      }
      if (fault === 'corrupt answer' && passed === 0) flip(chunk);
      passed += chunk.length;
      if (!answer.write(chunk)) await drained(answer);
    }
    answer.end();
  }
}

/** Until more may be written, or nothing more can. */
function drained(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off('drain', done).off('close', done);
      resolve();
    };
    stream.once('drain', done).once('close', done);
  });
}

const refusals: { [fault in S3Fault]?: { status: number; document: string } } = {
  unavailable: { status: 503, document: '<Error><Code>SlowDown</Code><Message>as told</Message></Error>' },
  full: { status: 403, document: '<Error><Code>QuotaExceeded</Code><Message>as told</Message></Error>' },
};

/** DeleteObjects names the keys that it could not delete. */
function errorIn200({ operation }: S3Call, body: string): string {
  const error = '<Code>InternalError</Code><Message>as told</Message>';
  if (operation !== 'DeleteObjects') return `<Error>${error}</Error>`;
  const keys = [...body.matchAll(/<Key>(.*?)<\/Key>/g)].map(([, key]) => key);
  const errors = keys.map((key) => `<Error><Key>${key}</Key>${error}</Error>`);
  return `<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${errors.join('')}</DeleteResult>`;
}

function flip(chunk: Buffer): void {
  const middle = Math.floor(chunk.length / 2);
  chunk[middle] = (chunk[middle] ?? 0) ^ 1;
}

function callOf({ method = 'GET', url = '/' }: IncomingMessage): S3Call {
  const { pathname, searchParams } = new URL(url, 'http://proxy');
  const isBucket = pathname.split('/').filter(Boolean).length < 2;
  const has = (name: string) => searchParams.has(name);
  const operation = () => {
    if (method === 'POST') {
      if (has('uploads')) return 'CreateMultipartUpload';
      return has('delete') ? 'DeleteObjects' : 'CompleteMultipartUpload';
    }
    if (method === 'PUT') return has('partNumber') ? 'UploadPart' : 'PutObject';
    if (method === 'DELETE') return has('uploadId') ? 'AbortMultipartUpload' : 'DeleteObject';
    if (method === 'HEAD') return isBucket ? 'HeadBucket' : 'HeadObject';
    if (has('uploads')) return 'ListMultipartUploads';
    if (has('uploadId')) return 'ListParts';
    return isBucket ? 'ListObjectsV2' : 'GetObject';
  };
  return { operation: operation(), method, url };
}
