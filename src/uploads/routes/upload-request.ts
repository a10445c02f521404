/** What the upload routes share: how a file is described, who has gone, and the audit of what is refused before an upload begins. */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf, type Caller } from '../../access/caller.ts';
import { type Asset, recordTag, toDocument } from '../../assets/asset.ts';
import type { Retention } from '../../database/tables/assets.ts';
import { asProblem } from '../../http/error-handler.ts';
import { GIVEN_TWICE, repeatedName } from '../../http/json-names.ts';
import { assetType, binaryDigest, metadata, projectId } from '../../http/schema-types.ts';
import type { UploadLimit } from '../../http/upload-limit.ts';
import {
  type Answer,
  type Claim,
  type Fate,
  type Idempotency,
  idempotencyKey,
  type Replay,
} from '../../idempotency/idempotency.ts';
import { operationOf } from '../../idempotency/requests.ts';
import { ClientGone, Problem, type ProblemType } from '../../problems.ts';
import { metadataNotRemovable } from '../../processing/strip/problem.ts';
import { tooManyProjects } from '../../projects/problems.ts';
import { infected } from '../../scanning/problems.ts';
import { ticketUsedUp } from '../../tickets/problems.ts';
import { underTicket } from '../../tickets/terms.ts';
import { limitFor } from '../../validation/file-validation.ts';
import { folderPath, tagsText } from '../../validation/label-types.ts';
import { retention } from '../../validation/life-cycle.ts';
import { contextOf, throughProcess, type UploadContext } from '../context.ts';
import { recordRefusal } from '../ending.ts';
import type { Intake } from '../intake.ts';
import type { FileDescription } from '../new-upload.ts';
import type { UploadsRepository } from '../repository.ts';
import type { Arrival } from '../single-upload.ts';

export interface UploadRouteOptions {
  context: UploadContext;
  intake: Intake;
  uploadLimit: UploadLimit;
  idempotency: Idempotency;
  /** Aborted when the service will not wait for uploads any longer. */
  stopping: AbortSignal;
}

/** A file of which it is not known yet whether it may go where its client wants it. */
export type PlacelessArrival = Omit<Arrival, 'place'>;

/** Everything a file may be refused for. */
export const uploadProblems: ProblemType[] = [
  'invalid-name',
  'incomplete-body',
  'quota-exceeded',
  'owner-under-erasure',
  ticketUsedUp,
  'forbidden',
  'not-found',
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
  metadataNotRemovable,
  infected,
  tooManyProjects,
  'too-many-uploads',
  'overloaded',
];

/** Metadata as JSON text, where there is no JSON body. */
export const metadataText = z
  .string()
  .transform((text, context) => {
    try {
      const value: unknown = JSON.parse(text);
      const repeated = repeatedName(text);
      if (!repeated) return value;
      context.addIssue({ code: 'custom', path: repeated, message: GIVEN_TWICE });
    } catch {
      context.addIssue({ code: 'custom', message: 'must be JSON, such as {"album":"summer"}' });
    }
    return z.NEVER;
  })
  .pipe(metadata);

/** Text in which the fields of a form, or the query of a raw upload, describe the file. */
export const description = z.strictObject({
  projectId: projectId.optional(),
  assetType: assetType.optional(),
  sha256: binaryDigest.optional(),
  metadata: metadataText
    .optional()
    .meta({ override: { type: 'string' }, description: 'JSON object of strings', example: '{"album":"summer"}' }),
  path: folderPath.optional(),
  tags: tagsText.optional(),
  retention: retention.optional(),
});
export type Description = z.output<typeof description>;

/** The part of an arrival that follows from a description. */
export function described(from: Description) {
  return {
    ...(from.projectId !== undefined && { projectId: from.projectId }),
    ...(from.assetType !== undefined && { assetType: from.assetType }),
    ...(from.sha256 !== undefined && { sha256: Buffer.from(from.sha256, 'hex') }),
    metadata: from.metadata ?? {},
    ...labelsOf(from),
  };
}

/** Absent where they are none, as descriptions have it. */
export function labelsOf({
  path,
  tags,
  retention,
}: {
  path?: string | undefined;
  tags?: readonly string[] | undefined;
  retention?: Retention | undefined;
}) {
  return {
    ...(path !== undefined && path !== '' && { path }),
    ...(tags !== undefined && tags.length > 0 && { tags }),
    ...(retention !== undefined && { retention }),
  };
}

/** Aborted as soon as nobody waits for the answer, or the service stops. */
export function requestSignal(reply: FastifyReply, stopping: AbortSignal): AbortSignal {
  const gone = new AbortController();
  const { raw } = reply;
  const end = () => {
    if (!raw.writableFinished) gone.abort(new ClientGone('the client has gone'));
  };
  // Callers are let in by promises, and may have gone by then.
  if (raw.closed) end();
  else raw.once('close', end);
  return AbortSignal.any([gone.signal, stopping]);
}

