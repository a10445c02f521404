/** The part of clients/typescript that encrypts, and its second implementation in Python. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { AssetDocument } from '../../src/assets/asset.ts';
import { programPath } from './programs.ts';

export interface Keys {
  passphrase?: string;
  recipients?: string[];
  identities?: string[];
  key?: Uint8Array;
  workFactor?: number;
}
export interface DecryptedFile {
  name: string;
  type: string;
  size: number;
  key: Uint8Array;
  stream(range?: { start?: number; end?: number }): ReadableStream<Uint8Array>;
  bytes(range?: { start?: number; end?: number }): Promise<Uint8Array>;
}
export interface EncryptedUploadOptions extends Keys {
  baseUrl: string;
  headers?: Record<string, string>;
  method?: 'form' | 'direct' | 'resumable';
  assetType?: string;
  projectId?: string;
  fileName?: string;
  contentType?: string;
  storage?: object;
  backoff?: { first?: number };
  smallUpTo?: number;
  parallel?: number;
  signal?: AbortSignal;
  keepWhenAborted?: boolean;
  onProgress?: (sent: number, total: number) => void;
}
interface EncryptionPackage {
  generateIdentity(): Promise<string>;
  identityToRecipient(identity: string): Promise<string>;
  encrypt(file: Blob, described: { name: string; type: string }, keys: Keys): Promise<Blob>;
  decrypt(file: Blob, keys: Keys): Promise<DecryptedFile>;
  uploadEncrypted(file: Blob, options: EncryptedUploadOptions): Promise<AssetDocument>;
  downloadEncrypted(
    asset: string | URL,
    options: Keys & {
      baseUrl?: string;
      headers?: Record<string, string>;
      stallTimeout?: number;
      patience?: number;
      backoff?: { first?: number };
    },
  ): Promise<DecryptedFile>;
  DecryptionFailed: new () => Error & { fault: string };
  FileChanged: new () => Error;
}
export interface Source {
  size: number;
  prefix: Uint8Array;
  read(from: number, to: number): Promise<Blob>;
}
interface SourcePackage {
  EncryptedSource: {
    begin(file: Blob, described: { name: string; type: string }, keys: Keys): Promise<Source>;
    again(file: Blob, prefix: Uint8Array, keys: Keys): Promise<Source | undefined>;
  };
}
interface MessagePackage {
  Message: {
    derive(key: Uint8Array, salt: Uint8Array, context: Uint8Array): Promise<Message>;
    open(key: Uint8Array, header: Uint8Array, context: Uint8Array): Promise<Message>;
  };
  ciphertextSize(plaintext: number): number;
  plaintextSize(ciphertext: number): number | undefined;
}
interface Message {
  header: Uint8Array;
  seal(first: number, plaintext: Uint8Array, endsMessage: boolean): Promise<Uint8Array>;
  unseal(first: number, sealed: Uint8Array): Promise<Uint8Array>;
}

/** By their paths: the package has compiler options of its own. */
const folder = '../../clients/typescript/src/encryption';
export const encryption: EncryptionPackage = await import(`${folder}/index.ts`);
export const { EncryptedSource }: SourcePackage = await import(`${folder}/encrypted-source.ts`);
export const cobblestone: MessagePackage = await import(`${folder}/cobblestone.ts`);

/** As both implementations make it. */
export function pattern(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) bytes[index] = 31 * index + (index >> 8);
  return bytes;
}

export function vectors<Vectors>(name: 'cobblestone-256' | 'encrypted-files'): Vectors {
  return JSON.parse(readFileSync(new URL(`../../clients/typescript/vectors/${name}.json`, import.meta.url), 'utf8'));
}

const program = fileURLToPath(new URL('encrypted_file.py', import.meta.url));

/** @returns what encrypted_file.py tells of each job */
export function inPython<Result>(command: 'read' | 'write' | 'check', jobs: object): Result[] {
  const { status, stdout, stderr } = spawnSync(programPath('python3'), [program, command], {
    input: JSON.stringify(jobs),
    encoding: 'utf8',
    timeout: 60_000,
  });
  if (status !== 0) throw new Error(`encrypted_file.py: ${stderr}`);
  return JSON.parse(stdout);
}
