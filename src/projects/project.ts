/** A project as it is in memory and in the API. */
import { createHash } from 'node:crypto';
import { getTableColumns } from 'drizzle-orm';
import { z } from 'zod';
import { memberRoles, type Role, roles } from '../access/rules.ts';
import { isSubject, MAX_SUBJECT } from '../access/subject.ts';
import { projectMembers, projects } from '../database/tables/projects.ts';
import { metadata, openEnum, projectId, timestamp } from '../http/schema-types.ts';
import { contradictionIn, days, daysSince } from '../validation/life-cycle.ts';

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

const lifeCycleShape = {
  archiveAfterDays: days
    .optional()
    .meta({ description: 'Days after which the bytes of assets go to the archive; absent: never', example: 30 }),
  deleteAfterDays: days
    .optional()
    .meta({ description: 'Days after which assets are deleted for good; absent: never', example: 365 }),
};
const lifeCycleText =
  'What becomes of its assets with time. Where the upload policy of an asset says something too, what comes first counts';

export const lifeCycle = z
  .strictObject({
    ...lifeCycleShape,
    since: z
      .enum(daysSince, { error: 'must be upload or last-download' })
      .meta({ id: 'LifeCycleSince' })
      .optional()
      .meta({
        description:
          'From when these days are counted: since an asset was given the bytes that it has, or since these were asked for last; absent: the first',
      }),
  })
  .superRefine((rules, context) => {
    const contradiction = contradictionIn(rules);
    if (contradiction !== undefined)
      context.addIssue({ code: 'custom', path: ['archiveAfterDays'], message: contradiction });
    if (rules.archiveAfterDays === undefined && rules.deleteAfterDays === undefined)
      context.addIssue({ code: 'custom', message: 'must have archiveAfterDays or deleteAfterDays; null for no rules' });
  })
  .meta({ id: 'LifeCycleRequest', description: lifeCycleText });
const lifeCycleDocument = z
  .object({
    ...lifeCycleShape,
    since: openEnum('ProjectDaysSince', daysSince, 'From when these days are counted.'),
  })
  .meta({ id: 'LifeCycle', description: lifeCycleText });

export const projectDocument = z
  .object({
    id: projectId,
    name: projectName,
    metadata: z
      .record(z.string(), z.string())
      .meta({ description: 'Data that the application keeps with the project', example: { customer: '4711' } }),
    separate,
    gallery,
    lifeCycle: lifeCycleDocument.optional(),
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
    lifeCycle: lifeCycle.nullable().optional(),
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
    ...(project.lifeCycle && { lifeCycle: { ...project.lifeCycle, since: project.lifeCycle.since ?? 'upload' } }),
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
