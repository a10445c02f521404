/**
 * What a request must be before anything is done for it: of one host, framed in a way that is understood, with a query
 * that is text. JSON is the only body that is parsed, and it must be UTF-8 (RFC 8259 section 8.1).
 */
import { isUtf8 } from 'node:buffer';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Problem } from '../problems.ts';
import { hasBody } from './body-guard.ts';

/** RFC 9110 section 7.2: a name or an address, and a port. */
const HOST = /^(\[[0-9a-f:.]+\]|[a-z0-9._~!$&'()*+,;=%-]+)(:\d{0,5})?$/i;

export function checkRequests(app: FastifyInstance): void {
  app.addHook('onRequest', async (request) => {
    checkHost(request);
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
    else if (!isUtf8(body)) done(new Problem('malformed-request', { detail: 'The body is not UTF-8.' }));
    else void parse(request, body.toString(), done);
  });
}

/** RFC 9112 section 3.2: exactly one, in HTTP/1.1. */
function checkHost({ raw }: FastifyRequest): void {
  const hosts = raw.headersDistinct['host'] ?? [];
  if (hosts.length > 1) throw malformed('A request has one Host header field.');
  const [host = ''] = hosts;
  if (host === '' && raw.httpVersion === '1.1') throw malformed('HTTP/1.1 needs a Host header field.');
  if (host !== '' && !HOST.test(host)) throw malformed('The Host header field is not a host.');
}

/** RFC 9112 section 6.1. */
function checkFraming({ headers }: FastifyRequest): void {
  const coding = headers['transfer-encoding']?.trim().toLowerCase();
  if (coding === undefined || coding === 'chunked') return;
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

function malformed(detail: string): Problem {
  return new Problem('malformed-request', { detail });
}
