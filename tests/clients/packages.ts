/** What `npm run test:clients` needs beside Node: packages of npm, and of Debian where root can install them. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Debian's own, which sees Debian's packages. */
export const python = '/usr/bin/python3';

/** @param directory with a package.json */
export function provideNpmPackages(directory: string): void {
  if (existsSync(join(directory, 'node_modules/.package-lock.json'))) return;
  const { status, stderr } = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: directory,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`npm ci failed: ${stderr}`);
}

/** For the `skip` option: installs what is missing. `java`, `javac` and `go` may come from anywhere. */
export function debianSkip(...names: string[]): string | false {
  const missing = names.filter((name) => !isThere(name));
  if (missing.length === 0) return false;
  const reason = install(missing.map((name) => commands.find(([command]) => command === name)?.[1] ?? name));
  if (reason === undefined) return false;
  if (process.env['CI'] === 'true') throw new Error(reason);
  return reason;
}

/** Each with its package, and how it tells its version. */
const commands: [command: string, debianPackage: string, version: string][] = [
  ['java', 'default-jdk-headless', '-version'],
  ['javac', 'default-jdk-headless', '-version'],
  ['go', 'golang-go', 'version'],
];

function isThere(name: string): boolean {
  const [, , version] = commands.find(([command]) => command === name) ?? [];
  const [command, ...rest] = version === undefined ? ['dpkg', '-s', name] : [name, version];
  return spawnSync(command, rest, { stdio: 'ignore' }).status === 0;
}

/** @returns why they could not be installed */
function install(names: string[]): string | undefined {
  const needs = `needs ${names.join(', ')}`;
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return `${needs}, and only root can install it`;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const apt = (...args: string[]) =>
    spawnSync('apt-get', ['-qq', '-y', '-o', 'DPkg::Lock::Timeout=120', ...args], { env, encoding: 'utf8' });
  apt('update');
  const { status, stderr } = apt('install', '--no-install-recommends', ...names);
  return status === 0 ? undefined : `${needs}: ${stderr.trim().slice(-300)}`;
}

export function filesBelow(directory: string, extension: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(extension))
    .map((name) => join(directory, name));
}
