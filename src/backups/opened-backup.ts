/** A backup as it is read: which one it is, whether it is whole, and its files one after the other. */
import { createHash } from 'node:crypto';
import { PassThrough, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { journal, knowsMigration } from '../database/migrations.ts';
import { ObjectStoreUnavailable } from '../storage/object-store.ts';
import { type BackupDocument, backupSchema, type FileOfBackup } from './document.ts';
import { KEY_FILE, type Open, openingFor } from './encryption.ts';
import { type BackupPlace, MANIFEST } from './place.ts';

/** Of `backup.json`; that of a service has a few KiB. */
const MAX_DOCUMENT = 16 * 1024 * 1024;
/** Of `key.age`: one stanza and one identity. */
const MAX_KEY = 16 * 1024;
const LISTED = 10;

export interface OpenedBackup {
  readonly document: BackupDocument;
  readonly name: string;
  /**
   * The rows in a file, for `work`.
   * @throws Error when the file is not as it was written; `work` has ended by then, but nothing may be kept of it
   */
  rows<Result>(file: FileOfBackup, work: (rows: Readable) => Promise<Result>): Promise<Result>;
}

export interface Secrets {
  passphrase: string | undefined;
  identities: readonly string[];
}

/** @throws Error that says what is wrong with it, or which backups there are instead */
export async function openBackup(place: BackupPlace, secrets: Secrets): Promise<OpenedBackup> {
  const text = await contentOf(place, MANIFEST, MAX_DOCUMENT);
  if (text === undefined) throw new Error(await explainMissing(place));
  const document = parse(place, text);
  requireKnown(document);
  const key = document.encryption === 'none' ? undefined : await contentOf(place, KEY_FILE, MAX_KEY);
  const open = await openingFor(document.encryption, key, secrets);
  return { document, name: place.name, rows: (file, work) => readFile(place, open, file, work) };
}

function parse(place: BackupPlace, text: Buffer): BackupDocument {
  let content: unknown;
  try {
    content = JSON.parse(text.toString());
  } catch {
    throw new Error(`${place.name}/${MANIFEST} is damaged: it is no JSON`);
  }
  const parsed = backupSchema.safeParse(content);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join('.') ?? '';
  if (where === 'formatVersion')
    throw new Error(
      `the backup ${place.name} has a format that this version does not know: restore it with a later one`,
    );
  throw new Error(`${place.name}/${MANIFEST} is damaged: ${where}: ${issue?.message ?? 'not valid'}`);
}

/** A later version may have made columns and rules that this one would break. */
function requireKnown({ newestMigration, madeBy }: BackupDocument): void {
  if (knowsMigration(newestMigration)) return;
  throw new Error(
    newestMigration > journal().newest
      ? `the backup is of a newer version of the service (${madeBy}): restore it with that version or a later one`
      : `the backup has a migration that this version (its own: ${madeBy}) does not know: restore it with the version that made it`,
  );
}

/** What is there instead of a backup. */
async function explainMissing(place: BackupPlace): Promise<string> {
  const folders = await place.folders();
  const complete: string[] = [];
  let unfinished = 0;
  for (const folder of folders.toReversed()) {
    const manifest = await place.in(folder).read(MANIFEST);
    manifest?.destroy();
    if (manifest) complete.push(place.in(folder).name);
    else unfinished += 1;
    if (complete.length === LISTED) break;
  }
  if (complete.length > 0) return `${place.name} is no backup but holds some. The latest:\n  ${complete.join('\n  ')}`;
  return unfinished > 0 || (await hasFiles(place))
    ? `${place.name} is no complete backup: it has no ${MANIFEST}, which is written last. Whatever made it did not end`
    : `there is no backup at ${place.name}`;
}

async function hasFiles(place: BackupPlace): Promise<boolean> {
  for (const file of [KEY_FILE, 'jobs.copy.gz', 'jobs.copy.gz.age']) {
    const found = await place.read(file);
    found?.destroy();
    if (found) return true;
  }
  return false;
}

async function contentOf(place: BackupPlace, file: string, limit: number): Promise<Buffer | undefined> {
  const stream = await place.read(file);
  if (!stream) return undefined;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    const bytes: Buffer = chunk;
    size += bytes.length;
    if (size > limit) throw new Error(`${place.name}/${file} is too large`);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}

async function readFile<Result>(
  place: BackupPlace,
  open: Open,
  { file, bytes, sha256 }: FileOfBackup,
  work: (rows: Readable) => Promise<Result>,
): Promise<Result> {
  const damaged = (why: string, cause?: unknown) => new Error(`${place.name}/${file} is damaged: ${why}`, { cause });
  const source = await place.read(file);
  if (!source) throw damaged('it is not there');
  const hash = createHash('sha256');
  let size = 0;
  const counted = new PassThrough();
  const reading = pipeline(
    source,
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        size += chunk.length;
        hash.update(chunk);
        yield chunk;
      }
    },
    counted,
  );
  // Told below, when the rows have been told of it.
  reading.catch(() => {});
  const zipped = createGunzip();
  const unzipping = open(counted).then((plain) => pipeline(plain, zipped));
  // The rows are told of it too: they fail, and never just end.
  unzipping.catch((error) => zipped.destroy(error));
  let result: Result;
  try {
    result = await work(zipped);
    await Promise.all([reading, unzipping]);
  } catch (error) {
    source.destroy();
    const [read, unzipped] = await Promise.allSettled([reading, unzipping]);
    const reasons = [read, unzipped].flatMap((each) => (each.status === 'rejected' ? [each.reason] : []));
    const unread = reasons.find(isOfPlace);
    if (unread !== undefined) throw unread;
    const broken = reasons.find((reason) => !isAbort(reason));
    if (broken !== undefined) throw damaged('it does not unpack', broken);
    throw error;
  }
  if (size !== bytes) throw damaged(`it has ${size} bytes instead of ${bytes}`);
  if (hash.digest('hex') !== sha256) throw damaged('its bytes are not those that were written');
  return result;
}

/** The place failed, and not what it gave. */
function isOfPlace(error: unknown): boolean {
  return error instanceof ObjectStoreUnavailable || (error instanceof Error && 'syscall' in error);
}

/** What a stream says that was closed because another one had failed. */
function isAbort(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE';
}
