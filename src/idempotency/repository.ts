/** The keys of requests that may be sent again, and what was answered; see idempotency.ts. */
import { and, eq, exists, isNull, lt, lte, sql } from 'drizzle-orm';
import { countOne } from '../database/caller-counts.ts';
import type { Executor } from '../database/client.ts';
import {
  build,
  compile,
  excluded,
  hoursAgo,
  inSeconds,
  now,
  type Parameter,
  typed,
  writtenOut,
} from '../database/statements.ts';
import { idempotencyKeys as keys } from '../database/tables/idempotency.ts';

const KEPT_HOURS = 24;

/** Which attempt of which request. */
export interface Attempt {
  /** Under whose name the answer is kept. */
  callerId: string;
  key: string;
  claim: string;
}

/** What tells whether another request is the same. */
export interface Remembered {
  operation: string;
  fingerprint: Buffer;
  size: number | null;
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

const insertKey = compile(
  'insert-idempotency-key',
  (p: Parameter<keyof Attempt | keyof Remembered | 'subject' | 'lease' | 'keysPerHour'>) => {
    const counted = build.$with('counted').as(countOne(() => p('subject'), 'idempotency-key'));
    const isAllowed = sql`${p('keysPerHour')}::integer = 0 or ${counted.count} <= ${p('keysPerHour')}::integer`;
    // Every column in the order of the table: drizzle-orm names them all.
    const row = build
      .select({
        callerId: typed(p('callerId'), keys.callerId).as('caller_id'),
        key: typed(p('key'), keys.key).as('key'),
        operation: typed(p('operation'), keys.operation).as('operation'),
        fingerprint: typed(p('fingerprint'), keys.fingerprint).as('fingerprint'),
        size: typed(p('size'), keys.size).as('size'),
        claim: typed(p('claim'), keys.claim).as('claim'),
        leaseExpiresAt: inSeconds(p('lease')).as('lease_expires_at'),
        assetId: sql`null::uuid`.as('asset_id'),
        status: sql`null::integer`.as('status'),
        headers: sql`null::jsonb`.as('headers'),
        body: sql`null::text`.as('body'),
        createdAt: sql`${now}`.as('created_at'),
      })
      .from(counted)
      .where(isAllowed);
    const inserted = build.$with('inserted').as(
      build
        .insert(keys)
        .select(row)
        .onConflictDoUpdate({
          target: [keys.callerId, keys.key],
          set: {
            ...nothingYet,
            operation: excluded(keys.operation),
            fingerprint: excluded(keys.fingerprint),
            size: excluded(keys.size),
            claim: excluded(keys.claim),
            leaseExpiresAt: excluded(keys.leaseExpiresAt),
            createdAt: now,
          },
          setWhere: isOld,
        })
        .returning({ claim: keys.claim }),
    );
    return build
      .with(counted, inserted)
      .select({
        isInserted: sql<boolean>`${exists(build.select().from(inserted))}`,
        /** Over the limit, a key that is there may still be asked for its answer. */
        isKnown: sql<boolean>`(${isAllowed}) or ${exists(build.select({ key: keys.key }).from(keys).where(hasKey(p)))}`,
        seconds: counted.seconds,
      })
      .from(counted);
  },
);

const findKey = compile('find-idempotency-key', (p: Parameter<'callerId' | 'key'>) =>
  build
    .select({
      operation: keys.operation,
      fingerprint: keys.fingerprint,
      size: keys.size,
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

/** One that names an upload stays: whoever asks again has to look what became of that. */
const freeKey = compile('free-idempotency-key', (p: Parameter<keyof Attempt>) =>
  build.delete(keys).where(and(isHeld(p), isNull(keys.assetId))),
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

/** Rows that one statement deletes: so none takes long, however many are old. */
const BATCH = 5000;

const forgetOld = compile(
  'forget-old-idempotency-keys',
  () => {
    const old = build
      .select({ callerId: keys.callerId, key: keys.key })
      .from(keys)
      .where(isOld)
      .limit(writtenOut(BATCH))
      .for('update', { skipLocked: true });
    return build.delete(keys).where(sql`(${keys.callerId}, ${keys.key}) in (${old})`);
  },
  { named: false },
);

export class IdempotencyRepository {
  readonly #database: Executor;
  readonly #lease: number;
  readonly #keysPerHour: number;

  /**
   * @param lease seconds after which an attempt that is not heard of counts as dead
   * @param keysPerHour of one caller; 0 for no limit
   */
  constructor(database: Executor, { lease, keysPerHour }: { lease: number; keysPerHour: number }) {
    this.#database = database;
    this.#lease = lease;
    this.#keysPerHour = keysPerHour;
  }

  /**
   * Counts the key and inserts it, by one statement.
   * @param subject of whom it is counted, whatever credentials he has
   * @returns `isInserted` false when the key is there already and not yet old, or when it is not, because the caller has had
   *   too many (`isKnown` false; for how many `seconds` yet)
   */
  async insert(
    attempt: Attempt,
    subject: string,
    remembered: Remembered,
  ): Promise<{ isInserted: boolean; isKnown: boolean; seconds: number }> {
    const values = { ...attempt, ...remembered, subject, lease: this.#lease, keysPerHour: this.#keysPerHour };
    const { rows } = await this.#database.run(insertKey, values);
    return rows[0] ?? { isInserted: false, isKnown: true, seconds: 0 };
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
    const { rowCount } = await this.#database.run(freeKey, { ...attempt });
    if (rowCount === 0) await this.#database.run(renewKey, { ...attempt, lease: 0 });
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
    while ((await this.#database.run(forgetOld, {})).rowCount === BATCH);
  }
}
