/** Who spends the processor: CPU time of the processes of this machine, by the part they play. */
import { readdirSync, readFileSync } from 'node:fs';

/** Of /proc/PID/stat (man 5 proc): sysconf(_SC_CLK_TCK), which is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

export type Part = 'service' | 'Postgres' | 'S3 server';

/** Seconds of user and system time of one process. */
export function cpuSecondsOf(pid: number | string): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Seconds so far. Processes that have ended are missing: connections of Postgres must stay open in between. */
export function cpuSeconds(servicePids: number[]): Record<Part, number> {
  const seconds: Record<Part, number> = { service: 0, Postgres: 0, 'S3 server': 0 };
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
      if (servicePids.includes(Number(pid))) seconds.service += cpuSecondsOf(pid);
      else if (name.startsWith('postgres')) seconds.Postgres += cpuSecondsOf(pid);
      else if (name === 'radosgw' || name.startsWith('ceph-')) seconds['S3 server'] += cpuSecondsOf(pid);
    } catch {
      // It has just ended.
    }
  }
  return seconds;
}
