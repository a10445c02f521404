/** What happens to projects, as the audit trail names it. */
export const projectActions = [
  'project.created',
  'project.updated',
  'project.deleted',
  'project.member-set',
  'project.member-removed',
  'project.asset-left',
] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    projects: (typeof projectActions)[number];
  }
}
