/**
 * What the audit trail is asked: pages in keyset order, the latest row first. Each kind of question has an index of its own;
 * the rest of the filters look at the rows that it finds. Rows are in the order of their numbers, those of all in the order
 * of time, as the index by number alone would serve nothing else.
 */
import { and, desc, eq, exists, gte, lt, type Placeholder, type SQL, sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, accessOf } from '../access/conditions.ts';
import type { Database } from '../database/client.ts';
import { build, compile, type Parameter, type Statement } from '../database/statements.ts';
import { auditEvents } from '../database/tables/audit.ts';
import { projectMembers, projects } from '../database/tables/projects.ts';

/** Whose rows. */
export type AuditScope =
  /** All there are. */
  | { kind: 'all' }
  /** Of a project, since it was made: one of the same id may have been deleted before. */
  | { kind: 'project'; projectId: string }
  /** Of what the caller has uploaded, as far as he may still see it. */
  | { kind: 'own'; caller: Caller }
  /** What the caller has done, as far as he may still see it. */
  | { kind: 'acts'; caller: Caller }
  /** Of one asset. */
  | { kind: 'asset'; assetId: string }
  /** Of one asset, since it is in this project. */
  | { kind: 'shared-asset'; assetId: string; projectId: string };

export interface AuditFilters {
  assetId?: string;
  projectId?: string;
  actor?: string;
  action?: string;
  /** The first moment. */
  since?: Date;
  /** The first moment that is left out. */
  until?: Date;
}

export interface AuditQuery extends AuditFilters {
  scope: AuditScope;
  limit: number;
  /** The last row of the page before. */
  after?: AuditPosition;
}

export interface AuditPosition {
  at: Date;
  id: bigint;
}

const { id, at, action, actorId, via, ownerId, assetId, projectId, requestId, reason, detail } = auditEvents;
const columns = { id, at, action, actorId, via, ownerId, assetId, projectId, requestId, reason, detail };
export type AuditRow = Pick<typeof auditEvents.$inferSelect, keyof typeof columns>;

type FilterName = keyof AuditFilters;
type Parameters = FilterName | AccessParameter | 'scoped' | 'inProject' | 'afterAt' | 'afterId' | 'limit';

/** That the caller is something to the project of a row; what was in none is his own. */
const isStillHis = (p: Parameter<Parameters>): SQL => {
  const isMember = exists(
    build
      .select({ role: projectMembers.role })
      .from(projectMembers)
      .where(and(eq(projectMembers.projectId, projectId), eq(projectMembers.subject, p('subject')))),
  );
  return sql`case when ${projectId} is null then ${p('only')}::text[] is null
    when ${p('only')}::text[] is not null and ${projectId} <> all (${p('only')}::text[]) then false
    else coalesce(${p('claims')}::jsonb ? ${projectId}, false) or ${isMember} end`;
};

const scopes: Record<AuditScope['kind'], (p: Parameter<Parameters>) => SQL | undefined> = {
  all: () => undefined,
  project: (p) => {
    const made = build
      .select({ createdAt: projects.createdAt })
      .from(projects)
      .where(eq(projects.id, p('scoped')));
    return and(eq(projectId, p('scoped')), sql`${at} >= (${made})`);
  },
  own: (p) => and(eq(ownerId, p('subject')), isStillHis(p)),
  acts: (p) => and(eq(actorId, p('subject')), isStillHis(p)),
  asset: (p) => eq(assetId, p('scoped')),
  'shared-asset': (p) => and(eq(assetId, p('scoped')), eq(projectId, p('inProject'))),
};

const filters: Record<FilterName, (value: Placeholder) => SQL> = {
  assetId: (value) => eq(assetId, value),
  projectId: (value) => eq(projectId, value),
  actor: (value) => eq(actorId, value),
  action: (value) => eq(action, value),
  since: (value) => gte(at, value),
  until: (value) => lt(at, value),
};
const filterNames = Object.keys(filters) as FilterName[];
/** Filters for which there is an index in the order of numbers. */
const indexed: readonly FilterName[] = ['assetId', 'projectId', 'actor'];

/** There are some hundred of them: compiled when they are first asked for, and planned for their values. */
const statements = new Map<string, Statement<Parameters, AuditRow>>();

function statementOf(kind: AuditScope['kind'], given: readonly FilterName[], goesOn: boolean) {
  const name = `audit-${kind}${goesOn ? '-after' : ''}-by-${given.join('-')}`;
  const known = statements.get(name);
  if (known) return known;
  const isByTime = kind === 'all' && !given.some((filter) => indexed.includes(filter));
  const statement = compile(
    name,
    (p: Parameter<Parameters>) => {
      const position = isByTime
        ? sql`(${at}, ${id}) < (${p('afterAt')}::timestamptz, ${p('afterId')}::bigint)`
        : sql`${id} < ${p('afterId')}::bigint`;
      return build
        .select(columns)
        .from(auditEvents)
        .where(
          and(scopes[kind](p), ...given.map((filter) => filters[filter](p(filter))), goesOn ? position : undefined),
        )
        .orderBy(...(isByTime ? [desc(at)] : []), desc(id))
        .limit(p('limit'));
    },
    { named: false },
  );
  statements.set(name, statement);
  return statement;
}

const nobody = { subject: null, claims: null, only: null, ticket: null, anywhere: null };

export class AuditRepository {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** One page, the latest row first. */
  async list({ scope, limit, after, ...given }: AuditQuery): Promise<AuditRow[]> {
    const names = filterNames.filter((name) => given[name] !== undefined);
    const values = {
      ...('caller' in scope ? accessOf(scope.caller) : nobody),
      ...Object.fromEntries(filterNames.map((name) => [name, null])),
      ...given,
      scoped: 'assetId' in scope ? scope.assetId : 'projectId' in scope ? scope.projectId : null,
      inProject: scope.kind === 'shared-asset' ? scope.projectId : null,
      afterAt: after?.at ?? null,
      afterId: after?.id ?? null,
      limit,
    };
    const { rows } = await this.#database.run(statementOf(scope.kind, names, after !== undefined), values as never);
    return rows;
  }
}
