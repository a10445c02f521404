/** Which programs of the system are there, what is lost without them, and how to get them. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { type Check, Fault } from '../../doctor/check.ts';
import type { Ability } from '../../http/health.ts';
import { type Confinement, confinementHere, ENVIRONMENT, type Level, locate } from './confinement.ts';

interface SystemProgram {
  name: string;
  /** The option by which it tells its version. */
  version: string;
  lost: string;
  remedy: string;
}

const VERSION_TIME = 5000;

const programs: readonly SystemProgram[] = [
  {
    name: 'ffmpeg',
    version: '-version',
    lost: 'no posters and thumbnails of videos, no waveforms, no transcodes',
    remedy: 'apt-get install ffmpeg',
  },
  { name: 'ffprobe', version: '-version', lost: 'fewer facts of videos and sounds', remedy: 'apt-get install ffmpeg' },
  {
    name: 'pdftoppm',
    version: '-v',
    lost: 'thumbnails of PDF take more time and memory',
    remedy: 'apt-get install poppler-utils',
  },
];
/** What programs that read files can do where bubblewrap does not work. */
const lostWithout: Readonly<Record<Level, string>> = {
  bubblewrap: '',
  namespaces:
    'programs that read files can read what the account of the service can; they reach no network, and what they start ends with them',
  limits:
    'programs that read files can reach the network and read what the account of the service can, and what they start and hide outlives them; their limits hold',
  time: 'programs that read files can do what the account of the service can, and what they start and hide outlives them',
};
const bubblewrap = (level: Level): SystemProgram => ({
  name: 'bwrap',
  version: '--version',
  lost: lostWithout[level],
  remedy: locate('bwrap') === undefined ? 'apt-get install bubblewrap' : NAMESPACES,
});
const prlimit: SystemProgram = {
  name: 'prlimit',
  version: '--version',
  lost: 'nothing bounds the memory of programs that read files, only their time',
  remedy: 'apt-get install util-linux',
};
const NAMESPACES =
  'allow user namespaces to the account of the service; containers need a seccomp profile that lets unshare and mount through';

/**
 * What is there. Costs no more than a few system calls, but for the first time.
 * @param confinement that of this machine when absent
 */
export async function toolAbilities(confinement?: Pick<Confinement, 'level'>): Promise<Ability[]> {
  const { level } = confinement ?? (await confinementHere());
  const isThere = ({ name }: SystemProgram) => locate(name) !== undefined;
  return [
    ...programs.map((program) => ({ program, works: isThere(program) })),
    { program: prlimit, works: level !== 'time' },
    { program: bubblewrap(level), works: level === 'bubblewrap' },
  ].map(({ program: { name, lost, remedy }, works }) => ({ name, works, lost, remedy }));
}

/** For `npm run doctor`: the same, with versions. The service can do without any of them. */
export function toolChecks(): Check[] {
  return [...programs, prlimit, { name: 'bwrap', version: '--version' }].map(({ name, version }) => ({
    name,
    needed: false,
    run: async () => {
      const ability = (await toolAbilities()).find((one) => one.name === name);
      if (!ability?.works) throw new Fault(`${ability?.lost}: ${ability?.remedy}`);
      return versionOf(name, version);
    },
  }));
}

async function versionOf(name: string, option: string): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(name, [option], {
    timeout: VERSION_TIME,
    env: { ...ENVIRONMENT, PATH: process.env['PATH'] ?? ENVIRONMENT.PATH },
  });
  return /\d+(?:\.\d+)+/.exec(stdout + stderr)?.[0] ?? 'there';
}
