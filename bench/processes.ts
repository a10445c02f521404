/** Who spends the processor: CPU time of the processes of this machine, by the part they play. */
import { readdirSync, readFileSync } from 'node:fs';

export type Part = 'service' | 'Postgres' | 'S3 server';

/**
 * Seconds of user and system time of one process, by the scheduler's own clock (Linux, Documentation/scheduler/sched-stats):
 * /proc/PID/stat counts ticks, which are wrong by a factor of two for a process that sleeps and wakes in their rhythm.
 * Threads that have ended are missing; those of Node and Ceph live as long as their process.
 */
export function cpuSecondsOf(pid: number | string): number {
  let nanoseconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const [spent] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ');
    nanoseconds += Number(spent);
  }
  return nanoseconds / 1e9;
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
