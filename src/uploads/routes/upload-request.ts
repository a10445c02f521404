/** What the doors share: who has gone, what was said about the file, and the audit of what is refused at the door. */
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { type Asset, recordTag, toDocument } from '../../assets/asset.ts';
import { actorOf } from '../../http/authentication.ts';
import { asProblem } from '../../http/error-handler.ts';
import { assetType, binaryDigest, metadata, projectId } from '../../http/schema-types.ts';
import type { UploadLimit } from '../../http/upload-limit.ts';
import { type Answer, type Idempotency, idempotencyKey } from '../../idempotency/idempotency.ts';
import { ClientGone, Problem, type ProblemType } from '../../problems.ts';
import type { Arrival, Intake } from '../intake.ts';

export interface DoorOptions {
  intake: Intake;
  uploadLimit: UploadLimit;
  idempotency: Idempotency;
  /** Aborted when the service will not wait for uploads any longer. */
  stopping: AbortSignal;
}

/** Everything intake may refuse a file for. */
export const intakeProblems: ProblemType[] = [
  'invalid-name',
  'incomplete-body',
  'quota-exceeded',
  'request-timeout',
  'too-large',
  'unsupported-media-type',
  'undetected-type',
  'declared-mismatch',
  'extension-mismatch',
  'type-not-allowed',
  'empty-file',
  'damaged-file',
  'digest-mismatch',
  'too-many-uploads',
  'overloaded',
  'request-in-progress',
  'idempotency-key-reused',
];

/** Text in which the fields of a form, or the query of a raw upload, describe the file. */
export const description = z.strictObject({
  projectId: projectId.optional(),
  assetType: assetType.optional(),
  sha256: binaryDigest.optional(),
  metadata: z
    .string()
    .transform((text, context) => {
      try {
        return JSON.parse(text) as unknown;
      } catch {
        context.addIssue({ code: 'custom', message: 'must be JSON, such as {"album":"summer"}' });
        return z.NEVER;
      }
    })
    .pipe(metadata)
    .optional()
    .meta({ override: { type: 'string' }, description: 'JSON object of strings', example: '{"album":"summer"}' }),
});
export type Description = z.output<typeof description>;

/** The part of an arrival that follows from a description. */
export function described(from: Description) {
  return {
    ...(from.projectId !== undefined && { projectId: from.projectId }),
    ...(from.assetType !== undefined && { assetType: from.assetType }),
    ...(from.sha256 !== undefined && { sha256: Buffer.from(from.sha256, 'hex') }),
    metadata: from.metadata ?? {},
  };
}

/** Aborted as soon as nobody waits for the answer, or the service stops. */
export function requestSignal(reply: FastifyReply, stopping: AbortSignal): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort(new ClientGone('the client has gone'));
  });
  return AbortSignal.any([gone.signal, stopping]);
}

/** What a client is told of a file that was taken in. */
export function uploadAnswer(asset: Asset): Answer & { body: ReturnType<typeof toDocument> } {
  return {
    status: 201,
    headers: { location: `/v1/assets/${asset.id}`, etag: recordTag(asset) },
    body: toDocument(asset),
  };
}

/**
 * Takes one file in; under an Idempotency-Key, once.
 * @param place of the file in its request, where there are several
 */
export async function receiveOnce(
  { intake, uploadLimit, idempotency }: DoorOptions,
  request: FastifyRequest,
  arrival: Arrival,
  place?: number,
): Promise<Answer> {
  const take = async (also?: NonNullable<Arrival['also']>): Promise<Answer> => {
    const { headers } = await uploadLimit.count(request.caller.id);
    const asset = await viaIntake(intake.receive({ ...arrival, ...(also && { also }) }));
    const answer = uploadAnswer(asset);
    return { ...answer, headers: { ...headers, ...answer.headers } };
  };
  const named = idempotencyKey(request.headers['idempotency-key']);
  if (named === undefined) return take();
  // No key of a client holds a space.
  const key = place === undefined ? named : `${named} ${place}`;
  const { fileName, projectId, assetType, metadata, declaredType, sha256, size } = arrival;
  const content = [fileName, projectId, assetType, metadata, declaredType, sha256?.toString('hex'), size];
  const claim = await idempotency.claim(request.caller.id, key, ['upload', ...content]);
  if (claim.kind === 'replay') {
    await requireSameBytes(arrival, claim.answer);
    return claim.answer;
  }
  try {
    return await take({
      begun: claim.began,
      settled: (transaction, asset) => claim.commit(transaction, uploadAnswer(asset)),
    });
  } catch (error) {
    await claim.fail(error instanceof Problem ? error : undefined, request.id);
    throw error;
  } finally {
    claim.close();
  }
}

/** A request is the same only if its file is. The body is read to its end, so that any client gets to its answer. */
async function requireSameBytes({ source }: Arrival, { body }: Answer): Promise<void> {
  const hash = createHash('sha256');
  for await (const chunk of source) hash.update(chunk);
  const stored = body instanceof Object && 'sha256' in body ? body.sha256 : undefined;
  if (stored === undefined || stored === hash.digest('hex')) return;
  throw new Problem('idempotency-key-reused', {
    detail: 'This Idempotency-Key was used for another file. Use a new one.',
    errors: [{ parameter: 'Idempotency-Key', detail: 'belongs to another file' }],
  });
}

/** Runs a door and writes what it refuses by itself to the audit trail; intake writes its own refusals. */
export async function audited<Result>(
  request: FastifyRequest,
  intake: Intake,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    const problem = asProblem(error);
    if (problem instanceof Problem && problem.status < 500 && !recorded.has(problem))
      await intake.recordRefusal(actorOf(request), request.caller.id, problem);
    throw problem;
  }
}

/** Problems that intake has already written to the audit trail. */
const recorded = new WeakSet<Problem>();

/** Marks a refusal of intake, so that the door does not record it again. */
export async function viaIntake<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Problem) recorded.add(error);
    throw error;
  }
}

/** Content-Length, when it is there. */
export function contentLength(request: FastifyRequest): number | undefined {
  const text = request.headers['content-length'];
  return text === undefined ? undefined : Number(text);
}
