/**
 * The child's side of child-pool.ts. A worker module calls `serve(handler)` once and does nothing else when it is loaded. The child
 * has no credentials and no network, may write to its own directory only, and is killed without notice.
 */
import { isOutOfMemory } from '../tool-error.ts';

/** What the child is told of its task. */
export interface TaskMessage {
  input: unknown;
  /** Path of the file that it may read. */
  file: string | undefined;
  /** Where it writes what is too large for an answer; only plain files are taken from there. */
  directory: string;
}

/** Where the files of a task are. */
export interface TaskPlaces {
  /** What the task said that is to be read. Gone when the task has ended. */
  file: string;
  /** For what is too large for an answer. */
  directory: string;
}

/** With the processor time of the child so far. */
export type TaskAnswer =
  | { ready: true }
  | { value: unknown; cpuSeconds: number }
  | { refused: string; reason?: string; outOfMemory: boolean; cpuSeconds: number };

/**
 * Answers each task with what the handler makes of it. What it throws is the reason for the record: say what is wrong with
 * the file in a sentence, and name no path. An error may have a `reason`, a word that says more than `refused`.
 */
export function serve<Input>(handler: (input: Input, places: TaskPlaces) => Promise<unknown>): void {
  const answer = (message: TaskAnswer) => process.send?.(message);
  process.on('message', ({ input, file = '', directory }: TaskMessage) => {
    handler(input as Input, { file, directory }).then(
      (value) => answer({ value, cpuSeconds: cpuSeconds() }),
      (error: unknown) => answer(refusal(error)),
    );
  });
  // The service is gone. Native code in other threads would hold up an orderly end.
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  answer({ ready: true });
}

function refusal(error: unknown): TaskAnswer {
  const refused = error instanceof Error ? error.message : String(error);
  const reason = error instanceof Error && 'reason' in error ? String(error.reason) : undefined;
  return {
    refused,
    ...(reason !== undefined && { reason }),
    outOfMemory: reason === undefined && isOutOfMemory(refused),
    cpuSeconds: cpuSeconds(),
  };
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
