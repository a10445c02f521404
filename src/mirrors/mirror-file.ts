/** The file that MIRRORS names: mirrors by name, each a bucket or a directory. */
import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { type Config, settings, settingsIn } from '../config.ts';
import { describePlace, type MirrorPlace } from '../storage/mirror.ts';
import { type PlaceNames, placeFaults, placeNames, regionFor } from '../storage-providers.ts';
import { MIRROR_OF_SETTINGS, mirrorOfSettings, mirrorSettings } from './settings.ts';

const { S3_BUCKET, S3_ENDPOINT, S3_STORAGE_CLASS, S3_KEY_PREFIX } = settings;
const text = z.string('must be text').min(1, 'must not be empty');

const bucketSchema = z.strictObject({
  bucket: text.pipe(S3_BUCKET.schema.unwrap()),
  endpoint: text.pipe(S3_ENDPOINT.schema.unwrap()).exactOptional(),
  region: text.default('us-east-1'),
  accessKeyId: text.exactOptional(),
  secretAccessKey: text.exactOptional(),
  forcePathStyle: z.boolean('must be true or false').default(false),
  storageClass: text.pipe(S3_STORAGE_CLASS.schema.unwrap()).exactOptional(),
  prefix: z.string('must be text').pipe(S3_KEY_PREFIX.schema).default(''),
  encryption: z.enum(['AES256', 'aws:kms'], 'must be AES256 or aws:kms').exactOptional(),
  kmsKeyId: text.exactOptional(),
  checksum: z.enum(['crc32', 'sha256', 'sdk'], 'must be crc32, sha256 or sdk').exactOptional(),
});
const directorySchema = z.strictObject({
  directory: text.refine(isAbsolute, 'must be an absolute path'),
});

/** Each takes a row per object, and connections. */
const MAX_MIRRORS = 8;
const NAME = /^[a-z][a-z0-9-]{0,31}$/;

/** A fault of the settings of mirrors. */
export class MirrorError extends Error {
  override name = 'MirrorError';
}

/**
 * The mirrors of the configuration: that of the variables, and those of the file.
 * @param file content of the file MIRRORS, where there is one
 * @throws MirrorError that lists every fault by its field
 */
export function mirrorsOf(config: Config, file: string | undefined): MirrorPlace[] {
  const faults: string[] = [];
  const single = mirrorOfSettings(config);
  const own = settingsIn(config, mirrorSettings);
  if ((own.MIRROR_S3_ACCESS_KEY_ID === undefined) !== (own.MIRROR_S3_SECRET_ACCESS_KEY === undefined))
    faults.push('MIRROR_S3_ACCESS_KEY_ID and MIRROR_S3_SECRET_ACCESS_KEY belong together: name both or none');
  if (!single && (own.MIRROR_S3_ENDPOINT !== undefined || own.MIRROR_S3_ACCESS_KEY_ID !== undefined))
    faults.push('MIRROR_S3_BUCKET is missing although other settings of the mirror are there');
  const named = file === undefined ? [] : parse(file, config, faults);
  if (single && named.some(({ name }) => name === MIRROR_OF_SETTINGS))
    faults.push(`MIRRORS: ${MIRROR_OF_SETTINGS}: this is the name of the mirror of MIRROR_S3_BUCKET: choose another`);
  const places = [...(single ? [single] : []), ...named].map(inItsRegion);
  if (places.length > MAX_MIRRORS) faults.push(`MIRRORS: there may be ${MAX_MIRRORS} mirrors`);
  faults.push(
    ...samePlaces(places, config),
    ...places.flatMap((place) => providerFaults(place, place.name === single?.name)),
  );
  if (faults.length > 0) throw new MirrorError(faults.join('\n'));
  return places;
}

/** In that of its endpoint, where nobody has named one. */
function inItsRegion(place: MirrorPlace): MirrorPlace {
  return 'directory' in place ? place : { ...place, region: regionFor(place.endpoint, place.region) };
}

