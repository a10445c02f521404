/** Shares, as whoever makes them and as strangers see them. */
import assert from 'node:assert/strict';
import type { ShareDocument } from '../../src/shares/documents.ts';
import type { Client } from './client.ts';

export interface MadeShare {
  id: string;
  /** The address that strangers are given. */
  url: string;
  token: string;
}

export async function share(by: Client, terms: object): Promise<MadeShare> {
  const { status, body } = await by.send('POST', '/v1/shares', terms);
  assert.equal(status, 201, JSON.stringify(body));
  const url = String(body['url']);
  return { id: body.id, url, token: url.split('/').at(-1) ?? '' };
}

export async function shareOf(by: Client, id: string): Promise<ShareDocument> {
  const { status, body } = await by.get(`/v1/shares/${id}`);
  assert.equal(status, 200, JSON.stringify(body));
  return body as unknown as ShareDocument;
}

/** What a stranger gets, without what is another one with each answer. */
export async function ask(url: string, init: RequestInit = {}) {
  const response = await fetch(url, { redirect: 'manual', ...init });
  const bytes = Buffer.from(await response.arrayBuffer());
  const isJson = /json/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    headers: response.headers,
    bytes,
    body: (isJson && bytes.length > 0 ? JSON.parse(bytes.toString()) : {}) as Record<string, unknown>,
  };
}

const changing = ['date', 'x-request-id', 'ratelimit-remaining', 'ratelimit-reset', 'connection', 'keep-alive'];

/** All that a stranger can tell answers apart by. */
export async function seen(url: string, init: RequestInit = {}) {
  const { status, headers, body } = await ask(url, init);
  const { requestId, ...told } = body;
  return { status, headers: [...headers].filter(([name]) => !changing.includes(name)), told };
}

export function basic(password: string): { authorization: string } {
  return { authorization: `Basic ${Buffer.from(`anybody:${password}`).toString('base64')}` };
}
