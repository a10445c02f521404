/**
 * Who waits is served before who dawdles. Clients that hold something of which there is not enough, a place or memory,
 * are known here with their pace; when another caller waits for it, the slowest of those who hold most is ended. Nobody is
 * ended who keeps up the contended rate, or while nobody waits.
 */

/** While others wait, what a client must move. Bytes per second. */
export const CONTENDED_RATE = 64 * 1024;

export interface SlowClient {
  callerId: string;
  /** Bytes ahead of the contended rate; see Pace. */
  balance(): number;
  /** Frees what the client holds. */
  end(): void;
}

export class SlowClients {
  readonly #clients = new Set<SlowClient>();

  /** @returns takes the client out again; idempotent */
  add(client: SlowClient): () => void {
    this.#clients.add(client);
    return () => this.#clients.delete(client);
  }

  /**
   * Ends the slowest client of the caller who has most of them, for the sake of a caller who has fewer.
   * @returns whether there was one
   */
  endOne(waitingCaller: string): boolean {
    const counts = new Map<string, number>();
    for (const { callerId } of this.#clients) counts.set(callerId, (counts.get(callerId) ?? 0) + 1);
    const countOf = (callerId: string) => counts.get(callerId) ?? 0;
    const [slowest] = [...this.#clients]
      .filter((client) => client.balance() <= 0 && countOf(client.callerId) > countOf(waitingCaller))
      .sort((a, b) => countOf(b.callerId) - countOf(a.callerId) || a.balance() - b.balance());
    if (!slowest) return false;
    this.#clients.delete(slowest);
    slowest.end();
    return true;
  }
}
