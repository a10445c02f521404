/** Programs from Debian's packages that tests run the service with. Installed where root can, else their tests are skipped. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

interface Program {
  /** Names it, or says why it is not there. */
  variable: string;
  package: string;
  /** Where it may be. */
  paths: string[];
}

const programs = {
  nginx: { variable: 'TEST_NGINX', package: 'nginx-light', paths: ['/usr/sbin/nginx'] },
  chromium: {
    variable: 'TEST_CHROMIUM',
    package: 'chromium-headless-shell',
    paths: ['/usr/bin/chromium-headless-shell', '/usr/bin/chromium'],
  },
  // Without its recommended freshclam, which would fetch signatures.
  clamd: { variable: 'TEST_CLAMD', package: 'clamav-daemon', paths: ['/usr/sbin/clamd'] },
  /** With pdfinfo. */
  pdftoppm: { variable: 'TEST_PDFTOPPM', package: 'poppler-utils', paths: ['/usr/bin/pdftoppm'] },
  bubblewrap: { variable: 'TEST_BWRAP', package: 'bubblewrap', paths: ['/usr/bin/bwrap'] },
  /** With ffprobe. */
  ffmpeg: { variable: 'TEST_FFMPEG', package: 'ffmpeg', paths: ['/usr/bin/ffmpeg'] },
  // Which read archives.
  unzip: { variable: 'TEST_UNZIP', package: 'unzip', paths: ['/usr/bin/unzip'] },
  bsdtar: { variable: 'TEST_BSDTAR', package: 'libarchive-tools', paths: ['/usr/bin/bsdtar'] },
  python3: { variable: 'TEST_PYTHON3', package: 'python3', paths: ['/usr/bin/python3'] },
  // Which read and write encrypted files, beside the client.
  cryptography: {
    variable: 'TEST_PYTHON3_CRYPTOGRAPHY',
    package: 'python3-cryptography',
    paths: ['/usr/lib/python3/dist-packages/cryptography/__init__.py'],
  },
  age: { variable: 'TEST_AGE', package: 'age', paths: ['/usr/bin/age'] },
} satisfies Record<string, Program>;
/** As root, and where /dev/shm is small: in containers. */
export const CHROMIUM_FLAGS = ['--no-sandbox', '--disable-dev-shm-usage'];
export type ProgramName = keyof typeof programs;

/** Called once, before all tests. Throws under CI=true when one cannot be had. */
export function providePrograms(): void {
  for (const { variable, package: name, paths } of Object.values(programs)) {
    if (process.env[variable]) continue;
    const find = () => paths.find((path) => existsSync(path));
    let reason = '';
    if (!find()) reason = install(name);
    const path = find();
    if (path) process.env[variable] = path;
    else if (process.env['CI'] === 'true') throw new Error(`${name} is needed for the tests: ${reason}`);
    else {
      process.env[`${variable}_SKIP`] = reason;
      console.warn(`\n!!! THE TESTS THAT NEED ${name} WILL BE SKIPPED: ${reason}\n`);
    }
  }
}

export function programPath(name: ProgramName): string {
  return process.env[programs[name].variable] ?? '';
}

/** For the `skip` option. */
export function programSkip(name: ProgramName): string | false {
  const { variable } = programs[name];
  return process.env[variable] ? false : (process.env[`${variable}_SKIP`] ?? `${name} was not looked for`);
}

/** @returns why it failed, if it did */
function install(name: string): string {
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return 'not installed, and only root can install it';
  // RUNLEVEL=1: what is a service must not be started.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const apt = (...args: string[]) =>
    spawnSync('apt-get', ['-qq', '-y', '-o', 'DPkg::Lock::Timeout=120', ...args], { env, encoding: 'utf8' });
  const first = apt('install', '--no-install-recommends', name);
  if (first.status === 0) return '';
  apt('update');
  const second = apt('install', '--no-install-recommends', name);
  return second.stderr.trim().slice(-300);
}
