/**
 * Upload policies: what one asset type allows. The defaults below can be added to or replaced by the JSON file that
 * UPLOAD_POLICIES names, in which `null` removes one.
 */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { encryptedPolicy, refuseReading, withEncryptedType } from './encrypted-policy.ts';
import { contradictionIn, days, daysSince, type LifeCycleRules } from './life-cycle.ts';
import { normaliseMediaType } from './media-types.ts';

export interface UploadPolicy {
  assetType: string;
  /** Takes ciphertext alone, which only its readers can open: nothing is scanned, stripped or made of it. Absent: files. */
  kind?: 'encrypted';
  /** Normalised media types. */
  mediaTypes: string[];
  /** Bytes. */
  maxBytes: number;
  /** Cache-Control of the bytes when they are handed out. */
  cacheControl: string;
  /** Whether bytes that show no known type are accepted under their declared type. */
  allowUndetected: boolean;
  /** Whether its assets may be made public, for everybody without a token; absent: they may not. */
  public?: boolean;
  /** What its assets are where their uploader has not said; absent: permanent. */
  retention?: 'temporary' | 'permanent';
  /** What becomes of its assets with time; absent: nothing. */
  lifeCycle?: LifeCycleRules;
  /** Whether what a file tells beside what it shows (place, camera, author) is removed before it is served. */
  metadata: 'keep' | 'strip';
  /**
   * Whether its files are scanned for viruses, absent: off. `best-effort`: where that cannot be done, they are served all the
   * same.
   */
  scan?: ScanPolicy;
  /** How its pictures are encoded again before they are served; absent: they stay as they are. */
  reencode?: ReencodePolicy;
  /** What is made of each file, by name; absent: what is usual for its media type. */
  derivatives?: Record<string, DerivativePolicy>;
  /** What its sound and films may be turned into; absent: all of it, within the usual bounds. */
  transcodes?: TranscodePolicy;
  /** How many former contents of an asset are kept when it is given new bytes; absent: none. */
  versions?: number;
}

/** Versions of one asset: what a page of them, and a deletion that takes them along, has to do with at once. */
export const MAX_VERSIONS = 100;

/** A picture that is larger is made to fit; any other is replaced only where that makes it a tenth smaller. */
export interface ReencodePolicy {
  /** Pixels; absent: no bound. */
  maxWidth?: number;
  maxHeight?: number;
  /** 1 to 100. */
  quality: number;
  format: 'keep' | 'webp' | 'jpeg' | 'avif';
}

export interface TranscodePolicy {
  /** Absent: all. */
  formats?: string[];
  /** Seconds of the longest that is transcoded. */
  maxDuration?: number;
  /** Transcodes that an asset may have; 0: none is made. */
  maxCount?: number;
}

/** A picture that fits into a box; what is absent is as the settings say. */
export interface DerivativePolicy {
  /** Pixels. */
  width?: number;
  height?: number;
  format?: 'webp' | 'jpeg';
}

export const scanPolicies = ['required', 'best-effort', 'off'] as const;
export type ScanPolicy = (typeof scanPolicies)[number];

const MiB = 1024 * 1024;
/** Objects are written once and never change, but who may see them may. */
const CACHE_CONTROL = 'private, max-age=3600, immutable';
/** Whose files lose their metadata unless their policy says otherwise: pictures of people, with the place they were taken at. */
const metadataOf = (assetType: string) => (assetType === 'image' ? 'strip' : 'keep');

const defaults: Record<string, { mediaTypes: string[]; maxBytes: number }> = {
  image: {
    mediaTypes: [
      ...['image/jpeg', 'image/png', 'image/webp', 'image/gif', 'image/avif'],
      ...['image/heic', 'image/heif', 'image/svg+xml'],
    ],
    maxBytes: 10 * MiB,
  },
  video: { mediaTypes: ['video/mp4', 'video/quicktime', 'video/webm'], maxBytes: 500 * MiB },
  audio: {
    mediaTypes: ['audio/mpeg', 'audio/wav', 'audio/aiff', 'audio/flac', 'audio/ogg', 'audio/mp4', 'audio/webm'],
    maxBytes: 100 * MiB,
  },
  model: { mediaTypes: ['model/gltf-binary'], maxBytes: 500 * MiB },
  document: {
    mediaTypes: [
      'application/pdf',
      'application/vnd.openxmlformats-officedocument.wordprocessingml.document',
      'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet',
      'application/vnd.openxmlformats-officedocument.presentationml.presentation',
      'application/vnd.oasis.opendocument.text',
      'application/vnd.oasis.opendocument.spreadsheet',
      'application/vnd.oasis.opendocument.presentation',
    ],
    maxBytes: 50 * MiB,
  },
  text: { mediaTypes: ['text/plain', 'text/csv', 'text/markdown', 'application/json'], maxBytes: 50 * MiB },
  archive: { mediaTypes: ['application/zip'], maxBytes: 500 * MiB },
};

