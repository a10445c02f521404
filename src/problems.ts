/**
 * The catalogue of problems: every error a client can meet, sent as RFC 9457 `application/problem+json`. The `type` is
 * stable and is what programs compare; `title` never varies; `detail` says what happened this time and what to do.
 *
 * Whatever is not a `Problem` when it reaches the error handler is a defect of ours and is told as `internal-error`.
 */
import { z } from 'zod';

const catalogue = {
  'malformed-request': { status: 400, title: 'The request is malformed' },
  'invalid-parameter': { status: 400, title: 'A parameter or field is not valid' },
  'invalid-name': { status: 400, title: 'The file name is not allowed' },
  'malformed-multipart': { status: 400, title: 'The form is malformed' },
  'unexpected-part': { status: 400, title: 'The form has an unexpected part' },
  'incomplete-body': { status: 400, title: 'The body ended early' },
  unauthenticated: { status: 401, title: 'A valid bearer token is needed' },
  'missing-scope': { status: 403, title: 'The token lacks a scope' },
  'quota-exceeded': { status: 403, title: 'The quota is used up' },
  forbidden: { status: 403, title: 'You may not do this' },
  'public-not-allowed': { status: 403, title: 'This may not be public' },
  'not-local': { status: 403, title: 'Development mode answers this machine only' },
  'not-found': { status: 404, title: 'There is no such resource' },
  'derivative-unavailable': { status: 404, title: 'The derivative is not there and cannot be made' },
  'method-not-allowed': { status: 405, title: 'The resource does not have this method' },
  'not-acceptable': { status: 406, title: 'The client takes none of the formats there are' },
  'request-timeout': { status: 408, title: 'The request was too slow' },
  'request-in-progress': { status: 409, title: 'A request with this Idempotency-Key is still running' },
  'wrong-state': { status: 409, title: 'The state of the asset does not allow this' },
  held: { status: 409, title: 'Something holds the asset' },
  'owner-under-erasure': { status: 409, title: 'The owner is being erased' },
  'derivative-pending': { status: 409, title: 'The derivative is still being made' },
  'offset-mismatch': { status: 409, title: 'The upload offset does not match' },
  'upload-incomplete': { status: 409, title: 'Parts of the file are missing' },
  'link-expired': { status: 410, title: 'The link has expired' },
  'upload-expired': { status: 410, title: 'The upload has expired' },
  'precondition-failed': { status: 412, title: 'The resource has changed' },
  'tus-version': { status: 412, title: 'The version of tus is not supported' },
  'too-large': { status: 413, title: 'The body or file is too large' },
  'uri-too-long': { status: 414, title: 'The URL is too long' },
  'unsupported-media-type': { status: 415, title: 'The media type is not supported here' },
  'undetected-type': { status: 415, title: 'The media type of the bytes is not known' },
  'declared-mismatch': { status: 415, title: 'The bytes do not match the declared media type' },
  'extension-mismatch': { status: 415, title: 'The file extension does not match the bytes' },
  'type-not-allowed': { status: 415, title: 'No upload policy allows this media type' },
  'range-not-satisfiable': { status: 416, title: 'The range lies outside the asset' },
  'expectation-failed': { status: 417, title: 'The expectation cannot be met' },
  'empty-file': { status: 422, title: 'The file is empty' },
  'damaged-file': { status: 422, title: 'The file is damaged or not a valid file of its media type' },
  'digest-mismatch': { status: 422, title: 'The bytes do not match the declared digest' },
  'idempotency-key-reused': { status: 422, title: 'The Idempotency-Key belongs to another request' },
  'too-many-requests': { status: 429, title: 'Too many requests' },
  'too-many-downloads': { status: 429, title: 'Too many downloads' },
  'too-many-uploads': { status: 429, title: 'Too many uploads' },
  'headers-too-large': { status: 431, title: 'The header fields are too large' },
  'checksum-mismatch': { status: 460, title: 'The bytes of the request do not match the checksum' },
  'internal-error': { status: 500, title: 'The service failed' },
  'not-implemented': { status: 501, title: 'The service does not have this' },
  'storage-refused': { status: 502, title: 'The object store refuses what the service asks of it' },
  unavailable: { status: 503, title: 'The service cannot do this right now' },
  overloaded: { status: 503, title: 'The service is busy' },
} as const;

declare const defined: unique symbol;
/** The name of a problem that a feature has defined. */
type DefinedProblem = string & { readonly [defined]: true };

export type ProblemType = keyof typeof catalogue | DefinedProblem;

interface ProblemKind {
  status: number;
  title: string;
}

/** All problems there are: the catalogue, and what features have defined. */
const kinds = new Map<string, ProblemKind>(Object.entries(catalogue));

/**
 * Defines a problem that only one feature tells. Call it when the module is loaded, and list the result in
 * `Feature.problems`.
 * @param name words with hyphens, never changed once clients know it
 * @throws Error when there is a problem of this name
 */
export function defineProblem(name: string, kind: ProblemKind): ProblemType {
  if (kinds.has(name)) throw new Error(`the problem ${name} is defined already`);
  kinds.set(name, kind);
  if (!isProblemType(name)) throw new Error(`the problem ${name} was not kept`);
  return name;
}

function isProblemType(name: string): name is ProblemType {
  return kinds.has(name);
}

function kindOf(type: ProblemType): ProblemKind {
  const kind = kinds.get(type);
  if (!kind) throw new Error(`there is no problem ${type}`);
  return kind;
}

