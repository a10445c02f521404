/** What reading an encrypted file can come to, other than the file. */
import type { Problem } from '../generated/index.ts';

/**
 * `wrong-key`: none of the keys opens it. `not-encrypted`: it is no encrypted file. `truncated`: its end is missing, or there
 * is more than was written. `damaged`: it is not what was encrypted: changed, or put together of pieces.
 */
export type DecryptionFault = 'wrong-key' | 'not-encrypted' | 'truncated' | 'damaged';

/** The file cannot be decrypted, or is not what was encrypted. No byte was given out that is not authentic. */
export class DecryptionFailed extends Error {
  override name = 'DecryptionFailed';
  readonly fault: DecryptionFault;

  constructor(fault: DecryptionFault, message: string, options?: ErrorOptions) {
    super(message, options);
    this.fault = fault;
  }
}

/** The service refused the download, or could not be reached for too long. */
export class DownloadFailed extends Error {
  override name = 'DownloadFailed';
  /** Of the last answer; 0 when there was none. */
  readonly status: number;
  /** What the service says of it. */
  readonly problem: Problem | undefined;

  constructor(status: number, problem: Problem | undefined, message: string) {
    super(message);
    this.status = status;
    this.problem = problem;
  }
}
