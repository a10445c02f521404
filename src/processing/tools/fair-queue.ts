/** What waits, by caller: whoever has least of it running is next, and among equals whoever was served longest ago. */
export class FairQueue<Item extends { callerId: string }> {
  readonly #limit: number;
  readonly #waiting = new Map<string, Item[]>();
  readonly #running = new Map<string, number>();
  #size = 0;

  /** @param limit how many may wait */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many wait. */
  get size(): number {
    return this.#size;
  }

  /** A caller may have no more waiting than places are left, so a few callers leave some for whoever has none. */
  hasRoomFor(callerId: string): boolean {
    const waiting = this.#waiting.get(callerId)?.length ?? 0;
    return this.#size < this.#limit && waiting <= this.#limit - this.#size;
  }

  add(item: Item): void {
    const waiting = this.#waiting.get(item.callerId);
    if (waiting) waiting.push(item);
    else this.#waiting.set(item.callerId, [item]);
    this.#size++;
  }

  /** The one whose turn it is. */
  first(): Item | undefined {
    const runs = (callerId: string) => this.#running.get(callerId) ?? 0;
    let next: string | undefined;
    for (const callerId of this.#waiting.keys()) if (next === undefined || runs(callerId) < runs(next)) next = callerId;
    return next === undefined ? undefined : this.#waiting.get(next)?.[0];
  }

  /** Takes the first, which runs until `ended`. */
  take(): Item | undefined {
    const item = this.first();
    if (item === undefined) return undefined;
    const { callerId } = item;
    const [, ...rest] = this.#waiting.get(callerId) ?? [];
    this.#waiting.delete(callerId);
    // To the end of the line of callers.
    if (rest.length > 0) this.#waiting.set(callerId, rest);
    this.#size--;
    this.#running.set(callerId, (this.#running.get(callerId) ?? 0) + 1);
    return item;
  }

  /** One that ran has ended. */
  ended({ callerId }: Item): void {
    const left = (this.#running.get(callerId) ?? 0) - 1;
    if (left > 0) this.#running.set(callerId, left);
    else this.#running.delete(callerId);
  }

  /** @returns whether it waited */
  remove(item: Item): boolean {
    const waiting = this.#waiting.get(item.callerId) ?? [];
    const at = waiting.indexOf(item);
    if (at < 0) return false;
    waiting.splice(at, 1);
    if (waiting.length === 0) this.#waiting.delete(item.callerId);
    this.#size--;
    return true;
  }
}
