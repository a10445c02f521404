/**
 * What stands where an owner was named who was erased: a keyed digest (HMAC-SHA-256) under a secret in the database. So what
 * he did is still told apart from what others did, whoever knows his name and asks the service finds his receipt, and nobody
 * finds a name from what is left, nor tries names out without the secret.
 */
import { createHmac } from 'node:crypto';
import type { Executor } from '../database/client.ts';
import { readSharedSecret } from '../database/secrets.ts';

/** Characters of base64url: 132 bits. */
const DIGEST = 22;

export class Pseudonyms {
  readonly #executor: Executor;
  #secret: Promise<Buffer> | undefined;

  constructor(executor: Executor) {
    this.#executor = executor;
  }

  /** @throws Error when the database has no secret for it */
  async of(ownerId: string): Promise<string> {
    this.#secret ??= readSharedSecret(this.#executor, 'pseudonyms');
    const secret = await this.#secret.catch((error) => {
      this.#secret = undefined;
      throw error;
    });
    return `erased:${createHmac('sha256', secret).update(`owner:${ownerId}`).digest('base64url').slice(0, DIGEST)}`;
  }
}
