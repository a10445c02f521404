/** What is done with variants, as the audit trail names it. Their bytes are downloads of the asset, `asset.downloaded`. */
export const variantActions = ['asset.variant-link-issued'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    variants: (typeof variantActions)[number];
  }
}
