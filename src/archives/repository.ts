/** The files of archives in SQL. */
import { and, asc, eq, isNull, sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, accessOf, isFor } from '../access/conditions.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { Database } from '../database/client.ts';
import {
  build,
  compile,
  isAnyOf,
  jsonObject,
  nowhere,
  type Parameter,
  typed,
  unnested,
} from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { auditRows } from '../database/tables/audit.ts';
import { downloadMarks } from '../database/tables/downloads.ts';
import { type ArchivedFile, archivedColumns, toArchivedFile } from './archived-file.ts';

const isServed = and(inState('ready'), isNull(assets.trashedAt));

/** Those that the caller may download; the link is recorded with each of them, if all are there. */
const issueArchive = compile(
  'issue-archive',
  (p: Parameter<'ids' | 'archive' | 'expiresIn' | 'maxBytes' | AccessParameter | keyof Actor>) => {
    const found = build.$with('found').as(
      build
        .select({ ...archivedColumns, ownerId: assets.ownerId, projectId: assets.projectId })
        .from(assets)
        .where(and(isAnyOf(assets.id, p('ids')), isFor(p, 'asset.download'), isServed)),
    );
    const issued = build.$with('issued').as(
      build
        .select({ id: found.id, ownerId: found.ownerId, projectId: found.projectId })
        .from(found)
        .where(
          sql`(select count(*) filter (where ${found.isAtHand}) = cardinality(${p('ids')}::uuid[]) and sum(${found.size}) <= ${p('maxBytes')}::bigint from ${found})`,
        ),
    );
    const detail = jsonObject({ archive: sql`${p('archive')}::text`, expiresIn: sql`${p('expiresIn')}::integer` });
    return build
      .with(found, issued, auditFrom(p, issued, { action: 'asset.link-issued', detail }))
      .select({
        id: found.id,
        name: found.name,
        size: found.size,
        objectKey: found.objectKey,
        createdAt: found.createdAt,
        crc32: found.crc32,
        isAtHand: found.isAtHand,
      })
      .from(found);
  },
);

const findArchived = compile('find-archived', (p: Parameter<'ids'>) =>
  build
    .select(archivedColumns)
    .from(assets)
    .where(and(isAnyOf(assets.id, p('ids')), isServed)),
);

const listArchivedOfProject = compile('list-archived-of-project', (p: Parameter<'projectId' | 'limit'>) =>
  build
    .select(archivedColumns)
    .from(assets)
    .where(and(eq(assets.projectId, p('projectId')), isServed))
    .orderBy(asc(assets.createdAt), asc(assets.id))
    .limit(p('limit')),
);

/** One row, for whoever has made the link; the files tell of it by the name of the archive. */
const recordDownload = compile(
  'record-archive-download',
  (p: Parameter<'ids' | 'ownerId' | 'detail' | keyof Actor>) => {
    const begun = build
      .select({ assetId: unnested(p('ids'), downloadMarks.assetId).as('asset_id'), at: sql<Date>`now()`.as('at') })
      .from(nowhere);
    const marked = build.$with('marked', {}).as(build.insert(downloadMarks).select(begun).getSQL());
    return build
      .with(marked)
      .insert(auditRows)
      .values({
        action: 'archive.downloaded',
        actorId: p('callerId'),
        ownerId: p('ownerId'),
        requestId: p('requestId'),
        detail: p('detail'),
        via: p('via'),
        reason: p('because'),
      });
  },
);

const keepChecksum = compile('keep-crc32', (p: Parameter<'id' | 'objectKey' | 'crc32'>) =>
  build
    .update(assets)
    .set({ crc32: typed(p('crc32'), assets.crc32) })
    .where(and(eq(assets.id, p('id')), eq(assets.objectKey, p('objectKey')))),
);

export class ArchivesRepository {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * The files of a new link, in the order of the ids, with an audit row for each, if all are there and not too large together.
   * @param ids each once
   * @returns fewer than there are ids where some are not there for the caller, or are not served
   */
  async issue(
    caller: Caller,
    ids: readonly string[],
    detail: { archive: string; expiresIn: number; maxBytes: number },
    actor: Actor,
  ): Promise<ArchivedFile[]> {
    const { rows } = await this.#database.run(issueArchive, { ids, ...detail, ...accessOf(caller), ...actor });
    return inOrder(ids, rows.map(toArchivedFile));
  }

  /** Those of them that are served, in the order of the ids; who may have them was asked before. */
  async find(ids: readonly string[]): Promise<ArchivedFile[]> {
    const { rows } = await this.#database.run(findArchived, { ids });
    return inOrder(ids, rows.map(toArchivedFile));
  }

  /** What is served of a project, oldest first; who may have it was asked before. */
  async ofProject(projectId: string, limit: number): Promise<ArchivedFile[]> {
    const { rows } = await this.#database.run(listArchivedOfProject, { projectId, limit });
    return rows.map(toArchivedFile);
  }

  /** Records a download by a link, and counts one more of each file that was begun. */
  async recordDownload(
    ownerId: string,
    begun: readonly ArchivedFile[],
    detail: Record<string, unknown>,
    actor: Actor,
  ): Promise<void> {
    await this.#database.run(recordDownload, { ids: begun.map(({ id }) => id), ownerId, detail, ...actor });
  }

  /** Unless its bytes are others by now. */
  async keepChecksum({ id, objectKey }: ArchivedFile, crc32: number): Promise<void> {
    await this.#database.run(keepChecksum, { id, objectKey, crc32 });
  }

  /** So that it is found out again. */
  async forgetChecksum({ id, objectKey }: ArchivedFile): Promise<void> {
    await this.#database.run(keepChecksum, { id, objectKey, crc32: null });
  }
}

function inOrder(ids: readonly string[], files: ArchivedFile[]): ArchivedFile[] {
  const byId = new Map(files.map((file) => [file.id, file]));
  return ids.flatMap((id) => byId.get(id) ?? []);
}
