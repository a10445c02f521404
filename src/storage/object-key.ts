/**
 * Object keys: opaque, and fresh for every upload. A download link shows the key, so nothing in it tells whose the bytes are or
 * what they are called: owner and project are keyed digests (HMAC-SHA-256) under a secret that all instances share, so that
 * what belongs together still lies together. Keys that were made before that hold the ids themselves; each record has its own
 * key, so they stay as they are.
 */
import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';

/** Characters of base64url: 132 bits, so that no two ids meet. */
const DIGEST = 22;

export interface KeyParts {
  projectId?: string;
  ownerId: string;
  assetId: string;
  /** Of an upload that replaces the bytes of the asset. */
  uploadId?: string;
}

export class ObjectKeys {
  readonly #prefix: string;
  readonly #secret: () => Buffer;
  /** The secret, as an HMAC takes it soonest: with bytes Node needs 10 µs more. */
  #key: KeyObject | undefined;

  /**
   * @param prefix empty, or ends with a slash
   * @param secret is asked for when the first key is made
   */
  constructor(prefix: string, secret: () => Buffer) {
    this.#prefix = prefix;
    this.#secret = secret;
  }

  /**
   * `{prefix}projects/{digest}/assets/{id}/original`, or `{prefix}users/{digest}/assets/{id}/original` without a project. What
   * takes the place of other bytes lies in a folder of its own below that: who removes an upload, or an asset, removes its folder.
   */
  keyOf({ projectId, ownerId, assetId, uploadId }: KeyParts): string {
    const scope =
      projectId === undefined
        ? `users/${this.#digest('user', ownerId)}`
        : `projects/${this.#digest('project', projectId)}`;
    const folder = uploadId === undefined ? assetId : `${assetId}/${uploadId}`;
    return `${this.#prefix}${scope}/assets/${folder}/original`;
  }

  /** Names a caller where whoever has a link can read it; the same name as in the keys of this owner. */
  nameOf(callerId: string): string {
    return this.#digest('user', callerId);
  }

  #digest(kind: 'user' | 'project', id: string): string {
    this.#key ??= createSecretKey(this.#secret());
    return createHmac('sha256', this.#key).update(`${kind}:${id}`).digest('base64url').slice(0, DIGEST);
  }
}

const uuid = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
const keyForm = new RegExp(`^(?:projects|users)/[A-Za-z0-9_~-]+/assets/(${uuid})/(?:${uuid}/)?[^/]+$`);

/** The asset whose original or derivative has this key; undefined for keys that are not made like ours, now or earlier. */
export function assetIdOf(prefix: string, key: string): string | undefined {
  if (!key.startsWith(prefix)) return undefined;
  return keyForm.exec(key.slice(prefix.length))?.[1];
}

/**
 * The key of an object beside another of the same asset. Fresh when the id is, and it tells nothing.
 * @param key of the original, or of what has taken its place
 * @param id a UUID
 */
export function keyBeside(key: string, id: string): string {
  return `${key.slice(0, key.lastIndexOf('/') + 1)}${id}`;
}
