/** What upload routes share where a file takes the place of the bytes of an asset. */
import type { FastifyRequest } from 'fastify';
import { assetDocument } from '../../assets/asset.ts';
import { conditionsOf, recordConditions } from '../../http/preconditions.ts';
import { assetId } from '../../http/schema-types.ts';
import { Problem, type ProblemError, type ProblemType } from '../../problems.ts';
import { findReplaced } from '../../versions/target.ts';
import type { UploadContext } from '../context.ts';
import type { NewFile } from '../new-upload.ts';

export const replaces = assetId.optional().meta({
  override: { type: 'string', format: 'uuid' },
  description:
    'An asset whose bytes this file replaces. It keeps its id, project and metadata, has the name of this file, and its upload policy must allow the bytes. `If-Match` is honoured',
});
export const replacingHeaders = recordConditions.pick({ 'if-match': true });

/** Beside those of every upload. */
export const replacingProblems: ProblemType[] = ['missing-scope', 'wrong-state', 'precondition-failed'];

/** The answer where the bytes wait for steps of processing, such as a scan. */
export const acceptedResponse = {
  description:
    'The file is to replace the bytes of the asset and waits for steps that its policy makes necessary; until then the asset, which is told, has its former bytes',
  content: { 'application/json': { schema: assetDocument } },
};

/** What a request may say of an asset. */
export interface SaidOfAsset {
  projectId?: string | undefined;
  assetType?: string | undefined;
  metadata?: Record<string, string> | undefined;
  path?: string | undefined;
  tags?: readonly string[] | undefined;
  retention?: string | undefined;
}

/** Where a field stands in a request. */
type Place = (field: string, detail: string) => ProblemError;

/**
 * What the file that replaces is, as its asset has it.
 * @param name that the asset is to have; absent where it keeps its own
 * @throws Problem
 */
export async function replacing(
  { database }: Pick<UploadContext, 'database'>,
  request: FastifyRequest,
  id: string,
  name: string | undefined,
): Promise<Pick<NewFile, 'place' | 'assetType' | 'projectId' | 'metadata'> & Required<Pick<NewFile, 'replaces'>>> {
  const header = request.headers['if-match'];
  const conditions = conditionsOf({ 'if-match': header, 'if-none-match': request.headers['if-none-match'] });
  const found = await findReplaced(database, request.caller, id, conditions);
  const { projectId } = found.place;
  return {
    place: found.place,
    ...(projectId !== undefined && { projectId }),
    assetType: found.asset.assetType,
    metadata: {},
    replaces: { ...found, ...(name !== undefined && { name }) },
  };
}

/** What is said of the asset stays as it is. @throws Problem invalid-parameter */
export function refuseDescription(said: SaidOfAsset, place: Place): void {
  const { projectId, assetType, metadata, path, tags, retention } = said;
  const given = Object.entries({ projectId, assetType, metadata, path, tags, retention }).find(
    ([, value]) => value !== undefined,
  )?.[0];
  if (given === undefined) return;
  const detail = 'must not be there beside replaces: the asset keeps its own. Change it by PATCH';
  throw new Problem('invalid-parameter', { detail: `${given} ${detail}.`, errors: [place(given, detail)] });
}

export const inParameter: Place = (parameter, detail) => ({ parameter, detail });
export const inBody: Place = (field, detail) => ({ pointer: `/${field}`, detail });
