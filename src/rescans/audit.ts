/** What happens to scans of stored files, as the audit trail names it. */
export const rescanActions = ['scan.started', 'scan.ended', 'scan.cancelled'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    rescans: (typeof rescanActions)[number];
  }
}
