/**
 * One part of an export as the files of an archive: what is written about the owner as JSON, then his files. The JSON is
 * never in memory as a whole: it is made page by page, once to know how long it is and what its checksum is, and again each
 * time that it is sent. So a download that broke off goes on where it was, as long as nothing has changed.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Caller } from '../access/caller.ts';
import { type ArchivedFile, toArchivedFile } from '../archives/archived-file.ts';
import { MAX_ARCHIVED } from '../archives/limits.ts';
import { namesInArchive } from '../archives/names.ts';
import { toDocument } from '../assets/asset.ts';
import { ownerAccount } from '../database/accounts.ts';
import type { ExportPosition, ExportsRepository } from './repository.ts';

/** Records that are in memory at once. */
const PAGE = 500;
/** Files that are made here come first; so many places are kept for them. */
const MADE = 4;
const NOTHING = '00000000-0000-0000-0000-000000000000';

export interface Exported {
  ownerId: string;
  /** By whose right. */
  caller: Caller;
  /** Audit rows before it. */
  asOf: Date;
  /** Where the part before ended. */
  after?: ExportPosition | undefined;
  /** Bytes of the files of one part; one file may be larger. */
  maxBytes: number;
}

export interface Bundle {
  files: ArchivedFile[];
  /** Where the next part begins; absent after the last. */
  next?: ExportPosition;
}

type Listed = Awaited<ReturnType<ExportsRepository['page']>>;

export async function bundleOf(repository: ExportsRepository, exported: Exported): Promise<Bundle> {
  const { ownerId, caller, asOf, after, maxBytes } = exported;
  const found = await repository.page(ownerId, caller, after, MAX_ARCHIVED - MADE + 1);
  const part = withinBytes(found.slice(0, MAX_ARCHIVED - MADE), maxBytes);
  const last = part.at(-1);
  const next =
    last && part.length < found.length
      ? { isTrashed: last.trashedAt !== null, createdAt: last.createdAt, id: last.id }
      : undefined;
  const stored = part.filter(isThere).map(toArchivedFile);
  const isFirst = after === undefined;
  const madeNames = ['manifest.json', 'assets.ndjson', 'versions.ndjson', ...(isFirst ? ['audit.ndjson'] : [])];
  const names = namesInArchive([...madeNames, ...stored.map(({ name }) => name)]).slice(madeNames.length);
  const nameOf = new Map(stored.map(({ id }, index) => [id, names[index] ?? '']));
  const about = isFirst ? await repository.account(ownerId, ownerAccount(ownerId)) : undefined;
  const manifest = {
    format: 'stowage-export/1',
    owner: ownerId,
    asOf: asOf.toISOString(),
    assets: part.length,
    files: stored.length,
    ...(next && { next: 'there is another part: follow the Link of the answer' }),
    ...about,
  };
  const ids = part.map(({ id }) => id);
  const lines: (() => AsyncIterable<string>)[] = [
    () => once(`${JSON.stringify(manifest, null, 2)}\n`),
    () => recordLines(repository, ownerId, ids, nameOf),
    () => versionLines(repository, ids),
    ...(about ? [() => auditLines(repository, ownerId, asOf, seenBy(exported, about))] : []),
  ];
  const made: ArchivedFile[] = [];
  for (const [index, make] of lines.entries()) made.push(await madeFile(madeNames[index] ?? '', asOf, make));
  return { files: [...made, ...stored], ...(next && { next }) };
}

/** Its bytes can be read now; of the others, those of an archive among them, the record is in the export. */
function isThere({ state, isAtHand }: Listed[number]): boolean {
  return state === 'ready' && isAtHand;
}

/** As many as have so many bytes together, and one at least. */
function withinBytes(listed: Listed, maxBytes: number): Listed {
  let bytes = 0;
  const end = listed.findIndex((row, index) => {
    bytes += isThere(row) ? (row.size ?? 0) : 0;
    return index > 0 && bytes > maxBytes;
  });
  return end < 0 ? listed : listed.slice(0, end);
}

async function madeFile(name: string, createdAt: Date, make: () => AsyncIterable<string>): Promise<ArchivedFile> {
  const hash = createHash('sha256');
  let [size, sum] = [0, 0];
  for await (const chunk of asBytes(make())) {
    hash.update(chunk);
    size += chunk.length;
    sum = crc32(chunk, sum);
  }
  const objectKey = `made/${hash.digest('hex')}`;
  return { id: NOTHING, name, size, objectKey, createdAt, crc32: sum, isAtHand: true, make: () => asBytes(make()) };
}

async function* asBytes(texts: AsyncIterable<string>): AsyncGenerator<Buffer> {
  for await (const text of texts) if (text !== '') yield Buffer.from(text);
}

async function* once(text: string): AsyncGenerator<string> {
  yield text;
}

async function* recordLines(
  repository: ExportsRepository,
  ownerId: string,
  ids: readonly string[],
  nameOf: ReadonlyMap<string, string>,
): AsyncGenerator<string> {
  for (const page of pagesOf(ids)) {
    const records = await repository.records(ownerId, page);
    const documents = records.map((asset) => {
      const file = nameOf.get(asset.id);
      return { ...toDocument(asset), ...(file !== undefined && { file }) };
    });
    yield toLines(documents);
  }
}

async function* versionLines(repository: ExportsRepository, ids: readonly string[]): AsyncGenerator<string> {
  for (const page of pagesOf(ids)) {
    const versions = await repository.versions(page);
    yield toLines(
      versions.map(({ sha256, ...version }) => ({ ...version, ...(sha256 && { sha256: sha256.toString('hex') }) })),
    );
  }
}

/** Of projects that he has left, somebody who exports for himself sees nothing, as in the audit trail. */
function seenBy(
  { ownerId, caller }: Exported,
  { memberships }: Awaited<ReturnType<ExportsRepository['account']>>,
): (projectId: string | null) => boolean {
  if (caller.id !== ownerId) return () => true;
  const seen = new Set([...memberships.map(({ projectId }) => projectId), ...(caller.projects?.keys() ?? [])]);
  return (projectId) => projectId === null || seen.has(projectId);
}

async function* auditLines(
  repository: ExportsRepository,
  ownerId: string,
  asOf: Date,
  isSeen: (projectId: string | null) => boolean,
): AsyncGenerator<string> {
  let before: bigint | undefined;
  do {
    const rows = await repository.audit(ownerId, asOf, before, PAGE);
    yield toLines(rows.filter(({ projectId }) => isSeen(projectId)).map(({ id: _, ...row }) => row));
    before = rows.length === PAGE ? rows.at(-1)?.id : undefined;
  } while (before !== undefined);
}

function pagesOf(ids: readonly string[]): string[][] {
  return Array.from({ length: Math.ceil(ids.length / PAGE) }, (_, index) =>
    ids.slice(index * PAGE, (index + 1) * PAGE),
  );
}

function toLines(rows: readonly object[]): string {
  return rows.map((row) => `${JSON.stringify(row)}\n`).join('');
}
