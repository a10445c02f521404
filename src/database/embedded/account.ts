/** The account that Postgres runs as. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import type { Programs } from './programs.ts';

interface UserAndGroup {
  uid: number;
  gid: number;
}

/** Who runs Postgres. */
export interface Account {
  /** Stands before the command. */
  wrapper: string[];
  /** What the command is started as; absent where the wrapper sees to it, or where this process is no root. */
  startAs?: UserAndGroup;
  /** To whom its files are given; absent where they are ours. */
  owner?: UserAndGroup;
}

/**
 * Postgres refuses to run as root, and the account used instead may be locked out of the place: a clone under /root or
 * in a directory of mode 0700. Instead of opening such directories to everybody, the account then gets one capability,
 * CAP_DAC_READ_SEARCH, by setpriv (util-linux), with which it can pass. Containers often lack that one and have
 * CAP_DAC_OVERRIDE, which does as well.
 */
export function chooseAccount(directory: string, programs: Programs): Account {
  if (process.getuid?.() !== 0) return { wrapper: [] };
  const owner = ownerOf(join(directory, 'cluster')) ?? userNamed('postgres') ?? userNamed('nobody');
  if (!owner) throw new Error('Embedded Postgres cannot run as root, and there is no user postgres or nobody here.');

  const accounts: Account[] = [
    { wrapper: [], startAs: owner, owner },
    { wrapper: setpriv(owner, 'dac_read_search'), owner },
    { wrapper: setpriv(owner, 'dac_override'), owner },
  ];
  const account = accounts.find((candidate) => canReach(candidate, directory, programs));
  if (account) return account;
  throw new Error(
    `Embedded Postgres runs as uid ${owner.uid}, not as root, and that user cannot reach ${directory} or the programs ` +
      `in ${dirname(programs.postgres)}. Set DATA_DIR to a directory that every user may enter, such as ` +
      '/var/lib/stowage, and keep node_modules in such a place too; or start the service as an ordinary user.',
  );
}

/** An existing cluster keeps its owner: Postgres insists on running as the one who owns the files. */
function ownerOf(cluster: string): UserAndGroup | undefined {
  const stats = fs.statSync(cluster, { throwIfNoEntry: false });
  return stats && stats.uid !== 0 ? { uid: stats.uid, gid: stats.gid } : undefined;
}

function userNamed(name: string): UserAndGroup | undefined {
  const [uid, gid] = ['-u', '-g'].map((flag) => spawnSync('id', [flag, name], { encoding: 'utf8' }));
  if (uid?.status !== 0 || gid?.status !== 0) return undefined;
  return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
}

/** `no_setuid_fixup` makes access(2), by which Postgres checks its own programs, count the capability too. */
function setpriv({ uid, gid }: UserAndGroup, capability: string): string[] {
  return [
    'setpriv',
    `--reuid=${uid}`,
    `--regid=${gid}`,
    '--clear-groups',
    `--bounding-set=-all,+${capability}`,
    `--inh-caps=-all,+${capability}`,
    `--ambient-caps=-all,+${capability}`,
    '--securebits=+no_setuid_fixup',
    '--',
  ];
}

function canReach(account: Account, directory: string, { initdb, postgres }: Programs): boolean {
  const script = 'cd "$1" && test -x "$2" && "$3" --version';
  const { command, args, options } = runAs(account, ['/bin/sh', '-c', script, 'sh', directory, initdb, postgres]);
  return spawnSync(command, args, { ...options, stdio: 'ignore', timeout: 10_000 }).status === 0;
}

/** What to spawn, so that the account runs the command line. */
export function runAs({ wrapper, startAs }: Account, commandLine: string[]) {
  const [command = '', ...args] = [...wrapper, ...commandLine];
  // Postgres needs none of our environment, which may hold secrets. This module reads its messages: they are English.
  const env: NodeJS.ProcessEnv = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C' };
  return { command, args, options: { ...startAs, env, cwd: '/' } };
}
