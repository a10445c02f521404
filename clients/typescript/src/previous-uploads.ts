/**
 * What is remembered of an upload while it runs, so that it goes on after a reload of the page: which upload on the server
 * belongs to which file. Kept under a fingerprint of the file and of where it goes, until it has succeeded, was refused or
 * cancelled, or has expired.
 */
import type { UploadMethod } from './upload.ts';

/** A part of the Web Storage interface; the functions may also be asynchronous. */
export interface UploadStorage {
  getItem(key: string): string | null | Promise<string | null>;
  setItem(key: string, value: string): void | Promise<void>;
  removeItem(key: string): void | Promise<void>;
  /** Names of all entries; those of others are passed over. */
  keys(): string[] | Promise<string[]>;
}

/** An upload that has begun and not ended. */
export interface PreviousUpload {
  /** Its name in the storage. */
  key: string;
  method: UploadMethod;
  baseUrl: string;
  fileName: string;
  /** Bytes. */
  size: number;
  /** Name of its first request; sent again, that has no further effect. */
  idempotencyKey: string;
  /** Absent until the server has named it. */
  uploadId?: string;
  /** Of an encrypted file: its name for the server, and what its ciphertext begins with, in base64. No key is kept. */
  sealed?: { name: string; prefix: string };
  startedAt: string;
  /** After this the server has forgotten it. */
  expiresAt: string;
}

/** What distinguishes one upload from another. */
export interface UploadIdentity {
  baseUrl: string;
  fileName: string;
  type: string;
  projectId?: string | undefined;
  assetType?: string | undefined;
  metadata?: Record<string, string> | undefined;
  isEncrypted?: boolean;
}

const PREFIX = 'stowage:upload:';
/** Bytes at either end of the file that are part of its fingerprint. */
const SAMPLE = 64 * 1024;

/** `localStorage`, where there is one that may be used. */
export function defaultStorage(): UploadStorage | undefined {
  try {
    const { localStorage } = globalThis;
    // Node warns of one that has no file, and has no `length` then.
    if (!('document' in globalThis) || !localStorage) return undefined;
    return {
      getItem: (key) => localStorage.getItem(key),
      setItem: (key, value) => localStorage.setItem(key, value),
      removeItem: (key) => localStorage.removeItem(key),
      keys: () => Object.keys(localStorage),
    };
  } catch {
    return undefined;
  }
}

/**
 * Uploads that have begun here and not ended, the newest first. Give the file of one to `upload` with the same options, and
 * it goes on. Those that have expired are removed.
 */
export async function findPreviousUploads(
  storage: UploadStorage | undefined = defaultStorage(),
): Promise<PreviousUpload[]> {
  if (!storage) return [];
  const memory = new UploadMemory(storage);
  const keys = (await storage.keys()).filter((key) => key.startsWith(PREFIX));
  const found = await Promise.all(keys.map((key) => memory.recall(key)));
  return found
    .filter((upload) => upload !== undefined)
    .sort((one, other) => other.startedAt.localeCompare(one.startedAt));
}

/** Forgets one that nobody will go on with. The server ends it when it expires, or at once by `cancelUpload`. */
export function forgetPreviousUpload(
  { key }: PreviousUpload,
  storage: UploadStorage | undefined = defaultStorage(),
): Promise<void> {
  return new UploadMemory(storage).forget(key);
}

/** The entries of a storage. A storage that fails costs the memory, never the upload. */
export class UploadMemory {
  readonly #storage: UploadStorage | undefined;

  constructor(storage: UploadStorage | undefined) {
    this.#storage = storage;
  }

  async recall(key: string): Promise<PreviousUpload | undefined> {
    try {
      const text = await this.#storage?.getItem(key);
      if (text == null) return undefined;
      const upload = parse(key, text);
      if (upload && Date.parse(upload.expiresAt) > Date.now()) return upload;
    } catch {
      return undefined;
    }
    await this.forget(key);
    return undefined;
  }

  async keep({ key, ...upload }: PreviousUpload): Promise<void> {
    try {
      await this.#storage?.setItem(key, JSON.stringify(upload));
    } catch {
      // Full, or forbidden.
    }
  }

  async forget(key: string): Promise<void> {
    try {
      await this.#storage?.removeItem(key);
    } catch {
      // It expires.
    }
  }
}

function parse(key: string, text: string): PreviousUpload | undefined {
  const value: Record<string, unknown> = Object(JSON.parse(text));
  const { method, baseUrl, fileName, size, idempotencyKey, uploadId, sealed, startedAt, expiresAt } = value;
  if (method !== 'form' && method !== 'direct' && method !== 'resumable') return undefined;
  if (typeof size !== 'number' || !(uploadId === undefined || typeof uploadId === 'string')) return undefined;
  if (typeof baseUrl !== 'string' || typeof fileName !== 'string' || typeof idempotencyKey !== 'string')
    return undefined;
  if (typeof startedAt !== 'string' || typeof expiresAt !== 'string') return undefined;
  const upload: PreviousUpload = { key, method, baseUrl, fileName, size, idempotencyKey, startedAt, expiresAt };
  const named = uploadId === undefined ? upload : { ...upload, uploadId };
  const { name, prefix }: { name?: unknown; prefix?: unknown } = Object(sealed);
  return typeof name === 'string' && typeof prefix === 'string' ? { ...named, sealed: { name, prefix } } : named;
}

/**
 * The name of an upload in the storage. Two files with the same name, size and time are told apart by their first and last
 * bytes, where there is SubtleCrypto to digest them: on pages of HTTPS and localhost.
 */
export async function fingerprint(file: Blob, identity: UploadIdentity): Promise<string> {
  const lastModified = 'lastModified' in file ? file.lastModified : undefined;
  const ends = [file.slice(0, SAMPLE), file.slice(Math.max(0, file.size - SAMPLE))];
  const described = JSON.stringify({ ...identity, size: file.size, lastModified });
  const digest = await digestOf(new Blob([described, ...ends]));
  return PREFIX + (digest ?? described);
}

async function digestOf(bytes: Blob): Promise<string | undefined> {
  if (typeof crypto === 'undefined' || !crypto.subtle) return undefined;
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', await bytes.arrayBuffer()));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

const busy = new Set<string>();

/**
 * Runs `work` as the only one with this key, in all tabs of the browser; told by its argument when another has the key.
 * Two that sent the same upload would take it from each other for ever.
 */
export async function withKey<Result>(key: string, work: (isAlone: boolean) => Promise<Result>): Promise<Result> {
  if (busy.has(key)) return work(false);
  busy.add(key);
  try {
    const locks = typeof navigator === 'undefined' ? undefined : navigator.locks;
    if (!locks) return await work(true);
    // The type says that the result may be any; the callback's own promise is what comes back.
    return await locks.request(key, { ifAvailable: true }, (lock) => work(lock !== null));
  } finally {
    busy.delete(key);
  }
}
