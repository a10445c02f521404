/** What an application does with the API, in few words. Every answer comes with its status and parsed body. */
import { SignJWT } from 'jose';
import type { AssetDocument } from '../../src/assets/asset.ts';
import type { ProblemDocument } from '../../src/problems.ts';

export interface Answer<Body> {
  status: number;
  headers: Headers;
  body: Body;
}

/** Of an asset, a problem, a page: tests read what they expect. */
export type AnyBody = AssetDocument &
  ProblemDocument & { data: AssetDocument[]; page: { nextCursor?: string; hasMore: boolean } } & Record<
    string,
    unknown
  >;

export interface UploadOptions {
  name?: string;
  type?: string;
  fields?: Record<string, string>;
  headers?: Record<string, string>;
}

/** For services that are not in development mode: their AUTH_JWT_SECRET. */
export const SECRET = 'a secret of the tests, longer than its digest';

export class Client {
  readonly url: string;
  readonly headers: Record<string, string>;

  /** @param user sent as x-user-id, which development mode believes */
  constructor(url: string, user = 'alice') {
    this.url = url;
    this.headers = { 'x-user-id': user };
  }

  /** @param user subject of a token that is signed by SECRET */
  static async withToken(url: string, user = 'alice'): Promise<Client> {
    const client = new Client(url);
    const token = new SignJWT({ scope: 'admin' }).setProtectedHeader({ alg: 'HS256' }).setSubject(user);
    const signed = await token.setExpirationTime('2h').sign(Buffer.from(SECRET));
    delete client.headers['x-user-id'];
    client.headers['authorization'] = `Bearer ${signed}`;
    return client;
  }

  async request(
    method: string,
    path: string,
    init: RequestInit & { headers?: Record<string, string> } = {},
  ): Promise<Answer<AnyBody>> {
    const response = await fetch(this.url + path, {
      redirect: 'manual',
      ...init,
      method,
      headers: { ...this.headers, ...init.headers },
    });
    const text = await response.text();
    const isJson = /json/.test(response.headers.get('content-type') ?? '');
    return {
      status: response.status,
      headers: response.headers,
      body: isJson && text !== '' ? JSON.parse(text) : (text as unknown as AnyBody),
    };
  }

  get(path: string, headers: Record<string, string> = {}): Promise<Answer<AnyBody>> {
    return this.request('GET', path, { headers });
  }

  send(method: string, path: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer<AnyBody>> {
    return this.request(method, path, {
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json', ...headers },
    });
  }

  /** Form upload, as a browser sends it. */
  upload(
    bytes: Uint8Array<ArrayBuffer>,
    { name = 'photo.png', type = '', fields = {}, headers = {} }: UploadOptions = {},
  ): Promise<Answer<AnyBody>> {
    const form = new FormData();
    for (const [field, value] of Object.entries(fields)) form.append(field, value);
    form.append('file', new Blob([bytes], { type }), name);
    return this.request('POST', '/v1/assets', { body: form, headers });
  }

  raw(
    bytes: Uint8Array<ArrayBuffer>,
    { name = 'photo.png', type = '', fields = {}, headers = {} }: UploadOptions = {},
  ): Promise<Answer<AnyBody>> {
    const query = new URLSearchParams(fields);
    return this.request('PUT', `/v1/assets/raw/${encodeURIComponent(name)}?${query}`, {
      body: bytes,
      headers: { 'content-type': type || 'application/octet-stream', ...headers },
    });
  }

  async content(id: string, headers: Record<string, string> = {}): Promise<Answer<Buffer>> {
    const response = await fetch(`${this.url}/v1/assets/${id}/content`, { headers: { ...this.headers, ...headers } });
    return { status: response.status, headers: response.headers, body: Buffer.from(await response.arrayBuffer()) };
  }
}
