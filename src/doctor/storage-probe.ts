/**
 * What "test connection" means for a store: everything that the service does with it is done once, under a folder of its own,
 * step by step. A step that is refused names the permission that is missing; those after it are done all the same, where
 * they can be. In the end nothing is left, or it is said that something is; the reconciler removes that later.
 */
import { createHash, randomBytes } from 'node:crypto';
import { MIN_PART } from '../config.ts';
import { type ObjectAttributes, type ObjectStore, refusalIn } from '../storage/object-store.ts';
import { probeFolder } from '../storage/probe-keys.ts';

/** Milliseconds for all steps, and for tidying up after them. */
const LIMIT = 30_000;
const TIDY_LIMIT = 15_000;
/** Bytes of the object that is written in one request. */
const SMALL = 1000;

const attributes: ObjectAttributes = {
  contentType: 'application/octet-stream',
  contentDisposition: 'attachment; filename="storage-test.bin"',
  cacheControl: 'no-store',
  metadata: { 'made-by': 'storage-test' },
};

/** In the order in which they are done. */
export const probeSteps = [
  'list-buckets',
  'list',
  'write',
  'read',
  'range',
  'multipart',
  'list-parts',
  'list-uploads',
  'abort',
  'delete',
] as const;
export type ProbeStepName = (typeof probeSteps)[number];

/** What S3 calls the permission for each (Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3"). */
const permissions: Record<ProbeStepName, string> = {
  'list-buckets': 's3:ListAllMyBuckets',
  list: 's3:ListBucket',
  write: 's3:PutObject',
  read: 's3:GetObject',
  range: 's3:GetObject',
  multipart: 's3:PutObject',
  'list-parts': 's3:ListMultipartUploadParts',
  'list-uploads': 's3:ListBucketMultipartUploads',
  abort: 's3:AbortMultipartUpload',
  delete: 's3:DeleteObject',
};

export interface ProbeStep {
  name: ProbeStepName;
  outcome: 'ok' | 'failed' | 'skipped';
  /** Which permission is missing, where it is one. */
  permission?: string;
  /** What was found, and what to do, in words of ours. */
  detail: string;
}

export interface ProbeResult {
  steps: ProbeStep[];
  /** Objects and unfinished uploads that could not be removed. */
  leftBehind: number;
}

/** @param prefix of all keys of the store. @param signal ends it early; what was made is removed all the same */
export function probeStorage(store: ObjectStore, prefix: string, signal: AbortSignal): Promise<ProbeResult> {
  return new StorageProbe(store, prefix, signal).run();
}

/** Why a step cannot be done. */
class Skipped extends Error {
  override name = 'Skipped';
}

/** What is wrong, in words of ours. */
class Finding extends Error {
  override name = 'Finding';
}

class StorageProbe {
  readonly #store: ObjectStore;
  readonly #signal: AbortSignal;
  readonly #keys: { small: string; parts: string; aborted: string };
  readonly #steps: ProbeStep[] = [];
  readonly #body = randomBytes(SMALL);
  /** Keys under which an object may be. */
  readonly #objects = new Set<string>();
  /** Unfinished uploads that are known. */
  readonly #uploads = new Map<string, string>();
  /** Keys under which an upload may have been begun of which nobody was told. */
  readonly #doubtful = new Set<string>();

  constructor(store: ObjectStore, prefix: string, signal: AbortSignal) {
    const folder = probeFolder(prefix, 'storage-tests');
    this.#store = store;
    this.#signal = AbortSignal.any([signal, AbortSignal.timeout(LIMIT)]);
    this.#keys = { small: `${folder}/small`, parts: `${folder}/parts`, aborted: `${folder}/aborted` };
  }

