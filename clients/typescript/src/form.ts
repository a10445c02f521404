/** An upload in one request. The same request under the same key is stored once, however often it is sent. */
import type { Asset } from './generated/index.ts';
import { send } from './transport.ts';
import type { UploadJob } from './upload.ts';

export async function uploadForm(job: UploadJob): Promise<Asset> {
  const { service, source, patience, signal, stallTimeout } = job;
  // Remembered before it is sent: after a reload nobody knows whether it has arrived.
  await job.remember({});
  const { body, contentType } = multipart(job, await source.read(0, source.size));
  return patience.insist<Asset>(async () => {
    const answer = await send({
      method: 'POST',
      url: `${service.baseUrl}/v1/assets`,
      headers: {
        ...service.headers,
        'content-type': contentType,
        'idempotency-key': job.previous.idempotencyKey,
      },
      body,
      onProgress: (sent) => job.report(Math.max(0, sent - (body.size - source.size))),
      stallTimeout,
      signal,
    });
    if (answer.status === 201) return { ok: JSON.parse(answer.text) };
    return { status: answer.status, body: answer.text, retryAfter: answer.header('retry-after') };
  });
}

/** RFC 7578, names escaped as browsers do it. Of Blobs, so that the file is read when it is sent; fields come first. */
function multipart(job: UploadJob, file: Blob): { body: Blob; contentType: string } {
  const { projectId, assetType, metadata, sha256, fileName, type } = job;
  const boundary = `----stowage-${job.previous.idempotencyKey}`;
  const fields = { projectId, assetType, sha256, metadata: metadata && JSON.stringify(metadata) };
  const parts = Object.entries(fields).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${boundary}\r\ncontent-disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`],
  );
  const escaped = fileName.replace(/[\r\n"]/g, (character) => encodeURIComponent(character));
  const head = [
    `--${boundary}`,
    `content-disposition: form-data; name="file"; filename="${escaped}"`,
    `content-type: ${type === '' ? 'application/octet-stream' : type}`,
  ];
  const body = new Blob([...parts, `${head.join('\r\n')}\r\n\r\n`, file, `\r\n--${boundary}--\r\n`]);
  return { body, contentType: `multipart/form-data; boundary=${boundary}` };
}
