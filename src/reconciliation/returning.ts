/**
 * Brings back what the first store has lost: an object that is not there, or has another size, is copied from a mirror that has
 * it. Its bytes are compared with their digest on the way; an asset that was lost is ready again when they are there.
 */

import { MIN_PART } from '../config.ts';
import type { Core } from '../core.ts';
import { systemActor } from '../database/audit.ts';
import { copyObject, readCopy } from '../mirrors/copy-object.ts';
import { inParallel } from '../storage/in-parallel.ts';
import { keyIn } from '../storage/mirror.ts';
import { PartBuffers } from '../storage/part-buffers.ts';
import { ReconciliationRepository } from './repository.ts';
import * as statements from './returning-statements.ts';

const PAGE = 500;
/** Objects that are looked for, or copied, at the same time; the memory is that of a stream and some small objects. */
const AT_ONCE = 4;
const MEMORY = 6 * MIN_PART;

export interface ReturnRequest {
  /** `lost`: objects of assets that are known to be lost. `all`: of all that have copies. Else those of one asset. */
  of: 'lost' | 'all' | { assetId: string };
  /** Also an object that is there is read, and replaced when its bytes are others. */
  readsBytes?: boolean;
  /** Of the audit rows. */
  jobId: string;
  signal?: AbortSignal;
}

export interface Returned {
  /** Objects that were looked for. */
  looked: number;
  returned: number;
  bytes: number;
  /** Assets that were lost and are ready again. */
  ready: number;
  /** Missing in the first store, and no mirror has given them. */
  failed: { assetId: string; objectKey: string }[];
}

/** Of those that failed, so many are named. */
const MAX_NAMED = 1000;

interface Returnable {
  objectKey: string;
  assetId: string;
  size: number;
  sha256: Buffer | null;
  mirrors: string[];
}

/** May be repeated, and ended at any time: a key has the same bytes whoever writes it. */
export async function bringBack(core: Core, request: ReturnRequest): Promise<Returned> {
  const returned: Returned = { looked: 0, returned: 0, bytes: 0, ready: 0, failed: [] };
  const bringing = new Bringing(core, request, returned);
  for (
    let after = '', page = await pageOf(core, request, after);
    page.length > 0;
    page = await pageOf(core, request, after)
  ) {
    request.signal?.throwIfAborted();
    await inParallel(page, AT_ONCE, (object) => bringing.look(object));
    after = page.at(-1)?.objectKey ?? after;
  }
  return returned;
}

async function pageOf({ background }: Core, { of }: ReturnRequest, after: string): Promise<Returnable[]> {
  const { database } = background;
  const values = { after, limit: PAGE };
  if (of === 'all') return (await database.run(statements.listReturnable, values)).rows;
  if (of === 'lost') return (await database.run(statements.listReturnableOfLost, values)).rows;
  return (await database.run(statements.listReturnableOf, { ...values, assetId: of.assetId })).rows;
}

class Bringing {
  readonly #core: Core;
  readonly #request: ReturnRequest;
  readonly #returned: Returned;
  readonly #records: ReconciliationRepository;
  readonly #buffers = new PartBuffers(MEMORY, MIN_PART);
  readonly #signal: AbortSignal;

  constructor(core: Core, request: ReturnRequest, returned: Returned) {
    this.#core = core;
    this.#request = request;
    this.#returned = returned;
    this.#records = new ReconciliationRepository(core.background, core.outbox);
    this.#signal = request.signal ?? new AbortController().signal;
  }

  async look(object: Returnable): Promise<void> {
    const returned = this.#returned;
    returned.looked += 1;
    if (!(await this.#isThere(object))) {
      if (!(await this.#copyBack(object))) {
        if (returned.failed.length < MAX_NAMED)
          returned.failed.push({ assetId: object.assetId, objectKey: object.objectKey });
        return;
      }
      returned.returned += 1;
      returned.bytes += object.size;
    } else if (this.#request.of !== 'lost') return;
    const record = { id: object.assetId, objectKey: object.objectKey };
    const actor = systemActor('mirrors', this.#request.jobId);
    if (await this.#records.mark(record, 'lost', 'ready', actor)) returned.ready += 1;
  }

  /** What is lost is believed only when it was read. */
  async #isThere({ objectKey, size, sha256 }: Returnable): Promise<boolean> {
    const { store } = this.#core;
    const head = await store.head(objectKey, { signal: this.#signal });
    if (head?.size !== size) return false;
    if (sha256 === null || !(this.#request.readsBytes || this.#request.of === 'lost')) return true;
    return readCopy({ store, key: objectKey }, { size, sha256 }, this.#signal).then(
      () => true,
      () => {
        this.#signal.throwIfAborted();
        return false;
      },
    );
  }

  /** @returns false when no mirror gives it */
  async #copyBack({ objectKey, size, sha256, mirrors }: Returnable): Promise<boolean> {
    const { store, onError } = this.#core;
    const to = { store, key: objectKey };
    const known = { size, sha256: sha256 ?? undefined };
    for (const name of mirrors) {
      const mirror = this.#core.mirrors.find((each) => each.name === name);
      if (!mirror) continue;
      try {
        const from = { store: mirror.store, key: keyIn(mirror, objectKey) };
        const digest = await copyObject(from, to, known, { buffers: this.#buffers, signal: this.#signal });
        // One server has copied it: nobody here has seen the bytes.
        if (digest === undefined) await readCopy(to, known, this.#signal);
        return true;
      } catch (error) {
        this.#signal.throwIfAborted();
        onError(`an object could not be brought back from the mirror ${name}`, error);
      }
    }
    return false;
  }
}
