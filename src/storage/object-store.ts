import type { Readable } from 'node:stream';
import { S3_MAX_PARTS } from '../storage-providers.ts';
import type { Archive } from './archive/archive.ts';
import type { PartBuffers } from './part-buffers.ts';

/**
 * The object store port: where the bytes of assets live. `S3ObjectStore` is for production, `DiskObjectStore` is the
 * embedded default; one contract suite (tests/storage) runs unchanged against both.
 *
 * Keys are opaque, chosen fresh for every upload and written once. So every verb may be repeated: writing the same key
 * again writes the same bytes, and deleting or aborting what is not there is success. An object becomes visible whole
 * (put, completeMultipartUpload) or not at all.
 *
 * Faults are of two kinds: `ObjectStoreUnavailable` (timeout, reset, 5xx, wrong credentials: the outcome is unknown and
 * a retry makes sense) and ordinary errors (a defect). Neither carries a provider's message out of the process.
 */
export interface ObjectStore {
  /** Whether links lead to the object store itself (S3) or back to this service (disk). */
  readonly kind: 's3' | 'disk';
  /** Parts of one object at most. */
  readonly maxParts: number;

  /** Keeps objects in the store itself, whoever wants to delete them there; absent where there is no such thing. */
  readonly locks?: ObjectLocks;

  /** Writes a whole object. `sha256` is the digest of `body`; stores that can, have it verified on arrival. */
  put(
    key: string,
    body: Buffer,
    attributes: ObjectAttributes,
    options: CallOptions & { sha256: Buffer },
  ): Promise<void>;

  /**
   * Writes an object from a stream that the service makes itself and can make again: derivatives, copies, exports. What
   * clients send goes through `ObjectWriter`. The object becomes visible when the stream has ended as announced; then it is
   * past the signal too. A stream that ends without a byte makes an object without a byte: whether that is a defect, the
   * caller knows.
   * @param source called at most once, when there is memory
   * @throws NoBufferFree, ContentMismatch, the signal's reason, or what the stream failed with: nothing is left.
   *   ObjectStoreUnavailable: something may be left, so repeat it or `erase` the key
   */
  putStream(
    key: string,
    source: () => Readable,
    attributes: ObjectAttributes,
    options: StreamOptions,
  ): Promise<WrittenObject>;

  /**
   * Makes an object out of one of another store, where the same server holds both, so that the bytes do not come by here. It has
   * the attributes of the other one, and becomes visible whole.
   * @param size of the other object
   * @returns `elsewhere` where another server holds the other one, `missing` where it is not there: then nothing was done
   * @throws ObjectStoreUnavailable: something may be left, so repeat it or `erase` the key
   */
  copyFrom?(
    source: ObjectStore,
    sourceKey: string,
    key: string,
    options: CallOptions & { size: number },
  ): Promise<'copied' | 'elsewhere' | 'missing'>;

  /**
   * Begins an object in parts. All parts have `partSize` bytes, except the last, which may have fewer.
   * @returns the store's upload id
   */
  createMultipartUpload(key: string, attributes: ObjectAttributes, options: CreationOptions): Promise<string>;

  /**
   * Writes part `partNumber` (from 1, at most 10,000). Parts may arrive in any order; the same number again replaces.
   * @throws NoSuchUpload when the upload is unknown; UploadCompleting, of stores that take none while it is completed
   */
  uploadPart(part: PartAddress, body: Buffer, options: CallOptions): Promise<UploadedPart>;

  /** The parts that have arrived, in order. @throws NoSuchUpload when the upload is unknown (completed or aborted) */
  listParts(key: string, uploadId: string, options: CallOptions): Promise<UploadedPart[]>;

  /**
   * Makes the parts one object.
   * @throws NoSuchUpload when the upload is unknown, for which some servers only say that they failed: look with `head` before judging.
   *   PartsChanged when a part is not the one that was named
   */
  completeMultipartUpload(key: string, uploadId: string, parts: UploadedPart[], options: CallOptions): Promise<void>;

  /** Ends the upload and drops its parts. An unknown upload is success. */
  abortMultipartUpload(key: string, uploadId: string, options: CallOptions): Promise<void>;

  /** Upload ids of the open multipart uploads of exactly this key. */
  listMultipartUploads(key: string, options: CallOptions): Promise<string[]>;

