/**
 * Makes the derivatives that the policy names, each as an object beside the original with a record of its own. One that
 * cannot be made is a record that says why; the others are made all the same.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ObjectAttributes } from '../../storage/object-store.ts';
import type { Derivative, DerivativesRepository } from '../derivatives.ts';
import type { MadeDerivatives, MadeFile, WantedDerivative } from '../maker.ts';
import { makerOf } from '../makers.ts';
import { processingRepository } from '../run-step.ts';
import type { Step, StepWork } from '../step.ts';
import { ToolError } from '../tools/tool-error.ts';
import { wantedDerivatives } from '../wanted.ts';

/** Bytes; a derivative that is no transcode is a small thing to look at. */
export const MAX_DERIVATIVE = 4 * 1024 * 1024;
/** Milliseconds to wait for memory. */
const BUFFER_WAIT = 60_000;

export const deriveStep: Step = {
  name: 'derive',
  settings: { concurrency: 2 },
  run: async (work) => {
    const { asset, policy, core } = work;
    const { derivatives } = processingRepository(core);
    const wanted = wantedDerivatives(core, policy, asset.mediaType);
    const claimed = await claimAll(derivatives, wanted, work);
    if (claimed.size === 0) return { kind: 'done' };
    try {
      await using file = await work.workingCopy();
      const { made, thumbHash } = await make(wanted, claimed, work, file);
      for (const [name, derivative] of claimed) {
        const result = made.get(name) ?? 'unsupported';
        if (typeof result === 'string') await derivatives.fail(derivative.id, result);
        else await keep(derivatives, derivative, result, work);
      }
      return { kind: 'done', ...(thumbHash !== undefined && { thumbHash }) };
    } catch (error) {
      // The next try claims them anew.
      await derivatives.discard([...claimed.values()].map(({ id }) => id)).catch(() => {});
      throw error;
    }
  },
};

/** @returns those that are to be made now, by name */
async function claimAll(
  derivatives: DerivativesRepository,
  wanted: ReadonlyMap<string, WantedDerivative>,
  { asset, context }: StepWork,
): Promise<Map<string, Derivative>> {
  const claimed = new Map<string, Derivative>();
  for (const name of wanted.keys()) {
    const claim = await derivatives.claim(
      { assetId: asset.id, kind: 'derivative', name, sourceKey: asset.objectKey, requestedBy: `job:${context.id}` },
      { again: true },
    );
    if (claim.outcome === 'claimed') claimed.set(name, claim.derivative);
  }
  return claimed;
}

/** What the tools refuse is the reason for all of them. */
async function make(
  wanted: ReadonlyMap<string, WantedDerivative>,
  claimed: ReadonlyMap<string, Derivative>,
  { asset, tools, context }: StepWork,
  file: Awaited<ReturnType<StepWork['workingCopy']>>,
): Promise<MadeDerivatives> {
  const maker = makerOf(asset.mediaType);
  if (!maker) return { made: new Map() };
  const now = new Map([...wanted].filter(([name]) => claimed.has(name)));
  try {
    return await maker.make(now, { asset, file, tools, signal: context.signal });
  } catch (error) {
    context.signal.throwIfAborted();
    if (!(error instanceof ToolError) || error.fault === 'aborted') throw error;
    return { made: new Map([...claimed.keys()].map((name) => [name, error.reason])) };
  }
}

async function keep(
  derivatives: DerivativesRepository,
  { id, objectKey }: Derivative,
  { content, mediaType, width, height }: MadeFile,
  { asset, core, context }: StepWork,
): Promise<void> {
  const { size } = typeof content === 'string' ? await stat(content) : { size: content.length };
  if (size === 0 || size > MAX_DERIVATIVE) return derivatives.fail(id, size === 0 ? 'refused' : 'output-too-large');
  const open = () => (typeof content === 'string' ? createReadStream(content) : Readable.from([content]));
  const sha256 = await digestOf(open());
  const { signal } = context;
  const options = { buffers: core.buffers, wait: BUFFER_WAIT, size, sha256, signal };
  await core.store.putStream(objectKey, open, attributesOf(mediaType, asset.cacheControl), options);
  const picture = { ...(width !== undefined && { width }), ...(height !== undefined && { height }) };
  const kept = await derivatives.finish(id, { mediaType, size, sha256, ...picture }, context.fence);
  // The asset has gone, or somebody took this worker for dead.
  if (!kept) await derivatives.discard([id]);
}

async function digestOf(stream: Readable): Promise<Buffer> {
  const hash = createHash('sha256');
  await pipeline(stream, hash);
  return hash.digest();
}

function attributesOf(contentType: string, cacheControl: string): ObjectAttributes {
  return { contentType, contentDisposition: 'inline', cacheControl, metadata: {} };
}
