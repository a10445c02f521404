/** Variables of mirrors. */
import { z } from 'zod';
import { type Config, duration, flag, optional, setting, settings, settingsIn } from '../config.ts';
import type { MirrorPlace } from '../storage/mirror.ts';

const {
  S3_BUCKET: bucket,
  S3_ENDPOINT: endpoint,
  S3_REGION: region,
  S3_STORAGE_CLASS: storageClass,
  S3_KEY_PREFIX: keyPrefix,
} = settings;
/** The mirror that the variables MIRROR_S3_... describe. */
export const MIRROR_OF_SETTINGS = 'mirror';
const GROUP = 'Mirrors';

/** A share of all copies: `1%`, `0.5%`, `0` for none. As a fraction. */
const share = z
  .string()
  .regex(/^(?:0|\d{1,3}(?:\.\d{1,4})?%)$/, 'must be a share such as 1% or 0.5%, or 0 for none')
  .transform((text) => Number.parseFloat(text) / 100)
  .refine((value) => value <= 1, 'must be at most 100%');

export const mirrorSettings = {
  MIRROR_S3_BUCKET: setting(
    GROUP,
    bucket.schema,
    undefined,
    'Second bucket, to which a job copies every object after the answer; its name is `mirror`. See docs/durability.md.',
  ),
  MIRROR_S3_ENDPOINT: setting(GROUP, endpoint.schema, undefined, 'URL of its S3 server, where that is not AWS.'),
  MIRROR_S3_REGION: setting(GROUP, region.schema, 'us-east-1', 'Region of that bucket.'),
  MIRROR_S3_ACCESS_KEY_ID: setting(
    GROUP,
    optional(z.string().min(1)),
    undefined,
    'Access key for it; the default credential chain of the AWS SDK when absent.',
  ),
  MIRROR_S3_SECRET_ACCESS_KEY: setting(GROUP, optional(z.string().min(1)), undefined, 'Secret of that access key.'),
  MIRROR_S3_FORCE_PATH_STYLE: setting(GROUP, flag, 'false', 'Bucket in the path instead of the host name.'),
  MIRROR_S3_STORAGE_CLASS: setting(GROUP, storageClass.schema, undefined, 'Storage class of the copies.'),
  MIRROR_S3_KEY_PREFIX: setting(GROUP, keyPrefix.schema, '', 'Put before the key of every copy, for example copies/.'),
  MIRRORS: setting(
    GROUP,
    optional(z.string().min(1)),
    undefined,
    'JSON file with several mirrors by name: buckets, or directories of a disk.',
  ),
  MIRROR_LAG: setting(
    GROUP,
    duration.refine((ms) => ms >= 60_000, 'must be at least 1m'),
    '1h',
    'Age of the oldest object without a copy at which a mirror counts as lagging.',
  ),
  MIRROR_VERIFY: setting(
    GROUP,
    share,
    '1%',
    'Share of all copies whose bytes are read again in a day and compared with their digest; 0 for none.',
  ),
};

/** The mirror that the variables describe, if they do. */
export function mirrorOfSettings(config: Config): MirrorPlace | undefined {
  const own = settingsIn(config, mirrorSettings);
  const { MIRROR_S3_BUCKET: bucket, MIRROR_S3_ACCESS_KEY_ID: id, MIRROR_S3_SECRET_ACCESS_KEY: secret } = own;
  if (bucket === undefined) return undefined;
  return {
    name: MIRROR_OF_SETTINGS,
    bucket,
    endpoint: own.MIRROR_S3_ENDPOINT,
    region: own.MIRROR_S3_REGION,
    credentials: id !== undefined && secret !== undefined ? { accessKeyId: id, secretAccessKey: secret } : undefined,
    forcePathStyle: own.MIRROR_S3_FORCE_PATH_STYLE,
    storageClass: own.MIRROR_S3_STORAGE_CLASS,
    encryption: { mode: 'none' },
    checksum: config.S3_CHECKSUM,
    prefix: own.MIRROR_S3_KEY_PREFIX,
  };
}
