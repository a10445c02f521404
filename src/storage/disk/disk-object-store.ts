/**
 * The object store on the service's own disk: the embedded default, and the same contract as S3.
 *
 *   objects/<key>            the bytes
 *   objects/<key>.json       the sidecar: what the store keeps beside them. Without bytes it is nothing
 *   multipart/<upload id>/   upload.json, data (parts written where they belong), parts/<number>.json, and `completing`
 *   tmp/                     what is not yet, or no longer, anything
 *
 * The rename of the bytes to their place is the commit point: the sidecar is there before, and everything is synced to
 * disk, so a crash shows the whole object or none. Parts are written straight to their offset, so completing an upload
 * moves a file and copies nothing. An upload begins and ends by a rename too, from and to tmp/: it is whole or not there.
 *
 * Nobody may write to a file that has become an object. So whoever completes an upload first marks it as `completing`,
 * waits for the parts under way in this process, and then looks which parts are there; and whoever writes a part first
 * takes its record away and then looks for the mark. Whichever comes later sees the other, also in another process that
 * shares the directory. What must not be spread over processes is one part number sent twice at the same time with
 * different bytes, and parts sent during completion that it does not name; the lease of the upload sees to that.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { MAX_LINK } from '../../config.ts';
import { inParallel } from '../in-parallel.ts';
import { measure } from '../measured-stream.ts';
import {
  type ByteRange,
  type CallOptions,
  type LinkOptions,
  type ListedObject,
  MAX_PARTS,
  type ObjectAttributes,
  type ObjectBody,
  type ObjectHead,
  type ObjectStore,
  ObjectStoreUnavailable,
  type OpenUpload,
  type PartAddress,
  type StreamOptions,
  type UploadedPart,
  type WrittenObject,
} from '../object-store.ts';
import { attributesSchema, Disk } from './disk.ts';
import { FileBytes, toError } from './file-bytes.ts';
import { ifThere, openIfThere, readJson, statIfThere } from './files.ts';
import { type LinkPermission, LinkTokens, type PartPermission } from './links.ts';
import { DiskMultipart } from './multipart.ts';

/** The disk syncs directories for several at the same time. */
const DELETIONS_AT_ONCE = 16;

export interface DiskOptions {
  directory: string;
  /** Signs links; all instances that share the directory need the same. */
  linkSecret: Buffer;
  /** Where clients reach the service. */
  publicUrl: () => string;
  /** The same for links to objects; `publicUrl` when absent. */
  contentUrl?: () => string;
  now?: () => Date;
}

export class DiskObjectStore implements ObjectStore {
  readonly kind = 'disk';
  readonly maxParts = MAX_PARTS;
  readonly #disk: Disk;
  readonly #multipart: DiskMultipart;
  readonly #links: LinkTokens;
  readonly #publicUrl: () => string;
  readonly #contentUrl: () => string;

  constructor({ directory, linkSecret, publicUrl, contentUrl = publicUrl, now = () => new Date() }: DiskOptions) {
    this.#disk = new Disk(directory, now);
    this.#multipart = new DiskMultipart(this.#disk);
    this.#links = new LinkTokens({ secret: linkSecret, now });
    this.#publicUrl = publicUrl;
    this.#contentUrl = contentUrl;
  }

