/**
 * A client of direct uploads, in a process of its own: begins the upload, sends the parts to the object store,
 * several at once, and completes. Prints the seconds from the first request to the last answer.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { basename } from 'node:path';

export interface DirectOptions {
  url: string;
  headers: Record<string, string>;
  file: string;
  parallel?: number;
}

interface PartLink {
  partNumber: number;
  url: string;
}

interface UploadOffer {
  uploadId: string;
  partSize: number;
  partCount: number;
  parts: PartLink[];
}

const { url, headers, file, parallel = 4 } = JSON.parse(process.argv[2] ?? '{}') as DirectOptions;
const agent = new Agent({ keepAlive: true });
const { size } = statSync(file);
const startedAt = performance.now();
const session = (await ask('POST', '/v1/uploads', {
  fileName: basename(file),
  size,
  contentType: 'video/mp4',
})) as UploadOffer;
const descriptor = openSync(file, 'r');
const waiting = [...session.parts];
let signed = waiting.length;
let signing: Promise<void> | undefined;
await Promise.all(
  Array.from({ length: parallel }, async () => {
    const buffer = Buffer.allocUnsafeSlow(session.partSize);
    for (let part = await nextPart(); part; part = await nextPart()) {
      const begin = (part.partNumber - 1) * session.partSize;
      const length = Math.min(session.partSize, size - begin);
      readSync(descriptor, buffer, 0, length, begin);
      await put(part.url, buffer.subarray(0, length));
    }
  }),
);
closeSync(descriptor);
await ask('POST', `/v1/uploads/${session.uploadId}/complete`);
console.log(JSON.stringify({ seconds: (performance.now() - startedAt) / 1000 }));
agent.destroy();

/** Links beyond those of the first answer are signed on demand, a hundred at once. */
async function nextPart(): Promise<PartLink | undefined> {
  while (waiting.length === 0 && (signing || signed < session.partCount)) {
    signing ??= signMore();
    await signing;
  }
  return waiting.shift();
}

async function signMore(): Promise<void> {
  const count = Math.min(100, session.partCount - signed);
  const partNumbers = Array.from({ length: count }, (_, index) => signed + index + 1);
  signed += count;
  const { parts } = (await ask('POST', `/v1/uploads/${session.uploadId}/parts`, { partNumbers })) as {
    parts: PartLink[];
  };
  waiting.push(...parts);
  signing = undefined;
}

async function ask(method: string, path: string, body?: object): Promise<unknown> {
  const answer = await fetch(url + path, {
    method,
    headers: { ...headers, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

function put(link: string, body: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const sending = request(link, { method: 'PUT', agent, headers: { 'content-length': body.length } }, (answer) => {
      answer.resume().once('end', resolve);
      if (answer.statusCode !== 200) reject(new Error(`${answer.statusCode}`));
    });
    sending.once('error', reject);
    sending.end(body);
  });
}
