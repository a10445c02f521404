/** The statements by which copies are made, looked at and removed; repository.ts says when each is run. */
import { and, asc, eq, exists, inArray, lte, notExists, type SQL, sql } from 'drizzle-orm';
import { build, compile, excluded, inSeconds, isAnyOf, now, type Parameter, typed } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { copies, mirrorMinutes } from '../database/tables/mirrors.ts';

/** Written out, so that the planner takes the partial indexes. */
const isWaiting = sql`${copies.state} in ('pending', 'failed')`;
const isStored = sql`${copies.state} in ('copied', 'verified')`;
const isLeaving = sql`${copies.state} = 'deleting'`;
/** Seconds after the death of a copier in which a request of his may still arrive. */
const LATE_REQUESTS = 60;

const ofMirror = (p: Parameter<'mirror'>) => eq(copies.mirror, p('mirror'));
const isAmong = (p: Parameter<'mirror' | 'keys'>) => and(ofMirror(p), isAnyOf(copies.objectKey, p('keys')));

/** The digest of a direct upload is known when somebody has read the bytes. */
const knownDigest = sql<Buffer | null>`coalesce(${copies.sha256}, (${build
  .select({ sha256: assets.sha256 })
  .from(assets)
  .where(and(eq(assets.id, copies.assetId), eq(assets.objectKey, copies.objectKey)))}))`;
const work = {
  objectKey: copies.objectKey,
  assetId: copies.assetId,
  size: copies.size,
  sha256: knownDigest.mapWith(copies.sha256).as('known_digest'),
  attempts: copies.attempts,
  behindSince: copies.behindSince,
};

/** The next copies that are to be made, for so long as the lease. */
export const claimCopies = compile('claim-copies', (p: Parameter<'mirror' | 'claim' | 'lease' | 'limit'>) => {
  const due = build.$with('due').as(
    build
      .select({ key: sql<string>`${copies.objectKey}`.as('due_key') })
      .from(copies)
      .where(and(ofMirror(p), isWaiting, lte(copies.dueAt, now)))
      .orderBy(copies.dueAt)
      .limit(p('limit'))
      .for('update', { skipLocked: true }),
  );
  return build
    .with(due)
    .update(copies)
    .set({
      claim: typed(p('claim'), copies.claim),
      attempts: sql`${copies.attempts} + 1`,
      dueAt: inSeconds(p('lease')),
    })
    .from(due)
    .where(and(ofMirror(p), eq(copies.objectKey, due.key)))
    .returning(work);
});

/** Those of them that are still wanted, and still this one's. */
export const renewCopies = compile('renew-copies', (p: Parameter<'mirror' | 'keys' | 'claims' | 'lease'>) =>
  build
    .update(copies)
    .set({ dueAt: inSeconds(p('lease')) })
    .from(sql`unnest(${p('keys')}::text[], ${p('claims')}::uuid[]) as held (key, claim)`)
    .where(
      and(ofMirror(p), eq(copies.objectKey, sql`held.key`), eq(copies.claim, sql`held.claim`), sql`not ${isLeaving}`),
    )
    .returning({ objectKey: copies.objectKey }),
);

/**
 * What has come of tries: `state` null for those that were not begun, or given up. What is to be removed by now is, at once: nobody
 * is at work on it any more.
 */
export const endCopies = compile('end-copies', (p: Parameter<'mirror' | 'outcomes'>) => {
  const isUntried = sql`tried.state is null`;
  return build
    .update(copies)
    .set({
      state: sql`case when ${isLeaving} then ${copies.state} else coalesce(tried.state, ${copies.state}) end`,
      sha256: sql`coalesce(${copies.sha256}, decode(tried.sha256, 'hex'))`,
      attempts: sql`${copies.attempts} - case when ${isUntried} and not tried.begun then 1 else 0 end`,
      reason: sql`case when ${isUntried} then ${copies.reason} else tried.reason end`,
      at: sql`case when ${isUntried} then ${copies.at} else now() end`,
      dueAt: sql`case when ${isLeaving} then now() when tried.state = 'copied' then null
        else now() + make_interval(secs => tried.pause) end`,
      claim: null,
    })
    .from(
      sql`jsonb_to_recordset(${p('outcomes')}::jsonb)
        as tried (key text, claim uuid, state text, reason text, sha256 text, pause float8, begun boolean)`,
    )
    .where(and(ofMirror(p), eq(copies.objectKey, sql`tried.key`), eq(copies.claim, sql`tried.claim`)))
    .returning({ objectKey: copies.objectKey, state: copies.state, size: copies.size });
});

