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
 *
 * Links lead back to the service: a token with its own signature, as a presigned URL has.
 */
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { constants } from 'node:fs';
import {
  access,
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { z } from 'zod';
import {
  type ByteRange,
  type CallOptions,
  type LinkOptions,
  type ListedObject,
  MAX_PARTS,
  NoSuchUpload,
  type ObjectAttributes,
  type ObjectBody,
  type ObjectHead,
  type ObjectStore,
  ObjectStoreUnavailable,
  type OpenUpload,
  type PartAddress,
  type UploadedPart,
} from '../object-store.ts';

const READ_CHUNK = 256 * 1024;
const MAX_TOKEN = 8192;
/** As S3 has it; below the 4,096 bytes of a path. */
const MAX_KEY = 1024;
/** Leftovers of a crash are removed when they are older; a younger file may be another instance's. Milliseconds. */
const STALE_TEMPORARY = 24 * 3600 * 1000;
/** Deletions beside a new object may take its parents away while they are empty, but hardly as often as this in a row. */
const PLACING_TRIES = 50;
/** A disk that is full, read-only, broken or not there. What may be missing in it is looked for, and told otherwise. */
const diskFaults = new Set(
  'ENOSPC EDQUOT EIO EROFS EACCES EPERM EMFILE ENFILE ENOTDIR ENOENT ENXIO ESTALE ETIMEDOUT'.split(' '),
);

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
/** Seconds; as with S3. */
const MAX_LINK = 7 * 24 * 3600;
/** Tells the two kinds of link apart: neither can be used for the other. */
const PART_LINK = 'PUT part';
const partLinkSchema = z.tuple([z.literal(PART_LINK), z.string(), z.number(), z.string(), z.number(), z.number()]);
const uploadIdPattern = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

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

/** What a link for a part permits: to write this part, of so many bytes. */
export interface PartPermission extends PartAddress {
  size: number;
}

export class DiskObjectStore implements ObjectStore {
  readonly kind = 'disk';
  readonly #options: DiskOptions;
  readonly #objects: string;
  readonly #multipart: string;
  readonly #temporary: string;
  /** What is under way in this process, by name; each promise ends with the last in line, and never rejects. */
  readonly #turns = new Map<string, Promise<unknown>>();
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
    const path = this.#pathOf(key);
    await this.#run(options, () =>
      this.#stage(body, (temporary) => {
        options.signal?.throwIfAborted();
        return this.#commit(temporary, path, attributes);
      }),
    );
  }

  async createMultipartUpload(
    key: string,
    attributes: ObjectAttributes,
    { partSize, signal }: CallOptions & { partSize: number },
  ): Promise<string> {
    this.#pathOf(key);
    const uploadId = randomUUID();
    const staged = join(this.#temporary, uploadId);
    await this.#run({ signal }, async () => {
      try {
        await mkdir(staged);
        await mkdir(join(staged, 'parts'));
        await createEmpty(join(staged, 'data'));
        await this.#writeJson(join(staged, 'upload.json'), { key, partSize, attributes });
        signal?.throwIfAborted();
        await rename(staged, join(this.#multipart, uploadId));
      } catch (error) {
        await rm(staged, { recursive: true, force: true });
        throw error;
      }
    });
    return uploadId;
  }

  async uploadPart(address: PartAddress, body: Buffer, options: CallOptions): Promise<UploadedPart> {
    const { uploadId, partNumber } = address;
    if (!Number.isInteger(partNumber) || partNumber < 1 || partNumber > MAX_PARTS) throw new Error('not a part number');
    return this.#runInUpload(options, () =>
      this.#inTurn(`${uploadId}/${partNumber}`, () => this.#writePart(address, body, options)),
    );
  }

  async listParts(key: string, uploadId: string, options: CallOptions): Promise<UploadedPart[]> {
    return this.#runInUpload(options, async () => readParts((await this.#upload(key, uploadId)).directory));
  }

  async completeMultipartUpload(
    key: string,
    uploadId: string,
    parts: UploadedPart[],
    options: CallOptions,
  ): Promise<void> {
    const path = this.#pathOf(key);
    await this.#runInUpload(options, () =>
      this.#inTurn(uploadId, async () => {
        const { directory, partSize, attributes } = await this.#upload(key, uploadId);
        const mark = join(directory, 'completing');
        const data = join(directory, 'data');
        await createEmpty(mark);
        try {
          await this.#partsUnderWay(uploadId);
          const arrived = await readParts(directory);
          const size = sizeOfParts(parts, arrived, partSize);
          await dropPartsAfter(parts.length, arrived, directory);
          await trim(data, size);
          options.signal?.throwIfAborted();
          await this.#commit(data, path, attributes);
        } catch (error) {
          await removeFile(mark);
          throw error;
        }
        await this.#discard(directory);
      }),
    );
  }

  async abortMultipartUpload(key: string, uploadId: string, options: CallOptions): Promise<void> {
    await this.#run(options, async () => {
      const directory = join(this.#multipart, uploadId);
      if (uploadIdPattern.test(uploadId) && (await readUpload(directory))?.key === key) await this.#discard(directory);
      else await this.#requireDisk();
    });
  }

  async listMultipartUploads(key: string, options: CallOptions): Promise<string[]> {
    const found: string[] = [];
    for await (const page of this.allMultipartUploads(key, options))
      for (const upload of page) if (upload.key === key) found.push(upload.uploadId);
    return found;
  }

  async *allMultipartUploads(prefix: string, options: CallOptions): AsyncGenerator<OpenUpload[]> {
    yield await this.#run(options, async () => {
      const found: OpenUpload[] = [];
      for (const uploadId of await readdir(this.#multipart)) {
        if (!uploadIdPattern.test(uploadId)) continue;
        options.signal?.throwIfAborted();
        const directory = join(this.#multipart, uploadId);
        const [upload, facts] = await Promise.all([readUpload(directory), statIfThere(join(directory, 'upload.json'))]);
        if (upload && facts && upload.key.startsWith(prefix))
          found.push({ key: upload.key, uploadId, initiated: facts.mtime });
      }
      return found;
    });
  }

  async *list(prefix: string, options: CallOptions): AsyncGenerator<ListedObject[]> {
    // Keys below a directory have its path as their prefix, so nothing beside it has to be looked at.
    const top = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    const directories = [top];
    for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
      const under = directory;
      yield await this.#run(options, async () => {
        options.signal?.throwIfAborted();
        const found: ListedObject[] = [];
        const entries = await ifThere(readdir(join(this.#objects, under), { withFileTypes: true }));
        if (!entries) await this.#requireDisk();
        for (const entry of entries ?? []) {
          const key = `${under}${entry.name}`;
          if (entry.isDirectory()) {
            if (`${key}/`.startsWith(prefix) || prefix.startsWith(`${key}/`)) directories.push(`${key}/`);
          } else if (key.startsWith(prefix) && !key.endsWith('.json')) {
            const facts = await statIfThere(join(this.#objects, key));
            if (facts) found.push({ key, size: facts.size, lastModified: facts.mtime });
          }
        }
        return found;
      });
    }
  }

  async head(key: string, options: CallOptions): Promise<ObjectHead | undefined> {
    const path = this.#pathOf(key);
    return this.#run(options, async () => {
      const [facts, attributes] = await Promise.all([statIfThere(path), readJson(`${path}.json`, attributesSchema)]);
      if (facts && attributes) return { size: facts.size, lastModified: facts.mtime, ...attributes };
      await this.#requireDisk();
      return undefined;
    });
  }

  async get(key: string, options: CallOptions & { range?: ByteRange }): Promise<ObjectBody | undefined> {
    const path = this.#pathOf(key);
    return this.#run(options, async () => {
      const handle = await openIfThere(path);
      if (!handle) {
        await this.#requireDisk();
        return undefined;
      }
      try {
        const facts = await handle.stat();
        options.signal?.throwIfAborted();
        if (facts.isFile()) return bodyOf(handle, options.range ?? { first: 0, last: facts.size - 1 }, options.signal);
      } catch (error) {
        await handle.close();
        throw error;
      }
      await handle.close();
      return undefined;
    });
  }

  async delete(key: string, options: CallOptions): Promise<void> {
    const path = this.#pathOf(key);
    await this.#run(options, async () => {
      await removeFile(path);
      await removeFile(`${path}.json`);
      await syncDirectory(await this.#removeEmptyParents(path));
      await this.#requireDisk();
    });
  }

  async deleteAll(keys: string[], options: CallOptions): Promise<string[]> {
    const left: string[] = [];
    for (const key of keys) {
      try {
        await this.delete(key, options);
      } catch (error) {
        options.signal?.throwIfAborted();
        if (!(error instanceof ObjectStoreUnavailable)) throw error;
        left.push(key);
      }
    }
    return left;
  }

  async presignGet(
    key: string,
    { expiresIn, contentType, contentDisposition, cacheControl }: LinkOptions,
  ): Promise<string> {
    this.#pathOf(key);
    const expires = Math.floor(this.#now().getTime() / 1000) + expiresIn;
    const content = [key, expires, contentType, contentDisposition, cacheControl];
    const payload = Buffer.from(JSON.stringify(content)).toString('base64url');
    return `${this.#options.publicUrl()}/v1/links/${payload}.${this.#sign(payload)}`;
  }

  /** Reads the token of a link. Never throws, whatever the token is. */
  readLink(token: string): LinkPermission | 'expired' | 'invalid' {
    const content = linkSchema.safeParse(this.#contentOf(token));
    if (!content.success) return 'invalid';
    const [key, expires, contentType, contentDisposition, cacheControl] = content.data;
    const expiresAt = new Date(expires * 1000);
    return expiresAt <= this.#now() ? 'expired' : { key, contentType, contentDisposition, cacheControl, expiresAt };
  }

  async presignUploadPart(
    { key, uploadId, partNumber }: PartAddress,
    { size, expiresIn }: { size: number; expiresIn: number },
  ): Promise<string> {
    this.#pathOf(key);
    const expires = Math.floor(this.#now().getTime() / 1000) + expiresIn;
    const content = [PART_LINK, key, expires, uploadId, partNumber, size];
    const payload = Buffer.from(JSON.stringify(content)).toString('base64url');
    return `${this.#options.publicUrl()}/v1/links/parts/${payload}.${this.#sign(payload)}`;
  }

  async longestLink(): Promise<number> {
    return MAX_LINK;
  }

  /** Reads the token of a link for a part. Never throws, whatever the token is. */
  readPartLink(token: string): PartPermission | 'expired' | 'invalid' {
    const content = partLinkSchema.safeParse(this.#contentOf(token));
    if (!content.success) return 'invalid';
    const [, key, expires, uploadId, partNumber, size] = content.data;
    return new Date(expires * 1000) <= this.#now() ? 'expired' : { key, uploadId, partNumber, size };
  }

  async check(options: CallOptions): Promise<void> {
    const allowed = constants.R_OK | constants.W_OK | constants.X_OK;
    await this.#run(options, async () => {
      for (const directory of [this.#objects, this.#multipart, this.#temporary]) await access(directory, allowed);
    });
  }

  async close(): Promise<void> {}

  async #prepare(): Promise<void> {
    for (const directory of [this.#objects, this.#multipart, this.#temporary])
      await mkdir(directory, { recursive: true });
    await syncDirectory(this.#options.directory);
    await this.#removeLeftovers();
  }

  /** What a crash has left. Other instances may be at work in the same directory. */
  async #removeLeftovers(): Promise<void> {
    const old = this.#now().getTime() - STALE_TEMPORARY;
    for (const name of await readdir(this.#temporary)) {
      const path = join(this.#temporary, name);
      const facts = await statIfThere(path);
      if (facts && facts.mtimeMs < old) await rm(path, { recursive: true, force: true });
    }
    for (const uploadId of await readdir(this.#multipart)) {
      const directory = join(this.#multipart, uploadId);
      // Without its bytes it was completed.
      if (uploadIdPattern.test(uploadId) && !(await statIfThere(join(directory, 'data'))))
        await this.#discard(directory);
    }
  }

  /** Runs one verb. The directories are made once: if they vanish later, a disk is gone, and must not be made up for. */
  async #run<Result>({ signal }: { signal?: AbortSignal | undefined }, work: () => Promise<Result>): Promise<Result> {
    signal?.throwIfAborted();
    try {
      this.#ready ??= this.#prepare().catch((error) => {
        this.#ready = undefined;
        throw error;
      });
      await this.#ready;
      return await work();
    } catch (cause) {
      signal?.throwIfAborted();
      throw diskFaults.has(codeOf(cause) ?? '')
        ? new ObjectStoreUnavailable('the disk cannot be used', { cause })
        : cause;
    }
  }

  /** Runs one verb on an upload: files that vanish meanwhile say that it was completed or aborted. */
  #runInUpload<Result>(options: CallOptions, work: () => Promise<Result>): Promise<Result> {
    return this.#run(options, async () => {
      try {
        return await work();
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error;
        await this.#requireDisk();
        throw new NoSuchUpload('no such upload');
      }
    });
  }

  /** Something is missing only if the disk is there to say so. */
  async #requireDisk(): Promise<void> {
    await access(this.#objects);
  }

  /** One after the other for the same name. */
  async #inTurn<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
    const turn = (this.#turns.get(name) ?? Promise.resolve()).then(work);
    const ended = turn.then(
      () => {},
      () => {},
    );
    this.#turns.set(name, ended);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(name) === ended) this.#turns.delete(name);
    }
  }

  async #partsUnderWay(uploadId: string): Promise<void> {
    await Promise.all([...this.#turns].filter(([name]) => name.startsWith(`${uploadId}/`)).map(([, ended]) => ended));
  }

  async #writePart(address: PartAddress, body: Buffer, { signal }: CallOptions): Promise<UploadedPart> {
    const { key, uploadId, partNumber } = address;
    signal?.throwIfAborted();
    const { directory, partSize } = await this.#upload(key, uploadId);
    if (body.length > partSize) throw new Error(`part ${partNumber} has more than ${partSize} bytes`);
    const record = join(directory, 'parts', `${partNumber}.json`);
    await refuseWhileCompleting(directory);
    // While the bytes change, the part is not there. Only then is the second look one that completion cannot miss.
    await removeFile(record);
    await refuseWhileCompleting(directory);
    await writeAt(join(directory, 'data'), body, (partNumber - 1) * partSize);
    signal?.throwIfAborted();
    const part = { partNumber, etag: `"${randomUUID()}"`, size: body.length };
    await this.#writeJson(record, part);
    return part;
  }

  /** Moves bytes that are synced to their place, after their sidecar. */
  async #commit(bytes: string, path: string, attributes: ObjectAttributes): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await mkdir(dirname(path), { recursive: true });
        await this.#writeJson(`${path}.json`, attributes);
        await rename(bytes, path);
        break;
      } catch (error) {
        // A deletion beside it may have removed the parents while they were empty.
        if (codeOf(error) !== 'ENOENT' || attempt === PLACING_TRIES || !(await statIfThere(bytes))) throw error;
      }
    }
    // All of them: they may be new, and a new directory is an entry of its parent.
    for (let directory = dirname(path); directory !== this.#options.directory; directory = dirname(directory))
      await syncDirectory(directory);
  }

  /** @throws NoSuchUpload */
  async #upload(key: string, uploadId: string): Promise<z.output<typeof uploadSchema> & { directory: string }> {
    const directory = join(this.#multipart, uploadId);
    const upload = uploadIdPattern.test(uploadId) ? await readUpload(directory) : undefined;
    if (upload?.key === key) return { ...upload, directory };
    await this.#requireDisk();
    throw new NoSuchUpload('no such upload');
  }

  /** Ends an upload at once, and removes what is left of it. One that is gone is success. */
  async #discard(directory: string): Promise<void> {
    const temporary = join(this.#temporary, randomUUID());
    try {
      await rename(directory, temporary);
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
      return this.#requireDisk();
    }
    await rm(temporary, { recursive: true, force: true });
  }

  /** A file that is whole or not there. */
  #writeJson(path: string, value: unknown): Promise<void> {
    return this.#stage(Buffer.from(JSON.stringify(value)), (temporary) => rename(temporary, path));
  }

  /** Writes and syncs a temporary file, which `place` moves where it belongs. If it does not, nothing is left. */
  async #stage(body: Buffer, place: (temporary: string) => Promise<void>): Promise<void> {
    const temporary = join(this.#temporary, randomUUID());
    try {
      await createEmpty(temporary);
      await writeAt(temporary, body, 0);
      await place(temporary);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  /** @returns the first parent that stays, because it is not empty or is the root */
  async #removeEmptyParents(path: string): Promise<string> {
    let directory = dirname(path);
    for (; directory !== this.#objects; directory = dirname(directory)) {
      try {
        await rmdir(directory);
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') break;
      }
    }
    return directory;
  }

  /** @throws for keys that are not ours: they could lead out of the directory, or be taken for a sidecar */
  #pathOf(key: string): string {
    const segments = key.length <= MAX_KEY ? key.split('/') : [];
    const isSafe = (segment: string) =>
      /^[A-Za-z0-9_~.-]{1,240}$/.test(segment) && !/^\.+$/.test(segment) && !segment.endsWith('.json');
    if (segments.length === 0 || !segments.every(isSafe)) throw new Error('not an object key');
    return join(this.#objects, ...segments);
  }

  /** What a token of ours says; undefined for any other. */
  #contentOf(token: string): unknown {
    if (token.length > MAX_TOKEN) return undefined;
    const [payload = '', signature = '', ...rest] = token.split('.');
    const [given, expected] = [Buffer.from(signature), Buffer.from(this.#sign(payload))];
    if (rest.length > 0 || given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
    return parseJson(Buffer.from(payload, 'base64url').toString());
  }

  #sign(payload: string): string {
    return createHmac('sha256', this.#options.linkSecret).update(`stowage link 1\n${payload}`).digest('base64url');
  }

  #now(): Date {
    return this.#options.now?.() ?? new Date();
  }
}

/** Bytes of an open file, which is closed when they end or nobody wants more. A file that is too short is an error. */
class FileBytes extends Readable {
  readonly #handle: FileHandle;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.destroy(toError(this.#signal?.reason));
  #position: number;
  #left: number;

  constructor(handle: FileHandle, { first, last }: ByteRange, signal: AbortSignal | undefined) {
    super({ highWaterMark: READ_CHUNK });
    this.#handle = handle;
    this.#signal = signal;
    this.#position = first;
    this.#left = last - first + 1;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    // An abort may come before anybody listens, and must not end the process.
    this.on('error', () => {});
  }

  override _read(): void {
    if (this.#left === 0) {
      this.push(null);
      return;
    }
    const buffer = Buffer.allocUnsafeSlow(Math.min(READ_CHUNK, this.#left));
    this.#handle.read(buffer, 0, buffer.length, this.#position).then(
      ({ bytesRead }) => this.#give(buffer.subarray(0, bytesRead)),
      (cause) => this.destroy(new ObjectStoreUnavailable('the object cannot be read', { cause })),
    );
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    // Waits for a read under way.
    this.#handle.close().then(
      () => done(error),
      (cause) => done(error ?? toError(cause)),
    );
  }

  #give(bytes: Buffer): void {
    if (bytes.length === 0) {
      this.destroy(new ObjectStoreUnavailable('the object ended early'));
      return;
    }
    this.#position += bytes.length;
    this.#left -= bytes.length;
    this.push(bytes);
  }
}

