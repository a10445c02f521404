/** What happens to assets, as the audit trail names it. */
export const assetActions = [
  'asset.uploaded',
  'asset.updated',
  'asset.trashed',
  'asset.restored',
  'asset.deleted',
  'asset.purged',
  'asset.expired',
  'asset.lost',
  'asset.found',
  'asset.verified',
  'asset.rejected',
  'asset.link-issued',
  'asset.link-followed',
  'asset.downloaded',
  'asset.inspected',
  'asset.published',
  'asset.unpublished',
] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    assets: (typeof assetActions)[number];
  }
}
