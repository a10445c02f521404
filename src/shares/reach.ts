/**
 * What is asked of the records for strangers: a share by the digest of its token, and the assets that it leads to. Each
 * asks again whether whoever made the share may still read what he has shared.
 */
import { and, asc, desc, eq, exists, type SQL, sql } from 'drizzle-orm';
import { type AccessParameter, type AccessValues, isFor } from '../access/conditions.ts';
import { type ArchivedFile, archivedColumns, toArchivedFile } from '../archives/archived-file.ts';
import { type Asset, assetColumns, toAsset } from '../assets/asset.ts';
import type { Executor } from '../database/client.ts';
import { build, compile, nowhere, type Parameter } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { projectMembers, projects } from '../database/tables/projects.ts';
import { type ShareAllowance, type ShareTarget, shareAssets, shares } from '../database/tables/shares.ts';
import type { Position } from '../http/paging.ts';
import { isLive, isReachable, isServed, isUsedUp } from './statements.ts';

/** A share that is neither revoked nor expired, and leads to something. */
export interface FoundShare {
  id: string;
  target: ShareTarget;
  projectId: string | null;
  allow: ShareAllowance;
  label: string | null;
  password: Buffer | null;
  /** Of the key of its token. */
  keySince: number;
  maxDownloads: number | null;
  /** As many downloads as there may be have begun; they may go on. */
  isUsedUp: boolean;
  permanent: boolean;
  expiresAt: Date | null;
  /** By whose right it reaches its assets. */
  maker: AccessValues;
  /** Of a project that shows whoever made it only his own. */
  isOwnOnly: boolean;
}

/** An asset with the names of what was made of it. */
export interface SharedRow {
  asset: Asset;
  derivatives: string[];
  position: Position;
}

const isOwnOnly = exists(
  build
    .select({ id: projects.id })
    .from(projects)
    .innerJoin(projectMembers, eq(projectMembers.projectId, projects.id))
    .where(
      and(
        eq(projects.id, shares.projectId),
        eq(projects.separate, sql`true`),
        eq(projectMembers.subject, shares.createdBy),
        sql`${projectMembers.role} <> 'manager'`,
        sql`(${shares.claims} -> ${shares.projectId}) is null`,
      ),
    ),
);

const findByDigest = compile('find-share-by-digest', (p: Parameter<'digest'>) =>
  build
    .select({
      id: shares.id,
      target: shares.target,
      projectId: shares.projectId,
      allow: shares.allow,
      label: shares.label,
      password: shares.password,
      keySince: shares.keySince,
      maxDownloads: shares.maxDownloads,
      permanent: shares.permanent,
      expiresAt: shares.expiresAt,
      createdBy: shares.createdBy,
      claims: shares.claims,
      onlyProjects: shares.onlyProjects,
      isUsedUp: sql<boolean>`${isUsedUp}`.as('is_used_up'),
      isOwnOnly: sql<boolean>`${isOwnOnly}`.as('is_own_only'),
    })
    .from(shares)
    // With a second table every column is written with that of its own.
    .crossJoin(nowhere)
    .where(and(eq(shares.digest, p('digest')), isLive, isReachable)),
);

const made = sql<string[]>`array(select ${derivatives.name} from ${derivatives}
  where ${derivatives.assetId} = ${assets.id} and ${derivatives.state} <> 'discarded' and ${derivatives.state} = 'ready'
    and ${derivatives.kind} = 'derivative' and ${derivatives.sourceKey} = ${assets.objectKey})`;
const shown = { ...assetColumns, made: sql`${made}`.mapWith((names: string[]) => names).as('made') };
type Reach = 'projectId' | 'shareId' | AccessParameter;
const isReached = (p: Parameter<AccessParameter>) => and(isServed, isFor(p, 'asset.download'));

/** One of its assets, whatever it leads to. */
const findAsset = compile('find-shared-asset', (p: Parameter<'id' | Reach>) =>
  build
    .select(shown)
    .from(assets)
    .crossJoin(nowhere)
    .where(
      and(
        eq(assets.id, p('id')),
        sql`(${assets.projectId} = ${p('projectId')} or exists (select from ${shareAssets}
          where ${shareAssets.shareId} = ${p('shareId')}::uuid and ${shareAssets.assetId} = ${assets.id}))`,
        isReached(p),
      ),
    ),
);

/** Those that were named, in their order. */
const listNamed = compile('list-shared-assets', (p: Parameter<'value' | 'limit' | 'shareId' | AccessParameter>) =>
  build
    .select({ ...shown, value: sql<string>`${shareAssets.position}::text`.as('value') })
    .from(shareAssets)
    .innerJoin(assets, eq(assets.id, shareAssets.assetId))
    .where(
      and(
        eq(shareAssets.shareId, p('shareId')),
        sql`${shareAssets.position} > coalesce(${p('value')}::integer, 0)`,
        isReached(p),
      ),
    )
    .orderBy(asc(shareAssets.position))
    .limit(p('limit')),
);

