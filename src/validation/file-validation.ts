/**
 * What an upload is validated by, whatever route it came through: what the client declares against what the bytes show,
 * the upload policy that allows it, and the structure of the file.
 */
import { Problem } from '../problems.ts';
import { type Classification, claimedType, classify, HEAD_SIZE, normaliseMediaType } from './media-types.ts';
import { ENCRYPTED_TYPE, sizeFault } from './structure/encrypted.ts';
import { type StructureCheck, structureCheck } from './structure.ts';
import type { SizeBound, UploadPolicies, UploadPolicy } from './upload-policies.ts';

const problemOf = {
  undetected: 'undetected-type',
  'declared-mismatch': 'declared-mismatch',
  'extension-mismatch': 'extension-mismatch',
} as const;

/** What is known of a file before its bytes are. */
export interface DeclaredFile {
  fileName: string;
  /** As the client named it; absent when it said nothing. */
  declaredType?: string | undefined;
  /** Name of the upload policy that the client chose. */
  assetType?: string | undefined;
  /** The client may still choose one, after the bytes: until then, what any policy allows is allowed. */
  assetTypeMayFollow?: boolean | undefined;
}

/** What the bytes turned out to be. */
export interface ValidatedType {
  mediaType: string;
  policy: UploadPolicy;
}

/** The validation of one file, whose bytes come in order: first the head, then chunk by chunk. */
export class FileValidation {
  readonly #policies: UploadPolicies;
  readonly #declared: DeclaredFile;
  #structure: StructureCheck | undefined;
  #validated: ValidatedType | undefined;
  /** What the file is refused for by policies that want its type detected. */
  #undetected: Problem | undefined;

  constructor(policies: UploadPolicies, declared: DeclaredFile) {
    this.#policies = policies;
    this.#declared = declared;
  }

  /** Absent until the head was seen. */
  get validated(): ValidatedType | undefined {
    return this.#validated;
  }

