/** S3 Object Lock: legal holds and retention, set on every version of an object (S3 user guide, "Locking objects with Object Lock"). */
import {
  GetObjectLockConfigurationCommand,
  GetObjectRetentionCommand,
  ListObjectVersionsCommand,
  type ObjectLockRetentionMode,
  PutObjectLegalHoldCommand,
  PutObjectRetentionCommand,
  type S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { type CallOptions, type ObjectLock, type ObjectLocks, ObjectStoreUnavailable } from '../object-store.ts';
import type { S3Calls } from './calls.ts';
import { isMissing } from './faults.ts';

interface Target {
  client: S3Client;
  bucket: string;
  calls: S3Calls;
}
interface Version {
  Bucket: string;
  Key: string;
  VersionId: string;
}

/** What servers say of a bucket, or of an object, without it; and servers that do not know it. */
const without = new Set([
  'ObjectLockConfigurationNotFoundError',
  'NoSuchObjectLockConfiguration',
  'InvalidRequest',
  'NotImplemented',
  'MethodNotAllowed',
]);
/** What ends at once ends so soon: the time must lie in the future by the clock of the server, and not every one takes none. Milliseconds. */
const ENDING = 60_000;
const modes = { governance: 'GOVERNANCE', compliance: 'COMPLIANCE' } as const;

export class S3ObjectLocks implements ObjectLocks {
  readonly #target: Target;

  constructor(target: Target) {
    this.#target = target;
  }

  async areAvailable(options: CallOptions): Promise<boolean> {
    const { bucket } = this.#target;
    const configuration = await unlessWithout(
      this.#call('GetObjectLockConfiguration', options, (client, abortSignal) =>
        client.send(new GetObjectLockConfigurationCommand({ Bucket: bucket }), { abortSignal }),
      ),
    );
    return configuration?.ObjectLockConfiguration?.ObjectLockEnabled === 'Enabled';
  }

  async apply(key: string, lock: ObjectLock, options: CallOptions): Promise<void> {
    for (const version of await this.#versionsOf(key, options)) {
      // What is to be kept is kept before anything else is taken off.
      if (lock.isHeld) await this.#hold(version, 'ON', options);
      await this.#retain(version, lock, options);
      if (!lock.isHeld) await this.#hold(version, 'OFF', options);
    }
  }

  /** A key is written once; a deletion in the bucket lays a marker over it, below which it stays. */
  async #versionsOf(key: string, options: CallOptions): Promise<Version[]> {
    const { bucket } = this.#target;
    const { Versions = [] } = await this.#call('ListObjectVersions', options, (client, abortSignal) =>
      client.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: key, MaxKeys: 100 }), { abortSignal }),
    );
    return Versions.flatMap(({ Key, VersionId }) =>
      Key === key && VersionId !== undefined ? { Bucket: bucket, Key, VersionId } : [],
    );
  }

  async #hold(version: Version, Status: 'ON' | 'OFF', options: CallOptions): Promise<void> {
    const command = new PutObjectLegalHoldCommand({ ...version, LegalHold: { Status } });
    await unlessMissing(
      this.#call('PutObjectLegalHold', options, (client, abortSignal) => client.send(command, { abortSignal })),
    );
  }

  async #retain(version: Version, { until, mode }: ObjectLock, options: CallOptions): Promise<void> {
    const found = await unlessWithout(
      this.#call('GetObjectRetention', options, (client, abortSignal) =>
        client.send(new GetObjectRetentionCommand(version), { abortSignal }),
      ),
    );
    const { Mode: present, RetainUntilDate: end } = found?.Retention ?? {};
    const soon = new Date(Date.now() + ENDING);
    const isWanted = until !== undefined && mode !== undefined && until > new Date();
    if (!isWanted && (end === undefined || end <= soon || present === 'COMPLIANCE')) return;
    const Retention = isWanted
      ? { Mode: modes[mode] as ObjectLockRetentionMode, RetainUntilDate: until }
      : { Mode: modes.governance, RetainUntilDate: soon };
    if (present === Retention.Mode && end?.getTime() === Retention.RetainUntilDate.getTime()) return;
    // Only what becomes less needs the right to it.
    const isLess = end !== undefined && end > Retention.RetainUntilDate;
    const command = new PutObjectRetentionCommand({
      ...version,
      Retention,
      ...(isLess && { BypassGovernanceRetention: true }),
    });
    await unlessMissing(
      this.#call('PutObjectRetention', options, (client, abortSignal) => client.send(command, { abortSignal })),
    );
  }

  #call<Output>(
    operation: string,
    options: CallOptions,
    send: (client: S3Client, abortSignal: AbortSignal) => Promise<Output>,
  ): Promise<Output> {
    const { calls, client } = this.#target;
    return calls.command(operation, options, (signal) => send(client, signal));
  }
}

/** @returns undefined when the object has gone */
async function unlessMissing<Output>(call: Promise<Output>): Promise<Output | undefined> {
  try {
    return await call;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** @returns undefined when there is no such configuration */
async function unlessWithout<Output>(call: Promise<Output>): Promise<Output | undefined> {
  try {
    return await unlessMissing(call);
  } catch (error) {
    const cause = error instanceof ObjectStoreUnavailable ? error.cause : error;
    if (cause instanceof S3ServiceException && (without.has(cause.name) || cause.$metadata.httpStatusCode === 404))
      return undefined;
    throw error;
  }
}
