/**
 * Uploads of one request: a stream becomes an asset, or leaves nothing.
 *
 *   1. a place among the running uploads, and a first part buffer
 *   2. the bytes: counted, hashed, copied into part buffers; at 64 KiB (or the end) their type is validated
 *   3. quota is reserved before anything is sent to the store; the record `uploading` is the witness of what is sent
 *   4. size, type, structure and digest are validated before the object is made whole; what fits one buffer loses its
 *      metadata, where its policy says so; the record is sealed with what is stored; and while it is stored, what fits one
 *      buffer is looked into
 *   5. what was made of it is stored beside it, under keys that are written down before
 *   6. one statement turns the record into a `ready` asset, the reservation into use, and what was made into derivatives
 *
 * A form may describe a file after its bytes. Then what it says counts from step 4 on; a file among several is held after
 * step 4, not sealed, until the form has ended, so that a form is taken as a whole or not at all.
 *
 * A file that fits one buffer and is refused has touched neither database nor store. When a larger size is known from the
 * beginning, the quota is asked before the first byte is read.
 *
 * Until the last byte is here, a client that goes away ends the upload. From then on it is finished whatever the client
 * does. What a failure leaves is undone only where the outcome is known; see `#undo`.
 */
import type { Asset } from '../assets/asset.ts';
import { asProblem } from '../http/error-handler.ts';
import { type ClientGone, Problem } from '../problems.ts';
import { OutcomeUnknown } from '../storage/whole-object.ts';
import { contextOf, lookAgainAt, type UploadContext } from './context.ts';
import { endUpload, recordRefusal } from './ending.ts';
import type { FileDescription } from './new-upload.ts';
import { type Arrival, SingleUpload } from './single-upload.ts';
import type { EndedUpload } from './upload.ts';

/** A file whose bytes are in the store, and which is no asset before all that the client says of it is known. */
export interface HeldUpload {
  /** Makes it an asset. @throws Problem, when what is said does not allow it; then nothing is left of it */
  settle(description: FileDescription): Promise<Asset>;
  /** Leaves nothing of it. Never throws. */
  end(problem: Problem | ClientGone): Promise<void>;
}

export class Intake {
  readonly #context: UploadContext;

  constructor(context: UploadContext) {
    this.#context = context;
  }

  /**
   * Takes a file in.
   * @returns the `ready` asset, after the record and the object are safe
   * @throws Problem; ClientGone
   */
  async receive(arrival: Arrival): Promise<Asset> {
    const upload = await this.#begin(arrival, false);
    return this.#ending(upload, arrival, async () => {
      await upload.store();
      return this.#settled(upload);
    });
  }

  /**
   * Takes the bytes of one file among several in. Its lease is renewed until it is settled or ended, one of which must follow.
   * @throws Problem; ClientGone
   */
  async hold(arrival: Arrival): Promise<HeldUpload> {
    const upload = await this.#begin(arrival, true);
    await this.#ending(upload, arrival, () => upload.store());
    return {
      settle: (description) =>
        this.#ending(upload, arrival, async () => {
          await upload.describe(description);
          return this.#settled(upload);
        }),
      end: (problem) => this.#end(upload, arrival, problem),
    };
  }

  async #settled(upload: SingleUpload): Promise<Asset> {
    const asset = await upload.settle();
    upload.release();
    this.#context.onOutcome('stored', asset.size);
    return asset;
  }

  /** When the work on an upload fails, the upload ends. */
  async #ending<Result>(upload: SingleUpload, arrival: Arrival, work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      const problem = asProblem(error);
      await this.#end(upload, arrival, problem);
      throw problem;
    }
  }

  async #end(upload: SingleUpload, arrival: Arrival, problem: Problem | ClientGone): Promise<void> {
    upload.release();
    const outcome = problem instanceof Problem ? (problem.status < 500 ? 'refused' : 'failed') : 'aborted';
    this.#context.onOutcome(outcome, upload.received);
    await this.#undo(upload, arrival, problem, outcome === 'refused');
  }

  /** Validates what is known before any byte is read. */
  async #begin(arrival: Arrival, isHeld: boolean): Promise<SingleUpload> {
    try {
      return new SingleUpload(arrival, contextOf(this.#context, arrival.caller), isHeld);
    } catch (error) {
      this.#context.onOutcome('refused', 0);
      if (error instanceof Problem)
        await recordRefusal(this.#context, arrival.actor, arrival.caller.id, error, arrival.fileName);
      throw error;
    }
  }

  /**
   * Leaves nothing behind, as far as it is known what there is. An outcome nobody knows is left as it is: the record
   * `uploading` names the key, and its lease ends.
   */
  async #undo(upload: SingleUpload, arrival: Arrival, problem: unknown, refused: boolean): Promise<void> {
    const { uploads, tasks, onError } = this.#context;
    const { actor } = arrival;
    const reason = problem instanceof Problem ? problem.type : 'client-gone';
    if (upload.mayBeAsset || (!upload.isHeld && problem instanceof Error && problem.cause instanceof OutcomeUnknown)) {
      await upload.close();
      onError('the outcome of an upload is unknown; its record is kept', problem);
      tasks.persist(
        () => this.#resolve(upload, { action: 'upload.aborted', reason, actor }),
        'settling an upload of unknown outcome',
      );
      return;
    }
    const touchedStore = await upload.stop();
    if (upload.disowned) {
      if ((await upload.abandon()) === 'unsure') await lookAgainAt(this.#context, upload.record);
      return;
    }
    if (!upload.begun) {
      if (refused && problem instanceof Problem)
        await recordRefusal(this.#context, actor, arrival.caller.id, problem, arrival.fileName);
      return;
    }
    const outcome: EndedUpload = { action: refused ? 'upload.refused' : 'upload.aborted', reason, actor };
    const end = () => (touchedStore ? this.#endRecord(upload, outcome) : uploads.remove(upload.record.id, outcome));
    try {
      await end();
    } catch (error) {
      onError('an upload could not be undone at once; trying on', error);
      tasks.persist(end, 'ending an upload');
    }
  }

  /** Looks whether the object was made after all, and finishes or ends the upload accordingly. */
  async #resolve(upload: SingleUpload, outcome: EndedUpload): Promise<void> {
    if (upload.stored || (await upload.isWhole())) await upload.settleAgain();
    else await this.#endRecord(upload, outcome);
  }

  async #endRecord(upload: SingleUpload, outcome: EndedUpload): Promise<void> {
    const { record, isInDoubt } = upload;
    await endUpload(this.#context, record, { ...outcome, inDoubt: isInDoubt }, () => upload.abandon());
  }
}
