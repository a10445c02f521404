/**
 * Gives memory back after work. V8 collects garbage when somebody allocates, so a process that did much and then rests
 * would hold for good what its last minute of work took: 230 MiB after large forms instead of 120. A collection
 * stops everybody for 70 ms, so it waits until next to nothing is done, and is made once per rest.
 */
import { performance } from 'node:perf_hooks';

/** Milliseconds between two looks; also the time in which next to nothing was done. */
const INTERVAL = 5000;
/** The share of that time for which the event loop may have been busy. */
const AT_REST = 0.05;
/** Bytes more than after the last collection for which it is worth another one. */
const WORTHWHILE = 12 * 1024 * 1024;

export interface MemoryOptions {
  /** Resident bytes. */
  resident: () => number;
  /** Share of the time since the last call in which the event loop was busy, from 0 to 1. */
  utilization: () => number;
  /** Collects all garbage and gives free pages back. */
  collect: () => void;
}

/**
 * @returns to be called every few seconds: collects when the process rests and holds more than it held after the
 * last collection
 */
export function collectorAtRest({ resident, utilization, collect }: MemoryOptions): () => void {
  let settled = 0;
  let wasAtRest = false;
  return () => {
    const isAtRest = utilization() < AT_REST;
    // What the collection itself freed is seen a look later.
    if (wasAtRest && isAtRest) settled = Math.min(settled, resident());
    if (isAtRest && resident() > settled + WORTHWHILE) {
      collect();
      settled = resident();
    }
    wasAtRest = isAtRest;
  };
}

/** Looks every five seconds, where the process was started with `--expose-gc`. @returns ends it */
export function keepMemoryLowAtRest(): () => void {
  const { gc } = globalThis;
  if (!gc) return () => {};
  let before = performance.eventLoopUtilization();
  const look = collectorAtRest({
    resident: () => process.memoryUsage.rss(),
    utilization: () => {
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, before);
      before = now;
      return utilization;
    },
    collect: () => void gc({ type: 'major', execution: 'sync', flavor: 'last-resort' }),
  });
  const timer = setInterval(look, INTERVAL).unref();
  return () => clearInterval(timer);
}
