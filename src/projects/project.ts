/** A project as it is in memory and in the API. */
import { createHash } from 'node:crypto';
import { getTableColumns } from 'drizzle-orm';
import { z } from 'zod';
import { memberRoles, type Role, roles } from '../access/rules.ts';
import { isSubject, MAX_SUBJECT } from '../access/subject.ts';
import { projectMembers, projects } from '../database/tables/projects.ts';
import { metadata, openEnum, projectId, timestamp } from '../http/schema-types.ts';

export type ProjectRow = typeof projects.$inferSelect;
export const projectColumns = getTableColumns(projects);

/** A project, and what the caller is to it. */
export interface FoundProject extends ProjectRow {
  role: Role;
  /** It shows him only what is his. */
  ownOnly: boolean;
}

export type Member = Omit<typeof projectMembers.$inferSelect, 'projectId' | 'addedBy'>;
const { subject, role, createdAt } = getTableColumns(projectMembers);
export const memberColumns = { subject, role, createdAt };

const NAME = 'must be 1 to 255 printable characters';
export const projectName = z
  .string({ error: NAME })
  .min(1, NAME)
  .max(255, NAME)
  .refine((text) => text.isWellFormed() && !/[\p{Cc}\u2028\u2029]/u.test(text) && text.trim() !== '', NAME)
  .meta({
    override: { type: 'string', minLength: 1, maxLength: 255 },
    description: 'What people call it',
    example: 'Web site',
  });

export const separate = z.boolean({ error: 'must be true or false' }).meta({
  override: { type: 'boolean' },
  description: 'Members see only what they have uploaded themselves, and no other members; managers see all',
});

export const gallery = z.boolean({ error: 'must be true or false' }).meta({
  override: { type: 'boolean' },
  description: 'Everybody may look at what is public in it, without a token, at `/g/{projectId}`',
});

export const projectDocument = z
  .object({
    id: projectId,
    name: projectName,
    metadata: z
      .record(z.string(), z.string())
      .meta({ description: 'Data that the application keeps with the project', example: { customer: '4711' } }),
    separate,
    gallery,
    role: openEnum('ProjectRole', roles, 'What you are to it, as a member or by your token.'),
    createdAt: timestamp,
    updatedAt: timestamp,
  })
  .meta({ id: 'Project' });

export const newProject = z
  .strictObject({
    id: projectId.optional().meta({ description: 'Made when absent; it is never changed', example: 'website' }),
    name: projectName,
    metadata: metadata.optional(),
    separate: separate.optional(),
  })
  .meta({ id: 'ProjectRequest' });

export const projectPatch = z
  .strictObject({
    name: projectName.optional(),
    metadata: metadata
      .nullable()
      .optional()
      .meta({ description: 'Replaces all metadata; null or an empty object removes it' }),
    separate: separate.optional(),
    gallery: gallery.optional(),
  })
  .refine((patch) => Object.keys(patch).length > 0, 'must change something')
  .meta({ id: 'ProjectPatch', override: { minProperties: 1 } });

export const memberRole = z
  .enum(memberRoles, { error: 'must be viewer, editor or manager' })
  .meta({ id: 'MemberRole', description: 'Each may do what those before it may' });

const SUBJECT = `must be 1 to ${MAX_SUBJECT} bytes of printable text`;
/** As tokens have it. */
export const memberSubject = z
  .string()
  .refine(isSubject, SUBJECT)
  .meta({
    override: { type: 'string', minLength: 1, maxLength: MAX_SUBJECT },
    description: 'Subject of a token, percent-encoded',
    example: 'user-2',
  });

export const memberDocument = z
  .object({
    subject: z.string().meta({ description: 'Subject of the tokens of the member', example: 'user-2' }),
    role: openEnum('ProjectMemberRole', memberRoles, 'What the member is.'),
    createdAt: timestamp.meta({ description: 'Since when' }),
  })
  .meta({ id: 'ProjectMember' });

export function toDocument({ id, name, role: itsRole, ...project }: FoundProject): z.input<typeof projectDocument> {
  return {
    id,
    name,
    metadata: project.metadata,
    separate: project.separate,
    gallery: project.gallery,
    role: itsRole,
    createdAt: project.createdAt.toISOString(),
    updatedAt: project.updatedAt.toISOString(),
  };
}

export function toMemberDocument(member: Member): z.input<typeof memberDocument> {
  return { ...member, createdAt: member.createdAt.toISOString() };
}

/** Entity tag of the record. It tells the caller's role, so it is another one when that is. */
export function projectTag({ id, version, role: itsRole }: FoundProject): string {
  const digest = createHash('sha256').update(`${id}.${version}.${itsRole}`).digest('base64url');
  return `"${digest.slice(0, 22)}"`;
}
