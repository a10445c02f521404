/**
 * An upload by tus 1.0: one request brings everything, or a piece of what takes memory to read; after each, and when it
 * breaks off, the server is asked how far it came.
 */
import type { Asset } from './generated/index.ts';
import type { Outcome } from './patience.ts';
import { send } from './transport.ts';
import type { UploadJob } from './upload.ts';

const VERSION = { 'tus-resumable': '1.0.0' };
/** 409: the offset has moved since it was asked for. 423: another request still writes. */
const OFFSET_MOVED = new Set([409, 423]);

export async function uploadResumable(job: UploadJob): Promise<Asset> {
  const id = job.previous.uploadId ?? (await begin(job));
  let tries = job.patience.begin();
  let offset = await progressOf(job, id);
  while (typeof offset === 'number') {
    const failure = await append(job, id, offset);
    const next = await progressOf(job, id);
    if (typeof next === 'number' && next > offset) tries = job.patience.begin();
    if (failure && typeof next === 'number') await tries.failed(failure);
    offset = next;
  }
  return job.service.asset(offset.assetId);
}

async function begin(job: UploadJob): Promise<string> {
  const { service, source, fileName, type, projectId, assetType, metadata } = job;
  await job.remember({});
  const description = {
    filename: fileName,
    filetype: type === '' ? undefined : type,
    projectId,
    assetType,
    metadata: metadata && JSON.stringify(metadata),
  };
  const id = await service.insist(async (signal) => {
    const response = await fetch(`${service.baseUrl}/v1/resumable`, {
      method: 'POST',
      headers: {
        ...service.headers,
        ...VERSION,
        'upload-length': String(source.size),
        'upload-metadata': encodeMetadata(description),
        'idempotency-key': job.previous.idempotencyKey,
      },
      signal,
    });
    const text = await response.text();
    // The last segment alone: before it there may be a path that a proxy has added or taken.
    const named = response.headers.get('location')?.split('/').at(-1);
    return { response, error: text, ...(response.ok && { data: named }) };
  });
  await job.remember({ uploadId: id });
  return id;
}

/** @returns bytes that have arrived, or what the upload has become */
async function progressOf(job: UploadJob, id: string): Promise<number | { assetId: string }> {
  const { service } = job;
  return service.insist(async (signal) => {
    const response = await fetch(`${service.baseUrl}/v1/resumable/${id}`, {
      method: 'HEAD',
      headers: { ...service.headers, ...VERSION },
      signal,
    });
    const assetId = response.headers.get('asset-id');
    const offset = Number(response.headers.get('upload-offset') ?? Number.NaN);
    if (!response.ok || (assetId === null && !Number.isSafeInteger(offset))) return { response };
    const expires = Date.parse(response.headers.get('upload-expires') ?? '');
    if (!Number.isNaN(expires)) await job.remember({ expiresAt: new Date(expires).toISOString() });
    job.report(assetId === null ? offset : job.source.size);
    return { response, data: assetId === null ? offset : { assetId } };
  });
}

/** @returns why not all of it arrived; undefined when it did */
async function append(
  job: UploadJob,
  id: string,
  offset: number,
): Promise<Exclude<Outcome<never>, { ok: never }> | undefined> {
  const { service, source, signal, stallTimeout } = job;
  const body = await source.read(offset, Math.min(source.size, offset + (source.pieceSize ?? source.size)));
  signal.throwIfAborted();
  const answer = await send({
    method: 'PATCH',
    url: `${service.baseUrl}/v1/resumable/${id}`,
    headers: {
      ...service.headers,
      ...VERSION,
      'content-type': 'application/offset+octet-stream',
      'upload-offset': String(offset),
    },
    body,
    onProgress: (sent) => job.report(offset + sent),
    stallTimeout,
    signal,
  });
  signal.throwIfAborted();
  if (answer.status >= 200 && answer.status < 300) return undefined;
  const failure = { status: answer.status, body: answer.text, retryAfter: answer.header('retry-after') };
  if (OFFSET_MOVED.has(answer.status)) return { ...failure, mayPass: true };
  const mayPass = answer.status === 0 || answer.status === 408 || answer.status === 429 || answer.status >= 500;
  // Refused for good, perhaps together with the upload: then the reason is this, not that it is gone.
  if (!mayPass) await job.patience.begin().failed(failure);
  return failure;
}

function encodeMetadata(entries: Record<string, string | undefined>): string {
  return Object.entries(entries)
    .flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${base64(value)}`]))
    .join(',');
}

function base64(text: string): string {
  return btoa(String.fromCodePoint(...new TextEncoder().encode(text)));
}
