/**
 * Sends files as one ZIP archive, through the service. Its length and its entity tag are known before a byte of it is, so
 * browsers show how far they are, and a download that broke off goes on where it was. No file is ever in memory: it is
 * passed on as the client reads it.
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { contentDisposition } from '../assets/content-disposition.ts';
import { agreeOnBytes, signalOf } from '../assets/delivery.ts';
import type { DownloadPlaces } from '../http/download-places.ts';
import { ClientGone, unavailable } from '../problems.ts';
import { freeing } from '../storage/chunks.ts';
import { type ObjectStore, ObjectStoreUnavailable } from '../storage/object-store.ts';
import type { ArchiveMemory } from './archive-memory.ts';
import { ArchiveStream } from './archive-stream.ts';
import type { ArchivedFile } from './archived-file.ts';
import { Checksums } from './checksums.ts';
import { type LaidFile, ZipLayout } from './layout.ts';
import { namesInArchive } from './names.ts';
import { ObjectReader } from './object-reader.ts';
import type { ArchivesRepository } from './repository.ts';

/** What archives share; `archivesOf` has it. */
export interface ArchiveService {
  store: Pick<ObjectStore, 'get'>;
  places: DownloadPlaces;
  memory: ArchiveMemory;
  repository: ArchivesRepository;
  onSent: (bytes: number) => void;
}

export interface ArchiveDelivery {
  /** Whose places it takes. */
  callerId: string;
  /** File name of the archive, as `checkFileName` takes it. */
  name: string;
  /** In the order that they have in the archive. Each must be `ready`, out of the trash, and the caller's to download. */
  files: readonly ArchivedFile[];
  /** Of the answer; absent: browsers may keep it, and ask each time. */
  cacheControl?: string;
  /** Awaited before bytes are sent, with the files whose first byte is among them; not for HEAD, 304 or refusals. */
  beforeBytes?: (begun: readonly ArchivedFile[]) => Promise<void>;
}

/** @throws Problem precondition-failed, range-not-satisfiable, too-many-downloads, overloaded, unavailable */
export async function deliverArchive(
  service: ArchiveService,
  request: FastifyRequest,
  reply: FastifyReply,
  { callerId, name, files, cacheControl = 'private, no-cache', beforeBytes }: ArchiveDelivery,
): Promise<FastifyReply> {
  const signal = signalOf(reply);
  service.memory.take(callerId, files.length, signal);
  const laid = laidOut(files);
  const layout = new ZipLayout(laid);
  const agreed = agreeOnBytes(request, reply, {
    size: layout.length,
    entityTag: tagOf(files, laid),
    headers: {
      'content-type': 'application/zip',
      'content-disposition': contentDisposition('attachment', name),
      'cache-control': cacheControl,
    },
  });
  if (!agreed) return reply;
  const { length, range = { first: 0, last: length - 1 } } = agreed;
  await service.places.enter(callerId, reply, signal);
  const stream = streamOf(service, files, layout, signal);
  signal.addEventListener('abort', () => stream.close(), { once: true });
  try {
    await stream.begin(range);
    await beforeBytes?.(files.filter((_file, index) => layout.beginsWithin(index, range)));
  } catch (error) {
    if (!(error instanceof ObjectStoreUnavailable)) throw error;
    request.log.error({ err: error }, 'an archive could not be begun');
    throw unavailable('object store');
  }
  if (reply.raw.closed) throw new ClientGone('the client has gone');
  reply.raw.once('finish', () => service.onSent(length));
  // One chunk is ready while another is sent.
  const bytes = Readable.from(stream.bytes(range), { highWaterMark: 1 });
  bytes.once('error', (err) => {
    if (!signal.aborted) request.log.error({ err }, 'an archive broke off');
  });
  return reply.send(freeing(bytes));
}

function streamOf(
  { store, repository }: ArchiveService,
  files: readonly ArchivedFile[],
  layout: ZipLayout,
  signal: AbortSignal,
) {
  const reader = new ObjectReader(store, signal);
  return new ArchiveStream({
    files,
    layout,
    reader,
    checksums: new Checksums(files, reader, (file, crc32) => repository.keepChecksum(file, crc32)),
    onWrongChecksum: (file) => repository.forgetChecksum(file),
  });
}

/** Bytes of the archive of these files. */
export function archiveLength(files: readonly ArchivedFile[]): number {
  return new ZipLayout(laidOut(files)).length;
}

function laidOut(files: readonly ArchivedFile[]): LaidFile[] {
  const names = namesInArchive(files.map(({ name }) => name));
  return files.map(({ size, createdAt }, index) => ({ name: names[index] ?? '', size, modifiedAt: createdAt }));
}

/** All that decides the bytes. A key is written once, so it stands for what lies under it. */
function tagOf(files: readonly ArchivedFile[], laid: readonly LaidFile[]): string {
  const hash = createHash('sha256').update('zip.v1\n');
  for (const [index, { objectKey, size, createdAt }] of files.entries())
    hash.update(`${JSON.stringify([laid[index]?.name, objectKey, size, createdAt.getTime()])}\n`);
  return `"${hash.digest('base64url')}"`;
}
