/** Opens the object stores of the configuration: S3 when a bucket is named, else the disk; and its mirrors. */
import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import type { Config } from '../config.ts';
import { regionFor } from '../storage-providers.ts';
import { ArchivingStore } from './archive/archiving-store.ts';
import { type ArchiveValues, readArchive } from './archive/settings.ts';
import { DiskObjectStore } from './disk/disk-object-store.ts';
import { describePlace, type Mirror, type MirrorPlace, type S3MirrorPlace } from './mirror.ts';
import type { ObjectStore } from './object-store.ts';
import { S3ObjectStore, type S3Options } from './s3/s3-object-store.ts';

/** Connections for jobs that read objects back, and for those that copy them, beside those of downloads. */
const READING_JOBS = 16;
/** Connections of a mirror, of each kind: jobs alone use it, and what is copied at once is bounded; see mirrors/copier.ts. */
const MIRROR_CONNECTIONS = 16;

export interface OpenOptions {
  publicUrl: () => string;
  onRetries: (operation: string, retries: number) => void;
  /** Made and kept when none is configured. */
  linkSecret: () => Buffer;
}

/** @throws ConfigError when the settings of the archive contradict themselves */
export async function openObjectStore(config: Config, options: OpenOptions): Promise<ObjectStore> {
  const archive = readArchive(config);
  const first = await openFirst(config, options);
  if (!archive) return first;
  const { ARCHIVE_DIRECTORY: directory, ARCHIVE_S3_BUCKET: bucket, ARCHIVE_STORAGE_CLASS: storageClass } = archive;
  const isRequested = storageClass === 'GLACIER' || storageClass === 'DEEP_ARCHIVE';
  const isOffline = archive.ARCHIVE_RESTORE === 'auto' ? isRequested : archive.ARCHIVE_RESTORE === 'request';
  const store =
    directory === undefined
      ? new S3ObjectStore({ ...archiveOptions(archive, config), onRetries: options.onRetries })
      : new DiskObjectStore({ directory: resolve(directory), linkSecret: randomBytes(32), publicUrl: noLinks });
  return new ArchivingStore({ first, store, isApart: (bucket ?? directory) !== undefined, isOffline });
}

/** Jobs alone use it, few at a time. */
const ARCHIVE_CONNECTIONS = 16;

function archiveOptions(archive: ArchiveValues, config: Config): S3Options {
  const { ARCHIVE_S3_BUCKET: bucket, ARCHIVE_S3_ENDPOINT: endpoint, ARCHIVE_STORAGE_CLASS: storageClass } = archive;
  const { ARCHIVE_S3_ACCESS_KEY_ID: accessKeyId, ARCHIVE_S3_SECRET_ACCESS_KEY: secretAccessKey } = archive;
  const connections = ARCHIVE_CONNECTIONS;
  const { S3_CHECKSUM: checksum, S3_CONNECT_TIMEOUT, S3_REQUEST_TIMEOUT, S3_DEADLINE } = config;
  const place: S3Options =
    bucket === undefined
      ? s3Options(config)
      : {
          ...{ bucket, checksum, region: regionFor(endpoint, archive.ARCHIVE_S3_REGION), encryption: { mode: 'none' } },
          ...(endpoint !== undefined && { endpoint }),
          ...(accessKeyId !== undefined &&
            secretAccessKey !== undefined && { credentials: { accessKeyId, secretAccessKey } }),
          forcePathStyle: archive.ARCHIVE_S3_FORCE_PATH_STYLE,
          ...{ connectTimeout: S3_CONNECT_TIMEOUT, requestTimeout: S3_REQUEST_TIMEOUT, deadline: S3_DEADLINE },
          sockets: { uploads: connections, downloads: connections, calls: connections, probes: 2 },
        };
  return { ...place, ...(storageClass !== undefined && { storageClass }) };
}

function noLinks(): never {
  throw new Error('nobody is led to the disk of an archive or a mirror');
}

async function openFirst(config: Config, { publicUrl, onRetries, linkSecret }: OpenOptions): Promise<ObjectStore> {
  if (config.S3_BUCKET === undefined) {
    const secret = config.LINK_SECRET === undefined ? linkSecret() : Buffer.from(config.LINK_SECRET);
    const { DATA_DIR, USERCONTENT_URL: content } = config;
    return new DiskObjectStore({
      directory: resolve(join(DATA_DIR, 'objects')),
      linkSecret: secret,
      publicUrl,
      ...(content !== undefined && { contentUrl: () => content }),
    });
  }
  return new S3ObjectStore({ ...s3Options(config), onRetries });
}

