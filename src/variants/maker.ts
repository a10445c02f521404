/**
 * Makes variants: each once, over all instances, and inside of the first request for it.
 *
 * Who asks for one that is not there takes a place, then claims its name (processing/derivatives.ts) and makes it. Who finds
 * it claimed leaves the place and looks again until it is there; when its maker died, its lease ends, and whoever looks then
 * makes it. In one process, all that ask for the same variant wait for one of them. Places are those of the owner of the
 * picture, so a page full of new pictures leaves places to the pictures of everybody else.
 */

import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { limitedBy, type Tier, tierWords } from '../access/tiers.ts';
import { archivedProblem } from '../assets/archived.ts';
import { pauseAfter } from '../backoff.ts';
import { LEASE_RENEWALS } from '../config.ts';
import type { Core } from '../core.ts';
import { Admission } from '../http/admission.ts';
import { assetNotFound, ClientGone, Problem } from '../problems.ts';
import { type Claim, type Derivative, DerivativesRepository, isReady } from '../processing/derivatives.ts';
import { type EncodedPicture, Pictures } from '../processing/pictures/pictures.ts';
import { TOO_LARGE } from '../processing/pictures/tasks.ts';
import { workingCopy } from '../processing/run-step.ts';
import { type Toolbox, toolboxOf } from '../processing/toolbox.ts';
import { PoolBusy } from '../processing/tools/child-pool.ts';
import { ScratchFull } from '../processing/tools/scratch.ts';
import { ToolError } from '../processing/tools/tool-error.ts';
import { VariantBudget } from './budget.ts';
import { serialise, type VariantOptions } from './options.ts';
import { type FoundPicture, type Picture, type StoredVariant, UNREADABLE, VariantsRepository } from './repository.ts';
import { variantSettings } from './settings.ts';

/** Requests that may wait for a place: several pages full of pictures. Each costs a socket. */
const MAX_WAITING = 1000;
/** Pauses between looks at what another instance makes. Milliseconds. */
const LOOKS = { first: 50, max: 1000 };
/** Milliseconds for all that making one takes, once it has a place. */
const MAKING_TIME = 60_000;
/** Seconds after which a request that was refused may come back. */
const RETRY = 2;

/** One variant that is being made, or waited for, and those in this process that want it. */
interface Making {
  wanted: number;
  /** Aborted when nobody wants it any more; what has begun is finished all the same. */
  abandoned: AbortController;
  result: Promise<StoredVariant>;
}

export class VariantMaker {
  readonly #core: Core;
  readonly #tools: Toolbox;
  readonly #pictures: Pictures;
  readonly #variants: VariantsRepository;
  readonly #derivatives: DerivativesRepository;
  readonly #admission: Admission;
  readonly #budget: VariantBudget;
  readonly #makings = new Map<string, Making>();

  constructor(core: Core) {
    const { VARIANTS_AT_ONCE: total, VARIANT_WAIT: wait, VARIANTS_PER_MINUTE } = core.settings(variantSettings);
    this.#core = core;
    this.#tools = toolboxOf(core);
    this.#pictures = new Pictures(this.#tools.pool);
    this.#variants = new VariantsRepository(core.database.database);
    this.#derivatives = new DerivativesRepository(core.database, core.outbox);
    this.#admission = new Admission({ what: 'variants', total, perCaller: total, wait, queue: MAX_WAITING });
    this.#budget = new VariantBudget(VARIANTS_PER_MINUTE);
  }

  /** Requests that make a variant, and that wait for a place. */
  get load(): { making: number; waiting: number } {
    return { making: this.#admission.active, waiting: this.#admission.waiting };
  }

  /**
   * The variant as it was found, or as it is made now.
   * @throws Problem derivative-unavailable, archived, not-found, overloaded, too-many-requests; the signal's reason
   */
  async provide(
    { picture, found }: FoundPicture,
    options: VariantOptions,
    signal: AbortSignal,
  ): Promise<StoredVariant> {
    if (found.state === 'failed') throw unavailableFor(found.reason);
    if (found.state !== 'ready' && !picture.isAtHand) throw sourceArchived();
    if (found.state !== 'ready') return this.#share(picture, options, found.state === 'busy', signal);
    if (found.isAskedAnew) this.#markAsked(found.variant.id);
    return found.variant;
  }

  /** Its object is not there: it is made again. @returns undefined when other bytes came of it than before */
  async makeAgain(
    picture: Picture,
    lost: StoredVariant,
    options: VariantOptions,
    signal: AbortSignal,
  ): Promise<StoredVariant | undefined> {
    await this.#derivatives.discard([lost.id]);
    const made = await this.#share(picture, options, false, signal);
    return made.sha256.equals(lost.sha256) ? made : undefined;
  }

  /** No request waits for it; once an hour of use it is a statement. */
  #markAsked(id: string): void {
    this.#variants.markAsked(id).catch((error) => this.#core.onError('the use of a variant could not be noted', error));
  }

