/**
 * Requests that may be sent again (draft-ietf-httpapi-idempotency-key-header-07). The first request under an
 * `Idempotency-Key` runs; the same request under the same key gets the first answer, with `Idempotency-Replayed: true`;
 * another request under that key is refused. Keys belong to the credential and its caller, and are kept for 24 hours.
 *
 * The answer is written in the transaction of what the request does, so there is never one without the other, and it
 * holds across instances and crashes. While a request runs, it renews a lease; whoever finds the lease expired first looks
 * what became of the upload, and then takes the key over. From then on the earlier attempt can commit nothing.
 *
 * Kept are answers that another try would get too: successes, and refusals of a file that was sent. Whatever may change by
 * itself (quota, limits, faults), and what was refused without a file, leaves the key free: asked again, it is looked at again,
 * and nothing is left of it. What a caller may leave is counted, too.
 *
 * Which operations honour a key, and how, is in requests.ts.
 */
import { createHash, randomUUID } from 'node:crypto';
import { z } from 'zod';
import { answersOf, type Caller } from '../access/caller.ts';
import { LEASE_RENEWALS } from '../config.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { Problem } from '../problems.ts';
import { type Attempt, IdempotencyRepository, type StoredAnswer } from './repository.ts';

const TRY_AGAIN = 2;
/** What is wrong with a file. */
const finalRefusals = new Set([413, 415, 422]);

/** What is sent, and sent again. */
export interface Answer {
  status: number;
  headers: Record<string, string>;
  /** JSON; undefined for none. */
  body?: unknown;
}

/** Everything that makes it the same request. */
export interface NamedRequest {
  /** `operationId`. */
  operation: string;
  /** Parameters, fields, digest: whatever decides what is done. In any order of the properties. */
  content: unknown;
  /** Bytes of the file, where the request tells: two that differ are of two files, but one may leave it out. */
  size?: number | undefined;
}

/** The right to answer a key. */
export interface Claim {
  kind: 'claim';
  /** Writes down which upload the request has begun. */
  began(transaction: Executor, assetId: string): Promise<void>;
  /** Writes the answer, in the transaction of what it tells. @throws Problem when another attempt has the key by now */
  commit(transaction: Executor, answer: Answer): Promise<void>;
  /**
   * Ends the claim with what is sent, unless it was committed: a success or a final refusal is kept as the answer, or else the
   * key is free. Never throws.
   */
  end(sent: StoredAnswer): Promise<void>;
  /** The same after a failure whose problem document is sent. */
  fail(problem: Problem | undefined, requestId: string): Promise<void>;
  /** Ends the renewal; call when the request has ended, however. */
  close(): void;
}

export interface Replay {
  kind: 'replay';
  answer: Answer;
}

/** What became of what a request had begun whose process died. */
export type Fate = { state: 'running' | 'gone' } | { state: 'stored'; answer: Answer };

export interface IdempotencyOptions {
  database: DatabaseHandle;
  /** Seconds after which a request that is not heard of counts as dead. */
  lease: number;
  /** Keys that a caller may use in an hour, over all instances; 0 for no limit. */
  keysPerHour: number;
  onError: (message: string, error: unknown) => void;
}

export const idempotencyHeader = z.object({
  'idempotency-key': z
    .string()
    .optional()
    .meta({
      override: { minLength: 1, maxLength: 202, pattern: '^(\\x22?)[!-~]{1,200}\\1$' },
      description:
        'Name of this request, chosen by the client: a new one for each request, such as a UUID. Sent again within 24 hours with the same content, the request has no further effect and gets the first answer. 1 to 200 visible ASCII characters, which may be quoted.',
    }),
});

/** @returns the key of a request; undefined when it has none. @throws Problem when it is not usable */
export function idempotencyKey(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined;
  // The draft has a quoted string; clients send both.
  const key = typeof header === 'string' ? header.replace(/^"(.*)"$/, '$1') : '';
  if (/^[\x21-\x7e]{1,200}$/.test(key)) return key;
  const detail = 'must be 1 to 200 visible ASCII characters, such as a UUID';
  throw new Problem('invalid-parameter', {
    detail: `Idempotency-Key ${detail}.`,
    errors: [{ parameter: 'Idempotency-Key', detail }],
  });
}

export class Idempotency {
  readonly #options: IdempotencyOptions;
  readonly #keys: IdempotencyRepository;

  constructor(options: IdempotencyOptions) {
    this.#options = options;
    this.#keys = new IdempotencyRepository(options.database.database, options);
  }