/** One fault of one input: `pointer` (RFC 6901) into a JSON body, or the name of a `parameter`, header or form field. */
export interface ProblemError {
  pointer?: string;
  parameter?: string;
  detail: string;
}

export interface ProblemOptions {
  detail?: string;
  errors?: ProblemError[];
  /** Whole seconds; becomes Retry-After (RFC 9110 section 10.2.3). */
  retryAfter?: number;
  headers?: Record<string, string>;
  /** Of what was found in an infected file; a member of the document (RFC 9457 section 3.2). */
  signature?: string;
  /** The limit that was met, by the name that files of tiers have for it, and the tier that sets it; members, too. */
  limit?: string;
  tier?: string;
  /** Names of what holds an asset, and until when it is retained; members, too. */
  holds?: readonly string[];
  retainUntil?: string;
  cause?: unknown;
}

export class Problem extends Error {
  override name = 'Problem';
  readonly type: ProblemType;
  readonly status: number;
  readonly options: ProblemOptions;

  constructor(type: ProblemType, options: ProblemOptions = {}) {
    const { status, title } = kindOf(type);
    super(options.detail ?? title, { cause: options.cause });
    this.type = type;
    this.status = status;
    this.options = options;
  }

  /** Header fields that belong to the answer. */
  get headers(): Record<string, string> {
    const { retryAfter, headers } = this.options;
    return {
      ...headers,
      ...(retryAfter !== undefined && { 'retry-after': String(Math.max(1, Math.ceil(retryAfter))) }),
    };
  }

  toDocument(requestId: string): ProblemDocument {
    const { detail, errors, signature, limit, tier, holds, retainUntil } = this.options;
    return {
      type: problemUri(this.type),
      title: problemTitle(this.type),
      status: this.status,
      ...(detail !== undefined && { detail }),
      ...(errors && errors.length > 0 && { errors }),
      ...(signature !== undefined && { signature }),
      ...(limit !== undefined && { limit }),
      ...(tier !== undefined && { tier }),
      ...(holds && { holds: [...holds] }),
      ...(retainUntil !== undefined && { retainUntil }),
      requestId,
    };
  }
}

/** The client closed the connection: no problem, for there is nobody to tell it to. */
export class ClientGone extends Error {
  override name = 'ClientGone';
}

/** Seconds after which a client may try again when the database or the object store is away. */
export const RETRY_SOON = 5;

/** The database or the object store did not answer; what was asked of it may or may not have happened. */
export function unavailable(what: 'database' | 'object store' | 'key set', cause?: unknown): Problem {
  return new Problem('unavailable', {
    detail: `The ${what} does not answer. Try again later.`,
    retryAfter: RETRY_SOON,
    cause,
  });
}

/** A foreign id and an unknown id get this same answer, word for word. */
export function assetNotFound(): Problem {
  return new Problem('not-found', { detail: 'There is no asset with this id.' });
}

/** A field of a body that cannot be so. @param pointer JSON pointer (RFC 6901) */
export function invalidField(pointer: string, detail: string): Problem {
  return new Problem('invalid-parameter', { detail: `${pointer}: ${detail}.`, errors: [{ pointer, detail }] });
}

export function problemUri(type: ProblemType): string {
  return `urn:stowage:problem:${type}`;
}

/** Problem types by status, those of features too, for documents that list them. */
export function problemsByStatus(): Map<number, ProblemType[]> {
  return Map.groupBy([...kinds.keys()].filter(isProblemType), (type) => kindOf(type).status);
}

export function problemTitle(type: ProblemType): string {
  return kindOf(type).title;
}

/** The document as it is sent, RFC 9457 section 3. */
export const problemDocument = z
  .object({
    type: z
      .string()
      .meta({ description: 'Stable name of the problem; compare this', example: 'urn:stowage:problem:quota-exceeded' }),
    title: z.string().meta({ description: 'What the type means, always the same' }),
    status: z
      .number()
      .int()
      .meta({ override: { type: 'integer' }, description: 'HTTP status' }),
    detail: z.string().optional().meta({ description: 'What happened this time, and what to do' }),
    errors: z
      .array(
        z
          .object({
            pointer: z.string().optional().meta({ description: 'JSON Pointer (RFC 6901) into the body' }),
            parameter: z.string().optional().meta({ description: 'Name of a parameter, header field or form field' }),
            detail: z.string(),
          })
          .meta({ id: 'ProblemError' }),
      )
      .optional()
      .meta({ description: 'Each fault of the input' }),
    signature: z
      .string()
      .optional()
      .meta({ description: 'What the virus scanner found, by its name; only where the type is `infected`' }),
    limit: z
      .string()
      .optional()
      .meta({ description: 'Which limit of the tier was met; only where a tier sets it', example: 'uploadsPerHour' }),
    tier: z.string().optional().meta({ description: 'The tier that sets the limit', example: 'free' }),
    holds: z
      .array(z.string())
      .optional()
      .meta({ description: 'Names of what holds the asset; only where the type is `held`', example: ['claim-1711'] }),
    retainUntil: z
      .string()
      .optional()
      .meta({
        override: { type: 'string', format: 'date-time' },
        description: 'Until when the asset is retained; only where the type is `held`',
      }),
    requestId: z.string().meta({ description: 'Name this id when you ask for help' }),
  })
  .meta({ id: 'Problem' });
export type ProblemDocument = z.output<typeof problemDocument>;