  async run(): Promise<ProbeResult> {
    const does: Record<ProbeStepName, () => Promise<string>> = {
      'list-buckets': () => this.#listBuckets(),
      list: () => this.#list(),
      write: () => this.#write(),
      read: () => this.#read(),
      range: () => this.#range(),
      multipart: () => this.#sendParts(),
      'list-parts': () => this.#listParts(),
      'list-uploads': () => this.#listUploads(),
      abort: () => this.#abort(),
      delete: () => this.#delete(),
    };
    for (const name of probeSteps) this.#steps.push(await this.#step(name, does[name]));
    return { steps: this.#steps, leftBehind: await this.#tidyUp() };
  }

  async #step(name: ProbeStepName, run: () => Promise<string>): Promise<ProbeStep> {
    if (this.#signal.aborted) return { name, outcome: 'skipped', detail: 'there was no time left' };
    try {
      return { name, outcome: 'ok', detail: await run() };
    } catch (error) {
      if (error instanceof Skipped) return { name, outcome: 'skipped', detail: error.message };
      return { name, outcome: 'failed', ...this.#faultOf(name, error) };
    }
  }

  #faultOf(name: ProbeStepName, error: unknown): Pick<ProbeStep, 'permission' | 'detail'> {
    if (this.#signal.aborted) return { detail: `there was no answer within ${LIMIT / 1000} seconds` };
    if (error instanceof Finding) return { detail: error.message };
    const refusal = refusalIn(error);
    if (!refusal) return { detail: `the store does not answer (${codeOf(error)})` };
    if (!refusal.isDenied) return { detail: refusal.advice };
    const permission = permissions[name];
    const detail = `the credentials do not allow ${permission}: allow it in their policy, or take away what denies it; npm run setup-bucket prints the policy that the service needs`;
    return { permission, detail };
  }

  get #options() {
    return { signal: this.#signal };
  }

  #has(name: ProbeStepName): boolean {
    return this.#steps.some((step) => step.name === name && step.outcome === 'ok');
  }

  /** @throws Skipped */
  #needs(name: ProbeStepName): void {
    if (!this.#has(name)) throw new Skipped(`first see to: ${name}`);
  }

  async #listBuckets(): Promise<string> {
    const isListed = await this.#store.isListed?.(this.#options);
    if (isListed === undefined)
      throw new Skipped(
        this.#store.isListed ? 'the credentials may not list buckets, and need not' : 'there are no buckets',
      );
    if (isListed) return 'the bucket is among those of the credentials';
    throw new Skipped('the bucket is not among those of the credentials; it may belong to somebody else');
  }

  async #list(): Promise<string> {
    for await (const _page of this.#store.list(this.#keys.small, this.#options)) break;
    return 'objects are listed';
  }

  async #write(): Promise<string> {
    const { small } = this.#keys;
    this.#objects.add(small);
    const sha256 = createHash('sha256').update(this.#body).digest();
    await this.#store.put(small, this.#body, attributes, { ...this.#options, sha256 });
    return 'an object is written';
  }

