/** Requests to the service that carry no file, each until it is answered. */
import { UploadFailed } from './failure.ts';
import { createClient, createConfig } from './generated/client/index.ts';
import type { Asset } from './generated/index.ts';
import { getAsset } from './generated/index.ts';
import { type Outcome, type Patience, pause } from './patience.ts';
import type { UploadMethod } from './upload.ts';

/** Milliseconds between looks at a file that is looked through after its upload. */
const FIRST_LOOK = 500;
const LONGEST_LOOK = 5000;
/** Tries to leave nothing behind; then the server does it by itself, when the upload expires. */
const CANCEL_TRIES = 3;
const CANCEL_TIMEOUT = 5000;

type Headers = Record<string, string>;

export interface Asked<Data> {
  data?: Data | undefined;
  error?: unknown;
  response?: Response | undefined;
}

export class ServiceClient {
  readonly baseUrl: string;
  readonly client;
  readonly #headers: Headers | (() => Headers);
  readonly #patience: Patience;

  constructor(baseUrl: string, headers: Headers | (() => Headers), patience: Patience) {
    this.baseUrl = baseUrl;
    this.#headers = headers;
    this.#patience = patience;
    this.client = createClient(createConfig({ baseUrl }));
  }

  /** Those of the application, such as a token, as they are now. */
  get headers(): Headers {
    return typeof this.#headers === 'function' ? this.#headers() : this.#headers;
  }

  /** @throws UploadFailed */
  insist<Data>(ask: (signal: AbortSignal) => Promise<Asked<Data>>): Promise<NonNullable<Data>> {
    const { signal, stallTimeout } = this.#patience.options;
    return this.#patience.insist(async (): Promise<Outcome<NonNullable<Data>>> => {
      const limit = timeLimit(stallTimeout, signal);
      try {
        const { data, error, response } = await ask(limit.signal);
        if (response?.ok && data != null) return { ok: data };
        return { status: response?.status ?? 0, body: error, retryAfter: response?.headers.get('retry-after') };
      } catch {
        return { status: 0 };
      } finally {
        limit.end();
      }
    });
  }

  asset(id: string): Promise<Asset> {
    const { client } = this;
    return this.insist((signal) => getAsset({ client, headers: this.headers, path: { id }, signal }));
  }

  /** Waits until the file was looked through. @throws UploadFailed when it is refused after all */
  async ready(asset: Asset): Promise<Asset> {
    let found = asset;
    for (let wait = FIRST_LOOK; found.state === 'processing'; wait = Math.min(LONGEST_LOOK, wait * 1.5)) {
      await pause(wait, this.#patience.options.signal);
      found = await this.asset(asset.id);
    }
    if (found.state === 'ready') return found;
    throw new UploadFailed(422, undefined, { message: `the file was ${found.state}: ${found.reason ?? 'unknown'}` });
  }

  /** Never throws. */
  async cancel(method: UploadMethod, uploadId: string): Promise<void> {
    const url = `${this.baseUrl}/v1/${method === 'direct' ? 'uploads' : 'resumable'}/${uploadId}`;
    const headers = { ...this.headers, ...(method === 'resumable' && { 'tus-resumable': '1.0.0' }) };
    for (let attempt = 1; attempt <= CANCEL_TRIES; attempt++) {
      const limit = timeLimit(CANCEL_TIMEOUT);
      const answer = await fetch(url, { method: 'DELETE', headers, signal: limit.signal }).catch(() => undefined);
      limit.end();
      if (answer && answer.status < 500 && answer.status !== 429) return;
      const { backoff } = this.#patience.options;
      if (attempt < CANCEL_TRIES) await pause(backoff.first * attempt, new AbortController().signal, true);
    }
  }
}

/** A signal that ends with another, or after a while. */
function timeLimit(duration: number, signal?: AbortSignal): { signal: AbortSignal; end: () => void } {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new Error('no answer in time')), duration);
  return {
    signal: signal ? AbortSignal.any([signal, late.signal]) : late.signal,
    end: () => clearTimeout(timer),
  };
}