/** What a client is told of a file that was taken in. @param status where its bytes are those of the asset by now */
export function uploadAnswer(asset: Asset, status = 201): Answer & { body: ReturnType<typeof toDocument> } {
  return {
    status: asset.awaitsReplacement ? 202 : status,
    headers: { location: `/v1/assets/${asset.id}`, etag: recordTag(asset) },
    body: toDocument(asset),
  };
}

/** Takes one file in; under an Idempotency-Key, once. */
export async function receiveOnce(
  options: UploadRouteOptions,
  request: FastifyRequest,
  sent: PlacelessArrival,
  status = 201,
): Promise<Answer> {
  const { context, intake, uploadLimit } = options;
  const { described } = sent;
  const arrival = {
    ...underTicket(sent.caller, sent),
    ...(described && { described: () => underTicket(sent.caller, described()) }),
  };
  const take = async (inTransaction?: NonNullable<Arrival['inTransaction']>): Promise<Answer> => {
    const { headers } = await uploadLimit.count(request.caller);
    const place = arrival.replaces?.place ?? (await context.places.of(arrival.caller, arrival.projectId));
    const asset = await recorded(intake.receive({ ...arrival, place, ...(inTransaction && { inTransaction }) }));
    const answer = uploadAnswer(asset, status);
    return { ...answer, headers: { ...headers, ...answer.headers } };
  };
  const claim = await claimUpload(options, request, arrival);
  if (claim === undefined) return take();
  if (claim.kind === 'replay') {
    await requireSameBytes(arrival, claim.answer);
    const description = arrival.described?.() ?? arrival;
    // Of what was replaced it is said once, before the bytes, and is part of the request that was remembered.
    if (!arrival.replaces) requireSameDescription(description, claim.answer);
    return claim.answer;
  }
  try {
    return await take(answering(claim, status));
  } catch (error) {
    await claim.fail(error instanceof Problem ? error : undefined, request.id);
    throw error;
  } finally {
    claim.close();
  }
}

/** One file of several, whose answer is known when all of their form is. One of these must follow. */
export interface HeldAnswer {
  /** Makes it an asset. @throws Problem */
  answer(description: FileDescription): Promise<Answer>;
  /** Leaves nothing of it. Never throws. */
  end(problem: Problem | ClientGone): Promise<void>;
}

/**
 * Takes the bytes of one file of several in; under an Idempotency-Key, each is a request of its own, by its place.
 * @param index of the file in its request
 */
export async function holdOnce(
  options: UploadRouteOptions,
  request: FastifyRequest,
  sent: PlacelessArrival,
  index: number,
): Promise<HeldAnswer> {
  const arrival = underTicket(sent.caller, sent);
  const claim = await claimUpload(options, request, arrival, index);
  if (claim?.kind === 'replay') {
    await requireSameBytes(arrival, claim.answer);
    return {
      answer: async (description) => {
        requireSameDescription(underTicket(sent.caller, description), claim.answer);
        return claim.answer;
      },
      end: async () => {},
    };
  }
  const fail = async (problem: unknown) => {
    claim?.close();
    await claim?.fail(problem instanceof Problem ? problem : undefined, request.id);
  };
  try {
    const { headers } = await options.uploadLimit.count(request.caller);
    const inTransaction = claim && answering(claim);
    const place = await options.context.places.of(arrival.caller, arrival.projectId);
    const held = await recorded(options.intake.hold({ ...arrival, place, ...(inTransaction && { inTransaction }) }));
    return {
      answer: async (description) => {
        try {
          const described = underTicket(sent.caller, description);
          const answer = uploadAnswer(await recorded(held.settle(described)));
          claim?.close();
          return { ...answer, headers: { ...headers, ...answer.headers } };
        } catch (error) {
          await fail(error);
          throw error;
        }
      },
      end: async (problem) => {
        await held.end(problem);
        // The form was refused, not this file of it: sent again with another end, it may be taken.
        await fail(undefined);
      },
    };
  } catch (error) {
    await fail(error);
    throw error;
  }
}

/** The right to answer a request under its Idempotency-Key; undefined when it has none. */
async function claimUpload(
  { context, idempotency }: UploadRouteOptions,
  request: FastifyRequest,
  { fileName, projectId, assetType, metadata, path, tags, retention, ...arrival }: PlacelessArrival,
  index?: number,
): Promise<Claim | Replay | undefined> {
  const { declaredType, sha256, size, replaces } = arrival;
  const header = idempotencyKey(request.headers['idempotency-key']);
  if (header === undefined) return undefined;
  // No key of a client holds a space.
  const key = index === undefined ? header : `${header} ${index}`;
  const content = {
    ...{ fileName, projectId, assetType, metadata, ...labelsOf({ path, tags, retention }) },
    ...{ declaredType, sha256: sha256?.toString('hex') },
    ...(replaces && { replaces: replaces.asset.id, ifMatch: request.headers['if-match'] }),
  };
  const named = { operation: operationOf(request), content, size };
  return idempotency.claim(request.caller, key, named, (id) => fateOf(context.uploads, id));
}

