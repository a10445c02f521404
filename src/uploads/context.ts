/** What all uploads share, whatever route they came through. */
import type { Config } from '../config.ts';
import type { Database } from '../database/client.ts';
import type { Admission } from '../http/admission.ts';
import type { QuotasRepository } from '../quotas/repository.ts';
import { MAX_PARTS, type ObjectStore } from '../storage/object-store.ts';
import type { PartBuffers } from '../storage/part-buffers.ts';
import type { UploadPolicies } from '../validation/upload-policies.ts';
import { metered } from './metered-source.ts';
import type { UploadsRepository } from './repository.ts';
import type { UploadSessionsRepository } from './session-repository.ts';

/** Signs of life of an upload within its lease. */
const LEASE_RENEWALS = 4;
/** A disk gains nothing from more, and memory is saved. */
const DISK_PARTS_IN_FLIGHT = 2;
/** While uploads wait for memory, those that hold it must move at least this fast. Bytes per second. */
const CONTENDED_RATE = 64 * 1024;

export type UploadOutcome = 'stored' | 'refused' | 'aborted' | 'failed';

export interface UploadContext {
  config: Config;
  policies: UploadPolicies;
  database: Database;
  uploads: UploadsRepository;
  sessions: UploadSessionsRepository;
  quotas: QuotasRepository;
  store: ObjectStore;
  buffers: PartBuffers;
  admission: Admission;
  /** Does it in the background, again until it works, the service stops, or the lease of any upload has long ended. */
  persist: (work: () => Promise<void>) => void;
  /** Told of everything that must be looked at again but does not concern the client. */
  onError: (message: string, error: unknown) => void;
  onOutcome: (outcome: UploadOutcome, bytes: number) => void;
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
export function throughProcess({ buffers }: Pick<UploadContext, 'buffers'>, limit: number): number {
  return Math.min(limit, buffers.partSize * MAX_PARTS);
}

/** The body of a client, which is ended when it comes too slowly. */
export function meteredBody(
  { config, buffers }: Pick<UploadContext, 'config' | 'buffers'>,
  source: AsyncIterable<Buffer>,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const rate = config.MIN_UPLOAD_RATE;
  return metered(source, {
    minimumRate: () => (rate > 0 && buffers.contended ? Math.max(rate, CONTENDED_RATE) : rate),
    window: config.BODY_TIMEOUT,
    signal,
  });
}
