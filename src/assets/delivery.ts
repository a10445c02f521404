/**
 * Sends an object's bytes through the service: one range, all conditional header fields, and an end that is either whole
 * or visibly broken. When the store breaks off, or stalls, the connection is destroyed, because after the header fields
 * there is no other way to tell the client that bytes are missing. A reader that is too slow is closed like that of any
 * other answer (http/answer-guard.ts), and loses its place when somebody else waits for one.
 */
import type { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { DownloadPlaces } from '../http/download-places.ts';
import { evaluateRead, rangeApplies } from '../http/preconditions.ts';
import { ClientGone, Problem, unavailable } from '../problems.ts';
import { freeing } from '../storage/chunks.ts';
import { type ByteRange, ObjectStoreUnavailable } from '../storage/object-store.ts';
import { type Reads, servedByOf } from '../storage/reads.ts';
import { parseRange } from './byte-range.ts';
import { contentHeaders } from './serving.ts';

/** Milliseconds without a byte from the store after which it is given up. */
const STORE_STALL = 30_000;
const LOOK_EVERY = 5_000;

/** What is served, as far as conditions and ranges are about it. */
export interface Representation {
  /** Bytes. */
  size: number;
  /** Strong. */
  entityTag: string;
  /** Absent where what is served may change and have an earlier date than before. */
  lastModified?: Date;
  /** Content-Type, Content-Disposition, Cache-Control and whatever else belongs to the bytes. */
  headers: Record<string, string>;
}

export interface Delivery extends Representation {
  store: Pick<Reads, 'get'>;
  places: DownloadPlaces;
  /** Whose place it takes. */
  callerId: string;
  key: string;
  /** Aborted when the client has gone; made here when absent. */
  signal?: AbortSignal;
  /** Awaited before bytes are sent; not for HEAD, 304 or refusals. */
  beforeBytes?: () => Promise<void>;
  /** Makes an object that is not there again, where that is possible. @returns its key; it must have the same bytes */
  onMissing?: () => Promise<string | undefined>;
  /** Told the number of bytes when they were all sent. */
  onSent?: (bytes: number) => void;
}

export const conditionalHeaders = z.object({
  range: z
    .string()
    .optional()
    .meta({ description: 'One range of bytes (RFC 9110 section 14)', example: 'bytes=0-1023' }),
  'if-match': z.string().optional(),
  'if-none-match': z.string().optional(),
  'if-modified-since': z.string().optional(),
  'if-unmodified-since': z.string().optional(),
  'if-range': z.string().optional(),
});

/** The bytes that an answer has. */
export interface AgreedBytes {
  length: number;
  /** Absent where all are sent. */
  range?: ByteRange;
}

/**
 * Looks at conditions and Range, and sets the header fields of the answer (RFC 9110 sections 13 and 14).
 * @returns the bytes that are to be sent now; nothing where the answer has none, which is sent already
 * @throws Problem precondition-failed, range-not-satisfiable
 */
export function agreeOnBytes(
  request: FastifyRequest,
  reply: FastifyReply,
  { size, entityTag, lastModified, headers: own }: Representation,
): AgreedBytes | undefined {
  const { headers } = request;
  const current = { etag: entityTag, ...(lastModified && { lastModified }) };
  const verdict = evaluateRead(
    {
      ifMatch: headers['if-match'],
      ifNoneMatch: headers['if-none-match'],
      ifModifiedSince: headers['if-modified-since'],
      ifUnmodifiedSince: headers['if-unmodified-since'],
    },
    current,
  );
  if (verdict === 'precondition-failed')
    throw new Problem('precondition-failed', {
      detail: 'The bytes do not match the entity tag or the date of the request.',
    });
  const validators = { etag: entityTag, ...(lastModified && { 'last-modified': lastModified.toUTCString() }) };
  reply.headers({ ...contentHeaders, ...own, ...validators, 'accept-ranges': 'bytes' });
  if (verdict === 'not-modified') {
    reply.removeHeader('content-type').code(304).send();
    return undefined;
  }
  const wanted =
    request.method === 'GET' && rangeApplies(headers['if-range'] as string | undefined, current)
      ? headers.range
      : undefined;
  const range = parseRange(wanted, size);
  if (range.kind === 'unsatisfiable') {
    throw new Problem('range-not-satisfiable', {
      detail: `The asset has ${size} bytes.`,
      headers: { 'content-range': `bytes */${size}` },
    });
  }
  const length = range.kind === 'range' ? range.last - range.first + 1 : size;
  reply.header('content-length', length);
  if (range.kind === 'range') reply.code(206).header('content-range', `bytes ${range.first}-${range.last}/${size}`);
  if (request.method === 'HEAD') {
    reply.send();
    return undefined;
  }
  return { length, ...(range.kind === 'range' && { range: { first: range.first, last: range.last } }) };
}

/** @throws Problem precondition-failed, range-not-satisfiable, unavailable */
export async function deliver(request: FastifyRequest, reply: FastifyReply, delivery: Delivery): Promise<FastifyReply> {
  const agreed = agreeOnBytes(request, reply, delivery);
  if (!agreed) return reply;
  const { length, range } = agreed;
  const { signal = signalOf(reply) } = delivery;
  await delivery.places.enter(delivery.callerId, reply, signal);
  await delivery.beforeBytes?.();
  const open = (key: string) => delivery.store.get(key, { signal, ...(range && { range }) });
  const madeAgain = async () => {
    const key = await delivery.onMissing?.();
    return key === undefined ? undefined : open(key);
  };
  const body = (await open(delivery.key)) ?? (await madeAgain());
  if (!body || body.length !== length) {
    body?.stream.destroy();
    request.log.error(
      { expected: length, found: body?.length },
      'the object of a ready asset is missing or of another size',
    );
    throw unavailable('object store');
  }
  if (reply.raw.closed) {
    body.stream.destroy();
    throw clientGone();
  }
  reply.headers(servedByOf(body));
  watch(body.stream, reply);
  reply.raw.once('finish', () => delivery.onSent?.(length));
  return reply.send(freeing(body.stream));
}

/** Aborted when the connection of the answer is closed, or was before. */
export function signalOf({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController();
  if (raw.closed) gone.abort(clientGone());
  else raw.once('close', () => gone.abort(clientGone()));
  return gone.signal;
}

function clientGone(): ClientGone {
  return new ClientGone('the client has gone');
}

/**
 * Gives up a store that sends nothing while it is waited for: when the client has all that came. The answer must not be
 * closed yet, as its end ends the watch.
 */
function watch(stream: Readable, reply: FastifyReply): void {
  const { raw } = reply;
  let written = -1;
  let since = performance.now();
  const timer = setInterval(() => {
    const now = raw.socket?.bytesWritten ?? 0;
    if (now !== written || raw.writableNeedDrain || stream.readableEnded) {
      written = now;
      since = performance.now();
      return;
    }
    if (performance.now() - since < STORE_STALL) return;
    stream.destroy(new ObjectStoreUnavailable('the transfer stalled'));
    raw.destroy();
  }, LOOK_EVERY);
  raw.once('close', () => clearInterval(timer));
}
