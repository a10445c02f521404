/** Stores what was made, under the key of the row that was claimed for it. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Core } from '../core.ts';
import type { JobContext } from '../jobs/job.ts';
import type { Derivative, DerivativesRepository } from './derivatives.ts';
import type { MadeFile } from './maker.ts';

/** Milliseconds to wait for memory. */
const BUFFER_WAIT = 60_000;

export interface KeepOptions {
  derivatives: DerivativesRepository;
  core: Pick<Core, 'store' | 'buffers'>;
  /** Of what is served. */
  cacheControl: string;
  /** Bytes of the largest that is kept. */
  maxBytes: number;
  context: Pick<JobContext, 'signal' | 'fence'>;
}

/** A file that is empty or too large fails, for that reason; what nobody wants any more by then is discarded. */
export async function keepDerivative(
  { id, objectKey }: Pick<Derivative, 'id' | 'objectKey'>,
  { content, mediaType, width, height }: MadeFile,
  { derivatives, core, cacheControl, maxBytes, context }: KeepOptions,
): Promise<void> {
  const { size } = typeof content === 'string' ? await stat(content) : { size: content.length };
  if (size === 0 || size > maxBytes) return derivatives.fail(id, size === 0 ? 'refused' : 'output-too-large');
  // Making it may have taken longer than a lease: when its asset has gone meanwhile, nothing is to come after it.
  if (!(await derivatives.renew(id))) return;
  const open = () => (typeof content === 'string' ? createReadStream(content) : Readable.from([content]));
  const sha256 = await digestOf(open());
  const { signal, fence } = context;
  await core.store.putStream(
    objectKey,
    open,
    { contentType: mediaType, contentDisposition: 'inline', cacheControl, metadata: {} },
    { buffers: core.buffers, wait: BUFFER_WAIT, size, sha256, signal },
  );
  const picture = { ...(width !== undefined && { width }), ...(height !== undefined && { height }) };
  const kept = await derivatives.finish(id, { mediaType, size, sha256, ...picture }, fence);
  if (kept) return;
  // The asset has gone, or somebody took this worker for dead; perhaps the row has gone too, so nobody else knows the object.
  // The object first: as long as the row is `making`, whoever removes the asset looks for it once more.
  await core.store.delete(objectKey, {});
  await derivatives.discard([id]);
}

async function digestOf(stream: Readable): Promise<Buffer> {
  const hash = createHash('sha256');
  await pipeline(stream, hash);
  return hash.digest();
}