  async put(
    key: string,
    body: Buffer,
    attributes: ObjectAttributes,
    options: CallOptions & { sha256: Buffer },
  ): Promise<void> {
    const path = this.#disk.pathOf(key);
    await this.#disk.run(options, () =>
      this.#disk.stage(body, (temporary) => {
        options.signal?.throwIfAborted();
        return this.#disk.commit(temporary, path, attributes);
      }),
    );
  }

  async putStream(
    key: string,
    source: () => Readable,
    attributes: ObjectAttributes,
    options: StreamOptions,
  ): Promise<WrittenObject> {
    const path = this.#disk.pathOf(key);
    options.signal?.throwIfAborted();
    const body = measure(source, options);
    const onAbort = () => body.destroy(toError(options.signal?.reason));
    options.signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await this.#disk.run(options, () =>
        this.#disk.stage(body, (temporary) => {
          options.signal?.throwIfAborted();
          return this.#disk.commit(temporary, path, attributes);
        }),
      );
      return body.written;
    } catch (error) {
      // Whatever the stream failed with, it was not this disk.
      throw body.errored ?? error;
    } finally {
      options.signal?.removeEventListener('abort', onAbort);
      body.destroy();
    }
  }

  createMultipartUpload(
    key: string,
    attributes: ObjectAttributes,
    options: CallOptions & { partSize: number },
  ): Promise<string> {
    return this.#multipart.create(key, attributes, options);
  }

  uploadPart(address: PartAddress, body: Buffer, options: CallOptions): Promise<UploadedPart> {
    return this.#multipart.uploadPart(address, body, options);
  }

  listParts(key: string, uploadId: string, options: CallOptions): Promise<UploadedPart[]> {
    return this.#multipart.listParts(key, uploadId, options);
  }

  completeMultipartUpload(key: string, uploadId: string, parts: UploadedPart[], options: CallOptions): Promise<void> {
    return this.#multipart.complete(key, uploadId, parts, options);
  }

  abortMultipartUpload(key: string, uploadId: string, options: CallOptions): Promise<void> {
    return this.#multipart.abort(key, uploadId, options);
  }

  listMultipartUploads(key: string, options: CallOptions): Promise<string[]> {
    return this.#multipart.list(key, options);
  }

  allMultipartUploads(prefix: string, options: CallOptions): AsyncIterable<OpenUpload[]> {
    return this.#multipart.all(prefix, options);
  }

  async *list(prefix: string, options: CallOptions): AsyncGenerator<ListedObject[]> {
    // Keys below a directory have its path as their prefix, so nothing beside it has to be looked at.
    const top = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    const directories = [top];
    for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
      const under = directory;
      yield await this.#disk.run(options, async () => {
        options.signal?.throwIfAborted();
        const found: ListedObject[] = [];
        const entries = await ifThere(readdir(join(this.#disk.objects, under), { withFileTypes: true }));
        if (!entries) await this.#disk.requirePresence();
        for (const entry of entries ?? []) {
          const key = `${under}${entry.name}`;
          if (entry.isDirectory()) {
            if (`${key}/`.startsWith(prefix) || prefix.startsWith(`${key}/`)) directories.push(`${key}/`);
          } else if (key.startsWith(prefix) && !key.endsWith('.json')) {
            const facts = await statIfThere(join(this.#disk.objects, key));
            if (facts) found.push({ key, size: facts.size, lastModified: facts.mtime });
          }
        }
        return found;
      });
    }
  }

  async head(key: string, options: CallOptions): Promise<ObjectHead | undefined> {
    const path = this.#disk.pathOf(key);
    return this.#disk.run(options, async () => {
      const [facts, attributes] = await Promise.all([statIfThere(path), readJson(`${path}.json`, attributesSchema)]);
      if (facts && attributes) return { size: facts.size, lastModified: facts.mtime, ...attributes };
      await this.#disk.requirePresence();
      return undefined;
    });
  }

  async get(key: string, options: CallOptions & { range?: ByteRange }): Promise<ObjectBody | undefined> {
    const path = this.#disk.pathOf(key);
    return this.#disk.run(options, async () => {
      const handle = await openIfThere(path);
      if (!handle) {
        await this.#disk.requirePresence();
        return undefined;
      }
      try {
        const facts = await handle.stat();
        options.signal?.throwIfAborted();
        if (facts.isFile()) {
          const range = options.range ?? { first: 0, last: facts.size - 1 };
          return { stream: new FileBytes(handle, range, options.signal), length: range.last - range.first + 1 };
        }
      } catch (error) {
        await handle.close();
        throw error;
      }
      await handle.close();
      return undefined;
    });
  }

  async delete(key: string, options: CallOptions): Promise<void> {
    const path = this.#disk.pathOf(key);
    await this.#disk.run(options, async () => {
      await this.#disk.removeObject(path);
      await this.#disk.requirePresence();
    });
  }

  async deleteAll(keys: string[], options: CallOptions): Promise<string[]> {
    const left: string[] = [];
    await inParallel(keys, DELETIONS_AT_ONCE, async (key) => {
      try {
        await this.delete(key, options);
      } catch (error) {
        options.signal?.throwIfAborted();
        if (!(error instanceof ObjectStoreUnavailable)) throw error;
        left.push(key);
      }
    });
    return left;
  }

  async keepsVersions(): Promise<'no'> {
    return 'no';
  }

  async purgeVersions(prefix: string, options: CallOptions): Promise<{ versions: number; bytes: number }> {
    const purged = { versions: 0, bytes: 0 };
    for await (const page of this.list(prefix, options)) {
      const left = await this.deleteAll(
        page.map(({ key }) => key),
        options,
      );
      if (left.length > 0) throw new ObjectStoreUnavailable('an object was not deleted');
      purged.versions += page.length;
      purged.bytes += page.reduce((sum, { size }) => sum + size, 0);
    }
    return purged;
  }

  async presignGet(key: string, link: LinkOptions): Promise<string> {
    this.#disk.pathOf(key);
    return `${this.#contentUrl()}/v1/links/${this.#links.forObject(key, link)}`;
  }

  /** Reads the token of a link. Never throws, whatever the token is. */
  readLink(token: string): LinkPermission | 'expired' | 'invalid' {
    return this.#links.readObject(token);
  }

  async presignUploadPart(part: PartAddress, link: { size: number; expiresIn: number }): Promise<string> {
    this.#disk.pathOf(part.key);
    return `${this.#publicUrl()}/v1/links/parts/${this.#links.forPart(part, link)}`;
  }

  /** Reads the token of a link for a part. Never throws, whatever the token is. */
  readPartLink(token: string): PartPermission | 'expired' | 'invalid' {
    return this.#links.readPart(token);
  }

  async longestLink(): Promise<number> {
    return MAX_LINK;
  }

  async check(options: CallOptions): Promise<void> {
    await this.#disk.run(options, () => this.#disk.probe());
  }

  async close(): Promise<void> {}
}