  async #share(
    picture: Picture,
    options: VariantOptions,
    isBusy: boolean,
    signal: AbortSignal,
  ): Promise<StoredVariant> {
    signal.throwIfAborted();
    const key = `${picture.objectKey} ${serialise(options)}`;
    const known = this.#makings.get(key);
    const making = known && !known.abandoned.signal.aborted ? known : this.#begin(key, picture, options, isBusy);
    making.wanted += 1;
    try {
      return await unlessAborted(making.result, signal);
    } finally {
      making.wanted -= 1;
      if (making.wanted === 0) making.abandoned.abort(new ClientGone('nobody wants the variant any more'));
    }
  }

  #begin(key: string, picture: Picture, options: VariantOptions, isBusy: boolean): Making {
    const abandoned = new AbortController();
    const result = this.#obtain(picture, options, isBusy, abandoned.signal).finally(() => {
      if (this.#makings.get(key) === making) this.#makings.delete(key);
    });
    // Whoever wanted it may have gone before it fails.
    result.catch(() => {});
    const making: Making = { wanted: 0, abandoned, result };
    this.#makings.set(key, making);
    return making;
  }

  /** Makes it, or waits for another instance that does, until one of them has. */
  async #obtain(
    picture: Picture,
    options: VariantOptions,
    isBusy: boolean,
    signal: AbortSignal,
  ): Promise<StoredVariant> {
    const until = performance.now() + this.#core.settings(variantSettings).VARIANT_WAIT;
    for (let looks = isBusy; performance.now() < until; looks = true) {
      const made = looks ? await this.#awaitOther(picture, options, until, signal) : undefined;
      const obtained = made ?? (await this.#makeInPlace(picture, options, signal));
      if (obtained) return obtained;
    }
    throw overloaded();
  }

  /** @returns undefined when somebody else makes it */
  async #makeInPlace(
    picture: Picture,
    options: VariantOptions,
    signal: AbortSignal,
  ): Promise<StoredVariant | undefined> {
    const leave = await this.#admission.enter(picture.ownerId, signal);
    try {
      const tier = await this.#core.tiers.ofOwner(picture.ownerId, picture.askedBy);
      const seconds = this.#budget.take(picture.ownerId, tier?.limits.variantsPerMinute);
      if (seconds !== undefined) throw tooMany(seconds, tier);
      const claim = await this.#claim(picture, options);
      if (claim.outcome === 'gone') throw assetNotFound();
      if (claim.outcome === 'claimed') return await this.#make(claim.derivative, picture, options);
      return claim.outcome === 'ready' ? stored(claim.derivative) : undefined;
    } finally {
      leave();
    }
  }

  /** With the claim, what was least recently asked for makes room. */
  #claim({ id: assetId, objectKey: sourceKey }: Picture, options: VariantOptions): Promise<Claim> {
    const { VARIANTS_PER_ASSET, VARIANT_LEASE } = this.#core.settings(variantSettings);
    return this.#derivatives.claim(
      { assetId, kind: 'variant', name: serialise(options), sourceKey },
      {
        again: true,
        lease: VARIANT_LEASE / 1000,
        inTransaction: async (transaction) => {
          const surplus = await this.#variants.surplus(transaction, assetId, VARIANTS_PER_ASSET);
          await this.#derivatives.discard(surplus, transaction);
        },
      },
    );
  }

  /** @returns undefined when nobody makes it any more: then it is for whoever comes first */
  async #awaitOther(
    { id }: Picture,
    options: VariantOptions,
    until: number,
    signal: AbortSignal,
  ): Promise<StoredVariant | undefined> {
    for (let attempt = 1; performance.now() < until; attempt += 1) {
      await sleep(pauseAfter(attempt, LOOKS), undefined, { signal });
      const again = await this.#variants.find(id, serialise(options));
      if (!again) throw assetNotFound();
      if (again.found.state === 'ready') return again.found.variant;
      if (again.found.state === 'failed') throw unavailableFor(again.found.reason);
      if (again.found.state === 'absent') return undefined;
    }
    throw overloaded();
  }

  /** @returns undefined when the claim was lost meanwhile */
  async #make(claimed: Derivative, picture: Picture, options: VariantOptions): Promise<StoredVariant | undefined> {
    const { VARIANT_LEASE } = this.#core.settings(variantSettings);
    const renewal = setInterval(() => {
      this.#derivatives
        .renew(claimed.id, undefined, VARIANT_LEASE / 1000)
        .catch((error) => this.#core.onError('the claim of a variant could not be renewed', error));
    }, VARIANT_LEASE / LEASE_RENEWALS);
    const started = performance.now();
    const told = (outcome: string) => this.#tools.onStep('variant', outcome, (performance.now() - started) / 1000);
    try {
      const made = await this.#store(claimed, await this.#render(picture, options));
      told('done');
      return made;
    } catch (error) {
      const problem = await this.#giveUp(claimed, error);
      told('failed');
      throw problem;
    } finally {
      clearInterval(renewal);
    }
  }

  async #render(picture: Picture, options: VariantOptions): Promise<EncodedPicture> {
    const signal = AbortSignal.timeout(MAKING_TIME);
    await using file = await workingCopy(picture, this.#core, this.#tools, signal);
    return await this.#pictures.variant(file.path, options, { callerId: picture.ownerId, signal });
  }

  async #store(
    { id, assetId, objectKey, name }: Derivative,
    { bytes, mediaType, width, height }: EncodedPicture,
  ): Promise<StoredVariant | undefined> {
    const sha256 = createHash('sha256').update(bytes).digest();
    const attributes = {
      contentType: mediaType,
      contentDisposition: 'inline',
      cacheControl: 'private',
      metadata: { variant: name },
    };
    await this.#core.store.put(objectKey, bytes, attributes, { sha256 });
    const kept = await this.#derivatives.finish(id, { mediaType, size: bytes.length, sha256, width, height });
    if (kept) return stored(kept);
    // The job that removes what was discarded may have been there before the object.
    await this.#core.database.transact((transaction) =>
      this.#derivatives.discardObject(assetId, objectKey, transaction),
    );
    return undefined;
  }

  /** What is wrong with the picture is kept in mind; anything else leaves the name free. @returns what to tell */
  async #giveUp({ id }: Derivative, error: unknown): Promise<unknown> {
    const reason = reasonIn(error);
    if (reason !== undefined) {
      await this.#derivatives.fail(id, reason);
      return unavailableFor(reason);
    }
    await this.#derivatives.discard([id]).catch((fault) => this.#core.onError('a claim could not be given up', fault));
    const isOurs = error instanceof ToolError || error instanceof PoolBusy || error instanceof ScratchFull;
    return isOurs ? overloaded(error) : error;
  }
}

