/** Objects in parts, below multipart/<upload id>/; disk-object-store.ts tells the scheme, and what it guards against. */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  type CallOptions,
  MAX_PARTS,
  NoSuchUpload,
  type ObjectAttributes,
  type OpenUpload,
  type PartAddress,
  PartsChanged,
  UploadCompleting,
  type UploadedPart,
} from '../object-store.ts';
import { attributesSchema, type Disk, isUploadId } from './disk.ts';
import { codeOf, createEmpty, DIRECTORY_MODE, readJson, removeFile, statIfThere, trim, writeAt } from './files.ts';

const uploadSchema = z.object({ key: z.string(), partSize: z.number().int().positive(), attributes: attributesSchema });
const partSchema = z.object({
  partNumber: z.number().int().positive(),
  etag: z.string(),
  size: z.number().int().nonnegative(),
});

/** The verbs of the port for objects in parts. */
export class DiskMultipart {
  readonly #disk: Disk;
  /** What is under way in this process, by name; each promise ends with the last in line, and never rejects. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  async create(
    key: string,
    attributes: ObjectAttributes,
    { partSize, signal }: CallOptions & { partSize: number },
  ): Promise<string> {
    this.#disk.pathOf(key);
    const uploadId = randomUUID();
    const staged = join(this.#disk.temporary, uploadId);
    await this.#disk.run({ signal }, async () => {
      try {
        await mkdir(staged, { mode: DIRECTORY_MODE });
        await mkdir(join(staged, 'parts'), { mode: DIRECTORY_MODE });
        await createEmpty(join(staged, 'data'));
        await this.#disk.writeJson(join(staged, 'upload.json'), { key, partSize, attributes });
        signal?.throwIfAborted();
        await rename(staged, join(this.#disk.multipart, uploadId));
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

  async complete(key: string, uploadId: string, parts: UploadedPart[], options: CallOptions): Promise<void> {
    const path = this.#disk.pathOf(key);
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
          await this.#disk.commit(data, path, attributes);
        } catch (error) {
          await removeFile(mark);
          throw error;
        }
        await this.#disk.discard(directory);
      }),
    );
  }

  async abort(key: string, uploadId: string, options: CallOptions): Promise<void> {
    await this.#disk.run(options, async () => {
      const directory = join(this.#disk.multipart, uploadId);
      if (isUploadId(uploadId) && (await readUpload(directory))?.key === key) await this.#disk.discard(directory);
      else await this.#disk.requirePresence();
    });
  }

  async list(key: string, options: CallOptions): Promise<string[]> {
    const found: string[] = [];
    for await (const page of this.all(key, options))
      for (const upload of page) if (upload.key === key) found.push(upload.uploadId);
    return found;
  }

  async *all(prefix: string, options: CallOptions): AsyncGenerator<OpenUpload[]> {
    yield await this.#disk.run(options, async () => {
      const found: OpenUpload[] = [];
      for (const uploadId of await readdir(this.#disk.multipart)) {
        if (!isUploadId(uploadId)) continue;
        options.signal?.throwIfAborted();
        const directory = join(this.#disk.multipart, uploadId);
        const [upload, facts] = await Promise.all([readUpload(directory), statIfThere(join(directory, 'upload.json'))]);
        if (upload && facts && upload.key.startsWith(prefix))
          found.push({ key: upload.key, uploadId, initiated: facts.mtime });
      }
      return found;
    });
  }

  /** Runs one verb on an upload: files that vanish meanwhile say that it was completed or aborted. */
  #runInUpload<Result>(options: CallOptions, work: () => Promise<Result>): Promise<Result> {
    return this.#disk.run(options, async () => {
      try {
        return await work();
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error;
        await this.#disk.requirePresence();
        throw new NoSuchUpload('no such upload');
      }
    });
  }

  /** @throws NoSuchUpload */
  async #upload(key: string, uploadId: string): Promise<z.output<typeof uploadSchema> & { directory: string }> {
    const directory = join(this.#disk.multipart, uploadId);
    const upload = isUploadId(uploadId) ? await readUpload(directory) : undefined;
    if (upload?.key === key) return { ...upload, directory };
    await this.#disk.requirePresence();
    throw new NoSuchUpload('no such upload');
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
    const before = await readJson(record, partSchema);
    await removeFile(record);
    try {
      await refuseWhileCompleting(directory);
    } catch (error) {
      // Its bytes are as they were.
      if (before) await this.#disk.writeJson(record, before);
      throw error;
    }
    await writeAt(join(directory, 'data'), body, (partNumber - 1) * partSize);
    signal?.throwIfAborted();
    const part = { partNumber, etag: `"${randomUUID()}"`, size: body.length };
    await this.#disk.writeJson(record, part);
    return part;
  }
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
      throw new PartsChanged(`part ${partNumber} is not the one that arrived, or leaves a gap`);
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

async function refuseWhileCompleting(directory: string): Promise<void> {
  if (await statIfThere(join(directory, 'completing'))) throw new UploadCompleting('the upload is being completed');
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
