/** What becomes of assets with time, as the audit trail names it. Deletions by a rule are `asset.expired`. */
export const retentionActions = [
  'asset.kept',
  'asset.archived',
  'asset.restore-requested',
  'asset.restored-from-archive',
  'asset.restore-failed',
] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    retention: (typeof retentionActions)[number];
  }
}
