/** What a client was told: the truth that the service is held to, whatever happened to it meanwhile. */
import { appendFileSync, readFileSync } from 'node:fs';

export type Entry =
  /** A 201 was received for these bytes. */
  | { event: 'stored'; owner: string; id: string; sha256: string; size: number }
  /** It is to have these bytes: from now on it may have them. */
  | { event: 'replacing'; id: string; sha256: string; size: number }
  /** And was answered with a success: now it must. */
  | { event: 'replaced'; id: string }
  /** A permanent deletion was asked for: from now on the asset may be gone. */
  | { event: 'deleting'; id: string }
  /** And its 204 was received: now it must be. */
  | { event: 'deleted'; id: string };

export class Journal {
  readonly file: string;

  constructor(file: string) {
    this.file = file;
  }

  write(entry: Entry): void {
    appendFileSync(this.file, `${JSON.stringify(entry)}\n`);
  }
}

export interface Expectation {
  owner: string;
  sha256: string;
  size: number;
  /** `may` and `must` be gone, or `no`. */
  gone: 'no' | 'may' | 'must';
  /** Bytes that it may have instead. */
  or?: { sha256: string; size: number };
}

export function readJournal(file: string): Map<string, Expectation> {
  const expected = new Map<string, Expectation>();
  for (const line of readFileSync(file, 'utf8').split('\n').filter(Boolean)) {
    const entry = JSON.parse(line) as Entry;
    if (entry.event === 'stored') {
      const { owner, id, sha256, size } = entry;
      expected.set(id, { owner, sha256, size, gone: 'no' });
      continue;
    }
    const expectation = expected.get(entry.id);
    if (expectation && entry.event === 'replacing') {
      expectation.or = { sha256: entry.sha256, size: entry.size };
      continue;
    }
    if (expectation && entry.event === 'replaced') {
      Object.assign(expectation, expectation.or);
      delete expectation.or;
      continue;
    }
    if (expectation) expectation.gone = entry.event === 'deleted' ? 'must' : 'may';
  }
  return expected;
}
