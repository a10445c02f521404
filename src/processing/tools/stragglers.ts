/**
 * What a program has left behind that was ended, where no namespace of processes ends it: a process that began a session of its own
 * is in no group of ours. All that a program starts has the mark of its run in its environment, unless it was started with another one.
 */
import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';

/** The variable. */
const MARK = 'STOWAGE_RUN';
/** Looks for more of them: one may start another while it is looked for. */
const LOOKS = 10;

/** For the environment of a run, and to find what is left of it. */
export function newMark(): Record<string, string> {
  return { [MARK]: randomUUID() };
}

/** Kills all that has the mark. Resolves when none is found any more; where there is no /proc, none is found. */
export async function killMarked(mark: Readonly<Record<string, string>>): Promise<void> {
  const variable = `${MARK}=${mark[MARK]}`;
  for (let look = 0; look < LOOKS; look++) if ((await killThose(variable)) === 0) return;
}

async function killThose(variable: string): Promise<number> {
  const names = await readdir('/proc').catch(() => []);
  let killed = 0;
  for (const name of names) {
    const pid = Number(name);
    if (Number.isNaN(pid) || !(await hasVariable(pid, variable))) continue;
    killed++;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended already.
    }
  }
  return killed;
}

/** Of a process of another account, and of one that has ended, nobody reads the environment. */
async function hasVariable(pid: number, variable: string): Promise<boolean> {
  const environment = await readFile(`/proc/${pid}/environ`, 'latin1').catch(() => '');
  return environment.split('\0').includes(variable);
}