  /** All open multipart uploads whose key begins with `prefix`, a page at a time, in no order. */
  allMultipartUploads(prefix: string, options: CallOptions): AsyncIterable<OpenUpload[]>;

  /** Size and attributes, or undefined when there is no such object. */
  head(key: string, options: CallOptions): Promise<ObjectHead | undefined>;

  /**
   * Opens the bytes of an object, whole or one inclusive range within its size. The stream errors (it never just ends)
   * when fewer bytes come than `length` says. Destroying it frees the connection. Undefined when there is no such object.
   */
  get(key: string, options: CallOptions & { range?: ByteRange }): Promise<ObjectBody | undefined>;

  /** All objects whose key begins with `prefix`, a page at a time. An object that comes or goes meanwhile may be missed. */
  list(prefix: string, options: CallOptions): AsyncIterable<ListedObject[]>;

  /** Removes an object. A missing key is success. */
  delete(key: string, options: CallOptions): Promise<void>;

  /** Removes objects, any number. Missing keys are success. @returns the keys that are still there, for whatever reason */
  deleteAll(keys: string[], options: CallOptions): Promise<string[]>;

  /**
   * Whether a deleted object leaves something behind: versions of buckets that keep them. `unknown` where the store does not
   * let that be asked.
   */
  keepsVersions(options: CallOptions): Promise<'no' | 'yes' | 'unknown'>;

  /**
   * Removes for good all that the store keeps of objects whose key begins with `prefix`: the objects, older versions, and the
   * marks of deletions. @returns what was removed beside the marks. @throws ObjectStoreUnavailable when something is left
   */
  purgeVersions(prefix: string, options: CallOptions): Promise<{ versions: number; bytes: number }>;

  /**
   * A URL that hands the object out, without further credentials, until `expiresIn` seconds (at most 7 days) from `signedAt`.
   * For the same key and options it is the same URL.
   */
  presignGet(key: string, link: LinkOptions): Promise<string>;

  /**
   * A URL to which anybody may PUT one part, of exactly `size` bytes, until `expiresIn` seconds from now. Sent again, the
   * part is replaced; once the upload is completed or aborted, the URL is of no use.
   */
  presignUploadPart(part: PartAddress, link: { size: number; expiresIn: number }): Promise<string>;

  /** Seconds for which a link can be good that is made now: never longer than the credentials that sign it. */
  longestLink(): Promise<number>;

  /** Where objects go that are seldom wanted; absent where there is none. */
  readonly archive?: Archive | undefined;

  /**
   * Whether its bucket is among those that the credentials may list; undefined where they may list none. Absent where there
   * are no buckets.
   * @throws ObjectStoreUnavailable
   */
  isListed?(options: CallOptions): Promise<boolean | undefined>;

  /** A cheap probe that never writes. Rejects with `ObjectStoreUnavailable` when the store cannot serve. */
  check(options: CallOptions): Promise<void>;

  close(): Promise<void>;
}

/** S3 Object Lock, or what else a store has of the kind. */
export interface ObjectLocks {
  /** Whether the bucket has it. */
  areAvailable(options: CallOptions): Promise<boolean>;
  /**
   * Has all versions of an object kept as it says, and no longer. What is kept for compliance stays so until its time.
   * An object that is not there is success.
   */
  apply(key: string, lock: ObjectLock, options: CallOptions): Promise<void>;
}

export interface ObjectLock {
  /** Until somebody says otherwise. */
  isHeld: boolean;
  /** Retained until then, if that is to come. */
  until?: Date;
  /** `governance`: whoever has the right to it may shorten that; `compliance`: nobody may. */
  mode?: 'governance' | 'compliance';
}

/** Parts of one object, where the store is not known to take fewer. */
export const MAX_PARTS = S3_MAX_PARTS;

/** What the store keeps beside the bytes and sends along with them. */
export interface ObjectAttributes {
  contentType: string;
  /** RFC 6266, as built by `contentDisposition`. */
  contentDisposition: string;
  cacheControl: string;
  /** Lower-case ASCII keys; values of printable ASCII. */
  metadata: Record<string, string>;
}

export interface ObjectHead extends ObjectAttributes {
  /** Bytes. */
  size: number;
  lastModified: Date;
}

export interface ListedObject {
  key: string;
  /** Bytes. */
  size: number;
  lastModified: Date;
}

export interface OpenUpload {
  key: string;
  uploadId: string;
  initiated: Date;
}

