/** What happens to a database that was rebuilt, as the audit trail names it. */
export const backupActions = ['backup.restored', 'restore.confirmed'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    backups: (typeof backupActions)[number];
  }
}
