/** What everybody may see, in SQL: nothing here asks who calls, and everything asks whether the asset is public now. */
import { and, desc, eq, isNotNull, sql } from 'drizzle-orm';
import { type Asset, assetColumns, toAsset } from '../assets/asset.ts';
import type { Database } from '../database/client.ts';
import { build, compile, type Parameter } from '../database/statements.ts';
import { assets, isServedToAll } from '../database/tables/assets.ts';
import { projects } from '../database/tables/projects.ts';
import { galleryEntries as entries } from '../database/tables/publishing.ts';
import type { Position } from '../http/paging.ts';

const findPublic = compile('find-public-asset', (p: Parameter<'id'>) =>
  build
    .select(assetColumns)
    .from(assets)
    .where(and(eq(assets.id, p('id')), isServedToAll)),
);

const findGallery = compile('find-gallery', (p: Parameter<'projectId'>) =>
  build
    .select({ id: projects.id, name: projects.name })
    .from(projects)
    .where(and(eq(projects.id, p('projectId')), projects.gallery)),
);

/** The latest first. The entries are those that are shown; that an asset is one is asked again, of its record. */
const listGallery = compile('list-gallery', (p: Parameter<'projectId' | 'assetTypes' | 'value' | 'id' | 'limit'>) =>
  build
    .select({ ...assetColumns, position: sql<string>`${entries.publishedAt}::text`.as('position') })
    .from(entries)
    .innerJoin(assets, eq(assets.id, entries.assetId))
    .where(
      and(
        eq(entries.projectId, p('projectId')),
        eq(assets.projectId, p('projectId')),
        isServedToAll,
        isNotNull(assets.assetType),
        sql`${assets.assetType} = any (${p('assetTypes')}::text[])`,
        sql`(${p('id')}::uuid is null
            or (${entries.publishedAt}, ${entries.assetId}) < (${p('value')}::timestamptz, ${p('id')}::uuid))`,
      ),
    )
    .orderBy(desc(entries.publishedAt), desc(entries.assetId))
    .limit(p('limit')),
);

export interface Gallery {
  id: string;
  name: string;
}

export class PublishingRepository {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** An asset that somebody has made public and whose bytes are there. Its upload policy is for the caller to ask. */
  async find(id: string): Promise<Asset | undefined> {
    const { rows } = await this.#database.run(findPublic, { id });
    return rows[0] && toAsset(rows[0]);
  }

  /** A project that is a gallery. */
  async gallery(projectId: string): Promise<Gallery | undefined> {
    return (await this.#database.run(findGallery, { projectId })).rows[0];
  }

  /** What is public in a project, the latest first. @param assetTypes whose policies allow it */
  async list(
    projectId: string,
    { assetTypes, after, limit }: { assetTypes: readonly string[]; after?: Position | undefined; limit: number },
  ): Promise<{ asset: Asset; position: Position }[]> {
    const values = { projectId, assetTypes, value: after?.value ?? null, id: after?.id ?? null, limit };
    const { rows } = await this.#database.run(listGallery, values);
    return rows.map((row) => ({ asset: toAsset(row), position: { value: row.position, id: row.id } }));
  }
}
