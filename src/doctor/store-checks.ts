/** What the service needs of its object store, tried out through the port on a few small objects that are removed again. */
import { createHash, randomBytes } from 'node:crypto';
import { MIN_PART } from '../config.ts';
import { type ObjectAttributes, type ObjectStore, ObjectStoreUnavailable } from '../storage/object-store.ts';
import { probeFolder } from '../storage/probe-keys.ts';
import { type Check, Fault } from './check.ts';

const MINUTE = 60;
/** S3 takes smaller parts only as the last. */
const attributes: ObjectAttributes = {
  contentType: 'application/octet-stream',
  contentDisposition: 'attachment; filename="doctor.bin"',
  cacheControl: 'no-store',
  metadata: { 'made-by': 'doctor' },
};

/**
 * @param keyPrefix of the configuration; nothing outside of it is touched
 * @param explain says why a store that cannot be used cannot
 */
export function storeChecks(
  store: ObjectStore,
  keyPrefix: string,
  explain: () => Promise<string | undefined> = async () => undefined,
): Check[] {
  const key = probeFolder(keyPrefix, 'doctor');
  return [
    { name: 'object store reachable', needed: true, stops: true, run: () => reachable(store, explain) },
    { name: 'put, head, get, list and delete', needed: true, run: () => wholeObjects(store, `${key}/whole`) },
    { name: 'multipart upload', needed: true, run: () => multipart(store, `${key}/parts`) },
    { name: 'download link over HTTP', needed: store.kind === 's3', run: () => downloadLink(store, `${key}/link`) },
    { name: 'upload link over HTTP', needed: store.kind === 's3', run: () => uploadLink(store, `${key}/upload`) },
  ];
}

async function reachable(store: ObjectStore, explain: () => Promise<string | undefined>): Promise<string> {
  try {
    await store.check({});
  } catch (error) {
    const why = await explain();
    throw why === undefined ? error : new Fault(why);
  }
  return store.kind === 's3' ? 'the bucket is there and the credentials are accepted' : 'the directory can be written';
}

async function wholeObjects(store: ObjectStore, key: string): Promise<string> {
  const body = randomBytes(1000);
  await withObject(store, key, body, async () => {
    const head = await store.head(key, {});
    if (head?.size !== body.length) throw new Fault('an object that was just written is not there, or of another size');
    for (const name of ['contentType', 'contentDisposition', 'cacheControl'] as const)
      if (head[name] !== attributes[name]) throw new Fault(`the ${name} of an object was not kept`);
    if (head.metadata['made-by'] !== 'doctor') throw new Fault('the metadata of an object was not kept');
    if (!(await read(store, key)).equals(body)) throw new Fault('the bytes that come back are others');
    const range = await read(store, key, { first: 10, last: 19 });
    if (!range.equals(body.subarray(10, 20))) throw new Fault('a range of bytes is not the one asked for');
    let listed = false;
    for await (const page of store.list(key, {})) listed ||= page.some((object) => object.key === key);
    if (!listed) throw new Fault('an object that was just written is not listed');
  });
  if (await store.head(key, {})) throw new Fault('an object that was just deleted is still there');
  return 'works';
}

async function multipart(store: ObjectStore, key: string): Promise<string> {
  const parts = [randomBytes(MIN_PART), randomBytes(1000)];
  try {
    const uploadId = await store.createMultipartUpload(key, attributes, { partSize: MIN_PART });
    const sent = await Promise.all(
      parts.map((body, index) => store.uploadPart({ key, uploadId, partNumber: index + 1 }, body, {})),
    );
    const arrived = await store.listParts(key, uploadId, {});
    if (arrived.map(({ size }) => size).join() !== parts.map(({ length }) => length).join())
      throw new Fault('the parts that were just sent are not listed');
    await store.completeMultipartUpload(key, uploadId, sent, {});
    if (!(await read(store, key)).equals(Buffer.concat(parts))) throw new Fault('the bytes that come back are others');
    const other = await store.createMultipartUpload(key, attributes, { partSize: MIN_PART });
    await store.abortMultipartUpload(key, other, {});
    if ((await store.listMultipartUploads(key, {})).includes(other))
      throw new Fault('an upload that was just aborted is still open');
  } finally {
    await remove(store, key);
  }
  return 'works';
}

async function downloadLink(store: ObjectStore, key: string): Promise<string> {
  if (store.kind === 'disk') return 'answered by the service itself';
  const body = randomBytes(1000);
  await withObject(store, key, body, async () => {
    const url = await store.presignGet(key, { expiresIn: 5 * MINUTE, ...attributes });
    const answer = await fetch(url);
    if (answer.status !== 200) throw new Fault(`the link answers ${answer.status}: is S3_PUBLIC_ENDPOINT right?`);
    if (!Buffer.from(await answer.arrayBuffer()).equals(body)) throw new Fault('the link gives other bytes');
    if (answer.headers.get('content-disposition') !== attributes.contentDisposition)
      throw new Fault('the link does not set Content-Disposition, so a browser may run what it gets');
  });
  return 'works';
}

async function uploadLink(store: ObjectStore, key: string): Promise<string> {
  if (store.kind === 'disk') return 'answered by the service itself';
  const body = randomBytes(1000);
  try {
    const uploadId = await store.createMultipartUpload(key, attributes, { partSize: MIN_PART });
    const url = await store.presignUploadPart(
      { key, uploadId, partNumber: 1 },
      { size: body.length, expiresIn: 5 * MINUTE },
    );
    const longer = await fetch(url, { method: 'PUT', body: Buffer.concat([body, body]) });
    if (longer.ok)
      throw new Fault('a longer body than the signed one is taken, so direct uploads could pass the quota');
    const right = await fetch(url, { method: 'PUT', body });
    if (!right.ok) throw new Fault(`the link answers ${right.status}: is S3_PUBLIC_ENDPOINT right?`);
    const [part] = await store.listParts(key, uploadId, {});
    if (part?.size !== body.length) throw new Fault('the part that was sent is not listed');
  } finally {
    await remove(store, key);
  }
  return 'works, and a body of another length is refused';
}

async function withObject(store: ObjectStore, key: string, body: Buffer, work: () => Promise<void>): Promise<void> {
  try {
    await store.put(key, body, attributes, { sha256: createHash('sha256').update(body).digest() });
    await work();
  } finally {
    await remove(store, key);
  }
}

/** What cannot be removed now is open or old and has a name of its own; the fault that kept it is told already. */
async function remove(store: ObjectStore, key: string): Promise<void> {
  try {
    for (const uploadId of await store.listMultipartUploads(key, {}))
      await store.abortMultipartUpload(key, uploadId, {});
    await store.delete(key, {});
  } catch (error) {
    if (!(error instanceof ObjectStoreUnavailable)) throw error;
  }
}

async function read(store: ObjectStore, key: string, range?: { first: number; last: number }): Promise<Buffer> {
  const body = await store.get(key, range ? { range } : {});
  if (!body) throw new Fault('an object that was just written cannot be read');
  return Buffer.concat(await body.stream.toArray());
}
