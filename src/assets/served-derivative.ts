/** Finds what is served of an asset beside its own bytes, or says why it is not there. */
import type { Core } from '../core.ts';
import { Problem, RETRY_SOON } from '../problems.ts';
import { type Derivative, DerivativesRepository, isReady, type ReadyDerivative } from '../processing/derivatives.ts';
import { ProcessingRepository } from '../processing/repository.ts';
import { wantedDerivatives } from '../processing/wanted.ts';
import { limitValues } from '../quotas/limit.ts';
import { archived, isAtHand } from './archived.ts';
import type { Asset } from './asset.ts';

/** Milliseconds for which a program that was missing is believed to be missing. */
const MISSING_FOR = 10 * 60_000;

/** What decides whether a derivative is to be made. */
export type FoundDerivative = Pick<Derivative, 'state' | 'reason' | 'kind' | 'updatedAt' | 'leaseExpiresAt'>;

export class ServedDerivatives {
  readonly #core: Core;
  readonly #derivatives: DerivativesRepository;

  constructor(core: Core) {
    this.#core = core;
    this.#derivatives = new DerivativesRepository(core.database, core.outbox);
  }

  /** What there is, and what is to be: of the bytes that the asset has now. */
  async list(asset: Asset): Promise<(Derivative | { name: string; state: 'making' })[]> {
    const there = (await this.#derivatives.list(asset.id)).filter(({ sourceKey }) => sourceKey === asset.objectKey);
    return [...there, ...this.coming(asset, there)];
  }

  /** What is to be, beside what there is. */
  coming(asset: Asset, there: readonly { name: string }[]): { name: string; state: 'making' }[] {
    if (asset.processing?.derive?.state !== 'waiting') return [];
    const names = new Set(there.map(({ name }) => name));
    return [...this.#wanted(asset)].filter((name) => !names.has(name)).map((name) => ({ name, state: 'making' }));
  }

  /**
   * @param asset one that is served
   * @throws Problem derivative-pending, derivative-unavailable
   */
  async find(asset: Asset, name: string): Promise<ReadyDerivative> {
    const found = await this.#derivatives.find(asset.id, name);
    const isOfBytes = found?.sourceKey === asset.objectKey && found.kind !== 'replacement';
    if (isOfBytes && isReady(found)) return found;
    throw await this.whyNot(asset, name, isOfBytes ? found : undefined);
  }

  /**
   * Why a derivative cannot be had now; has it made, where it can be made, unless it is told not to.
   * @param asset one that is served
   * @param found of the bytes that the asset has now, not ready
   */
  async whyNot(
    asset: Asset,
    name: string,
    found: FoundDerivative | undefined,
    { makesAgain = true } = {},
  ): Promise<Problem> {
    if (found?.state === 'failed' && !mayBePossibleNow(found)) return unavailableFor(name, found.reason ?? 'failed');
    if (found?.kind === 'transcode') return pending(name);
    if (!this.#wanted(asset).has(name)) return unavailableFor(name, 'unknown');
    if (!isAtHand(asset)) return archived(asset);
    const step = asset.processing?.derive;
    if (step?.state === 'failed') return unavailableFor(name, step.reason ?? 'failed');
    // Stored before there were derivatives, lost since, or without the program that makes it: it is made now.
    if (makesAgain && step?.state !== 'waiting' && !(found && isAlive(found))) await this.#makeAgain(asset.id);
    return pending(name);
  }

  #wanted(asset: Asset): Set<string> {
    const policy = this.#core.policies.named(asset.assetType);
    return new Set(wantedDerivatives(this.#core, policy, asset.mediaType).keys());
  }

  async #makeAgain(assetId: string): Promise<void> {
    const { database, outbox } = this.#core;
    await new ProcessingRepository(database, outbox, limitValues(this.#core)).redo(assetId, 'derive');
  }
}

/** The program for it was not installed: that is looked at again after a restart, and now and then. */
function mayBePossibleNow({ kind, reason, updatedAt }: FoundDerivative): boolean {
  if (kind !== 'derivative' || reason !== 'not-installed') return false;
  return updatedAt.getTime() < Math.max(performance.timeOrigin, Date.now() - MISSING_FOR);
}

/** It is made at this moment. */
function isAlive({ state, leaseExpiresAt }: FoundDerivative): boolean {
  return state === 'making' && leaseExpiresAt !== null && leaseExpiresAt.getTime() > Date.now();
}

function pending(name: string): Problem {
  return new Problem('derivative-pending', {
    detail: `The ${name} of this asset is being made. Ask again in a moment.`,
    retryAfter: RETRY_SOON,
  });
}

function unavailableFor(name: string, reason: string): Problem {
  const detail =
    reason === 'unknown'
      ? `There is no ${name} of this asset. \`GET /v1/assets/{id}/derivatives\` lists what there is.`
      : `The ${name} of this asset cannot be made: ${reason}.`;
  return new Problem('derivative-unavailable', { detail });
}
