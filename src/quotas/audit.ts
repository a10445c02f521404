/** What happens to quotas, as the audit trail names it. */
export const quotaActions = ['quota.changed', 'quota.corrected'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    quotas: (typeof quotaActions)[number];
  }
}
