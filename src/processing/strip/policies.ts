/** Which files lose their metadata. */
import { PolicyError, type UploadPolicies } from '../../validation/upload-policies.ts';
import { canStrip } from './strip.ts';

/** Whether the policy of a file wants its metadata removed; one that is gone since an upload began is taken to. */
export function isStripped(
  policies: UploadPolicies,
  { assetType, mediaType }: { assetType: string; mediaType: string },
): boolean {
  return policies.named(assetType)?.metadata !== 'keep' && canStrip(mediaType);
}

/** @throws PolicyError that names the media types whose metadata a policy wants removed, and nobody can */
export function requireStrippable(policies: UploadPolicies): UploadPolicies {
  const faults = policies.all.flatMap(({ assetType, metadata, mediaTypes }) => {
    const others = metadata === 'strip' ? mediaTypes.filter((mediaType) => !canStrip(mediaType)) : [];
    if (others.length === 0) return [];
    return `UPLOAD_POLICIES: ${assetType}.metadata is "strip", which cannot be done for ${others.join(', ')}: say "keep", or give them a policy of their own`;
  });
  if (faults.length > 0) throw new PolicyError(faults.join('\n'));
  return policies;
}
