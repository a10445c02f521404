/**
 * Who may do what, as one table: the least role for each action, and the scope that a token or key needs for it. What
 * decides (`may`), what statements select by (`roleIn`), and docs/access.md are all made of it.
 */

/**
 * From the least to the greatest; each may do what those before it may. `viewer`, `editor` and `manager` are roles in a
 * project. `owner` is who uploaded an asset that belongs to no project, or to one that shows each member only his own.
 * `admin` acts on any asset, for a reason that he names.
 */
export const roles = ['viewer', 'editor', 'manager', 'owner', 'admin'] as const;
export type Role = (typeof roles)[number];

/** Those that a member of a project may have. */
export const memberRoles = ['viewer', 'editor', 'manager'] as const;
export type MemberRole = (typeof memberRoles)[number];

/** What a credential may be used for. A token that names none of them has `userScopes`. */
export const scopes = [
  'assets:read',
  'assets:write',
  'assets:delete',
  'projects',
  'shares',
  'holds',
  'keys',
  'audit',
  'act-for',
  'admin',
] as const;
export type Scope = (typeof scopes)[number];

export function isScope(text: string): text is Scope {
  return scopes.some((scope) => scope === text);
}

/** What every user has: all but speaking for others and administration. */
export const userScopes: readonly Scope[] = [
  'assets:read',
  'assets:write',
  'assets:delete',
  'projects',
  'shares',
  'holds',
  'keys',
];

interface Rule {
  /** Of the asset, or of the project; `owner` where it is for everybody, of what is his own. */
  least: Role;
  /** Who may not, although his role is greater. */
  except?: readonly Role[];
  scope: Scope;
  /** For docs/access.md. */
  means: string;
}

export const rules = {
  'asset.read': { least: 'viewer', scope: 'assets:read', means: 'See it in lists, read its record and its history' },
  'asset.download': {
    least: 'viewer',
    scope: 'assets:read',
    means: 'Get its bytes, links, derivatives, variants and QR codes',
  },
  'asset.upload': { least: 'editor', scope: 'assets:write', means: 'Upload into the project, or move assets there' },
  'asset.write': {
    least: 'editor',
    scope: 'assets:write',
    means: 'Rename, describe, trash, restore; ask for transcodes',
  },
  'asset.move': {
    least: 'manager',
    scope: 'assets:write',
    means: 'Move it into another project, or out of all: it goes from the members',
  },
  'asset.publish': {
    least: 'manager',
    scope: 'assets:write',
    means: 'Make it public, or private again',
  },
  'asset.delete': { least: 'manager', scope: 'assets:delete', means: 'Delete it for good' },
  // Whoever owns it is the one that a hold is to keep from deleting it.
  'asset.hold': {
    least: 'manager',
    except: ['owner'],
    scope: 'holds',
    means: 'Hold it, or retain it, so that nobody deletes it; take holds off; move it elsewhere while it is held',
  },
  'asset.share': { least: 'editor', scope: 'shares', means: 'Share it: make an address by which strangers reach it' },
  'account.read': {
    least: 'owner',
    scope: 'assets:read',
    means: 'Read your own quota and statistics, export what is yours',
  },
  'project.create': { least: 'owner', scope: 'projects', means: 'Make a project' },
  'project.read': { least: 'viewer', scope: 'projects', means: 'Read the project, its members and its quota' },
  'project.leave': { least: 'viewer', scope: 'projects', means: 'Leave it' },
  'project.manage': { least: 'manager', scope: 'projects', means: 'Change its settings and its members, delete it' },
  'project.share': { least: 'editor', scope: 'shares', means: 'Share all that you see in it' },
  'project.audit': { least: 'manager', scope: 'projects', means: 'Read what happened in it' },
} as const satisfies Record<string, Rule>;
export type Action = keyof typeof rules;
export const actions = Object.keys(rules) as Action[];

/** Place in the order of roles, from 1: so Postgres compares them too. */
export function rankOf(role: Role): number {
  return roles.indexOf(role) + 1;
}

/** @returns undefined for no role */
export function roleAt(rank: number | null): Role | undefined {
  return rank === null ? undefined : roles[rank - 1];
}

export function allows(role: Role, action: Action): boolean {
  const { least, except }: Rule = rules[action];
  return rankOf(role) >= rankOf(least) && !except?.includes(role);
}
