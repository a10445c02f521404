/** Programs that end with this process, however it ends. */
import { spawn } from 'node:child_process';
import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { type Account, runAs } from './account.ts';

/**
 * Runs "$@" and interrupts it at the end of standard input, which is when we close the pipe or are no more. Signals to
 * the process group (a service manager's, say) end neither the guard before its charge, nor the watcher before the guard.
 */
const GUARD = `
trap '' HUP INT TERM
exec 3<&0
"$@" </dev/null 3<&- &
charge=$!
{ read -r nothing <&3; kill -INT "$charge"; } &
watcher=$!
wait "$charge"
status=$?
kill -KILL "$watcher"
exit "$status"
`;

export interface GuardedProcess {
  /** Its exit status; 128 + n when signal n ended it. */
  exited: Promise<number>;
  /** What it wrote last to standard error. */
  lastLines(): string;
  /** Interrupts it. */
  end(): void;
  /** Lets the event loop end without it. */
  unref(): void;
}

/** Starts the command line under the guard. */
export function runGuarded(
  account: Account,
  commandLine: string[],
  { environment, log }: { environment?: Record<string, string>; log?: (line: string) => void } = {},
): GuardedProcess {
  const { command, args, options } = runAs(account, ['/bin/sh', '-c', GUARD, 'guard', ...commandLine]);
  const child = spawn(command, args, {
    ...options,
    env: { ...options.env, ...environment },
    stdio: ['pipe', 'ignore', 'pipe'],
    detached: true,
  });
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    lines.push(line);
    if (lines.length > 20) lines.shift();
    log?.(line);
  });
  // The guard may be gone before we close its pipe.
  child.stdin.on('error', () => {});
  const exited = new Promise<number>((resolve) => {
    child.once('error', (error) => {
      lines.push(error.message);
      resolve(127);
    });
    // 'close' comes after the last line was read. A backend that lingers holds the pipe open: wait for it only briefly.
    child.once('close', (status) => resolve(status ?? 137));
    child.once('exit', (status) => setTimeout(() => resolve(status ?? 137), 500).unref());
  });
  return {
    exited,
    lastLines: () => lines.join('\n'),
    end: () => child.stdin.end(),
    unref: () => {
      child.unref();
      for (const pipe of [child.stdin, child.stderr]) if (pipe instanceof Socket) pipe.unref();
    },
  };
}
