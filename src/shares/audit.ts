/** What happens to shares, as the audit trail names it. That one was used is counted, not written. */
export const shareActions = ['share.created', 'share.updated', 'share.revoked'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    shares: (typeof shareActions)[number];
  }
}
