/**
 * Where backups lie: a directory, or a bucket under a prefix. A backup is a folder there. Its files come first and its
 * manifest, `backup.json`, last: so what has no manifest was not finished, wherever it lies, and is never taken for a backup.
 */
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import type { Config } from '../config.ts';
import { settingsIn } from '../config.ts';
import { PlainDirectory } from '../storage/disk/plain-directory.ts';
import { measure } from '../storage/measured-stream.ts';
import type { ObjectStore, WrittenObject } from '../storage/object-store.ts';
import { openBucket } from '../storage/open.ts';
import { PartBuffers } from '../storage/part-buffers.ts';
import { backupSettings } from './settings.ts';

export const MANIFEST = 'backup.json';

/** Bytes in memory while a file goes to a bucket: four parts; see storage/s3/stream-upload.ts. */
const PART = 8 * 1024 * 1024;
const PARTS = 4;
const BUFFER_WAIT = 60_000;
const attributes = {
  contentType: 'application/octet-stream',
  contentDisposition: 'attachment',
  cacheControl: 'private, no-store',
  metadata: {},
};

export interface BackupPlace {
  /** As it was named, without a slash at its end. */
  readonly name: string;
  /** The file is there whole or not at all. @returns what was written */
  write(file: string, source: () => Readable): Promise<WrittenObject>;
  /** Undefined where there is no such file. */
  read(file: string): Promise<Readable | undefined>;
  /** Names of the folders in it. */
  folders(): Promise<string[]>;
  /** A folder in it. */
  in(folder: string): BackupPlace;
  close(): Promise<void>;
}

/** @param target a directory, or `s3://bucket/prefix`. @throws Error when it is neither */
export function openPlace(target: string, config: Config): BackupPlace {
  const name = target.replace(/\/+$/, '');
  if (!/^[a-z0-9]+:\/\//i.test(target)) return directoryPlace(name || '/', new PlainDirectory(resolve(target)));
  const [, bucket, prefix] = /^s3:\/\/([^/]+)(?:\/(.*))?$/.exec(name) ?? [];
  if (bucket === undefined) throw new Error(`${target} is neither a directory nor s3://bucket/prefix`);
  const own = settingsIn(config, backupSettings);
  const store = openBucket(config, {
    bucket,
    endpoint: own.BACKUP_S3_ENDPOINT ?? config.S3_ENDPOINT,
    region: own.BACKUP_S3_REGION ?? config.S3_REGION,
    accessKeyId: own.BACKUP_S3_ACCESS_KEY_ID ?? config.S3_ACCESS_KEY_ID,
    secretAccessKey: own.BACKUP_S3_SECRET_ACCESS_KEY ?? config.S3_SECRET_ACCESS_KEY,
  });
  return bucketPlace(name, store, prefix ? `${prefix}/` : '');
}

function directoryPlace(name: string, directory: PlainDirectory, below = ''): BackupPlace {
  return {
    name,
    write: async (file, source) => {
      const body = measure(source, {});
      await directory.write(`${below}${file}`, body);
      return body.written;
    },
    read: (file) => directory.read(`${below}${file}`),
    folders: () => directory.folders(below),
    in: (folder) => directoryPlace(`${name}/${folder}`, directory, `${below}${folder}/`),
    close: async () => {},
  };
}

function bucketPlace(name: string, store: ObjectStore, prefix: string): BackupPlace {
  const buffers = new PartBuffers(PARTS * PART, PART);
  return {
    name,
    write: (file, source) => store.putStream(`${prefix}${file}`, source, attributes, { buffers, wait: BUFFER_WAIT }),
    read: async (file) => (await store.get(`${prefix}${file}`, {}))?.stream,
    folders: async () => {
      const folders = new Set<string>();
      for await (const page of store.list(prefix, {}))
        for (const { key } of page) {
          const [folder, ...rest] = key.slice(prefix.length).split('/');
          if (folder !== undefined && rest.length > 0) folders.add(folder);
        }
      return [...folders].sort();
    },
    in: (folder) => bucketPlace(`${name}/${folder}`, store, `${prefix}${folder}/`),
    close: () => store.close(),
  };
}
