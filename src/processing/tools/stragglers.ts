/**
 * What a program has left behind that was ended, where no namespace of processes ends it: a process that began a session of its own
 * is in no group of ours. All that a program starts has the mark of its run in its environment, unless it was started with another one.
 */
import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';

/** The variable. */
const MARK = 'STOWAGE_RUN';
/** Looks for more of them: one may start another while it is looked for. */
const LOOKS = 10;
/** Milliseconds until the next look at a process that becomes another program at this moment. */
const PAUSE = 20;

/** Of a process: its environment as /proc has it, `''` of one that may not be asked, and undefined while it has none yet. */
type ReadEnvironment = (pid: number) => Promise<string | undefined>;

/** For the environment of a run, and to find what is left of it. */
export function newMark(): Record<string, string> {
  return { [MARK]: randomUUID() };
}

/** Kills all that has the mark. Resolves when none is found any more; where there is no /proc, none is found. */
export async function killMarked(mark: Readonly<Record<string, string>>, read = environmentOf): Promise<void> {
  const variable = `${MARK}=${mark[MARK]}`;
  for (let look = 0; look < LOOKS; look++) {
    const { killed, unsure } = await killThose(variable, read);
    if (killed === 0 && unsure === 0) return;
    if (killed === 0) await pause(PAUSE);
  }
}

async function killThose(variable: string, read: ReadEnvironment): Promise<{ killed: number; unsure: number }> {
  const names = await readdir('/proc').catch(() => []);
  let [killed, unsure] = [0, 0];
  for (const name of names) {
    const pid = Number(name);
    if (Number.isNaN(pid)) continue;
    const environment = await read(pid);
    if (environment === undefined) unsure++;
    if (!environment?.split('\0').includes(variable)) continue;
    killed++;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended already.
    }
  }
  return { killed, unsure };
}

/**
 * Between the moment when execve(2) has thrown the old program away and the one when the new one has its arguments, a process shows
 * neither these nor an environment; a kernel thread and a process that has ended have no memory at all. See proc_pid_statm(5).
 */
const environmentOf: ReadEnvironment = async (pid) => {
  const [environment, command, memory] = await Promise.all(
    ['environ', 'cmdline', 'statm'].map((file) => readFile(`/proc/${pid}/${file}`, 'latin1').catch(() => undefined)),
  );
  const isBetween = environment === '' && command === '' && memory !== undefined && !memory.startsWith('0 ');
  return isBetween ? undefined : (environment ?? '');
};
