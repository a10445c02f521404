/**
 * The first store together with its archive: each key is asked of the store that has its object. So deletion, reconciliation
 * and whoever else goes by keys need not know of the archive. What is uploaded goes to the first.
 */
import type { Readable } from 'node:stream';
import { DiskObjectStore } from '../disk/disk-object-store.ts';
import type {
  ByteRange,
  CallOptions,
  CreationOptions,
  LinkOptions,
  ListedObject,
  ObjectAttributes,
  ObjectBody,
  ObjectHead,
  ObjectStore,
  OpenUpload,
  PartAddress,
  StreamOptions,
  UploadedPart,
  WrittenObject,
} from '../object-store.ts';
import { Archive, type ArchiveOptions, isKeptApart } from './archive.ts';

export class ArchivingStore implements ObjectStore {
  readonly first: ObjectStore;
  readonly archive: Archive;
  readonly #other: ObjectStore;
  /** The same, where it is another place than the first. */
  readonly #apart: ObjectStore | undefined;

  constructor(options: ArchiveOptions) {
    this.first = options.first;
    this.archive = new Archive(options);
    this.#other = options.store;
    this.#apart = options.isApart ? options.store : undefined;
  }

  get kind(): ObjectStore['kind'] {
    return this.first.kind;
  }

  get maxParts(): number {
    return this.first.maxParts;
  }

  /** The archive, where it is another place than the first store. */
  get apart(): ObjectStore | undefined {
    return this.#apart;
  }

  get #places(): ObjectStore[] {
    return this.#apart ? [this.first, this.#apart] : [this.first];
  }

  #of(key: string): ObjectStore {
    return this.#apart && isKeptApart(key) ? this.#apart : this.first;
  }

  put(
    key: string,
    body: Buffer,
    attributes: ObjectAttributes,
    options: CallOptions & { sha256: Buffer },
  ): Promise<void> {
    return this.#of(key).put(key, body, attributes, options);
  }

  putStream(
    key: string,
    source: () => Readable,
    attributes: ObjectAttributes,
    options: StreamOptions,
  ): Promise<WrittenObject> {
    return this.#of(key).putStream(key, source, attributes, options);
  }

  createMultipartUpload(key: string, attributes: ObjectAttributes, options: CreationOptions): Promise<string> {
    return this.#of(key).createMultipartUpload(key, attributes, options);
  }

  uploadPart(part: PartAddress, body: Buffer, options: CallOptions): Promise<UploadedPart> {
    return this.#of(part.key).uploadPart(part, body, options);
  }

  listParts(key: string, uploadId: string, options: CallOptions): Promise<UploadedPart[]> {
    return this.#of(key).listParts(key, uploadId, options);
  }

  completeMultipartUpload(key: string, uploadId: string, parts: UploadedPart[], options: CallOptions): Promise<void> {
    return this.#of(key).completeMultipartUpload(key, uploadId, parts, options);
  }

  abortMultipartUpload(key: string, uploadId: string, options: CallOptions): Promise<void> {
    return this.#of(key).abortMultipartUpload(key, uploadId, options);
  }

  listMultipartUploads(key: string, options: CallOptions): Promise<string[]> {
    return this.#of(key).listMultipartUploads(key, options);
  }

  async *allMultipartUploads(prefix: string, options: CallOptions): AsyncGenerator<OpenUpload[]> {
    yield* this.first.allMultipartUploads(prefix, options);
    if (this.#apart) yield* this.#apart.allMultipartUploads(prefix, options);
  }

  head(key: string, options: CallOptions): Promise<ObjectHead | undefined> {
    return this.#of(key).head(key, options);
  }

  get(key: string, options: CallOptions & { range?: ByteRange }): Promise<ObjectBody | undefined> {
    return this.#of(key).get(key, options);
  }

  async *list(prefix: string, options: CallOptions): AsyncGenerator<ListedObject[]> {
    yield* this.first.list(prefix, options);
    if (this.#apart) yield* this.#apart.list(prefix, options);
  }

  delete(key: string, options: CallOptions): Promise<void> {
    return this.#of(key).delete(key, options);
  }

  async deleteAll(keys: string[], options: CallOptions): Promise<string[]> {
    const apart = keys.filter(isKeptApart);
    if (!this.#apart || apart.length === 0) return this.first.deleteAll(keys, options);
    const others = keys.filter((key) => !isKeptApart(key));
    const left = await Promise.all([
      others.length === 0 ? [] : this.first.deleteAll(others, options),
      this.#apart.deleteAll(apart, options),
    ]);
    return left.flat();
  }

  /** `yes` where one of them does; `unknown` where one of them may. */
  async keepsVersions(options: CallOptions): Promise<'no' | 'yes' | 'unknown'> {
    const answers = await Promise.all(this.#places.map((store) => store.keepsVersions(options)));
    return answers.includes('yes') ? 'yes' : answers.includes('unknown') ? 'unknown' : 'no';
  }

  async purgeVersions(prefix: string, options: CallOptions): Promise<{ versions: number; bytes: number }> {
    const removed = await Promise.all(this.#places.map((store) => store.purgeVersions(prefix, options)));
    return {
      versions: removed.reduce((sum, { versions }) => sum + versions, 0),
      bytes: removed.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  }

  presignGet(key: string, link: LinkOptions): Promise<string> {
    return this.#of(key).presignGet(key, link);
  }

  presignUploadPart(part: PartAddress, link: { size: number; expiresIn: number }): Promise<string> {
    return this.first.presignUploadPart(part, link);
  }

  longestLink(): Promise<number> {
    return this.first.longestLink();
  }

  /** What is archived is not served, so the archive may be away. */
  check(options: CallOptions): Promise<void> {
    return this.first.check(options);
  }

  async close(): Promise<void> {
    await Promise.all([this.first.close(), this.#other.close()]);
  }
}

/** The disk on which uploads are stored; undefined where they are stored elsewhere. */
export function diskIn(store: ObjectStore): DiskObjectStore | undefined {
  const first = store instanceof ArchivingStore ? store.first : store;
  return first instanceof DiskObjectStore ? first : undefined;
}
