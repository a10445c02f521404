/**
 * `@stowage/client/encryption`: files that the service cannot read. Needs `age-encryption` beside the client, which does
 * without any package otherwise.
 */
import { type Described, EncryptedSource } from './encrypted-source.ts';
import type { DecryptionKeys, EncryptionKeys } from './envelope.ts';
import { ciphertextOf, EncryptedFile } from './reader.ts';

export { generateIdentity, identityToRecipient } from 'age-encryption';
export { downloadEncrypted, type EncryptedDownloadOptions } from './download.ts';
export type { DecryptionKeys, EncryptionKeys } from './envelope.ts';
export { DecryptionFailed, type DecryptionFault, DownloadFailed } from './failure.ts';
export { FileChanged } from './plaintext.ts';
export { EncryptedFile, type PlaintextRange } from './reader.ts';
export { ENCRYPTED_TYPE, type EncryptedUploadOptions, uploadEncrypted } from './upload.ts';

/** The ciphertext of a small file, in memory, for other ways than an upload. @throws TypeError without keys */
export async function encrypt(file: Blob, described: Described, keys: EncryptionKeys): Promise<Blob> {
  const source = await EncryptedSource.begin(file, described, keys);
  return source.read(0, source.size);
}

/** Opens ciphertext that is here: a file that was saved, or comes out of a backup. @throws DecryptionFailed */
export function decrypt(file: Blob, keys: DecryptionKeys): Promise<EncryptedFile> {
  return EncryptedFile.open(ciphertextOf(file), keys);
}