const mediaType = z.string().transform((text, context) => {
  const normalised = text === 'application/octet-stream' ? text : normaliseMediaType(text);
  if (normalised !== undefined && /^[a-z0-9][a-z0-9!#$&^_.+-]*\/[a-z0-9][a-z0-9!#$&^_.+-]*$/.test(normalised))
    return normalised;
  context.addIssue({ code: 'custom', message: 'must be a media type such as image/png' });
  return z.NEVER;
});

const pixels = z.number().int().min(16).max(2048);
const derivativePolicy = z.strictObject({
  width: pixels.exactOptional(),
  height: pixels.exactOptional(),
  format: z.enum(['webp', 'jpeg']).exactOptional(),
});
const bound = z.number().int().min(16).max(16_384).exactOptional();
const reencodePolicy = z.strictObject({
  maxWidth: bound,
  maxHeight: bound,
  quality: z.number().int().min(1).max(100).default(85),
  format: z.enum(['keep', 'webp', 'jpeg', 'avif']).default('keep'),
});
export const transcodeFormats = ['mp3', 'aac', 'opus', 'flac', 'wav', 'mp4'] as const;
const transcodePolicy = z.strictObject({
  formats: z.array(z.enum(transcodeFormats)).min(1).exactOptional(),
  maxDuration: z
    .number()
    .int()
    .min(1)
    .max(12 * 3600, 'must be at most 12 hours')
    .exactOptional(),
  maxCount: z.number().int().min(0).max(50).exactOptional(),
});
/** Such as mp3-128k, flac, mp4-720p. */
const transcodeName = /^((mp3|aac|opus)-\d+k|flac|wav|mp4-\d+p)$/;
/** Names of derivatives stand in addresses. */
const derivativeName = z
  .string()
  .regex(/^[a-z][a-z0-9-]{0,31}$/, 'names of derivatives are lower-case letters, digits and hyphens')
  .refine((name) => !transcodeName.test(name), 'this is the name of a transcode');

const policyFile = z.record(
  z.string().regex(/^[a-z][a-z0-9-]{0,63}$/, 'policy names are lower-case letters, digits and hyphens'),
  z.preprocess(
    withEncryptedType,
    z
      .strictObject({
        kind: z.literal('encrypted', { error: 'must be encrypted, or absent' }).exactOptional(),
        mediaTypes: z.array(mediaType).min(1),
        maxBytes: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
        cacheControl: z
          .string()
          .regex(/^[\x20-\x7e]{1,200}$/, 'must be a Cache-Control value')
          .default(CACHE_CONTROL),
        allowUndetected: z.boolean().default(false),
        public: z.boolean().exactOptional(),
        retention: z.enum(['temporary', 'permanent'], { error: 'must be temporary or permanent' }).exactOptional(),
        archiveAfterDays: days.exactOptional(),
        deleteAfterDays: days.exactOptional(),
        /** As earlier versions have it. */
        expireAfterDays: days.exactOptional(),
        daysSince: z.enum(daysSince, { error: 'must be upload or last-download' }).exactOptional(),
        metadata: z.enum(['keep', 'strip']).exactOptional(),
        scan: z.enum(scanPolicies, { error: 'must be required, best-effort or off' }).exactOptional(),
        reencode: reencodePolicy.exactOptional(),
        derivatives: z
          .record(derivativeName, derivativePolicy)
          .refine((named) => Object.keys(named).length <= 8, 'must name at most 8 derivatives')
          .exactOptional(),
        transcodes: transcodePolicy.exactOptional(),
        versions: z.number().int().min(0).max(MAX_VERSIONS, `must be at most ${MAX_VERSIONS}`).exactOptional(),
      })
      .superRefine(refuseReading)
      .nullable(),
  ),
);

/** A fault of the file UPLOAD_POLICIES names. */
export class PolicyError extends Error {
  override name = 'PolicyError';
}

/**
 * @param file path of a JSON file, or undefined for the defaults alone
 * @param maxFileSize caps the default policies; a policy of the file above it is a contradiction
 * @param hasScanner then every policy that does not say otherwise has its files scanned
 * @param hasArchive without one, no policy may have its files archived
 * @throws PolicyError that lists every fault of the file
 */
export function loadUploadPolicies(
  file: string | undefined,
  maxFileSize: number,
  hasScanner = false,
  hasArchive = false,
): UploadPolicies {
  const policies = new Map<string, UploadPolicy>();
  for (const [assetType, policy] of Object.entries(defaults)) {
    policies.set(assetType, {
      assetType,
      ...policy,
      cacheControl: CACHE_CONTROL,
      allowUndetected: false,
      metadata: metadataOf(assetType),
      scan: hasScanner ? 'required' : 'off',
    });
  }
  if (!hasScanner) policies.set('encrypted', { ...encryptedPolicy, cacheControl: CACHE_CONTROL });
  for (const [assetType, policy] of Object.entries(file === undefined ? {} : readPolicies(file))) {
    if (policy === null) policies.delete(assetType);
    else if (policy.maxBytes > maxFileSize) {
      throw new PolicyError(
        `UPLOAD_POLICIES: ${assetType}.maxBytes is more than MAX_FILE_SIZE allows: raise MAX_FILE_SIZE or lower maxBytes`,
      );
    } else if (policy.scan === 'required' && !hasScanner) {
      throw new PolicyError(
        `UPLOAD_POLICIES: ${assetType}.scan is required, but there is no scanner: set CLAMD, or let the policy say best-effort or off`,
      );
    } else {
      const scan = hasScanner && policy.kind !== 'encrypted' ? (policy.scan ?? 'required') : 'off';
      policies.set(assetType, {
        assetType,
        metadata: metadataOf(assetType),
        ...withLifeCycle(assetType, policy, hasArchive),
        scan,
      });
    }
  }
  if (policies.size === 0) throw new PolicyError('UPLOAD_POLICIES: no policy is left, so nothing could be uploaded');
  for (const policy of policies.values()) policy.maxBytes = Math.min(policy.maxBytes, maxFileSize);
  return new UploadPolicies([...policies.values()]);
}

type PolicyOfFile = NonNullable<z.output<typeof policyFile>[string]>;

/** @throws PolicyError */
function withLifeCycle(
  assetType: string,
  policy: PolicyOfFile,
  hasArchive: boolean,
): Omit<UploadPolicy, 'metadata' | 'assetType'> {
  const { archiveAfterDays, deleteAfterDays, expireAfterDays, daysSince: since, ...rest } = policy;
  const refuse = (why: string) => new PolicyError(`UPLOAD_POLICIES: ${assetType}: ${why}`);
  if (deleteAfterDays !== undefined && expireAfterDays !== undefined)
    throw refuse('expireAfterDays is the earlier name of deleteAfterDays: name one of them');
  const named = deleteAfterDays ?? expireAfterDays;
  if (archiveAfterDays === undefined && named === undefined) {
    if (since !== undefined) throw refuse('daysSince needs archiveAfterDays or deleteAfterDays');
    return rest;
  }
  const lifeCycle = { archiveAfterDays, deleteAfterDays: named, since };
  const contradiction = contradictionIn(lifeCycle);
  if (contradiction !== undefined) throw refuse(contradiction);
  if (archiveAfterDays !== undefined && !hasArchive)
    throw refuse(
      'archiveAfterDays is set, but there is no archive: set ARCHIVE_STORAGE_CLASS, ARCHIVE_S3_BUCKET or ARCHIVE_DIRECTORY',
    );
  return { ...rest, lifeCycle };
}

function readPolicies(file: string): z.output<typeof policyFile> {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new PolicyError(
      `UPLOAD_POLICIES: the file cannot be read as JSON (${error instanceof Error ? error.message : 'unknown fault'})`,
    );
  }
  const result = policyFile.safeParse(content);
  if (result.success) return result.data;
  throw new PolicyError(result.error.issues.map((issue) => `UPLOAD_POLICIES: ${wordsOf(issue, content)}`).join('\n'));
}

/** Longest value that is shown. */
const MAX_SHOWN = 80;

/** A fault with its place and the value that is wrong; a file of policies holds no secrets. */
function wordsOf(issue: z.core.$ZodIssue, content: unknown): string {
  const place = issue.path.join('.') || 'the file';
  // The name of a policy is the key itself.
  if (issue.code === 'invalid_key')
    return `${JSON.stringify(issue.path.at(-1))}: ${issue.issues[0]?.message ?? issue.message}`;
  let value = content;
  for (const key of issue.path) value = value instanceof Object ? Reflect.get(value, key) : undefined;
  const shown =
    issue.code === 'unrecognized_keys' || value === undefined
      ? ''
      : `, not ${JSON.stringify(value).slice(0, MAX_SHOWN)}`;
  return `${place}: ${issue.message}${shown}`;
}

/** The most that a caller may upload in one file, whatever the policies allow. */
export interface SizeBound {
  /** Bytes. */
  maxFileSize: number;
  /** The tier that sets it. */
  tier: string;
}

export class UploadPolicies {
  readonly #policies: readonly UploadPolicy[];
  /** By which these allow less than they would. */
  readonly bound: SizeBound | undefined;

  constructor(policies: readonly UploadPolicy[], bound?: SizeBound) {
    this.#policies = policies;
    this.bound = bound;
  }

  /** The same for a caller who may not upload larger files than this. */
  within(bound: SizeBound | undefined): UploadPolicies {
    if (!bound) return this;
    const { maxFileSize } = bound;
    return new UploadPolicies(
      this.#policies.map((policy) => ({ ...policy, maxBytes: Math.min(policy.maxBytes, maxFileSize) })),
      bound,
    );
  }

  get all(): readonly UploadPolicy[] {
    return this.#policies;
  }

  named(assetType: string): UploadPolicy | undefined {
    return this.#policies.find((policy) => policy.assetType === assetType);
  }

  /** The first policy that allows this media type. */
  allowing(mediaType: string): UploadPolicy | undefined {
    return this.#policies.find((policy) => policy.mediaTypes.includes(mediaType));
  }

  /** Bytes of the largest file that any policy allows. */
  get largest(): number {
    return Math.max(...this.#policies.map((policy) => policy.maxBytes));
  }

  get allowUndetected(): boolean {
    return this.#policies.some((policy) => policy.allowUndetected);
  }
}