export const countMinute = compile('count-copied', (p: Parameter<'mirror' | 'objects' | 'bytes'>) =>
  build
    .insert(mirrorMinutes)
    .values({
      mirror: p('mirror'),
      minute: sql`date_trunc('minute', now())`,
      objects: p('objects'),
      bytes: p('bytes'),
    })
    .onConflictDoUpdate({
      target: [mirrorMinutes.mirror, mirrorMinutes.minute],
      set: {
        objects: sql`${mirrorMinutes.objects} + ${excluded(mirrorMinutes.objects)}`,
        bytes: sql`${mirrorMinutes.bytes} + ${excluded(mirrorMinutes.bytes)}`,
      },
    }),
);

/** Which of these keys have a copy, or are to have one. */
export const findKnown = compile('find-known-copies', (p: Parameter<'mirror' | 'keys'>) =>
  build.select({ objectKey: copies.objectKey, state: copies.state }).from(copies).where(isAmong(p)),
);

/** The mirror answers again: what has failed because of it is tried now. */
export const hurryFailed = compile('hurry-failed-copies', (p: Parameter<'mirror' | 'reasons'>) =>
  build
    .update(copies)
    .set({ dueAt: now })
    .where(
      and(
        ofMirror(p),
        sql`${copies.state} = 'failed'`,
        sql`${copies.dueAt} > now()`,
        sql`${copies.claim} is null`,
        isAnyOf(copies.reason, p('reasons')),
      ),
    ),
);

const leaving = {
  state: sql`'deleting'`,
  at: now,
  // Who is copying it learns of it soon, and says when he has stopped; of one who died, requests may still be on their way.
  dueAt: sql`case when ${copies.claim} is null then now()
    else greatest(${copies.dueAt}, now()) + make_interval(secs => ${sql.raw(String(LATE_REQUESTS))}) end`,
};

/** The objects of these assets are gone: so are their copies to be. */
export const leaveCopiesOfAssets = compile('leave-copies-of-assets', (p: Parameter<'ids'>) =>
  build
    .update(copies)
    .set(leaving)
    .where(and(isAnyOf(copies.assetId, p('ids')), sql`not ${isLeaving}`))
    .returning({ attempts: copies.attempts }),
);
export const leaveCopiesOfObjects = compile('leave-copies-of-objects', (p: Parameter<'ids' | 'keys'>) =>
  build
    .update(copies)
    .set(leaving)
    .where(and(isAnyOf(copies.assetId, p('ids')), isAnyOf(copies.objectKey, p('keys')), sql`not ${isLeaving}`))
    .returning({ attempts: copies.attempts }),
);
/** What nobody has tried to copy has nothing to be removed. */
export const forgetUntried = compile('forget-untried-copies', (p: Parameter<'ids'>) =>
  build.delete(copies).where(and(isAnyOf(copies.assetId, p('ids')), isLeaving, eq(copies.attempts, sql`0`))),
);

/** The next copies that are to be removed; one that cannot be comes again after a pause that grows. */
export const claimLeaving = compile('claim-leaving-copies', (p: Parameter<'mirror' | 'lease' | 'limit'>) => {
  const due = build.$with('due').as(
    build
      .select({ key: sql<string>`${copies.objectKey}`.as('due_key') })
      .from(copies)
      .where(and(ofMirror(p), isLeaving, lte(copies.dueAt, now)))
      .orderBy(copies.dueAt)
      .limit(p('limit'))
      .for('update', { skipLocked: true }),
  );
  return build
    .with(due)
    .update(copies)
    .set({ attempts: sql`${copies.attempts} + 1`, dueAt: inSeconds(p('lease')) })
    .from(due)
    .where(and(ofMirror(p), eq(copies.objectKey, due.key)))
    .returning({ objectKey: copies.objectKey, size: copies.size, attempts: copies.attempts });
});
export const putOffLeaving = compile('put-off-leaving-copies', (p: Parameter<'mirror' | 'keys' | 'pause'>) =>
  build
    .update(copies)
    .set({ dueAt: inSeconds(p('pause')) })
    .where(and(isAmong(p), isLeaving)),
);

export const hurryLeaving = compile('hurry-leaving-copies', (p: Parameter<'mirror'>) =>
  build
    .update(copies)
    .set({ dueAt: now })
    .where(and(ofMirror(p), isLeaving, sql`${copies.dueAt} > now()`, sql`${copies.claim} is null`)),
);

