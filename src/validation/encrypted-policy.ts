/** Upload policies of kind `encrypted`, which take what nobody here can read; see docs/encryption.md. */
import type { z } from 'zod';
import { ENCRYPTED_TYPE } from './structure/encrypted.ts';
import type { UploadPolicy } from './upload-policies.ts';

/** Where a scanner is, it has to be allowed by name: nobody can scan what it takes. */
export const encryptedPolicy: Omit<UploadPolicy, 'cacheControl'> = {
  assetType: 'encrypted',
  kind: 'encrypted',
  mediaTypes: [ENCRYPTED_TYPE],
  maxBytes: 500 * 1024 * 1024,
  allowUndetected: false,
  metadata: 'keep',
  scan: 'off',
};

type ReadingPolicy = Pick<UploadPolicy, 'kind' | 'mediaTypes' | 'allowUndetected'> & {
  [Name in 'scan' | 'metadata' | 'reencode' | 'derivatives' | 'transcodes']?: unknown;
};

/** Its media type need not be said. */
export function withEncryptedType(policy: unknown): unknown {
  if (!(policy instanceof Object) || !('kind' in policy) || policy.kind !== 'encrypted') return policy;
  return { mediaTypes: [ENCRYPTED_TYPE], ...policy };
}

/** What asks for more than can be done with bytes that nobody here can read. */
export function refuseReading(policy: ReadingPolicy, context: z.RefinementCtx): void {
  const { kind, mediaTypes } = policy;
  const refuse = (name: string, message: string) => context.addIssue({ code: 'custom', path: [name], message });
  if (kind !== 'encrypted') {
    if (mediaTypes.includes(ENCRYPTED_TYPE))
      refuse('mediaTypes', `${ENCRYPTED_TYPE} belongs into a policy of its own, with "kind": "encrypted"`);
    return;
  }
  if (mediaTypes.some((each) => each !== ENCRYPTED_TYPE))
    refuse('mediaTypes', `must be absent, for a policy of kind encrypted takes ${ENCRYPTED_TYPE} alone`);
  if (policy.scan !== undefined && policy.scan !== 'off') refuse('scan', 'must be off: nobody can scan ciphertext');
  if (policy.metadata === 'strip') refuse('metadata', 'must be keep: nobody can strip ciphertext');
  for (const name of ['reencode', 'derivatives', 'transcodes'] as const)
    if (policy[name]) refuse(name, 'must be absent: nothing can be made of ciphertext');
  if (policy.allowUndetected) refuse('allowUndetected', 'must be false: ciphertext is known by its beginning');
}
