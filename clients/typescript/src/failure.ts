/** What `upload` rejects with, and how problem documents (RFC 9457) are read. */
import type { Problem } from './generated/index.ts';

/** The service refused the file, or could not be reached for too long. */
export class UploadFailed extends Error {
  override name = 'UploadFailed';
  /** Of the last answer; 0 when there was none. */
  readonly status: number;
  /** What the service says of it. */
  readonly problem: Problem | undefined;
  /** True when the same file given to `upload` again, now or after a reload of the page, goes on where it ended. */
  readonly resumable: boolean;

  constructor(
    status: number,
    problem?: Problem,
    { message, resumable = false }: { message?: string; resumable?: boolean } = {},
  ) {
    super(message ?? problem?.detail ?? problem?.title ?? (status === 0 ? 'there was no answer' : `status ${status}`));
    this.status = status;
    this.problem = problem;
    this.resumable = resumable;
  }
}

export function problemIn(body: unknown): Problem | undefined {
  if (typeof body === 'string') {
    try {
      return problemIn(JSON.parse(body));
    } catch {
      return undefined;
    }
  }
  return isProblem(body) ? body : undefined;
}

function isProblem(body: unknown): body is Problem {
  return body instanceof Object && 'type' in body && 'status' in body && typeof body.status === 'number';
}
