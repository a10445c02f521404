/**
 * Files of a backup in the age format (https://age-encryption.org/v1), so that the program `age` opens them too. They are
 * encrypted for recipients. A passphrase opens an identity that is made for the backup and lies in it, itself encrypted, as
 * `key.age`: so the passphrase is stretched once (scrypt, a second), and not for each file. A file that was cut, or changed
 * anywhere, fails when it is read.
 */
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';

export const KEY_FILE = 'key.age';
export const encryptions = ['none', 'age'] as const;

/** How the files of one backup are written. */
export interface Sealing {
  readonly kind: (typeof encryptions)[number];
  /** What ends the names of its files. */
  readonly suffix: '' | '.age';
  /** Of the file `key.age`, where a passphrase opens the backup. */
  readonly key: Uint8Array | undefined;
  seal(plain: Readable): Promise<Readable>;
}

/** Opens what `seal` has made. */
export type Open = (sealed: Readable) => Promise<Readable>;

/** @param secrets of whoever makes the backup; with none of them it is not encrypted */
export async function sealingFor(secrets: {
  passphrase: string | undefined;
  recipients: readonly string[];
}): Promise<Sealing> {
  const { passphrase } = secrets;
  const recipients = [...secrets.recipients];
  if (passphrase === undefined && recipients.length === 0)
    return { kind: 'none', suffix: '', key: undefined, seal: async (plain) => plain };
  let key: Uint8Array | undefined;
  if (passphrase !== undefined) {
    const identity = await generateX25519Identity();
    recipients.push(await identityToRecipient(identity));
    const encrypter = new Encrypter();
    encrypter.setPassphrase(passphrase);
    key = await encrypter.encrypt(`${identity}\n`);
  }
  const encrypter = new Encrypter();
  for (const recipient of recipients) encrypter.addRecipient(recipient);
  return {
    kind: 'age',
    suffix: '.age',
    key,
    seal: async (plain) => fromWeb(await encrypter.encrypt(toWeb(plain))),
  };
}

/**
 * @param key content of `key.age`, where there is one
 * @throws Error when the secrets do not open it
 */
export async function openingFor(
  kind: Sealing['kind'],
  key: Uint8Array | undefined,
  secrets: { passphrase: string | undefined; identities: readonly string[] },
): Promise<Open> {
  if (kind === 'none') return async (plain) => plain;
  const identities = [...secrets.identities];
  if (key !== undefined && secrets.passphrase !== undefined) identities.push(await unlock(key, secrets.passphrase));
  if (identities.length === 0)
    throw new Error(
      key === undefined
        ? 'the backup is encrypted for recipients: name a file with one of their identities by --identity'
        : 'the backup is encrypted: set BACKUP_PASSPHRASE, or name a file with an identity by --identity',
    );
  const decrypter = new Decrypter();
  for (const identity of identities) decrypter.addIdentity(identity);
  return async (sealed) => fromWeb(await decrypter.decrypt(toWeb(sealed)));
}

async function unlock(key: Uint8Array, passphrase: string): Promise<string> {
  const decrypter = new Decrypter();
  decrypter.addPassphrase(passphrase);
  try {
    return (await decrypter.decrypt(key, 'text')).trim();
  } catch (cause) {
    throw new Error('BACKUP_PASSPHRASE does not open the backup', { cause });
  }
}

/** The lines of a file of identities that are not comments, as `age-keygen` writes them. */
export function identitiesIn(text: string): string[] {
  return text.split('\n').flatMap((line) => (/^AGE-SECRET-KEY-/.test(line.trim()) ? [line.trim()] : []));
}

function toWeb(stream: Readable): globalThis.ReadableStream<Uint8Array> {
  return Readable.toWeb(stream) as globalThis.ReadableStream<Uint8Array>;
}

function fromWeb(stream: globalThis.ReadableStream<Uint8Array>): Readable {
  return Readable.fromWeb(stream as ReadableStream);
}
