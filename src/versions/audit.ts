/** What happens to the contents of assets, as the audit trail names it. */
export const versionActions = ['asset.replaced', 'asset.version-restored', 'asset.version-deleted'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    versions: (typeof versionActions)[number];
  }
}
