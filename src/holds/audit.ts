/** What happens to holds, as the audit trail names it. */
export const holdActions = ['asset.held', 'asset.hold-removed', 'asset.retained'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    holds: (typeof holdActions)[number];
  }
}
