/**
 * Receipts of erasures: what was deleted, when, from which stores, and what remains where and until when. A receipt names
 * nobody: its subject is the pseudonym, which the service makes again of the name for whoever asks by it.
 *
 * It is signed by Ed25519 (RFC 8032) over the bytes of its member `receipt`, written without spaces. The key is derived from
 * a secret that all instances share; `GET /v1/receipt-keys` has its public half. See docs/durability.md for how to verify it.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { z } from 'zod';
import type { Executor } from '../database/client.ts';
import { readSigningKeys } from '../database/secrets.ts';
import type { ErasureCounts } from '../database/tables/erasures.ts';

const WHAT = 'receipts';
/** RFC 8410 section 7: what comes before the 32 bytes of an Ed25519 private key in PKCS #8. */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');

/** Something of the owner, or about him, that is still somewhere. */
export interface Remainder {
  what: string;
  where: string;
  why: string;
  /** When it will be gone; absent where the service does not know. */
  until?: string;
  count?: number;
  /** Assets that are held, each with why: the names of the holds with their reasons. */
  assets?: { id: string; holds: Record<string, string>; retainUntil?: string }[];
}

export interface StoreReport {
  name: string;
  kind: 's3' | 'disk';
  /** Whether it keeps older versions of objects. */
  keepsVersions: 'no' | 'yes' | 'unknown';
  /** Folders that were listed when all was deleted, and in which there is nothing. */
  foldersEmpty: number;
}

export interface Receipt {
  format: 'stowage-erasure-receipt/1';
  id: string;
  subject: string;
  projectAssets: string;
  requestedAt: string;
  finishedAt: string;
  /** How many rows, objects and bytes, by what they were of. */
  deleted: ErasureCounts;
  stores: StoreReport[];
  remains: Remainder[];
}

const signedReceipt = z.object({
  receipt: z.record(z.string(), z.unknown()),
  signature: z.object({ algorithm: z.literal('Ed25519'), keyId: z.string(), value: z.string() }),
});

export interface ReceiptKey {
  keyId: string;
  algorithm: 'Ed25519';
  /** PEM, SubjectPublicKeyInfo. */
  publicKey: string;
}

interface Pair {
  key: ReceiptKey;
  secret: KeyObject;
}

/** @returns newest first */
async function pairsOf(executor: Executor): Promise<Pair[]> {
  const keys = await readSigningKeys(executor, WHAT);
  return keys.map(({ value }) => {
    const secret = createPrivateKey({ key: Buffer.concat([PKCS8, value]), format: 'der', type: 'pkcs8' });
    const open = createPublicKey(secret);
    const keyId = createHash('sha256')
      .update(open.export({ format: 'der', type: 'spki' }))
      .digest('hex')
      .slice(0, 16);
    return {
      secret,
      key: { keyId, algorithm: 'Ed25519', publicKey: String(open.export({ format: 'pem', type: 'spki' })) },
    };
  });
}

/** The public keys of receipts, the one that signs first. */
export async function receiptKeys(executor: Executor): Promise<ReceiptKey[]> {
  return (await pairsOf(executor)).map(({ key }) => key);
}

/** @returns the text of the signed receipt, which is kept and sent as it is */
export async function signReceipt(executor: Executor, receipt: Receipt): Promise<string> {
  const [pair] = await pairsOf(executor);
  if (!pair) throw new Error('there is no key that signs receipts');
  const text = JSON.stringify(receipt);
  const value = sign(null, Buffer.from(text), pair.secret).toString('base64');
  const signature = JSON.stringify({ algorithm: 'Ed25519', keyId: pair.key.keyId, value });
  return `{"receipt":${text},"signature":${signature}}\n`;
}

/**
 * Whether one of these keys has signed it, and nobody has changed it.
 * @param text of a file
 * @returns why not
 */
export function faultOfReceipt(text: string, keys: readonly ReceiptKey[]): string | undefined {
  const parsed = signedReceipt.safeParse(asJson(text));
  if (!parsed.success) return 'it is not a signed receipt';
  const { receipt, signature } = parsed.data;
  const key = keys.find(({ keyId }) => keyId === signature.keyId);
  if (!key) return `the key ${signature.keyId} is not known`;
  const signed = Buffer.from(JSON.stringify(receipt));
  const isSound = verify(null, signed, createPublicKey(key.publicKey), Buffer.from(signature.value, 'base64'));
  return isSound ? undefined : 'its signature is that of another text';
}

/** The pseudonym in a receipt. */
export function subjectOf(text: string): string | undefined {
  const parsed = signedReceipt.safeParse(asJson(text));
  const subject = parsed.success ? parsed.data.receipt['subject'] : undefined;
  return typeof subject === 'string' ? subject : undefined;
}

function asJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
