/** What a ticket says of each file: it goes where the ticket says, is what the ticket allows, and has what it names. */
import type { Caller, TicketTerms } from '../access/caller.ts';
import { metadata } from '../http/schema-types.ts';
import { Problem } from '../problems.ts';
import { UploadPolicies } from '../validation/upload-policies.ts';

interface Described {
  projectId?: string;
  assetType?: string | undefined;
  metadata: Record<string, string>;
}

/**
 * The upload policies as far as a ticket allows what they allow; without a ticket, as they are.
 * @throws Problem type-not-allowed when nothing is left, because the policies have changed
 */
export function policiesUnder({ terms }: Pick<Caller, 'terms'>, policies: UploadPolicies): UploadPolicies {
  if (!terms) return policies;
  const kept = allowedBy(terms, policies);
  if (kept.length > 0) return new UploadPolicies(kept);
  throw new Problem('type-not-allowed', { detail: 'No upload policy allows any more what the ticket allows.' });
}

export function allowedBy(
  { assetType, mediaTypes, maxFileSize = Number.MAX_SAFE_INTEGER }: Partial<TicketTerms>,
  policies: UploadPolicies,
) {
  return policies.all
    .filter((policy) => assetType === undefined || policy.assetType === assetType)
    .map((policy) => ({
      ...policy,
      mediaTypes: policy.mediaTypes.filter((each) => mediaTypes?.includes(each) ?? true),
      maxBytes: Math.min(policy.maxBytes, maxFileSize),
    }))
    .filter((policy) => policy.mediaTypes.length > 0);
}

/**
 * The file as the ticket has it; without a ticket, as its client describes it.
 * @throws Problem forbidden when the client wants another project or asset type; invalid-parameter when its metadata and that
 *   of the ticket are too much together
 */
export function underTicket<File extends Described>({ terms }: Pick<Caller, 'terms'>, file: File): File {
  if (!terms) return file;
  const { projectId, assetType } = terms;
  if (file.projectId !== undefined && file.projectId !== projectId) throw otherThan('projectId', projectId);
  if (file.assetType !== undefined && assetType !== undefined && file.assetType !== assetType)
    throw otherThan('assetType', assetType);
  const together = metadata.safeParse({ ...file.metadata, ...terms.metadata });
  if (!together.success) {
    const detail = 'is too much, with that of the ticket';
    throw new Problem('invalid-parameter', {
      detail: `metadata ${detail}.`,
      errors: [{ parameter: 'metadata', detail }],
    });
  }
  return {
    ...file,
    ...(projectId !== undefined && { projectId }),
    ...(assetType !== undefined && { assetType }),
    metadata: together.data,
  };
}

function otherThan(parameter: string, its: string | undefined): Problem {
  const detail = its === undefined ? 'must not be named: the ticket is for none' : `must be that of the ticket, ${its}`;
  return new Problem('forbidden', { detail: `${parameter} ${detail}.`, errors: [{ parameter, detail }] });
}