function bodyOf(handle: FileHandle, range: ByteRange, signal: AbortSignal | undefined): ObjectBody {
  return { stream: new FileBytes(handle, range, signal), length: range.last - range.first + 1 };
}

/**
 * Bytes of the object that the named parts make.
 * @throws when one is not the part that arrived, leaves a gap, or is short without being the last
 */
function sizeOfParts(named: UploadedPart[], arrived: UploadedPart[], partSize: number): number {
  if (named.length === 0) throw new Error('an object has at least one part');
  const byNumber = new Map(arrived.map((part) => [part.partNumber, part]));
  let size = 0;
  for (const [index, { partNumber, etag }] of named.entries()) {
    const part = byNumber.get(partNumber);
    const isLast = index === named.length - 1;
    if (partNumber !== index + 1 || part?.etag !== etag || (!isLast && part.size !== partSize)) {
      throw new Error(`part ${partNumber} is not the one that arrived, or leaves a gap`);
    }
    size += part.size;
  }
  return size;
}

/** Parts whose bytes are about to be cut off must not be found by a second try at completion. */
async function dropPartsAfter(last: number, arrived: UploadedPart[], directory: string): Promise<void> {
  for (const { partNumber } of arrived) {
    if (partNumber > last) await removeFile(join(directory, 'parts', `${partNumber}.json`));
  }
}