/** @param isOfSettings it is the mirror of MIRROR_S3_BUCKET */
function providerFaults(place: MirrorPlace, isOfSettings: boolean): string[] {
  if ('directory' in place) return [];
  const { bucket, endpoint, region, storageClass, encryption, name } = place;
  const field = (named: string) => `MIRRORS: ${name}.${named}`;
  const names: PlaceNames = isOfSettings
    ? placeNames('MIRROR_')
    : {
        ...{ bucket: field('bucket'), endpoint: field('endpoint'), region: field('region') },
        ...{ storageClass: field('storageClass'), encrypts: field('encryption') },
      };
  return placeFaults({ bucket, endpoint, region, storageClass, encrypts: encryption.mode !== 'none' }, names);
}

function parse(file: string, config: Config, faults: string[]): MirrorPlace[] {
  const named = asJson(file);
  if (named === undefined) {
    faults.push('MIRRORS: the file must be a JSON object of mirrors by name');
    return [];
  }
  return Object.entries(named).flatMap(([name, given]) => {
    if (!NAME.test(name)) {
      faults.push(
        `MIRRORS: ${JSON.stringify(name)}: names of mirrors are up to 32 lower-case letters, digits and hyphens`,
      );
      return [];
    }
    return placeOf(name, given, config, faults);
  });
}

function asJson(file: string): object | undefined {
  try {
    const value: unknown = JSON.parse(file);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function placeOf(name: string, given: unknown, config: Config, faults: string[]): MirrorPlace[] {
  const isDirectory = typeof given === 'object' && given !== null && 'directory' in given;
  if (isDirectory) {
    const read = directorySchema.safeParse(given);
    if (read.success) return [{ name, ...read.data }];
    faults.push(...read.error.issues.map((issue) => wordsOf(name, issue, directorySchema)));
    return [];
  }
  const read = bucketSchema.safeParse(given);
  if (!read.success) {
    faults.push(...read.error.issues.map((issue) => wordsOf(name, issue, bucketSchema)));
    return [];
  }
  const { accessKeyId, secretAccessKey, encryption, kmsKeyId, checksum = config.S3_CHECKSUM, ...place } = read.data;
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined))
    faults.push(`MIRRORS: ${name}.accessKeyId and secretAccessKey belong together: name both or none`);
  if (kmsKeyId !== undefined && encryption !== 'aws:kms')
    faults.push(`MIRRORS: ${name}.kmsKeyId needs encryption aws:kms`);
  const credentials = accessKeyId !== undefined && secretAccessKey !== undefined && { accessKeyId, secretAccessKey };
  return [
    {
      ...{ ...place, name, checksum },
      ...(credentials && { credentials }),
      encryption:
        encryption === 'aws:kms'
          ? { mode: encryption, ...(kmsKeyId !== undefined && { keyId: kmsKeyId }) }
          : { mode: encryption ?? 'none' },
    },
  ];
}

function wordsOf(name: string, issue: z.core.$ZodIssue, schema: z.ZodObject): string {
  if (issue.code === 'unrecognized_keys')
    return `MIRRORS: ${[name, ...issue.path, issue.keys[0]].join('.')}: there is no such field. There are ${Object.keys(schema.shape).join(', ')}`;
  if (issue.path.length === 0) return `MIRRORS: ${name}: must be an object with a bucket or a directory`;
  return `MIRRORS: ${[name, ...issue.path].join('.')}: ${issue.message}`;
}

/** A copy beside what it is of is none, and two in one place are one. */
function samePlaces(places: readonly MirrorPlace[], config: Config): string[] {
  const faults: string[] = [];
  const seen = new Map<string, string>();
  for (const place of places) {
    const { name } = place;
    const where = 'directory' in place ? place.directory : `${place.endpoint ?? ''} ${place.bucket} ${place.prefix}`;
    const other = seen.get(where);
    if (other !== undefined)
      faults.push(`the mirrors ${other} and ${name} are the same place: ${describePlace(place)}`);
    seen.set(where, name);
    if (!('directory' in place) && place.bucket === config.S3_BUCKET && place.endpoint === config.S3_ENDPOINT)
      faults.push(`the mirror ${name} is the bucket of the assets, S3_BUCKET: name another bucket`);
  }
  return faults;
}
