/** A file that lies in memory is looked into while it is stored, so that its asset has facts and derivatives from the beginning. */
import type { ProcessingRecord } from '../database/tables/processing-record.ts';
import { type StoredArrival, storeOnArrival } from '../processing/keep-on-arrival.ts';
import type { FoundOnArrival } from '../processing/on-arrival.ts';
import { nextStep, plan } from '../processing/pipeline.ts';
import type { PartWriter } from '../storage/part-writer.ts';
import type { ValidatedType } from '../validation/file-validation.ts';
import type { UploadContext } from './context.ts';
import type { LearnedOnTheWay } from './upload.ts';

export interface LookOptions {
  ownerId: string;
  objectKey: string;
  type: ValidatedType;
  /** Steps that are done already. */
  ended: ProcessingRecord | undefined;
  /** Another policy may still be chosen; then nothing is made. */
  assetTypeMayFollow: boolean;
  /** Ends the look. */
  signal: AbortSignal;
}

export class LookedInto {
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #result: Promise<FoundOnArrival | undefined> = Promise.resolve(undefined);
  #found: FoundOnArrival | undefined;

  private constructor(signal: AbortSignal) {
    this.#signal = AbortSignal.any([signal, this.#stop.signal]);
  }

  /**
   * Begins, while the bytes are in memory; they may go when this has resolved.
   * @returns undefined where there is nothing to look for: also of what was not scanned, though it must be
   */
  static async begin(
    { rules, lookOnArrival }: Pick<UploadContext, 'rules' | 'lookOnArrival'>,
    writer: PartWriter,
    { ownerId, objectKey, type, ended = {}, assetTypeMayFollow, signal }: LookOptions,
  ): Promise<LookedInto | undefined> {
    if (!lookOnArrival || !writer.isInMemory) return undefined;
    const { mediaType, policy } = type;
    const file = { mediaType, assetType: policy.assetType, size: writer.length };
    if (nextStep(plan(rules, file, ended, false)) !== 'facts') return undefined;
    const looked = new LookedInto(signal);
    const { result } = await lookOnArrival({
      ...{ objectKey, mediaType, ownerId, bytes: writer.head, signal: looked.#signal },
      policy: assetTypeMayFollow ? undefined : policy,
    });
    looked.#result = result;
    return looked;
  }

  /** Resolves when it has ended, which is soon. */
  async end(): Promise<void> {
    this.#found = await this.#result;
  }

  /** Nobody needs to know any more. */
  stop(): void {
    this.#stop.abort();
  }

  /**
   * Stores what was made, once the object is whole; call it once, right before the file becomes an asset.
   * @returns what the asset is told to have
   */
  async keep(
    context: Pick<UploadContext, 'store' | 'derivatives' | 'onError'>,
    arrival: StoredArrival,
  ): Promise<LearnedOnTheWay> {
    const { facts, thumbHash, made, ended } = this.#found ?? {};
    const learned = { ...(facts && { facts }), ...(ended && { ended }) };
    const stored = made && (await storeOnArrival(context, arrival, made));
    if (!stored) return learned;
    return {
      ...learned,
      ...(thumbHash !== undefined && { thumbHash }),
      ended: { ...ended, derive: { state: 'done', at: new Date().toISOString() } },
      derivatives: stored,
    };
  }
}