  /**
   * @param fateOf looks what became of what an attempt named by `began`; without it, that counts as gone
   * @throws Problem idempotency-key-reused, request-in-progress, too-many-requests
   */
  async claim(
    caller: Caller,
    key: string,
    request: NamedRequest,
    fateOf: (begunId: string) => Promise<Fate> = async () => ({ state: 'gone' }),
  ): Promise<Claim | Replay> {
    const callerId = answersOf(caller);
    const attempt = { callerId, key, claim: randomUUID() };
    for (;;) {
      if (await this.#insert(caller, attempt, request)) return this.#claimOf(attempt);
      const row = await this.#keys.find(callerId, key);
      // It expired between the two statements.
      if (!row) continue;
      requireSame(row, request);
      if (row.status !== null) {
        return replay({
          status: row.status,
          headers: row.headers ?? {},
          ...(row.body !== null && { body: JSON.parse(row.body) as unknown }),
        });
      }
      if (row.isLive) throw inProgress();
      const fate = row.assetId === null ? { state: 'gone' as const } : await fateOf(row.assetId);
      if (fate.state === 'running') throw inProgress();
      if (!(await this.#keys.takeOver({ ...attempt, claim: row.claim }, attempt.claim))) continue;
      const mine = this.#claimOf(attempt);
      if (fate.state !== 'stored') return mine;
      mine.close();
      await mine.commit(this.#options.database.database, fate.answer);
      return replay(fate.answer);
    }
  }

  /**
   * Keeps a key for an operation whose parts have keys of their own: whoever sends it again comes to those, and another
   * operation under this key is refused.
   * @throws Problem idempotency-key-reused, too-many-requests
   */
  async reserve(caller: Caller, key: string, operation: string): Promise<void> {
    const callerId = answersOf(caller);
    const request = { operation, content: undefined };
    while (!(await this.#insert(caller, { callerId, key, claim: randomUUID() }, request))) {
      const row = await this.#keys.find(callerId, key);
      if (row) return requireSame(row, request);
    }
  }

  /** @returns false when the key is there already */
  async #insert({ id: subject }: Caller, attempt: Attempt, request: NamedRequest): Promise<boolean> {
    const { operation, size = null } = request;
    const inserted = await this.#keys.insert(attempt, subject, {
      operation,
      fingerprint: fingerprintOf(request),
      size,
    });
    if (inserted.isInserted || inserted.isKnown) return inserted.isInserted;
    throw new Problem('too-many-requests', {
      detail: `At most ${this.#options.keysPerHour} requests an hour may have an Idempotency-Key. Slow down.`,
      retryAfter: inserted.seconds,
    });
  }

  /** Answers kept for longer than they are promised go. */
  async forgetOld(): Promise<void> {
    await this.#keys.forgetOld();
  }

  /** In the transaction by which the reaper finishes an upload: the request that began it has its answer. */
  async completeUpload(transaction: Executor, assetId: string, answer: Answer): Promise<void> {
    await this.#keys.answerUpload(transaction, assetId, toStore(answer));
  }

  #claimOf(attempt: Attempt): Claim {
    const { database, lease, onError } = this.#options;
    const renewal = setInterval(
      () => {
        this.#keys
          .renew(attempt)
          .catch((error) => onError('the lease of an idempotency key could not be renewed', error));
      },
      (lease * 1000) / LEASE_RENEWALS,
    ).unref();
    let isCommitted = false;
    const store = async (executor: Executor, answer: StoredAnswer) => {
      if (!(await this.#keys.answer(executor, attempt, answer))) {
        // The transaction may be here again because nobody heard that it was committed.
        const row = await this.#keys.find(attempt.callerId, attempt.key, executor);
        if (row?.claim !== attempt.claim || row.status === null) throw inProgress();
      }
      isCommitted = true;
    };
    const end = async (sent: StoredAnswer) => {
      clearInterval(renewal);
      const isKept = sent.status < 400 || finalRefusals.has(sent.status);
      // A transaction that failed after the answer was written has not kept it.
      if (isCommitted && sent.status < 400) return;
      try {
        if (isKept) await store(database.database, sent);
        else await this.#keys.free(attempt);
      } catch (error) {
        // Then its lease runs out.
        onError('an idempotency key could not be answered or freed', error);
      }
    };
    return {
      kind: 'claim',
      commit: (executor, answer) => store(executor, toStore(answer)),
      began: async (executor, assetId) => {
        if (!(await this.#keys.nameAsset(executor, attempt, assetId))) throw inProgress();
      },
      end,
      fail: (problem, requestId) =>
        end({
          status: problem?.status ?? 500,
          headers: { ...problem?.headers, 'content-type': 'application/problem+json' },
          body: problem ? JSON.stringify(problem.toDocument(requestId)) : null,
        }),
      close: () => clearInterval(renewal),
    };
  }
}

function toStore({ status, headers, body }: Answer): StoredAnswer {
  return { status, headers, body: body === undefined ? null : JSON.stringify(body) };
}

function replay(answer: Answer): Replay {
  return { kind: 'replay', answer: { ...answer, headers: { ...answer.headers, 'idempotency-replayed': 'true' } } };
}

function inProgress(): Problem {
  return new Problem('request-in-progress', {
    detail: 'A request with this Idempotency-Key is still running. Ask again later.',
    retryAfter: TRY_AGAIN,
  });
}

/** @throws Problem when the key belongs to another request */
function requireSame(row: Awaited<ReturnType<IdempotencyRepository['find']>> & object, request: NamedRequest): void {
  const { operation, size } = request;
  const isSameSize = row.size === null || size === undefined || row.size === size;
  if (row.fingerprint.equals(fingerprintOf(request)) && isSameSize) return;
  const isOther = row.operation !== null && row.operation !== operation;
  const whose = isOther ? `the operation ${row.operation}` : 'another request';
  throw new Problem('idempotency-key-reused', {
    detail: `This Idempotency-Key was used for ${whose}. Use a new one.`,
    errors: [{ parameter: 'Idempotency-Key', detail: `belongs to ${whose}` }],
  });
}

function fingerprintOf({ operation, content }: NamedRequest): Buffer {
  return createHash('sha256')
    .update(JSON.stringify([operation, content], inOrder))
    .digest();
}

/** Objects with their properties in order: JSON gives none, so two requests that differ in it are the same. */
function inOrder(_key: string, value: unknown): unknown {
  if (!(value instanceof Object) || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
