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
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { sql } from '../database/sql.ts';
import { Problem } from '../problems.ts';

/** Signs of life within a lease. */
const RENEWALS = 4;
const KEPT_HOURS = 24;
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

type Row = {
  fingerprint: Buffer;
  claim: string;
  live: boolean;
  asset_id: string | null;
  status: number | null;
  headers: Record<string, string> | null;
  body: string | null;
};

export const idempotencyHeader = z.object({
  'idempotency-key': z.string().optional().meta({
    description:
      'Name of this request, chosen by the client. Sent again within 24 hours with the same content, it has no further effect and gets the first answer.',
    example: '8e03978e-40d5-43e8-bc93-6894a57f9324',
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

  constructor(options: IdempotencyOptions) {
    this.#options = options;
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
    const claim = randomUUID();
    for (;;) {
      if (await this.#insert(callerId, key, fingerprint, claim)) return this.#claimOf(callerId, key, claim);
      const row = await this.#find(callerId, key);
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
      if (row.live) throw inProgress();
      const fate = row.asset_id === null ? { state: 'gone' as const } : await fateOf(row.asset_id);
      if (fate.state === 'running') throw inProgress();
      if (!(await this.#takeOver(callerId, key, row.claim, claim))) continue;
      const mine = this.#claimOf(callerId, key, claim);
      if (fate.state !== 'stored') return mine;
      mine.close();
      await mine.commit(this.#options.database.database, fate.answer);
      return replay(fate.answer);
    }
  }

  /** Answers kept for longer than they are promised go. */
  async forgetOld(): Promise<void> {
    await this.#options.database.database.execute(
      sql`delete from idempotency_keys where created_at < now() - make_interval(hours => ${KEPT_HOURS})`,
    );
  }

  /** In the transaction by which the reaper finishes an upload: the request that began it has its answer. */
  async completeUpload(transaction: Executor, assetId: string, answer: Answer): Promise<void> {
    await transaction.execute(sql`
      update idempotency_keys set status = ${answer.status}, headers = ${JSON.stringify(answer.headers)}::jsonb,
        body = ${answer.body === undefined ? null : JSON.stringify(answer.body)}
      where asset_id = ${assetId} and status is null`);
  }

  async #insert(callerId: string, key: string, fingerprint: Buffer, claim: string): Promise<boolean> {
    const { rowCount } = await this.#options.database.database.execute(sql`
      insert into idempotency_keys as held (caller_id, key, fingerprint, claim, lease_expires_at)
      values (${callerId}, ${key}, ${fingerprint}, ${claim}, ${this.#leaseEnd()})
      on conflict (caller_id, key) do update set fingerprint = excluded.fingerprint, claim = excluded.claim,
        lease_expires_at = excluded.lease_expires_at, asset_id = null, status = null, headers = null, body = null, created_at = now()
      where held.created_at < now() - make_interval(hours => ${KEPT_HOURS})`);
    return rowCount === 1;
  }

  async #find(
    callerId: string,
    key: string,
    executor: Executor = this.#options.database.database,
  ): Promise<Row | undefined> {
    const { rows } = await executor.execute<Row>(sql`
      select fingerprint, claim, lease_expires_at > now() as live, asset_id, status, headers, body
      from idempotency_keys where caller_id = ${callerId} and key = ${key}`);
    return rows[0];
  }

  async #takeOver(callerId: string, key: string, from: string, to: string): Promise<boolean> {
    const { rowCount } = await this.#options.database.database.execute(sql`
      update idempotency_keys set claim = ${to}, lease_expires_at = ${this.#leaseEnd()}, asset_id = null
      where caller_id = ${callerId} and key = ${key} and claim = ${from} and status is null and lease_expires_at <= now()`);
    return rowCount === 1;
  }

  #leaseEnd() {
    return sql`now() + make_interval(secs => ${this.#options.lease})`;
  }

  #claimOf(callerId: string, key: string, claim: string): Claim {
    const { database, onError } = this.#options;
    const mine = sql`caller_id = ${callerId} and key = ${key} and claim = ${claim} and status is null`;
    const renewal = setInterval(
      () => {
        database.database
          .execute(sql`update idempotency_keys set lease_expires_at = ${this.#leaseEnd()} where ${mine}`)
          .catch((error) => onError('the lease of an idempotency key could not be renewed', error));
      },
      (this.#options.lease * 1000) / RENEWALS,
    ).unref();
    const commit = async (executor: Executor, { status, headers, body }: Answer) => {
      const { rowCount } = await executor.execute(sql`
        update idempotency_keys set status = ${status}, headers = ${JSON.stringify(headers)}::jsonb,
          body = ${body === undefined ? null : JSON.stringify(body)} where ${mine}`);
      if (rowCount === 1) return;
      // The transaction may be here again because nobody heard that it was committed.
      const row = await this.#find(callerId, key, executor);
      if (row?.claim !== claim || row.status === null) throw inProgress();
    };
    return {
      kind: 'claim',
      commit,
      began: async (executor, assetId) => {
        const { rowCount } = await executor.execute(
          sql`update idempotency_keys set asset_id = ${assetId} where ${mine}`,
        );
        if (rowCount !== 1) throw inProgress();
      },
      fail: async (problem, requestId) => {
        clearInterval(renewal);
        try {
          if (problem && finalRefusals.has(problem.status)) {
            const headers = { ...problem.headers, 'content-type': 'application/problem+json' };
            await commit(database.database, { status: problem.status, headers, body: problem.toDocument(requestId) });
          } else {
            await database.database.execute(sql`update idempotency_keys set lease_expires_at = now() where ${mine}`);
          }
        } catch (error) {
          // Then its lease runs out.
          onError('an idempotency key could not be freed', error);
        }
      },
      close: () => clearInterval(renewal),
    };
  }
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
