/**
 * Places for downloads through the process: so many of one caller, so many of all. A reader that is slow loses its place
 * when somebody else waits for one. So whoever reads slowly, or not at all, keeps nobody else from the bytes, and a bounded
 * number of connections to the object store is enough for all of them.
 */
import type { FastifyReply } from 'fastify';
import { Admission, type AdmissionLimits } from './admission.ts';
import type { AnswerGuard } from './answer-guard.ts';
import { SlowClients } from './slow-clients.ts';

export class DownloadPlaces {
  readonly #answers: AnswerGuard;
  readonly #slowClients = new SlowClients();
  readonly #admission: Admission;

  constructor(limits: AdmissionLimits, answers: AnswerGuard) {
    this.#answers = answers;
    this.#admission = new Admission({ ...limits, what: 'downloads', slowClients: this.#slowClients });
  }

  /** Downloads that have a place. */
  get active(): number {
    return this.#admission.active;
  }

  /**
   * Waits for a place, which the answer keeps until it ends.
   * @throws Problem too-many-downloads, overloaded; the signal's reason when it is aborted
   */
  async enter(callerId: string, { raw }: FastifyReply, signal: AbortSignal): Promise<void> {
    const leave = await this.#admission.enter(callerId, signal);
    const forget = this.#slowClients.add({
      callerId,
      balance: () => this.#answers.balanceOf(raw),
      end: () => raw.destroy(),
    });
    const end = () => {
      forget();
      leave();
    };
    if (raw.destroyed || raw.closed) end();
    else raw.once('close', end);
  }
}