  async #read(): Promise<string> {
    this.#needs('write');
    const head = await this.#store.head(this.#keys.small, this.#options);
    if (head?.size !== SMALL) throw new Finding('an object that was just written is not there, or of another size');
    if (!(await this.#bytes()).equals(this.#body)) throw new Finding('the bytes that come back are others');
    return 'it comes back as it was';
  }

  async #range(): Promise<string> {
    this.#needs('write');
    const range = { first: 10, last: 19 };
    if (!(await this.#bytes(range)).equals(this.#body.subarray(range.first, range.last + 1)))
      throw new Finding('a range of bytes is not the one that was asked for');
    return 'so do ranges of it';
  }

  async #bytes(range?: { first: number; last: number }): Promise<Buffer> {
    const body = await this.#store.get(this.#keys.small, { ...this.#options, ...(range && { range }) });
    if (!body) throw new Finding('an object that was just written cannot be read');
    return Buffer.concat(await body.stream.toArray(this.#options));
  }

  /** Its parts are made an object. */
  async #sendParts(): Promise<string> {
    const key = this.#keys.parts;
    const uploadId = await this.#begin(key);
    const bodies = [Buffer.alloc(MIN_PART, 1), this.#body];
    const sent = [];
    for (const [index, body] of bodies.entries())
      sent.push(await this.#store.uploadPart({ key, uploadId, partNumber: index + 1 }, body, this.#options));
    this.#objects.add(key);
    await this.#store.completeMultipartUpload(key, uploadId, sent, this.#options);
    this.#uploads.delete(key);
    return 'an object is made of parts';
  }

  async #begin(key: string): Promise<string> {
    this.#doubtful.add(key);
    let isOnly = true;
    const onDoubt = () => {
      isOnly = false;
    };
    const options = { ...this.#options, partSize: MIN_PART, onDoubt };
    const uploadId = await this.#store.createMultipartUpload(key, attributes, options);
    this.#uploads.set(key, uploadId);
    if (isOnly) this.#doubtful.delete(key);
    return uploadId;
  }

  /** Of an upload that is not completed. */
  async #listParts(): Promise<string> {
    this.#needs('multipart');
    const key = this.#keys.aborted;
    const uploadId = await this.#begin(key);
    await this.#store.uploadPart({ key, uploadId, partNumber: 1 }, this.#body, this.#options);
    const parts = await this.#store.listParts(key, uploadId, this.#options);
    if (parts.length !== 1 || parts[0]?.size !== SMALL) throw new Finding('a part that was just sent is not listed');
    return 'parts of an unfinished upload are listed';
  }

  async #listUploads(): Promise<string> {
    const key = this.#keys.aborted;
    const uploadId = this.#uploads.get(key);
    const open = await this.#store.listMultipartUploads(key, this.#options);
    if (uploadId !== undefined && !open.includes(uploadId)) throw new Finding('an unfinished upload is not listed');
    return 'unfinished uploads are listed';
  }

  async #abort(): Promise<string> {
    const key = this.#keys.aborted;
    const uploadId = this.#uploads.get(key);
    if (uploadId === undefined) throw new Skipped('first see to: multipart');
    await this.#store.abortMultipartUpload(key, uploadId, this.#options);
    this.#uploads.delete(key);
    return 'an unfinished upload is ended';
  }

  async #delete(): Promise<string> {
    const keys = [...this.#objects];
    if (!this.#has('write') && !this.#has('multipart')) throw new Skipped('first see to: write');
    for (const key of keys) await this.#store.delete(key, this.#options);
    for (const key of this.#has('read') ? keys : [])
      if (await this.#store.head(key, this.#options))
        throw new Finding('an object that was just deleted is still there');
    return 'objects are deleted';
  }

  /** Also when the steps were broken off, and once more of what was removed. @returns how many could not be */
  async #tidyUp(): Promise<number> {
    const options = { signal: AbortSignal.timeout(TIDY_LIMIT) };
    const outcomes = await Promise.allSettled([
      ...[...this.#uploads].map(([key, uploadId]) => this.#store.abortMultipartUpload(key, uploadId, options)),
      ...[...this.#doubtful].map((key) => this.#abortAll(key, options)),
    ]);
    // Afterwards: an upload that was completed without an answer is an object by now.
    outcomes.push(...(await Promise.allSettled([...this.#objects].map((key) => this.#store.delete(key, options)))));
    return outcomes.filter(({ status }) => status === 'rejected').length;
  }

  async #abortAll(key: string, options: { signal: AbortSignal }): Promise<void> {
    for (const uploadId of await this.#store.listMultipartUploads(key, options))
      await this.#store.abortMultipartUpload(key, uploadId, options);
  }
}

/** A word such as ECONNREFUSED; the message of a fault may name what nobody should read. */
function codeOf(error: unknown): string {
  for (let each = error; each instanceof Error; each = each.cause) {
    const code = 'code' in each ? each.code : undefined;
    if (typeof code === 'string' && /^[A-Z][A-Z_]+$/.test(code)) return code;
    if (each.cause === undefined) return each.name;
  }
  return 'unknown fault';
}
