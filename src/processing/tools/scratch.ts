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
  /** It is larger than all of it: waiting does not help. */
  readonly isForGood: boolean;

  constructor(message: string, isForGood = false) {
    super(message);
    this.isForGood = isForGood;
  }
}

interface Entry {
  key: string;
  folder: string;
  size: number;
  users: number;
  /** Settles when it has its bytes of the room. */
  room: Promise<void>;
  fetched: Promise<void>;
  state: 'waiting' | 'fetching' | 'complete';
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

  /** Removes what processes left that died; `open` does it too. */
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
    const entry = this.#entries.get(key) ?? this.#add(key, fetch, size);
    this.#hold(entry);
    const held = { entry, directory: join(entry.folder, randomUUID()), outputs: 0 };
    const ready = async () => {
      const late = new ScratchFull('no room for files that tools read became free');
      await within(entry.room, wait, late, signal);
      await this.#claim(outputs, (claimed) => within(claimed, wait, late, signal));
      held.outputs = outputs;
      await within(entry.fetched, undefined, late, signal);
      await mkdir(held.directory, { mode: 0o700 });
    };
    await ready().catch(async (error) => {
      await this.#endUse(held);
      throw error;
    });
    let isOver = false;
    const dispose = async () => {
      if (!isOver) {
        isOver = true;
        await this.#endUse(held);
      }
    };
    return { path: join(entry.folder, 'input'), directory: held.directory, [Symbol.asyncDispose]: dispose };
  }

  /** Ends fetches and removes everything. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { stop, expiry } of this.#entries.values()) {
      clearTimeout(expiry);
      stop.abort();
    }
    await Promise.allSettled([this.#prepared, ...[...this.#entries.values()].map(({ fetched }) => fetched)]);
    await rm(this.directory, { recursive: true, force: true });
  }

  /** From now on, whoever wants the file joins. It waits for room as long as somebody wants it. */
  #add(key: string, fetch: (path: string, signal: AbortSignal) => Promise<void>, size: number): Entry {
    const folder = join(this.directory, randomUUID());
    const stop = new AbortController();
    const room = this.prepare().then(() =>
      this.#claim(size, (claimed) => within(claimed, undefined, undefined, stop.signal)),
    );
    const fetched = room
      .then(() => mkdir(folder, { recursive: true, mode: 0o700 }))
      .then(() => fetch(join(folder, 'input'), stop.signal));
    const entry: Entry = { key, folder, size, users: 0, room, fetched, state: 'waiting', stop, expiry: undefined };
    room.then(() => {
      entry.state = 'fetching';
    }, noop);
    fetched.then(
      () => {
        entry.state = 'complete';
      },
      () => this.#forget(entry),
    );
    this.#entries.set(key, entry);
    return entry;
  }

  async #endUse({ entry, directory, outputs }: { entry: Entry; directory: string; outputs: number }): Promise<void> {
    await rm(directory, { recursive: true, force: true }).catch(noop);
    this.#free(outputs);
    this.#release(entry);
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
    if (entry.state !== 'complete' || this.#closed) return void this.#remove(entry);
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
    await entry.fetched.catch(noop);
    await rm(entry.folder, { recursive: true, force: true }).catch(noop);
    if (entry.state !== 'waiting') this.#free(entry.size);
  }

  /**
   * Takes bytes of the room, in the order of those who ask.
   * @param wait waits for what it is given; when it rejects, nothing is taken
   * @throws ScratchFull when there can never be so many; what `wait` throws
   */
  async #claim(bytes: number, wait: (claimed: Promise<void>) => Promise<void>): Promise<void> {
    if (bytes > this.#limit) throw new ScratchFull('the file is larger than the room for files that tools read', true);
    if (bytes === 0 || (this.#waiters.size === 0 && this.#used + bytes <= this.#limit)) {
      this.#used += bytes;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiter: Waiter = {
      bytes,
      grant: () => {
        this.#waiters.delete(waiter);
        this.#used += bytes;
        resolve();
      },
    };
    this.#waiters.add(waiter);
    this.#makeRoom();
    try {
      await wait(promise);
    } catch (error) {
      // It may have been granted at the same time.
      if (!this.#waiters.delete(waiter)) this.#used -= bytes;
      this.#serve();
      throw error;
    }
  }

  /** Files that nobody uses go for those that wait, the least recently used first. */
  #makeRoom(): void {
    const [first] = this.#waiters;
    if (first === undefined) return;
    let used = this.#used - this.#leaving;
    for (const entry of this.#entries.values()) {
      if (used + first.bytes <= this.#limit) return;
      if (entry.users > 0 || entry.state !== 'complete') continue;
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

/** @throws `late` after `wait` milliseconds; the signal's reason when it is aborted */
async function within(
  promise: Promise<void>,
  wait: number | undefined,
  late: Error | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { promise: ended, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal?.reason);
  const timer = wait === undefined ? undefined : setTimeout(() => reject(late), wait);
  if (signal?.aborted) onAbort();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([promise, ended]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

const noop = () => {};

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
