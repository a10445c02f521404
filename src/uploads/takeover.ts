/** How requests of a resumable upload make way for each other. */
import { Problem } from '../problems.ts';

/** Another request has taken the upload over: nothing more is written down. */
export class Superseded extends Error {
  override name = 'Superseded';
}

/** Somebody asks how far the upload is: what came is kept, and nothing more is read. */
export class Interrupted extends Problem {
  override name = 'Interrupted';

  constructor() {
    super('offset-mismatch', { detail: 'Another request goes on with this upload.' });
  }
}

/** @param offset bytes that are safe */
export function offsetMismatch(offset: number): Problem {
  return new Problem('offset-mismatch', {
    detail: `The upload is at offset ${offset}. Ask for it, and go on from there.`,
    headers: { 'upload-offset': String(offset) },
  });
}

/** Requests of this process for resumable uploads, so that those who come later can end them. */
export class RunningRequests {
  readonly #byUpload = new Map<string, Set<RunningRequest>>();

  /** @returns the request, which counts as running until its `end` is called */
  begin(uploadId: string): RunningRequest {
    const all = this.#byUpload.get(uploadId) ?? new Set();
    this.#byUpload.set(uploadId, all);
    const request = new RunningRequest(() => {
      all.delete(request);
      if (all.size === 0) this.#byUpload.delete(uploadId);
    });
    all.add(request);
    return request;
  }

  /** Those of an upload, but this one. */
  of(uploadId: string, but?: RunningRequest): RunningRequest[] {
    return [...(this.#byUpload.get(uploadId) ?? [])].filter((request) => request !== but);
  }
}

export class RunningRequest {
  readonly interrupted = new AbortController();
  readonly superseded = new AbortController();
  readonly ended: Promise<void>;
  readonly #onEnd: () => void;
  #settle: () => void = () => {};

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  end(): void {
    this.#onEnd();
    this.#settle();
  }
}
