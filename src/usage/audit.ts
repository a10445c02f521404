/** What happens to statistics, as the audit trail names it. */
export const usageActions = ['statistics.corrected'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    usage: (typeof usageActions)[number];
  }
}
