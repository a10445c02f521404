/** Upload policies over HTTP. */
import { z } from 'zod';
import { sizeBoundOf } from '../access/tiers.ts';
import type { App } from '../http/openapi.ts';
import { assetType, bytesCount, openEnum } from '../http/schema-types.ts';
import { days, daysSince, type LifeCycleRules } from '../validation/life-cycle.ts';
import { extensionsOf } from '../validation/media-types.ts';
import { scanPolicies, type UploadPolicies, type UploadPolicy } from '../validation/upload-policies.ts';

const acceptedType = z
  .object({
    mediaType: z.string().meta({ example: 'image/jpeg' }),
    extensions: z.array(z.string()).meta({
      description:
        'What a name may end with, without the dot; names without an extension are accepted too. Empty: any extension that does not belong to another type',
      example: ['jpg', 'jpeg'],
    }),
  })
  .meta({ id: 'AcceptedType' });
const policyDocument = z
  .object({
    assetType,
    kind: openEnum(
      'PolicyKind',
      ['files', 'encrypted'],
      '`encrypted`: takes what was encrypted before it was sent, and nothing else; nobody here can read it.',
    ),
    types: z.array(acceptedType).min(1),
    maxBytes: bytesCount.meta({ description: 'Bytes that a file may have', example: 10485760 }),
    allowUndetected: z.boolean().meta({
      description: 'Whether bytes of no known type are accepted under their declared type',
      example: false,
    }),
    public: z.boolean().meta({ description: 'Whether its assets may be made public', example: false }),
    metadata: openEnum(
      'MetadataPolicy',
      ['keep', 'strip'],
      'Whether what a file tells beside what it shows (place, camera, author) is removed before it is served.',
    ),
    expireAfterDays: z.number().int().min(1).optional().meta({
      description: 'The same as `deleteAfterDays`, as earlier versions have it',
      deprecated: true,
      example: 90,
    }),
    deleteAfterDays: days
      .optional()
      .meta({ description: 'Days after which assets are deleted for good; absent: never', example: 90 }),
    archiveAfterDays: days
      .optional()
      .meta({ description: 'Days after which the bytes of assets go to the archive; absent: never', example: 30 }),
    daysSince: openEnum(
      'DaysSince',
      daysSince,
      'From when these days are counted: since an asset was given the bytes that it has, or since they were asked for last.',
    ).optional(),
    retention: openEnum(
      'UsualRetention',
      ['temporary', 'permanent'],
      'What assets are where their upload does not say it.',
    ),
    reencode: z
      .object({
        maxWidth: z.number().int().min(1).optional().meta({ description: 'Pixels', example: 2048 }),
        maxHeight: z.number().int().min(1).optional().meta({ description: 'Pixels', example: 2048 }),
        quality: z.number().int().min(1).max(100),
        format: openEnum('ReencodeFormat', ['keep', 'webp', 'jpeg', 'avif'], 'What it becomes.'),
      })
      .optional()
      .meta({
        id: 'ReencodePolicy',
        description:
          'Pictures are encoded again before they are served; absent: never. One that is not larger than the bounds is replaced only where that makes it a tenth smaller',
      }),
    scan: openEnum(
      'ScanPolicy',
      scanPolicies,
      'Whether files are scanned for viruses. `best-effort`: where that cannot be done within a day, they are served all the same.',
    ),
    versions: z
      .number()
      .int()
      .min(1)
      .optional()
      .meta({
        override: { type: 'integer', minimum: 1 },
        description: 'How many former contents of an asset are kept when it is given new bytes; absent: none',
        example: 5,
      }),
  })
  .meta({ id: 'UploadPolicy' });
const policiesDocument = z
  .object({
    data: z.array(policyDocument).meta({
      description: 'Of an upload that names no `assetType`, the first policy that allows the media type applies',
    }),
  })
  .meta({ id: 'UploadPolicies' });

function toDocument(policy: UploadPolicy): z.input<typeof policyDocument> {
  const { mediaTypes, maxBytes, allowUndetected, metadata, lifeCycle, reencode } = policy;
  const { scan = 'off', versions = 0 } = policy;
  return {
    assetType: policy.assetType,
    kind: policy.kind ?? 'files',
    types: mediaTypes.map((mediaType) => ({ mediaType, extensions: [...extensionsOf(mediaType)] })),
    maxBytes,
    allowUndetected,
    public: policy.public === true,
    metadata,
    ...(lifeCycle && lifeCycleOf(lifeCycle)),
    retention: policy.retention ?? 'permanent',
    ...(reencode && { reencode }),
    scan,
    ...(versions > 0 && { versions }),
  };
}

function lifeCycleOf({ archiveAfterDays, deleteAfterDays, since = 'upload' }: LifeCycleRules) {
  return {
    ...(archiveAfterDays !== undefined && { archiveAfterDays }),
    ...(deleteAfterDays !== undefined && { deleteAfterDays, expireAfterDays: deleteAfterDays }),
    daysSince: since,
  };
}

export function policyRoutes(app: App, policies: UploadPolicies): void {
  app.get(
    '/v1/policies',
    {
      schema: {
        operationId: 'listUploadPolicies',
        tags: ['Uploads'],
        summary: 'List what may be uploaded: asset types with their media types, extensions and sizes',
        description:
          'The quota of the caller (`GET /v1/quota`) may allow less than `maxBytes`. The policies change only when the service is configured anew, or the caller has another tier.',
        response: { 200: policiesDocument },
      },
      config: {
        action: 'asset.upload',
        success: { status: 200, description: 'The upload policies, in the order in which they apply' },
      },
    },
    ({ caller }) => ({ data: policies.within(sizeBoundOf(caller)).all.map(toDocument) }),
  );
}
