/** What all uploads share, whatever route they came through. */
import type { Caller } from '../access/caller.ts';
import { sizeBoundOf } from '../access/tiers.ts';
import { lifeCycleOf } from '../assets/life-cycle-looks.ts';
import { LEASE_RENEWALS } from '../config.ts';
import type { Core } from '../core.ts';
import type { DatabaseHandle } from '../database/client.ts';
import { DerivativesRepository } from '../processing/derivatives.ts';
import { type LookOnArrival, lookOnArrival } from '../processing/on-arrival.ts';
import type { StepRules } from '../processing/pipeline.ts';
import { stepRules } from '../processing/rules.ts';
import type { Places } from '../projects/places.ts';
import { placesOf } from '../projects/settings.ts';
import { limitValues } from '../quotas/limit.ts';
import { QuotasRepository } from '../quotas/repository.ts';
import { type Scanner, scannerOf } from '../scanning/scanner.ts';
import { policiesUnder } from '../tickets/terms.ts';
import { contentsOf } from '../versions/contents-of.ts';
import { metered } from './metered-source.ts';
import { UploadsRepository } from './repository.ts';
import { UploadSessionsRepository } from './session-repository.ts';
import { ShortTurns } from './short-turns.ts';

/** A disk gains nothing from more, and memory is saved. */
const DISK_PARTS_IN_FLIGHT = 2;

export type UploadOutcome = 'stored' | 'refused' | 'aborted' | 'failed';

type Shared =
  | 'config'
  | 'policies'
  | 'database'
  | 'store'
  | 'objectKeys'
  | 'buffers'
  | 'admission'
  | 'slowUploads'
  | 'tasks'
  | 'onError';

export interface UploadContext extends Pick<Core, Shared> {
  uploads: UploadsRepository;
  sessions: UploadSessionsRepository;
  quotas: QuotasRepository;
  places: Places;
  /** Which steps of processing apply to which files. */
  rules: StepRules;
  /** Absent where CLAMD is not set. */
  scanner?: Scanner | undefined;
  /** Absent where nothing is made of files. */
  lookOnArrival?: LookOnArrival | undefined;
  derivatives: DerivativesRepository;
  shortTurns: ShortTurns;
  onOutcome(outcome: UploadOutcome, bytes: number): void;
}

/** The context of all uploads of a process. */
export function uploadContext(core: Core): UploadContext {
  const { config, policies, database, store, objectKeys, buffers, admission, slowUploads, tasks, onError } = core;
  return {
    ...{ config, policies, database, store, objectKeys, buffers, admission, slowUploads, tasks, onError },
    uploads: uploadsRepository(core, database),
    sessions: new UploadSessionsRepository(database),
    quotas: new QuotasRepository(database, limitValues(core)),
    places: placesOf(core),
    rules: stepRules(core),
    scanner: scannerOf(core),
    lookOnArrival: lookOnArrival(core),
    derivatives: new DerivativesRepository(database, core.outbox),
    shortTurns: new ShortTurns(),
    onOutcome: (outcome, bytes) => core.metrics.upload(outcome, bytes),
  };
}

/** The same for one caller: a ticket allows less, as a tier may. @throws Problem type-not-allowed */
export function contextOf(context: UploadContext, caller: Pick<Caller, 'terms' | 'tier'>): UploadContext {
  if (!caller.terms && !caller.tier) return context;
  return { ...context, policies: policiesUnder(caller, context.policies).within(sizeBoundOf(caller)) };
}

/** The records of uploads, on one of the pools. */
export function uploadsRepository(
  core: Pick<Core, 'config' | 'outbox' | 'policies' | 'settings' | 'tiers'>,
  database: DatabaseHandle,
): UploadsRepository {
  const { config, outbox, policies } = core;
  return new UploadsRepository({
    database,
    outbox,
    limits: limitValues(core),
    lease: leaseOf({ config }),
    lookAgain: config.UPLOAD_LOOK_AGAIN / 1000,
    rules: stepRules(core),
    lifeCycleOf: (assetType) => lifeCycleOf(core, policies.named(assetType)),
    contents: contentsOf(core, database),
  });
}

/**
 * Has the key of an upload looked at again: a call that makes something there had no answer. Never throws; while the
 * database is away it is tried on. Behind it stand the end of the upload's lease, and the reconciler.
 * @param keep the upload id that the upload goes on with, where it is known and no session names it
 */
export async function lookAgainAt(
  { uploads, tasks, onError }: Pick<UploadContext, 'uploads' | 'tasks' | 'onError'>,
  { id, objectKey }: { id: string; objectKey: string },
  keep?: string,
): Promise<void> {
  const send = () => uploads.lookAgain({ assetId: id, objectKey, ...(keep !== undefined && { keep }), look: 0 });
  try {
    await send();
  } catch (error) {
    onError('a multipart upload may have been left open; its key could not be noted yet', error);
    tasks.persist(send, 'having the key of an upload looked at again');
  }
}

/** Seconds for which an upload counts as alive after a sign of life. */
export function leaseOf({ config }: Pick<UploadContext, 'config'>): number {
  return config.UPLOAD_LEASE / 1000;
}

/** Milliseconds between two signs of life. */
export function leaseRenewalOf({ config }: Pick<UploadContext, 'config'>): number {
  return config.UPLOAD_LEASE / LEASE_RENEWALS;
}

/** Parts of one upload on their way to the store at once. */
export function partsInFlightOf({ config, store }: Pick<UploadContext, 'config' | 'store'>): number {
  return store.kind === 'disk' ? Math.min(DISK_PARTS_IN_FLIGHT, config.PARTS_IN_FLIGHT) : config.PARTS_IN_FLIGHT;
}

/** Bytes that a file may have which comes through this process: its parts are no larger than the buffers. */
export function throughProcess({ buffers, store }: Pick<UploadContext, 'buffers' | 'store'>, limit: number): number {
  return Math.min(limit, buffers.partSize * store.maxParts);
}

/**
 * The body of a client, which is ended when it comes too slowly.
 * @param callerId who has the place and the memory that others may wait for; absent where nothing is held, and what comes
 * is only looked through
 */
export function meteredBody(
  { config, slowUploads }: Pick<UploadContext, 'config' | 'slowUploads'>,
  source: AsyncIterable<Buffer>,
  signal: AbortSignal,
  callerId?: string,
): AsyncGenerator<Buffer> {
  return metered(source, {
    minimumRate: config.MIN_UPLOAD_RATE,
    window: config.BODY_TIMEOUT,
    signal,
    takesTurns: callerId !== undefined,
    ...(callerId !== undefined && config.MIN_UPLOAD_RATE > 0 && { contention: { callerId, slowClients: slowUploads } }),
  });
}