/** Cuts off what is behind the last part, and syncs. */
async function trim(path: string, size: number): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    const found = (await handle.stat()).size;
    if (found < size) throw new Error('bytes of a part that had arrived are missing');
    if (found > size) await handle.truncate(size);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function refuseWhileCompleting(directory: string): Promise<void> {
  if (await statIfThere(join(directory, 'completing')))
    throw new ObjectStoreUnavailable('the upload is being completed');
}

/** The parts that have arrived, in order. */
async function readParts(directory: string): Promise<UploadedPart[]> {
  const parts: UploadedPart[] = [];
  for (const name of await readdir(join(directory, 'parts'))) {
    const part = await readJson(join(directory, 'parts', name), partSchema);
    if (part) parts.push(part);
  }
  return parts.sort((one, other) => one.partNumber - other.partNumber);
}

/** The upload, if it has its bytes: they leave when it is completed, also if a crash keeps the rest. */
async function readUpload(directory: string): Promise<z.output<typeof uploadSchema> | undefined> {
  const upload = await readJson(join(directory, 'upload.json'), uploadSchema);
  return (await statIfThere(join(directory, 'data'))) && upload;
}

async function createEmpty(path: string): Promise<void> {
  await (await open(path, 'w')).close();
}

/** Writes into a file that is there, and syncs: what is recorded as written must outlive a loss of power. */
async function writeAt(path: string, body: Buffer, position: number): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    // One write may take less than it was given.
    for (let done = 0; done < body.length; ) {
      done += (await handle.write(body, done, body.length - done, position + done)).bytesWritten;
    }
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await openIfThere(directory);
  try {
    await handle?.sync();
  } catch (error) {
    // Some file systems cannot sync a directory, and say so.
    if (codeOf(error) !== 'EINVAL') throw error;
  } finally {
    await handle?.close();
  }
}

/** A file that is gone is success; a directory is no file of ours. */
async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'EISDIR') throw error;
  }
}

function openIfThere(path: string): Promise<FileHandle | undefined> {
  return ifThere(open(path, 'r'));
}

function statIfThere(path: string) {
  return ifThere(stat(path));
}

async function readJson<Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.output<Schema> | undefined> {
  const text = await ifThere(readFile(path, 'utf8'));
  return text === undefined ? undefined : schema.parse(JSON.parse(text));
}

async function ifThere<Result>(looking: Promise<Result>): Promise<Result | undefined> {
  try {
    return await looking;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
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

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

function toError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
