/**
 * How a program that reads bytes that nobody trusts is started: with limits, and in rooms of its own where the machine allows that.
 *
 * - `bubblewrap`: it sees the programs of the system, what it is given to read, and one directory to write to; no network, no other
 *   processes, no capabilities. It dies with the service. This needs namespaces of users, which a default container has not.
 * - `namespaces`: no network, no other processes, no capabilities, and it dies with all that it has started; but it can read what the account
 *   of the service can. By `unshare` of util-linux, which needs namespaces of users too.
 * - `limits`: the limits of setrlimit(2) alone, by `prlimit` of util-linux.
 * - `time`: nothing of it is there, as on macOS. The service kills what takes too long, and nothing bounds its memory.
 *
 * A process that begins a session of its own has left the group that is killed. In a namespace of processes the kernel kills it with
 * the first of them; elsewhere it is found by a mark in its environment (stragglers.ts), unless it takes pains to lose that.
 *
 * Memory is bounded by RLIMIT_DATA, not by RLIMIT_AS: V8 reserves gigabytes of addresses that it never touches, and RLIMIT_DATA
 * counts only private pages that may be written (setrlimit(2), since Linux 4.7).
 */
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

export type Level = 'bubblewrap' | 'namespaces' | 'limits' | 'time';

export interface ProcessLimits {
  /** Seconds of processor time. */
  cpuSeconds: number;
  /** Bytes of private writable memory of each process. */
  memory: number;
  /** Bytes of the largest file that it may write. */
  fileSize: number;
}

export interface Access {
  /** Files and directories beside the system's own that it may read. */
  readable: readonly string[];
  /** The only directory to which it may write. */
  writable?: string | undefined;
}

/** Files and sockets that it may have open. */
const OPEN_FILES = 64;
/**
 * Processes and threads. Counted for each namespace of users (since Linux 5.14), so it is set in one only: elsewhere the
 * processes of the service's own account would count.
 */
const PROCESSES = 256;
/** Milliseconds: a machine that is busy must not pass for one that cannot. */
const PROBE_TIME = 30_000;
const PROBE_LIMITS: ProcessLimits = { cpuSeconds: 60, memory: 2 ** 31, fileSize: 2 ** 31 };
/** What programs of the system need to run: libraries, alternatives (Debian's libblas), fonts for PDF. */
const SYSTEM = [
  '/usr',
  '/lib',
  '/lib64',
  '/bin',
  '/etc/ld.so.cache',
  '/etc/alternatives',
  '/etc/fonts',
  '/var/cache/fontconfig',
];

/**
 * Rooms of their own by unshare(1). Whoever it is, root too, is 65534 inside, which has no capabilities. The first process of the
 * namespace is a shell that waits: the kernel kills all the others with it, and it dies with `unshare`, whatever the program does.
 */
const UNSHARE = [
  ...['--user', '--map-user=65534', '--map-group=65534', '--net', '--ipc'],
  ...['--pid', '--fork', '--kill-child=KILL', '--mount-proc'],
  // It tells of a signal as bubblewrap does, by 128 and its number.
  ...['--', '/bin/sh', '-c', '"$@"; exit $?', 'sh'],
];

/** What a confined program has for an environment: no credentials. */
export const ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' } as const;

export class Confinement {
  readonly level: Level;
  readonly #bwrap: string | undefined;
  readonly #unshare: string | undefined;
  readonly #prlimit: string | undefined;
  readonly #setpriv: string | undefined;

  /** @param helpers where they are; one that is absent is not used */
  constructor(helpers: Helpers) {
    this.#bwrap = helpers.bwrap;
    this.#unshare = helpers.bwrap === undefined ? helpers.unshare : undefined;
    this.#prlimit = helpers.prlimit;
    this.#setpriv = helpers.setpriv;
    const rooms = this.#bwrap !== undefined ? 'bubblewrap' : this.#unshare !== undefined ? 'namespaces' : 'limits';
    this.level = this.#prlimit === undefined ? 'time' : rooms;
  }

  /** Whether the end of a program is the end of all that it has started. */
  get endsAll(): boolean {
    return this.level === 'bubblewrap' || this.level === 'namespaces';
  }

  /** The command that runs `command` under these limits. */
  wrap(command: readonly string[], limits: ProcessLimits, access: Access): string[] {
    if (this.#prlimit === undefined) return [...command];
    // Dies with the service, also when that was killed.
    const mortal = this.#setpriv === undefined ? [] : [this.#setpriv, '--pdeathsig', 'KILL', '--no-new-privs'];
    const limited = [
      this.#prlimit,
      `--data=${limits.memory}`,
      // At the first bound the program gets SIGXCPU, which tells it apart from a program that somebody killed.
      `--cpu=${limits.cpuSeconds}:${limits.cpuSeconds + 1}`,
      `--fsize=${limits.fileSize}`,
      `--nofile=${OPEN_FILES}`,
      '--core=0',
      ...(this.endsAll ? [`--nproc=${PROCESSES}`] : []),
      '--',
      ...command,
    ];
    if (this.#bwrap !== undefined) return [this.#bwrap, ...rooms(access), '--', ...mortal, ...limited];
    return this.#unshare === undefined ? [...mortal, ...limited] : [...mortal, this.#unshare, ...UNSHARE, ...limited];
  }
}

/** Programs that confine others: where they are. */
interface Helpers {
  bwrap?: string | undefined;
  unshare?: string | undefined;
  prlimit?: string | undefined;
  setpriv?: string | undefined;
}

function rooms({ readable, writable }: Access): string[] {
  return [
    ...['--unshare-all', '--die-with-parent', '--cap-drop', 'ALL'],
    ...SYSTEM.flatMap((path) => ['--ro-bind-try', path, path]),
    ...['--proc', '/proc', '--dev', '/dev'],
    ...readable.flatMap((path) => ['--ro-bind', path, path]),
    ...(writable === undefined ? [] : ['--bind', writable, writable]),
    // Both are file systems in memory, of which no limit counts anything.
    ...['--remount-ro', '/dev', '--remount-ro', '/', '--chdir', writable ?? '/'],
  ];
}

let here: Promise<Confinement> | undefined;

/** What this machine allows, tried out once. */
export function confinementHere(): Promise<Confinement> {
  here ??= probe();
  return here;
}

async function probe(): Promise<Confinement> {
  const [bwrap, unshare, prlimit, setpriv] = ['bwrap', 'unshare', 'prlimit', 'setpriv'].map(locate);
  const dies = setpriv !== undefined && (await works([setpriv, '--pdeathsig', 'KILL', '--no-new-privs', 'true']));
  const limits = { prlimit, setpriv: dies ? setpriv : undefined };
  for (const helpers of [{ ...limits, bwrap }, { ...limits, unshare }, limits]) {
    const confinement = new Confinement(helpers);
    if (await works(confinement.wrap(['true'], PROBE_LIMITS, { readable: [] }))) return confinement;
  }
  return new Confinement({});
}

async function works([program = '', ...args]: readonly string[]): Promise<boolean> {
  return promisify(execFile)(program, args, { timeout: PROBE_TIME, env: ENVIRONMENT }).then(
    () => true,
    () => false,
  );
}

/** Where a program is, along PATH. */
export function locate(program: string): string | undefined {
  const folders = (process.env['PATH'] ?? ENVIRONMENT.PATH).split(delimiter);
  return folders.map((folder) => join(folder, program)).find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return path.startsWith('/');
  } catch {
    return false;
  }
}
