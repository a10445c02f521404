/** What happens to archives, as the audit trail names it. */
export const archiveActions = ['archive.downloaded'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    archives: (typeof archiveActions)[number];
  }
}
