/** What the indexes are of that are built beside the service; see ../built-indexes.ts. */
import { type SQL, sql } from 'drizzle-orm';
import { foldedName, hasPath, listed, searchLabels, visible } from './assets.ts';

export interface BuiltIndex {
  name: string;
  /** What it needs that a server may not have. */
  extension?: string;
  /** What follows `create index concurrently NAME on assets`. */
  definition: SQL;
}

const inFolder = sql`${listed} and ${hasPath}`;
export const builtIndexes: readonly BuiltIndex[] = [
  {
    name: 'assets_by_path',
    definition: sql`(owner_id, project_id, path collate "C", (lower(name) collate "C"), id) where ${inFolder}`,
  },
  {
    name: 'assets_of_project_by_path',
    definition: sql`(project_id, path collate "C", (lower(name) collate "C"), id) where ${inFolder} and project_id is not null`,
  },
  {
    // For counting them, and for looking through them.
    name: 'assets_held',
    definition: sql`(id) where holds is not null or retain_until is not null`,
  },
  {
    // One index for all that is searched: a search by several reads what has all of it. New entries wait in a list that
    // every search reads, so it is kept short (PostgreSQL documentation, GIN Fast Update Technique). Kilobytes.
    name: 'assets_search',
    extension: 'pg_trgm',
    definition: sql`using gin ((${searchLabels}), tags, metadata jsonb_path_ops, (${foldedName}) gin_trgm_ops)
      with (gin_pending_list_limit = 1024) where ${visible}`,
  },
];
