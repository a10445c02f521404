/**
 * Requests that may be sent again (draft-ietf-httpapi-idempotency-key-header-07). The first request under an
 * `Idempotency-Key` runs; the same request under the same key gets the first answer, with `Idempotency-Replayed: true`;
 * another request under that key is refused. Keys belong to their caller and are kept for 24 hours.
 *
 * The answer is written in the transaction of what the request does, so there is never one without the other, and it
 * holds across instances and crashes. While a request runs, it renews a lease; whoever finds the lease expired first looks
 * what became of the upload, and then takes the key over. From then on the earlier attempt can commit nothing.
 *
 * Kept are answers that another try would get too: successes, and refusals of what was sent. Whatever may change by itself
 * (quota, limits, faults) leaves the key free.
 */
import { createHash, randomUUID } from 'node:crypto';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { LEASE_RENEWALS } from '../config.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { Problem } from '../problems.ts';
import { type Attempt, IdempotencyRepository, type StoredAnswer } from './repository.ts';

const TRY_AGAIN = 2;
const finalRefusals = new Set([404, 412, 413, 415, 422]);

/** What is sent, and sent again. */
export interface Answer {
  status: number;
  headers: Record<string, string>;
  /** JSON; undefined for none. */
  body?: unknown;
}

/** The right to answer a key. */
export interface Claim {
  kind: 'claim';
  /** Writes down which upload the request has begun. */
  began(transaction: Executor, assetId: string): Promise<void>;
  /** Writes the answer, in the transaction of what it tells. @throws Problem when another attempt has the key by now */
  commit(transaction: Executor, answer: Answer): Promise<void>;
  /** Ends the claim after a failure: a refusal is kept as the answer, or the key is free. Never throws. */
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
    this.#keys = new IdempotencyRepository(options.database.database, options.lease);
  }

  /**
   * @param request everything that makes it the same request: operation, parameters, fields, digest or size
   * @param fateOf looks what became of what an attempt named by `began`; without it, that counts as gone
   * @throws Problem idempotency-key-reused, request-in-progress
   */
  async claim(
    callerId: string,
    key: string,
    request: unknown[],
    fateOf: (begunId: string) => Promise<Fate> = async () => ({ state: 'gone' }),
  ): Promise<Claim | Replay> {
    const fingerprint = createHash('sha256').update(JSON.stringify(request)).digest();
    const attempt = { callerId, key, claim: randomUUID() };
    for (;;) {
      if (await this.#keys.insert(attempt, fingerprint)) return this.#claimOf(attempt);
      const row = await this.#keys.find(callerId, key);
      // It expired between the two statements.
      if (!row) continue;
      if (!row.fingerprint.equals(fingerprint)) {
        throw new Problem('idempotency-key-reused', {
          detail: 'This Idempotency-Key was used for another request. Use a new one.',
          errors: [{ parameter: 'Idempotency-Key', detail: 'belongs to another request' }],
        });
      }
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
    const commit = async (executor: Executor, answer: Answer) => {
      if (await this.#keys.answer(executor, attempt, toStore(answer))) return;
      // The transaction may be here again because nobody heard that it was committed.
      const row = await this.#keys.find(attempt.callerId, attempt.key, executor);
      if (row?.claim !== attempt.claim || row.status === null) throw inProgress();
    };
    return {
      kind: 'claim',
      commit,
      began: async (executor, assetId) => {
        if (!(await this.#keys.nameAsset(executor, attempt, assetId))) throw inProgress();
      },
      fail: async (problem, requestId) => {
        clearInterval(renewal);
        try {
          if (problem && finalRefusals.has(problem.status)) {
            const headers = { ...problem.headers, 'content-type': 'application/problem+json' };
            await commit(database.database, { status: problem.status, headers, body: problem.toDocument(requestId) });
          } else await this.#keys.free(attempt);
        } catch (error) {
          // Then its lease runs out.
          onError('an idempotency key could not be freed', error);
        }
      },
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

/**
 * Runs a request whose effect is one transaction. Without a key it just runs.
 * @param work does it; calls `commit` in its transaction when there is one
 */
export async function once(
  idempotency: Idempotency,
  request: { caller: { id: string }; id: string; headers: Record<string, string | string[] | undefined> },
  parameters: unknown[],
  work: (commit: (transaction: Executor, answer: Answer) => Promise<void>) => Promise<Answer>,
): Promise<Answer> {
  const key = idempotencyKey(request.headers['idempotency-key']);
  if (key === undefined) return work(async () => {});
  const claim = await idempotency.claim(request.caller.id, key, parameters);
  if (claim.kind === 'replay') return claim.answer;
  try {
    return await work(claim.commit);
  } catch (error) {
    await claim.fail(error instanceof Problem ? error : undefined, request.id);
    throw error;
  } finally {
    claim.close();
  }
}

/** Sends an answer, be it a first one or a replay; the body has the shape of the operation, or is a problem document. */
export function sendAnswer(reply: FastifyReply, { status, headers, body }: Answer): never {
  reply.code(status).headers(headers);
  // The schema of the success knows no problem documents, and what is sent again was checked when it was sent first.
  if (status >= 400) reply.serializer((document) => JSON.stringify(document));
  return reply.send(body) as never;
}
