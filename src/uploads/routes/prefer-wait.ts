/**
 * `Prefer: wait=10` (RFC 7240 section 4.3) on any upload: where the file is stored and still `processing`, the answer waits
 * until it is ready, or rejected, up to that long. What is waited for happens whether anybody waits or not; so where many
 * wait already, the answer comes at once, which the client sees by the state.
 */

import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Caller } from '../../access/caller.ts';
import { type Asset, recordTag, toDocument } from '../../assets/asset.ts';
import { AssetsRepository } from '../../assets/repository.ts';
import type { Core } from '../../core.ts';
import type { App } from '../../http/openapi.ts';

/** Seconds. */
export const MAX_WAIT = 60;
/** Requests that wait, in all and of a caller: each holds a connection and asks the database now and then. */
const MAX_WAITING = 200;
const MAX_WAITING_OF_CALLER = 20;
/** Milliseconds between two looks: short at first, as small files take no time. */
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 500;

/** Seconds that a client is willing to wait, at most MAX_WAIT; undefined when it does not say so, or not as it must. */
export function preferredWait(prefer: string | readonly string[] | undefined): number | undefined {
  const text = typeof prefer === 'string' ? prefer : prefer?.join(',');
  // The first one counts (section 2).
  const seconds = /(?:^|,)\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=[;,]|$)/i.exec(text ?? '')?.[1];
  return seconds === undefined ? undefined : Math.min(MAX_WAIT, Number(seconds));
}

/** Adds the rule to the routes of a scope. */
export function honourPreferWait(scope: App, core: Pick<Core, 'database' | 'outbox' | 'stopping'>): void {
  const assets = new AssetsRepository(core.database);
  const waiting = new Map<string, number>();
  let total = 0;

  const settled = async (request: FastifyRequest, reply: FastifyReply, ids: string[], seconds: number) => {
    const callerId = request.caller.id;
    const ofCaller = waiting.get(callerId) ?? 0;
    if (total >= MAX_WAITING || ofCaller >= MAX_WAITING_OF_CALLER) return undefined;
    waiting.set(callerId, ofCaller + 1);
    total += 1;
    try {
      return await waitFor(assets, request.caller, ids, seconds, () => reply.raw.destroyed || core.stopping.aborted);
    } finally {
      total -= 1;
      const left = (waiting.get(callerId) ?? 1) - 1;
      if (left === 0) waiting.delete(callerId);
      else waiting.set(callerId, left);
    }
  };

  scope.addHook('preSerialization', async (request, reply, payload: unknown) => {
    const seconds = preferredWait(request.headers.prefer);
    if (seconds === undefined || reply.statusCode >= 300) return payload;
    const documents = processingIn(payload);
    if (documents.length === 0) return payload;
    const ids = documents.map(({ id }) => id);
    const found = await settled(request, reply, ids, seconds);
    if (!found) return payload;
    reply.header('preference-applied', `wait=${seconds}`);
    const [only] = found.values();
    if (only && reply.hasHeader('etag')) reply.header('etag', recordTag(only));
    return withRecords(payload, found);
  });
  // The answer to the last bytes of a resumable upload has no document, but names the asset.
  scope.addHook('onSend', async (request, reply, payload) => {
    const seconds = preferredWait(request.headers.prefer);
    const id = reply.getHeader('asset-id');
    if (seconds === undefined || typeof id !== 'string' || payload || reply.statusCode >= 300) return payload;
    const found = await settled(request, reply, [id], seconds);
    const asset = found?.get(id);
    if (asset) reply.header('preference-applied', `wait=${seconds}`).header('etag', recordTag(asset));
    return payload;
  });
}

interface ProcessingDocument {
  id: string;
  state: 'processing';
}

function isProcessing(value: unknown): value is ProcessingDocument {
  return value instanceof Object && 'state' in value && value.state === 'processing' && 'id' in value;
}

/** The documents of assets in an answer: itself, or those of the files of a batch. */
function processingIn(payload: unknown): ProcessingDocument[] {
  if (isProcessing(payload)) return [payload];
  return resultsIn(payload).flatMap((result) =>
    result instanceof Object && 'asset' in result && isProcessing(result.asset) ? [result.asset] : [],
  );
}

function resultsIn(payload: unknown): unknown[] {
  return payload instanceof Object && 'results' in payload && Array.isArray(payload.results) ? payload.results : [];
}

function withRecords(payload: unknown, found: ReadonlyMap<string, Asset>): unknown {
  const now = (document: ProcessingDocument) => {
    const asset = found.get(document.id);
    return asset ? toDocument(asset) : document;
  };
  if (isProcessing(payload)) return now(payload);
  if (!(payload instanceof Object)) return payload;
  const results = resultsIn(payload).map((result) =>
    result instanceof Object && 'asset' in result && isProcessing(result.asset)
      ? { ...result, asset: now(result.asset) }
      : result,
  );
  return { ...payload, results };
}

/** @returns the records as they are when none is `processing` any more, or the time is over */
async function waitFor(
  assets: AssetsRepository,
  caller: Caller,
  ids: string[],
  seconds: number,
  isOver: () => boolean,
): Promise<Map<string, Asset>> {
  const until = performance.now() + seconds * 1000;
  const found = new Map<string, Asset>();
  for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 1.5)) {
    for (const id of ids) {
      if (found.has(id) && found.get(id)?.state !== 'processing') continue;
      const asset = await assets.find(caller, id);
      if (asset) found.set(id, asset);
    }
    const left = until - performance.now();
    if (left <= 0 || isOver() || ![...found.values()].some(({ state }) => state === 'processing')) return found;
    await new Promise((resolve) => setTimeout(resolve, Math.min(pause, left)));
  }
}
