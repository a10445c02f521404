/**
 * Small files are looked into before their upload is answered, while they are stored: their facts are read, and of
 * pictures the derivatives are made by the same look. The bytes lie in memory then; they are written to the scratch
 * directory, where later steps of this process find them, so that they are not fetched from the store again.
 *
 * Nothing here fails an upload: what does not begin soon, takes long or goes wrong is left to the jobs of the steps.
 */
import { writeFile } from 'node:fs/promises';
import type { Core } from '../core.ts';
import type { Facts, ProcessingRecord, StepRecord } from '../database/tables/processing-record.ts';
import type { UploadPolicy } from '../validation/upload-policies.ts';
import { hurriedTools, NoPlace } from './hurried-tools.ts';
import type { MadeDerivatives, MadeFile, Maker, MakerWork, WantedDerivative } from './maker.ts';
import { makerOf } from './makers.ts';
import { processingSettings } from './settings.ts';
import type { WorkingCopy } from './step.ts';
import { type Toolbox, toolboxOf } from './toolbox.ts';
import { ScratchFull } from './tools/scratch.ts';
import { ToolError } from './tools/tool-error.ts';
import { wantedDerivatives } from './wanted.ts';

/** Milliseconds within which a tool must be free, and room for the file; somebody waits for the answer. */
const SLOT_WAIT = 300;
/**
 * Milliseconds that an answer waits for tools, a place included. ffprobe, pdfinfo and the thumbnail of a photo take a tenth of it on a machine that
 * has time; what takes longer is killed and left to the job, and who uploads notices no more than a slow connection.
 */
const LONGEST_WAIT = 1000;
/** Bytes of all derivatives of a file that lie in memory until they are stored; no budget counts them. Most have 5 to 30 KB. */
const MAX_MADE = 256 * 1024;

/** A file that is stored at this moment. */
export interface ArrivingFile {
  objectKey: string;
  mediaType: string;
  ownerId: string;
  /** By which derivatives are made; undefined while another may be chosen yet: then there are none. */
  policy: UploadPolicy | undefined;
  /** All of it. Read before the first result is awaited, and not after. */
  bytes: Buffer;
  signal: AbortSignal;
}

/** What was found out, and made. */
export interface FoundOnArrival {
  facts?: Facts;
  thumbHash?: string;
  /** By name; absent when derivatives are left to the job. */
  made?: ReadonlyMap<string, MadeFile & { content: Buffer }>;
  /** Steps that need not be done again: that of the derivatives is not among them before they are stored. */
  ended: ProcessingRecord;
}

/** Begins to look. Resolves when the bytes are not needed any more, with what then becomes of it. Never rejects. */
export type LookOnArrival = (file: ArrivingFile) => Promise<{ result: Promise<FoundOnArrival | undefined> }>;

/** @returns undefined where nothing is made of files */
export function lookOnArrival(core: Core): LookOnArrival | undefined {
  if (!core.settings(processingSettings).DERIVATIVES) return undefined;
  return async (file) => {
    const maker = makerOf(file.mediaType);
    if (!maker) return { result: Promise.resolve(undefined) };
    const tools = toolboxOf(core);
    const { objectKey, bytes } = file;
    const signal = AbortSignal.any([file.signal, AbortSignal.timeout(LONGEST_WAIT)]);
    const onError = (error: unknown) => {
      if (!signal.aborted && !isExpected(error)) core.onError('an arriving file could not be looked into', error);
      return undefined;
    };
    try {
      const write = (path: string) => writeFile(path, bytes, { mode: 0o600 });
      const copy = await tools.scratch.open(objectKey, write, bytes.length, { wait: SLOT_WAIT, signal });
      const work = workOn({ ...file, signal }, copy, tools);
      const wanted = file.policy && wantedDerivatives(core, file.policy, file.mediaType);
      const result = look(maker, wanted, work, tools).catch(onError);
      return { result: result.finally(() => copy[Symbol.asyncDispose]()) };
    } catch (error) {
      return { result: Promise.resolve(onError(error)) };
    }
  };
}

function workOn({ mediaType, ownerId, bytes, signal }: ArrivingFile, copy: WorkingCopy, tools: Toolbox): MakerWork {
  return {
    asset: { mediaType, ownerId, size: bytes.length },
    file: copy,
    tools: hurriedTools(tools, { wait: SLOT_WAIT, callerId: ownerId }),
    signal,
  };
}

async function look(
  maker: Maker,
  wanted: ReadonlyMap<string, WantedDerivative> | undefined,
  work: MakerWork,
  tools: Toolbox,
): Promise<FoundOnArrival | undefined> {
  const started = performance.now();
  const ended = (outcome: 'done' | 'failed', more: Partial<StepRecord> = {}): ProcessingRecord => {
    tools.onStep('facts', outcome, (performance.now() - started) / 1000);
    return { facts: { state: outcome, ...more, at: new Date().toISOString() } };
  };
  if (wanted && wanted.size > 0 && maker.understand) {
    const { facts, made, thumbHash } = await maker.understand(wanted, work, { quickly: true });
    const small = made && smallOf(made);
    return {
      ...{ facts, ended: ended('done') },
      ...(small && { made: small, ...(thumbHash !== undefined && { thumbHash }) }),
    };
  }
  try {
    const found = await maker.readFacts(work);
    return found && { ...found, ended: ended('done'), ...(wanted?.size === 0 && { made: new Map() }) };
  } catch (error) {
    // What cannot be read is told as such; whatever else is the matter, the job finds out.
    if (!(error instanceof ToolError) || error.fault !== 'refused') throw error;
    return { ended: ended('failed', { reason: error.reason }) };
  }
}

/** @returns undefined unless all of them were made, and are small */
function smallOf(made: MadeDerivatives['made']): FoundOnArrival['made'] | undefined {
  const small = new Map<string, MadeFile & { content: Buffer }>();
  let bytes = 0;
  for (const [name, file] of made) {
    if (typeof file === 'string' || typeof file.content === 'string') return undefined;
    const { content } = file;
    bytes += content.length;
    if (content.length === 0 || bytes > MAX_MADE) return undefined;
    small.set(name, { ...file, content });
  }
  return small;
}

/** The job has more time, and says what is wrong with the file. */
function isExpected(error: unknown): boolean {
  return error instanceof NoPlace || error instanceof ToolError || error instanceof ScratchFull;
}