/** Why the picture cannot be made, in a word; undefined when the picture is not to blame. */
function reasonIn(error: unknown): string | undefined {
  if (!(error instanceof ToolError) || error.fault === 'aborted' || error.fault === 'not-installed') return undefined;
  if (error.fault !== UNREADABLE) return error.fault;
  return error.message.includes(TOO_LARGE) ? 'output-too-large' : UNREADABLE;
}

const reasons: Readonly<Record<string, string>> = {
  [UNREADABLE]: 'the picture cannot be read',
  'output-too-large': 'it would be larger than 4 MiB. Ask for fewer pixels, a lower quality or another format',
  'timed-out': 'it takes too long. Ask for fewer pixels or another format',
  'out-of-memory': 'it takes too much memory',
  crashed: 'the program that reads the picture crashed',
};

export function unavailableFor(reason: string): Problem {
  return new Problem('derivative-unavailable', {
    detail: `The variant cannot be made: ${reasons[reason] ?? reason}.`,
  });
}

function tooMany(seconds: number, tier: Tier | undefined): Problem {
  return new Problem('too-many-requests', {
    detail: `Too many new variants were asked for of the pictures of one owner. Ask for fewer sizes, or try again later.${tierWords(tier)}`,
    retryAfter: seconds,
    ...limitedBy(tier, 'variantsPerMinute'),
  });
}

function overloaded(cause?: unknown): Problem {
  return new Problem('overloaded', {
    detail: 'Too many pictures are being made. Try again later.',
    retryAfter: RETRY,
    cause,
  });
}

function stored(derivative: Derivative): StoredVariant {
  const { id, objectKey, sha256, updatedAt } = derivative;
  if (!isReady(derivative) || sha256 === null) throw new Error(`the variant ${id} is incomplete`);
  return { id, objectKey, size: derivative.size, sha256, madeAt: updatedAt };
}

function unlessAborted<Result>(promise: Promise<Result>, signal: AbortSignal): Promise<Result> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', onAbort));
}

function sourceArchived(): Problem {
  return new Problem(archivedProblem, {
    detail:
      'The picture is in the archive, and was not asked for in this size before. It can be once it was brought back (restore-from-archive); thumbnails are there.',
  });
}