export interface ObjectBody {
  stream: Readable;
  /** Bytes that `stream` will give. */
  length: number;
}

/** First and last byte position, both inclusive (RFC 9110 section 14.1.2). */
export interface ByteRange {
  first: number;
  last: number;
}

export interface PartAddress {
  key: string;
  uploadId: string;
  partNumber: number;
}

export interface UploadedPart {
  partNumber: number;
  etag: string;
  /** Bytes. */
  size: number;
}

export interface CallOptions {
  /** Ends the call early; it then rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface CreationOptions extends CallOptions {
  /** Bytes. */
  partSize: number;
  /** Called when an earlier try had no answer: another upload may be open under the key, or open later. */
  onDoubt?: () => void;
}

export interface StreamOptions extends CallOptions {
  /** Memory of the upload is counted here, where the store needs any. */
  buffers: PartBuffers;
  /** Milliseconds to wait for that memory. */
  wait: number;
  /** Bytes that the stream will give, where they are known: less memory may do. */
  size?: number;
  /** Of these bytes, where it is known. */
  sha256?: Buffer;
}

/** What a stream has given. */
export interface WrittenObject {
  /** Bytes. */
  size: number;
  sha256: Buffer;
}

export interface LinkOptions {
  /** Seconds. */
  expiresIn: number;
  /** From when they count; from now on when absent. */
  signedAt?: Date;
  contentType: string;
  contentDisposition: string;
  cacheControl: string;
}

/** How fast an object of an offline class is brought back (S3 API, RestoreObject). */
export type RestoreSpeed = 'expedited' | 'standard' | 'bulk';

/**
 * Whether an object can be read. `offline`: it must be asked for first; `coming`: it was; `until`: it can, until then.
 * `etag` as the store has it, where it has one.
 */
export type Readiness =
  | { state: 'readable'; size: number; etag?: string | undefined; until?: Date }
  | { state: 'offline' | 'coming'; size: number; etag?: string | undefined };

/** A store some of whose objects cannot be read at once. */
export interface OfflineObjects {
  /** Undefined when there is no such object. */
  readiness(key: string, options: CallOptions): Promise<Readiness | undefined>;
  /**
   * Asks for an object that is `offline`, for some days. One that is asked for already stays so.
   * @throws SpeedNotAvailable
   */
  request(key: string, wish: { days: number; speed: RestoreSpeed }, options: CallOptions): Promise<void>;
}

/** The store cannot bring an object of this class back so fast, or not now. */
export class SpeedNotAvailable extends Error {
  override name = 'SpeedNotAvailable';
}

/** The store did not answer, or not in time, or not usefully. What it did is unknown. */
export class ObjectStoreUnavailable extends Error {
  override name = 'ObjectStoreUnavailable';
}

/**
 * The store has answered that it will not do this, and will not do it later either: a setting or a permission is wrong.
 * What was asked for did not happen, unless an earlier try of it had no answer.
 */
export class ObjectStoreRefused extends ObjectStoreUnavailable {
  override name = 'ObjectStoreRefused';
  /** What the operator should look at, with the names of the settings. Not for clients. */
  readonly advice: string;
  /** The credentials are good, and do not allow it. */
  readonly isDenied: boolean;

  constructor(
    message: string,
    advice: string,
    { isDenied = false, ...options }: ErrorOptions & { isDenied?: boolean },
  ) {
    super(message, options);
    this.advice = advice;
    this.isDenied = isDenied;
  }
}

/** The refusal that an error comes from, if there is one. */
export function refusalIn(error: unknown): ObjectStoreRefused | undefined {
  for (let each = error; each instanceof Error; each = each.cause) if (each instanceof ObjectStoreRefused) return each;
  return undefined;
}

/** The multipart upload does not exist: it was completed or aborted, or never was. */
export class NoSuchUpload extends Error {
  override name = 'NoSuchUpload';
}

/** A stream gave other bytes than were announced. */
export class ContentMismatch extends Error {
  override name = 'ContentMismatch';
}

/** A part that was named for completion is not the one that arrived: it was sent again meanwhile. The object was not made. */
export class PartsChanged extends ObjectStoreUnavailable {
  override name = 'PartsChanged';
}

/** The multipart upload is being completed, and takes no parts meanwhile. */
export class UploadCompleting extends ObjectStoreUnavailable {
  override name = 'UploadCompleting';
}