/** Keeps the key of a request for several files, each of which is then received under a key of its own. */
export async function reserveKey({ idempotency }: UploadRouteOptions, request: FastifyRequest): Promise<void> {
  const key = idempotencyKey(request.headers['idempotency-key']);
  if (key !== undefined) await idempotency.reserve(request.caller, key, operationOf(request));
}

/** What belongs into the transactions of an upload under an Idempotency-Key. */
function answering(claim: Claim, status = 201): NonNullable<Arrival['inTransaction']> {
  return {
    begun: claim.began,
    settled: (transaction, asset) => claim.commit(transaction, uploadAnswer(asset, status)),
  };
}

/** What became of an upload whose process may be dead. */
async function fateOf(uploads: UploadsRepository, id: string): Promise<Fate> {
  const fate = await uploads.fate(id);
  return typeof fate === 'string' ? { state: fate } : { state: 'stored', answer: uploadAnswer(fate) };
}

/** A request is the same only if its file is. The body is read to its end, so that any client gets to its answer. */
async function requireSameBytes({ source }: Pick<Arrival, 'source'>, { status, body }: Answer): Promise<void> {
  const hash = createHash('sha256');
  for await (const chunk of source) hash.update(chunk);
  // What waits to replace other bytes is not told yet.
  const sent = status === 202 ? undefined : sentDigestOf(body);
  if (sent !== undefined && sent !== hash.digest('hex')) throw keyOfAnotherFile();
}

/** What is stored may be another file than what was sent. */
function sentDigestOf(body: unknown): unknown {
  const { sha256, original }: { sha256?: unknown; original?: unknown } = body instanceof Object ? body : {};
  return original instanceof Object && 'sha256' in original ? original.sha256 : sha256;
}

/** And only if the same is said of it; what is said before the file is compared when the key is claimed. */
function requireSameDescription(
  { projectId, assetType, metadata, path, tags = [], retention }: FileDescription,
  { status, body }: Answer,
): void {
  if (status !== 201 || !(body instanceof Object)) return;
  const stored: Partial<Record<keyof FileDescription | 'temporaryUntil', unknown>> = body;
  const isSame =
    stored.projectId === projectId &&
    (assetType === undefined || stored.assetType === assetType) &&
    isDeepStrictEqual(stored.metadata ?? {}, metadata) &&
    stored.path === path &&
    isDeepStrictEqual(stored.tags ?? [], tags) &&
    (retention === undefined || (retention === 'temporary') === (stored.temporaryUntil !== undefined));
  if (!isSame) throw keyOfAnotherFile();
}

function keyOfAnotherFile(): Problem {
  return new Problem('idempotency-key-reused', {
    detail: 'This Idempotency-Key was used for another file. Use a new one.',
    errors: [{ parameter: 'Idempotency-Key', detail: 'belongs to another file' }],
  });
}

/**
 * Runs an upload route and writes what it refuses by itself to the audit trail; intake writes its own refusals. A refusal for
 * an id that the caller has not got is of nothing, so it is not written.
 */
export async function audited<Result>(
  request: FastifyRequest,
  context: UploadContext,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    const problem = asProblem(error);
    const isOfSomething = problem instanceof Problem && problem.status < 500 && problem.status !== 404;
    if (isOfSomething && !recordedRefusals.has(problem))
      await recordRefusal(context, actorOf(request), request.caller.id, problem);
    throw problem;
  }
}

/** Problems that intake has already written to the audit trail. */
const recordedRefusals = new WeakSet<Problem>();

/** Marks a refusal of intake, so that the route does not record it again. */
async function recorded<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Problem) recordedRefusals.add(error);
    throw error;
  }
}

/**
 * RFC 9110 section 14.5: who takes the body for all of a file must not take a range of one. `curl -C` sends such.
 * @throws Problem
 */
export async function refuseContentRange({ headers }: FastifyRequest): Promise<void> {
  if (headers['content-range'] === undefined) return;
  const detail = 'must not be there: the body is taken as a whole. To go on with an upload, use /v1/resumable';
  throw new Problem('invalid-parameter', {
    detail: `Content-Range ${detail}.`,
    errors: [{ parameter: 'Content-Range', detail }],
  });
}

/** Content-Length, when it is there. */
export function contentLength(request: FastifyRequest): number | undefined {
  const text = request.headers['content-length'];
  return text === undefined ? undefined : Number(text);
}

/** Bytes that a file of the caller may have which comes through this process, by what it declares. @throws Problem when no policy would allow it */
export function declaredLimit(
  all: UploadContext,
  caller: Caller,
  assetType: string | undefined,
  declaredType: string | undefined,
): number {
  const context = contextOf(all, caller);
  return throughProcess(context, limitFor(context.policies, { assetType, declaredType }));
}
