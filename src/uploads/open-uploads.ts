/**
 * What an owner has begun to upload and not finished, by whatever method: it takes of the quota, so he can see it and end
 * it. An upload that comes in one request, as form or raw body, has a record and no session.
 */
import { and, desc, eq, ne, sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, accessOf, isUploader } from '../access/conditions.ts';
import type { Actor } from '../database/audit.ts';
import type { Executor } from '../database/client.ts';
import { build, compile, type Parameter } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { uploadSessions } from '../database/tables/uploads.ts';
import type { UploadContext } from './context.ts';
import { endUpload } from './ending.ts';
import type { SessionKind } from './session-repository.ts';
import { uploadComplete, uploadNotFound } from './sessions.ts';

/** `single`: all of it comes in one request. */
export type UploadKind = SessionKind | 'single';

export interface OpenUpload {
  id: string;
  kind: UploadKind;
  fileName: string;
  projectId?: string;
  /** Bytes of the file, where they are known. */
  size?: number;
  /** Of a resumable upload: bytes that are safe. */
  offset?: number;
  /** Bytes of the quota that it holds. */
  reserved: number;
  createdAt: Date;
  /** When it ends by itself; of a single upload, when nothing is heard of it any more. */
  expiresAt: Date;
}

/** Where a page ends. */
export interface OpenUploadsQuery {
  /** The last upload of the page before. */
  after?: { value: string; id: string };
  limit: number;
}

const listOpen = compile('list-open-uploads', (p: Parameter<'value' | 'id' | 'limit' | AccessParameter>) =>
  build
    .select({
      id: assets.id,
      name: assets.name,
      projectId: assets.projectId,
      storedSize: assets.size,
      reservedBytes: assets.reservedBytes,
      createdAt: assets.createdAt,
      leaseExpiresAt: assets.leaseExpiresAt,
      kind: uploadSessions.kind,
      size: uploadSessions.size,
      position: uploadSessions.position,
      expiresAt: uploadSessions.expiresAt,
      value: sql<string>`${assets.createdAt}::text`.as('value'),
    })
    .from(assets)
    .leftJoin(uploadSessions, eq(uploadSessions.assetId, assets.id))
    .where(
      and(
        isUploader(p),
        inState('uploading'),
        sql`(${p('id')}::uuid is null
          or (${assets.createdAt}, ${assets.id}) < (${p('value')}::timestamptz, ${p('id')}::uuid))`,
      ),
    )
    .orderBy(desc(assets.createdAt), desc(assets.id))
    .limit(p('limit')),
);

const findOpen = compile('find-open-upload', (p: Parameter<'id' | AccessParameter>) =>
  build
    .select({ objectKey: assets.objectKey, state: assets.state, kind: uploadSessions.kind })
    .from(assets)
    .leftJoin(uploadSessions, eq(uploadSessions.assetId, assets.id))
    .where(and(eq(assets.id, p('id')), isUploader(p), ne(assets.state, 'deleting'))),
);

/** Ends a session of its kind. @throws Problem */
type Cancel = (actor: Actor, caller: Caller, id: string) => Promise<void>;

export class OpenUploads {
  readonly #context: UploadContext;
  readonly #database: Executor;
  readonly #cancel: Record<SessionKind, Cancel>;

  constructor(context: UploadContext, cancel: Record<SessionKind, Cancel>) {
    this.#context = context;
    this.#database = context.database.database;
    this.#cancel = cancel;
  }

  /** The latest first. @returns each with the value that a page after it begins with */
  async list(caller: Caller, { after, limit }: OpenUploadsQuery): Promise<{ upload: OpenUpload; value: string }[]> {
    const values = { ...accessOf(caller), value: after?.value ?? null, id: after?.id ?? null, limit };
    const { rows } = await this.#database.run(listOpen, values);
    return rows.map((row) => ({ upload: toOpenUpload(row), value: row.value }));
  }

  /** Ends an upload of any kind, and leaves nothing. @throws Problem not-found; wrong-state when it is an asset by now */
  async cancel(actor: Actor, caller: Caller, id: string): Promise<void> {
    const { rows } = await this.#database.run(findOpen, { id, ...accessOf(caller) });
    const [found] = rows;
    if (!found) throw uploadNotFound();
    if (found.kind !== null) return this.#cancel[found.kind](actor, caller, id);
    if (found.state !== 'uploading') throw uploadComplete();
    const outcome = { action: 'upload.aborted' as const, reason: 'cancelled', actor };
    if (!(await endUpload(this.#context, { id, objectKey: found.objectKey }, outcome))) throw uploadComplete();
  }
}

type OpenRow = NonNullable<ReturnType<typeof listOpen.decode>>;

function toOpenUpload(row: OpenRow): OpenUpload {
  const size = row.size ?? row.storedSize ?? undefined;
  return {
    id: row.id,
    kind: row.kind ?? 'single',
    fileName: row.name,
    ...(row.projectId !== null && { projectId: row.projectId }),
    ...(size !== undefined && { size }),
    ...(row.kind === 'resumable' && row.position !== null && { offset: row.position }),
    reserved: row.reservedBytes,
    createdAt: row.createdAt,
    expiresAt: row.expiresAt ?? row.leaseExpiresAt ?? row.createdAt,
  };
}
