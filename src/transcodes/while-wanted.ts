/** Work that takes long, on a row that somebody may discard meanwhile. */
import type { DerivativesRepository } from '../processing/derivatives.ts';

/** Milliseconds between looks at what there is to tell. */
const TICK = 1000;
/** Ticks after which it is asked whether anybody still waits, though there is nothing to tell. */
const SILENT_TICKS = 3;

/**
 * Does the work, tells at most once a second how far it is, and that whoever does it lives. The work is aborted when nobody
 * waits for it any more.
 * @returns false when it was
 */
export async function whileWanted(
  derivatives: Pick<DerivativesRepository, 'renew'>,
  id: string,
  outer: AbortSignal,
  work: (signal: AbortSignal, tell: (percent: number) => void) => Promise<void>,
): Promise<boolean> {
  const unwanted = new AbortController();
  let [percent, told, silent] = [0, 0, 0];
  let telling: Promise<void> | undefined;
  const tell = async () => {
    // A database that is away for a while is no reason to stop.
    const isThere = await derivatives.renew(id, percent).catch(() => true);
    if (!isThere) unwanted.abort(new Error('the transcode is not wanted any more'));
  };
  const timer = setInterval(() => {
    if (telling || (percent === told && ++silent < SILENT_TICKS)) return;
    [told, silent] = [percent, 0];
    telling = tell().finally(() => {
      telling = undefined;
    });
  }, TICK);
  try {
    await work(AbortSignal.any([outer, unwanted.signal]), (now) => {
      percent = Math.max(percent, now);
    });
    return true;
  } catch (error) {
    if (unwanted.signal.aborted && !outer.aborted) return false;
    throw error;
  } finally {
    clearInterval(timer);
    await telling;
  }
}
