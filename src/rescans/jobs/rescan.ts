/**
 * Scans again what is stored, page by page in the order of ids. What has come of an asset is written with the count of the
 * scan in one transaction; so a worker that dies loses no more than what it was scanning, and the next one goes on from the
 * last page, in which what was scanned already is not due any more.
 */
import { type Actor, systemActor } from '../../database/audit.ts';
import type { JobContext } from '../../jobs/job.ts';
import type { ProcessingRepository } from '../../processing/repository.ts';
import { ClamdUnavailable } from '../../scanning/clamd.ts';
import { infected } from '../../scanning/problems.ts';
import type { Scanned, Scanner } from '../../scanning/scanner.ts';
import { inParallel } from '../../storage/in-parallel.ts';
import { type ObjectStore, ObjectStoreUnavailable } from '../../storage/object-store.ts';
import { type LookedAt, type RescansRepository, ScanCancelled } from '../repository.ts';

/** Assets that are looked at by one statement, and that are scanned at once: uploads and their jobs need clamd as well. */
const PAGE = 500;
const AT_ONCE = 2;
const FIRST = '00000000-0000-0000-0000-000000000000';

export interface RescanOptions {
  scans: RescansRepository;
  processing: ProcessingRepository;
  scanner: Scanner | undefined;
  store: ObjectStore;
  /** Asset types whose files are not scanned. */
  unscannedTypes: readonly string[];
}

/** @throws ClamdUnavailable, ObjectStoreUnavailable: it goes on later */
export async function rescan(options: RescanOptions, scanId: string, context: JobContext): Promise<void> {
  const { scans, unscannedTypes } = options;
  const scan = await scans.find(scanId);
  if (scan?.state !== 'running') return;
  if (scan.found === null) await scans.count(scan, unscannedTypes);
  const run = new Run(options, scanId, context);
  try {
    let after = scan.cursor ?? FIRST;
    for (let isLast = false; !isLast; ) {
      const page = await scans.lookAt(scan, unscannedTypes, after, PAGE);
      await inParallel(
        page.filter(({ isDue }) => isDue),
        AT_ONCE,
        (asset) => run.scan(asset),
      );
      after = page.at(-1)?.id ?? after;
      isLast = page.length < PAGE;
      await scans.advance(scanId, after, context.fence);
    }
    await scans.end(scanId, run.actor, context.fence);
  } catch (error) {
    if (!(error instanceof ScanCancelled)) throw error;
  }
}

class Run {
  readonly #options: RescanOptions;
  readonly #id: string;
  readonly #context: JobContext;
  readonly actor: Actor;
  /** What ended it: nothing more is begun. */
  #failure: { of: unknown } | undefined;

  constructor(options: RescanOptions, id: string, context: JobContext) {
    this.#options = options;
    this.#id = id;
    this.#context = context;
    this.actor = systemActor('scanner', context.id);
  }

  async scan(asset: LookedAt): Promise<void> {
    if (this.#failure) throw this.#failure.of;
    try {
      await this.#scan(asset);
    } catch (error) {
      this.#failure ??= { of: error };
      throw error;
    }
  }

  async #scan(asset: LookedAt): Promise<void> {
    const { scans } = this.#options;
    const { fence } = this.#context;
    const scanned = await this.#ask(asset);
    if (!scanned || scanned.notScanned) await scans.skip(this.#id, fence);
    else if (scanned.scan.verdict === 'infected') await this.#takeOut(asset, scanned);
    else await scans.record(this.#id, asset, scanned.scan, fence);
  }

  /** @returns undefined when its bytes are not there, which is the affair of the reconciler */
  async #ask({ objectKey, size }: LookedAt): Promise<Scanned | undefined> {
    const { scanner, store } = this.#options;
    const { signal } = this.#context;
    if (!scanner) throw new ClamdUnavailable('CLAMD is not set');
    const body = await store.head(objectKey, { signal });
    if (!body) return undefined;
    const open = async () => {
      const found = await store.get(objectKey, { signal });
      if (!found) throw new ObjectStoreUnavailable('the object is not there');
      return found.stream;
    };
    const scanned = await scanner.scan(open, { size, signal, trigger: 'rescan' });
    const why = scanned.notScanned?.why;
    if (why === 'source-failed') throw new ObjectStoreUnavailable(scanned.notScanned?.detail ?? '');
    // Where clamd is up, it is the file that it cannot scan.
    if (why !== undefined && why !== 'too-large') await scanner.clamd.ping();
    return scanned;
  }

  /** From `ready` to `rejected`, as the step `scan` would do it. */
  async #takeOut({ id, objectKey }: LookedAt, { scan }: Scanned): Promise<void> {
    const { processing, scans } = this.#options;
    const outcome = { kind: 'rejected' as const, reason: infected, removesBytes: true, scan };
    const ended = { name: 'scan' as const, outcome, objectKey, isAgain: true };
    await processing.end(id, ended, this.actor, async (transaction) => {
      await this.#context.fence(transaction);
      await scans.add(transaction, this.#id, { scanned: 1, infected: 1 });
    });
  }
}
