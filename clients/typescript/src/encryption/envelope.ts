/**
 * The key of a file, wrapped in the age format (https://age-encryption.org/v1) by its author's own library: for recipients,
 * each of whom unwraps it with an identity, or under a passphrase. The `age` command opens envelopes as well.
 */
import { Decrypter, Encrypter } from 'age-encryption';
import { type Bytes, KEY } from './cobblestone.ts';
import { DecryptionFailed } from './failure.ts';

/** Whom a file is encrypted for: either, for age takes no recipients beside a passphrase. */
export interface EncryptionKeys {
  /** From this scrypt makes the key, which takes a second. */
  passphrase?: string;
  /** Public keys such as age1…: one for each who is to read the file, the sender included. */
  recipients?: readonly string[];
  /** Power of two of the work that scrypt does, 10 to 20. By default 18. */
  workFactor?: number;
}

/** What a file is decrypted with: any that fits. */
export interface DecryptionKeys {
  passphrase?: string;
  /** Private keys such as AGE-SECRET-KEY-1…, or a CryptoKey for X25519. */
  identities?: readonly (string | CryptoKey)[];
  /** The key of this file alone, as `EncryptedFile.key` tells it: for who has it in a link. */
  key?: Uint8Array;
}

/** @throws TypeError when nobody could read it */
export async function wrapKey(key: Bytes, { passphrase, recipients = [], workFactor }: EncryptionKeys): Promise<Bytes> {
  if ((passphrase === undefined) === (recipients.length === 0))
    throw new TypeError('encryption takes either a passphrase or recipients');
  if (passphrase === '') throw new TypeError('the passphrase is empty');
  const encrypter = new Encrypter();
  if (passphrase !== undefined) encrypter.setPassphrase(passphrase);
  if (workFactor !== undefined) encrypter.setScryptWorkFactor(workFactor);
  for (const recipient of recipients) encrypter.addRecipient(recipient);
  return Uint8Array.from(await encrypter.encrypt(key));
}

/** @throws DecryptionFailed */
export async function unwrapKey(envelope: Bytes, keys: DecryptionKeys): Promise<Bytes> {
  const { passphrase, identities = [], key } = keys;
  if (key) return Uint8Array.from(key);
  const decrypter = new Decrypter();
  if (passphrase !== undefined) decrypter.addPassphrase(passphrase);
  for (const identity of identities) decrypter.addIdentity(identity);
  let unwrapped: Uint8Array;
  try {
    unwrapped = await decrypter.decrypt(envelope);
  } catch (cause) {
    throw new DecryptionFailed('wrong-key', 'no key that was given opens the file, or its envelope is damaged', {
      cause,
    });
  }
  if (unwrapped.length !== KEY) throw new DecryptionFailed('damaged', 'the envelope holds no key of a file');
  return Uint8Array.from(unwrapped);
}
