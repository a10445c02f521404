/** Downloads of files that the service cannot read: ranges of ciphertext, decrypted as they come. */
import { UploadFailed } from '../failure.ts';
import { type Outcome, Patience } from '../patience.ts';
import { patientDefaults, type UploadOptions } from '../upload.ts';
import type { Bytes } from './cobblestone.ts';
import { concat } from './cobblestone.ts';
import type { DecryptionKeys } from './envelope.ts';
import { DecryptionFailed, DownloadFailed } from './failure.ts';
import { type Ciphertext, EncryptedFile } from './reader.ts';

export interface EncryptedDownloadOptions
  extends DecryptionKeys,
    Pick<UploadOptions, 'headers' | 'patience' | 'backoff' | 'stallTimeout' | 'signal'> {
  /** Of the service; not needed with a link. */
  baseUrl?: string;
}

/**
 * Opens an encrypted file: reads what comes before its content, 64 KiB at most, and unwraps its key. Then `stream` and
 * `bytes` of what it returns read all of it, or ranges, of which only the chunks are fetched that hold them. A download that
 * breaks off goes on where it was.
 * @param asset its id; or a link to its bytes, to which no `headers` are sent
 * @throws DecryptionFailed; DownloadFailed; the reason of `signal` when it is aborted
 */
export function downloadEncrypted(asset: string | URL, options: EncryptedDownloadOptions): Promise<EncryptedFile> {
  const { baseUrl, headers = {}, patience, backoff, stallTimeout, signal } = options;
  const isLink = asset instanceof URL;
  if (!isLink && baseUrl === undefined) throw new TypeError('the id of an asset needs the baseUrl of its service');
  const url = isLink ? asset.href : `${baseUrl?.replace(/\/+$/, '')}/v1/assets/${encodeURIComponent(asset)}/content`;
  const patient = new Patience(patientDefaults({ patience, backoff, stallTimeout, signal }));
  const headersNow = () => (isLink ? {} : typeof headers === 'function' ? headers() : headers);
  return EncryptedFile.open(new RemoteCiphertext(url, headersNow, patient), options);
}

/** Ciphertext that is fetched. */
class RemoteCiphertext implements Ciphertext {
  readonly #url: string;
  readonly #headers: () => Record<string, string>;
  readonly #patience: Patience;
  /** The first bytes, which hold all of a small file. */
  #start: Bytes = new Uint8Array();

  constructor(url: string, headers: () => Record<string, string>, patience: Patience) {
    this.#url = url;
    this.#headers = headers;
    this.#patience = patience;
  }

  async start(count: number): Promise<{ bytes: Bytes; size: number }> {
    let size = 0;
    const pieces: Uint8Array[] = [];
    let length = 0;
    for await (const piece of this.#fetch(0, count, (total) => {
      size = total;
    })) {
      pieces.push(piece);
      length += piece.length;
      if (length >= Math.min(count, size)) break;
    }
    this.#start = concat(pieces).slice(0, count);
    return { bytes: this.#start, size };
  }

  async *read(from: number, to: number): AsyncGenerator<Uint8Array> {
    const known = this.#start.subarray(from, to);
    if (known.length > 0) yield known;
    if (from + known.length < to) yield* this.#fetch(from + known.length, to, () => {});
  }

  /** Goes on where it was, until all bytes have come or there are no more. */
  async *#fetch(from: number, to: number, onSize: (total: number) => void): AsyncGenerator<Uint8Array> {
    let at = from;
    let end = to;
    let tries = this.#patience.begin();
    while (at < end) {
      const before = at;
      const request = new RangeRequest(this.#url, this.#headers(), this.#patience);
      try {
        const total = await request.begin(at, end);
        if (typeof total === 'object') {
          await this.#refused(total, () => tries.failed(total));
          continue;
        }
        end = Math.min(end, total);
        onSize(total);
        for (;;) {
          const piece = await request.next();
          if (!piece) break;
          at += piece.length;
          yield piece;
        }
      } finally {
        request.end();
      }
      if (at > before) tries = this.#patience.begin();
      if (at < end) await this.#refused({ status: 0 }, () => tries.failed({ status: 0 }));
    }
  }

  /** Pauses, or throws what the caller of a download understands. */
  async #refused({ status }: { status: number }, failed: () => Promise<void>): Promise<void> {
    this.#patience.options.signal.throwIfAborted();
    if (status === 416) throw new DecryptionFailed('truncated', 'the file ends before its content does');
    try {
      await failed();
    } catch (error) {
      if (!(error instanceof UploadFailed)) throw error;
      throw new DownloadFailed(error.status, error.problem, error.message);
    }
  }
}

/** One request, which ends when nothing comes for too long while somebody waits. */
class RangeRequest {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #limit: number;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #body: ReadableStreamDefaultReader<Uint8Array> | undefined;

  constructor(url: string, headers: Record<string, string>, { options }: Patience) {
    this.#url = url;
    this.#headers = headers;
    this.#limit = options.stallTimeout;
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal]);
  }

  /** @returns bytes of the whole file, or why there are none */
  async begin(from: number, to: number): Promise<number | Exclude<Outcome<never>, { ok: never }>> {
    try {
      const headers = { ...this.#headers, range: `bytes=${from}-${to - 1}` };
      const answer = await this.#inTime(fetch(this.#url, { headers, signal: this.#signal }));
      const total = totalOf(answer, from);
      if (total !== undefined) {
        this.#body = answer.body?.getReader();
        return total;
      }
      const body = await this.#inTime(answer.text());
      return { status: answer.ok ? 502 : answer.status, body, retryAfter: answer.headers.get('retry-after') };
    } catch {
      return { status: 0 };
    }
  }

  /** @returns undefined when nothing more comes, for whatever reason */
  async next(): Promise<Uint8Array | undefined> {
    try {
      return this.#body && (await this.#inTime(this.#body.read())).value;
    } catch {
      return undefined;
    }
  }

  /** Also in the middle of a body. */
  end(): void {
    this.#stop.abort();
  }

  async #inTime<Value>(value: Promise<Value>): Promise<Value> {
    const timer = setTimeout(() => this.#stop.abort(), this.#limit);
    try {
      return await value;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** @returns bytes of the whole file; undefined when the answer does not bring the range. A file from its first byte is one. */
function totalOf(answer: Response, from: number): number | undefined {
  const [, first, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(answer.headers.get('content-range') ?? '') ?? [];
  if (answer.status === 206 && Number(first) === from && total !== undefined) return Number(total);
  const length = answer.headers.get('content-length');
  return answer.status === 200 && from === 0 && length !== null ? Number(length) : undefined;
}
