/** The header field Upload-Metadata of tus: pairs of a name and a value in base64, separated by commas. */
import { z } from 'zod';
import { assetId, assetType, projectId } from '../../http/schema-types.ts';
import { Problem } from '../../problems.ts';
import { folderPath, tagsText } from '../../validation/label-types.ts';
import { retention } from '../../validation/life-cycle.ts';
import { refuseDescription, type SaidOfAsset } from './replacing.ts';
import { labelsOf, metadataText } from './upload-request.ts';

/** What is not text for people, and what Postgres cannot keep. */
const control = /[\u0000-\u001f\u007f]/;
const mediaType = z
  .string()
  .max(255)
  .refine((text) => !control.test(text), 'must be a media type such as image/png');

const fields = z.strictObject({
  filename: z.string({ error: 'must be there' }).max(2048),
  filetype: mediaType.optional(),
  assetType: assetType.optional(),
  projectId: projectId.optional(),
  metadata: metadataText.optional(),
  path: folderPath.optional(),
  tags: tagsText.optional(),
  retention: retention.optional(),
  replaces: assetId.optional(),
});

/**
 * What a client says of its file. Names that clients add of their own (`relativePath`, `name`, `type`) must be well formed,
 * and are passed over.
 * @throws Problem invalid-parameter that names the field
 */
export function readUploadMetadata(header: string) {
  const given: Record<string, string> = {};
  const seen = new Set<string>();
  for (const pair of header.trim() === '' ? [] : header.split(',')) {
    const [name = '', value = '', ...more] = pair.trim().split(' ');
    if (name === '') throw invalid('a name must not be empty');
    if (seen.has(name)) throw invalid(`${name} must be there only once`);
    seen.add(name);
    const text = more.length === 0 ? decoded(value) : undefined;
    if (text === undefined) throw invalid(`${name} must be text in UTF-8, in base64`);
    if (Object.hasOwn(fields.shape, name)) given[name] = text;
  }
  const result = fields.safeParse(given);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw invalid(`${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`.trim());
  }
  const { filename, filetype, ...rest } = result.data;
  return {
    fileName: filename,
    ...(filetype !== undefined && filetype !== '' && { declaredType: filetype }),
    ...(rest.assetType !== undefined && { assetType: rest.assetType }),
    ...(rest.projectId !== undefined && { projectId: rest.projectId }),
    metadata: rest.metadata ?? {},
    ...labelsOf(rest),
    ...(rest.replaces !== undefined && { replacedId: replacedBeside(rest.replaces, rest) }),
    uploadMetadata: header,
  };
}

/** @throws Problem invalid-parameter when something is said of the asset, which keeps its own */
function replacedBeside(id: string, said: SaidOfAsset): string {
  refuseDescription(said, (name, detail) => ({ parameter: 'Upload-Metadata', detail: `${name} ${detail}` }));
  return id;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Base64 as RFC 4648 section 4 has it, padded; undefined for anything else. */
function decoded(base64: string): string | undefined {
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.toString('base64') !== base64) return undefined;
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

function invalid(detail: string): Problem {
  return new Problem('invalid-parameter', {
    detail: `Upload-Metadata: ${detail}.`,
    errors: [{ parameter: 'Upload-Metadata', detail }],
  });
}
