/**
 * What archives hold in memory while they are sent: a few hundred bytes for each file. So there are so many files of all
 * archives that are open, half of them of one caller at most.
 */
import { Problem, RETRY_SOON } from '../problems.ts';

/** About 100 MB. */
const MAX_FILES_OPEN = 200_000;

export class ArchiveMemory {
  readonly #byCaller = new Map<string, number>();
  #total = 0;

  /** Takes it until the signal is aborted. @throws Problem overloaded */
  take(callerId: string, files: number, ended: AbortSignal): void {
    const own = this.#byCaller.get(callerId) ?? 0;
    if (this.#total + files > MAX_FILES_OPEN || own + files > MAX_FILES_OPEN / 2)
      throw new Problem('overloaded', {
        detail: 'Too many files are being downloaded in archives. Try again later.',
        retryAfter: RETRY_SOON,
      });
    if (ended.aborted) return;
    this.#add(callerId, files);
    ended.addEventListener('abort', () => this.#add(callerId, -files), { once: true });
  }

  #add(callerId: string, files: number): void {
    this.#total += files;
    const own = (this.#byCaller.get(callerId) ?? 0) + files;
    if (own > 0) this.#byCaller.set(callerId, own);
    else this.#byCaller.delete(callerId);
  }
}
