/**
 * Transactions that would wait for each other anyway are made one. While a batch of a key is under way, whatever comes for
 * that key waits, and is the next batch; so work that locks one row, such as that of an owner's quota, waits for that
 * row once and not once each, and holds one connection and not all. Nothing is delayed: what comes alone goes alone, at once.
 */

interface Submitted<Item, Outcome> {
  item: Item;
  resolve: (outcome: Outcome) => void;
  reject: (error: unknown) => void;
}

export class Batcher<Item, Outcome> {
  readonly #run: (key: string, items: readonly Item[]) => Promise<readonly Outcome[]>;
  readonly #max: number;
  /** What waits, by key; a key is there while a batch of it is under way. */
  readonly #waiting = new Map<string, Submitted<Item, Outcome>[]>();

  /**
   * @param run has to give an outcome for each item, in their order; when it rejects, all of them are rejected
   * @param max items of one batch
   */
  constructor(run: (key: string, items: readonly Item[]) => Promise<readonly Outcome[]>, max: number) {
    this.#run = run;
    this.#max = max;
  }

  submit(key: string, item: Item): Promise<Outcome> {
    const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
    const submitted = { item, resolve, reject };
    const waiting = this.#waiting.get(key);
    if (waiting) {
      waiting.push(submitted);
    } else {
      const first = [submitted];
      this.#waiting.set(key, first);
      void this.#work(key, first);
    }
    return promise;
  }

  async #work(key: string, waiting: Submitted<Item, Outcome>[]): Promise<void> {
    while (waiting.length > 0) await this.#settle(key, waiting.splice(0, this.#max));
    this.#waiting.delete(key);
  }

  async #settle(key: string, batch: readonly Submitted<Item, Outcome>[]): Promise<void> {
    try {
      const outcomes = await this.#run(
        key,
        batch.map(({ item }) => item),
      );
      if (outcomes.length !== batch.length) throw new Error('a batch must have an outcome for each item');
      outcomes.forEach((outcome, index) => {
        batch[index]?.resolve(outcome);
      });
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}
