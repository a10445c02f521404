/**
 * Where files lie that tools read: fetched from the object store once, shared by all that work on the file, and kept a while, so
 * that the next step finds it. The bytes of all files together are bounded; whoever finds no room waits for some.
 *
 * Each process has a directory of its own, closed to other accounts. It is removed at the end; what a process left that died
 * is removed when the next one starts.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';

/** Milliseconds for which a file is kept after its last use. */
const KEEP = 60_000;
/** Milliseconds for which a file waits for room. */
const WAIT = 60_000;
/** Directories of other machines that share the place cannot be asked whether they live. Milliseconds since they changed. */
const ABANDONED = 24 * 3_600_000;

export interface ScratchOptions {
  /** Where the directory of this process is made; the system's directory for temporary files when absent. */
  directory?: string | undefined;
  /** Of all files together, with what is reserved for outputs. */
  bytes: number;
  /** Milliseconds for which a file is kept after its last use. */
  keep?: number;
}

export interface ScratchUse extends AsyncDisposable {
  /** Of the file. Not to be written to. */
  readonly path: string;
  /** For outputs of this use alone; removed with it. */
  readonly directory: string;
}

export interface OpenOptions {
  signal?: AbortSignal;
  /** Bytes that outputs will take. */
  outputs?: number;
  /** Milliseconds to wait for room. */
  wait?: number;
}

/** There is no room for the file: it is larger than all of it, or none became free in time. */
export class ScratchFull extends Error {
  override name = 'ScratchFull';
}

interface Entry {
  key: string;
  folder: string;
  size: number;
  users: number;
  fetched: Promise<void>;
  isComplete: boolean;
  /** Ends the fetch. */
  stop: AbortController;
  /** Removes it when nobody uses it for a while. */
  expiry: NodeJS.Timeout | undefined;
}

interface Waiter {
  bytes: number;
  grant(): void;
}

export class Scratch {
  /** Of this process. */
  readonly directory: string;
  readonly #limit: number;
  readonly #keep: number;
  /** The least recently used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #waiters = new Set<Waiter>();
  #used = 0;
  /** Bytes that are about to be free. */
  #leaving = 0;
  #prepared: Promise<void> | undefined;
  #closed = false;

  constructor({ directory = tmpdir(), bytes, keep = KEEP }: ScratchOptions) {
    this.directory = join(directory, ownName());
    this.#limit = bytes;
    this.#keep = keep;
  }

  /** Bytes that are taken. */
  get used(): number {
    return this.#used;
  }

  /** Removes what processes left that died. Called once, before the first file; `open` does it too. */
  prepare(): Promise<void> {
    this.#prepared ??= prepare(this.directory);
    return this.#prepared;
  }

  /**
   * The file under this key: fetched, or as it was fetched for somebody else.
   * @param fetch writes the file to the path; called by one at a time of those who want it, and aborted when none does any more
   * @param size bytes of the file
   * @throws ScratchFull; what `fetch` throws; the signal's reason
   */
  async open(
    key: string,
    fetch: (path: string, signal: AbortSignal) => Promise<void>,
    size: number,
    { signal, outputs = 0, wait = WAIT }: OpenOptions = {},
  ): Promise<ScratchUse> {
    signal?.throwIfAborted();
    await this.prepare();
    const known = this.#entries.get(key);
    const missing = outputs + (known === undefined ? size : 0);
    // Who is there already must not go while we wait.
    if (known) this.#hold(known);
    try {
      await this.#claim(missing, wait, signal);
    } catch (error) {
      if (known) this.#release(known);
      throw error;
    }
    const entry = known ?? this.#join(key, fetch, size);
    return this.#use(entry, outputs, signal);
  }

