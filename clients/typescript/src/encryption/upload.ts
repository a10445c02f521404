/** Uploads of files that the service cannot read: `upload`, of ciphertext that is made while it is sent. */
import type { Asset } from '../generated/index.ts';
import type { PreviousUpload } from '../previous-uploads.ts';
import { type Contents, describe, type UploadOptions, uploadContents } from '../upload.ts';
import { base64, EncryptedSource, fromBase64 } from './encrypted-source.ts';
import type { DecryptionKeys, EncryptionKeys } from './envelope.ts';

/** What the service is told that an encrypted file is. */
export const ENCRYPTED_TYPE = 'application/vnd.stowage.encrypted';

export interface EncryptedUploadOptions extends Omit<UploadOptions, 'sha256'>, EncryptionKeys {
  /**
   * The sender's own identities, with which an upload for recipients goes on after a reload of the page. Without them, or
   * with a passphrase that has changed, it begins again.
   */
  identities?: DecryptionKeys['identities'];
  /** `compute`: the service must find the digest of the ciphertext as well, for which all is encrypted once more before. */
  sha256?: 'compute';
}

/**
 * Encrypts a file and uploads it. The name and the type travel inside; what the service is told is a name of digits, the
 * size, and what the options name beside it: project, asset type (`encrypted` by default), metadata. Goes on with an
 * earlier upload as `upload` does, with the same ciphertext.
 * @param file read twice: once before, so that no other bytes are ever encrypted under its key
 * @returns the asset, when it is ready
 * @throws UploadFailed; FileChanged; TypeError without keys; the reason of `signal` when it is aborted
 */
export async function uploadEncrypted(file: Blob, options: EncryptedUploadOptions): Promise<Asset> {
  const { passphrase, recipients, workFactor, identities, ...others } = options;
  const { fileName: name, type } = describe(file, options);
  const keys: EncryptionKeys = {
    ...(passphrase !== undefined && { passphrase }),
    ...(recipients && { recipients }),
    ...(workFactor !== undefined && { workFactor }),
  };
  const prepare = async (earlier?: PreviousUpload): Promise<Contents | undefined> => {
    if (earlier) return again(file, earlier, { ...keys, ...(identities && { identities }) }, options.signal);
    const source = await EncryptedSource.begin(file, { name, type }, keys, options.signal);
    const sealed = { name: opaqueName(), prefix: base64(source.prefix) };
    return { source, fileName: sealed.name, type: ENCRYPTED_TYPE, sealed };
  };
  return uploadContents(file, { assetType: 'encrypted', ...others }, prepare, true);
}

async function again(
  file: Blob,
  { sealed }: PreviousUpload,
  keys: DecryptionKeys,
  signal: AbortSignal | undefined,
): Promise<Contents | undefined> {
  const prefix = sealed && fromBase64(sealed.prefix);
  const source = prefix && (await EncryptedSource.again(file, prefix, keys, signal));
  return source && { source, fileName: sealed.name, type: ENCRYPTED_TYPE, sealed };
}

/** It tells nothing. */
function opaqueName(): string {
  const digits = crypto.getRandomValues(new Uint8Array(16));
  return `${Array.from(digits, (byte) => byte.toString(16).padStart(2, '0')).join('')}.stowage`;
}
