/**
 * Client of clamd (clamd(8)), which tells whether bytes hold a virus. Bytes go over its socket as they come, by INSTREAM: no
 * file of ours, and no more memory than a chunk. Every outcome is a verdict, and what is not known to be clean is not
 * clean: a stream that was cut, a daemon that is away, too slow or over one of its limits are `not-scanned`.
 *
 *   `zINSTREAM\0`, then for each chunk its length (4 bytes, big endian) and the chunk, then a length of zero;
 *   the answer is `stream: OK`, `stream: NAME FOUND` or `... ERROR`, and ends with a zero byte.
 *
 * clamd scans when it has the whole stream. So the time for a verdict grows with the bytes, and with its signatures: 0.02 s
 * of CPU per MiB with a few of them, 0.14 s with some millions, measured.
 */
import { connect, type Socket } from 'node:net';

/** Verdict on bytes. The name of a signature is as clamd tells it: one of a local file ends in `.UNOFFICIAL`. */
export type ScanOutcome =
  | { verdict: 'clean' }
  | { verdict: 'infected'; signature: string }
  | { verdict: 'not-scanned'; why: NotScanned; detail: string };
export type NotScanned = 'too-large' | 'unreachable' | 'timeout' | 'source-failed' | 'error';

/** How long clamd is waited for. Milliseconds; time that the source of the bytes takes does not count. */
export interface ClamdPatience {
  /** For a connection. */
  connect: number;
  /** While it takes none of the bytes that are sent. */
  idle: number;
  /** For all of a scan, and what is added to that for each MiB. */
  total: number;
  perMiB: number;
}

/** Bytes that ClamAV scans at most, whatever it is configured to (clamd.conf(5), MaxFileSize). */
export const MAX_SCANNED = 2 ** 31 - 1;
/** Of an answer. Bytes; names of signatures have some dozens. */
const MAX_ANSWER = 4096;
const MiB = 1024 * 1024;

/** What clamd says of itself. */
export interface ClamdVersion {
  /** Program and number of its signatures, such as `ClamAV 1.4.6/27829`. */
  engine: string;
  /** When the signatures were made. Absent where there are only those of local files. */
  signaturesAt?: Date;
}

/** Where clamd listens. @param text `host:port` or the path of a socket; an IPv6 address in brackets */
export function clamdAddress(text: string): { host: string; port: number } | { path: string } | undefined {
  if (text.startsWith('/')) return { path: text };
  const [, bracketed, plain, port = ''] = /^(?:\[([\da-f:.]+)\]|([\w.-]+)):(\d{1,5})$/i.exec(text) ?? [];
  const host = bracketed ?? plain;
  return host === undefined || Number(port) < 1 || Number(port) > 65_535 ? undefined : { host, port: Number(port) };
}

export class Clamd {
  readonly #address: { host: string; port: number } | { path: string };
  readonly #patience: ClamdPatience;

  /** @throws RangeError when the address is none */
  constructor(address: string, patience: ClamdPatience) {
    const parsed = clamdAddress(address);
    if (!parsed) throw new RangeError('clamd is named by host:port or the path of a socket');
    this.#address = parsed;
    this.#patience = patience;
  }

