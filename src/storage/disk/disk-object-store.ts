/**
 * The object store on the service's own disk: the embedded default, and the same contract as S3.
 *
 *   objects/<key>            the bytes
 *   objects/<key>.json       what the store keeps beside them
 *   multipart/<upload id>/   upload.json, data (parts written where they belong), and parts/<number>.json
 *   tmp/                     files that are not yet anything
 *
 * The rename of the bytes to their place is the commit point: the sidecar is there before, and everything is synced to
 * disk, so a crash shows the whole object or none. Parts are written straight to their offset, so completing an upload
 * moves a file and copies nothing.
 *
 * Links lead back to the service: a token with its own signature, as a presigned URL has.
 */
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { access, type FileHandle, mkdir, open, readdir, readFile, rename, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { Transform } from 'node:stream';
import { z } from 'zod';
import {
  type ByteRange,
  type CallOptions,
  type LinkOptions,
  NoSuchUpload,
  type ObjectAttributes,
  type ObjectBody,
  type ObjectHead,
  type ObjectStore,
  ObjectStoreUnavailable,
  type PartAddress,
  type UploadedPart,
} from '../object-store.ts';

const READ_CHUNK = 1024 * 1024;
const LONGEST_TOKEN = 8192;
/** Leftovers of a crash are removed when they are older; a younger file may be another instance's. Milliseconds. */
const STALE_TEMPORARY = 24 * 3600 * 1000;

const attributesSchema = z.object({
  contentType: z.string(),
  contentDisposition: z.string(),
  cacheControl: z.string(),
  metadata: z.record(z.string(), z.string()),
});
const uploadSchema = z.object({ key: z.string(), partSize: z.number().int().positive(), attributes: attributesSchema });
const partSchema = z.object({
  partNumber: z.number().int().positive(),
  etag: z.string(),
  size: z.number().int().nonnegative(),
});
const linkSchema = z.tuple([z.string(), z.number(), z.string(), z.string(), z.string()]);

export interface DiskOptions {
  directory: string;
  /** Signs links; all instances that share the directory need the same. */
  linkSecret: Buffer;
  /** Where clients reach the service. */
  publicUrl: () => string;
  now?: () => Date;
}

/** What a link permits. */
export interface LinkPermission {
  key: string;
  contentType: string;
  contentDisposition: string;
  cacheControl: string;
  expiresAt: Date;
}

export class DiskObjectStore implements ObjectStore {
  readonly kind = 'disk';
  readonly #options: DiskOptions;
  readonly #objects: string;
  readonly #multipart: string;
  readonly #temporary: string;
  #ready: Promise<void> | undefined;

  constructor(options: DiskOptions) {
    this.#options = options;
    this.#objects = join(options.directory, 'objects');
    this.#multipart = join(options.directory, 'multipart');
    this.#temporary = join(options.directory, 'tmp');
  }

  async put(
    key: string,
    body: Buffer,
    attributes: ObjectAttributes,
    options: CallOptions & { sha256: Buffer },
  ): Promise<void> {
    await this.#run(options, async () => {
      const temporary = join(this.#temporary, randomUUID());
      try {
        await writeSynced(temporary, body);
        await this.#commit(temporary, key, attributes);
      } finally {
        await rm(temporary, { force: true });
      }
    });
  }

  async createMultipartUpload(
    key: string,
    attributes: ObjectAttributes,
    options: CallOptions & { partSize: number },
  ): Promise<string> {
    this.#pathOf(key);
    return this.#run(options, async () => {
      const uploadId = randomUUID();
      const directory = join(this.#multipart, uploadId);
      await mkdir(join(directory, 'parts'), { recursive: true });
      await (await open(join(directory, 'data'), 'wx')).close();
      // Last, because an upload exists when this file does.
      await this.#writeJson(join(directory, 'upload.json'), { key, partSize: options.partSize, attributes });
      return uploadId;
    });
  }

  async uploadPart(
    { key, uploadId, partNumber }: PartAddress,
    body: Buffer,
    options: CallOptions,
  ): Promise<UploadedPart> {
    return this.#run(options, async () => {
      const { directory, partSize } = await this.#upload(key, uploadId);
      if (body.length > partSize) throw new Error(`part ${partNumber} has more than ${partSize} bytes`);
      const record = join(directory, 'parts', `${partNumber}.json`);
      // While the bytes change, the part is not there.
      await rm(record, { force: true });
      const data = await open(join(directory, 'data'), 'r+');
      try {
        await writeAll(data, body, (partNumber - 1) * partSize);
      } finally {
        await data.close();
      }
      const part = { partNumber, etag: `"${randomUUID()}"`, size: body.length };
      await this.#writeJson(record, part);
      return part;
    });
  }

  async listParts(key: string, uploadId: string, options: CallOptions): Promise<UploadedPart[]> {
    return this.#run(options, async () => {
      const { directory } = await this.#upload(key, uploadId);
      const records = await readdir(join(directory, 'parts'));
      const parts = await Promise.all(records.map((record) => readJson(join(directory, 'parts', record), partSchema)));
      return parts.filter((part) => part !== undefined).sort((a, b) => a.partNumber - b.partNumber);
    });
  }

  async completeMultipartUpload(
    key: string,
    uploadId: string,
    parts: UploadedPart[],
    options: CallOptions,
  ): Promise<void> {
    await this.#run(options, async () => {
      const { directory, partSize, attributes } = await this.#upload(key, uploadId);
      const arrived = new Map((await this.listParts(key, uploadId, options)).map((part) => [part.partNumber, part]));
      for (const [index, { partNumber, etag }] of parts.entries()) {
        const part = arrived.get(partNumber);
        const last = index === parts.length - 1;
        if (partNumber !== index + 1 || part?.etag !== etag || (!last && part.size !== partSize)) {
          throw new Error(`part ${partNumber} is not the one that arrived, or leaves a gap`);
        }
      }
      const size = parts.reduce((sum, part) => sum + part.size, 0);
      const data = join(directory, 'data');
      const handle = await open(data, 'r+').catch((error) => {
        // A crash after the commit: the object is whole and only the directory was left.
        throw isCode(error, 'ENOENT') ? new NoSuchUpload('no such upload') : error;
      });
      try {
        await handle.truncate(size);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await this.#commit(data, key, attributes);
      await rm(directory, { recursive: true, force: true });
    });
  }

  async abortMultipartUpload(key: string, uploadId: string, options: CallOptions): Promise<void> {
    await this.#run(options, async () => {
      const upload = await this.#upload(key, uploadId).catch((error) => {
        if (error instanceof NoSuchUpload) return undefined;
        throw error;
      });
      if (!upload) return;
      // From here on the upload does not exist, whatever becomes of the rest.
      await rm(join(upload.directory, 'upload.json'), { force: true });
      await rm(upload.directory, { recursive: true, force: true, maxRetries: 3 });
    });
  }

  async listMultipartUploads(key: string, options: CallOptions): Promise<string[]> {
    return this.#run(options, async () => {
      const ids = await readdir(this.#multipart);
      const uploads = await Promise.all(
        ids.map(async (id) => ({ id, upload: await readJson(join(this.#multipart, id, 'upload.json'), uploadSchema) })),
      );
      return uploads.filter(({ upload }) => upload?.key === key).map(({ id }) => id);
    });
  }

  async head(key: string, options: CallOptions): Promise<ObjectHead | undefined> {
    const path = this.#pathOf(key);
    return this.#run(options, async () => {
      const [facts, attributes] = await Promise.all([statIfThere(path), readJson(`${path}.json`, attributesSchema)]);
      return facts && attributes && { size: facts.size, lastModified: facts.mtime, ...attributes };
    });
  }

  async get(key: string, options: CallOptions & { range?: ByteRange }): Promise<ObjectBody | undefined> {
    const path = this.#pathOf(key);
    return this.#run(options, async () => {
      const handle = await open(path, 'r').catch((error) => {
        if (isCode(error, 'ENOENT')) return undefined;
        throw error;
      });
      if (!handle) return undefined;
      const { size } = await handle.stat();
      const { first, last } = options.range ?? { first: 0, last: size - 1 };
      const length = last - first + 1;
      const file = createReadStream(path, {
        fd: handle,
        start: first,
        end: Math.max(first, last),
        highWaterMark: READ_CHUNK,
      });
      let seen = 0;
      const counted = new Transform({
        transform(chunk: Buffer, _encoding, done) {
          seen += chunk.length;
          done(null, chunk);
        },
        flush(done) {
          done(seen === length ? null : new ObjectStoreUnavailable('the object ended early'));
        },
      });
      file.on('error', (cause) => counted.destroy(new ObjectStoreUnavailable('the object cannot be read', { cause })));
      counted.on('close', () => file.destroy());
      options.signal?.addEventListener('abort', () => counted.destroy(), { once: true });
      return { stream: file.pipe(counted), length };
    });
  }

  async delete(key: string, options: CallOptions): Promise<void> {
    const path = this.#pathOf(key);
    await this.#run(options, async () => {
      await rm(path, { force: true });
      await rm(`${path}.json`, { force: true });
      await this.#removeEmptyParents(path);
    });
  }

  async presignGet(
    key: string,
    { expiresIn, contentType, contentDisposition, cacheControl }: LinkOptions,
  ): Promise<string> {
    this.#pathOf(key);
    const expires = Math.floor(this.#now().getTime() / 1000) + expiresIn;
    const payload = Buffer.from(JSON.stringify([key, expires, contentType, contentDisposition, cacheControl])).toString(
      'base64url',
    );
    return `${this.#options.publicUrl()}/v1/links/${payload}.${this.#sign(payload)}`;
  }

  /** Reads the token of a link. Never throws, whatever the token is. */
  readLink(token: string): LinkPermission | 'expired' | 'invalid' {
    const [payload = '', signature = ''] = token.length <= LONGEST_TOKEN ? token.split('.') : [];
    const [given, expected] = [Buffer.from(signature), Buffer.from(this.#sign(payload))];
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return 'invalid';
    const content = linkSchema.safeParse(parseJson(Buffer.from(payload, 'base64url').toString()));
    if (!content.success) return 'invalid';
    const [key, expires, contentType, contentDisposition, cacheControl] = content.data;
    const expiresAt = new Date(expires * 1000);
    return expiresAt <= this.#now() ? 'expired' : { key, contentType, contentDisposition, cacheControl, expiresAt };
  }

  async check(options: CallOptions): Promise<void> {
    await this.#run(options, () => access(this.#objects, constants.R_OK | constants.W_OK | constants.X_OK));
  }

  async close(): Promise<void> {}

  async #prepare(): Promise<void> {
    await Promise.all(
      [this.#objects, this.#multipart, this.#temporary].map((directory) => mkdir(directory, { recursive: true })),
    );
    const old = Date.now() - STALE_TEMPORARY;
    for (const name of await readdir(this.#temporary)) {
      const path = join(this.#temporary, name);
      const facts = await statIfThere(path);
      if (facts && facts.mtimeMs < old) await rm(path, { force: true });
    }
  }

  /** Runs one verb; a disk that is full, read-only or broken is a store that is away. */
  async #run<Result>({ signal }: CallOptions, work: () => Promise<Result>): Promise<Result> {
    signal?.throwIfAborted();
    try {
      this.#ready ??= this.#prepare();
      await this.#ready;
      return await work();
    } catch (cause) {
      signal?.throwIfAborted();
      if (isCode(cause, 'ENOENT')) this.#ready = undefined;
      if (
        ['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'ENOTDIR'].some((code) =>
          isCode(cause, code),
        )
      ) {
        throw new ObjectStoreUnavailable('the disk cannot be used', { cause });
      }
      throw cause;
    }
  }

  /** Moves bytes that are synced to their place, after their sidecar. */
  async #commit(bytes: string, key: string, attributes: ObjectAttributes): Promise<void> {
    const path = this.#pathOf(key);
    const directory = dirname(path);
    for (let attempt = 1; ; attempt++) {
      try {
        await mkdir(directory, { recursive: true });
        await this.#writeJson(`${path}.json`, attributes);
        await rename(bytes, path);
        await syncDirectory(directory);
        return;
      } catch (error) {
        // A deletion beside it may have removed the parents while they were empty.
        if (!isCode(error, 'ENOENT') || attempt === 5) throw error;
      }
    }
  }

  async #upload(key: string, uploadId: string): Promise<z.output<typeof uploadSchema> & { directory: string }> {
    if (!/^[0-9a-f-]{36}$/.test(uploadId)) throw new NoSuchUpload('no such upload');
    const directory = join(this.#multipart, uploadId);
    const upload = await readJson(join(directory, 'upload.json'), uploadSchema);
    if (upload?.key !== key) throw new NoSuchUpload('no such upload');
    return { ...upload, directory };
  }

  /** A file that is whole or not there. */
  async #writeJson(path: string, value: unknown): Promise<void> {
    const temporary = join(this.#temporary, randomUUID());
    try {
      await writeSynced(temporary, Buffer.from(JSON.stringify(value)));
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  async #removeEmptyParents(path: string): Promise<void> {
    for (let directory = dirname(path); relative(this.#objects, directory) !== ''; directory = dirname(directory)) {
      try {
        await rmdir(directory);
      } catch {
        // Not empty, or gone: either way there is nothing more to remove.
        return;
      }
    }
  }

  /** @throws for keys that are not ours: they could lead out of the directory */
  #pathOf(key: string): string {
    const segments = key.split('/');
    if (
      !segments.every((segment) => /^[A-Za-z0-9_~.-]{1,240}$/.test(segment) && !/^\.+$/.test(segment)) ||
      key.endsWith('.json')
    ) {
      throw new Error('not an object key');
    }
    return join(this.#objects, ...segments);
  }

  #sign(payload: string): string {
    return createHmac('sha256', this.#options.linkSecret).update(`stowage link 1\n${payload}`).digest('base64url');
  }

  #now(): Date {
    return this.#options.now?.() ?? new Date();
  }
}

async function writeSynced(path: string, body: Buffer): Promise<void> {
  const handle = await open(path, 'wx');
  try {
    await writeAll(handle, body, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** One write may take less than it was given. */
async function writeAll(handle: FileHandle, body: Buffer, position: number): Promise<void> {
  for (let done = 0; done < body.length; ) {
    const { bytesWritten } = await handle.write(body, done, body.length - done, position + done);
    done += bytesWritten;
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function statIfThere(path: string) {
  try {
    return await stat(path);
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

async function readJson<Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.output<Schema> | undefined> {
  try {
    return schema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
