/**
 * The folders of a place: whose paths begin with the path of a folder, told once each, as the common prefixes of
 * ListObjectsV2 (Amazon S3 API). The index of paths is not read through: from the first path of a folder it is gone to the
 * first one behind that folder, so a folder of a million assets costs as much as one with a single asset.
 */
import { and, eq, isNull, type SQL, sql } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, type Parameter, type Statement } from '../database/statements.ts';
import { assets, hasPath, listed } from '../database/tables/assets.ts';

/** A place has folders of its own. */
export type FolderPlace =
  /** What somebody has uploaded: in no project, or in one that shows each member his own. */
  { ownerId: string; projectId?: string } | { projectId: string };

/** As the indexes of paths have it. */
const inBytes = sql`${assets.path} collate "C"`;
/** All that begins with the path of a folder is less than that with the neighbour of '/' at its end. */
const behind = (path: SQL) => sql`left(${path}, -1) || '0'`;

type FolderParameter = 'ownerId' | 'projectId' | 'path' | 'after' | 'limit';
type Parameters = Parameter<FolderParameter>;

const walks = {
  owner: walk('walk-folders-of-owner', (p) => and(eq(assets.ownerId, p('ownerId')), isNull(assets.projectId))),
  ownerInProject: walk('walk-folders-of-owner-in-project', (p) =>
    and(eq(assets.ownerId, p('ownerId')), eq(assets.projectId, p('projectId'))),
  ),
  project: walk('walk-folders-of-project', (p) => eq(assets.projectId, p('projectId'))),
};

function walk(name: string, isThere: (p: Parameters) => SQL | undefined): Statement<FolderParameter, { path: string }> {
  return compile(
    name,
    (p: Parameters) => {
      const path = sql`${p('path')}::text`;
      const folder = sql`${path} || split_part(substr(${assets.path}, length(${path}) + 1), '/', 1) || '/'`;
      const isBelow = sql`(${path} = '' or ${inBytes} < ${behind(path)})`;
      const firstFrom = (start: SQL) =>
        sql`select ${folder} from ${assets} where ${and(isThere(p), listed, hasPath, isBelow, sql`${inBytes} >= ${start}`)} order by ${inBytes} limit 1`;
      const after = sql`${p('after')}::text`;
      const start = sql`case when ${after} is null then ${path} || chr(1) else ${behind(after)} end`;
      const walked = sql`(with recursive folders (path) as (
          (${firstFrom(start)}) union all select (${firstFrom(behind(sql`folders.path`))}) from folders where folders.path is not null
        ) select folders.path from folders where folders.path is not null limit ${p('limit')}) as walked`;
      return build.select({ path: sql<string>`walked.path`.as('path') }).from(walked);
    },
    { named: false },
  );
}

/**
 * Folders directly in a folder, in the order of their bytes.
 * @param path of the folder, empty for the top
 * @param after the last folder of the page before
 */
export async function foldersIn(
  database: Executor,
  place: FolderPlace,
  { path, after, limit }: { path: string; after: string | undefined; limit: number },
): Promise<{ folders: string[]; hasMore: boolean }> {
  const values = { path, after: after ?? null, limit: limit + 1, projectId: place.projectId ?? null };
  const { rows } = !('ownerId' in place)
    ? await database.run(walks.project, { ...values, ownerId: null })
    : await database.run(place.projectId === undefined ? walks.owner : walks.ownerInProject, {
        ...values,
        ownerId: place.ownerId,
      });
  const folders = rows.map((row) => row.path);
  return { folders: folders.slice(0, limit), hasMore: folders.length > limit };
}
