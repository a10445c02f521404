/** How an upload begins: what the client declares becomes the record `uploading`, and the attributes of its object. */
import { v7 as uuidv7 } from 'uuid';
import type { Caller } from '../access/caller.ts';
import { contentDisposition } from '../assets/content-disposition.ts';
import { dispositionOf } from '../assets/serving.ts';
import type { Actor } from '../database/audit.ts';
import type { Retention } from '../database/tables/assets.ts';
import { Problem, type ProblemError } from '../problems.ts';
import type { Place } from '../projects/places.ts';
import type { ObjectKeys } from '../storage/object-key.ts';
import type { ObjectAttributes } from '../storage/object-store.ts';
import { checkFileName } from '../validation/file-name.ts';
import type { DeclaredFile } from '../validation/file-validation.ts';
import type { Replaced } from '../versions/target.ts';
import type { NewUpload } from './upload.ts';

/** What a client says of a file, beside its name. */
export interface FileDescription {
  projectId?: string;
  /** Name of the upload policy. */
  assetType?: string | undefined;
  metadata: Record<string, string>;
  /** Its folder; absent: none. */
  path?: string;
  tags?: readonly string[];
  /** Absent: as its upload policy says. */
  retention?: Retention;
  /** Declared digest of the bytes. */
  sha256?: Buffer;
}

/** A file of which no byte has been read, as its client describes it. */
export interface NewFile extends DeclaredFile, FileDescription {
  actor: Actor;
  caller: Caller;
  /** Where it goes, and who pays for it. */
  place: Place;
  /** Whose bytes it is to replace. */
  replaces?: Replacing;
}

/** What an upload replaces, and what the asset is called afterwards where that changes. */
export interface Replacing extends Replaced {
  name?: string;
}

/** Names the place of the file name in the request. */
export type NameField = (fault: string) => ProblemError;

/**
 * The record of a new upload, under a fresh id and a fresh object key.
 * @throws Problem invalid-name
 */
export function newUpload(file: NewFile, keys: ObjectKeys, nameField: NameField): NewUpload {
  const { actor, caller, place, metadata, path = '', tags = [], retention = null, replaces } = file;
  const ownerId = caller.id;
  const { projectId } = place;
  const checked = checkFileName(file.fileName);
  if (!checked.ok) throw new Problem('invalid-name', { detail: checked.detail, errors: [nameField(checked.detail)] });
  const createdAt = new Date();
  const id = uuidv7({ msecs: createdAt.getTime() });
  const project = projectId !== undefined && { projectId };
  const folder = replaces ? { assetId: replaces.asset.id, uploadId: id } : { assetId: id };
  const key = keys.keyOf({ ownerId, ...folder, ...project });
  const record = {
    id,
    ownerId,
    ...project,
    name: checked.name,
    objectKey: key,
    metadata,
    path,
    tags,
    retention,
    createdAt,
  };
  const upload = { ...record, place, caller, actor };
  if (!replaces) return upload;
  const replacement = {
    assetId: replaces.asset.id,
    expectedVersion: replaces.version ?? null,
    // As it is written: without what the check has made of it, it would not be the same.
    name: replaces.name === undefined ? null : checked.name,
  };
  return { ...upload, replacement };
}

/**
 * What the store keeps beside the bytes. S3 sends it to whoever has a link.
 * @param uploader as `ObjectKeys.nameOf` names the caller
 */
export function objectAttributes(
  { name, createdAt }: Pick<NewUpload, 'name' | 'createdAt'>,
  uploader: string,
  { mediaType, cacheControl }: { mediaType: string; cacheControl: string },
  sha256: Buffer | undefined,
): ObjectAttributes {
  return {
    contentType: mediaType,
    contentDisposition: contentDisposition(dispositionOf(mediaType), name),
    cacheControl,
    metadata: {
      'uploaded-by': uploader,
      'uploaded-at': createdAt.toISOString(),
      ...(sha256 && { sha256: sha256.toString('hex') }),
    },
  };
}
