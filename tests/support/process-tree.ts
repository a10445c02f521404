/** Processes as /proc shows them; see proc(5). */
import { readdirSync, readFileSync } from 'node:fs';

/** Of processes that live, without those that only wait to be looked after. */
function living(): { pid: number; parent: number }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const stat = read(`/proc/${name}/stat`);
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return stat === '' || state === 'Z' ? [] : [{ pid: Number(name), parent: Number(parent) }];
    });
}

/** All that came of a process. */
export function descendants(pid: number): number[] {
  const all = living();
  const below = (one: number): number[] =>
    all.filter(({ parent }) => parent === one).flatMap((child) => [child.pid, ...below(child.pid)]);
  return below(pid);
}

/** Bytes of memory that a process has in use; 0 of one that has ended. */
export function residentMemory(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
}

/** Processes with this in their command line. */
export function processesNamed(text: string): number[] {
  return living()
    .map(({ pid }) => pid)
    .filter((pid) => read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').includes(text));
}

/** Whether a process is this command itself, and not a program that will become it. */
export function runs(command: string): boolean {
  return living().some(({ pid }) => read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim() === command);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
