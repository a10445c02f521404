/** Other stores that hold a copy of every object. */
import type { ObjectStore } from './object-store.ts';

/** Where a mirror is, as the configuration says it. */
export type MirrorPlace = {
  /** Of the mirror, in the API, in metrics and in the table of copies. */
  name: string;
} & (S3MirrorPlace | DiskMirrorPlace);

export interface S3MirrorPlace {
  bucket: string;
  endpoint?: string | undefined;
  region: string;
  credentials?: { accessKeyId: string; secretAccessKey: string } | undefined;
  forcePathStyle: boolean;
  storageClass?: string | undefined;
  encryption: { mode: 'none' } | { mode: 'AES256' } | { mode: 'aws:kms'; keyId?: string };
  checksum: 'crc32' | 'sha256' | 'sdk';
  /** Put before the keys of the first store; empty, or ended by a slash. */
  prefix: string;
}

export interface DiskMirrorPlace {
  directory: string;
}

/** A mirror that is configured. */
export interface Mirror {
  readonly name: string;
  /** Bucket and prefix, or directory. Not for clients. */
  readonly place: string;
  readonly store: ObjectStore;
  /** Put before the keys of the first store. */
  readonly prefix: string;
}

/** Where the copy of an object lies in a mirror. */
export function keyIn({ prefix }: Pick<Mirror, 'prefix'>, objectKey: string): string {
  return `${prefix}${objectKey}`;
}

/** Tells a place from others; the same bucket may be reached by several endpoints. */
export function describePlace(place: S3MirrorPlace | DiskMirrorPlace): string {
  return 'directory' in place ? `disk:${place.directory}` : `s3:${place.bucket}/${place.prefix}`;
}
