/** What is told of mirrors, for administrators and metrics. */
import { and, eq, gte, lt, min, sql, sum } from 'drizzle-orm';
import { build, compile, isAnyOf, type Parameter } from '../database/statements.ts';
import { copies, mirrorMinutes, mirrors } from '../database/tables/mirrors.ts';

const isWaiting = sql`${copies.state} in ('pending', 'failed')`;
const toNumber = (value: unknown) => Number(value ?? 0);

/** Reads the index of what waits alone, so it takes as long as there is something to be done. */
export const measureWaiting = compile(
  'measure-waiting-copies',
  () =>
    build
      .select({
        mirror: copies.mirror,
        objects: sql<number>`count(*)`.mapWith(toNumber).as('objects'),
        bytes: sum(copies.size).mapWith(toNumber).as('bytes'),
        oldestAt: min(copies.behindSince).as('oldest_at'),
      })
      .from(copies)
      .where(isWaiting)
      .groupBy(copies.mirror),
  { named: false },
);
export const countFailed = compile(
  'count-failed-copies',
  () =>
    build
      .select({ mirror: copies.mirror, objects: sql<number>`count(*)`.mapWith(toNumber).as('objects') })
      .from(copies)
      .where(and(isWaiting, sql`${copies.state} = 'failed'`))
      .groupBy(copies.mirror),
  { named: false },
);
export const countLeaving = compile(
  'count-leaving-copies',
  () =>
    build
      .select({ mirror: copies.mirror, objects: sql<number>`count(*)`.mapWith(toNumber).as('objects') })
      .from(copies)
      .where(sql`${copies.state} = 'deleting'`)
      .groupBy(copies.mirror),
  { named: false },
);
/** Of those that have failed: some, whatever how many there are. */
export const findFailures = compile(
  'find-failed-copies',
  (p: Parameter<'mirror' | 'limit'>) =>
    build
      .select({ reason: copies.reason, assetId: copies.assetId, at: copies.at })
      .from(copies)
      .where(and(eq(copies.mirror, p('mirror')), isWaiting, sql`${copies.state} = 'failed'`))
      .orderBy(copies.dueAt)
      .limit(p('limit')),
  { named: false },
);
export const measureMinutes = compile(
  'measure-mirror-minutes',
  (p: Parameter<'since' | 'before'>) =>
    build
      .select({
        mirror: mirrorMinutes.mirror,
        objects: sum(mirrorMinutes.objects).mapWith(toNumber).as('objects'),
        bytes: sum(mirrorMinutes.bytes).mapWith(toNumber).as('bytes'),
      })
      .from(mirrorMinutes)
      .where(and(gte(mirrorMinutes.minute, p('since')), lt(mirrorMinutes.minute, p('before'))))
      .groupBy(mirrorMinutes.mirror),
  { named: false },
);
export const pruneMinutes = compile(
  'prune-mirror-minutes',
  (p: Parameter<'before'>) => build.delete(mirrorMinutes).where(lt(mirrorMinutes.minute, p('before'))),
  { named: false },
);

export const addMirror = compile(
  'add-mirror',
  (p: Parameter<'name' | 'place'>) =>
    build
      .insert(mirrors)
      .values({ name: p('name'), place: p('place') })
      .onConflictDoNothing()
      .returning({ name: mirrors.name }),
  { named: false },
);
export const findMirror = compile(
  'find-mirror',
  (p: Parameter<'name'>) =>
    build
      .select({ place: mirrors.place })
      .from(mirrors)
      .where(eq(mirrors.name, p('name'))),
  { named: false },
);
export const listMirrors = compile('list-mirrors', () => build.select().from(mirrors).orderBy(mirrors.name), {
  named: false,
});
export const forgetMirror = compile(
  'forget-mirror',
  (p: Parameter<'name'>) =>
    build
      .delete(mirrors)
      .where(eq(mirrors.name, p('name')))
      .returning({ name: mirrors.name }),
  { named: false },
);
/** Some of the copies of a mirror that was forgotten, by the assets that they are of. */
export const findOfForgotten = compile(
  'find-copies-of-forgotten-mirror',
  (p: Parameter<'mirror' | 'before' | 'limit'>) =>
    build
      .select({ objectKey: copies.objectKey, assetId: copies.assetId })
      .from(copies)
      .where(and(eq(copies.mirror, p('mirror')), lt(copies.behindSince, p('before'))))
      .orderBy(copies.objectKey)
      .limit(p('limit')),
  { named: false },
);
export const dropOfForgotten = compile(
  'drop-copies-of-forgotten-mirror',
  (p: Parameter<'mirror' | 'keys'>) =>
    build.delete(copies).where(and(eq(copies.mirror, p('mirror')), isAnyOf(copies.objectKey, p('keys')))),
  { named: false },
);