  /**
   * Scans all that `source` gives. Never throws: where the source fails, nothing is scanned.
   * @param size bytes that are to come, where it is known
   * @param signal ends the scan, as not scanned
   */
  async scan(
    source: AsyncIterable<Uint8Array>,
    { size = 0, signal }: { size?: number; signal?: AbortSignal | undefined } = {},
  ): Promise<ScanOutcome> {
    if (size > MAX_SCANNED) return tooLarge();
    const scan = new ClamdScan(connect(this.#address), this.#patience);
    const onAbort = () => scan.abandon();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      for await (const chunk of source) {
        if (signal?.aborted) return { verdict: 'not-scanned', why: 'source-failed', detail: 'the scan was stopped' };
        if (!(await scan.write(chunk))) break;
      }
      return await scan.end();
    } catch (error) {
      // The closing zero is never sent: a part of the bytes must not be judged for the whole.
      const detail = error instanceof Error ? error.message : String(error);
      return { verdict: 'not-scanned', why: 'source-failed', detail };
    } finally {
      signal?.removeEventListener('abort', onAbort);
      scan.abandon();
    }
  }

  /** The same for bytes of a small file: they go in one write, before anybody knows whether clamd is there. Never throws. */
  async scanWhole(bytes: Uint8Array): Promise<ScanOutcome> {
    const scan = new ClamdScan(connect(this.#address), this.#patience);
    try {
      return await scan.whole(bytes);
    } finally {
      scan.abandon();
    }
  }

  /** @throws ClamdUnavailable when clamd does not answer */
  async ping(): Promise<void> {
    const answer = await this.#ask('PING');
    if (answer !== 'PONG') throw new ClamdUnavailable(`clamd answers PING by ${JSON.stringify(answer.slice(0, 100))}`);
  }

  /** @throws ClamdUnavailable when clamd does not answer */
  async version(): Promise<ClamdVersion> {
    const answer = await this.#ask('VERSION');
    const [program = '', signatures = '', at = ''] = answer.split('/');
    if (!program.startsWith('ClamAV'))
      throw new ClamdUnavailable(`clamd answers VERSION by ${JSON.stringify(answer.slice(0, 100))}`);
    const engine = printable(signatures === '' || signatures === '0' ? program : `${program}/${signatures}`);
    const time = Date.parse(`${at} UTC`);
    return { engine, ...(Number.isFinite(time) && time > 0 && { signaturesAt: new Date(time) }) };
  }

  async #ask(command: 'PING' | 'VERSION'): Promise<string> {
    const scan = new ClamdScan(connect(this.#address), this.#patience, command);
    try {
      return await scan.reply();
    } finally {
      scan.abandon();
    }
  }
}

/** clamd does not answer, or not as clamd does. */
export class ClamdUnavailable extends Error {
  override name = 'ClamdUnavailable';
}

/** One command to clamd, over a connection of its own. */
class ClamdScan {
  readonly #socket: Socket;
  readonly #patience: ClamdPatience;
  readonly #command: string;
  readonly #connected: Promise<unknown>;
  readonly #closed: Promise<void>;
  #answer = '';
  /** Resolves when all of the answer is there, or none will come. */
  readonly #answered: Promise<void>;
  #failure: Error | undefined;
  #outcome: Extract<ScanOutcome, { verdict: 'not-scanned' }> | undefined;
  #bytes = 0;
  /** Milliseconds for which clamd was waited for. */
  #waited = 0;
  #begun = false;
  #commanded = false;
  #ended = false;

  constructor(socket: Socket, patience: ClamdPatience, command: 'INSTREAM' | 'PING' | 'VERSION' = 'INSTREAM') {
    this.#socket = socket;
    this.#patience = patience;
    this.#command = command;
    this.#connected = new Promise((resolve) => socket.once('connect', resolve));
    this.#closed = new Promise((resolve) => socket.once('close', () => resolve()));
    this.#answered = new Promise((resolve) => {
      socket.on('data', (bytes) => {
        this.#answer = (this.#answer + bytes.toString('latin1')).slice(0, MAX_ANSWER);
        if (this.#hasAnswered) resolve();
      });
      for (const event of ['end', 'close']) socket.once(event, () => resolve());
    });
    socket.on('error', (error) => {
      this.#failure ??= error;
    });
  }

  /**
   * Sends bytes at the pace of clamd. When it has returned, nobody holds the chunk any more.
   * @returns false when no more bytes are wanted: `end` tells why
   */
  async write(chunk: Uint8Array): Promise<boolean> {
    // A length of zero would end the stream.
    if (chunk.length === 0) return this.#isOpen;
    this.#bytes += chunk.length;
    if (this.#bytes > MAX_SCANNED) this.#fail(tooLarge());
    if (!this.#isOpen || !(await this.#begin())) return false;
    const length = Buffer.alloc(4);
    length.writeUInt32BE(chunk.length);
    return this.#send(length, chunk);
  }

  /** There are no more bytes. Never throws. @returns the verdict */
  async end(): Promise<ScanOutcome> {
    if (this.#isOpen && (await this.#begin())) {
      this.#ended = true;
      if (await this.#send(Buffer.alloc(4))) await this.#await(this.#answered, Number.POSITIVE_INFINITY);
    }
    // After a whole answer to the whole stream, the socket holds nothing that is waited for.
    if (this.#ended && this.#hasAnswered) this.abandon();
    else await this.#close();
    return this.#verdict();
  }

  /**
   * The verdict on all there is. What the socket holds is a copy. A connection that is kept (IDSESSION) would save some 0.05 ms of 0.35,
   * and would have to be told from one that clamd has left.
   */
  async whole(bytes: Uint8Array): Promise<ScanOutcome> {
    const [length, end] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(bytes.length);
    this.#bytes = bytes.length;
    this.#ended = true;
    const command = Buffer.from(`z${this.#command}\0`);
    // An empty chunk would be the end of the stream, and what follows it another command.
    this.#socket.write(Buffer.concat(bytes.length === 0 ? [command, end] : [command, length, bytes, end]));
    if (await this.#begin()) await this.#await(this.#answered, Number.POSITIVE_INFINITY);
    return this.#verdict();
  }

  /** The answer to a command that is no scan. @throws ClamdUnavailable */
  async reply(): Promise<string> {
    if (await this.#begin()) {
      await this.#send();
      await this.#await(this.#answered, this.#patience.idle);
    }
    if (this.#hasAnswered) return this.#text;
    throw new ClamdUnavailable(this.#outcome?.detail ?? this.#failureText);
  }

  /** Ends the connection without a verdict. */
  abandon(): void {
    this.#socket.destroy();
  }

  get #hasAnswered(): boolean {
    return this.#answer.includes('\0');
  }

  get #text(): string {
    return this.#answer.slice(0, this.#answer.indexOf('\0')).trim();
  }

  get #failureText(): string {
    return this.#failure?.message ?? 'the connection was closed without an answer';
  }

  get #isOpen(): boolean {
    return this.#outcome === undefined && this.#answer === '' && !this.#socket.destroyed;
  }

  async #begin(): Promise<boolean> {
    if (this.#begun) return true;
    await this.#await(Promise.race([this.#connected, this.#closed]), this.#patience.connect);
    if (!this.#outcome && this.#socket.destroyed)
      this.#fail({ verdict: 'not-scanned', why: 'unreachable', detail: this.#failureText });
    if (this.#outcome) return false;
    this.#begun = true;
    return true;
  }

  /** @returns whether clamd may want more */
  async #send(...chunks: Uint8Array[]): Promise<boolean> {
    // The command goes with what follows it: each write costs a turn of the event loop.
    if (!this.#commanded) chunks.unshift(Buffer.from(`z${this.#command}\0`));
    this.#commanded = true;
    const { promise: sent, resolve } = Promise.withResolvers<void>();
    this.#socket.cork();
    for (const [index, chunk] of chunks.entries())
      this.#socket.write(chunk, index === chunks.length - 1 ? () => resolve() : undefined);
    this.#socket.uncork();
    await this.#await(Promise.race([sent, this.#answered]), this.#patience.idle);
    if (this.#isOpen) return true;
    await this.#close();
    return false;
  }

  /** Until it is closed, the socket may hold a chunk. What clamd said while it was sent bytes may be yet to come. */
  async #close(): Promise<void> {
    if (!this.#outcome && !this.#hasAnswered) await this.#await(this.#answered, this.#patience.idle);
    this.abandon();
    await this.#closed;
  }

  /** Waits for clamd, as long as it may take. */
  async #await(what: Promise<unknown>, atMost: number): Promise<void> {
    const { total, perMiB } = this.#patience;
    const startedAt = performance.now();
    const left = total + (this.#bytes / MiB) * perMiB - this.#waited;
    const { promise: late, resolve } = Promise.withResolvers<'late'>();
    const timer = setTimeout(() => resolve('late'), Math.max(1, Math.min(atMost, left)));
    const outcome = await Promise.race([what, late]);
    clearTimeout(timer);
    this.#waited += performance.now() - startedAt;
    if (outcome === 'late') {
      const seconds = Math.round(this.#waited / 100) / 10;
      this.#fail({ verdict: 'not-scanned', why: 'timeout', detail: `clamd was waited for, ${seconds} s` });
    }
  }

  #fail(outcome: Extract<ScanOutcome, { verdict: 'not-scanned' }>): void {
    this.#outcome ??= outcome;
    this.abandon();
  }

  #verdict(): ScanOutcome {
    if (this.#outcome) return this.#outcome;
    if (!this.#hasAnswered) return { verdict: 'not-scanned', why: 'error', detail: this.#failureText };
    const answer = this.#text;
    const [, signature] = /^stream: (.+) FOUND$/.exec(answer) ?? [];
    // With AlertExceedsMax, what clamd did not look into is told so: it is no virus, and it is not clean either.
    if (signature?.startsWith('Heuristics.Limits.Exceeded'))
      return { verdict: 'not-scanned', why: 'too-large', detail: printable(signature) };
    if (signature !== undefined) return { verdict: 'infected', signature: printable(signature) };
    // An answer to a stream that has not ended is of something else.
    if (answer === 'stream: OK' && this.#ended) return { verdict: 'clean' };
    const why = answer.includes('size limit exceeded') ? 'too-large' : 'error';
    return { verdict: 'not-scanned', why, detail: printable(answer) };
  }
}

function tooLarge(): Extract<ScanOutcome, { verdict: 'not-scanned' }> {
  return { verdict: 'not-scanned', why: 'too-large', detail: `ClamAV scans at most ${MAX_SCANNED} bytes` };
}

/** What clamd says, for records and documents. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
}