/** A bucket that is not the service's own, with its settings of the network. */
export interface OtherBucket {
  bucket: string;
  endpoint: string | undefined;
  region: string;
  accessKeyId: string | undefined;
  secretAccessKey: string | undefined;
}

/** Opens a bucket for commands, which hand out no links of it. */
export function openBucket(config: Config, { bucket, endpoint, region, ...keys }: OtherBucket): ObjectStore {
  return new S3ObjectStore(
    s3Options({
      ...config,
      S3_BUCKET: bucket,
      S3_ENDPOINT: endpoint,
      S3_PUBLIC_ENDPOINT: undefined,
      S3_REGION: region,
      S3_ACCESS_KEY_ID: keys.accessKeyId,
      S3_SECRET_ACCESS_KEY: keys.secretAccessKey,
      // What it is stored as is the affair of whoever made the bucket.
      S3_STORAGE_CLASS: undefined,
    }),
  );
}

/**
 * Opens mirrors; nothing is connected to by it.
 * @param onRetries as that of the first store
 */
export function openMirrors(
  places: readonly MirrorPlace[],
  config: Config,
  { onRetries }: Pick<OpenOptions, 'onRetries'>,
): Mirror[] {
  return places.map((place) => {
    const { name } = place;
    if ('directory' in place) {
      const options = { directory: resolve(place.directory), linkSecret: randomBytes(32), publicUrl: noLinks };
      return { name, place: describePlace(place), prefix: '', store: new DiskObjectStore(options) };
    }
    const store = new S3ObjectStore({ ...mirrorOptions(place, config), onRetries });
    return { name, place: describePlace(place), prefix: place.prefix, store };
  });
}

/** A mirror on S3, as its store takes it. */
export function mirrorOptions(place: S3MirrorPlace, config: Config): S3Options {
  const { bucket, region, endpoint, credentials, forcePathStyle, storageClass, encryption, checksum } = place;
  return {
    ...{ bucket, region, forcePathStyle, encryption, checksum },
    ...(endpoint !== undefined && { endpoint }),
    ...(credentials && { credentials }),
    ...(storageClass !== undefined && { storageClass }),
    connectTimeout: config.S3_CONNECT_TIMEOUT,
    requestTimeout: config.S3_REQUEST_TIMEOUT,
    deadline: config.S3_DEADLINE,
    sockets: {
      uploads: MIRROR_CONNECTIONS,
      downloads: MIRROR_CONNECTIONS,
      calls: MIRROR_CONNECTIONS,
      probes: 2,
    },
  };
}

/** @throws when no bucket is configured */
export function s3Options(config: Config): S3Options {
  const {
    S3_BUCKET,
    S3_ENDPOINT,
    S3_PUBLIC_ENDPOINT,
    S3_ACCESS_KEY_ID,
    S3_SECRET_ACCESS_KEY,
    S3_STORAGE_CLASS,
    S3_SSE,
    S3_SSE_KMS_KEY_ID,
  } = config;
  if (S3_BUCKET === undefined) throw new Error('S3_BUCKET is not set');
  return {
    bucket: S3_BUCKET,
    region: config.S3_REGION,
    ...(S3_ENDPOINT !== undefined && { endpoint: S3_ENDPOINT }),
    ...(S3_PUBLIC_ENDPOINT !== undefined && { publicEndpoint: S3_PUBLIC_ENDPOINT }),
    ...(S3_ACCESS_KEY_ID !== undefined &&
      S3_SECRET_ACCESS_KEY !== undefined && {
        credentials: { accessKeyId: S3_ACCESS_KEY_ID, secretAccessKey: S3_SECRET_ACCESS_KEY },
      }),
    forcePathStyle: config.S3_FORCE_PATH_STYLE,
    forbidCopySource: config.S3_SIGN_NO_COPY,
    ...(S3_STORAGE_CLASS !== undefined && { storageClass: S3_STORAGE_CLASS }),
    encryption:
      S3_SSE === 'aws:kms'
        ? { mode: S3_SSE, ...(S3_SSE_KMS_KEY_ID !== undefined && { keyId: S3_SSE_KMS_KEY_ID }) }
        : { mode: S3_SSE },
    checksum: config.S3_CHECKSUM,
    connectTimeout: config.S3_CONNECT_TIMEOUT,
    requestTimeout: config.S3_REQUEST_TIMEOUT,
    deadline: config.S3_DEADLINE,
    sockets: {
      uploads: Math.max(64, config.UPLOADS_AT_ONCE * 2),
      // Jobs read as well.
      downloads: config.DOWNLOADS_AT_ONCE + READING_JOBS,
      calls: 64,
      probes: 4,
    },
  };
}
