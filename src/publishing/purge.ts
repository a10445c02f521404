/**
 * Tells caches to forget what was under public addresses. A trigger of the table of assets notes each address under which
 * there is something else now, or nothing, in the transaction of whatever has changed it. One worker reads what was noted, and
 * posts it to CDN_PURGE_URL until that is accepted: at least once, and in the order in which it happened.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { asc, lt, sql } from 'drizzle-orm';
import { publicPath } from '../assets/publicity.ts';
import { pauseAfter } from '../backoff.ts';
import type { Core } from '../core.ts';
import type { Database } from '../database/client.ts';
import { build, compile, nowhere, type Parameter, unnested } from '../database/statements.ts';
import { stalePublicAddresses as stale } from '../database/tables/publishing.ts';
import { contentBase } from '../http/public-url.ts';
import { cacheTag } from './headers.ts';
import { publishingSettings } from './settings.ts';

/** Addresses of one request: as many as common CDNs take at once (Cloudflare: 100 tags, prefixes or files). */
const BATCH = 100;
/** Milliseconds between looks while there is nothing. */
const LOOK_EVERY = 500;
/** Milliseconds for one request. */
const DEADLINE = 10_000;
const RETRIES = { first: 1000, max: 60_000 };
/** Milliseconds after which a run ends by itself, long before its job does; the next one begins within a minute. */
const RUN = 50 * 60_000;
/** Milliseconds for which an address is posted at least, however soon caches would forget it by themselves. */
const LEAST_PATIENCE = 24 * 3_600_000;
/** Rows that one statement forgets. */
const FORGOTTEN_AT_ONCE = 10_000;

const findStale = compile('find-stale-public-addresses', (p: Parameter<'limit'>) =>
  build
    .select({ assetId: stale.assetId, name: stale.name, since: sql<string>`${stale.since}::text`.as('since_text') })
    .from(stale)
    .orderBy(asc(stale.since))
    .limit(p('limit')),
);

/** What has changed again meanwhile stays. */
const forgetPosted = compile(
  'forget-posted-public-addresses',
  (p: Parameter<'assetIds' | 'names' | 'sinces'>) => {
    const posted = build.$with('posted').as(
      build
        .select({
          assetId: unnested(p('assetIds'), stale.assetId).as('posted_id'),
          name: unnested(p('names'), stale.name).as('posted_name'),
          since: unnested(p('sinces'), stale.since).as('posted_since'),
        })
        .from(nowhere),
    );
    return build
      .with(posted)
      .delete(stale)
      .where(
        sql`(${stale.assetId}, ${stale.name}, ${stale.since}) in (${build
          .select({ assetId: posted.assetId, name: posted.name, since: posted.since })
          .from(posted)})`,
      );
  },
  { named: false },
);

const forgetOld = compile(
  'forget-old-public-addresses',
  (p: Parameter<'seconds' | 'limit'>) =>
    build.delete(stale).where(
      sql`${stale.assetId} in (${build
        .select({ assetId: stale.assetId })
        .from(stale)
        .where(lt(stale.since, sql`now() - make_interval(secs => ${p('seconds')})`))
        .limit(p('limit'))}) and ${stale.since} < now() - make_interval(secs => ${p('seconds')})`,
    ),
  { named: false },
);

interface StaleAddress {
  assetId: string;
  name: string;
  since: string;
}

/** What is posted: each list says all of it, for caches that know tags, prefixes or only addresses. */
export interface PurgeRequest {
  tags: string[];
  /** With the address of the file itself and of all that was made of it. */
  prefixes: string[];
  /** Without what was made of it, which has a query. */
  urls: string[];
}

/** Posts what there is, and what comes, until the worker stops. Without CDN_PURGE_URL it is forgotten. */
export async function purgeCaches(core: Core, signal: AbortSignal): Promise<void> {
  const { CDN_PURGE_URL: url, CDN_PURGE_TOKEN: token } = core.settings(publishingSettings);
  const { database } = core.background;
  if (url === undefined) {
    await forget(database, 0);
    return;
  }
  const ending = AbortSignal.any([signal, core.stopping, AbortSignal.timeout(RUN)]);
  const patience = Math.max(LEAST_PATIENCE, core.config.PUBLIC_MAX_AGE);
  for (let failures = 0; !ending.aborted; ) {
    await forget(database, patience / 1000);
    const { rows } = await database.run(findStale, { limit: BATCH });
    const outcome =
      rows.length === 0 ? 'nothing' : await post(url, token, requestFor(rows, contentBase(core.config)), ending);
    if (outcome === 'accepted') await database.run(forgetPosted, listsOf(rows));
    failures = outcome === 'accepted' || outcome === 'nothing' ? 0 : failures + 1;
    if (failures > 0 && !ending.aborted) core.onError('caches could not be told what to forget', new Error(outcome));
    if (outcome !== 'accepted') await pause(failures > 0 ? pauseAfter(failures, RETRIES) : LOOK_EVERY, ending);
  }
}

/** @returns `accepted`, or what went wrong, without the address, which may hold a secret */
async function post(url: string, token: string | undefined, body: PurgeRequest, ending: AbortSignal): Promise<string> {
  try {
    const answer = await fetch(url, {
      method: 'POST',
      redirect: 'error',
      headers: {
        'content-type': 'application/json',
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
      body: JSON.stringify(body),
      signal: AbortSignal.any([ending, AbortSignal.timeout(DEADLINE)]),
    });
    await answer.body?.cancel();
    return answer.ok ? 'accepted' : `answered by ${answer.status}`;
  } catch (error) {
    return error instanceof Error ? `not answered: ${error.name}` : 'not answered';
  }
}

function requestFor(rows: readonly StaleAddress[], base = ''): PurgeRequest {
  const ids = [...new Set(rows.map(({ assetId }) => assetId))];
  return {
    tags: ids.map(cacheTag),
    prefixes: ids.map((id) => `${base}/p/${id}/`),
    urls: rows.map(({ assetId: id, name }) => base + publicPath({ id, name })),
  };
}

function listsOf(rows: readonly StaleAddress[]) {
  return {
    assetIds: rows.map(({ assetId }) => assetId),
    names: rows.map(({ name }) => name),
    sinces: rows.map(({ since }) => since),
  };
}

/** @param seconds for which they were noted at least */
async function forget(database: Database, seconds: number): Promise<void> {
  for (;;) {
    const { rowCount } = await database.run(forgetOld, { seconds, limit: FORGOTTEN_AT_ONCE });
    if (rowCount < FORGOTTEN_AT_ONCE) return;
  }
}

async function pause(milliseconds: number, ending: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal: ending }).catch(() => {});
}