  /** Ends fetches and removes everything. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { stop, expiry } of this.#entries.values()) {
      clearTimeout(expiry);
      stop.abort();
    }
    await Promise.allSettled([...this.#entries.values()].map(({ fetched }) => fetched));
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Somebody else may have begun to fetch the file while we waited for room. */
  #join(key: string, fetch: (path: string, signal: AbortSignal) => Promise<void>, size: number): Entry {
    const there = this.#entries.get(key);
    if (there) {
      this.#hold(there);
      this.#free(size);
      return there;
    }
    const folder = join(this.directory, randomUUID());
    const stop = new AbortController();
    const fetched = mkdir(folder, { recursive: true, mode: 0o700 }).then(() =>
      fetch(join(folder, 'input'), stop.signal),
    );
    const entry: Entry = { key, folder, size, users: 1, fetched, isComplete: false, stop, expiry: undefined };
    this.#entries.set(key, entry);
    fetched.then(
      () => {
        entry.isComplete = true;
      },
      () => this.#forget(entry),
    );
    return entry;
  }

  async #use(entry: Entry, outputs: number, signal: AbortSignal | undefined): Promise<ScratchUse> {
    const directory = join(entry.folder, randomUUID());
    let done = false;
    const dispose = async () => {
      if (done) return;
      done = true;
      await rm(directory, { recursive: true, force: true }).catch(() => {});
      this.#free(outputs);
      this.#release(entry);
    };
    try {
      await unlessAborted(entry.fetched, signal);
      await mkdir(directory, { mode: 0o700 });
    } catch (error) {
      await dispose();
      throw error;
    }
    return { path: join(entry.folder, 'input'), directory, [Symbol.asyncDispose]: dispose };
  }

  /** Uses it, as the last of all so far. */
  #hold(entry: Entry): void {
    entry.users++;
    clearTimeout(entry.expiry);
    this.#entries.delete(entry.key);
    this.#entries.set(entry.key, entry);
  }

  #release(entry: Entry): void {
    if (--entry.users > 0) return;
    if (!entry.isComplete || this.#closed) return void this.#remove(entry);
    entry.expiry = setTimeout(() => void this.#remove(entry), this.#keep).unref();
    this.#makeRoom();
  }

  #forget(entry: Entry): void {
    clearTimeout(entry.expiry);
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key);
  }

  /** Its bytes are free once they are gone. */
  async #remove(entry: Entry): Promise<void> {
    this.#forget(entry);
    entry.stop.abort(new Error('nobody needs the file any more'));
    await entry.fetched.catch(() => {});
    await rm(entry.folder, { recursive: true, force: true }).catch(() => {});
    this.#free(entry.size);
  }

  async #claim(bytes: number, wait: number, signal: AbortSignal | undefined): Promise<void> {
    if (bytes > this.#limit) throw new ScratchFull('the file is larger than the room for files that tools read');
    if (bytes === 0 || (this.#waiters.size === 0 && this.#used + bytes <= this.#limit)) {
      this.#used += bytes;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const settled = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#waiters.delete(waiter);
      };
      const leave = (reason: unknown) => {
        settled();
        reject(reason);
        this.#serve();
      };
      const waiter: Waiter = {
        bytes,
        grant: () => {
          settled();
          this.#used += bytes;
          resolve();
        },
      };
      const onAbort = () => leave(signal?.reason);
      const timer = setTimeout(() => leave(new ScratchFull('no room for files that tools read became free')), wait);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
      this.#makeRoom();
    });
  }

  /** Files that nobody uses go for those that wait, the least recently used first. */
  #makeRoom(): void {
    const [first] = this.#waiters;
    if (first === undefined) return;
    let used = this.#used - this.#leaving;
    for (const entry of this.#entries.values()) {
      if (used + first.bytes <= this.#limit) return;
      if (entry.users > 0 || !entry.isComplete) continue;
      used -= entry.size;
      this.#leaving += entry.size;
      void this.#remove(entry).then(() => {
        this.#leaving -= entry.size;
      });
    }
  }

  #free(bytes: number): void {
    this.#used -= bytes;
    this.#serve();
  }

  #serve(): void {
    for (const waiter of this.#waiters) {
      if (this.#used + waiter.bytes > this.#limit) break;
      waiter.grant();
    }
    this.#makeRoom();
  }
}

async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {});
  const onAbort = () => aborted.reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

const PREFIX = 'stowage-scratch';
/** Machine, process, and when it began: numbers of processes are given again. */
const NAME = new RegExp(`^${PREFIX}~(?<host>[^~]*)~(?<pid>\\d+)~(?<begin>\\d*)~[0-9a-f-]{36}$`);

function ownName(): string {
  const host = hostname().replace(/[^\w.-]/g, '_');
  return [PREFIX, host, process.pid, beginOf(process.pid), randomUUID()].join('~');
}

async function prepare(directory: string): Promise<void> {
  const parent = dirname(directory);
  await mkdir(parent, { recursive: true });
  for (const name of await readdir(parent)) {
    const left = join(parent, name);
    // Somebody else may remove it at the same time, or it belongs to another account.
    if (name.startsWith(PREFIX) && (await isAbandoned(left)))
      await rm(left, { recursive: true, force: true }).catch(() => {});
  }
  await mkdir(directory, { recursive: true, mode: 0o700 });
}

async function isAbandoned(path: string): Promise<boolean> {
  const { host, pid, begin } = NAME.exec(basename(path))?.groups ?? {};
  if (host === undefined) return false;
  if (NAME.exec(ownName())?.groups?.['host'] === host) return beginOf(Number(pid)) !== begin;
  const changed = await stat(path).catch(() => undefined);
  return changed !== undefined && Date.now() - changed.mtimeMs > ABANDONED;
}

/** When a process began: field 22 of /proc/PID/stat (proc_pid_stat(5)), or nothing but that it lives where there is no /proc. */
function beginOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return isAlive(pid) ? '' : undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
