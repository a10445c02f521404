/**
 * What a request must be before anything is done for it: of one host, framed in a way that is understood, with a query
 * that is text, and with nothing in it twice of which there can be one. JSON is the only body that is parsed, and it must
 * be UTF-8 (RFC 8259 section 8.1).
 */
import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Problem } from '../problems.ts';
import { hasBody } from './body-guard.ts';
import { GIVEN_TWICE, repeatedName } from './json-names.ts';
import { givenTwice, pointerTo } from './openapi.ts';

/** RFC 9110 section 7.2: a name or an address, and a port. */
const HOST = /^(\[[0-9a-f:.]+\]|[a-z0-9._~!$&'()*+,;=%-]+)(:\d{0,5})?$/i;

/** Header fields of which this service acts on one value. Node joins some of them, and drops others but the first. */
const singletons = [
  'Authorization',
  'Content-Type',
  'Idempotency-Key',
  'Tus-Resumable',
  'Upload-Checksum',
  'Upload-Defer-Length',
  'Upload-Length',
  'Upload-Offset',
  'X-HTTP-Method-Override',
  'X-User-Id',
].map((name) => ({ name, key: name.toLowerCase() }));

/**
 * RFC 9112 section 3.2.2: every server takes the absolute form, `GET http://files.example/v1/assets`, and then the host is
 * the one of the URL, whatever the header field says.
 */
export function toOriginForm(request: IncomingMessage): void {
  const [, host, target] = /^https?:\/\/([^/?#]*)(.*)$/i.exec(request.url ?? '') ?? [];
  if (host === undefined || target === undefined) return;
  request.url = target.startsWith('/') ? target : `/${target}`;
  request.headers.host = host;
}

export function checkRequests(app: FastifyInstance): void {
  app.addHook('onRequest', async (request) => {
    checkVersion(request);
    checkHost(request);
    checkSingletons(request);
    checkFraming(request);
    checkQuery(request);
    // A type of nothing means nothing; several clients name one with every request.
    if (!hasBody(request) && !request.routeOptions.config.streamsBody && !request.routeOptions.schema?.body)
      delete request.headers['content-type'];
  });

  app.removeAllContentTypeParsers();
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    if (body.length === 0 && !request.routeOptions.schema?.body) done(null, undefined);
    else if (!isUtf8(body)) done(malformed('The body is not UTF-8.'));
    else {
      const text = body.toString();
      void parse(request, text, (error, value) => {
        const repeated = error ? undefined : repeatedName(text);
        done(error ?? (repeated && nameTwice(repeated)) ?? null, value);
      });
    }
  });
}

/** Node takes some of which it knows nothing. */
function checkVersion({ raw: { httpVersion } }: FastifyRequest): void {
  if (httpVersion !== '1.1' && httpVersion !== '1.0') throw malformed('HTTP/1.1 is spoken here.');
}

/** RFC 9112 section 3.2: exactly one, in HTTP/1.1. */
function checkHost({ raw }: FastifyRequest): void {
  const hosts = raw.headersDistinct['host'] ?? [];
  if (hosts.length > 1) throw malformed('A request has one Host header field.');
  const { host = '' } = raw.headers;
  if (host === '' && raw.httpVersion === '1.1') throw malformed('HTTP/1.1 needs a Host header field.');
  if (host !== '' && !HOST.test(host)) throw malformed('The Host header field is not a host.');
}

/** RFC 9110 section 5.3: who sends one of these twice has two of them read by two readers. */
function checkSingletons({ raw: { headersDistinct } }: FastifyRequest): void {
  const repeated = singletons.filter(({ key }) => (headersDistinct[key]?.length ?? 0) > 1);
  if (repeated.length > 0) throw givenTwice(repeated.map(({ name }) => name));
}

/** RFC 9112 section 6.1. */
function checkFraming({ headers, raw: { httpVersion } }: FastifyRequest): void {
  const coding = headers['transfer-encoding']?.trim().toLowerCase();
  if (coding === undefined) return;
  if (httpVersion === '1.0')
    throw new Problem('malformed-request', {
      detail: 'HTTP/1.0 has no Transfer-Encoding. Send Content-Length, or HTTP/1.1.',
      headers: { connection: 'close' },
    });
  if (coding === 'chunked') return;
  throw new Problem('not-implemented', {
    detail: 'Of transfer codings only chunked is known here. Send the body as it is.',
  });
}

/** RFC 3986 section 2.5: percent-encoded UTF-8. */
function checkQuery({ url }: FastifyRequest): void {
  const [path = '', query = ''] = url.split(/\?(.*)/s);
  if (/[^\x21-\x7e]/.test(url)) throw malformed('The URL has characters that must be percent-encoded.');
  if (!query.includes('%') && !path.includes('%')) return;
  try {
    decodeURIComponent(query);
  } catch {
    throw malformed('The query has a percent-encoding that is not UTF-8.');
  }
}

function nameTwice(path: string[]): Problem {
  const pointer = pointerTo(path);
  return new Problem('invalid-parameter', {
    detail: `${pointer}: ${GIVEN_TWICE}`,
    errors: [{ pointer, detail: GIVEN_TWICE }],
  });
}

function malformed(detail: string): Problem {
  return new Problem('malformed-request', { detail });
}