const inProject = (p: Parameter<'value' | 'id' | 'limit' | 'projectId' | AccessParameter>, whose: SQL | undefined) =>
  build
    .select({ ...shown, value: sql<string>`${assets.createdAt}::text`.as('value') })
    .from(assets)
    .crossJoin(nowhere)
    .where(
      and(
        eq(assets.projectId, p('projectId')),
        whose,
        isReached(p),
        sql`(${p('id')}::uuid is null
          or (${assets.createdAt}, ${assets.id}) < (${p('value')}::timestamptz, ${p('id')}::uuid))`,
      ),
    )
    .orderBy(desc(assets.createdAt), desc(assets.id))
    .limit(p('limit'));
type InProject = 'value' | 'id' | 'limit' | 'projectId' | AccessParameter;
const listProject = compile('list-shared-project', (p: Parameter<InProject>) => inProject(p, undefined), {
  named: false,
});
/** So that the index of his own is used, and nobody waits for those of all others to be looked at. */
const listOwnOfProject = compile(
  'list-shared-own-of-project',
  (p: Parameter<InProject>) => inProject(p, eq(assets.ownerId, p('subject'))),
  { named: false },
);

/** All of them, for an archive: of a project the oldest first. */
const archivedNamed = compile('list-shared-archive', (p: Parameter<'shareId' | 'limit' | AccessParameter>) =>
  build
    .select(archivedColumns)
    .from(shareAssets)
    .innerJoin(assets, eq(assets.id, shareAssets.assetId))
    .where(and(eq(shareAssets.shareId, p('shareId')), isReached(p)))
    .orderBy(asc(shareAssets.position))
    .limit(p('limit')),
);
const archivedOfProject = (p: Parameter<'projectId' | 'limit' | AccessParameter>, whose: SQL | undefined) =>
  build
    .select(archivedColumns)
    .from(assets)
    .where(and(eq(assets.projectId, p('projectId')), whose, isReached(p)))
    .orderBy(asc(assets.createdAt), asc(assets.id))
    .limit(p('limit'));
type ArchivedOfProject = 'projectId' | 'limit' | AccessParameter;
const archivedAll = compile(
  'list-shared-project-archive',
  (p: Parameter<ArchivedOfProject>) => archivedOfProject(p, undefined),
  { named: false },
);
const archivedOwn = compile(
  'list-shared-own-archive',
  (p: Parameter<ArchivedOfProject>) => archivedOfProject(p, eq(assets.ownerId, p('subject'))),
  { named: false },
);

export class ShareReach {
  readonly #database: Executor;

  constructor(database: Executor) {
    this.#database = database;
  }

  /** @returns undefined for one that is unknown, revoked or expired, or leads to nothing any more */
  async find(digest: Buffer): Promise<FoundShare | undefined> {
    const { rows } = await this.#database.run(findByDigest, { digest });
    const [row] = rows;
    if (!row) return undefined;
    const { createdBy, claims, onlyProjects, ...share } = row;
    const maker = { subject: createdBy, claims, only: onlyProjects, ticket: null, anywhere: false };
    return { ...share, maker };
  }

  /** @returns undefined when the share does not lead to it, or it is not there to be read */
  async asset({ id: shareId, projectId, maker }: FoundShare, id: string): Promise<SharedRow | undefined> {
    const { rows } = await this.#database.run(findAsset, { id, shareId, projectId, ...maker });
    return rows[0] && sharedRow({ ...rows[0], value: '' });
  }

  /** Of a share of one asset. */
  async onlyAsset(share: FoundShare): Promise<SharedRow | undefined> {
    return (await this.list(share, { limit: 1 }))[0];
  }

  /** One page: of assets that were named in their order, of a project the latest first. */
  async list(
    { id: shareId, target, projectId, maker, isOwnOnly: own }: FoundShare,
    { after, limit }: { after?: Position | undefined; limit: number },
  ): Promise<SharedRow[]> {
    const value = after?.value ?? null;
    if (target !== 'project')
      return (await this.#database.run(listNamed, { shareId, value, limit, ...maker })).rows.map(sharedRow);
    const statement = own ? listOwnOfProject : listProject;
    const values = { projectId, value, id: after?.id ?? null, limit, ...maker };
    return (await this.#database.run(statement, values)).rows.map(sharedRow);
  }

  /** All of them at once, as far as `limit`. */
  async archived(
    { id: shareId, target, projectId, maker, isOwnOnly: own }: FoundShare,
    limit: number,
  ): Promise<ArchivedFile[]> {
    const { rows } =
      target === 'project'
        ? await this.#database.run(own ? archivedOwn : archivedAll, { projectId, limit, ...maker })
        : await this.#database.run(archivedNamed, { shareId, limit, ...maker });
    return rows.map(toArchivedFile);
  }
}

function sharedRow({
  made: derivativeNames,
  value,
  ...row
}: Parameters<typeof toAsset>[0] & { made: string[]; value: string }): SharedRow {
  return { asset: toAsset(row), derivatives: derivativeNames, position: { value, id: row.id } };
}