  /**
   * Tells the type. What follows is `update` with all bytes of the file, the head first.
   * @param head all bytes so far: HEAD_SIZE or more, or the whole file
   * @throws Problem undetected-type, declared-mismatch, extension-mismatch, type-not-allowed
   */
  async begin(head: Buffer): Promise<ValidatedType> {
    const validated = await validateType(this.#policies, this.#declared, head);
    this.#validated = validated;
    this.#structure = structureCheck(validated.mediaType);
    if (this.#declared.assetTypeMayFollow && this.#policies.allowUndetected) {
      const found = await classifyHead(this.#declared, head, false);
      if (found.outcome === 'refused') this.#undetected = refusal(found);
    }
    return validated;
  }

  /** Bytes that the file may have, by all that is known of it. */
  get maxBytes(): number {
    const { mediaType, policy } = this.#known;
    return this.#declared.assetTypeMayFollow ? loosest(this.#policies, mediaType) : policy.maxBytes;
  }

  /**
   * The asset type is known now, after the bytes: its policy must allow them.
   * @throws Problem invalid-parameter, undetected-type, type-not-allowed, too-large
   */
  choose(assetType: string | undefined, bytes: number): void {
    const { mediaType } = this.#known;
    const named = assetType === undefined ? undefined : policyNamed(this.#policies, assetType);
    if (this.#undetected && !(named ?? this.#policies).allowUndetected) throw this.#undetected;
    const policy = policyFor(this.#policies, named, mediaType);
    refuseBeyond(policy.maxBytes, bytes, this.#policies.bound);
    this.#validated = { mediaType, policy };
  }

  get #known(): ValidatedType {
    if (!this.#validated) throw new Error('the type has not been validated');
    return this.#validated;
  }

  /** Bytes of the file, in order. @throws Problem damaged-file */
  update(chunk: Buffer): void {
    this.#structure?.update(chunk);
    refuseDamaged(this.#structure?.fault());
  }

  /** Where the rest is not looked at: whether a file that begins so may have this size. @throws Problem damaged-file */
  fits(head: Buffer, size: number): void {
    if (this.#known.mediaType === ENCRYPTED_TYPE) refuseDamaged(sizeFault(head, size));
  }

  /** The file is at its end. @throws Problem damaged-file */
  end(): void {
    refuseDamaged(this.#structure?.end());
  }
}

/** @throws Problem damaged-file when there is a fault */
export function refuseDamaged(fault: string | undefined): void {
  if (fault !== undefined) throw new Problem('damaged-file', { detail: fault });
}

async function validateType(policies: UploadPolicies, declared: DeclaredFile, head: Buffer): Promise<ValidatedType> {
  const { assetType } = declared;
  const named = assetType === undefined ? undefined : policyNamed(policies, assetType);
  const found = await classifyHead(declared, head, (named ?? policies).allowUndetected);
  if (found.outcome === 'refused') throw refusal(found);
  return { mediaType: found.mediaType, policy: policyFor(policies, named, found.mediaType) };
}

function classifyHead(
  { fileName, declaredType }: DeclaredFile,
  head: Buffer,
  allowUndetected: boolean,
): Promise<Classification> {
  return classify({ head: head.subarray(0, HEAD_SIZE), fileName, declared: declaredType, allowUndetected });
}

function refusal({ reason, detail }: Extract<Classification, { outcome: 'refused' }>): Problem {
  return new Problem(problemOf[reason], { detail });
}

/** Bytes that a file of this type may have under the policy that allows most. */
function loosest(policies: UploadPolicies, mediaType: string): number {
  return Math.max(
    0,
    ...policies.all.filter((each) => each.mediaTypes.includes(mediaType)).map((each) => each.maxBytes),
  );
}

function policyFor(policies: UploadPolicies, named: UploadPolicy | undefined, mediaType: string): UploadPolicy {
  const policy = named ? (named.mediaTypes.includes(mediaType) ? named : undefined) : policies.allowing(mediaType);
  if (policy) return policy;
  throw typeNotAllowed(policies, named, mediaType);
}

/** @throws Problem invalid-parameter */
export function policyNamed(policies: UploadPolicies, assetType: string): UploadPolicy {
  const policy = policies.named(assetType);
  if (policy) return policy;
  const detail = `There is no upload policy of this name. There are ${policies.all.map((each) => each.assetType).join(', ')}.`;
  throw new Problem('invalid-parameter', { detail, errors: [{ parameter: 'assetType', detail }] });
}

/**
 * Bytes a file may have, by what the client declares. The declared type must agree with the bytes in the end, so it may
 * already tell the limit, or that there is no hope.
 * @throws Problem when no policy would allow it
 */
export function limitFor(
  policies: UploadPolicies,
  { fileName, assetType, declaredType, assetTypeMayFollow }: Partial<DeclaredFile>,
): number {
  const named = assetType === undefined ? undefined : policyNamed(policies, assetType);
  const declared = normaliseMediaType(declaredType) && claimedType(fileName, declaredType);
  if (declared === undefined) return named?.maxBytes ?? policies.largest;
  const { maxBytes } = policyFor(policies, named, declared);
  return assetTypeMayFollow ? loosest(policies, declared) : maxBytes;
}

/** @param bound which of the policies the limit is of, if it is that. @throws Problem too-large */
export function refuseBeyond(limit: number, bytes: number, bound?: SizeBound): void {
  if (bytes <= limit) return;
  if (bound?.maxFileSize === limit)
    throw new Problem('too-large', {
      detail: `A file may have at most ${limit} bytes in the tier ${bound.tier}. Send a smaller one.`,
      limit: 'maxFileSize',
      tier: bound.tier,
    });
  throw new Problem('too-large', {
    detail: `A file of this type may have at most ${limit} bytes. Send a smaller one.`,
  });
}

function typeNotAllowed(policies: UploadPolicies, named: UploadPolicy | undefined, mediaType: string): Problem {
  const allowed = named ? named.mediaTypes : policies.all.flatMap((each) => each.mediaTypes);
  const where = named ? `The asset type ${named.assetType} allows` : 'Allowed are';
  return new Problem('type-not-allowed', {
    detail: `The file is ${mediaType}. ${where} ${[...new Set(allowed)].join(', ')}.`,
  });
}

export function emptyFile(): Problem {
  return new Problem('empty-file', { detail: 'The file has no bytes. Send a file that has some.' });
}

export function digestMismatch(found: Buffer): Problem {
  return new Problem('digest-mismatch', {
    detail: `The SHA-256 of the bytes is ${found.toString('hex')}. Send the file again.`,
  });
}

/** Problems of the bytes themselves: they are not what they should be and never will be, so the upload ends. */
export const byteProblems: ReadonlySet<string> = new Set([
  'undetected-type',
  'declared-mismatch',
  'extension-mismatch',
  'type-not-allowed',
  'damaged-file',
  'digest-mismatch',
]);