/** Locked in one order: of two that remove the last copies of an asset, the second one sees that it is the last. */
export const lockAssetsOfLeaving = compile('lock-assets-of-leaving-copies', (p: Parameter<'mirror' | 'keys'>) =>
  build
    .select({ id: assets.id })
    .from(assets)
    .where(
      and(
        inState('deleting'),
        inArray(
          assets.id,
          build
            .select({ id: copies.assetId })
            .from(copies)
            .where(and(isAmong(p), isLeaving)),
        ),
      ),
    )
    .orderBy(assets.id)
    .for('update'),
);
export const lockDeleting = compile('lock-deleting-assets', (p: Parameter<'ids'>) =>
  build
    .select({ id: assets.id })
    .from(assets)
    .where(and(isAnyOf(assets.id, p('ids')), inState('deleting')))
    .orderBy(assets.id)
    .for('update'),
);
export const forgetLeaving = compile('forget-copies', (p: Parameter<'mirror' | 'keys'>) =>
  build.delete(copies).where(and(isAmong(p), isLeaving)),
);
/** Of assets that are being deleted: those that have no copy any more. */
export const findWithoutCopies = compile('find-deleting-without-copies', (p: Parameter<'ids'>) =>
  build
    .select({ id: assets.id })
    .from(assets)
    .where(
      and(
        isAnyOf(assets.id, p('ids')),
        inState('deleting'),
        notExists(build.select({ id: copies.assetId }).from(copies).where(eq(copies.assetId, assets.id))),
      ),
    ),
);

/** That an asset has copies, or is to have some. */
export const hasCopies: SQL = exists(
  build.select({ id: copies.assetId }).from(copies).where(eq(copies.assetId, assets.id)),
);

/** That copies of an asset are being removed: the mirror that removes the last of them says so. */
export const awaitsCopies: SQL = exists(
  build
    .select({ id: copies.assetId })
    .from(copies)
    .where(and(eq(copies.assetId, assets.id), isLeaving)),
);

/** Copies of one object of an asset, by the names of the mirrors. */
export const listCopies = compile('list-copies-of-object', (p: Parameter<'assetId' | 'objectKey'>) =>
  build
    .select({
      mirror: copies.mirror,
      state: copies.state,
      at: copies.at,
      attempts: copies.attempts,
      reason: copies.reason,
    })
    .from(copies)
    .where(and(eq(copies.assetId, p('assetId')), eq(copies.objectKey, p('objectKey')), sql`not ${isLeaving}`))
    .orderBy(asc(copies.mirror)),
);

/** Those whose bytes were looked at the longest ago. */
export const findToVerify = compile('find-copies-to-verify', (p: Parameter<'mirror' | 'before' | 'limit'>) =>
  build
    .select(work)
    .from(copies)
    .where(and(ofMirror(p), isStored, sql`${copies.at} < ${p('before')}::timestamptz`))
    .orderBy(copies.at)
    .limit(p('limit')),
);
/** @see endCopies; of a copy that was read, where nothing else has happened to it since. */
export const endVerification = compile(
  'end-verification',
  (p: Parameter<'mirror' | 'objectKey' | 'state' | 'reason' | 'sha256'>) => {
    const isBad = sql`${p('state')}::text = 'failed'`;
    return build
      .update(copies)
      .set({
        state: typed(p('state'), copies.state),
        reason: typed(p('reason'), copies.reason),
        sha256: sql`coalesce(${copies.sha256}, ${typed(p('sha256'), copies.sha256)})`,
        at: now,
        dueAt: sql`case when ${isBad} then now() end`,
        behindSince: sql`case when ${isBad} then now() else ${copies.behindSince} end`,
      })
      .where(and(ofMirror(p), eq(copies.objectKey, p('objectKey')), isStored))
      .returning({ objectKey: copies.objectKey });
  },
);
export const passOver = compile('pass-over-copy', (p: Parameter<'mirror' | 'objectKey'>) =>
  build
    .update(copies)
    .set({ at: now })
    .where(and(ofMirror(p), eq(copies.objectKey, p('objectKey')), isStored)),
);
export const countStored = compile(
  'count-stored-copies',
  (p: Parameter<'mirror'>) =>
    build
      .select({ objects: sql<number>`count(*)`.mapWith(Number) })
      .from(copies)
      .where(and(ofMirror(p), isStored)),
  { named: false },
);
