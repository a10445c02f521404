/** The keys of requests that may be sent again, and what was answered; see idempotency.ts. */
import { and, eq, isNull, lt, lte, sql } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, excluded, hoursAgo, inSeconds, now, type Parameter, typed } from '../database/statements.ts';
import { idempotencyKeys as keys } from '../database/tables/idempotency.ts';

const KEPT_HOURS = 24;

/** Which attempt of which request. */
export interface Attempt {
  callerId: string;
  key: string;
  claim: string;
}

/** An answer as it is kept. */
export interface StoredAnswer {
  status: number;
  headers: Record<string, string>;
  /** JSON. */
  body: string | null;
}

const hasKey = (p: Parameter<'callerId' | 'key'>) => and(eq(keys.callerId, p('callerId')), eq(keys.key, p('key')));
/** The attempt still has the right to answer. */
const isHeld = (p: Parameter<keyof Attempt>) => and(hasKey(p), eq(keys.claim, p('claim')), isNull(keys.status));
const isOld = lt(keys.createdAt, hoursAgo(KEPT_HOURS));
const nothingYet = { assetId: null, status: null, headers: null, body: null };
const answered = (p: Parameter<keyof StoredAnswer>) => ({
  status: typed(p('status'), keys.status),
  headers: typed(p('headers'), keys.headers),
  body: typed(p('body'), keys.body),
});

const insertKey = compile('insert-idempotency-key', (p: Parameter<keyof Attempt | 'fingerprint' | 'lease'>) =>
  build
    .insert(keys)
    .values({
      callerId: p('callerId'),
      key: p('key'),
      fingerprint: p('fingerprint'),
      claim: p('claim'),
      leaseExpiresAt: inSeconds(p('lease')),
    })
    .onConflictDoUpdate({
      target: [keys.callerId, keys.key],
      set: {
        ...nothingYet,
        fingerprint: excluded(keys.fingerprint),
        claim: excluded(keys.claim),
        leaseExpiresAt: excluded(keys.leaseExpiresAt),
        createdAt: now,
      },
      setWhere: isOld,
    }),
);

const findKey = compile('find-idempotency-key', (p: Parameter<'callerId' | 'key'>) =>
  build
    .select({
      fingerprint: keys.fingerprint,
      claim: keys.claim,
      isLive: sql<boolean>`${keys.leaseExpiresAt} > ${now}`,
      assetId: keys.assetId,
      status: keys.status,
      headers: keys.headers,
      body: keys.body,
    })
    .from(keys)
    .where(hasKey(p)),
);

const takeOverKey = compile('take-over-idempotency-key', (p: Parameter<keyof Attempt | 'successor' | 'lease'>) =>
  build
    .update(keys)
    .set({ claim: typed(p('successor'), keys.claim), leaseExpiresAt: inSeconds(p('lease')), assetId: null })
    .where(and(isHeld(p), lte(keys.leaseExpiresAt, now))),
);

const renewKey = compile('renew-idempotency-key', (p: Parameter<keyof Attempt | 'lease'>) =>
  build
    .update(keys)
    .set({ leaseExpiresAt: inSeconds(p('lease')) })
    .where(isHeld(p)),
);

const nameAsset = compile('name-asset-of-idempotency-key', (p: Parameter<keyof Attempt | 'assetId'>) =>
  build
    .update(keys)
    .set({ assetId: typed(p('assetId'), keys.assetId) })
    .where(isHeld(p)),
);

const answerKey = compile('answer-idempotency-key', (p: Parameter<keyof Attempt | keyof StoredAnswer>) =>
  build.update(keys).set(answered(p)).where(isHeld(p)),
);

const answerUpload = compile('answer-upload-of-idempotency-key', (p: Parameter<'assetId' | keyof StoredAnswer>) =>
  build
    .update(keys)
    .set(answered(p))
    .where(and(eq(keys.assetId, p('assetId')), isNull(keys.status))),
);

const forgetOld = compile('forget-old-idempotency-keys', () => build.delete(keys).where(isOld), { named: false });

export class IdempotencyRepository {
  readonly #database: Executor;
  readonly #lease: number;

  /** @param lease seconds after which an attempt that is not heard of counts as dead */
  constructor(database: Executor, lease: number) {
    this.#database = database;
    this.#lease = lease;
  }

  /** @returns false when the key is there already and not yet old */
  async insert(attempt: Attempt, fingerprint: Buffer): Promise<boolean> {
    const { rowCount } = await this.#database.run(insertKey, { ...attempt, fingerprint, lease: this.#lease });
    return rowCount === 1;
  }

  async find(callerId: string, key: string, executor = this.#database) {
    const { rows } = await executor.run(findKey, { callerId, key });
    return rows[0];
  }

  /** Gives the key of an attempt whose lease has expired to another one. @returns false when somebody was faster */
  async takeOver(attempt: Attempt, successor: string): Promise<boolean> {
    const { rowCount } = await this.#database.run(takeOverKey, { ...attempt, successor, lease: this.#lease });
    return rowCount === 1;
  }

  async renew(attempt: Attempt): Promise<void> {
    await this.#database.run(renewKey, { ...attempt, lease: this.#lease });
  }

  /** The lease ends now. */
  async free(attempt: Attempt): Promise<void> {
    await this.#database.run(renewKey, { ...attempt, lease: 0 });
  }

  /** Writes down which upload the attempt has begun. @returns false when the attempt has lost the key */
  async nameAsset(transaction: Executor, attempt: Attempt, assetId: string): Promise<boolean> {
    const { rowCount } = await transaction.run(nameAsset, { ...attempt, assetId });
    return rowCount === 1;
  }

  /** @returns false when the attempt has lost the key, or has answered */
  async answer(transaction: Executor, attempt: Attempt, answer: StoredAnswer): Promise<boolean> {
    const { rowCount } = await transaction.run(answerKey, { ...attempt, ...answer });
    return rowCount === 1;
  }

  /** Answers whoever began this upload, if the request had a key and has no answer yet. */
  async answerUpload(transaction: Executor, assetId: string, answer: StoredAnswer): Promise<void> {
    await transaction.run(answerUpload, { assetId, ...answer });
  }

  async forgetOld(): Promise<void> {
    await this.#database.run(forgetOld, {});
  }
}
