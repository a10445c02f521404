/** Where the archive is. */
import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { type Config, ConfigError, flag, optional, setting, settingsIn } from '../../config.ts';
import { placeFaults, placeNames, regionFor } from '../../storage-providers.ts';

const url = z.url({ protocol: /^https?$/, error: 'must be an http:// or https:// URL' });

export const archiveSettings = {
  ARCHIVE_STORAGE_CLASS: setting(
    'Archive',
    optional(z.string().regex(/^[A-Z0-9_]+$/, 'must be a storage class such as GLACIER')),
    undefined,
    'Storage class of archived objects: one of AWS, or a name that your server knows.',
  ),
  ARCHIVE_RESTORE: setting(
    'Archive',
    z.enum(['auto', 'request', 'copy'], { error: 'must be auto, request or copy' }),
    'auto',
    'How archived objects come back: `request` asks the server for them (RestoreObject) and waits, `copy` copies them; auto does the first with GLACIER and DEEP_ARCHIVE.',
  ),
  ARCHIVE_S3_BUCKET: setting(
    'Archive',
    optional(z.string().min(1)),
    undefined,
    'Bucket of archived objects, where they are to leave the first store; without it they stay in their bucket, in another class.',
  ),
  ARCHIVE_S3_ENDPOINT: setting('Archive', optional(url), undefined, 'URL of its server; that of AWS when absent.'),
  ARCHIVE_S3_REGION: setting('Archive', z.string().min(1), 'us-east-1', 'Its region.'),
  ARCHIVE_S3_ACCESS_KEY_ID: setting(
    'Archive',
    optional(z.string().min(1)),
    undefined,
    'Its access key; the default credential chain of the AWS SDK when absent.',
  ),
  ARCHIVE_S3_SECRET_ACCESS_KEY: setting('Archive', optional(z.string().min(1)), undefined, 'Secret of that key.'),
  ARCHIVE_S3_FORCE_PATH_STYLE: setting(
    'Archive',
    flag,
    'false',
    'As S3_FORCE_PATH_STYLE, for the bucket of the archive.',
  ),
  ARCHIVE_DIRECTORY: setting(
    'Archive',
    optional(z.string().refine(isAbsolute, 'must be an absolute path')),
    undefined,
    'Directory of archived objects, on a disk of its own; instead of a bucket.',
  ),
} as const;

export type ArchiveValues = ReturnType<typeof archiveValues>;

function archiveValues(config: Config) {
  return settingsIn(config, archiveSettings);
}

/** What the provider of the bucket is known not to do; see storage-providers.ts. */
function providerFaults(config: Config, values: ArchiveValues): string[] {
  const { ARCHIVE_S3_BUCKET: own, ARCHIVE_STORAGE_CLASS: storageClass, ARCHIVE_S3_ENDPOINT: endpoint } = values;
  const bucket = own ?? config.S3_BUCKET;
  if (bucket === undefined) return [];
  const names = { ...placeNames(own === undefined ? '' : 'ARCHIVE_'), storageClass: 'ARCHIVE_STORAGE_CLASS' };
  const place = { bucket, storageClass, isArchive: true };
  if (own === undefined) return placeFaults({ ...place, endpoint: config.S3_ENDPOINT }, names);
  return placeFaults({ ...place, endpoint, region: regionFor(endpoint, values.ARCHIVE_S3_REGION) }, names);
}

/** What the variables say, and where they name an archive at all. @throws ConfigError */
export function readArchive(config: Config): ArchiveValues | undefined {
  const values = archiveValues(config);
  const { ARCHIVE_S3_BUCKET: bucket, ARCHIVE_DIRECTORY: directory, ARCHIVE_STORAGE_CLASS: storageClass } = values;
  const faults: string[] = [];
  if (bucket !== undefined && directory !== undefined)
    faults.push('ARCHIVE_DIRECTORY: the archive is a bucket or a directory; name one of ARCHIVE_S3_BUCKET and this');
  if (directory !== undefined && storageClass !== undefined)
    faults.push('ARCHIVE_STORAGE_CLASS: a directory has no storage classes; leave it out');
  if (bucket === undefined && storageClass !== undefined && config.S3_BUCKET === undefined)
    faults.push('ARCHIVE_STORAGE_CLASS: needs S3_BUCKET or ARCHIVE_S3_BUCKET; a disk has no storage classes');
  if (bucket === undefined && storageClass !== undefined && storageClass === (config.S3_STORAGE_CLASS ?? 'STANDARD'))
    faults.push('ARCHIVE_STORAGE_CLASS: is the class that objects have anyway; name a colder one');
  const isSame =
    bucket !== undefined &&
    bucket === config.S3_BUCKET &&
    values.ARCHIVE_S3_ENDPOINT === config.S3_ENDPOINT &&
    values.ARCHIVE_S3_REGION === config.S3_REGION;
  if (isSame)
    faults.push('ARCHIVE_S3_BUCKET: is the bucket of the assets; name another, or only ARCHIVE_STORAGE_CLASS');
  const { ARCHIVE_S3_ACCESS_KEY_ID: key, ARCHIVE_S3_SECRET_ACCESS_KEY: secret } = values;
  if ((key === undefined) !== (secret === undefined))
    faults.push('ARCHIVE_S3_SECRET_ACCESS_KEY: ARCHIVE_S3_ACCESS_KEY_ID and this need each other');
  faults.push(...providerFaults(config, values));
  if (faults.length > 0) throw new ConfigError(faults);
  return (bucket ?? directory ?? storageClass) === undefined ? undefined : values;
}
