/** Shares in the database, for those who make, see and end them. */
import { v7 as uuidv7 } from 'uuid';
import type { Caller } from '../access/caller.ts';
import { accessOf } from '../access/conditions.ts';
import { requireMay } from '../access/may.ts';
import { rankOf, roleAt } from '../access/rules.ts';
import type { Actor } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { ShareAllowance, ShareTarget } from '../database/tables/shares.ts';
import type { Position } from '../http/paging.ts';
import { assetNotFound, Problem } from '../problems.ts';
import { standingOf } from '../projects/places.ts';
import { projectNotFound } from '../projects/problems.ts';
import type { ShareKeys } from './keys.ts';
import { tooManyShares } from './problems.ts';
import * as statements from './statements.ts';
import { digestOf, tokenOf } from './token.ts';
import './audit.ts';

/** What is shared; exactly one of them. */
export type Target = { assetId: string } | { assetIds: readonly string[] } | { projectId: string };

export interface ShareTerms {
  allow: ShareAllowance;
  label: string | null;
  note: string | null;
  /** As passwords.ts makes it. */
  password: Buffer | null;
  maxDownloads: number | null;
  /** Seconds from now. */
  expiresIn: number | null;
  permanent: boolean;
}

/** A share as whoever made it sees it; who oversees it sees it without its address. */
export interface Share {
  id: string;
  createdBy: string;
  target: ShareTarget;
  projectId: string | null;
  /** In a list, only of a share of one. */
  assetIds: string[];
  assetCount: number;
  allow: ShareAllowance;
  label: string | null;
  note: string | null;
  hasPassword: boolean;
  maxDownloads: number | null;
  downloads: number;
  lastUsedAt: Date | null;
  permanent: boolean;
  createdAt: Date;
  updatedAt: Date;
  expiresAt: Date | null;
  revokedAt: Date | null;
  isExpired: boolean;
  isReachable: boolean;
  isMine: boolean;
  /** Absent for whoever only oversees it, and where its key is gone. */
  token?: string;
}

/** What of a share bounds how it may be changed. */
export interface LockedTerms {
  target: ShareTarget;
  hasPassword: boolean;
  maxDownloads: number | null;
  expiresAt: Date | null;
  permanent: boolean;
}

export interface ShareLimits {
  perCaller: number;
  perAsset: number;
}

type Row = Omit<Share, 'token'> & { keySince: number };

export class SharesRepository {
  readonly #handle: DatabaseHandle;
  readonly #keys: ShareKeys;
  readonly #limits: ShareLimits;

  constructor(handle: DatabaseHandle, keys: ShareKeys, limits: ShareLimits) {
    this.#handle = handle;
    this.#keys = keys;
    this.#limits = limits;
  }

