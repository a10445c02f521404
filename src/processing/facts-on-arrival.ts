/**
 * Facts of small pictures before their upload is answered. The bytes lie in memory then; they are written to the scratch
 * directory, where later steps of this process find them, so that they are not fetched from the store again.
 */
import { writeFile } from 'node:fs/promises';
import type { Core } from '../core.ts';
import type { Facts, ProcessingRecord } from '../database/tables/processing-record.ts';
import { Pictures } from './pictures/pictures.ts';
import { processingSettings } from './settings.ts';
import { toolboxOf } from './toolbox.ts';
import { ScratchFull } from './tools/scratch.ts';
import { ToolError } from './tools/tool-error.ts';

/** Milliseconds within which a process must be free; somebody waits for the answer. */
const SLOT_WAIT = 300;
/** Seconds for a header; what takes longer is left to the job, which has more time. */
const LOOK = 2;

/** A file that is stored at this moment. */
export interface ArrivingFile {
  objectKey: string;
  mediaType: string;
  ownerId: string;
  /** All of it. Read before the first result is awaited, and not after. */
  bytes: Buffer;
  signal: AbortSignal;
}

export interface FactsOnArrival {
  facts?: Facts;
  ended: ProcessingRecord;
}

/** Begins to read them. Resolves when the bytes are not needed any more, with what then becomes of it. Never rejects. */
export type ReadFactsOnArrival = (file: ArrivingFile) => Promise<{ result: Promise<FactsOnArrival | undefined> }>;

/** @returns undefined where no facts are read */
export function factsOnArrival(core: Core): ReadFactsOnArrival | undefined {
  if (!core.settings(processingSettings).DERIVATIVES) return undefined;
  return async (file) => {
    if (!Pictures.canRead(file.mediaType)) return { result: Promise.resolve(undefined) };
    const { scratch, pictures } = toolboxOf(core);
    const { objectKey, bytes, ownerId, signal } = file;
    try {
      const copy = await scratch.open(objectKey, (path) => writeFile(path, bytes, { mode: 0o600 }), bytes.length, {
        wait: 0,
      });
      const options = { wait: SLOT_WAIT, seconds: LOOK, callerId: ownerId, signal };
      const result = pictures.tryFacts(copy.path, options).then(known, unknown);
      return { result: result.finally(() => copy[Symbol.asyncDispose]()) };
    } catch (error) {
      if (!(error instanceof ScratchFull)) core.onError('the facts of an arriving file could not be read', error);
      return { result: Promise.resolve(undefined) };
    }
  };
}

function known(found: (Facts & { format: string }) | undefined): FactsOnArrival | undefined {
  if (!found) return undefined;
  const { format, ...facts } = found;
  return { facts, ended: { facts: { state: 'done', at: new Date().toISOString() } } };
}

/** A picture that cannot be read is told as such; whatever else is the matter, the job finds out. */
function unknown(error: unknown): FactsOnArrival | undefined {
  if (!(error instanceof ToolError) || error.fault !== 'refused') return undefined;
  return { ended: { facts: { state: 'failed', reason: error.fault, at: new Date().toISOString() } } };
}
