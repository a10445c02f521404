/** What happens to uploads, as the audit trail names it. */
export const uploadActions = ['upload.refused', 'upload.aborted'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    uploads: (typeof uploadActions)[number];
  }
}