  /**
   * @param inTransaction what belongs into the same transaction
   * @throws Problem not-found, forbidden, wrong-state, too-many-shares
   */
  async create(
    caller: Caller,
    target: Target,
    terms: ShareTerms,
    actor: Actor,
    inTransaction: (transaction: Executor, id: string) => Promise<void>,
  ): Promise<string> {
    // By a reason an administrator reaches any asset for a moment; a share must reach it for longer.
    const { reason: _reason, ...maker } = caller;
    const named = await this.#required(maker, target);
    const { since, value: key } = await this.#keys.current();
    const id = uuidv7();
    const values = {
      ...{ ...terms, ...named, id, createdBy: caller.id, keySince: since, digest: digestOf(tokenOf(key, id)) },
      claims: claimsFor(maker, named.projects),
      onlyProjects: maker.only ? [...maker.only] : null,
      ...actor,
    };
    await this.#handle.transact(async (transaction) => {
      await transaction.run(statements.lockMaker, { createdBy: caller.id });
      const { rows } = await transaction.run(statements.countOfMaker, { createdBy: caller.id });
      const { perCaller } = this.#limits;
      if ((rows[0]?.shares ?? 0) >= perCaller)
        throw new Problem(tooManyShares, {
          detail: `You have ${perCaller} shares, as many as a caller may have; those that have ended count for a week. Revoke some.`,
        });
      if (named.assetIds.length > 0) await this.#requireRoom(transaction, named.assetIds);
      await transaction.run(statements.insertShare, values);
      await inTransaction(transaction, id);
    });
    return id;
  }

  /** Until the transaction ends, nobody else makes a share of one of these assets. */
  async #requireRoom(transaction: Executor, ids: readonly string[]): Promise<void> {
    const { perAsset } = this.#limits;
    await transaction.run(statements.lockShared, { ids });
    const { rows } = await transaction.run(statements.findFull, { ids, limit: perAsset });
    if (rows[0])
      throw new Problem(tooManyShares, {
        detail: `The asset ${rows[0].id} is in ${perAsset} shares, as many as there may be. Revoke some.`,
      });
  }

  /** That the caller may share what he names. */
  async #required(caller: Caller, target: Target) {
    const none = { assetIds: [] as string[], auditAssetId: null, auditProjectId: null };
    if ('projectId' in target) {
      const { projectId } = target;
      const { exists, role } = await standingOf(this.#handle.database, caller, projectId);
      if (!exists || role === undefined) throw projectNotFound();
      requireMay(caller, 'project.share', { role });
      return { ...none, target: 'project', projectId, auditProjectId: projectId, projects: [projectId] };
    }
    const ids = 'assetId' in target ? [target.assetId] : [...target.assetIds];
    const access = accessOf(caller);
    const { rows } = await this.#handle.database.run(statements.findToShare, { ids, ...access });
    const found = new Map(rows.map((row) => [row.id, row]));
    for (const [index, id] of ids.entries()) {
      const row = found.get(id.toLowerCase());
      const role = row && roleAt(row.rank);
      if (!row || !role) throw 'assetId' in target ? assetNotFound() : unknownAsset(index);
      requireMay(caller, 'asset.share', { role });
      if (row.isTrashed)
        throw new Problem('wrong-state', { detail: `The asset ${id} is in the trash. Restore it to share it.` });
    }
    const projects = [...new Set(rows.flatMap(({ projectId }) => projectId ?? []))];
    const isOne = 'assetId' in target;
    return {
      ...{ ...none, assetIds: ids, target: isOne ? 'asset' : 'assets', projectId: null, projects },
      ...(isOne && { auditAssetId: target.assetId, auditProjectId: projects[0] ?? null }),
    };
  }

  async find(caller: Caller, id: string, executor: Executor = this.#handle.database): Promise<Share | undefined> {
    const { rows } = await executor.run(statements.findShare, { id, ...accessOf(caller) });
    return rows[0] && this.#withToken(rows[0]);
  }

  /** The latest first. @returns each with its place */
  async list(
    caller: Caller,
    of: { assetId?: string | undefined; projectId?: string | undefined },
    { after, limit }: { after?: Position; limit: number },
  ): Promise<{ share: Share; position: Position }[]> {
    const values = { value: after?.value ?? null, id: after?.id ?? null, limit, ...accessOf(caller) };
    const { database } = this.#handle;
    const { assetId, projectId } = of;
    const { rows } =
      assetId !== undefined
        ? await database.run(statements.listOfAsset, { ...values, assetId })
        : projectId !== undefined
          ? await database.run(statements.listOfProject, { ...values, projectId })
          : await database.run(statements.listMine, values);
    return Promise.all(
      rows.map(async ({ value, ...row }) => ({
        share: await this.#withToken(row),
        position: { value, id: row.id },
      })),
    );
  }

  /**
   * @param changes only what changes
   * @param check throws when the share may not become that
   * @returns false when there is none of this id that the caller has made
   * @throws whatever `check` throws
   */
  async update(
    caller: Caller,
    id: string,
    changes: Partial<ShareTerms>,
    actor: Actor,
    check: (before: LockedTerms & { isRevoked: boolean }) => void,
    inTransaction: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(statements.lockShare, { id, ...accessOf(caller) });
      if (!rows[0]) return false;
      check(rows[0]);
      const values = {
        ...{ id, allow: changes.allow ?? null, permanent: changes.permanent ?? null },
        label: changes.label ?? null,
        labelChanges: changes.label !== undefined,
        note: changes.note ?? null,
        noteChanges: changes.note !== undefined,
        password: changes.password ?? null,
        passwordChanges: changes.password !== undefined,
        maxDownloads: changes.maxDownloads ?? null,
        maxDownloadsChanges: changes.maxDownloads !== undefined,
        expiresIn: changes.expiresIn ?? null,
        expiresInChanges: changes.expiresIn !== undefined,
        fields: JSON.stringify(Object.keys(changes)),
      };
      await transaction.run(statements.updateShare, { ...values, ...actor });
      await inTransaction(transaction);
      return true;
    });
  }

  /** @returns false when there is none of this id for the caller; one that was revoked before stays as it is */
  async revoke(
    caller: Caller,
    id: string,
    actor: Actor,
    inTransaction: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(statements.revokeShare, { id, ...accessOf(caller), ...actor });
      if (rows.length === 0) return false;
      await inTransaction(transaction);
      return true;
    });
  }

  async #withToken({ keySince, ...share }: Row): Promise<Share> {
    const key = share.isMine ? await this.#keys.since(keySince) : undefined;
    return { ...share, ...(key && { token: tokenOf(key, share.id) }) };
  }
}

/** What the token of the caller says of these projects; null where it says nothing. */
function claimsFor({ projects: claimed }: Caller, ids: readonly string[]): Record<string, number> | null {
  const said = ids.flatMap((id): [string, number][] => {
    const role = claimed?.get(id);
    return role === undefined ? [] : [[id, rankOf(role)]];
  });
  return said.length > 0 ? Object.fromEntries(said) : null;
}

function unknownAsset(index: number): Problem {
  const detail = 'is no asset of yours';
  return new Problem('not-found', {
    detail: 'There is no asset with one of these ids.',
    errors: [{ pointer: `/assetIds/${index}`, detail }],
  });
}

/** Of the statements that one run makes; the next one goes on. */
const BATCHES = 100;

/** Removes what has ended a week ago, and what leads to nothing because all of it was deleted. */
export async function removeEndedShares(database: Executor, signal: AbortSignal): Promise<void> {
  const { removeRevoked, removeExpired, removeEmpty } = statements;
  for (const statement of [removeRevoked, removeExpired, removeEmpty])
    for (let batch = 0; batch < BATCHES && !signal.aborted; batch++)
      if ((await database.run(statement, {})).rowCount === 0) break;
}
